//! The model library as it crosses to the interface.

use backend::hub::SearchHit;
use backend::{
    Backend, Fit, InstalledDetails, ListedModel, Memory, MemoryNeed, Offer, Origin, RefreshedCatalog, Variant,
};
use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;
use tauri_specta::Event;

use super::IpcError;

/// What there is in the library, beyond what [`super::Model`] says of those that can be chosen.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LibraryContents {
    installed: Vec<InstalledModel>,
    available: Vec<AvailableModel>,
    /// The list that the user had refreshed; null where there is none.
    refreshed_list: Option<RefreshedList>,
    /// Why the one that is there cannot be used.
    list_trouble: Option<String>,
    /// Whether the settings name the address of a list.
    has_list_address: bool,
    /// The folder of the installed models.
    folder: String,
    /// Whether the user chose that folder, and it is not there.
    is_folder_away: bool,
    #[specta(type = Number)]
    installed_bytes: u64,
    /// Of downloads that were begun and not ended.
    #[specta(type = Number)]
    unfinished_bytes: u64,
    /// Null where the system does not tell.
    #[specta(type = Option<Number>)]
    free_bytes: Option<u64>,
    /// Of this machine's memory; null where the system does not tell.
    #[specta(type = Option<Number>)]
    memory_bytes: Option<u64>,
    /// Whether the user was told what it means to take a model from outside of the catalogue.
    knows_other_sources: bool,
}

impl LibraryContents {
    pub(crate) fn read(backend: &Backend) -> Self {
        let library = backend.library();
        let memory = Memory::now();
        let disk = library.disk_use();
        Self {
            installed: library
                .installed()
                .into_iter()
                .map(|details| InstalledModel::new(details, &memory))
                .collect(),
            available: library
                .listed()
                .into_iter()
                .map(|listed| AvailableModel::new(listed, &memory))
                .collect(),
            refreshed_list: library.refreshed().ok().flatten().map(RefreshedList::from),
            list_trouble: library.refreshed().err().map(|error| error.to_string()),
            has_list_address: backend.models().network().catalog.is_some(),
            folder: backend.library_folder().display().to_string(),
            is_folder_away: backend.is_library_away(),
            installed_bytes: disk.installed,
            unfinished_bytes: disk.unfinished,
            free_bytes: disk.free,
            memory_bytes: Some(memory.total).filter(|&total| total > 0),
            knows_other_sources: backend.models().knows_other_sources(),
        }
    }
}

/// What is known of an installed model; its id is that of a [`super::Model`].
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstalledModel {
    id: String,
    licence: Option<String>,
    origin: ModelOrigin,
    memory: MemoryFit,
    can_remove: bool,
    can_repair: bool,
}

impl InstalledModel {
    fn new(details: InstalledDetails, memory: &Memory) -> Self {
        Self {
            origin: match (&details.origin, details.model.source) {
                (Some(Origin::Hub { repository, commit }), _) => {
                    ModelOrigin::Hub { repository: repository.to_string(), commit: commit.to_string() }
                }
                (Some(Origin::Folder { path }), _) => {
                    ModelOrigin::Folder { path: path.display().to_string(), is_linked: details.is_linked }
                }
                (None, backend::ModelSource::BuiltIn) => ModelOrigin::BuiltIn,
                (None, backend::ModelSource::Installed) => ModelOrigin::ByHand,
            },
            memory: MemoryFit::new(details.memory, memory),
            licence: details.licence,
            can_remove: details.can_remove,
            can_repair: details.can_repair,
            id: details.model.id,
        }
    }
}

/// Where an installed model came from.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum ModelOrigin {
    BuiltIn,
    Hub {
        repository: String,
        commit: String,
    },
    /// A folder of this machine; a linked one stays there when the model is removed.
    Folder {
        path: String,
        is_linked: bool,
    },
    /// The user put it into the folder of models.
    ByHand,
}

