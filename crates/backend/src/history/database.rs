//! One connection to a file of conversations, or to one in memory, and what its failures mean.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::migrations;
use crate::error::Error;

/// How long a change waits for another process's.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const MAKE_ROOM: &str = "make room on the disk";
const ALLOW_WRITING: &str = "allow writing to the file of conversations and its folder";

/// Why a change or a look did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    /// What was asked for makes no sense here; nothing is wrong with the file.
    Refused(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

pub(super) type Attempt<T> = std::result::Result<T, Fault>;

impl Fault {
    /// As an error of this crate.
    pub(super) fn while_doing(&self, doing: &'static str) -> Error {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Sql(error) => {
                let code = code(error);
                let advice = code.and_then(advice).map(|advice| format!("; {advice}")).unwrap_or_default();
                let full = code == Some(ErrorCode::DiskFull);
                Error::History { doing, reason: format!("{error}{advice}"), full }
            }
        }
    }

    /// Whether the file itself is in doubt: not the place that it lies in, and not what was asked for.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Sql(error)
                if matches!(code(error), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        )
    }

    /// This fault of a look at a file that was not changed yet: where a table is missing or a value is of
    /// another kind, the file is damaged.
    pub(super) fn of_a_look(self) -> Self {
        match self {
            Self::Sql(error) if matches!(code(&error), None | Some(ErrorCode::Unknown)) => {
                Self::damage(&error.to_string())
            }
            other => other,
        }
    }

    /// A file that is damaged, and how that shows.
    pub(super) fn damage(reason: &str) -> Self {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Self::Sql(rusqlite::Error::SqliteFailure(corrupt, Some(reason.to_owned())))
    }

    /// Whether the place does not take what is written, while nothing is wrong with what was asked for.
    pub(super) fn is_refusal_of_disk(&self) -> bool {
        matches!(self, Self::Sql(error) if code(error).is_some_and(|code| {
            use ErrorCode::*;
            matches!(
                code,
                DiskFull | ReadOnly | SystemIoFailure | CannotOpen | DatabaseBusy | DatabaseLocked
                    | PermissionDenied | DatabaseCorrupt | NotADatabase | FileLockingProtocolFailed
                    | NoLargeFileSupport | OutOfMemory
            )
        }))
    }
}

/// What the user can do where the disk refuses.
fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::DiskFull => MAKE_ROOM,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => ALLOW_WRITING,
        ErrorCode::SystemIoFailure => "see whether the disk has room and is in order",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "close the other program that has it open",
        _ => return None,
    })
}

/// What the system says of the place of the conversations, as an error of this crate.
pub(super) fn place_error(path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let advice = if full { MAKE_ROOM } else { ALLOW_WRITING };
    Error::History { doing: "write", reason: format!("`{}`: {error}; {advice}", path.display()), full }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

/// Opens a file for writing, made where it is missing, and leaves its schema as it is. Waits for other processes
/// as long as `patience` says.
pub(super) fn open_file(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection, patience)?;
    // Only a file in which nothing was made yet can be told to shrink later.
    if migrations::version(&connection)? == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(connection)
}

/// Opens a file that is there, for looking only.
pub(super) fn open_to_read(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection, patience)?;
    Ok(connection)
}

/// The same beside a connection that writes, for those who only look.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_to_read(path, BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", "ON")?;
    Ok(connection)
}

/// The same where nothing may be written beside the file either, as long as nothing in it changes.
pub(super) fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let name = path.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(path.to_path_buf()))?;
    let name = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let name = if cfg!(windows) { format!("/{}", name.replace('\\', "/")) } else { name };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
    settle(&connection, BUSY_TIMEOUT)?;
    Ok(connection)
}

/// The same tables in memory, for what must not or cannot be written.
pub(super) fn open_in_memory() -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    settle(&connection, BUSY_TIMEOUT)?;
    migrations::run(&mut connection)?;
    Ok(connection)
}

/// What each connection is told. The file may come from anywhere, so it is trusted with nothing.
fn settle(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(64);
    for (name, value) in [
        // A change is on the disk when its statement returns, and there after a power cut too. The two kinds of
        // change below say it again, each for itself.
        ("synchronous", "FULL"),
        ("fullfsync", "ON"),
        ("checkpoint_fullfsync", "ON"),
        ("foreign_keys", "ON"),
        ("secure_delete", "ON"),
        ("trusted_schema", "OFF"),
        ("cell_size_check", "ON"),
        ("mmap_size", "0"),
        // Nothing of a private conversation goes into temporary files.
        ("temp_store", "MEMORY"),
    ] {
        connection.pragma_update(None, name, value)?;
    }
    Ok(())
}

