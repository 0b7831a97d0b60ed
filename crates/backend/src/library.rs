//! The model library: what can be had, what is here, and how one becomes the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::ModelConfig;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, CatalogEntry, MemoryNeed};
use crate::directories::AppDirs;
use crate::download::{DownloadOutcome, DownloadProgress, Downloader, RepairOutcome};
use crate::error::{Error, Result};
use crate::hub::{
    Hub, NetworkLedger, NetworkOptions, NetworkSettings, Repository, RepositoryFile, RepositoryId, Timing,
};
use crate::import::{Import, ImportMode};
use crate::refreshed_catalog::RefreshedCatalog;
use crate::store::{DiskRules, InstalledModel, Manifest, ModelRecord, ModelStore, Origin, Unfinished};
use crate::token::AccessToken;
use crate::variants::{Variant, memory_need, variants};

/// Configurations that are read to tell the memory of a repository's models.
const MOST_CONFIGURATIONS: usize = 4;

/// A repository with the models in it.
#[derive(Debug, Clone)]
pub struct Offer {
    pub repository: Repository,
    /// The first one suits a CPU best, if any can be used.
    pub variants: Vec<Variant>,
}

/// A model of a list that can be fetched.
#[derive(Debug, Clone)]
pub struct ListedModel {
    pub entry: CatalogEntry,
    /// Whether it is compiled in. Others come from the list that the user had refreshed; nobody tried them here.
    pub is_built_in: bool,
    /// What it is asked for by: its id, or where the catalogue of this build has that id for another commit, the
    /// id that it has when it is installed.
    pub name: String,
}

/// What is known of a model on this machine beyond what a chat needs.
#[derive(Debug, Clone)]
pub struct InstalledDetails {
    pub model: InstalledModel,
    /// `None` for what the application brings, or what was put there by hand.
    pub origin: Option<Origin>,
    pub licence: Option<String>,
    pub memory: MemoryNeed,
    /// It lies in another place and stays there when it is removed.
    pub is_linked: bool,
    pub can_remove: bool,
    /// Whether it is known what is right, and where that comes from.
    pub can_repair: bool,
}

/// What models take of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    pub installed: u64,
    /// Of downloads that were begun and not ended.
    pub unfinished: u64,
    /// `None` where the system does not tell.
    pub free: Option<u64>,
}

/// The model library of one user. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    store: ModelStore,
    models: PathBuf,
    downloader: Downloader,
    catalog: Arc<Catalog>,
    refreshed: Arc<Result<Option<RefreshedCatalog>>>,
    refreshed_path: PathBuf,
    ledger: NetworkLedger,
}

impl Library {
    /// The library in `directories`, with the network as `settings` and the environment say. No request leaves
    /// before one is asked for. Where they name an address that may not be asked, every request ends in that error,
    /// and what needs none works.
    pub fn open(directories: &AppDirs, settings: &NetworkSettings) -> Self {
        Self::over(ModelStore::new(directories), directories, settings, AccessToken::absent())
    }

    /// The same with the models of `store` and the access token that the user entered.
    pub(crate) fn over(
        store: ModelStore,
        directories: &AppDirs,
        settings: &NetworkSettings,
        access: AccessToken,
    ) -> Self {
        let ledger = NetworkLedger::new(&directories.data);
        let options = NetworkOptions::of_this_process(settings);
        let hub = Hub::settled(options, ledger.clone(), Timing::default(), access);
        let models = store.folder().to_path_buf();
        Self {
            downloader: Downloader::new(hub, models.clone()),
            catalog: Arc::new(Catalog::built_in()),
            refreshed: Arc::new(RefreshedCatalog::read(&directories.refreshed_catalog())),
            refreshed_path: directories.refreshed_catalog(),
            store,
            models,
            ledger,
        }
    }

