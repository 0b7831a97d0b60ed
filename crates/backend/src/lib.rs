//! Hearth without a window: everything that the application does, for any shell.
//!
//! # A tour
//! - [`Backend`] is the whole: [`Models`] says which model answers, and prepares one that was installed for
//!   this machine before it is loaded for the first time; [`Chat`] makes one turn, [`History`] keeps every
//!   conversation, [`Notices`] holds what the user should know.
//! - A turn goes from `chat` through `context`, which chooses what the model is given of the conversation;
//!   `turn` is who may stop it, `writing` tells its text, and `saving` saves it while it is made.
//! - [`Inference`] is the handle to the inference thread, and [`serve`] its far side, where `worker` does the
//!   jobs. Between them only the plain data of [`messages`] passes.
//! - [`snapshots`] keeps what a model has read on disk, and `recall` brings it back before a reply and saves
//!   it when nobody waits, both on the far side: what is hundreds of megabytes crosses nothing. When nobody
//!   waits `read_ahead` reads the last reply as the next turn, which `next_turn` knows, will have it.
//! - [`Library`] is where models come from: [`Catalog`] recommends, [`variants`] reads any repository of a
//!   [`hub`], [`Downloader`] fetches, and a folder of this machine is imported. Nothing of it asks the network
//!   by itself. [`Downloads`] are those under way, for a shell that shows them; `model_changes` removes, puts back
//!   and repairs without pulling a model from under a reply, and `library_move` brings all of them to another folder.
//! - [`ModelDefaults`] are what the user wants of one model; `model_defaults` says who goes before whom, and
//!   `model_settings` what is in force and why.
//! - [`AccessToken`] is the hub's: kept by the system's `keychain`, sent by `hub::transport` to the hub alone.
//!   `refreshed_catalog` is a list of models that the user had fetched, beside the one that is compiled in.
//! - [`ModelStore`] finds models in the folder of models and in the application's own resources;
//!   [`Settings`] are one JSON file; [`AppDirs`] knows all paths. `thread_count` measures once how many
//!   threads this machine's models run best with.
//!
//! # What always holds
//! - A shell gets facts by [`Change`] and reads them from here; nothing here knows a window.
//! - A message is on the disk before inference is asked for its reply, whatever comes of that.
//! - Only `history` holds SQL, and only `history` writes what is said.
//! - A KV snapshot is used where model, layout and every token are the same and the file is what was written.
//!   Losing one costs time, never an answer.
//! - Models that are moved are whole at the new place before the settings name it, and at the old one until then.
//! - A model that is visible in the models' folder is whole: it came there by one rename, after every digest was
//!   compared. All requests leave through `hub::transport` and stand in the ledger.
//! - A backend opens always: what is wrong is a notice or the state of a model, not a missing window.

mod catalog;
mod chat;
mod context;
mod conversation;
mod directories;
mod download;
mod downloads;
mod error;
mod history;
pub mod hub;
mod import;
mod inference;
mod keychain;
mod library;
mod library_move;
pub mod messages;
mod model_changes;
mod model_defaults;
mod model_settings;
mod models;
mod next_turn;
mod notices;
mod pins;
mod read_ahead;
mod recall;
mod refreshed_catalog;
mod removals;
mod reply_options;
mod saving;
mod settings;
pub mod snapshots;
mod store;
mod system;
mod thread_count;
mod token;
mod turn;
mod variants;
mod worker;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use uuid::Uuid;

use keychain::Keychain;
use messages::KvKeeping;
use removals::Removals;
use snapshots::SnapshotUsage;

