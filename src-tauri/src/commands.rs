//! What the interface may call. Each command calls the backend and converts, nothing else.

use backend::{Backend, ReplyOptions};
use tauri::ipc::Channel;
use tauri::{AppHandle, State};

use crate::ipc::{
    ChatEvent, Conversation, ConversationPage, Deletion, Draft, ErrorCode, ExportFormat, FIRST_MESSAGES,
    FreedMemory, ImportReport, IpcError, KeptMemory, Model, Reply, Reset, SearchHit, Snapshot, id,
};
use crate::{containment, dialogs};

pub(crate) mod library;
pub(crate) mod library_folder;
pub(crate) mod model_settings;
pub(crate) mod network;

// The build script gives each of these a permission; the capability grants them.
include!("command_names.rs");

type Result<T> = std::result::Result<T, IpcError>;

/// Everything that a window shows at first.
#[tauri::command]
#[specta::specta]
pub(crate) async fn snapshot(backend: State<'_, Backend>) -> Result<Snapshot> {
    waiting(&backend, Snapshot::read).await
}

/// `most` conversations after the first `skip`, the pinned ones first, then the newest.
#[tauri::command]
#[specta::specta]
pub(crate) async fn list_conversations(
    backend: State<'_, Backend>,
    skip: u32,
    most: u32,
) -> Result<ConversationPage> {
    waiting(&backend, move |backend| ConversationPage::read(backend, skip as usize, most as usize)).await
}

/// Where words stand in titles and messages. The last word may be the beginning of one.
#[tauri::command]
#[specta::specta]
pub(crate) async fn search_conversations(
    backend: State<'_, Backend>,
    words: String,
    most: u32,
) -> Result<Vec<SearchHit>> {
    let hits = waiting(&backend, move |backend| backend.history().search(&words, most as usize)).await?;
    Ok(hits.into_iter().map(SearchHit::from).collect())
}

/// Shows a conversation, with the last `most` messages of its current branch; its model loads meanwhile.
#[tauri::command]
#[specta::specta]
pub(crate) async fn open_conversation(
    backend: State<'_, Backend>,
    conversation: String,
    most: u32,
) -> Result<Conversation> {
    Ok(backend.open_conversation(id(&conversation)?, most as usize).await?.into())
}

/// Begins a conversation and shows it. It is listed from its first message on; of a private one nothing is
/// ever written.
#[tauri::command]
#[specta::specta]
pub(crate) async fn new_conversation(backend: State<'_, Backend>, is_private: bool) -> Result<Conversation> {
    let begun = waiting(&backend, move |backend| {
        let id = backend.history().begin(is_private)?;
        backend.chat().conversation(id, FIRST_MESSAGES)
    });
    Ok(begun.await?.into())
}

/// Gives a conversation a title; an empty one lets its first message name it again.
#[tauri::command]
#[specta::specta]
pub(crate) async fn rename_conversation(
    backend: State<'_, Backend>,
    conversation: String,
    title: String,
) -> Result<()> {
    let id = id(&conversation)?;
    waiting(&backend, move |backend| backend.history().rename(id, &title)).await
}

/// Keeps a conversation at the top of the list, or no longer.
#[tauri::command]
#[specta::specta]
pub(crate) async fn pin_conversation(
    backend: State<'_, Backend>,
    conversation: String,
    pinned: bool,
) -> Result<()> {
    let id = id(&conversation)?;
    waiting(&backend, move |backend| backend.history().pin(id, pinned)).await
}

/// Takes a conversation out of the list; a private one is gone for good.
#[tauri::command]
#[specta::specta]
pub(crate) async fn delete_conversation(
    backend: State<'_, Backend>,
    conversation: String,
) -> Result<Deletion> {
    let id = id(&conversation)?;
    Ok(backend.delete_conversation(id, FIRST_MESSAGES).await?.into())
}

/// Puts a deleted conversation back into the list.
#[tauri::command]
#[specta::specta]
pub(crate) async fn restore_conversation(backend: State<'_, Backend>, conversation: String) -> Result<()> {
    let id = id(&conversation)?;
    waiting(&backend, move |backend| backend.history().restore(id)).await
}

