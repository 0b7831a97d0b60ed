//! Everything that crosses to the interface: wire types, error codes, events.
//!
//! Ids are strings, times RFC 3339, byte counts `f64` (exact to 2^53), token counts `u32`.

use backend::hub::HubFailure;
use backend::{Backend, FailureKind};
use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;
use tauri_specta::Event;
use uuid::Uuid;

/// What went wrong, for whoever shows it. A code exists only with the interface's line that acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ErrorCode {
    RuntimeMissing,
    ModelMissing,
    ModelBroken,
    OutOfMemory,
    PromptTooLong,
    DiskFull,
    DataFolderUnwritable,
    Busy,
    Crashed,
    /// The network is switched off.
    Offline,
    /// The hub, or what lies between, does not answer or asks for patience.
    HubUnreachable,
    /// An address or certificate that is not to be trusted.
    ConnectionUnsafe,
    /// The owner of a repository wants a login or accepted conditions.
    RepositoryGated,
    /// An access token that is none, or that the hub does not accept.
    TokenRefused,
    /// The system's keychain does not keep or give out what it should.
    KeychainUnusable,
    /// A list of models.
    ListUnusable,
    RepositoryMissing,
    /// What came is not what was asked for.
    DownloadWrong,
    ModelUnsupported,
    /// The folder of models, or a name in it.
    LibraryFolder,
    /// A setting is outside of what it may be.
    SettingRefused,
    Internal,
}

/// A failure at the border.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub(crate) struct IpcError {
    pub(crate) code: ErrorCode,
    /// The exact sentence, with paths.
    pub(crate) message: String,
}

impl From<backend::Error> for IpcError {
    fn from(error: backend::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&backend::Error> for IpcError {
    fn from(error: &backend::Error) -> Self {
        use backend::Error;
        let code = match error {
            Error::Engine(failure) => match failure.kind {
                FailureKind::Runtime => ErrorCode::RuntimeMissing,
                FailureKind::ModelMissing => ErrorCode::ModelMissing,
                FailureKind::ModelBroken => ErrorCode::ModelBroken,
                FailureKind::PromptTooLong => ErrorCode::PromptTooLong,
                FailureKind::ModelUnwritable => ErrorCode::DataFolderUnwritable,
                FailureKind::DiskFull => ErrorCode::DiskFull,
                FailureKind::OutOfMemory => ErrorCode::OutOfMemory,
                FailureKind::Crashed => ErrorCode::Crashed,
                FailureKind::Internal => ErrorCode::Internal,
            },
            Error::LibraryMissing { .. } => ErrorCode::RuntimeMissing,
            Error::ModelChanged { .. } => ErrorCode::ModelBroken,
            Error::ModelUnknown { .. } | Error::NoModel { .. } => ErrorCode::ModelMissing,
            Error::DataFolder { full: true, .. } => ErrorCode::DiskFull,
            Error::DataFolder { .. } => ErrorCode::DataFolderUnwritable,
            Error::History { full: true, .. } | Error::Export { full: true, .. } => ErrorCode::DiskFull,
            Error::PinnedTooLong { .. } => ErrorCode::PromptTooLong,
            Error::Busy => ErrorCode::Busy,
            Error::Hub { kind, .. } => match kind {
                HubFailure::Offline => ErrorCode::Offline,
                HubFailure::Unreachable | HubFailure::RateLimited { .. } | HubFailure::Server => {
                    ErrorCode::HubUnreachable
                }
                HubFailure::Insecure => ErrorCode::ConnectionUnsafe,
                HubFailure::Gated => ErrorCode::RepositoryGated,
                HubFailure::TokenRefused => ErrorCode::TokenRefused,
                HubFailure::Missing => ErrorCode::RepositoryMissing,
                HubFailure::Protocol => ErrorCode::DownloadWrong,
            },
            Error::TokenForm { .. } => ErrorCode::TokenRefused,
            Error::Keychain { .. } => ErrorCode::KeychainUnusable,
            Error::CatalogRefused { .. } | Error::CatalogUnset => ErrorCode::ListUnusable,
            Error::WrongFile { .. } => ErrorCode::DownloadWrong,
            Error::DiskFull { .. } => ErrorCode::DiskFull,
            Error::Unsupported { .. } | Error::Name { .. } => ErrorCode::ModelUnsupported,
            Error::ModelSetting { .. } => ErrorCode::SettingRefused,
            Error::Library { .. } => ErrorCode::LibraryFolder,
            _ => ErrorCode::Internal,
        };
        Self { code, message: error.to_string() }
    }
}

/// What the interface means by an id.
pub(crate) fn id(text: &str) -> Result<Uuid, IpcError> {
    text.parse().map_err(|_| IpcError {
        code: ErrorCode::Internal,
        message: "this is not the id of a conversation or of a message".into(),
    })
}

/// Everything that a window shows at first.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    models: Vec<Model>,
    selected_model: Option<String>,
    conversation: Conversation,
    /// The first page of the list.
    conversations: ConversationPage,
    notices: Vec<Notice>,
    about: About,
}

impl Snapshot {
    pub(crate) fn read(backend: &Backend) -> backend::Result<Self> {
        let ModelsChanged { models, selected_model } = ModelsChanged::of(backend);
        Ok(Self {
            models,
            selected_model,
            conversation: backend.chat().conversation(backend.chat().current(), FIRST_MESSAGES)?.into(),
            conversations: ConversationPage::read(backend, 0, FIRST_CONVERSATIONS)?,
            notices: NoticesChanged::of(backend).0,
            about: About::of(backend),
        })
    }
}

/// A model that can be chosen.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Model {
    id: String,
    name: String,
    source: ModelSource,
    folder: String,
    #[specta(type = Option<Number>)]
    parameters: Option<u64>,
    #[specta(type = Number)]
    size_bytes: u64,
    context_length: Option<u32>,
    /// No chat template came with it; a plain one is used.
    plain_template: bool,
    introduction: Option<String>,
    suggestions: Vec<String>,
    state: ModelState,
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ModelSource {
    BuiltIn,
    Installed,
}

/// How far a model is.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ModelState {
    Available,
    /// Its graph is being rewritten for this machine: `done` of `total` steps.
    Preparing {
        done: u32,
        total: u32,
    },
    Loading,
    Ready,
    Failed {
        error: IpcError,
    },
}