pub use catalog::{Catalog, CatalogEntry, CatalogFile, Fit, MemoryNeed, PinDifference};
pub use chat::{Chat, ChatEvent, Draft, Reset};
pub use conversation::{Conversation, ConversationSummary, Entry, Question, Reply, ReplyStatus, ReplyUsage};
pub use directories::{AppDirs, DATA_VARIABLE, LIBRARY_VARIABLE};
pub use download::{DownloadOutcome, DownloadPhase, DownloadProgress, Downloader, Inspect, RepairOutcome};
pub use downloads::{Download, DownloadKind, DownloadState, Downloads};
pub use engine::onnx::ExecutionProviderChoice;
pub use engine::prepare::{GraphToRun, Measurement, PassResult, Speed, Verdict};
pub use engine::{
    EmbedContext, EmbedRequest, Embedding, EmbeddingSource, FailureKind, Finish, FinishReason, GraphChoice,
    KvBackend, LoadOptions, LoadedModel, ModelSpec, PrepareOptions, PrepareProgress, PrepareStep, Prepared,
    Progress, Request, ReuseLimit, Sampling, SuggestedSampling, TokenId, Usage,
};
pub use error::{Error, Result};
pub use history::{ExportFormat, ExportReport, History, ImportReport, SearchHit, SnippetPart};
pub use import::ImportMode;
pub use inference::{Canceller, Deliver, Inference, Open, Running, Update, serve};
pub use library::{DiskUse, InstalledDetails, Library, ListedModel, Offer};
pub use library_move::{LibraryMove, MoveOutcome, MovePhase, MoveProgress};
pub use model_defaults::{ModelDefaults, ModelNumber};
pub use model_settings::{ContextMemory, ModelSetting, ModelSettings, ValueSource};
pub use models::{ModelState, Models, ReadyModel};
pub use notices::{Notice, Notices, Severity};
pub use pins::Pins;
pub use refreshed_catalog::RefreshedCatalog;
pub use removals::RemovedModel;
pub use reply_options::ReplyOptions;
pub use settings::{Overrides, Settings};
pub use store::{
    CheckedFile, DiskRules, FileState, InstalledModel, MANIFEST, Manifest, ModelFolder, ModelRecord,
    ModelSource, ModelStore, Origin, RecordedFile, Unfinished,
};
pub use system::{Memory, cpu_time, threads};
pub use token::{AccessToken, AccessTokenState, TokenKeeping, TokenStore};
pub use tokio_util::sync::CancellationToken;
pub use variants::{Precision, Variant, variants};

/// A fact that changed. What it is now is read from the [`Backend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Models,
    Notices,
    /// What is known of the runtime.
    About,
    /// The list of conversations, or something about one of them.
    Conversations,
    /// Models on their way, or removed ones.
    Downloads,
}

/// What came of deleting a conversation.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// The conversation that is shown now.
    pub shown: Conversation,
    /// What was destroyed of what the model had read, in memory and on the disk.
    pub freed_bytes: u64,
}

/// What is kept on the disk of what models have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSnapshots {
    pub usage: SnapshotUsage,
    /// The budget that the user chose; `None` for the default.
    pub chosen_budget: Option<u64>,
    /// Why nothing can be kept, where nothing can.
    pub trouble: Option<String>,
}

/// The application.
#[derive(Clone)]
pub struct Backend {
    directories: AppDirs,
    models: Models,
    downloads: Downloads,
    removals: Removals,
    chat: Chat,
    history: History,
    inference: Inference,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
}

impl Backend {
    /// Opens the application over `directories`. What is wrong with them becomes a notice.
    pub fn open(directories: AppDirs) -> Self {
        Self::open_with(directories, Inference::start())
    }

    /// The same over an inference thread that is there already.
    pub fn open_with(directories: AppDirs, inference: Inference) -> Self {
        Self::open_with_tokens(directories, inference, Arc::new(Keychain))
    }

    /// The same, where the hub's access token is kept by `tokens` and not by the system's keychain.
    pub fn open_with_tokens(directories: AppDirs, inference: Inference, tokens: Arc<dyn TokenStore>) -> Self {
        let (settings, notices) = Self::look_around(&directories);
        Self::assemble(directories, inference, (settings, Overrides::default()), tokens, notices, true)
    }

    /// The same for one run of a program: `overrides` go before the settings, no choice is saved, and what is
    /// shown is not remembered.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`] where `overrides` name a model that is not there.
    pub fn open_for_run(directories: AppDirs, inference: Inference, overrides: &Overrides) -> Result<Self> {
        let (settings, notices) = Self::look_around(&directories);
        let (settings, tokens) = ((settings, overrides.clone()), Arc::new(Keychain));
        let backend = Self::assemble(directories, inference, settings, tokens, notices, false);
        backend.models.leave_settings();
        // Whoever types a command waits for its answer, and prepares models by a command of its own.
        backend.models.leave_graphs();
        if let Some(model) = &overrides.model {
            backend.models.choose(model)?;
        }
        Ok(backend)
    }