/// Copies a conversation with all its branches. Resolves with the id of the copy.
#[tauri::command]
#[specta::specta]
pub(crate) async fn duplicate_conversation(
    backend: State<'_, Backend>,
    conversation: String,
) -> Result<String> {
    let id = id(&conversation)?;
    Ok(waiting(&backend, move |backend| backend.history().duplicate(id)).await?.to_string())
}

/// Asks for a file and writes one conversation into it, or all of them. Resolves with the file's path, or
/// with null where the user chose none.
#[tauri::command]
#[specta::specta]
pub(crate) async fn export_conversations(
    app: AppHandle,
    backend: State<'_, Backend>,
    conversation: Option<String>,
    format: ExportFormat,
) -> Result<Option<String>> {
    let which = conversation.as_deref().map(id).transpose()?;
    let format = backend::ExportFormat::from(format);
    let name = waiting(&backend, move |backend| backend.history().export_name(which, format)).await?;
    let Some(path) = dialogs::file_to_write(&app, &name).await else { return Ok(None) };
    let shown = path.display().to_string();
    waiting(&backend, move |backend| backend.history().export(which, format, &path)).await?;
    Ok(Some(shown))
}

/// Asks for a file of conversations, of Hearth's or of a ChatGPT export, and takes over what is in it.
/// Resolves with null where the user chose none.
#[tauri::command]
#[specta::specta]
pub(crate) async fn import_conversations(
    app: AppHandle,
    backend: State<'_, Backend>,
) -> Result<Option<ImportReport>> {
    let Some(path) = dialogs::file_to_read(&app).await else { return Ok(None) };
    let report = waiting(&backend, move |backend| backend.history().import(&path)).await?;
    Ok(Some(report.into()))
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
    let id = id(&conversation)?;
    Ok(backend.chat().send(id, text, ReplyOptions::default(), forward(on_event)).await?.into())
}

/// Sends another version of a question, in a branch of its own. Nothing of the old one is lost.
#[tauri::command]
#[specta::specta]
pub(crate) async fn edit_message(
    backend: State<'_, Backend>,
    conversation: String,
    message: String,
    text: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let (conversation, message) = (id(&conversation)?, id(&message)?);
    let options = ReplyOptions::default();
    Ok(backend.chat().edit(conversation, message, text, options, forward(on_event)).await?.into())
}

/// Makes a reply of the current branch again. Nothing of the old one is lost.
#[tauri::command]
#[specta::specta]
pub(crate) async fn regenerate_reply(
    backend: State<'_, Backend>,
    conversation: String,
    reply: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let (conversation, reply) = (id(&conversation)?, id(&reply)?);
    let options = ReplyOptions::default();
    Ok(backend.chat().regenerate(conversation, reply, options, forward(on_event)).await?.into())
}

/// Goes on with the last reply where it was stopped.
#[tauri::command]
#[specta::specta]
pub(crate) async fn continue_reply(
    backend: State<'_, Backend>,
    conversation: String,
    on_event: Channel<ChatEvent>,
) -> Result<Reply> {
    let id = id(&conversation)?;
    Ok(backend.chat().go_on(id, ReplyOptions::default(), forward(on_event)).await?.into())
}

/// Stops the reply under way in a conversation. What it said is kept.
#[tauri::command]
#[specta::specta]
pub(crate) async fn stop_reply(backend: State<'_, Backend>, conversation: String) -> Result<()> {
    backend.chat().stop_in(id(&conversation)?);
    Ok(())
}

/// Lets the current branch go through a message, a version of one that is shown or one that was searched
/// for. Resolves with the conversation as it is then.
#[tauri::command]
#[specta::specta]
pub(crate) async fn select_branch(
    backend: State<'_, Backend>,
    conversation: String,
    message: String,
    most: u32,
) -> Result<Conversation> {
    let (conversation, message) = (id(&conversation)?, id(&message)?);
    let selected = waiting(&backend, move |backend| {
        backend.history().select_branch(conversation, message)?;
        backend.chat().conversation(conversation, most as usize)
    });
    Ok(selected.await?.into())
}

/// Keeps a message in what the model is given when its turn leaves a full window, or no longer. A reply stays
/// with the question that it answers.
#[tauri::command]
#[specta::specta]
pub(crate) async fn pin_message(
    backend: State<'_, Backend>,
    conversation: String,
    message: String,
    pinned: bool,
) -> Result<()> {
    let (conversation, message) = (id(&conversation)?, id(&message)?);
    waiting(&backend, move |backend| backend.history().pin_message(conversation, message, pinned)).await
}

