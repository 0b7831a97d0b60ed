//! Which model answers: choosing, loading, and what came of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::onnx::ExecutionProviderChoice;
use engine::{FailureKind, LoadOptions, LoadedModel, PrepareOptions, PrepareProgress, Prepared};
use tokio::sync::{OwnedMutexGuard, broadcast};

use crate::Change;
use crate::catalog::Catalog;
use crate::directories::AppDirs;
use crate::error::{Error, Result};
use crate::hub::{NetworkOptions, NetworkSettings};
use crate::inference::{Canceller, Inference};
use crate::messages::KvKeeping;
use crate::notices::{Notices, Severity};
use crate::settings::Settings;
use crate::store::{InstalledModel, ModelSource, ModelStore};
use crate::system::{self, Memory};
use crate::thread_count::{self, ThreadSpeeds};

/// What notices about preparations are about.
const PREPARATION: &str = "preparation";

/// How far a model is.
#[derive(Debug, Clone, Default)]
pub enum ModelState {
    #[default]
    Available,
    /// Its graph is being rewritten for this machine, which happens once.
    Preparing(PrepareProgress),
    Loading,
    /// Loaded; it answers.
    Ready,
    Failed(Error),
}

/// Whether a failure of this kind is about preparing a model and not about the model itself.
fn is_about_preparing(kind: FailureKind) -> bool {
    use FailureKind::{Crashed, DiskFull, Internal, ModelUnwritable, OutOfMemory};
    matches!(kind, ModelUnwritable | DiskFull | OutOfMemory | Crashed | Internal)
}

/// The models and the one that answers. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    directories: AppDirs,
    store: ModelStore,
    inference: Inference,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
    state: Mutex<State>,
    /// One load at a time, in the order asked for.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Held from the look at the settings until the inference side has taken them up.
    keeping: tokio::sync::Mutex<()>,
}

struct State {
    settings: Settings,
    /// Whether a choice of model is written to the settings.
    remembers: bool,
    /// Whether a model is prepared before it is loaded for the first time.
    prepares: bool,
    /// The preparation under way, by its model.
    preparing: Option<(String, Canceller)>,
    /// Models whose preparation was skipped: they are not asked about again until the next start.
    skipped: HashSet<String>,
    models: Vec<InstalledModel>,
    selected: Option<String>,
    states: HashMap<String, ModelState>,
    loaded: Option<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    id: String,
    about: LoadedModel,
}

/// A model that is loaded, with what loading told.
#[derive(Debug, Clone)]
pub struct ReadyModel {
    pub model: InstalledModel,
    pub about: LoadedModel,
}

impl Models {
    pub(crate) fn new(
        directories: &AppDirs,
        inference: Inference,
        settings: Settings,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        let store = ModelStore::new(directories);
        let mut models = store.models();
        let preferred = store.preferred(settings.model.as_deref()).ok();
        let selected = preferred.as_ref().map(|model| model.id.clone());
        // One that was chosen by its path is in no list.
        models.extend(preferred.filter(|model| !models.iter().any(|known| known.id == model.id)));
        let state = State {
            settings,
            remembers: true,
            prepares: true,
            preparing: None,
            skipped: HashSet::new(),
            models,
            selected,
            states: HashMap::new(),
            loaded: None,
        };
        Self(Arc::new(Inner {
            directories: directories.clone(),
            store,
            inference,
            notices,
            changes,
            state: Mutex::new(state),
            loading: Arc::default(),
            keeping: tokio::sync::Mutex::default(),
        }))
    }

    /// Every model with its state.
    pub fn all(&self) -> Vec<(InstalledModel, ModelState)> {
        let state = self.state();
        let state_of = |model: &InstalledModel| state.states.get(&model.id).cloned().unwrap_or_default();
        state.models.iter().map(|model| (model.clone(), state_of(model))).collect()
    }

    /// The id of the model that is to answer.
    pub fn selected(&self) -> Option<String> {
        self.state().selected.clone()
    }

    /// The model that is to answer.
    pub fn selected_model(&self) -> Option<InstalledModel> {
        let state = self.state();
        state.models.iter().find(|model| Some(&model.id) == state.selected.as_ref()).cloned()
    }

    /// What is known of the loaded model.
    pub fn loaded(&self) -> Option<LoadedModel> {
        self.state().loaded.as_ref().map(|loaded| loaded.about.clone())
    }