    fn assemble(
        directories: AppDirs,
        inference: Inference,
        settings: (Settings, Overrides),
        tokens: Arc<dyn TokenStore>,
        notices: Arc<Notices>,
        remembers: bool,
    ) -> Self {
        let (changes, _) = broadcast::channel(64);
        let (said, told) = (Arc::clone(&notices), changes.clone());
        let models = Models::new(&directories, inference.clone(), settings, tokens, said, told);
        let (said, told) = (Arc::clone(&notices), changes.clone());
        inference.on_snapshot_trouble(move |trouble| {
            said.say_of_snapshots(trouble);
            // Without listeners there is nobody to tell.
            told.send(Change::Notices).ok();
        });
        let folder = directories.conversations();
        let history = History::new(folder, Arc::clone(&notices), changes.clone(), remembers);
        let chat = Chat::new(models.clone(), inference.clone(), history.clone());
        let downloads = Downloads::new(models.clone(), changes.clone());
        let removals = Removals::default();
        let backend =
            Self { directories, models, downloads, removals, chat, history, inference, notices, changes };
        backend.note_library();
        backend
    }

    /// Reads the settings, and finds out what is wrong with the data folder.
    fn look_around(directories: &AppDirs) -> (Settings, Arc<Notices>) {
        let notices = Arc::new(Notices::default());
        if let Err(error) = directories.check_data() {
            let message = format!("Nothing can be saved: {error}. You can chat all the same.");
            notices.add(Severity::Error, "dataFolder", message);
        }
        let (settings, damage) = Settings::open(&directories.settings());
        if let Some(message) = damage {
            notices.add(Severity::Warning, "settings", message);
        }
        for (id, defaults) in &settings.models {
            for name in defaults.senseless() {
                let message = format!(
                    "What the settings say of `{name}` for the model `{id}` is not used: it makes no sense."
                );
                notices.add(Severity::Warning, "settings", message);
            }
        }
        // Before anybody looks for models.
        library_move::settle(directories, &settings);
        (settings, notices)
    }

    /// The models and the one that answers.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The turns in conversations.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The model library, with the network as the settings say now.
    pub fn library(&self) -> Library {
        self.models.library()
    }

    /// The hub's access token.
    pub fn access_token(&self) -> &AccessToken {
        self.models.access_token()
    }

    /// Fetches the list of models that the settings name, to be used beside the catalogue from then on.
    ///
    /// # Errors
    /// [`Error::CatalogUnset`]; as [`Library::refresh_catalog`].
    pub async fn refresh_catalog(&self) -> Result<RefreshedCatalog> {
        let address = self.models.network().catalog.ok_or(Error::CatalogUnset)?;
        self.library().refresh_catalog(&address).await
    }

