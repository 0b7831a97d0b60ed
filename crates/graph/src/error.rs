//! What can go wrong between a file and a graph, each with the file, the place and the limit.

use std::path::PathBuf;

use crate::preflight::Finding;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of reading, checking and writing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened, read or written.
    #[error("cannot {doing} `{path}`")]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The path leads to a link, a folder or a device, or to a file that has a second name.
    #[error("`{path}` is {what}, not a file of its own; import the model as a copy")]
    NotARealFile { path: PathBuf, what: &'static str },
    /// The bytes are no ONNX model.
    #[error("`{path}` is no ONNX model or is damaged: at byte {offset}, in {within}, {reason}")]
    Malformed { path: PathBuf, offset: u64, within: &'static str, reason: String },
    /// The file is larger or deeper than a model may be.
    #[error("`{path}` has more than {limit} {what}: at byte {offset}, in {within}")]
    TooLarge { path: PathBuf, offset: u64, within: &'static str, what: &'static str, limit: u64 },
    /// The model was read and must not reach a runtime.
    #[error("`{path}` is refused before it is run: {}", listed(.findings))]
    Refused { path: PathBuf, findings: Vec<Finding> },
    /// A graph that refers to the weights of its original must lie beside it.
    #[error("`{path}` would refer to the weights in `{original}` and does not lie beside it")]
    NotBeside { path: PathBuf, original: PathBuf },
    /// The graph that is to be written would be larger than protobuf allows.
    #[error("`{path}` would have {bytes} bytes, and no ONNX file has more than {limit}")]
    Unwritable { path: PathBuf, bytes: u64, limit: u64 },
}

/// The first findings in one sentence.
fn listed(findings: &[Finding]) -> String {
    const SHOWN: usize = 3;
    let mut text = findings.iter().take(SHOWN).map(Finding::to_string).collect::<Vec<_>>().join("; ");
    if findings.len() > SHOWN {
        text.push_str(&format!("; and {} more", findings.len() - SHOWN));
    }
    text
}
