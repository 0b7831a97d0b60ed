//! Where things lie.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The root of the checkout that this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The root is known from the build, so the commands work from every folder.
    ///
    /// # Errors
    /// [`Error::File`] if the checkout was moved away since.
    pub(crate) fn of_this_build() -> Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().unwrap_or(package);
        let manifest = root.join("Cargo.toml");
        manifest.metadata().map_err(Error::file("find", &manifest))?;
        Ok(Self { root: root.to_path_buf() })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The interface: sources, packages, built files.
    pub(crate) fn interface(&self) -> PathBuf {
        self.root.join("ui")
    }

    /// What these commands fetch and remember; deleted, it is made again.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join(".hearth")
    }

    /// A program that cargo built in this profile, `debug` or `release`.
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        self.root.join(target).join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }
}
