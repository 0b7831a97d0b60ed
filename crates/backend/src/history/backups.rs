//! Copies of the database that can take its place: one a day and one before each change of the schema.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, InterruptHandle};

use super::database::{self, Attempt, BUSY_TIMEOUT, Fault};
use super::files::{self, Files};
use crate::error::Error;

/// The copies of days that are kept.
const DAILY_KEPT: usize = 7;
/// The copies from before a change of the schema that are kept.
const BEFORE_KEPT: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a copy waits after a start: copying many conversations takes a core for seconds, in which the window
/// comes up, the model is loaded and the first conversation is opened.
const AFTER_START: Duration = Duration::from_secs(30);
/// How often a run looks whether a day is over. Waiting for the end of the day itself would take days where the machine
/// sleeps meanwhile: not every system counts that time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60 * 60);
const DAILY: &str = "day-";
const BEFORE: &str = "before-schema-";
const UNFINISHED: &str = ".unfinished";

/// A copy that is made while others work.
pub(super) struct RunningBackup {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

/// Ends a copy before it is finished.
#[derive(Default)]
struct Stop {
    is_asked: AtomicBool,
    at_work: Mutex<Option<InterruptHandle>>,
    asked: Condvar,
}

impl Stop {
    /// Waits so long. Says whether the end came first.
    fn comes_within(&self, time: Duration) -> bool {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |_: &mut Option<InterruptHandle>| !self.is_asked.load(Ordering::SeqCst);
        drop(self.asked.wait_timeout_while(at_work, time, goes_on));
        self.is_asked.load(Ordering::SeqCst)
    }

    /// Lets what `connection` does from now on be ended. Says whether it need not begin.
    fn reaches(&self, connection: &Connection) -> bool {
        let handle = connection.get_interrupt_handle();
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        self.is_asked.load(Ordering::SeqCst)
    }

    fn ask(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        if let Some(connection) = &*self.at_work.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.interrupt();
        }
        self.asked.notify_all();
    }
}

impl RunningBackup {
    /// Waits for the end of the copy; one that nobody waits to be `finished` leaves nothing behind.
    pub(super) fn end(self, finished: bool) {
        if !finished {
            self.stop.ask();
        }
        // A panic there was told of there, and costs a copy.
        self.thread.join().ok();
    }
}

/// Begins to make the copies of days, without keeping anybody waiting: the first when the start is over, and where the
/// run ends before, none. A run that is short has one made at once and is kept waiting at its end, so it makes one a
/// week.
pub(super) fn begin(files: Files, is_short: bool) -> Option<RunningBackup> {
    if is_short && !until_next(&files, 7 * DAY).is_zero() {
        return None;
    }
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    let copy = move || match is_short {
        true => try_daily(&files, &asked),
        false => keep_making(&files, &asked, |time| asked.comes_within(time)),
    };
    match std::thread::Builder::new().name("history-backup".into()).spawn(copy) {
        Ok(thread) => Some(RunningBackup { stop, thread }),
        Err(error) => {
            tracing::warn!(%error, "no backup of the conversations was made");
            None
        }
    }
}

/// How long it takes until the newest copy is of this age.
fn until_next(files: &Files, every: Duration) -> Duration {
    let ages = list(files, DAILY).into_iter().filter_map(|path| age(&path));
    ages.min().map_or(Duration::ZERO, |newest| every.saturating_sub(newest))
}

/// Makes a copy a day until the end is asked for, which `ends_within` waits for: some let Hearth run for weeks.
fn keep_making(files: &Files, stop: &Stop, mut ends_within: impl FnMut(Duration) -> bool) {
    let mut wait = AFTER_START;
    while !ends_within(wait) {
        if until_next(files, DAY).is_zero() {
            try_daily(files, stop);
        }
        wait = BETWEEN_LOOKS;
    }
}

fn try_daily(files: &Files, stop: &Stop) {
    if let Err(fault) = make_daily(files, stop)
        && !stop.is_asked.load(Ordering::SeqCst)
    {
        let error = fault.while_doing("back up the conversations");
        tracing::warn!(%error, "no backup of the conversations was made");
    }
}

fn make_daily(files: &Files, stop: &Stop) -> Attempt<()> {
    let connection = database::open_to_read(&files.database(), BUSY_TIMEOUT)?;
    let said: i64 =
        connection.query_row("SELECT count(*) FROM (SELECT 1 FROM message LIMIT 1)", [], |row| row.get(0))?;
    if said > 0 {
        make(files, &connection, &format!("{DAILY}{}", now()), stop)?;
        remove_oldest(files, DAILY, DAILY_KEPT);
    }
    Ok(())
}

/// Makes a copy before the schema becomes another one than `version`.
///
/// # Errors
/// Damage where the database is damaged; anything else where the copy cannot be made.
pub(super) fn make_before(files: &Files, connection: &Connection, version: usize) -> Attempt<()> {
    make(files, connection, &format!("{BEFORE}{}-{}", version + 1, now()), &Stop::default())?;
    remove_oldest(files, BEFORE, BEFORE_KEPT);
    Ok(())
}

