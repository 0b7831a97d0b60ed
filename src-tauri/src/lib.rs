//! The window of Hearth: commands and events over [`backend`], and nothing else.
//!
//! # A tour
//! - [`run`] opens the one window and gives it the backend.
//! - `commands` are what the interface may call; each only calls the backend and converts.
//! - `ipc` holds everything that crosses to the interface: types, error codes, events. The interface's
//!   `bindings.ts` is written from them by `tests/bindings.rs`.
//! - `dialogs` asks the user for a file or folder: paths come from the system's own dialogue, or from what is
//!   dropped on the window, and never from the interface. Builds for developers let the end-to-end test answer.
//! - `ending` is what happens between the end of the window and that of the program, and closes the window where a
//!   signal asks for the end.
//! - `containment` keeps the window where it is: no navigation, no second window, no foreign scheme.

mod commands;
mod containment;
mod dialogs;
mod ending;
mod ipc;
mod logging;

use std::path::PathBuf;

use backend::{AppDirs, Backend, Change, ImportMode};
use tauri::{AppHandle, DragDropEvent, Manager, RunEvent, WebviewUrl, WebviewWindowBuilder, WindowEvent};
use tauri_specta::{Builder, Event, collect_commands, collect_events};
use tokio::sync::broadcast::error::RecvError;

pub use commands::COMMANDS;

/// The label of the one window.
const MAIN: &str = "main";

/// Commands and events with their types: what the interface's bindings are written from.
pub fn interface() -> Builder<tauri::Wry> {
    Builder::new()
        .disable_serde_phases()
        .commands(collect_commands![
            commands::snapshot,
            commands::list_conversations,
            commands::search_conversations,
            commands::open_conversation,
            commands::new_conversation,
            commands::rename_conversation,
            commands::pin_conversation,
            commands::delete_conversation,
            commands::restore_conversation,
            commands::duplicate_conversation,
            commands::export_conversations,
            commands::import_conversations,
            commands::send_message,
            commands::edit_message,
            commands::regenerate_reply,
            commands::continue_reply,
            commands::stop_reply,
            commands::select_branch,
            commands::pin_message,
            commands::reset_conversation,
            commands::undo_reset,
            commands::set_draft,
            commands::set_system_prompt,
            commands::estimate_draft,
            commands::select_model,
            commands::skip_preparation,
            commands::read_kept_memory,
            commands::set_memory_budget,
            commands::free_kept_memory,
            commands::open_link,
            commands::dismiss_notice,
            commands::library::read_library,
            commands::library::list_downloads,
            commands::library::search_hub,
            commands::library::look_up_repository,
            commands::library::download_listed,
            commands::library::download_variant,
            commands::library::note_other_sources,
            commands::library::pause_download,
            commands::library::resume_download,
            commands::library::cancel_download,
            commands::library::repair_model,
            commands::library::remove_model,
            commands::library::restore_model,
            commands::library::delete_removed_model,
            commands::library::import_model,
            commands::library::refresh_list,
            commands::library::leave_refreshed_list,
            commands::network::read_network,
            commands::network::set_network,
            commands::network::read_access_token,
            commands::network::set_access_token,
            commands::network::remove_access_token,
            commands::model_settings::read_model_settings,
            commands::model_settings::set_model_settings,
            commands::library_folder::move_library,
            commands::library_folder::cancel_library_move,
            commands::library_folder::look_for_library,
            commands::library_folder::use_default_library,
        ])
        .events(collect_events![
            ipc::ModelsChanged,
            ipc::NoticesChanged,
            ipc::AboutChanged,
            ipc::ConversationsChanged,
            ipc::DownloadsChanged,
            ipc::ModelDropped,
        ])
}