/// Clears the model's memory of the conversation.
#[tauri::command]
#[specta::specta]
pub(crate) async fn reset_conversation(backend: State<'_, Backend>, conversation: String) -> Result<Reset> {
    Ok(backend.chat().reset(id(&conversation)?).await?.into())
}

/// Takes a reset back; `reset` is the id of its line.
#[tauri::command]
#[specta::specta]
pub(crate) async fn undo_reset(
    backend: State<'_, Backend>,
    conversation: String,
    reset: String,
) -> Result<()> {
    Ok(backend.chat().undo_reset(id(&conversation)?, id(&reset)?).await?)
}

/// Keeps what stands in the composer.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_draft(backend: State<'_, Backend>, conversation: String, text: String) -> Result<()> {
    let id = id(&conversation)?;
    waiting(&backend, move |backend| backend.history().set_draft(id, &text)).await
}

/// What the model is told before the conversation; null for nothing.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_system_prompt(
    backend: State<'_, Backend>,
    conversation: String,
    text: Option<String>,
) -> Result<()> {
    let id = id(&conversation)?;
    waiting(&backend, move |backend| backend.history().set_system_prompt(id, text.as_deref())).await
}

/// What a message would take.
#[tauri::command]
#[specta::specta]
pub(crate) async fn estimate_draft(
    backend: State<'_, Backend>,
    conversation: String,
    text: String,
) -> Result<Draft> {
    Ok(backend.chat().measure(id(&conversation)?, text).await?.into())
}

/// Chooses the model that answers. Resolves when it is loaded.
#[tauri::command]
#[specta::specta]
pub(crate) async fn select_model(backend: State<'_, Backend>, id: String) -> Result<Model> {
    let ready = backend.select_known_model(&id).await?;
    Ok(Model::ready(&ready))
}

/// Stops preparing a model for this machine. It is loaded as it is.
#[tauri::command]
#[specta::specta]
pub(crate) async fn skip_preparation(backend: State<'_, Backend>) -> Result<()> {
    backend.models().skip_preparation();
    Ok(())
}

/// What is kept on the disk of what models have read.
#[tauri::command]
#[specta::specta]
pub(crate) async fn read_kept_memory(backend: State<'_, Backend>) -> Result<KeptMemory> {
    Ok(backend.kept_snapshots().await?.into())
}

/// Bounds what is kept, in bytes; 0 keeps nothing, and null takes the default. What is beyond the bound is
/// destroyed. Resolves with what is kept then.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_memory_budget(
    backend: State<'_, Backend>,
    budget_bytes: Option<f64>,
) -> Result<KeptMemory> {
    let bytes = budget_bytes.map(byte_count).transpose()?;
    Ok(backend.set_snapshot_budget(bytes).await?.into())
}

/// Destroys all that is kept.
#[tauri::command]
#[specta::specta]
pub(crate) async fn free_kept_memory(backend: State<'_, Backend>) -> Result<FreedMemory> {
    Ok(FreedMemory { bytes: backend.free_snapshots().await? })
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

/// The bytes that the interface names: whole ones, exact to 2^53.
fn byte_count(number: f64) -> Result<u64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    if (0.0..=LARGEST).contains(&number) && number.fract() == 0.0 {
        return Ok(number as u64);
    }
    Err(IpcError { code: ErrorCode::Internal, message: format!("{number} is no number of bytes") })
}

/// Does work that waits for the disk, on a thread that may wait.
async fn waiting<T: Send + 'static>(
    backend: &Backend,
    work: impl FnOnce(&Backend) -> backend::Result<T> + Send + 'static,
) -> Result<T> {
    let backend = backend.clone();
    match tauri::async_runtime::spawn_blocking(move || work(&backend)).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(IpcError { code: ErrorCode::Crashed, message: error.to_string() }),
    }
}

/// Gives a turn's events to the window. A window that is gone misses them; the result is kept.
fn forward(channel: Channel<ChatEvent>) -> impl FnMut(backend::ChatEvent) + Send {
    move |event| {
        channel.send(event.into()).ok();
    }
}