/// How much memory a model takes while it answers: computed from sizes, never measured.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryFit {
    #[specta(type = Number)]
    bytes: u64,
    /// Whether the KV cache is in it; its size is not known of every model.
    includes_kv_cache: bool,
    fit: FitWord,
}

/// Whether a model goes into this machine's memory.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FitWord {
    Fits,
    /// It runs, and little is left for anything else.
    Tight,
    TooLarge,
}

impl MemoryFit {
    fn new(need: MemoryNeed, memory: &Memory) -> Self {
        let fit = match need.fit(memory) {
            Fit::Fits => FitWord::Fits,
            Fit::Tight => FitWord::Tight,
            Fit::TooLarge => FitWord::TooLarge,
        };
        Self { bytes: need.bytes, includes_kv_cache: need.includes_kv_cache, fit }
    }
}

/// A list of models from a server of the user's choice, beside the one that is compiled in.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct RefreshedList {
    host: String,
    /// When it came.
    refreshed: String,
    /// How many models it has.
    models: u32,
}

impl From<&RefreshedCatalog> for RefreshedList {
    fn from(list: &RefreshedCatalog) -> Self {
        Self { host: list.host(), refreshed: list.refreshed.to_string(), models: super::count(list.len()) }
    }
}

/// A model of a list.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AvailableModel {
    id: String,
    /// The id that it has when it is installed or on its way.
    installed_id: String,
    title: String,
    repository: String,
    parameters: String,
    #[specta(type = Number)]
    context_length: u64,
    /// Null where the hub tells it before the download.
    #[specta(type = Option<Number>)]
    size_bytes: Option<u64>,
    licence: String,
    /// Whether the licence has terms that should be read before.
    has_terms: bool,
    /// Whether Hearth recommends it; others are of the refreshed list, and nobody tried them.
    is_recommended: bool,
    memory: Option<MemoryFit>,
}

impl AvailableModel {
    fn new(listed: ListedModel, memory: &Memory) -> Self {
        let ListedModel { entry, is_built_in, name } = listed;
        Self {
            id: name,
            installed_id: entry.installed_id(),
            repository: entry.repository.to_string(),
            context_length: entry.context,
            size_bytes: entry.size(),
            has_terms: entry.has_terms,
            is_recommended: is_built_in,
            memory: entry.memory().map(|need| MemoryFit::new(need, memory)),
            title: entry.title,
            parameters: entry.parameters,
            licence: entry.base_licence,
        }
    }
}

/// A repository with the models in it.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepositoryOffer {
    repository: String,
    commit: String,
    licence: Option<String>,
    base_models: Vec<String>,
    /// Whether its owner asks for a login and accepted conditions.
    is_gated: bool,
    /// Whether the catalogue recommends a model of it.
    is_recommended: bool,
    /// Those that suit this machine's processor best first, the unsupported ones last.
    variants: Vec<OfferedVariant>,
}

impl RepositoryOffer {
    pub(crate) fn new(offer: &Offer, backend: &Backend) -> Self {
        let repository = &offer.repository;
        let library = backend.library();
        let memory = Memory::now();
        let variant = |variant: &Variant| OfferedVariant {
            name: variant.name.clone(),
            installed_id: variant.record(repository).folder_name(),
            graph: variant.graph.clone(),
            size_bytes: variant.size,
            memory: MemoryFit::new(variant.memory, &memory),
            unsupported: variant.unsupported.clone(),
        };
        Self {
            repository: repository.id.to_string(),
            commit: repository.commit.to_string(),
            licence: repository.licence.clone(),
            base_models: repository.base_models.clone(),
            is_gated: repository.gated,
            is_recommended: library.catalog().entries().iter().any(|entry| entry.repository == repository.id),
            variants: offer.variants.iter().map(variant).collect(),
        }
    }
}

/// One model of a repository.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferedVariant {
    name: String,
    /// The id that it has when it is installed or on its way.
    installed_id: String,
    /// The path of its graph in the repository.
    graph: String,
    #[specta(type = Number)]
    size_bytes: u64,
    memory: MemoryFit,
    /// Why it cannot run here; null where nothing is known against it.
    unsupported: Option<String>,
}