    /// The models on their way.
    pub fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    /// Every conversation.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Shows the conversation `id` from now on, with the last `most` messages of its current branch. The model
    /// that answered in it last answers in it again, if it still is installed; it loads meanwhile.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`].
    pub async fn open_conversation(&self, id: Uuid, most: usize) -> Result<Conversation> {
        let (history, chat) = (self.history.clone(), self.chat.clone());
        // The first look at the disk may take long: the file is opened then, and perhaps checked.
        let read = tokio::task::spawn_blocking(move || {
            history.show(id)?;
            chat.conversation(id, most)
        });
        let conversation = match read.await {
            Ok(read) => read?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match &conversation.about.model {
            Some(model) if self.models.selected().as_ref() != Some(model) => {
                self.models.choose_for_now(model);
                // The note about the model depends on the choice.
                self.chat.conversation(id, most)
            }
            _ => Ok(conversation),
        }
    }

    /// Takes the conversation `id` out of the list, its reply under way stopped. The one that is shown then
    /// comes with its last `most` messages: where it was this one, a new one. What the model has read of it is
    /// destroyed in memory and on the disk; taking the deletion back costs reading it again.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`].
    pub async fn delete_conversation(&self, id: Uuid, most: usize) -> Result<Deletion> {
        self.chat.settle_in(id).await;
        self.history.delete(id)?;
        // First of all, so that what is gone is shown no longer whatever else comes of it.
        if self.history.current() == id {
            self.history.begin(false)?;
        }
        let freed_bytes = self.chat.forget(id).await?;
        let shown = self.chat.conversation(self.history.current(), most)?;
        Ok(Deletion { shown, freed_bytes })
    }

    /// What the user should know.
    pub fn notices(&self) -> Vec<Notice> {
        self.notices.all()
    }

    /// Takes a notice away.
    pub fn dismiss_notice(&self, id: &str) {
        self.notices.dismiss(id);
        self.changes.send(Change::Notices).ok();
    }

    /// The places that are read and written.
    pub fn directories(&self) -> &AppDirs {
        &self.directories
    }

    /// Begins what a window begins with: the model that answers is loaded, so that it is ready when the first
    /// message is written. What KV snapshots keep of conversations that are gone, as after a power cut in the
    /// middle of a deletion, is destroyed.
    ///
    /// # Errors
    /// As [`Models::ready`].
    pub async fn begin(&self) -> Result<ReadyModel> {
        // First, so that a deletion finds the folder open while the model is prepared, which takes minutes.
        self.models.keep_kv().await;
        self.changes.send(Change::Notices).ok();
        let (ready, ()) = tokio::join!(self.models.ready(), self.forget_gone_conversations());
        ready
    }

    async fn forget_gone_conversations(&self) {
        let history = self.history.clone();
        // Opening the history may take a while, and the model need not wait for it.
        let kept = tokio::task::spawn_blocking(move || history.kept_ids()).await;
        let forgotten = match kept {
            Ok(Ok(Some(kept))) => {
                let kept = kept.iter().map(Uuid::to_string).collect();
                self.inference.forget_snapshots_except(kept).await.map(drop)
            }
            Ok(Ok(None)) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(%error, "KV snapshots of conversations that are gone may be left");
        }
    }

    /// What KV snapshots take, and what they may.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`].
    pub async fn kept_snapshots(&self) -> Result<KeptSnapshots> {
        let chosen_budget = self.models.chosen_snapshot_budget();
        let usage = self.inference.snapshot_usage().await?;
        if usage.budget_bytes > 0 || chosen_budget == Some(0) {
            return Ok(KeptSnapshots { usage, chosen_budget, trouble: None });
        }
        // They are opened with the first model, which may not be loaded yet.
        self.keep_snapshots().await
    }

    /// Bounds what KV snapshots take on the disk from now on, in bytes, and remembers that; `None` takes the
    /// default, and 0 keeps none. What is beyond the bound is destroyed, what was used longest ago first.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`]; [`Error::DataFolder`], and the budget stays as it was then.
    pub async fn set_snapshot_budget(&self, bytes: Option<u64>) -> Result<KeptSnapshots> {
        self.models.choose_snapshot_budget(bytes)?;
        self.keep_snapshots().await
    }

    async fn keep_snapshots(&self) -> Result<KeptSnapshots> {
        let trouble = self.models.keep_kv().await;
        let usage = self.inference.snapshot_usage().await?;
        Ok(KeptSnapshots { usage, chosen_budget: self.models.chosen_snapshot_budget(), trouble })
    }

    /// Destroys all KV snapshots; returns their bytes. Every conversation is read again after a restart.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`].
    pub async fn free_snapshots(&self) -> Result<u64> {
        self.inference.free_snapshots().await
    }

    /// Ends for good: stops the reply and the downloads under way, lets the conversations go, so that the next start
    /// knows that this run ended in order, saves what the model has read, for at most `limit`, deletes removed
    /// models, and lets the data folder go.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`].
    pub async fn close(&self, limit: Duration) -> Result<()> {
        self.downloads.pause_all().await;
        self.chat.settle().await;
        let history = self.history.clone();
        // A panic there was told of there, and what the model has read is worth saving all the same.
        tokio::task::spawn_blocking(move || history.close()).await.ok();
        self.removals.delete_all();
        self.inference.save_snapshots(limit).await?;
        self.inference.keep_kv(KvKeeping::default()).await?;
        Ok(())
    }

    /// Tells what changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Chooses the model that answers. A reply under way is stopped first: its model is about to go.
    ///
    /// # Errors
    /// As [`Models::select`].
    pub async fn select_model(&self, id: &str) -> Result<ReadyModel> {
        self.chat.settle().await;
        let result = self.models.select(id).await;
        if let Some(model) = self.models.selected() {
            self.history.set_model(self.history.current(), &model)?;
        }
        result
    }

    /// The same for whoever may choose among the known models only, and not name any folder of this machine.
    ///
    /// # Errors
    /// As [`Models::select`].
    pub async fn select_known_model(&self, id: &str) -> Result<ReadyModel> {
        self.models.require_known(id)?;
        self.select_model(id).await
    }
}
