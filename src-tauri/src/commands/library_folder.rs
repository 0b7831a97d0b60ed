//! Commands of the folder that models are kept in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend::{Backend, CancellationToken, LibraryMove, MoveOutcome};
use tauri::ipc::Channel;
use tauri::{AppHandle, State};

use super::{Result, waiting};
use crate::dialogs;
use crate::ipc::MoveProgress;

/// Between two tellings of a move: more would keep the window busy with them.
const TELLING: Duration = Duration::from_millis(50);

/// Stops the move under way.
#[derive(Default)]
pub(crate) struct MoveStop(Mutex<CancellationToken>);

impl MoveStop {
    /// What stops the move that begins now.
    fn begin(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stop.clone();
        stop
    }

    fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}

/// Asks for a folder and moves the models there; downloads under way pause meanwhile. Resolves with the folder, or
/// with null where none was chosen or the move was stopped.
#[tauri::command]
#[specta::specta]
pub(crate) async fn move_library(
    app: AppHandle,
    backend: State<'_, Backend>,
    stop: State<'_, MoveStop>,
    on_progress: Channel<MoveProgress>,
) -> Result<Option<String>> {
    let stop = stop.begin();
    let Some(folder) = dialogs::folder(&app).await else { return Ok(None) };
    let wanted = LibraryMove { folder, pauses_downloads: true, copies: false };
    let mut told = None::<Instant>;
    let moved = backend.move_library(&wanted, &stop, move |progress| {
        if progress.done < progress.total && told.is_some_and(|told| told.elapsed() < TELLING) {
            return;
        }
        told = Some(Instant::now());
        // A window that is gone misses it; the result is the truth.
        on_progress.send(progress.into()).ok();
    });
    Ok(match moved.await? {
        MoveOutcome::Moved(folder) => Some(folder.display().to_string()),
        MoveOutcome::Cancelled => None,
    })
}

/// Stops the move under way, as long as the new folder does not count yet.
#[tauri::command]
#[specta::specta]
pub(crate) async fn cancel_library_move(stop: State<'_, MoveStop>) -> Result<()> {
    stop.stop();
    Ok(())
}

/// Looks again for a folder of models that was away.
#[tauri::command]
#[specta::specta]
pub(crate) async fn look_for_library(backend: State<'_, Backend>) -> Result<()> {
    waiting(&backend, Backend::look_for_library).await
}

/// Keeps models in the default folder from now on. What lies in the other one stays there.
#[tauri::command]
#[specta::specta]
pub(crate) async fn use_default_library(backend: State<'_, Backend>) -> Result<()> {
    Ok(backend.use_default_library().await?)
}
