//! The network as it crosses to the interface: how requests leave, with which token, and which did.

use backend::hub::Purpose;
use backend::{AccessTokenState, Backend, TokenKeeping};
use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;

use super::IpcError;

/// The requests of the network ledger that a window reads.
const LEDGER_ENTRIES: usize = 500;

/// How requests leave, as the user wants it.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkChoice {
    pub(crate) is_offline: bool,
    /// The address of a mirror that is asked in the place of the hub.
    pub(crate) mirror: Option<String>,
    /// Null takes the system's.
    pub(crate) proxy: Option<String>,
    /// The address of a list of models that is fetched when the user asks for it.
    pub(crate) catalog: Option<String>,
}

/// How requests leave, and the last ones that did.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkState {
    choice: NetworkChoice,
    /// The address that is asked; null where the one that is wanted may not be.
    endpoint: Option<String>,
    /// Whether the environment names the address, before the settings do.
    is_endpoint_fixed: bool,
    /// Whether the environment switches the network off.
    is_offline_fixed: bool,
    /// Whether the address that is asked gets an access token: the hub does, its mirrors do not.
    takes_token: bool,
    /// Whether the environment brings a token, which goes before the one that was entered.
    has_environment_token: bool,
    /// The newest requests first.
    requests: Vec<NetworkRequest>,
    /// Requests that are remembered and not among them.
    older_requests: u32,
}

impl NetworkState {
    pub(crate) fn read(backend: &Backend) -> Self {
        use backend::hub::{NetworkLedger, NetworkOptions};
        let settings = backend.models().network();
        let options = NetworkOptions::of_this_process(&settings).ok();
        let without_environment = NetworkOptions::new(&settings, |_| None).ok();
        let address =
            |options: &Option<NetworkOptions>| options.as_ref().map(|options| options.endpoint().to_owned());
        let entries = NetworkLedger::new(&backend.directories().data).entries();
        let older = entries.len().saturating_sub(LEDGER_ENTRIES);
        Self {
            is_endpoint_fixed: address(&options) != address(&without_environment),
            is_offline_fixed: options.as_ref().is_some_and(NetworkOptions::is_offline) && !settings.offline,
            takes_token: options.as_ref().is_some_and(NetworkOptions::takes_token),
            has_environment_token: options.as_ref().is_some_and(NetworkOptions::has_environment_token),
            endpoint: address(&options),
            choice: NetworkChoice {
                is_offline: settings.offline,
                mirror: settings.mirror,
                proxy: settings.proxy,
                catalog: settings.catalog,
            },
            requests: entries.into_iter().skip(older).rev().map(NetworkRequest::from).collect(),
            older_requests: super::count(older),
        }
    }
}

/// A request that left this machine.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct NetworkRequest {
    id: String,
    time: String,
    host: String,
    purpose: RequestPurpose,
    /// Of the answer; null where Hearth ended before it did.
    #[specta(type = Option<Number>)]
    bytes: Option<u64>,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RequestPurpose {
    Search,
    Repository,
    FileList,
    ModelFile,
    Catalog,
}

impl From<backend::hub::LedgerEntry> for NetworkRequest {
    fn from(entry: backend::hub::LedgerEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            time: entry.time.to_string(),
            host: entry.host,
            purpose: match entry.purpose {
                Purpose::Search => RequestPurpose::Search,
                Purpose::Repository => RequestPurpose::Repository,
                Purpose::FileList => RequestPurpose::FileList,
                Purpose::ModelFile => RequestPurpose::ModelFile,
                Purpose::Catalog => RequestPurpose::Catalog,
            },
            bytes: entry.bytes,
        }
    }
}

/// What a window may know of the hub's access token.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum AccessToken {
    Unset,
    /// Its last four characters; nothing for a very short one.
    Set {
        last_four: String,
        keeping: TokenPlace,
    },
    /// It was kept for one run, and that run is over.
    Forgotten,
    /// The hub does not accept it, so it was given up.
    Refused {
        last_four: String,
    },
    /// The keychain has it and does not give it out.
    Unreadable {
        error: IpcError,
    },
}

/// How long a token is kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenPlace {
    /// Until it is removed, by the system's keychain.
    Keychain,
    /// Until Hearth ends.
    ThisRun,
}

impl From<TokenPlace> for TokenKeeping {
    fn from(place: TokenPlace) -> Self {
        match place {
            TokenPlace::Keychain => Self::Keychain,
            TokenPlace::ThisRun => Self::ThisRun,
        }
    }
}

impl From<AccessTokenState> for AccessToken {
    fn from(state: AccessTokenState) -> Self {
        match state {
            AccessTokenState::Unset => Self::Unset,
            AccessTokenState::Set { last_four, keeping } => Self::Set {
                last_four,
                keeping: match keeping {
                    TokenKeeping::Keychain => TokenPlace::Keychain,
                    TokenKeeping::ThisRun => TokenPlace::ThisRun,
                },
            },
            AccessTokenState::Forgotten => Self::Forgotten,
            AccessTokenState::Refused { last_four } => Self::Refused { last_four },
            AccessTokenState::Unreadable(error) => Self::Unreadable { error: error.into() },
        }
    }
}
