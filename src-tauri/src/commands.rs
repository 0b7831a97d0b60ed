//! What the interface may call. Each command calls the backend and converts, nothing else.

use backend::{Backend, ReplyOptions};
use tauri::State;
use tauri::ipc::Channel;

use crate::containment;
use crate::ipc::{ChatEvent, Draft, Entry, ErrorCode, IpcError, Model, Reply, Snapshot, conversation_id};

// The build script gives each of these a permission; the capability grants them.
include!("command_names.rs");

type Result<T> = std::result::Result<T, IpcError>;

/// Everything that a window shows at first.
#[tauri::command]
#[specta::specta]
pub(crate) async fn snapshot(backend: State<'_, Backend>) -> Result<Snapshot> {
    Ok(Snapshot::of(&backend))
}

/// Sends a message. Resolves with the reply when it has ended, however it ended.
#[tauri::command]
#[specta::specta]
pub(crate) async fn send_message(
    backend: State<'_, Backend>,
    conversation: String,
    text: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let id = conversation_id(&conversation)?;
    Ok(backend.chat().send(id, text, ReplyOptions::default(), forward(on_event)).await?.into())
}

/// Goes on with the last reply where it was stopped.
#[tauri::command]
#[specta::specta]
pub(crate) async fn continue_reply(
    backend: State<'_, Backend>,
    conversation: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let id = conversation_id(&conversation)?;
    Ok(backend.chat().go_on(id, ReplyOptions::default(), forward(on_event)).await?.into())
}

/// Makes the last reply again.
#[tauri::command]
#[specta::specta]
pub(crate) async fn retry_reply(
    backend: State<'_, Backend>,
    conversation: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let id = conversation_id(&conversation)?;
    Ok(backend.chat().retry(id, ReplyOptions::default(), forward(on_event)).await?.into())
}

/// Stops the reply under way. What it said is kept.
#[tauri::command]
#[specta::specta]
pub(crate) async fn stop_reply(backend: State<'_, Backend>, conversation: String) -> Result<()> {
    conversation_id(&conversation)?;
    backend.chat().stop();
    Ok(())
}

/// Clears the model's memory of the conversation. Resolves with its line in the list.
#[tauri::command]
#[specta::specta]
pub(crate) async fn reset_memory(backend: State<'_, Backend>, conversation: String) -> Result<Entry> {
    Ok(backend.chat().reset(conversation_id(&conversation)?).await?.into())
}

/// Chooses the model that answers. Resolves when it is loaded.
#[tauri::command]
#[specta::specta]
pub(crate) async fn select_model(backend: State<'_, Backend>, id: String) -> Result<Model> {
    let ready = backend.select_model(&id).await?;
    Ok(Model::ready(&ready))
}

/// Stops preparing a model for this machine. It is loaded as it is.
#[tauri::command]
#[specta::specta]
pub(crate) async fn skip_preparation(backend: State<'_, Backend>) -> Result<()> {
    backend.models().skip_preparation();
    Ok(())
}

/// The tokens that a message would take.
#[tauri::command]
#[specta::specta]
pub(crate) async fn measure_draft(
    backend: State<'_, Backend>,
    conversation: String,
    text: String,
) -> Result<Draft> {
    Ok(backend.chat().measure(conversation_id(&conversation)?, text).await?.into())
}

/// Opens a link outside of the window, after the user was shown where it leads.
#[tauri::command]
#[specta::specta]
pub(crate) async fn open_link(url: String) -> Result<()> {
    let refused = |message: String| IpcError { code: ErrorCode::Internal, message };
    let link = containment::outside_link(&url)
        .ok_or_else(|| refused("only plain https, http and mailto links are opened".into()))?;
    tauri_plugin_opener::open_url(link.as_str(), None::<&str>)
        .map_err(|error| refused(format!("the system could not open the link: {error}")))
}

/// Takes a notice away.
#[tauri::command]
#[specta::specta]
pub(crate) async fn dismiss_notice(backend: State<'_, Backend>, id: String) -> Result<()> {
    backend.dismiss_notice(&id);
    Ok(())
}

/// Gives a turn's events to the window. A window that is gone misses them; the result is kept.
fn forward(channel: Channel<ChatEvent>) -> impl FnMut(backend::ChatEvent) + Send {
    move |event| {
        channel.send(event.into()).ok();
    }
}
