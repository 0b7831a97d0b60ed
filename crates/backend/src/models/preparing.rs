//! Preparing: the graph of a model is rewritten for this machine before the model is loaded for the first time.

use std::sync::Arc;

use engine::onnx::ExecutionProviderChoice;
use engine::{FailureKind, PrepareOptions, PrepareProgress, Prepared};

use super::{ModelState, Models};
use crate::Change;
use crate::error::{Error, Result};
use crate::notices::Severity;
use crate::store::{InstalledModel, ModelSource};
use crate::system::Memory;

/// What notices about preparations are about.
const PREPARATION: &str = "preparation";

/// Whether a failure of this kind is about preparing a model and not about the model itself.
fn is_about_preparing(kind: FailureKind) -> bool {
    use FailureKind::{Crashed, DiskFull, Internal, ModelUnwritable, OutOfMemory};
    matches!(kind, ModelUnwritable | DiskFull | OutOfMemory | Crashed | Internal)
}

/// While it lives no model is prepared.
pub(crate) struct Unprepared(Models);

impl Drop for Unprepared {
    fn drop(&mut self) {
        self.0.state().is_moving = false;
    }
}

impl Models {
    /// Prepares a model before it is loaded for the first time. What goes wrong costs speed and is told; the
    /// model is loaded all the same.
    pub(super) async fn prepare_first(&self, model: &InstalledModel) {
        // Graphs are prepared for the CPU.
        let is_on_cpu = self.execution_provider() != ExecutionProviderChoice::CoreMl;
        let is_wanted = {
            let state = self.state();
            state.prepares && !state.is_moving && is_on_cpu && !state.skipped.contains(&model.id)
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
        let model = self.store().find(id)?;
        if model.source == ModelSource::BuiltIn {
            return Err(Error::ModelBuiltIn { id: model.id });
        }
        let _held = Arc::clone(&self.0.loading).lock_owned().await;
        let result = self.prepare_held(&model, force, false, on_progress).await;
        self.set_state(&model.id, ModelState::Available);
        result
    }

    /// Prepares no model while the returned value lives: its files are being moved.
    ///
    /// # Errors
    /// [`Error::Library`] while one is being prepared.
    pub(crate) fn leave_unprepared(&self) -> Result<Unprepared> {
        let folder = self.library_folder();
        let mut state = self.state();
        if state.preparing.is_some() {
            let reason = "a model is being prepared; wait until that has ended, or skip it";
            let (path, reason) = (folder.into(), reason.into());
            return Err(Error::Library { doing: "move the models from", path, reason });
        }
        state.is_moving = true;
        drop(state);
        Ok(Unprepared(self.clone()))
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
}
