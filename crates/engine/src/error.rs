//! What can go wrong in the engine, each with what was tried on what and the cause as its source.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Every failure of the engine. Cancellation is no failure: it is [`crate::FinishReason::Cancelled`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ONNX Runtime library is missing, damaged, foreign or too old.
    #[error("cannot use the ONNX Runtime library `{path}`: {reason}")]
    Library { path: PathBuf, reason: String, source: Option<Cause> },
    /// A file that the model folder must hold is not there. `needed` says what for.
    #[error("`{path}` is missing: {needed}")]
    FileMissing { path: PathBuf, needed: String },
    /// A file is there and cannot be read.
    #[error("cannot read `{path}`")]
    FileUnreadable { path: PathBuf, source: std::io::Error },
    /// A file cannot be written or put in its place.
    #[error("cannot write `{path}`")]
    FileUnwritable { path: PathBuf, source: std::io::Error },
    /// A model folder that is to be written cannot be.
    #[error("cannot write to the model folder `{path}`")]
    FolderUnwritable { path: PathBuf, source: std::io::Error },
    /// A file was read and what it holds is not what its kind demands.
    #[error("`{path}` is damaged or not what its name says: {reason}")]
    FileDamaged { path: PathBuf, reason: String, source: Option<Cause> },
    /// The graph is damaged, contradicts itself or asks for what no model may: ONNX Runtime never saw it.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The graph is sound and asks for something that this engine does not do.
    #[error("the graph `{path}` is not supported: {reason}")]
    Unsupported { path: PathBuf, reason: String },
    /// Tokenizer and graph do not belong together.
    #[error(
        "the tokenizer in `{folder}` knows {tokenizer} tokens and the graph gives logits for {logits}: the files of this model folder do not belong together"
    )]
    VocabularyMismatch { folder: PathBuf, tokenizer: usize, logits: usize },
    /// The chat template could not be compiled or rendered.
    #[error("the chat template cannot render this conversation: {reason}")]
    Template { reason: String, source: Option<Cause> },
    /// Text could not be turned into token ids, or ids into text.
    #[error("the tokenizer cannot {doing}")]
    Tokenizer { doing: &'static str, source: Option<Cause> },
    /// ONNX Runtime refused or failed while `doing` something.
    #[error("ONNX Runtime failed while {doing}")]
    Run { doing: String, source: Option<Cause> },
    /// The graph computed logits that are not numbers; nothing can be sampled from them.
    #[error(
        "the model computed no usable logits at position {position} (not a number): its file may be damaged, or its number format too narrow for this text"
    )]
    LogitsNotFinite { position: usize },
    /// The prompt alone is longer than the window of KV rows.
    #[error("the conversation has {tokens} tokens and this model reads at most {window}")]
    PromptTooLong { tokens: usize, window: usize },
    /// A request or an imported KV block contradicts itself or the model.
    #[error("{reason}")]
    Invalid { reason: String },
}

/// What kind of failure it was, for callers that act on it: the part that crosses the inference boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// The ONNX Runtime library.
    Runtime,
    /// A file of the model folder is not there.
    ModelMissing,
    /// The model folder is damaged, contradictory or unsupported.
    ModelBroken,
    /// The conversation does not fit into the context.
    PromptTooLong,
    /// A model folder cannot be written.
    ModelUnwritable,
    /// The disk of a model folder is full.
    DiskFull,
    /// Memory ran out.
    OutOfMemory,
    /// The inference thread panicked; the model was unloaded.
    Crashed,
    /// Everything else.
    Internal,
}

/// An [`Error`] as plain data: its kind and the whole chain of causes in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let message = chain(error);
        Self { kind: kind(error, &message), message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// The error and its causes, joined by colons.
fn chain(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

fn kind(error: &Error, message: &str) -> FailureKind {
    match error {
        Error::Library { .. } => FailureKind::Runtime,
        Error::FileMissing { .. } => FailureKind::ModelMissing,
        Error::FileUnreadable { .. }
        | Error::FileDamaged { .. }
        | Error::Graph(_)
        | Error::Unsupported { .. }
        | Error::VocabularyMismatch { .. }
        | Error::Template { .. }
        | Error::LogitsNotFinite { .. } => FailureKind::ModelBroken,
        Error::FileUnwritable { source, .. } | Error::FolderUnwritable { source, .. } => {
            match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    FailureKind::DiskFull
                }
                _ => FailureKind::ModelUnwritable,
            }
        }
        Error::PromptTooLong { .. } => FailureKind::PromptTooLong,
        // ONNX Runtime has no code for memory: its arena throws std::bad_alloc or says what it asked for.
        Error::Run { .. }
            if message.contains("bad_alloc") || message.contains("Failed to allocate memory") =>
        {
            FailureKind::OutOfMemory
        }
        Error::Tokenizer { .. } | Error::Run { .. } | Error::Invalid { .. } => FailureKind::Internal,
    }
}