/// Whether everything in a file fits together, the indexes too: a quick check leaves those out, and a row that
/// its index does not know is listed and cannot be opened.
pub(super) fn is_whole(connection: &Connection) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("PRAGMA integrity_check(1)")?;
    let verdict: String = statement.query_row([], |row| row.get(0))?;
    Ok(verdict == "ok")
}

/// Makes one change as a whole or not at all.
pub(super) fn change<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Attempt<T>,
) -> Attempt<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let made = change(&transaction)?;
    transaction.commit()?;
    Ok(made)
}

/// The same as [`change`]; what is made is on the disk when this comes back.
pub(super) fn change_synced<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Attempt<T>,
) -> Attempt<T> {
    // Said before each change and not set back behind those that do not wait: one of them that ended in the middle
    // must not be the reason why later ones do not wait either.
    connection.pragma_update(None, "synchronous", "FULL")?;
    self::change(connection, change)
}

/// The same as [`change`], without waiting for the disk: the end of this process costs nothing of the change, and a
/// power cut nothing either as soon as [`sync_log`] has come back.
pub(super) fn change_unsynced<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Attempt<T>,
) -> Attempt<T> {
    // The log itself tells which of its end is whole, and is synced before anything of it goes into the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    self::change(connection, change)
}

/// Waits until what was written to a log of changes is on the disk.
///
/// # Errors
/// Those of the system.
pub(super) fn sync_log(log: &Path) -> std::io::Result<()> {
    // Where there is no log, everything is in the file. Some systems sync only what could be written.
    match std::fs::File::options().write(true).open(log) {
        Ok(log) => log.sync_data(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(connection: &Connection, name: &str) -> String {
        connection
            .pragma_query_value(None, name, |row| row.get_ref(0).map(|value| format!("{value:?}")))
            .expect("asked")
    }

    #[test]
    fn each_connection_has_the_promised_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.sqlite");
        let writer = open_file(&path, BUSY_TIMEOUT).expect("opens");
        let connections = [
            ("the writer", writer),
            ("the reader", open_reader(&path).expect("opens")),
            ("a look", open_to_read(&path, BUSY_TIMEOUT).expect("opens")),
            ("an unchanging look", open_unchanging(&path).expect("opens")),
            ("memory", open_in_memory().expect("opens")),
        ];
        for (what, connection) in &connections {
            for (name, value) in [
                ("synchronous", 2),
                ("fullfsync", 1),
                ("checkpoint_fullfsync", 1),
                ("foreign_keys", 1),
                ("secure_delete", 1),
                ("trusted_schema", 0),
                ("cell_size_check", 1),
                ("temp_store", 2),
                ("query_only", i64::from(*what == "the reader")),
            ] {
                assert_eq!(asked(connection, name), format!("Integer({value})"), "{name} of {what}");
            }
            if *what != "memory" {
                assert_eq!(asked(connection, "mmap_size"), "Integer(0)", "mmap_size of {what}");
            }
            let loaded = connection.query_row("SELECT load_extension('anything')", [], |_| Ok(()));
            let refused = loaded.expect_err("no code is loaded").to_string();
            assert!(
                ["not authorized", "no such function"].iter().any(|why| refused.contains(why)),
                "{refused}"
            );
            let made = connection.execute_batch("CREATE TABLE made (here)");
            assert_eq!(made.is_ok(), ["the writer", "memory"].contains(what), "{what}: {made:?}");
        }
    }

    #[test]
    fn a_change_waits_for_the_disk_whatever_came_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = open_file(&folder.path().join("a.sqlite"), BUSY_TIMEOUT).expect("opens");
        let asked_within = |change: &Transaction<'_>| Ok(asked(change, "synchronous"));
        let cut = std::panic::AssertUnwindSafe(|| {
            change_unsynced(&mut writer, |_| -> Attempt<()> { panic!("in the middle of a change") })
        });
        std::panic::catch_unwind(cut).expect_err("ends in the middle");
        assert_eq!(change_synced(&mut writer, asked_within).expect("made"), "Integer(2)");
        assert_eq!(change_unsynced(&mut writer, asked_within).expect("made"), "Integer(1)");
        assert_eq!(change_synced(&mut writer, asked_within).expect("made"), "Integer(2)");
    }
}
