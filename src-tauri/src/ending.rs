//! The end of a run: the window goes at once, and what the model has read is saved behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backend::Backend;
use tauri::{AppHandle, ExitRequestApi, Manager};

/// How long what the model has read may take to be saved.
const LIMIT: Duration = Duration::from_secs(2);

/// How far a run has come to its end.
#[derive(Default)]
pub(crate) struct Ending {
    has_begun: AtomicBool,
    is_saved: AtomicBool,
    /// Whether Hearth was started again meanwhile: then this run is followed by another.
    again: AtomicBool,
}

fn ending(app: &AppHandle) -> tauri::State<'_, Ending> {
    app.state::<Ending>()
}

/// Notes that the window is gone.
pub(crate) fn note_closed(app: &AppHandle) {
    ending(app).has_begun.store(true, Ordering::SeqCst);
}

/// Hearth was started once more, and that start ends by itself. Says whether this run has a window to show for it;
/// where its end has begun it is followed by another run, or the user would have started Hearth for nothing.
pub(crate) fn started_again(app: &AppHandle) -> bool {
    let ending = ending(app);
    if !ending.has_begun.load(Ordering::SeqCst) {
        return true;
    }
    ending.again.store(true, Ordering::SeqCst);
    // Whoever saves looks at `again` after that only: one of both sees what the other has noted.
    if ending.is_saved.load(Ordering::SeqCst) {
        app.request_restart();
    }
    false
}

/// Closes the window where the program is asked to end by a signal, as many systems do when the user logs out and
/// terminals do by Ctrl-C: without that the run would be cut off, and the next start would look through all
/// conversations for what that left behind.
#[cfg(unix)]
pub(crate) fn close_when_asked(window: &tauri::WebviewWindow) {
    use tokio::signal::unix::{SignalKind, signal};

    let window = window.clone();
    tauri::async_runtime::spawn(async move {
        let asked = signal(SignalKind::terminate())
            .and_then(|terminated| Ok((terminated, signal(SignalKind::interrupt())?)));
        let (mut terminated, mut interrupted) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(%error, "the end of the session will cut this run off");
                return;
            }
        };
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        // Asked again, it goes on ending: that takes no longer than the time that saving has.
        if let Err(error) = window.close() {
            tracing::warn!(%error, "the window could not be closed");
        }
    });
}

/// The last window is gone: saves, and ends then. The event loop runs on until then, or the system would leave the
/// picture of the window on the screen for as long.
pub(crate) fn end_when_saved(app: &AppHandle, code: Option<i32>, api: &ExitRequestApi) {
    if code.is_some() {
        return;
    }
    api.prevent_exit();
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let saving = app.clone();
        // A panic there was told of there, and must not keep the run from ending.
        tauri::async_runtime::spawn(async move { save_what_was_read(&saving).await }).await.ok();
        let ending = ending(&app);
        ending.is_saved.store(true, Ordering::SeqCst);
        if ending.again.load(Ordering::SeqCst) {
            app.request_restart();
        } else {
            app.exit(0);
        }
    });
}

/// The run ends now. Where the system ends it before anything was saved, that is done here.
pub(crate) fn end(app: &AppHandle) {
    if !ending(app).is_saved.swap(true, Ordering::SeqCst) {
        tauri::async_runtime::block_on(save_what_was_read(app));
    }
}

/// Gives what the model has read a moment to reach the disk: it is read again otherwise, nothing else.
async fn save_what_was_read(app: &AppHandle) {
    let Some(backend) = app.try_state::<Backend>() else { return };
    if let Ok(Err(error)) = tokio::time::timeout(2 * LIMIT, backend.close(LIMIT)).await {
        tracing::warn!(%error, "what the model has read was not saved");
    }
}