/// Runs the application until its window is closed.
pub fn run() {
    let interface = interface();
    let handler = interface.invoke_handler();
    let result = tauri::Builder::default()
        .manage(ending::Ending::default())
        // First, so that a second start ends before it opens anything.
        .plugin(tauri_plugin_single_instance::init(|app, _, _| started_again(app)))
        // For the commands that ask for a file; the window itself may not open a dialogue.
        .plugin(tauri_plugin_dialog::init())
        .invoke_handler(handler)
        .setup(move |app| {
            interface.mount_events(app);
            let bundle = app.path().resource_dir().ok();
            let directories = AppDirs::of_this_program(bundle.as_deref())?;
            let logging = logging::start(&directories.logs());
            app.manage(logging);
            // The backend's tasks run on the runtime that the window has already.
            let backend = tauri::async_runtime::block_on(async { Backend::open(directories) });
            app.manage(backend.clone());
            app.manage(commands::library_folder::MoveStop::default());
            tell_changes(app.handle().clone(), &backend);
            load_the_model(backend);
            open_window(app.handle())?;
            Ok(())
        })
        .build(tauri::generate_context!());
    match result {
        Ok(app) => app.run(|app, event| match event {
            RunEvent::ExitRequested { code, api, .. } => ending::end_when_saved(app, code, &api),
            RunEvent::Exit => ending::end(app),
            _ => {}
        }),
        Err(error) => {
            tracing::error!(%error, "the window could not be opened");
            std::process::exit(1);
        }
    }
}

fn open_window(app: &AppHandle) -> tauri::Result<()> {
    let window = WebviewWindowBuilder::new(app, MAIN, WebviewUrl::default())
        .title("Hearth")
        .inner_size(1100.0, 760.0)
        .min_inner_size(480.0, 480.0)
        .on_navigation(containment::may_navigate)
        .on_new_window(|_, _| tauri::webview::NewWindowResponse::Deny)
        .build()?;
    #[cfg(unix)]
    ending::close_when_asked(&window);
    let app = app.clone();
    window.on_window_event(move |event| match event {
        WindowEvent::DragDrop(DragDropEvent::Drop { paths, .. }) => take_in(&app, paths),
        WindowEvent::Destroyed => ending::note_closed(&app),
        _ => {}
    });
    Ok(())
}

/// Imports the folders that were dropped on the window. Their paths come from the system and never from the
/// interface, which learns only that something was dropped.
fn take_in(app: &AppHandle, paths: &[PathBuf]) {
    let Some(backend) = app.try_state::<Backend>() else { return };
    let (backend, paths, app) = (backend.inner().clone(), paths.to_vec(), app.clone());
    tauri::async_runtime::spawn(async move {
        for path in paths {
            let is_folder = path.is_dir();
            if is_folder {
                backend.downloads().import(&path, ImportMode::Copy);
            }
            if let Err(error) = (ipc::ModelDropped { is_folder }).emit(&app) {
                tracing::warn!(%error, "an event did not reach the window");
            }
        }
    });
}

/// Hearth was started once more: the window that there is comes to the front.
fn started_again(app: &AppHandle) {
    if ending::started_again(app) {
        show(app);
    }
}

/// Brings the window to the front.
fn show(app: &AppHandle) {
    if let Some(window) = app.get_webview_window(MAIN) {
        window.unminimize().ok();
        window.show().ok();
        window.set_focus().ok();
    }
}

/// Begins to load the model that answers, so that it is ready when the first message is written.
fn load_the_model(backend: Backend) {
    tauri::async_runtime::spawn(async move {
        // What went wrong is the state of the model, which the window shows.
        backend.begin().await.ok();
    });
}

/// Turns the backend's facts into the window's events.
fn tell_changes(app: AppHandle, backend: &Backend) {
    let mut changes = backend.changes();
    let backend = backend.clone();
    tauri::async_runtime::spawn(async move {
        loop {
            let told = match changes.recv().await {
                Ok(Change::Models) => ipc::ModelsChanged::of(&backend).emit(&app),
                Ok(Change::Notices) => ipc::NoticesChanged::of(&backend).emit(&app),
                Ok(Change::About) => ipc::AboutChanged::of(&backend).emit(&app),
                Ok(Change::Conversations) => ipc::ConversationsChanged.emit(&app),
                Ok(Change::Downloads) => ipc::DownloadsChanged::of(&backend).emit(&app),
                // What was missed is in the facts that are told now.
                Err(RecvError::Lagged(_)) => ipc::ModelsChanged::of(&backend)
                    .emit(&app)
                    .and_then(|()| ipc::NoticesChanged::of(&backend).emit(&app))
                    .and_then(|()| ipc::AboutChanged::of(&backend).emit(&app))
                    .and_then(|()| ipc::ConversationsChanged.emit(&app))
                    .and_then(|()| ipc::DownloadsChanged::of(&backend).emit(&app)),
                Err(RecvError::Closed) => break,
            };
            if let Err(error) = told {
                tracing::warn!(%error, "an event did not reach the window");
            }
        }
    });
}
