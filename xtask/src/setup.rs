//! `setup`: everything that building and running need.

use std::path::PathBuf;

use crate::error::Result;
use crate::workspace::Workspace;
use crate::{interface, print, runtime, system};

/// Installs and fetches what is missing, and says what there is.
///
/// # Errors
/// The first part that could not be made ready.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    let library = for_window(workspace)?;
    print::text(&format!("Ready. ONNX Runtime: {}", library.display()));
    Ok(())
}

/// What the window needs; returns the path of the ONNX Runtime library.
///
/// # Errors
/// As [`everything`].
pub(crate) fn for_window(workspace: &Workspace) -> Result<PathBuf> {
    system::ensure(&[system::WINDOW])?;
    interface::ensure_packages(workspace)?;
    runtime::ensure(workspace)
}
