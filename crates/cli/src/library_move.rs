//! `hearth models move`: keeps the models in another folder.

use std::path::Path;

use backend::{CancellationToken, LibraryMove, MoveOutcome, MovePhase, MoveProgress};
use serde_json::json;

use crate::error::Result;
use crate::interrupt::Interrupts;
use crate::print::Printer;
use crate::run::Run;
use crate::transfer::share;

/// Moves the models. Ctrl-C leaves all as it was.
pub(crate) fn move_models(run: &Run, folder: &Path, copies: bool, printer: &mut Printer) -> Result<()> {
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let _working = interrupts.working(move || cancel.cancel());
    let wanted = LibraryMove { folder: folder.to_path_buf(), pauses_downloads: false, copies };
    // The backend tells from another thread, and a printer belongs to this one.
    let (tell, told) = std::sync::mpsc::channel();
    let moving = run.backend().move_library(&wanted, &stop, move |progress| {
        // Nobody listens any longer where the program ends.
        tell.send(progress).ok();
    });
    let outcome =
        run.wait_and(moving, || told.try_iter().last().into_iter().for_each(|now| show(now, printer)));
    printer.end_progress();
    match outcome? {
        MoveOutcome::Moved(folder) if printer.is_json() => {
            printer.json_line(&json!({"type": "moved", "folder": folder}));
        }
        MoveOutcome::Moved(folder) => {
            printer.line(&format!("The models are kept in {} now.", folder.display()));
            printer.aside("A window that is open looks there after its next start.");
        }
        MoveOutcome::Cancelled if printer.is_json() => printer.json_line(&json!({"type": "cancelled"})),
        MoveOutcome::Cancelled => printer.aside("Stopped. The models are where they were."),
    }
    Ok(())
}

fn show(progress: MoveProgress, printer: &mut Printer) {
    let phase = match progress.phase {
        MovePhase::Placing => "placing",
        MovePhase::Switching => "switching",
        MovePhase::Deleting => "deleting",
    };
    let MoveProgress { done, total, .. } = progress;
    if printer.is_json() {
        let line = json!({"type": "progress", "phase": phase, "done": done, "total": total});
        return printer.json_line(&line);
    }
    match progress.phase {
        MovePhase::Placing => printer.progress(&share(done, total)),
        MovePhase::Switching => printer.progress("waiting for the model"),
        MovePhase::Deleting => printer.progress("deleting what was moved"),
    }
}