    /// Chooses the model that answers, an id or the path of a folder, remembers the choice, and loads it in
    /// the place of the other.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], or what kept the model from loading. The choice stays all the same.
    pub async fn select(&self, id: &str) -> Result<ReadyModel> {
        self.choose(id)?;
        self.changed(Change::Models);
        self.ready().await
    }

    /// Whether a model of this id is in the list, or was installed since it was read.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`].
    pub(crate) fn require_known(&self, id: &str) -> Result<()> {
        let is_known = |models: &[InstalledModel]| models.iter().any(|model| model.id == id);
        if is_known(&self.state().models) || is_known(&self.0.store.models()) {
            return Ok(());
        }
        let known = "choose one of those in the list".into();
        Err(Error::ModelUnknown { id: id.to_owned(), known })
    }

    /// How requests may leave.
    pub fn network(&self) -> NetworkSettings {
        self.state().settings.network.clone()
    }

    /// Lets requests leave so from now on.
    pub(crate) fn set_network(&self, network: NetworkSettings) -> Result<()> {
        NetworkOptions::of_this_process(&network)?;
        self.change_settings(|settings| settings.network = network.clone())
    }

    /// Whether the user knows what it means to take a model from outside of the catalogue.
    pub fn knows_other_sources(&self) -> bool {
        self.state().settings.knows_other_sources
    }

    /// Notes that the user was told so.
    ///
    /// # Errors
    /// [`Error::DataFolder`]; it is asked again then.
    pub fn note_other_sources(&self) -> Result<()> {
        self.change_settings(|settings| settings.knows_other_sources = true)
    }

    /// Changes the settings, on the disk first, where nothing else of them is touched.
    fn change_settings(&self, change: impl Fn(&mut Settings)) -> Result<()> {
        let mut state = self.state();
        if state.remembers {
            Settings::update(&self.0.directories.settings(), &change)?;
        }
        change(&mut state.settings);
        Ok(())
    }

    /// Frees the model `id`, so that its files can be changed, and forgets that it failed. Waits for a load or
    /// reply of it that is under way; a preparation is ended.
    pub(crate) async fn release(&self, id: &str) -> Result<()> {
        if let Some((preparing, canceller)) = &self.state().preparing
            && preparing == id
        {
            canceller.cancel();
        }
        let _held = Arc::clone(&self.0.loading).lock_owned().await;
        if self.state().loaded.as_ref().is_some_and(|loaded| loaded.id == id) {
            self.0.inference.unload().await?;
            self.state().loaded = None;
            self.changed(Change::About);
        }
        self.set_state(id, ModelState::Available);
        Ok(())
    }

    /// Looks again at which models there are.
    pub fn refresh(&self) {
        let found = self.0.store.models();
        let mut state = self.state();
        let by_path = state.models.iter().filter(|model| Path::new(&model.id).is_absolute()).cloned();
        let kept: Vec<InstalledModel> = by_path.filter(|model| model.folder.is_dir()).collect();
        state.models = found.into_iter().chain(kept).collect();
        let there: HashSet<String> = state.models.iter().map(|model| model.id.clone()).collect();
        state.states.retain(|id, _| there.contains(id));
        drop(state);
        self.changed(Change::Models);
    }

    /// From now on the settings' file stays as it is.
    pub(crate) fn leave_settings(&self) {
        self.state().remembers = false;
    }

    /// From now on models are loaded as they are.
    pub(crate) fn leave_graphs(&self) {
        self.state().prepares = false;
    }

    /// Chooses the model of a conversation that is shown, if it is installed, and begins to load it. What new
    /// conversations begin with stays as it is.
    pub(crate) fn choose_for_now(&self, id: &str) {
        {
            let mut state = self.state();
            if !state.models.iter().any(|model| model.id == id) {
                return;
            }
            state.selected = Some(id.to_owned());
        }
        self.changed(Change::Models);
        let models = self.clone();
        // What went wrong is the state of the model.
        tokio::spawn(async move { models.ready().await.ok() });
    }

    /// Chooses the model that is to answer, and loads nothing yet.
    pub(crate) fn choose(&self, id: &str) -> Result<()> {
        let model = self.0.store.find(id)?;
        let models = self.0.store.models();
        let mut state = self.state();
        state.models = models;
        if !state.models.iter().any(|known| known.id == model.id) {
            state.models.push(model.clone());
        }
        state.selected = Some(model.id.clone());
        if let Some((preparing, canceller)) = &state.preparing
            && *preparing != model.id
        {
            // Whoever wants another model now does not wait for this one.
            canceller.cancel();
        }
        if state.remembers && state.settings.model.as_ref() != Some(&model.id) {
            state.settings.model = Some(model.id);
            self.save(&state.settings);
        }
        Ok(())
    }

