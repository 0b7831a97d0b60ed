//! What happens to the file of conversations when a run begins.

use std::time::Duration;

use rusqlite::Connection;
use uuid::Uuid;

use super::database::{self, Attempt, Fault};
use super::files::{self, Files};
use super::{backups, conversations, migrations, replies, search};
use crate::conversation::now;
use crate::error::Error;

/// How long a deleted conversation can be restored.
const KEPT_AFTER_DELETION: Duration = Duration::from_secs(24 * 60 * 60);

/// Opens the file and brings its schema up to date. `check` looks through all of it, after a run that was cut
/// off.
///
/// # Errors
/// Damage where the file is damaged; anything else keeps it from opening and leaves it as it is.
pub(super) fn open(files: &Files, check: bool, patience: Duration) -> Attempt<Connection> {
    look_before_writing(files, check, patience).map_err(Fault::of_a_look)?;
    let mut connection = database::open_file(&files.database(), patience)?;
    let version = migrations::version(&connection)?;
    if (1..migrations::NEWEST).contains(&version) {
        backups::make_before(files, &connection, version)
            .map_err(|fault| unless_damaged(fault, "copy the conversations before updating them"))?;
    }
    migrations::run(&mut connection)
        .map_err(|error| unless_damaged(error.into(), "update the conversations"))?;
    look_around(&connection).map_err(|error| Fault::from(error).of_a_look())?;
    Ok(connection)
}

/// A fault that is no damage keeps its file from opening, and is no reason to repair it.
fn unless_damaged(fault: Fault, doing: &'static str) -> Fault {
    if fault.is_damage() { fault } else { fault.while_doing(doing).into() }
}

/// Opens a file whose place takes no changes, for looking only.
///
/// # Errors
/// Where it is not there, of another version, or cannot be read.
pub(super) fn open_to_look(files: &Files) -> Attempt<Connection> {
    let path = files.database();
    let look = |connection: Connection| -> Attempt<Connection> {
        let version = migrations::version(&connection)?;
        if version != migrations::NEWEST {
            return Err(Fault::damage("it is of another version"));
        }
        look_around(&connection)?;
        Ok(connection)
    };
    let looked = database::open_to_read(&path, database::BUSY_TIMEOUT).map_err(Fault::from).and_then(look);
    let log = files::with_ending(&path, "-wal");
    match looked {
        // What is in the log of changes can only be read where something may be written beside it.
        Err(_) if std::fs::metadata(log).map_or(0, |log| log.len()) == 0 => {
            look(database::open_unchanging(&path)?)
        }
        looked => looked,
    }
}

/// Looks for what is wrong while nothing was written yet, so that a damaged file is kept as it was found.
fn look_before_writing(files: &Files, check: bool, patience: Duration) -> Attempt<()> {
    // A file is empty before its first use, and after a cut.
    let is_cut = || match backups::newest_good(files) {
        Some(_) => Err(Fault::damage("the file is empty, and it was not before")),
        None => Ok(()),
    };
    if std::fs::metadata(files.database()).is_ok_and(|file| file.len() == 0) {
        return is_cut();
    }
    let connection = database::open_to_read(&files.database(), patience)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if check && !database::is_whole(&connection)? {
        return Err(Fault::damage("a check found damage"));
    }
    let version = migrations::version(&connection)?;
    if version == 0 && tables == 0 {
        // A first start that ended before it made anything leaves such a file.
        return is_cut();
    }
    if version > migrations::NEWEST {
        return Err(newer(&connection, version));
    }
    if version == 0 {
        return Err(Fault::damage("its version is damaged"));
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
        _ => Fault::damage("its version is damaged"),
    }
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

/// Ends what runs that are over left behind, and removes what was deleted long enough ago: the latter may wait
/// for another start.
pub(super) fn tidy(connection: &mut Connection, is_over: impl Fn(Option<Uuid>) -> bool) -> Attempt<()> {
    let interrupted = database::change(connection, |change| replies::interrupt(change, &is_over))?;
    if interrupted > 0 {
        tracing::info!(interrupted, "replies of a run that was cut off were kept");
    }
    match purge(connection) {
        Err(fault) if !fault.is_damage() => {
            let error = fault.while_doing("remove what was deleted");
            tracing::warn!(%error, "deleted conversations stay on the disk until the next start");
            Ok(())
        }
        result => result,
    }
}

/// Removes the conversations that can no longer be restored, from the file too.
fn purge(connection: &mut Connection) -> Attempt<()> {
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