    /// The models that Hearth recommends.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The list of models that the user had refreshed; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Library`] for one that was damaged: it is as if there were none.
    pub fn refreshed(&self) -> Result<Option<&RefreshedCatalog>> {
        self.refreshed.as_ref().as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Every model that a list names, those of the catalogue first.
    pub fn listed(&self) -> Vec<ListedModel> {
        let built_in = self.catalog.entries().iter().map(|entry| ListedModel {
            entry: entry.clone(),
            is_built_in: true,
            name: entry.id.clone(),
        });
        let refreshed = self.refreshed().ok().flatten();
        let others = refreshed.into_iter().flat_map(|list| list.beyond(&self.catalog));
        let others = others.map(|entry| {
            let is_taken = |known: &CatalogEntry| known.id.eq_ignore_ascii_case(&entry.id);
            let name = match self.catalog.entries().iter().any(is_taken) {
                true => entry.installed_id(),
                false => entry.id.clone(),
            };
            ListedModel { entry: entry.clone(), is_built_in: false, name }
        });
        built_in.chain(others).collect()
    }

    /// The model that a list names so.
    pub fn find_listed(&self, name: &str) -> Option<ListedModel> {
        self.listed().into_iter().find(|listed| listed.name == name)
    }

    /// Fetches the list of models at `address`, to be used beside the catalogue from then on.
    ///
    /// # Errors
    /// [`Error::Hub`], [`Error::CatalogRefused`], [`Error::DataFolder`]; the list is as it was then.
    pub async fn refresh_catalog(&self, address: &str) -> Result<RefreshedCatalog> {
        RefreshedCatalog::fetch(self.hub(), address, &self.refreshed_path).await
    }

    /// Leaves the refreshed list of models: what is compiled in is all there is.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn leave_refreshed_catalog(&self) -> Result<()> {
        RefreshedCatalog::remove(&self.refreshed_path)
    }

    /// Every request that left this machine.
    pub fn ledger(&self) -> &NetworkLedger {
        &self.ledger
    }

    /// The hub that is asked.
    pub fn hub(&self) -> &Hub {
        self.downloader.hub()
    }

    /// The models on this machine.
    pub fn store(&self) -> &ModelStore {
        &self.store
    }

    /// The models on this machine with what is known of them.
    pub fn installed(&self) -> Vec<InstalledDetails> {
        self.store.models().into_iter().map(|model| self.details(model)).collect()
    }

    fn details(&self, model: InstalledModel) -> InstalledDetails {
        let is_linked = self.store.is_linked(&model);
        let manifest = Manifest::read(&model.folder).ok().flatten().filter(|_| !is_linked);
        let record = manifest.map(|manifest| manifest.record);
        let weights = record.as_ref().map_or(model.size, ModelRecord::weights);
        let here = || Origin::Folder { path: model.folder.clone() };
        let config = ModelConfig::read(&model.folder).unwrap_or_default();
        // By the name that it had where it came from.
        let mut sources = record.iter().flat_map(|record| &record.files).map(|file| file.source.clone());
        let graph = sources.find(|path| path.ends_with(".onnx")).unwrap_or_default();
        InstalledDetails {
            can_remove: self.store.can_remove(&model),
            can_repair: matches!(&record, Some(ModelRecord { origin: Origin::Hub { .. }, .. })),
            memory: memory_need(weights, &config, &graph),
            licence: record.as_ref().and_then(|record| record.licence.clone()),
            origin: record.map(|record| record.origin).or_else(|| is_linked.then(here)),
            is_linked,
            model,
        }
    }

    /// What models take of the disk.
    pub fn disk_use(&self) -> DiskUse {
        let own = |model: &InstalledModel| self.store.can_remove(model) && !self.store.is_linked(model);
        DiskUse {
            installed: self.store.models().iter().filter(|model| own(model)).map(|model| model.size).sum(),
            unfinished: self.store.unfinished().iter().map(|begun| begun.bytes).sum(),
            // The default folder is made with the first model.
            free: match self.store.is_away() {
                true => None,
                false => self.models.ancestors().find_map(|folder| fs4::available_space(folder).ok()),
            },
        }
    }

    /// The download of this name that was begun and not ended.
    pub fn unfinished(&self, id: &str) -> Option<Unfinished> {
        let is_named = |begun: &Unfinished| begun.record.id == id || begun.record.folder_name() == id;
        self.store.unfinished().into_iter().find(is_named)
    }

    /// What is to be fetched for a listed model. Asks the hub only for what the list does not know.
    ///
    /// # Errors
    /// [`Error::Hub`], and [`Error::Unsupported`] where hub and list disagree.
    pub async fn record_of(&self, listed: &ListedModel) -> Result<ModelRecord> {
        let entry = &listed.entry;
        let record = if entry.needs_listing() {
            let listing = self.hub().files(&entry.repository, &entry.commit).await?;
            entry.record(Some(&listing))?
        } else {
            entry.record(None)?
        };
        // Whoever wrote the list says what is right; only what is compiled in was tried here.
        Ok(ModelRecord { curated: record.curated && listed.is_built_in, ..record })
    }

