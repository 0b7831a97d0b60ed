//! What can go wrong: what was tried, on what, and the cause as source.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("cannot {attempt} `{}`", path.display())]
    File { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start `{program}`{hint}")]
    Start { program: String, hint: String, source: io::Error },
    #[error("`{command}` failed: {status}")]
    Command { command: String, status: ExitStatus },
    #[error("{program} {needed} or newer is needed, {found}")]
    Version { program: &'static str, needed: &'static str, found: String },
    #[error("system packages are missing: {packages}\n{remedy}")]
    SystemPackages { packages: String, remedy: String },
    #[error("no ONNX Runtime library is published for {0}; set HEARTH_ONNXRUNTIME to the path of one")]
    Platform(String),
    #[error("`{}` is not the file that was expected: its SHA-256 is {found} instead of {expected}", path.display())]
    Digest { path: PathBuf, expected: String, found: String },
    #[error("HEARTH_ONNXRUNTIME names `{}`, which is not {expected}", path.display())]
    RuntimeOverride { path: PathBuf, expected: &'static str },
    #[error("the check `{0}` failed")]
    Check(&'static str),
    #[error("`{program}` printed no measurement that can be read: {found}")]
    Measurement { program: String, found: String },
    #[error("no display for the window's test: {0}")]
    Display(String),
}

impl Error {
    /// Makes the `map_err` closure for an operation on a file or folder; `attempt` is a verb, as in "read".
    pub(crate) fn file(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { attempt, path, source }
    }
}