/// A repository that a search found.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepositoryHit {
    id: String,
    licence: Option<String>,
    #[specta(type = Option<Number>)]
    downloads: Option<u64>,
    is_gated: bool,
}

impl From<SearchHit> for RepositoryHit {
    fn from(hit: SearchHit) -> Self {
        Self { id: hit.id.to_string(), licence: hit.licence, downloads: hit.downloads, is_gated: hit.gated }
    }
}

/// What is on its way, and what was removed and can be put back.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
pub(crate) struct DownloadsChanged {
    downloads: Vec<Download>,
    removed: Vec<RemovedModel>,
}

impl DownloadsChanged {
    pub(crate) fn of(backend: &Backend) -> Self {
        Self {
            downloads: backend.downloads().list().into_iter().map(Download::from).collect(),
            removed: backend.removed_models().into_iter().map(RemovedModel::from).collect(),
        }
    }
}

/// A model on its way.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Download {
    /// The id that the model has when it is installed.
    id: String,
    title: String,
    kind: DownloadKind,
    /// Bytes that are there.
    #[specta(type = Number)]
    done_bytes: u64,
    /// 0 where it is not known yet.
    #[specta(type = Number)]
    total_bytes: u64,
    state: DownloadState,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DownloadKind {
    Download,
    Repair,
    Import,
}

/// How far a model on its way is.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum DownloadState {
    /// Others come first.
    Queued,
    /// The bytes that are there are compared.
    Checking,
    /// Bytes come, over the network or from another folder.
    Downloading {
        #[specta(type = Number)]
        bytes_per_second: f64,
        /// Null while nothing comes.
        #[specta(type = Option<Number>)]
        seconds_left: Option<f64>,
    },
    /// Nothing comes; the next try is in so many seconds.
    Waiting {
        #[specta(type = Number)]
        seconds: f64,
        reason: String,
    },
    /// All bytes are right; the graph is checked and the model put in its place.
    Installing,
    Paused,
    Failed {
        error: IpcError,
    },
}

impl From<backend::Download> for Download {
    fn from(download: backend::Download) -> Self {
        use backend::DownloadPhase;
        let state = match download.state {
            backend::DownloadState::Queued => DownloadState::Queued,
            backend::DownloadState::Paused => DownloadState::Paused,
            backend::DownloadState::Failed(error) => DownloadState::Failed { error: error.into() },
            backend::DownloadState::Running { phase, bytes_per_second, seconds_left } => match phase {
                DownloadPhase::Checking => DownloadState::Checking,
                DownloadPhase::Downloading => DownloadState::Downloading { bytes_per_second, seconds_left },
                DownloadPhase::Waiting { seconds, reason } => DownloadState::Waiting { seconds, reason },
                DownloadPhase::Installing => DownloadState::Installing,
            },
        };
        Self {
            id: download.id,
            title: download.title,
            kind: match download.kind {
                backend::DownloadKind::Download => DownloadKind::Download,
                backend::DownloadKind::Repair => DownloadKind::Repair,
                backend::DownloadKind::Import => DownloadKind::Import,
            },
            done_bytes: download.done,
            total_bytes: download.total,
            state,
        }
    }
}

/// A model that was removed. It is deleted when Hearth ends.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemovedModel {
    id: String,
    name: String,
    #[specta(type = Number)]
    size_bytes: u64,
}

impl From<backend::RemovedModel> for RemovedModel {
    fn from(removed: backend::RemovedModel) -> Self {
        Self { id: removed.id, name: removed.name, size_bytes: removed.size }
    }
}

/// Something was dropped on the window: a folder, which is being imported, or something else, which is not.
#[derive(Debug, Clone, Serialize, Deserialize, Type, Event)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelDropped {
    pub(crate) is_folder: bool,
}
