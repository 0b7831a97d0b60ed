//! What can go wrong in the terminal, with its code, what to do about it, and the exit code.

use backend::FailureKind;
use backend::hub::HubFailure;

/// The result of every fallible call of this program.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The application failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The model cannot do what the command line asks for.
    #[error("{reason}")]
    Usage { reason: String },
    /// A model was checked and is not what it was.
    #[error("{wrong} files of `{model}` are not what its manifest says")]
    Damaged { model: String, wrong: usize },
    /// Nothing in a file of conversations makes sense.
    #[error("none of the {refused} conversations in `{}` could be read", .path.display())]
    NothingImported { path: std::path::PathBuf, refused: usize },
    /// A measurement did not go as it must.
    #[error("the measurement is void: {reason}")]
    Measurement { reason: String },
    /// Nothing can be read from stdin.
    #[error("cannot read a message from the standard input: {reason}")]
    Input { reason: String },
    /// No token can be read from stdin or the terminal.
    #[error("cannot read an access token: {reason}")]
    Token { reason: String },
    /// Nothing can be written to stdout.
    #[error("cannot write to the standard output")]
    Output(#[source] std::io::Error),
    /// The program could not be set up.
    #[error("cannot {doing}")]
    Setup { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Error {
    /// Whether whoever read the output has gone, which is no failure.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit code: 1 failed, 2 wrong usage.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. }
            | Self::Backend(backend::Error::ModelBuiltIn { .. } | backend::Error::ModelSetting { .. }) => 2,
            _ => 1,
        }
    }

    /// The code of the kind of failure, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Backend(error) => code_of(error),
            Self::Usage { .. } => "wrong_usage",
            Self::Damaged { .. } => "model_damaged",
            Self::NothingImported { .. } => "import_refused",
            Self::Measurement { .. }
            | Self::Input { .. }
            | Self::Token { .. }
            | Self::Output(_)
            | Self::Setup { .. } => "internal",
        }
    }

    /// The whole sentence: what was tried on what, and every cause.
    pub(crate) fn message(&self) -> String {
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        message
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        hint_for(self.code())
    }
}

/// The code of a failure of the application.
fn code_of(error: &backend::Error) -> &'static str {
    match error {
        backend::Error::Engine(failure) => match failure.kind {
            FailureKind::Runtime => "runtime_missing",
            FailureKind::ModelMissing => "model_missing",
            FailureKind::ModelBroken => "model_broken",
            FailureKind::PromptTooLong => "prompt_too_long",
            FailureKind::ModelUnwritable => "model_unwritable",
            FailureKind::DiskFull => "disk_full",
            FailureKind::OutOfMemory => "out_of_memory",
            FailureKind::Crashed => "crashed",
            FailureKind::Internal => "internal",
        },
        backend::Error::LibraryMissing { .. } => "runtime_missing",
        backend::Error::ModelBuiltIn { .. } | backend::Error::ModelSetting { .. } => "wrong_usage",
        backend::Error::ModelChanged { .. } => "model_damaged",
        backend::Error::ModelUnknown { .. } | backend::Error::NoModel { .. } => "model_missing",
        backend::Error::DataFolder { full: true, .. } => "disk_full",
        backend::Error::DataFolder { .. } => "data_folder_unwritable",
        backend::Error::History { full: true, .. } | backend::Error::Export { full: true, .. } => "disk_full",
        backend::Error::PinnedTooLong { .. } => "prompt_too_long",
        backend::Error::ConversationUnknown { .. } => "conversation_missing",
        backend::Error::MessageUnknown { .. } | backend::Error::NoReply { .. } => "message_missing",
        backend::Error::Import { .. } => "import_refused",
        backend::Error::Export { .. } => "export_failed",
        backend::Error::History { .. } => "conversations_unavailable",
        backend::Error::Busy => "busy",
        backend::Error::Hub { kind, .. } => match kind {
            HubFailure::Offline => "offline",
            HubFailure::Unreachable => "unreachable",
            HubFailure::Insecure => "insecure",
            HubFailure::Gated => "gated",
            HubFailure::TokenRefused => "token_refused",
            HubFailure::Missing => "not_found",
            HubFailure::RateLimited { .. } => "rate_limited",
            HubFailure::Server => "server_failed",
            HubFailure::Protocol => "unexpected_answer",
        },
        backend::Error::Keychain { .. } => "keychain",
        backend::Error::TokenForm { .. } => "token_form",
        backend::Error::CatalogRefused { .. } => "list_refused",
        backend::Error::CatalogUnset => "no_list",
        backend::Error::DiskFull { .. } => "disk_full",
        backend::Error::WrongFile { .. } => "wrong_file",
        backend::Error::Name { .. } => "refused_name",
        backend::Error::Unsupported { .. } => "unsupported",
        backend::Error::Library { .. } => "library",
        _ => "internal",
    }
}

/// What to do about failures of this code.
fn hint_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "runtime_missing" => {
            "put the ONNX Runtime library in place, or name another one by HEARTH_ONNXRUNTIME; \
             `hearth doctor` shows what is used"
        }
        "model_missing" => {
            "`hearth models list` shows the models; --model takes an id or the path of a model folder"
        }
        "model_damaged" => "`hearth models repair` fetches those files again and no others",
        "offline" => "switch it on: unset HF_HUB_OFFLINE, or set network.offline to false in the settings",
        "unreachable" | "server_failed" => {
            "what came is kept: the same command goes on from there; a mirror is named by HF_ENDPOINT, a proxy \
             by network.proxy in the settings"
        }
        "gated" => {
            "accept the conditions on the repository's page; then give Hearth an access token of yours by \
             `hearth models token set`"
        }
        "token_refused" => {
            "make a new token in your settings at the hub, and give it to Hearth by `hearth models token set`"
        }
        "keychain" => {
            "start or unlock the system's keychain, such as GNOME Keyring or KWallet; for one run a token can be \
             named by HF_TOKEN, with network.environmentToken set to true in the settings"
        }
        "token_form" => "copy the whole token from your settings at the hub; nothing was saved",
        "list_refused" => "the list of before is used; whoever keeps that address can correct it",
        "no_list" => {
            "name one: `hearth models refresh URL`, or once for all by network.catalog in the settings"
        }
        "not_found" => "`hearth models search` finds repositories by name",
        "rate_limited" => "wait a little; what came is kept, and the same command goes on from there",
        "wrong_file" => "the server's file is another one; try again later, or another mirror by HF_ENDPOINT",
        "unsupported" => "`hearth models show` says of each graph of a repository whether it can run here",
        "conversation_missing" => "`hearth conversations list` shows the conversations with their ids",
        "model_broken" => "fetch the model's files again, or choose another model by --model",
        "model_unwritable" => {
            "allow writing to the model's folder, or copy the model to a folder of your own"
        }
        "out_of_memory" => "choose a smaller model, or a smaller --cache-window",
        "prompt_too_long" => "say less, clear the model's memory, or choose a model with a longer context",
        "disk_full" => "free some space; another data folder is named by HEARTH_DATA_DIR",
        "data_folder_unwritable" => {
            "make it a folder that you can write to, or name another one by HEARTH_DATA_DIR"
        }
        _ => return None,
    })
}
