//! `bench history`: how quick starting, searching and opening are with a long history.

use crate::command::Program;
use crate::error::Result;
use crate::workspace::Workspace;

/// Builds the test that makes the history, and lets it measure and print at full size.
///
/// # Errors
/// Where it does not build, or something takes longer than it may.
pub(crate) fn bench(workspace: &Workspace) -> Result<()> {
    Program::cargo()
        .arguments(["test", "--release", "--locked", "--package", "backend", "--test", "history_size"])
        .arguments(["--", "--nocapture"])
        .folder(workspace.root())
        .variable("HEARTH_CONVERSATIONS", "10000")
        .run()
}
