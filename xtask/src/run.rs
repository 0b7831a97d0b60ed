//! `run`: build for release and start.

use std::ffi::OsString;

use crate::command::Program;
use crate::error::Result;
use crate::workspace::Workspace;
use crate::{interface, print, runtime, setup, system};

/// Starts the window, or the terminal chat where no window can be shown.
///
/// # Errors
/// The first thing that could not be made ready, built or started.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    if system::has_display() { run_window(workspace, arguments) } else { run_chat(workspace, arguments) }
}

fn run_window(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let library = setup::for_window(workspace)?;
    interface::ensure_built(workspace)?;
    build(workspace, &["hearth-window", "cli"])?;
    Program::new(workspace.program("release", "hearth-window"))
        .arguments(arguments)
        .variable(runtime::VARIABLE, library)
        .take_over()
}

/// The terminal needs neither the web view's libraries nor the interface, so nothing of them is asked for.
fn run_chat(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    print::text("No display here (neither DISPLAY nor WAYLAND_DISPLAY is set): starting the terminal chat.");
    let library = runtime::ensure(workspace)?;
    build(workspace, &["cli"])?;
    Program::new(workspace.program("release", "hearth"))
        .argument("chat")
        .arguments(arguments)
        .variable(runtime::VARIABLE, library)
        .take_over()
}

/// Builds packages of the workspace for release.
///
/// # Errors
/// [`crate::error::Error::Command`] if they do not compile.
pub(crate) fn build(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    // Quiet only until something has to be compiled would be ideal; cargo's last line alone does no harm.
    Program::cargo()
        .arguments(["build", "--release", "--locked"])
        .arguments(packages)
        .folder(workspace.root())
        .run()
}
