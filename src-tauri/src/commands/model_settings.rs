//! Commands of the settings of one model.

use backend::Backend;
use tauri::State;

use super::{Result, waiting};
use crate::ipc::{ModelChoice, ModelSettings};

/// The settings of a model, with what is in force and why.
#[tauri::command]
#[specta::specta]
pub(crate) async fn read_model_settings(backend: State<'_, Backend>, id: String) -> Result<ModelSettings> {
    let settings = waiting(&backend, move |backend| {
        backend.models().require_known(&id)?;
        backend.model_settings(&id)
    });
    Ok(settings.await?.into())
}

/// Remembers what the user wants of a model. It holds from the next reply on. Resolves with what is in force then.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_model_settings(
    backend: State<'_, Backend>,
    id: String,
    choice: ModelChoice,
) -> Result<ModelSettings> {
    let defaults = choice.applied_to(backend.models().defaults_of(&id))?;
    let settings = waiting(&backend, move |backend| {
        backend.models().require_known(&id)?;
        backend.set_model_defaults(&id, &defaults)?;
        backend.model_settings(&id)
    });
    let settings = settings.await?.into();
    let following = backend.inner().clone();
    tauri::async_runtime::spawn(async move { following.follow_model_defaults().await });
    Ok(settings)
}
