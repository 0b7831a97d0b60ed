//! `pin-catalog`: whether the hub still has what `models/catalog.json` pins.

use crate::command::Program;
use crate::error::Result;
use crate::workspace::Workspace;

/// Has the application's own client list and compare, so that there is one reading of the hub's protocol.
///
/// # Errors
/// [`crate::error::Error::Command`] where something differs or the hub does not answer.
pub(crate) fn pin_catalog(workspace: &Workspace, write: bool) -> Result<()> {
    Program::cargo()
        .arguments(["run", "--quiet", "--locked", "--package", "backend", "--example", "pin_catalog", "--"])
        .argument(workspace.root().join("models/catalog.json"))
        .arguments(write.then_some("--write"))
        .folder(workspace.root())
        .run()
}
