//! How a model is loaded: threads, provider and window, and what the catalogue adds to what the model's own files
//! say. Which of those who have a say goes first is in [`crate::model_defaults`].

use engine::onnx::ExecutionProviderChoice;
use engine::{LoadOptions, LoadedModel};

use super::{Inner, Models};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::model_defaults::ModelNumber;
use crate::store::{InstalledModel, ModelStore};
use crate::system;
use crate::thread_count::{self, ThreadSpeeds};

/// What a load was asked for. A model that was loaded with another choice than the one of now is loaded anew
/// before it answers the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoadChoice {
    threads: Option<usize>,
    context: Option<usize>,
}

impl Models {
    /// What the run, else the user for the model `id`, else the settings ask of a load.
    pub(super) fn load_choice(&self, id: &str) -> LoadChoice {
        let state = self.state();
        let chosen = |number| state.settings.models.get(id)?.count(number);
        let (overrides, settings) = (&state.overrides, &state.settings);
        LoadChoice {
            threads: overrides.threads.or(chosen(ModelNumber::Threads)).or(settings.threads),
            context: overrides.cache_window.or(chosen(ModelNumber::Context)).or(settings.cache_window),
        }
    }

    pub(super) fn execution_provider(&self) -> ExecutionProviderChoice {
        let state = self.state();
        state.overrides.execution_provider.unwrap_or(state.settings.execution_provider)
    }

    /// The threads that models are loaded with where nobody chose: as many as were measured to be the best.
    pub(crate) fn usual_threads(&self) -> usize {
        let measured = ThreadSpeeds::open(&self.0.directories.machine()).map(|speeds| speeds.best());
        measured.unwrap_or_else(system::threads)
    }

    /// How `model` is loaded on this machine.
    ///
    /// # Errors
    /// [`Error::LibraryMissing`].
    pub fn load_options_of(&self, model: &InstalledModel) -> Result<LoadOptions> {
        let library = self.0.directories.library()?;
        let LoadChoice { threads, context } = self.load_choice(&model.id);
        let entry_context =
            || Catalog::entry_in(&model.folder).and_then(|entry| usize::try_from(entry.context).ok());
        Ok(LoadOptions {
            threads: Some(threads.unwrap_or_else(|| self.usual_threads())),
            execution_provider: self.execution_provider(),
            cache_window: context.or_else(entry_context),
            other_names: self.store().knows_files(model),
            ..LoadOptions::with_library(library)
        })
    }

    /// Loads a model, and adds what the catalogue knows of it to what its own files say.
    pub(super) async fn load(&self, model: &InstalledModel, options: LoadOptions) -> Result<LoadedModel> {
        let mut loaded = self.load_measured(model, options).await?;
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
        let is_chosen = self.load_choice(&model.id).threads.is_some();
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
}

/// Whether a model still is what was installed, as far as a look tells. Files that were written since are read,
/// which takes a while.
pub(super) async fn check_files(model: &InstalledModel) -> Result<()> {
    let model = model.clone();
    let checked = tokio::task::spawn_blocking(move || ModelStore::check_before_load(&model));
    checked.await.unwrap_or(Err(Error::InferenceEnded))
}
