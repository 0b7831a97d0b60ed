//! What can go wrong in the application, each with what was tried on what.

use std::path::{Path, PathBuf};

use engine::{Failure, FailureKind};

use crate::hub::HubFailure;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the backend. Cancellation is an outcome and none of them. Failures are part of replies, so
/// the larger ones keep their texts without room to grow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine failed; its own words carry the whole chain of causes.
    #[error("{}", .0.message)]
    Engine(Failure),
    /// No model has this id, and it is no folder either.
    #[error("there is no model `{id}`; {known}")]
    ModelUnknown { id: String, known: String },
    /// The built-in model runs as it comes.
    #[error("`{id}` is built in: its graph is right for every machine, and it is not prepared")]
    ModelBuiltIn { id: String },
    /// No model is chosen or installed.
    #[error("no model is installed: `{folder}` holds none and the application brings none")]
    NoModel { folder: PathBuf },
    /// A file of an installed model is no longer what was installed.
    #[error("`{file}` of the model `{id}` is not what was installed: {found}; repair the model")]
    ModelChanged { id: Box<str>, file: Box<str>, found: Box<str> },
    /// The model that is to answer is not loaded, and this is not worth loading it.
    #[error("the model is not loaded")]
    ModelNotLoaded,
    /// No ONNX Runtime library was found anywhere.
    #[error("the ONNX Runtime library is missing; looked for {looked}")]
    LibraryMissing { looked: String },
    /// The data folder cannot be found, made or written.
    #[error("cannot write to the data folder `{path}`: {reason}")]
    DataFolder { path: PathBuf, reason: String, full: bool },
    /// There is nothing to send.
    #[error("the message is empty")]
    EmptyMessage,
    /// A reply is being made already.
    #[error("a reply is being made; stop it or wait for it")]
    Busy,
    /// The conversation is not there.
    #[error("there is no conversation `{id}`")]
    ConversationUnknown { id: String },
    /// The conversation has no reply that could be made again or go on.
    #[error("there is no reply that could {what}")]
    NoReply { what: &'static str },
    /// Nothing came from a hub.
    #[error("cannot {doing}: {reason}")]
    Hub { doing: Box<str>, kind: HubFailure, reason: Box<str> },
    /// The keychain of the system does not do what is asked of it.
    #[error("cannot {doing} the access token in this system's keychain: {reason}")]
    Keychain { doing: &'static str, reason: Box<str> },
    /// What was entered is no access token. Its text is in no message.
    #[error("what was entered is no access token: {reason}")]
    TokenForm { reason: &'static str },
    /// A list of models cannot be used. The one before stays.
    #[error("the list of models at `{address}` cannot be used: {reason}")]
    CatalogRefused { address: Box<str>, reason: Box<str> },
    /// Nobody said which list of models to fetch.
    #[error("no address of a list of models is set")]
    CatalogUnset,
    /// A name that came from outside is none that may be used.
    #[error("the name `{name}` is refused: {reason}")]
    Name { name: String, reason: String },
    /// A file came, twice, and is not the one that was asked for.
    #[error("`{file}` is not the file that was asked for: expected {expected}, found {found}")]
    WrongFile { file: Box<str>, expected: Box<str>, found: Box<str> },
    /// There is too little room for what is to come.
    #[error("`{}` has too little room: {}", .path.display(), room_needed(*.missing))]
    DiskFull {
        path: PathBuf,
        /// Bytes; 0 where it is not known.
        missing: u64,
    },
    /// A repository or folder holds no model that can run here.
    #[error("{what} cannot be used: {reason}")]
    Unsupported { what: String, reason: String },
    /// A folder of the model library could not be read or changed.
    #[error("cannot {doing} `{}`: {reason}", .path.display())]
    Library { doing: &'static str, path: Box<Path>, reason: Box<str> },
    /// What is pinned leaves no room for what is asked.
    #[error(
        "the pinned messages take {pinned} tokens: with them, the system prompt and the question the prompt has \
         {prompt}, and the model reads {window} at most; unpin messages or shorten the system prompt"
    )]
    PinnedTooLong { pinned: usize, prompt: usize, window: usize },
    /// The conversation has no such message.
    #[error("there is no message `{id}` that could {what}")]
    MessageUnknown { id: String, what: &'static str },
    /// The conversations on the disk cannot be read or written.
    #[error("cannot {doing} in the file of conversations: {reason}")]
    History { doing: &'static str, reason: String, full: bool },
    /// A file of conversations cannot be taken over. Nothing of it was.
    #[error("cannot import `{path}`: {reason}")]
    Import { path: PathBuf, reason: String },
    /// A file of conversations cannot be written.
    #[error("cannot export to `{path}`: {reason}")]
    Export { path: PathBuf, reason: String, full: bool },
    /// A setting of a model is outside of what it may be.
    #[error("`{name}` is refused: {reason}")]
    ModelSetting { name: &'static str, reason: String },
    /// The inference thread ended.
    #[error("the inference thread has ended; restart the application")]
    InferenceEnded,
}

impl Error {
    /// This failure as it is kept beside a reply.
    pub(crate) fn to_failure(&self) -> Failure {
        let kind = match self {
            Self::Engine(failure) => return failure.clone(),
            Self::LibraryMissing { .. } => FailureKind::Runtime,
            Self::ModelUnknown { .. } | Self::NoModel { .. } => FailureKind::ModelMissing,
            Self::PinnedTooLong { .. } => FailureKind::PromptTooLong,
            Self::ModelChanged { .. } => FailureKind::ModelBroken,
            _ => FailureKind::Internal,
        };
        Failure { kind, message: self.to_string() }
    }

    /// What kind of failure of the engine this is, if it is one.
    pub fn engine_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Engine(failure) => Some(failure.kind),
            _ => None,
        }
    }
}

fn room_needed(missing: u64) -> String {
    match missing {
        0 => "its disk is full".into(),
        bytes => format!("{bytes} bytes more are needed"),
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Engine(failure)
    }
}
