//! Which model answers: choosing, loading, and what came of it. `loading` says how one is loaded, `preparing`
//! prepares one before, `preferences` are the settings that all of it follows.

mod loading;
mod preferences;
mod preparing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{LoadedModel, PrepareProgress};
use tokio::sync::{OwnedMutexGuard, broadcast};

use crate::Change;
use crate::directories::AppDirs;
use crate::error::{Error, Result};
use crate::inference::{Canceller, Inference};
use crate::notices::{Notices, Severity};
use crate::settings::{Overrides, Settings};
use crate::store::InstalledModel;
use crate::token::{AccessToken, TokenStore};
use loading::{LoadChoice, check_files};

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

/// The models and the one that answers. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    directories: AppDirs,
    inference: Inference,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
    access: AccessToken,
    state: Mutex<State>,
    /// One load at a time, in the order asked for.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Held from the look at the settings until the inference side has taken them up.
    keeping: tokio::sync::Mutex<()>,
}

struct State {
    settings: Settings,
    /// What this run of the program asks for in the place of the settings.
    overrides: Overrides,
    /// Whether a choice of model is written to the settings.
    remembers: bool,
    /// Whether a model is prepared before it is loaded for the first time.
    prepares: bool,
    /// Whether the files of models are being moved; none is prepared then.
    is_moving: bool,
    /// The preparation under way, by its model.
    preparing: Option<(String, Canceller)>,
    /// Models whose preparation was skipped: they are not asked about again until the next start.
    skipped: HashSet<String>,
    models: Vec<InstalledModel>,
    selected: Option<String>,
    states: HashMap<String, ModelState>,
    loaded: Option<Loaded>,
}

impl State {
    /// Lets the model `id` answer. Whoever wants it now does not wait for another one that is being prepared.
    fn select(&mut self, id: &str) {
        self.selected = Some(id.to_owned());
        if let Some((preparing, canceller)) = &self.preparing
            && preparing != id
        {
            canceller.cancel();
        }
    }
}

#[derive(Clone)]
struct Loaded {
    id: String,
    about: LoadedModel,
    /// What was asked of the load.
    choice: LoadChoice,
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
        (settings, overrides): (Settings, Overrides),
        tokens: Arc<dyn TokenStore>,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        let path = directories.settings();
        let access =
            AccessToken::new(tokens, path, settings.access_token, Arc::clone(&notices), changes.clone());
        let state = State {
            settings,
            overrides,
            remembers: true,
            prepares: true,
            is_moving: false,
            preparing: None,
            skipped: HashSet::new(),
            models: Vec::new(),
            selected: None,
            states: HashMap::new(),
            loaded: None,
        };
        let models = Self(Arc::new(Inner {
            directories: directories.clone(),
            inference,
            notices,
            changes,
            access,
            state: Mutex::new(state),
            loading: Arc::default(),
            keeping: tokio::sync::Mutex::default(),
        }));
        models.find_first();
        models
    }

    /// Finds the models, and the one to begin with.
    fn find_first(&self) {
        let store = self.store();
        let mut state = self.state();
        let wanted = state.overrides.model.clone().or_else(|| state.settings.model.clone());
        let preferred = store.preferred(wanted.as_deref()).ok();
        state.models = store.models();
        state.selected = preferred.as_ref().map(|model| model.id.clone());
        // One that was chosen by its path is in no list.
        let unlisted = preferred.filter(|model| !state.models.iter().any(|known| known.id == model.id));
        state.models.extend(unlisted);
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

    /// The bytes of one token in the KV cache of the model `id`, where it is loaded.
    pub(crate) fn loaded_row(&self, id: &str) -> Option<u64> {
        let state = self.state();
        let loaded = state.loaded.as_ref().filter(|loaded| loaded.id == id)?;
        Some(loaded.about.spec.kv_bytes_per_token as u64)
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
    pub fn require_known(&self, id: &str) -> Result<()> {
        let is_known = |models: &[InstalledModel]| models.iter().any(|model| model.id == id);
        if is_known(&self.state().models) || is_known(&self.store().models()) {
            return Ok(());
        }
        let known = "choose one of those in the list".into();
        Err(Error::ModelUnknown { id: id.to_owned(), known })
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
        let found = self.store().models();
        let mut state = self.state();
        let by_path = state.models.iter().filter(|model| Path::new(&model.id).is_absolute()).cloned();
        let kept: Vec<InstalledModel> = by_path.filter(|model| model.folder.is_dir()).collect();
        state.models = found.into_iter().chain(kept).collect();
        let there: HashSet<String> = state.models.iter().map(|model| model.id.clone()).collect();
        state.states.retain(|id, _| there.contains(id));
        drop(state);
        self.changed(Change::Models);
    }

    /// Chooses the model of a conversation that is shown, if it is installed, and begins to load it. What new
    /// conversations begin with stays as it is.
    pub(crate) fn choose_for_now(&self, id: &str) {
        {
            let mut state = self.state();
            if !state.models.iter().any(|model| model.id == id) {
                return;
            }
            state.select(id);
        }
        self.changed(Change::Models);
        let models = self.clone();
        // What went wrong is the state of the model.
        tokio::spawn(async move { models.ready().await.ok() });
    }

    /// Chooses the model that is to answer, and loads nothing yet.
    pub(crate) fn choose(&self, id: &str) -> Result<()> {
        let store = self.store();
        let model = store.find(id)?;
        let models = store.models();
        let is_news = {
            let mut state = self.state();
            state.models = models;
            if !state.models.iter().any(|known| known.id == model.id) {
                state.models.push(model.clone());
            }
            state.select(&model.id);
            state.remembers && state.settings.model.as_ref() != Some(&model.id)
        };
        if is_news {
            self.remember_choice(&model.id);
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

    /// The model that answers, where it is loaded as it is wanted now.
    fn loaded_selected(&self) -> Option<ReadyModel> {
        let model = self.selected_model()?;
        let choice = self.load_choice(&model.id);
        let loaded = self.state().loaded.clone()?;
        let is_it = loaded.id == model.id && loaded.choice == choice;
        is_it.then_some(ReadyModel { model, about: loaded.about })
    }

    async fn load_selected(&self) -> Result<(ReadyModel, OwnedMutexGuard<()>)> {
        let held = Arc::clone(&self.0.loading).lock_owned().await;
        let (model, checked) = loop {
            let Some(model) = self.selected_model() else {
                return Err(Error::NoModel { folder: self.library_folder() });
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
        let choice = self.load_choice(&model.id);
        let result = match checked.and_then(|()| self.load_options_of(&model)) {
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
                    let (id, about) = (model.id.clone(), ready.about.clone());
                    state.loaded = Some(Loaded { id, about, choice });
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

    /// Notes that the model is gone, after a crash.
    pub(crate) fn lost(&self, error: &Error) {
        let mut state = self.state();
        if let Some(loaded) = state.loaded.take() {
            state.states.insert(loaded.id, ModelState::Failed(error.clone()));
        }
        drop(state);
        self.changed(Change::Models);
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
