//! Commands of the model library.

use backend::hub::{RepositoryId, RepositoryLink};
use backend::{Backend, ImportMode};
use tauri::{AppHandle, State};

use super::{Result, waiting};
use crate::dialogs;
use crate::ipc::{DownloadsChanged, LibraryContents, RefreshedList, RepositoryHit, RepositoryOffer};

/// The most repositories that a search returns.
const MOST_HITS: usize = 20;

/// What there is in the library.
#[tauri::command]
#[specta::specta]
pub(crate) async fn read_library(backend: State<'_, Backend>) -> Result<LibraryContents> {
    waiting(&backend, |backend| Ok(LibraryContents::read(backend))).await
}

/// What is on its way, and what was removed.
#[tauri::command]
#[specta::specta]
pub(crate) async fn list_downloads(backend: State<'_, Backend>) -> Result<DownloadsChanged> {
    Ok(DownloadsChanged::of(&backend))
}

/// Seeks repositories of chat models by words of their names. Asks the hub.
#[tauri::command]
#[specta::specta]
pub(crate) async fn search_hub(backend: State<'_, Backend>, words: String) -> Result<Vec<RepositoryHit>> {
    let hits = backend.library().hub().search(&words, MOST_HITS).await?;
    Ok(hits.into_iter().map(RepositoryHit::from).collect())
}

/// Reads which models a repository has, `owner/name` or a link to it. Asks the hub.
#[tauri::command]
#[specta::specta]
pub(crate) async fn look_up_repository(
    backend: State<'_, Backend>,
    repository: String,
) -> Result<RepositoryOffer> {
    let library = backend.library();
    let RepositoryLink { id, revision } = library.hub().link(&repository)?;
    let offer = library.offer(&id, revision.as_deref()).await?;
    Ok(RepositoryOffer::new(&offer, &backend))
}

/// Fetches a model of a list, by the name that it has there. Resolves when it is on its way.
#[tauri::command]
#[specta::specta]
pub(crate) async fn download_listed(backend: State<'_, Backend>, id: String) -> Result<()> {
    backend.downloads().start_entry(&id).await?;
    Ok(())
}

/// Fetches a model of any repository. Resolves when it is on its way.
#[tauri::command]
#[specta::specta]
pub(crate) async fn download_variant(
    backend: State<'_, Backend>,
    repository: String,
    commit: String,
    variant: String,
) -> Result<()> {
    let repository = RepositoryId::parse(&repository)?;
    backend.downloads().start_variant(&repository, &commit, &variant).await?;
    Ok(())
}

/// Notes that the user was told what it means to take a model from outside of the catalogue.
#[tauri::command]
#[specta::specta]
pub(crate) async fn note_other_sources(backend: State<'_, Backend>) -> Result<()> {
    waiting(&backend, |backend| backend.models().note_other_sources()).await
}

/// Stops a download and keeps what came. Resolves when it has stopped.
#[tauri::command]
#[specta::specta]
pub(crate) async fn pause_download(backend: State<'_, Backend>, id: String) -> Result<()> {
    backend.downloads().pause(&id).await;
    Ok(())
}

/// Goes on with a download that was stopped or has failed.
#[tauri::command]
#[specta::specta]
pub(crate) async fn resume_download(backend: State<'_, Backend>, id: String) -> Result<()> {
    backend.downloads().resume(&id);
    Ok(())
}

/// Stops a download and deletes what came of it.
#[tauri::command]
#[specta::specta]
pub(crate) async fn cancel_download(backend: State<'_, Backend>, id: String) -> Result<()> {
    Ok(backend.downloads().cancel(&id).await?)
}

/// Compares every byte of an installed model and fetches what is wrong. Resolves with the number of files that
/// were wrong, or with null where it was cancelled.
#[tauri::command]
#[specta::specta]
pub(crate) async fn repair_model(backend: State<'_, Backend>, id: String) -> Result<Option<u32>> {
    let wrong = backend.repair_model(&id).await?;
    Ok(wrong.map(|files| u32::try_from(files).unwrap_or(u32::MAX)))
}

/// Removes an installed model. It is deleted when Hearth ends.
#[tauri::command]
#[specta::specta]
pub(crate) async fn remove_model(backend: State<'_, Backend>, id: String) -> Result<()> {
    Ok(backend.remove_model(&id).await?)
}

/// Puts a removed model back.
#[tauri::command]
#[specta::specta]
pub(crate) async fn restore_model(backend: State<'_, Backend>, id: String) -> Result<()> {
    Ok(backend.restore_model(&id).await?)
}

/// Deletes a removed model now.
#[tauri::command]
#[specta::specta]
pub(crate) async fn delete_removed_model(backend: State<'_, Backend>, id: String) -> Result<()> {
    Ok(backend.delete_removed_model(&id).await?)
}

/// Asks for a folder and takes the model in it in, copied or linked. Resolves with false where none was chosen.
#[tauri::command]
#[specta::specta]
pub(crate) async fn import_model(
    app: AppHandle,
    backend: State<'_, Backend>,
    is_linked: bool,
) -> Result<bool> {
    let Some(folder) = dialogs::folder(&app).await else { return Ok(false) };
    let mode = if is_linked { ImportMode::Link } else { ImportMode::Copy };
    backend.downloads().import(&folder, mode);
    Ok(true)
}

/// Fetches the list of models that the settings name. Resolves with what came.
#[tauri::command]
#[specta::specta]
pub(crate) async fn refresh_list(backend: State<'_, Backend>) -> Result<RefreshedList> {
    Ok(RefreshedList::from(&backend.refresh_catalog().await?))
}

/// Leaves the list that was fetched: Hearth's own is all there is.
#[tauri::command]
#[specta::specta]
pub(crate) async fn leave_refreshed_list(backend: State<'_, Backend>) -> Result<()> {
    waiting(&backend, |backend| backend.library().leave_refreshed_catalog()).await
}
