//! How far a download, a check or a copy is: one line on a terminal, JSON lines for programs.

use backend::{DownloadPhase, DownloadProgress};
use serde_json::json;

use crate::models::bytes;
use crate::print::Printer;

const BAR: usize = 24;
/// Bytes between two tellings of a check or copy.
const STEP: u64 = 32 << 20;

/// Tells a download.
pub(crate) fn downloading(printer: &mut Printer) -> impl FnMut(DownloadProgress) + Send {
    move |progress| {
        if printer.is_json() {
            let (phase, waiting) = match &progress.phase {
                DownloadPhase::Checking => ("checking", None),
                DownloadPhase::Downloading => ("downloading", None),
                DownloadPhase::Waiting { seconds, reason } => ("waiting", Some((*seconds, reason.as_str()))),
                DownloadPhase::Installing => ("installing", None),
            };
            return printer.json_line(&json!({
                "type": "progress", "phase": phase, "done": progress.done, "total": progress.total,
                "bytes_per_second": progress.bytes_per_second, "seconds_left": progress.seconds_left,
                "wait_seconds": waiting.map(|(seconds, _)| seconds), "reason": waiting.map(|(_, reason)| reason),
            }));
        }
        let text = match &progress.phase {
            DownloadPhase::Checking => "checking what is there".to_owned(),
            DownloadPhase::Downloading => {
                let left = progress.seconds_left.map(|seconds| format!(", {} left", duration(seconds)));
                let speed = bytes(progress.bytes_per_second as u64);
                format!("{} {speed}/s{}", share(progress.done, progress.total), left.unwrap_or_default())
            }
            DownloadPhase::Waiting { seconds, reason } => format!("waiting {}: {reason}", duration(*seconds)),
            DownloadPhase::Installing => "checking the model".to_owned(),
        };
        printer.progress(&text);
    }
}

/// Tells a check of `total` bytes.
pub(crate) fn verifying(printer: &mut Printer, total: u64) -> impl FnMut(u64) {
    let mut copying = copying(printer);
    move |more| copying(more, total)
}

/// Tells a copy.
pub(crate) fn copying(printer: &mut Printer) -> impl FnMut(u64, u64) {
    let (mut done, mut told) = (0, 0);
    move |more, total| {
        done += more;
        if done < told + STEP && done < total {
            return;
        }
        told = done;
        if printer.is_json() {
            printer
                .json_line(&json!({"type": "progress", "phase": "checking", "done": done, "total": total}));
        } else {
            printer.progress(&share(done, total));
        }
    }
}

pub(crate) fn share(done: u64, total: u64) -> String {
    let share = done as f64 / total.max(1) as f64;
    let full = ((share * BAR as f64) as usize).min(BAR);
    format!("[{}{}] {} of {}", "=".repeat(full), " ".repeat(BAR - full), bytes(done), bytes(total))
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
