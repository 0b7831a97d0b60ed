//! Where the log goes: one file a day in the data folder, fourteen kept; to the terminal as well in builds
//! for developers. `RUST_LOG` chooses what; by default no text of the user is in it at any level.

use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

const FILES_KEPT: usize = 14;

/// Writes out what is left when it is dropped.
pub(crate) struct Logging {
    _file: Option<WorkerGuard>,
}

/// Starts logging. A folder that cannot be written costs the log and nothing else.
pub(crate) fn start(folder: &Path) -> Logging {
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("hearth")
        .filename_suffix("log")
        .max_log_files(FILES_KEPT)
        .build(folder)
        .ok()
        .map(tracing_appender::non_blocking);
    let (writer, guard) = file.unzip();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,ort=warn"));
    let to_file = writer.map(|writer| fmt::layer().with_ansi(false).with_writer(writer));
    let to_terminal = cfg!(debug_assertions).then(|| fmt::layer().with_writer(std::io::stderr));
    // A second subscriber in one process is a test's; the first one stays.
    tracing_subscriber::registry().with(filter).with(to_file).with(to_terminal).try_init().ok();
    Logging { _file: guard }
}