    /// The model that answers, loaded. Waits for a load that is under way, and tries again after one that
    /// failed.
    ///
    /// # Errors
    /// [`Error::NoModel`], or what kept the model from loading.
    pub async fn ready(&self) -> Result<ReadyModel> {
        self.hold_ready().await.map(|(ready, _)| ready)
    }

    /// The same, and no other model is loaded while the second value lives: jobs that belong together, such
    /// as a prompt and the reply to it, are queued under one.
    pub(crate) async fn hold_ready(&self) -> Result<(ReadyModel, OwnedMutexGuard<()>)> {
        let models = self.clone();
        // In a task of its own: whoever asks may stop waiting, and the load still ends in a state.
        match tokio::spawn(async move { models.load_selected().await }).await {
            Ok(result) => result,
            Err(_) => Err(Error::InferenceEnded),
        }
    }

    /// The model that answers, held as [`Models::hold_ready`] does, where it is loaded: neither is it loaded for
    /// this, nor is a load waited for.
    pub(crate) async fn hold_loaded(&self) -> Option<(ReadyModel, OwnedMutexGuard<()>)> {
        self.loaded_selected()?;
        let held = Arc::clone(&self.0.loading).lock_owned().await;
        // Whoever held it may have changed it.
        Some((self.loaded_selected()?, held))
    }

    fn loaded_selected(&self) -> Option<ReadyModel> {
        let model = self.selected_model()?;
        let about = self.state().loaded.clone().filter(|loaded| loaded.id == model.id)?.about;
        Some(ReadyModel { model, about })
    }

    async fn load_selected(&self) -> Result<(ReadyModel, OwnedMutexGuard<()>)> {
        let held = Arc::clone(&self.0.loading).lock_owned().await;
        let (model, checked) = loop {
            let Some(model) = self.selected_model() else {
                return Err(Error::NoModel { folder: self.0.directories.models() });
            };
            if let Some(ready) = self.loaded_selected() {
                return Ok((ready, held));
            }
            let checked = check_files(&model).await;
            if checked.is_ok() {
                self.prepare_first(&model).await;
            }
            // Another one may have been chosen meanwhile.
            if self.selected().as_ref() == Some(&model.id) {
                break (model, checked);
            }
            self.set_state(&model.id, ModelState::Available);
        };
        {
            let mut state = self.state();
            state.loaded = None;
            state.states.retain(|_, model| matches!(model, ModelState::Failed(_)));
            state.states.insert(model.id.clone(), ModelState::Loading);
        }
        self.changed(Change::Models);
        self.keep_kv().await;
        let result = match checked.and_then(|()| self.load_options()) {
            Ok(options) => self.load(&model, options).await,
            Err(error) => Err(error),
        };
        self.0.notices.clear("model");
        let outcome = match result {
            Ok(about) => {
                for notice in &about.notices {
                    self.0.notices.add(Severity::Information, "model", format!("{}: {notice}.", model.name));
                }
                Ok(ReadyModel { model: model.clone(), about })
            }
            Err(error) => {
                tracing::warn!(model = model.id, %error, "the model does not load");
                Err(error)
            }
        };
        {
            let mut state = self.state();
            let loaded = match &outcome {
                Ok(ready) => {
                    state.loaded = Some(Loaded { id: model.id.clone(), about: ready.about.clone() });
                    ModelState::Ready
                }
                Err(error) => ModelState::Failed(error.clone()),
            };
            state.states.insert(model.id, loaded);
        }
        self.changed(Change::Models);
        self.changed(Change::Notices);
        self.changed(Change::About);
        outcome.map(|ready| (ready, held))
    }

    /// Prepares a model before it is loaded for the first time. What goes wrong costs speed and is told; the
    /// model is loaded all the same.
    async fn prepare_first(&self, model: &InstalledModel) {
        let is_wanted = {
            let state = self.state();
            // Graphs are prepared for the CPU.
            let is_on_cpu = state.settings.execution_provider != ExecutionProviderChoice::CoreMl;
            state.prepares && is_on_cpu && !state.skipped.contains(&model.id)
        };
        if model.source == ModelSource::BuiltIn || !is_wanted {
            return;
        }
        self.0.notices.clear(PREPARATION);
        let told = |_: &PrepareProgress| {};
        if let Err(error) = self.prepare_held(model, false, true, told).await {
            tracing::warn!(model = model.id, %error, "the model was not prepared");
            let kind = error.engine_kind();
            if !matches!(kind, Some(kind) if is_about_preparing(kind)) {
                // The load will say it better.
                return;
            }
            let name = &model.name;
            let message =
                format!("{name} runs as it came, without being prepared for this machine: {error}.");
            self.0.notices.add(Severity::Information, PREPARATION, message);
            self.changed(Change::Notices);
        }
    }