impl Model {
    fn new(model: backend::InstalledModel, state: ModelState, plain_template: bool) -> Self {
        Self {
            source: match model.source {
                backend::ModelSource::BuiltIn => ModelSource::BuiltIn,
                backend::ModelSource::Installed => ModelSource::Installed,
            },
            id: model.id,
            name: model.name,
            folder: model.folder.display().to_string(),
            parameters: model.parameters,
            size_bytes: model.size,
            context_length: model.context_length.map(count),
            plain_template,
            introduction: model.introduction,
            suggestions: model.suggestions,
            state,
        }
    }

    pub(crate) fn ready(ready: &backend::ReadyModel) -> Self {
        Self::new(ready.model.clone(), ModelState::Ready, ready.about.plain_template)
    }
}

impl From<backend::ModelState> for ModelState {
    fn from(state: backend::ModelState) -> Self {
        match state {
            backend::ModelState::Available => Self::Available,
            backend::ModelState::Preparing(progress) => {
                Self::Preparing { done: count(progress.done), total: count(progress.total) }
            }
            backend::ModelState::Loading => Self::Loading,
            backend::ModelState::Ready => Self::Ready,
            backend::ModelState::Failed(error) => Self::Failed { error: error.into() },
        }
    }
}

/// What is known of the program and of the runtime under it.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    version: String,
    data_folder: String,
    runtime_version: Option<String>,
    execution_provider: Option<String>,
    kv_backend: Option<String>,
    threads: Option<u32>,
}

impl About {
    fn of(backend: &Backend) -> Self {
        let loaded = backend.models().loaded();
        let spec = loaded.as_ref().map(|loaded| &loaded.spec);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_folder: backend.directories().data.display().to_string(),
            runtime_version: loaded.as_ref().and_then(|loaded| loaded.runtime_version.clone()),
            execution_provider: spec.map(|spec| spec.execution_provider.to_string()),
            kv_backend: spec.map(|spec| spec.kv_backend.to_string()),
            threads: spec.map(|spec| count(spec.threads)),
        }
    }
}

/// Something that the user should know.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
pub(crate) struct Notice {
    id: String,
    severity: Severity,
    code: String,
    message: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Severity {
    Information,
    Warning,
    Error,
}

impl From<backend::Notice> for Notice {
    fn from(notice: backend::Notice) -> Self {
        let severity = match notice.severity {
            backend::Severity::Information => Severity::Information,
            backend::Severity::Warning => Severity::Warning,
            backend::Severity::Error => Severity::Error,
        };
        Self { id: notice.id, severity, code: notice.code.to_owned(), message: notice.message }
    }
}

/// The list of models, or the state of one, is another.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelsChanged {
    models: Vec<Model>,
    selected_model: Option<String>,
}

impl ModelsChanged {
    pub(crate) fn of(backend: &Backend) -> Self {
        let plain_template = backend.models().loaded().is_some_and(|loaded| loaded.plain_template);
        let models = backend.models().all().into_iter().map(|(model, state)| {
            let plain = plain_template && matches!(state, backend::ModelState::Ready);
            Model::new(model, state.into(), plain)
        });
        Self { models: models.collect(), selected_model: backend.models().selected() }
    }
}

/// The notices are others.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
pub(crate) struct NoticesChanged(Vec<Notice>);

impl NoticesChanged {
    pub(crate) fn of(backend: &Backend) -> Self {
        Self(backend.notices().into_iter().map(Notice::from).collect())
    }
}

/// What is known of the runtime is something else.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
pub(crate) struct AboutChanged(About);

impl AboutChanged {
    pub(crate) fn of(backend: &Backend) -> Self {
        Self(About::of(backend))
    }
}

/// The list of conversations is another, or something about one of them. The list is read by its command.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
pub(crate) struct ConversationsChanged;

mod conversation;
mod conversations;
mod library;
mod library_move;
mod model_settings;
mod network;
mod settings;
pub(crate) use conversation::{ChatEvent, Conversation, Deletion, Draft, Reply, Reset};
pub(crate) use conversations::{
    ConversationPage, ExportFormat, FIRST_CONVERSATIONS, FIRST_MESSAGES, ImportReport, SearchHit,
};
pub(crate) use library::{
    DownloadsChanged, LibraryContents, ModelDropped, RefreshedList, RepositoryHit, RepositoryOffer,
};
pub(crate) use library_move::MoveProgress;
pub(crate) use model_settings::{ModelChoice, ModelSettings};
pub(crate) use network::{AccessToken, NetworkChoice, NetworkState, TokenPlace};
pub(crate) use settings::{FreedMemory, KeptMemory};

/// A count as the interface reads it.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
