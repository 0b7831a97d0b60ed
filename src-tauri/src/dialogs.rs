//! Asks the user for a file or folder, by the system's own dialogue.

use std::path::PathBuf;

use tauri::AppHandle;
use tauri_plugin_dialog::DialogExt;
use tokio::sync::oneshot;

/// Where to write a file that is called `name` unless the user says otherwise.
pub(crate) async fn file_to_write(app: &AppHandle, name: &str) -> Option<PathBuf> {
    let (chosen, answer) = oneshot::channel();
    app.dialog().file().set_file_name(name).save_file(move |path| {
        // Where nobody waits any longer, nobody wants the file.
        chosen.send(path).ok();
    });
    answer.await.ok()??.into_path().ok()
}

/// Which folder of a model to read.
pub(crate) async fn folder_to_read(app: &AppHandle) -> Option<PathBuf> {
    let (chosen, answer) = oneshot::channel();
    app.dialog().file().pick_folder(move |path| {
        chosen.send(path).ok();
    });
    answer.await.ok()??.into_path().ok()
}

/// Which file of conversations to read.
pub(crate) async fn file_to_read(app: &AppHandle) -> Option<PathBuf> {
    let (chosen, answer) = oneshot::channel();
    app.dialog().file().add_filter("Conversations", &["json"]).pick_file(move |path| {
        chosen.send(path).ok();
    });
    answer.await.ok()??.into_path().ok()
}
