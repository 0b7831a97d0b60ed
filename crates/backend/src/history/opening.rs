//! What happens to the file of conversations when a run begins.

use std::time::Duration;

use rusqlite::Connection;
use uuid::Uuid;

use super::database::{self, Attempt, Fault};
use super::files::Files;
use super::{backups, conversations, messages, migrations, search};
use crate::conversation::now;
use crate::error::Error;

/// How long a deleted conversation can be restored.
const KEPT_AFTER_DELETION: Duration = Duration::from_secs(24 * 60 * 60);

/// Opens the file and brings its schema up to date. `check` looks through all of it, after a run that was cut
/// off.
pub(super) fn open(files: &Files, check: bool) -> Attempt<Connection> {
    look_before_writing(files, check)?;
    let mut connection = database::open_file(&files.database())?;
    let version = migrations::version(&connection)?;
    if (1..migrations::NEWEST).contains(&version) {
        backups::make_before(files, &connection, version)?;
    }
    migrations::run(&mut connection)?;
    look_around(&connection)?;
    Ok(connection)
}

/// Looks for what is wrong while nothing was written yet, so that a damaged file is kept as it was found.
fn look_before_writing(files: &Files, check: bool) -> Attempt<()> {
    let is_empty = std::fs::metadata(files.database()).is_ok_and(|file| file.len() == 0);
    if is_empty {
        // A file is empty before its first use, and after a cut.
        return match backups::newest_good(files) {
            Some(_) => Err(damaged("the file is empty, and it was not before")),
            None => Ok(()),
        };
    }
    let connection = database::open_to_read(&files.database())?;
    if check && !database::is_whole(&connection)? {
        return Err(damaged("a check found damage"));
    }
    let version = migrations::version(&connection)?;
    if version > migrations::NEWEST {
        return Err(newer(&connection, version));
    }
    if version == 0 {
        return Err(damaged("its version is damaged"));
    }
    Ok(())
}

/// A file of a later version, or one in which the number is damaged: both are written by the same step.
fn newer(connection: &Connection, version: usize) -> Fault {
    match conversations::fact(connection, migrations::FACT) {
        Ok(Some(fact)) if fact == version.to_string() => Error::History {
            doing: "open the conversations of a newer Hearth",
            reason: format!(
                "their schema is {version}, and this one knows {}; update Hearth",
                migrations::NEWEST
            ),
            full: false,
        }
        .into(),
        _ => damaged("its version is damaged"),
    }
}

fn damaged(reason: &str) -> Fault {
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Fault::Sql(rusqlite::Error::SqliteFailure(corrupt, Some(reason.to_owned())))
}

/// Touches every table, so that a damaged schema is found while nothing depends on it yet.
fn look_around(connection: &Connection) -> rusqlite::Result<()> {
    conversations::list(connection, 0, 1)?;
    for table in ["message", "chunk", "mark", "fact"] {
        connection
            .query_row(&format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)"), [], |_| Ok(()))?;
    }
    if let Some(query) = search::query("hearth") {
        search::find(connection, &query, 1)?;
    }
    Ok(())
}

/// Ends what runs that are over left behind, and removes what was deleted long enough ago.
pub(super) fn tidy(connection: &mut Connection, is_over: impl Fn(Option<Uuid>) -> bool) -> Attempt<()> {
    let interrupted = database::change(connection, |change| messages::interrupt(change, &is_over))?;
    if interrupted > 0 {
        tracing::info!(interrupted, "replies of a run that was cut off were kept");
    }
    let long_ago = now() - KEPT_AFTER_DELETION;
    let deleted = conversations::deleted_before(connection, long_ago)?;
    if deleted.is_empty() {
        return Ok(());
    }
    database::change(connection, |change| {
        deleted.iter().try_for_each(|&id| Ok(conversations::remove(change, id)?))
    })?;
    // The file shrinks, and the log no longer has what was in it.
    let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    drop(rows);
    drop(statement);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Makes today's copy, without keeping anybody waiting.
pub(super) fn back_up(files: Files) {
    let copy = move || {
        if let Err(error) = backups::make_if_due(&files) {
            tracing::warn!(%error, "no backup of the conversations was made");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("history-backup".into()).spawn(copy) {
        tracing::warn!(%error, "no backup of the conversations was made");
    }
}
