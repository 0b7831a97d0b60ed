//! Models that were removed: out of the library at once, deleted when the application ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::store::staging::Aside;
use crate::store::{InstalledModel, ModelStore};

/// A model that was removed and can be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedModel {
    pub id: String,
    pub name: String,
    /// Bytes of all files.
    pub size: u64,
}

/// The removed models of this run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removals {
    removed: Arc<Mutex<Vec<(RemovedModel, Aside)>>>,
}

impl Removals {
    /// The removed models, the oldest first.
    pub(crate) fn list(&self) -> Vec<RemovedModel> {
        self.removed().iter().map(|(about, _)| about.clone()).collect()
    }

    /// Takes a model out of the library of `store`.
    ///
    /// # Errors
    /// As [`ModelStore::remove`].
    pub(crate) fn remove(&self, store: &ModelStore, model: &InstalledModel) -> Result<()> {
        let aside = store.set_aside(model)?;
        let about = RemovedModel { id: model.id.clone(), name: model.name.clone(), size: model.size };
        self.removed().push((about, aside));
        Ok(())
    }

    /// Puts a model back. The last one of its name, where there are several.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`]; [`Error::Library`] where something lies in its place, and it stays removed.
    pub(crate) fn restore(&self, id: &str) -> Result<()> {
        self.take(id, Aside::restore)
    }

    /// Deletes a removed model for good.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], [`Error::Library`].
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        self.take(id, Aside::delete)
    }

    /// Deletes all of them for good.
    pub(crate) fn delete_all(&self) {
        for (about, aside) in self.removed().drain(..) {
            if let Err(error) = aside.delete() {
                // The next start tries again.
                tracing::warn!(model = about.id, %error, "a removed model was not deleted");
            }
        }
    }

    fn take(&self, id: &str, act: impl FnOnce(&Aside) -> Result<()>) -> Result<()> {
        let mut removed = self.removed();
        let found = removed.iter().rposition(|(about, _)| about.id == id);
        let index = found.ok_or_else(|| Error::ModelUnknown {
            id: id.to_owned(),
            known: "no removed model of this name can be put back".into(),
        })?;
        act(&removed[index].1)?;
        removed.remove(index);
        Ok(())
    }

    fn removed(&self) -> MutexGuard<'_, Vec<(RemovedModel, Aside)>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