    /// Rewrites the graph of a model for this machine, an id or the path of a folder, where that is not done
    /// already or `force` asks for it again. The model that answers is freed first. `None` where it was
    /// skipped.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], [`Error::ModelBuiltIn`], [`Error::LibraryMissing`], or what kept the model
    /// from being run or its folder from being written.
    pub async fn prepare(
        &self,
        id: &str,
        force: bool,
        on_progress: impl FnMut(&PrepareProgress),
    ) -> Result<Option<Prepared>> {
        let model = self.0.store.find(id)?;
        if model.source == ModelSource::BuiltIn {
            return Err(Error::ModelBuiltIn { id: model.id });
        }
        let _held = Arc::clone(&self.0.loading).lock_owned().await;
        let result = self.prepare_held(&model, force, false, on_progress).await;
        self.set_state(&model.id, ModelState::Available);
        result
    }

    /// Stops the preparation under way; its model is loaded as it is, until the next start.
    pub fn skip_preparation(&self) {
        let mut state = self.state();
        if let Some((model, canceller)) = &state.preparing {
            canceller.cancel();
            let model = model.clone();
            state.skipped.insert(model);
        }
    }

    /// The same while the lock is held: one load or preparation at a time. `for_load` ends it where the model is no
    /// longer the one to load.
    async fn prepare_held(
        &self,
        model: &InstalledModel,
        force: bool,
        for_load: bool,
        mut on_progress: impl FnMut(&PrepareProgress),
    ) -> Result<Option<Prepared>> {
        let load = self.load_options_of(model)?;
        let options =
            PrepareOptions { force, memory: Some(Memory::now().available), ..PrepareOptions::like(&load) };
        let running = self.0.inference.prepare(model.model_folder(), options);
        {
            let mut state = self.state();
            state.loaded = None;
            state.states.retain(|_, model| matches!(model, ModelState::Failed(_)));
            // Whoever chose another one until now found nothing to cancel.
            let is_selected = state.selected.as_ref() == Some(&model.id);
            if for_load && (!is_selected || state.skipped.contains(&model.id)) {
                running.canceller().cancel();
            }
            state.preparing = Some((model.id.clone(), running.canceller()));
        }
        let result = running.prepared(|progress| {
            on_progress(&progress);
            self.set_state(&model.id, ModelState::Preparing(progress));
        });
        let result = result.await;
        self.state().preparing = None;
        result
    }

    /// Loads a model, and adds what the catalogue knows of it to what its own files say.
    async fn load(&self, model: &InstalledModel, options: LoadOptions) -> Result<LoadedModel> {
        let mut loaded = self.load_measured(model, self.suited(options, model)).await?;
        if let Some(sampling) = Catalog::entry_in(&model.folder).and_then(|entry| entry.sampling) {
            loaded.sampling = loaded.sampling.or(sampling);
        }
        Ok(loaded)
    }

    /// The first large model that is loaded on this machine tells how many threads to use.
    async fn load_measured(&self, model: &InstalledModel, options: LoadOptions) -> Result<LoadedModel> {
        let Inner { inference, directories, .. } = self.0.as_ref();
        let folder = model.model_folder();
        let options = LoadOptions { kv_bytes: system::conversation_memory(model.size), ..options };
        let path = directories.machine();
        let is_chosen = self.state().settings.threads.is_some();
        let says_nothing = model.size < thread_count::LEAST_MODEL_BYTES;
        if is_chosen || says_nothing || ThreadSpeeds::open(&path).is_some() {
            return inference.load(folder, options).await;
        }
        let is_wanted = || self.selected().as_ref() == Some(&model.id);
        match ThreadSpeeds::measure(inference, &folder, &options, is_wanted).await {
            Ok((speeds, loaded)) => {
                if let Some(Err(error)) = speeds.map(|speeds| speeds.save(&path)) {
                    tracing::warn!(%error, "what was measured of this machine cannot be kept");
                }
                Ok(loaded)
            }
            // What keeps the model from loading is said by a load without a measurement.
            Err(error) => {
                tracing::warn!(%error, "the number of threads was not measured");
                inference.load(folder, options).await
            }
        }
    }

