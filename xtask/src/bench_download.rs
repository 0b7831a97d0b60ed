//! `bench download`: how quick a download is beside a plain copy of the same bytes.

use crate::command::Program;
use crate::error::Result;
use crate::workspace::Workspace;

/// Enough that neither the beginning nor the end of a connection counts.
const BYTES: &str = "1000000000";

/// Builds the test that downloads from this machine, and lets it measure and print with 1 GB.
///
/// # Errors
/// Where it does not build, or a download has less than 80 % of a copy's speed.
pub(crate) fn bench(workspace: &Workspace) -> Result<()> {
    Program::cargo()
        .arguments(["test", "--release", "--locked", "--package", "backend", "--test", "download_speed"])
        .arguments(["--", "--nocapture"])
        .folder(workspace.root())
        .variable("HEARTH_DOWNLOAD_BYTES", BYTES)
        .run()
}
