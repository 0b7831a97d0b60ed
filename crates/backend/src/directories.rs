//! The places that Hearth reads and writes. Paths come from here; nothing below asks the system.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::settings::check_data_folder;

/// Names the user data folder instead of the system's own place for it.
pub const DATA_VARIABLE: &str = "HEARTH_DATA_DIR";
/// Names the ONNX Runtime library.
pub const LIBRARY_VARIABLE: &str = "HEARTH_ONNXRUNTIME";

/// The folders of this user and this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDirs {
    /// The user data folder: models, settings, logs.
    pub data: PathBuf,
    /// Folders that hold models which the application brings.
    pub resources: Vec<PathBuf>,
    /// Where the ONNX Runtime library may be, the likeliest first. Absolute paths.
    pub libraries: Vec<PathBuf>,
}

impl AppDirs {
    /// The folders of the running program. `bundle` is where its package keeps resources, if it has one.
    ///
    /// # Errors
    /// [`Error::DataFolder`] where the system knows no home for this user.
    pub fn of_this_program(bundle: Option<&Path>) -> Result<Self> {
        let data = match env::var_os(DATA_VARIABLE).filter(|folder| !folder.is_empty()) {
            Some(folder) => absolute(PathBuf::from(folder)),
            None => directories::ProjectDirs::from("", "", "Hearth")
                .map(|directories| directories.data_local_dir().to_path_buf())
                .ok_or_else(|| Error::DataFolder {
                    path: PathBuf::new(),
                    reason: format!("this user has no home folder; name one by {DATA_VARIABLE}"),
                    full: false,
                })?,
        };
        let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_path_buf()));
        let installed: Vec<PathBuf> = bundle.map(Path::to_path_buf).into_iter().chain(beside).collect();
        let mut resources: Vec<PathBuf> = installed.iter().map(|folder| folder.join("models")).collect();
        let mut libraries = Vec::new();
        if let Some(library) = env::var_os(LIBRARY_VARIABLE).filter(|library| !library.is_empty()) {
            // The user's word is final: falling back to another library would hide that this one failed.
            libraries.push(PathBuf::from(library));
        } else {
            libraries.extend(installed.iter().map(|folder| folder.join("onnxruntime").join(library_name())));
        }
        if let Some(workspace) = workspace() {
            resources.push(workspace.join("models"));
            if env::var_os(LIBRARY_VARIABLE).is_none() {
                libraries.push(development_library(&workspace));
            }
        }
        Ok(Self { data, resources, libraries })
    }

    /// Where models lie that the user installed, unless the settings name another folder.
    pub fn models(&self) -> PathBuf {
        self.data.join("models")
    }

    /// Makes the data folder and finds out whether it can be written.
    ///
    /// # Errors
    /// [`Error::DataFolder`] says why not.
    pub fn check_data(&self) -> Result<()> {
        check_data_folder(&self.data)
    }

    /// Where settings are kept.
    pub fn settings(&self) -> PathBuf {
        self.data.join("settings.json")
    }

    /// Where a list of models is kept that the user had refreshed.
    pub fn refreshed_catalog(&self) -> PathBuf {
        self.data.join("catalog.json")
    }

    /// Where measurements of this machine are kept.
    pub fn machine(&self) -> PathBuf {
        self.data.join("machine.json")
    }

    /// Where KV snapshots are kept.
    pub fn snapshots(&self) -> PathBuf {
        self.data.join("kv")
    }

    /// Where conversations are kept.
    pub fn conversations(&self) -> PathBuf {
        self.data.join("conversations")
    }

    /// Where logs are written.
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// The ONNX Runtime library.
    ///
    /// # Errors
    /// [`Error::LibraryMissing`] names every place that was looked at.
    pub fn library(&self) -> Result<PathBuf> {
        if let [only] = self.libraries.as_slice() {
            // The engine says better what is wrong with it.
            return Ok(absolute(only.clone()));
        }
        self.libraries
            .iter()
            .find(|library| library.is_file())
            .map(|library| absolute(library.clone()))
            .ok_or_else(|| Error::LibraryMissing {
                looked: self
                    .libraries
                    .iter()
                    .map(|library| format!("`{}`", library.display()))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

/// The checkout that this program was built in, while it still is there: a started build then finds the
/// built-in model and the library without being told.
fn workspace() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?.to_path_buf();
    root.join("models").is_dir().then_some(root)
}

/// Where `cargo xtask setup` puts the library.
fn development_library(workspace: &Path) -> PathBuf {
    let platform = format!("{}-{}", env::consts::OS, env::consts::ARCH);
    workspace.join(".hearth/onnxruntime").join(ONNXRUNTIME_VERSION).join(platform).join(library_name())
}

const ONNXRUNTIME_VERSION: &str = "1.31.1";

fn library_name() -> String {
    match env::consts::OS {
        "windows" => "onnxruntime.dll".to_owned(),
        "macos" => format!("libonnxruntime.{ONNXRUNTIME_VERSION}.dylib"),
        _ => format!("libonnxruntime.so.{ONNXRUNTIME_VERSION}"),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