/// Removes what copies left behind that were cut off. Nobody may be making one.
pub(super) fn clear_up(files: &Files) {
    for path in named(files, |name| name.ends_with(UNFINISHED)) {
        // One that stays costs space and nothing else.
        std::fs::remove_file(path).ok();
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S").to_string()
}

fn make(files: &Files, connection: &Connection, name: &str, stop: &Stop) -> Attempt<()> {
    let failed = |reason: String, full| Error::History { doing: "back up the conversations", reason, full };
    let io =
        |error: std::io::Error| failed(error.to_string(), error.kind() == std::io::ErrorKind::StorageFull);
    let stopped = || failed("it was stopped".into(), false).into();
    // Removed again where anything fails.
    let unfinished = tempfile::Builder::new()
        .suffix(UNFINISHED)
        .tempfile_in(files.backups())
        .map_err(io)?
        .into_temp_path();
    if stop.reaches(connection) {
        return Err(stopped());
    }
    // As bytes: a path need not be Unicode.
    connection.execute("VACUUM INTO CAST(?1 AS TEXT)", [unfinished.as_os_str().as_encoded_bytes()])?;
    if !is_good(&unfinished, stop) {
        if stop.reaches(connection) {
            return Err(stopped());
        }
        // What is damaged is copied as it is.
        if !database::is_whole(connection)? {
            return Err(Fault::damage("a copy of it does not read back"));
        }
        return Err(failed("the copy does not read back".into(), false).into());
    }
    files::keep_for_the_user(&unfinished).map_err(io)?;
    unfinished.persist(files.backups().join(format!("{name}.sqlite"))).map_err(|error| io(error.error))?;
    Ok(())
}

/// Whether a copy can take the database's place.
fn is_good(path: &Path, stop: &Stop) -> bool {
    let check = || -> rusqlite::Result<bool> {
        let connection = database::open_to_read(path, BUSY_TIMEOUT)?;
        Ok(!stop.reaches(&connection) && database::is_whole(&connection)?)
    };
    check().unwrap_or(false)
}

/// The newest copy that can take the database's place.
pub(super) fn newest_good(files: &Files) -> Option<PathBuf> {
    let mut all: Vec<PathBuf> = list(files, DAILY);
    all.extend(list(files, BEFORE));
    all.sort_by_key(|path| modified(path));
    all.into_iter().rev().find(|path| is_good(path, &Stop::default()))
}

/// Copies whose names begin so, the oldest first: their names are in the order of time.
fn list(files: &Files, beginning: &str) -> Vec<PathBuf> {
    named(files, |name| name.starts_with(beginning) && name.ends_with(".sqlite"))
}

fn named(files: &Files, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_one);
    let entries = std::fs::read_dir(files.backups()).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    all.sort();
    all
}

fn remove_oldest(files: &Files, beginning: &str, kept: usize) {
    let all = list(files, beginning);
    for old in &all[..all.len().saturating_sub(kept)] {
        // One that stays costs space and nothing else.
        std::fs::remove_file(old).ok();
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// How old a copy is; nothing where its time has not come yet.
fn age(path: &Path) -> Option<Duration> {
    modified(path)?.elapsed().ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::history::{conversations, migrations};

    /// A database in which one message was said.
    fn say_something(files: &Files) {
        let mut connection = database::open_file(&files.database(), BUSY_TIMEOUT).expect("opens");
        migrations::run(&mut connection).expect("has its tables");
        let id = Uuid::from_u128(1);
        conversations::begin(&connection, id).expect("begins");
        connection
            .execute(
                "INSERT INTO message (id, conversation, role, text, status, created)
                 SELECT ?1, number, 'user', 'Hello', 'complete', created FROM conversation",
                [id],
            )
            .expect("is said");
    }

    #[test]
    fn a_long_run_makes_a_copy_after_its_start_and_again_when_a_day_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { folder: folder.path().to_owned() };
        std::fs::create_dir(files.backups()).expect("a folder");
        say_something(&files);
        let mut waited = Vec::new();
        let mut found = Vec::new();
        keep_making(&files, &Stop::default(), |time| {
            waited.push(time);
            let copies = list(&files, DAILY);
            found.push(copies.len());
            // The second look comes on the same day; behind it the only copy becomes as old as a day.
            if let ([copy], 3) = (copies.as_slice(), waited.len()) {
                let yesterday = copy.with_file_name(format!("{DAILY}2000-01-01T00-00-00.sqlite"));
                std::fs::rename(copy, &yesterday).expect("renamed");
                let copy = std::fs::File::options().write(true).open(yesterday).expect("opens");
                copy.set_modified(SystemTime::now() - DAY).expect("made older");
            }
            waited.len() == 4
        });
        assert_eq!(found, [0, 1, 1, 2]);
        assert_eq!(waited, [AFTER_START, BETWEEN_LOOKS, BETWEEN_LOOKS, BETWEEN_LOOKS]);
    }
}
