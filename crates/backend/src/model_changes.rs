//! What changes the models on this machine, without pulling one from under a reply.

use crate::error::{Error, Result};
use crate::hub::NetworkSettings;
use crate::removals::RemovedModel;
use crate::store::InstalledModel;
use crate::{Backend, Change};

impl Backend {
    /// Takes an installed model out of the library. It is deleted when the application ends, and can be put back
    /// until then. Where it answers, its reply is stopped and its memory freed; no other one takes its place.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`]; [`Error::Unsupported`] for one that the user did not install;
    /// [`Error::Library`].
    pub async fn remove_model(&self, id: &str) -> Result<()> {
        let _unmoved = self.downloads.unmoved().await;
        let model = self.installed_model(id)?;
        if self.models.selected().as_deref() == Some(id) {
            self.chat.settle().await;
        }
        self.models.release(id).await?;
        let (removals, store) = (self.removals.clone(), self.models.store());
        waiting(move || removals.remove(&store, &model)).await?;
        self.models_changed();
        Ok(())
    }

    /// The removed models that can be put back.
    pub fn removed_models(&self) -> Vec<RemovedModel> {
        self.removals.list()
    }

    /// Puts a removed model back.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`]; [`Error::Library`] where something else has its place.
    pub async fn restore_model(&self, id: &str) -> Result<()> {
        let _unmoved = self.downloads.unmoved().await;
        let (removals, model) = (self.removals.clone(), id.to_owned());
        waiting(move || removals.restore(&model)).await?;
        self.models_changed();
        Ok(())
    }

    /// Deletes a removed model for good, before the application ends.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], [`Error::Library`].
    pub async fn delete_removed_model(&self, id: &str) -> Result<()> {
        let _unmoved = self.downloads.unmoved().await;
        let (removals, model) = (self.removals.clone(), id.to_owned());
        waiting(move || removals.delete(&model)).await?;
        self.models_changed();
        Ok(())
    }

    /// Compares every byte of an installed model and fetches what is wrong; returns how many files were wrong, or
    /// `None` where it was cancelled. The model is freed first, and loaded again where it is the one that answers.
    ///
    /// # Errors
    /// As [`crate::Library::repair`].
    pub async fn repair_model(&self, id: &str) -> Result<Option<usize>> {
        let model = self.installed_model(id)?;
        self.models.release(id).await?;
        let repaired = self.downloads.repair(model).await;
        if self.models.selected().as_deref() == Some(id) {
            let models = self.models.clone();
            // What went wrong is the state of the model.
            tokio::spawn(async move { models.ready().await.ok() });
        }
        repaired
    }

    /// Lets requests leave so from now on. Downloads under way go on by the new way, or stop where it is offline.
    ///
    /// # Errors
    /// [`Error::Hub`] for an address that may not be asked, [`Error::DataFolder`]; all stays as it was then.
    pub async fn set_network(&self, network: NetworkSettings) -> Result<()> {
        let interrupted = self.downloads.pause_all().await;
        let result = self.models.set_network(network);
        if !self.models.network().offline {
            for id in interrupted {
                self.downloads.resume(&id);
            }
        }
        result
    }

    fn installed_model(&self, id: &str) -> Result<InstalledModel> {
        let models = self.models.all().into_iter().map(|(model, _)| model);
        models.into_iter().find(|model| model.id == id).ok_or_else(|| Error::ModelUnknown {
            id: id.to_owned(),
            known: "it is not among those that are installed".into(),
        })
    }

    fn models_changed(&self) {
        self.models.refresh();
        self.changes.send(Change::Downloads).ok();
    }
}

/// Does work that waits for the disk, on a thread that may wait.
async fn waiting(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::InferenceEnded))
}