    /// Says where KV rows are kept. Without snapshots the chat goes on, and a notice says why there are none;
    /// so does what is returned.
    pub(crate) async fn keep_kv(&self) -> Option<String> {
        let _one_at_a_time = self.0.keeping.lock().await;
        let settings = self.state().settings.clone();
        let keeping = KvKeeping {
            memory_bytes: settings.kv_memory_bytes.unwrap_or_else(system::kv_memory),
            // With a budget of nothing too: what lies there has to go.
            folder: Some(self.0.directories.snapshots()),
            disk_bytes: settings.kv_disk_bytes,
        };
        // Where the inference side has ended the load says so.
        let trouble = self.0.inference.keep_kv(keeping).await.unwrap_or_default();
        let trouble = trouble.filter(|_| settings.kv_disk_bytes != Some(0));
        self.0.notices.say_of_snapshots(trouble.as_deref());
        trouble
    }

    /// The budget of KV snapshots that was chosen; `None` for the default.
    pub(crate) fn chosen_snapshot_budget(&self) -> Option<u64> {
        self.state().settings.kv_disk_bytes
    }

    /// Chooses the budget of KV snapshots, and remembers the choice.
    pub(crate) fn choose_snapshot_budget(&self, bytes: Option<u64>) {
        let mut state = self.state();
        if state.settings.kv_disk_bytes == bytes {
            return;
        }
        state.settings.kv_disk_bytes = bytes;
        if state.remembers {
            self.save(&state.settings);
        }
    }

    /// Notes that the model is gone, after a crash.
    pub(crate) fn lost(&self, error: &Error) {
        let mut state = self.state();
        if let Some(loaded) = state.loaded.take() {
            state.states.insert(loaded.id, ModelState::Failed(error.clone()));
        }
        drop(state);
        self.changed(Change::Models);
    }

    /// How models are loaded on this machine.
    ///
    /// # Errors
    /// [`Error::LibraryMissing`].
    pub fn load_options(&self) -> Result<LoadOptions> {
        let library: PathBuf = self.0.directories.library()?;
        let measured = ThreadSpeeds::open(&self.0.directories.machine()).map(|speeds| speeds.best());
        let state = self.state();
        Ok(LoadOptions {
            threads: Some(state.settings.threads.or(measured).unwrap_or_else(system::threads)),
            execution_provider: state.settings.execution_provider,
            cache_window: state.settings.cache_window,
            ..LoadOptions::with_library(library)
        })
    }

    /// How `model` is loaded on this machine.
    ///
    /// # Errors
    /// [`Error::LibraryMissing`].
    pub fn load_options_of(&self, model: &InstalledModel) -> Result<LoadOptions> {
        Ok(self.suited(self.load_options()?, model))
    }

    fn suited(&self, options: LoadOptions, model: &InstalledModel) -> LoadOptions {
        let context =
            || Catalog::entry_in(&model.folder).and_then(|entry| usize::try_from(entry.context).ok());
        LoadOptions {
            other_names: self.0.store.knows_files(model),
            cache_window: options.cache_window.or_else(context),
            ..options
        }
    }

    fn save(&self, settings: &Settings) {
        let saved = Settings::update(&self.0.directories.settings(), |kept| {
            // What is chosen here, and nothing else: the rest may have been changed by hand meanwhile.
            kept.model.clone_from(&settings.model);
            kept.kv_disk_bytes = settings.kv_disk_bytes;
        });
        match saved {
            Ok(()) => self.0.notices.clear("settings"),
            Err(error) => {
                self.0.notices.add(
                    Severity::Warning,
                    "settings",
                    format!("Your choice is in use and could not be saved: {error}."),
                );
            }
        }
        self.changed(Change::Notices);
    }

    fn set_state(&self, model: &str, state: ModelState) {
        self.state().states.insert(model.to_owned(), state);
        self.changed(Change::Models);
    }

    fn changed(&self, change: Change) {
        // Without listeners there is nobody to tell.
        self.0.changes.send(change).ok();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a model still is what was installed, as far as a look tells. Files that were written since are read,
/// which takes a while.
async fn check_files(model: &InstalledModel) -> Result<()> {
    let model = model.clone();
    let checked = tokio::task::spawn_blocking(move || ModelStore::check_before_load(&model));
    checked.await.unwrap_or(Err(Error::InferenceEnded))
}
