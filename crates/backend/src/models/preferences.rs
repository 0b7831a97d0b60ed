//! The settings, as the models and what is around them follow them.

use std::path::PathBuf;
use std::sync::Arc;

use super::{ModelState, Models};
use crate::Change;
use crate::error::Result;
use crate::hub::NetworkSettings;
use crate::library::Library;
use crate::messages::KvKeeping;
use crate::model_defaults::ModelDefaults;
use crate::notices::Severity;
use crate::settings::Settings;
use crate::store::ModelStore;
use crate::system;
use crate::token::AccessToken;

impl Models {
    /// Changes the settings, on the disk first, where nothing else of them is touched. Where that fails they stay
    /// as they are.
    pub(crate) fn change_settings(&self, change: impl Fn(&mut Settings)) -> Result<()> {
        let mut state = self.state();
        Settings::update(&self.0.directories.settings(), &change)?;
        change(&mut state.settings);
        Ok(())
    }

    /// The settings as they are in force.
    pub(crate) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// From now on a choice of model is one of this run only.
    pub(crate) fn leave_settings(&self) {
        self.state().remembers = false;
    }

    /// From now on models are loaded as they are.
    pub(crate) fn leave_graphs(&self) {
        self.state().prepares = false;
    }

    /// Remembers which model was chosen. It answers also where that cannot be kept, which a notice says.
    pub(super) fn remember_choice(&self, id: &str) {
        match self.change_settings(|settings| settings.model = Some(id.to_owned())) {
            Ok(()) => self.0.notices.clear("settings"),
            Err(error) => {
                let message = format!("Your choice is in use and could not be saved: {error}.");
                self.0.notices.add(Severity::Warning, "settings", message);
            }
        }
        self.changed(Change::Notices);
    }

    /// The model library, with the network as the settings say now.
    pub(crate) fn library(&self) -> Library {
        Library::over(self.store(), &self.0.directories, &self.network(), self.0.access.clone())
    }

    /// The hub's access token.
    pub(crate) fn access_token(&self) -> &AccessToken {
        &self.0.access
    }

    /// How requests may leave.
    pub fn network(&self) -> NetworkSettings {
        self.state().settings.network.clone()
    }

    /// Lets requests leave so from now on.
    pub(crate) fn set_network(&self, network: NetworkSettings) -> Result<()> {
        network.check()?;
        self.change_settings(|settings| settings.network = network.clone())
    }

    /// Whether the user knows what it means to take a model from outside of the catalogue.
    pub fn knows_other_sources(&self) -> bool {
        self.state().settings.knows_other_sources
    }

    /// Notes that the user was told so.
    ///
    /// # Errors
    /// [`crate::Error::DataFolder`]; it is asked again then.
    pub fn note_other_sources(&self) -> Result<()> {
        self.change_settings(|settings| settings.knows_other_sources = true)
    }

    /// What the user wants of the model `id`.
    pub fn defaults_of(&self, id: &str) -> ModelDefaults {
        self.state().settings.models.get(id).cloned().unwrap_or_default()
    }

    /// Remembers what the user wants of the model `id`.
    ///
    /// # Errors
    /// [`crate::Error::DataFolder`]; all stays as it was then.
    pub(crate) fn set_defaults(&self, id: &str, defaults: &ModelDefaults) -> Result<()> {
        self.change_settings(|settings| {
            if defaults.is_empty() {
                settings.models.remove(id);
            } else {
                settings.models.insert(id.to_owned(), defaults.clone());
            }
        })
    }

    /// Where models are kept.
    pub fn library_folder(&self) -> PathBuf {
        self.store().folder().to_path_buf()
    }

    /// The models on this machine.
    pub fn store(&self) -> ModelStore {
        let chosen = self.state().settings.library.clone().filter(|folder| folder.is_absolute());
        match chosen {
            Some(folder) => ModelStore::in_folder(&self.0.directories, folder),
            None => ModelStore::new(&self.0.directories),
        }
    }

    /// Keeps models in `folder` from now on, or in the data folder's own place. Waits for a load or reply under way,
    /// and frees a model that was loaded from the other folder.
    ///
    /// # Errors
    /// [`crate::Error::DataFolder`]; all stays as it was then. [`crate::Error::InferenceEnded`].
    pub(crate) async fn switch_library(&self, folder: Option<PathBuf>) -> Result<()> {
        let _held = Arc::clone(&self.0.loading).lock_owned().await;
        let old = self.library_folder();
        let is_of_old = |id: &str| {
            let models = self.all();
            models.iter().any(|(model, _)| model.id == id && model.folder.starts_with(&old))
        };
        let loaded = self.state().loaded.as_ref().map(|loaded| loaded.id.clone());
        if let Some(id) = loaded.filter(|id| is_of_old(id)) {
            self.0.inference.unload().await?;
            self.state().loaded = None;
            self.set_state(&id, ModelState::Available);
            self.changed(Change::About);
        }
        self.change_settings(|settings| settings.library.clone_from(&folder))?;
        self.refresh();
        if self.selected_model().is_none() {
            self.find_first();
            self.changed(Change::Models);
        }
        Ok(())
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
    ///
    /// # Errors
    /// [`crate::Error::DataFolder`]; the budget stays as it was then.
    pub(crate) fn choose_snapshot_budget(&self, bytes: Option<u64>) -> Result<()> {
        self.change_settings(|settings| settings.kv_disk_bytes = bytes)
    }
}
