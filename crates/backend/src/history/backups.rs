//! Copies of the database that can take its place: one a day and one before each change of the schema.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use super::database;
use super::files::{self, Files};

/// The copies of days that are kept. Those from before a change of the schema are kept besides.
const DAILY_KEPT: usize = 7;
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const DAILY: &str = "day-";
const BEFORE: &str = "before-schema-";

/// Makes today's copy, if there is none yet.
///
/// # Errors
/// What kept the copy from being made. The older ones stay.
pub(super) fn make_if_due(files: &Files) -> rusqlite::Result<bool> {
    let newest = list(files, DAILY).into_iter().next_back();
    let age = newest.as_deref().and_then(modified).map(|time| time.elapsed().unwrap_or_default());
    if age.is_some_and(|age| age < EVERY) {
        return Ok(false);
    }
    let connection = database::open_to_read(&files.database())?;
    let said: i64 =
        connection.query_row("SELECT count(*) FROM (SELECT 1 FROM message LIMIT 1)", [], |row| row.get(0))?;
    if said == 0 {
        return Ok(false);
    }
    make(files, &connection, &format!("{DAILY}{}", now()))?;
    let all = list(files, DAILY);
    for old in &all[..all.len().saturating_sub(DAILY_KEPT)] {
        // One that stays costs space and nothing else.
        std::fs::remove_file(old).ok();
    }
    Ok(true)
}

/// Makes a copy before the schema becomes another one than `version`.
pub(super) fn make_before(files: &Files, connection: &Connection, version: usize) -> rusqlite::Result<()> {
    make(files, connection, &format!("{BEFORE}{}-{}", version + 1, now()))
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S").to_string()
}

fn make(files: &Files, connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let unfinished = files.backups().join(format!("{name}.unfinished"));
    let path = files.backups().join(format!("{name}.sqlite"));
    std::fs::remove_file(&unfinished).ok();
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
    if !is_good(&unfinished) {
        std::fs::remove_file(&unfinished).ok();
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some("the copy does not read back".into()),
        ));
    }
    let result = files::keep_for_the_user(&unfinished).and_then(|()| std::fs::rename(&unfinished, &path));
    result.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Whether a copy can take the database's place.
pub(super) fn is_good(path: &Path) -> bool {
    let check = || -> rusqlite::Result<bool> {
        let connection = database::open_to_read(path)?;
        database::is_whole(&connection)
    };
    check().unwrap_or(false)
}

/// The newest copy that can take the database's place.
pub(super) fn newest_good(files: &Files) -> Option<PathBuf> {
    let mut all: Vec<PathBuf> = list(files, DAILY);
    all.extend(list(files, BEFORE));
    all.sort_by_key(|path| modified(path));
    all.into_iter().rev().find(|path| is_good(path))
}

/// Copies whose names begin so, the oldest first: their names are in the order of time.
fn list(files: &Files, beginning: &str) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(beginning) && name.ends_with(".sqlite")
    };
    let entries = std::fs::read_dir(files.backups()).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    all.sort();
    all
}

fn modified(path: impl AsRef<Path>) -> Option<SystemTime> {
    std::fs::metadata(path.as_ref()).ok()?.modified().ok()
}
