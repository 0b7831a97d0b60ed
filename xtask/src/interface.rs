//! The interface: its packages, its build, its checks. All of them are npm scripts of `ui/`.

use std::path::Path;

use crate::command::Program;
use crate::error::{Error, Result};
use crate::print;
use crate::stamp::{Fingerprint, Stamp};
use crate::workspace::Workspace;

/// What lies in `ui/` and is not built into the interface.
const NOT_SOURCES: [&str; 4] = ["node_modules", "dist", "screenshots", "e2e"];

/// Oldest Node.js that the build tools of the interface support.
const NODE: (u32, u32) = (20, 19);

/// Installs the packages of the interface from its lock file; no install script of any package runs.
///
/// # Errors
/// [`Error::Version`] for an old Node.js, and errors of npm.
pub(crate) fn ensure_packages(workspace: &Workspace) -> Result<()> {
    ensure_packages_of(workspace, &workspace.interface(), "interface-packages")
}

/// Installs the packages of the end-to-end test.
///
/// # Errors
/// As [`ensure_packages`].
pub(crate) fn ensure_window_test_packages(workspace: &Workspace) -> Result<()> {
    ensure_packages_of(workspace, &workspace.interface().join("e2e"), "window-test-packages")
}

/// Builds the interface into `ui/dist` if it is not built from just these sources.
///
/// # Errors
/// Errors of the build.
pub(crate) fn ensure_built(workspace: &Workspace) -> Result<()> {
    let folder = workspace.interface();
    let fingerprint = Fingerprint::new("npm run build").folder(&folder, &NOT_SOURCES)?.finish();
    let stamp = Stamp::new(workspace, "interface-build");
    if stamp.is(&fingerprint) && folder.join("dist/index.html").is_file() {
        return Ok(());
    }
    ensure_packages(workspace)?;
    print::step("Building the interface");
    stamp.clear()?;
    script(&folder, "build")?;
    stamp.set(&fingerprint)
}

/// Runs one of the npm scripts of a package folder.
///
/// # Errors
/// [`Error::Command`] if the script ends with an error.
pub(crate) fn script(folder: &Path, name: &str) -> Result<()> {
    Program::npm().arguments(["run", "--silent", name]).folder(folder).run()
}

fn ensure_packages_of(workspace: &Workspace, folder: &Path, stamp: &str) -> Result<()> {
    let manifest = folder.join("package.json");
    manifest.metadata().map_err(Error::file("find", &manifest))?;
    let node = node_version()?;
    let fingerprint = Fingerprint::new("npm ci --ignore-scripts")
        .text(&node)
        .file(&manifest)?
        .file(&folder.join("package-lock.json"))?
        .finish();
    let stamp = Stamp::new(workspace, stamp);
    if stamp.is(&fingerprint) && folder.join("node_modules/.package-lock.json").is_file() {
        return Ok(());
    }
    let name = folder.strip_prefix(workspace.root()).unwrap_or(folder).display();
    print::step(&format!("Installing the packages of {name}"));
    stamp.clear()?;
    Program::npm()
        .arguments(["ci", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund"])
        .folder(folder)
        .run()?;
    stamp.set(&fingerprint)
}

fn node_version() -> Result<String> {
    let hint = "install Node.js 20.19 or newer";
    let version = Program::new("node").hint(hint).argument("--version").output()?.trim().to_owned();
    if is_new_enough(&version) {
        return Ok(version);
    }
    Err(Error::Version { program: "Node.js", needed: "20.19", found: format!("but `node` is {version}") })
}

/// `version` as `node --version` prints it, for example `v20.20.2`.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= NODE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_of_node_are_told_from_new_ones() {
        for (version, expected) in [("v20.20.2", true), ("v20.19.0", true), ("v24.1.0", true)] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
        for version in ["v18.20.8", "v20.18.3", "v8.0.0", "", "unknown"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