    /// The models in any repository, at a commit, branch or tag, with the memory that they take.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub async fn offer(&self, id: &RepositoryId, revision: Option<&str>) -> Result<Offer> {
        let mut offer = self.look_up(id, revision).await?;
        let Offer { repository, variants } = &mut offer;
        let mut read: BTreeMap<String, Option<ModelConfig>> = BTreeMap::new();
        for variant in variants.iter_mut().filter(|variant| variant.unsupported.is_none()) {
            let Some(file) = variant.configuration().cloned() else { continue };
            if !read.contains_key(&file.path) {
                // Somebody waits for this list: a repository of many models is listed without.
                if read.len() == MOST_CONFIGURATIONS {
                    continue;
                }
                let config = self.configuration(repository, &file).await;
                read.insert(file.path.clone(), config);
            }
            if let Some(Some(config)) = read.get(&file.path) {
                variant.count_kv_cache(config);
            }
        }
        Ok(offer)
    }

    /// The same from the listing alone, without what the KV cache takes.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub(crate) async fn look_up(&self, id: &RepositoryId, revision: Option<&str>) -> Result<Offer> {
        let repository = self.hub().repository(id, revision).await?;
        let files = self.hub().files(id, &repository.commit).await?;
        Ok(Offer { variants: variants(&files), repository })
    }

    /// What the file says of a model that is not here. It is told without where the file does not come or says
    /// nothing that can be read: the download will tell better what is wrong.
    async fn configuration(&self, repository: &Repository, file: &RepositoryFile) -> Option<ModelConfig> {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let text = self.hub().text(&repository.id, &repository.commit, file).await;
        let text =
            text.inspect_err(|error| tracing::warn!(%error, "a model's memory is not known whole")).ok()?;
        ModelConfig::of_text(name, &text).ok()
    }

    /// Fetches and installs; see [`Downloader::fetch`].
    ///
    /// # Errors
    /// As [`Downloader::fetch`].
    pub async fn fetch(
        &self,
        record: &ModelRecord,
        stop: &CancellationToken,
        on_progress: impl FnMut(DownloadProgress) + Send,
    ) -> Result<DownloadOutcome> {
        self.store.require_folder()?;
        self.downloader.fetch(record, stop, on_progress).await
    }

    /// Makes an installed model right again; see [`Downloader::repair`].
    ///
    /// # Errors
    /// As [`Downloader::repair`].
    pub async fn repair(
        &self,
        model: &InstalledModel,
        stop: &CancellationToken,
        on_progress: impl FnMut(DownloadProgress) + Send,
    ) -> Result<RepairOutcome> {
        self.store.require_folder()?;
        self.downloader.repair(&model.folder, stop, on_progress).await
    }

    /// Deletes what came of a download that was not ended.
    ///
    /// # Errors
    /// [`Error::Library`] while it is under way.
    pub fn discard(&self, record: &ModelRecord) -> Result<()> {
        self.store.require_folder()?;
        self.downloader.discard(record)
    }

    /// Deletes what came of a repair that was not ended.
    ///
    /// # Errors
    /// [`Error::Library`] while it is under way.
    pub fn discard_repair(&self, model: &InstalledModel) -> Result<()> {
        self.store.require_folder()?;
        self.downloader.discard_repair(&model.folder)
    }

    /// Takes a folder of this machine in as `name`, or under its own name. `None`: it was stopped, and nothing
    /// is left of it. `on_bytes` is told how many more bytes were copied, and of how many.
    ///
    /// # Errors
    /// What is wrong with the folder, named by its file, as for a download.
    pub fn import(
        &self,
        folder: &Path,
        name: Option<&str>,
        mode: ImportMode,
        stop: &CancellationToken,
        on_bytes: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<PathBuf>> {
        self.store.require_folder()?;
        let own_name = || {
            let absolute = std::path::absolute(folder).ok()?;
            Some(absolute.file_name()?.to_str()?.to_owned())
        };
        let id = name.map(str::to_owned).or_else(own_name).ok_or_else(|| Error::Name {
            name: folder.display().to_string(),
            reason: "it has no name".into(),
        })?;
        let import = Import {
            models: &self.models,
            disk: &DiskRules::default(),
            inspect: self.downloader.inspect(),
            stop,
        };
        import.run(folder, &id, mode, on_bytes)
    }
}
