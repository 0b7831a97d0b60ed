//! Asks the user for a file or folder, by the system's own dialogue.

use std::path::PathBuf;

use tauri::AppHandle;
use tauri_plugin_dialog::{DialogExt, FileDialogBuilder, FilePath};
use tokio::sync::oneshot;

/// Where to write a file that is called `name` unless the user says otherwise.
pub(crate) async fn file_to_write(app: &AppHandle, name: &str) -> Option<PathBuf> {
    ask(app, Some(name), |dialogue, chosen| dialogue.save_file(chosen)).await
}

/// Which folder: that of a model to read, or the one to keep models in.
pub(crate) async fn folder(app: &AppHandle) -> Option<PathBuf> {
    ask(app, None, |dialogue, chosen| dialogue.pick_folder(chosen)).await
}

/// Which file of conversations to read.
pub(crate) async fn file_to_read(app: &AppHandle) -> Option<PathBuf> {
    ask(app, None, |dialogue, chosen| dialogue.add_filter("Conversations", &["json"]).pick_file(chosen)).await
}

type Chosen = Box<dyn FnOnce(Option<FilePath>) + Send>;

/// Shows a dialogue that proposes `name`, and waits for its answer.
async fn ask(
    app: &AppHandle,
    name: Option<&str>,
    show: impl FnOnce(FileDialogBuilder<tauri::Wry>, Chosen),
) -> Option<PathBuf> {
    #[cfg(debug_assertions)]
    if let Some(answer) = answer_of_a_test(name) {
        return answer;
    }
    let (chosen, answer) = oneshot::channel();
    let chosen = move |path| {
        // Where nobody waits any longer, nobody wants the file.
        chosen.send(path).ok();
    };
    let dialogue = app.dialog().file();
    let dialogue = match name {
        Some(name) => dialogue.set_file_name(name),
        None => dialogue,
    };
    show(dialogue, Box::new(chosen));
    answer.await.ok()??.into_path().ok()
}

/// What the end-to-end test answers in the user's place, which no driver of web views can: the path in the file that
/// `HEARTH_DIALOGUE_ANSWER` names; behind one that ends in a slash the proposed name is added, and an empty file
/// stands for a dialogue that was closed. Only in builds for developers: in others paths come from the system alone.
#[cfg(debug_assertions)]
fn answer_of_a_test(name: Option<&str>) -> Option<Option<PathBuf>> {
    let file = std::env::var_os("HEARTH_DIALOGUE_ANSWER")?;
    let path = std::fs::read_to_string(file).unwrap_or_default();
    let path = path.trim();
    Some(match path {
        "" => None,
        folder if folder.ends_with('/') => Some(PathBuf::from(folder).join(name.unwrap_or_default())),
        path => Some(PathBuf::from(path)),
    })
}
