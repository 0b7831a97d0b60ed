//! The place of conversations on the disk: how it is opened, repaired, tried again and let go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction};
use tokio::sync::broadcast;

use super::backups::{self, RunningBackup};
use super::database::{self, Attempt, BUSY_TIMEOUT, Fault};
use super::files::Files;
use super::opening;
use super::reader::Reader;
use super::runs::RunLock;
use super::salvage::{self, Salvaged};
use crate::Change;
use crate::error::{Error, Result};
use crate::notices::{Notices, Severity};

/// What notices about the conversations are filed under.
const NOTICE: &str = "history";
const DAMAGE_NOTICE: &str = "historyDamaged";

/// The file of conversations, as far as it is open.
pub(super) struct Disk {
    files: Files,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
    /// Whether this run shows nothing to anybody and ends soon.
    is_short: bool,
    /// Open for reading only where there is trouble.
    connection: Option<Connection>,
    /// Looks at the same file beside it.
    reader: Arc<Reader>,
    run: Option<Arc<RunLock>>,
    backup: Option<RunningBackup>,
    /// What the user was told of what the disk did not take last.
    refusal: Option<String>,
    /// Why the last try to open did not succeed.
    trouble: Option<Error>,
    is_closed: bool,
}

impl Disk {
    /// Opens the file in `folder`. What keeps it from opening becomes a notice, and is tried again.
    pub(super) fn open(
        folder: PathBuf,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
        is_short: bool,
        reader: Arc<Reader>,
    ) -> Self {
        let mut disk = Self {
            files: Files { folder },
            notices,
            changes,
            is_short,
            connection: None,
            reader,
            run: None,
            backup: None,
            refusal: None,
            trouble: None,
            is_closed: false,
        };
        if let Err(error) = disk.try_to_open(BUSY_TIMEOUT) {
            disk.refuse(error);
        }
        disk
    }

    /// Tries again to open the file for writing, where that did not succeed before. Waits for nobody.
    pub(super) fn open_again(&mut self) {
        if self.trouble.is_none() || self.is_closed {
            return;
        }
        match self.try_to_open(Duration::ZERO) {
            Ok(()) => {
                self.note_success();
                self.changes.send(Change::Conversations).ok();
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: Error) {
        self.note_refusal(&error);
        // What cannot be written can be read more often than not.
        if self.connection.is_none() {
            self.connection = opening::open_to_look(&self.files).ok();
        }
        if !self.reader.is_open() && self.connection.is_some() {
            self.reader.exchange(opening::open_to_look(&self.files).ok());
        }
        self.reader.note_blocked(true);
        self.trouble = Some(error);
    }

    fn try_to_open(&mut self, patience: Duration) -> Result<()> {
        let _opening =
            self.files.lock_opening(!patience.is_zero()).map_err(|error| self.place_error(&error))?;
        self.files.make().map_err(|error| self.place_error(&error))?;
        let run = match &self.run {
            Some(run) => Arc::clone(run),
            None => Arc::new(RunLock::begin(&self.files.runs()).map_err(|error| self.place_error(&error))?),
        };
        match self.open_for(&run, patience) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.open_reader();
                self.run = Some(run);
                self.trouble = None;
                self.backup = backups::begin(self.files.clone(), self.is_short);
                Ok(())
            }
            Err(error) => {
                if self.run.is_none() {
                    run.end();
                }
                Err(error)
            }
        }
    }

    fn place_error(&self, error: &std::io::Error) -> Error {
        database::place_error(&self.files.folder, error)
    }

    fn open_for(&self, run: &RunLock, patience: Duration) -> Result<Connection> {
        let others = run.others();
        let (is_alone, was_cut_off) = (others.alive.is_empty(), !others.cut_off.is_empty());
        // While a repair is unfinished nobody has the file open.
        if let Some(salvaged) = salvage::finish(&self.files).map_err(|error| self.place_error(&error))? {
            self.tell_of_repair(&salvaged);
        }
        if is_alone {
            salvage::clear_up(&self.files);
            backups::clear_up(&self.files);
        }
        let mut connection = match opening::open(&self.files, was_cut_off, patience) {
            Err(fault) if fault.is_damage() && is_alone => self.repair()?,
            result => result.map_err(|fault| fault.while_doing("open"))?,
        };
        match opening::tidy(&mut connection, |id| id.is_none_or(|id| !run.is_alive(id))) {
            Err(fault) if fault.is_damage() && is_alone => {
                leave_as_it_is(connection);
                connection = self.repair()?;
            }
            result => result.map_err(|fault| fault.while_doing("end interrupted replies"))?,
        }
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| Fault::Sql(error).while_doing("open"))?;
        run.forget(&others.cut_off);
        Ok(connection)
    }

    /// Opens the file for those who only look at it. Where that does not succeed they wait for the writer.
    fn open_reader(&self) {
        let opened = database::open_reader(&self.files.database());
        if let Err(error) = &opened {
            tracing::warn!(%error, "what is read waits for what is written");
        }
        self.reader.exchange(opened.ok());
        self.reader.note_blocked(false);
    }

    /// Makes a new database of what can be read of a damaged one, and tells of it.
    fn repair(&self) -> Result<Connection> {
        // Nobody may look at a file while it is exchanged.
        self.reader.exchange(None);
        let salvaged = salvage::repair(&self.files)?;
        self.tell_of_repair(&salvaged);
        opening::open(&self.files, false, BUSY_TIMEOUT).map_err(|fault| fault.while_doing("open"))
    }

    fn tell_of_repair(&self, salvaged: &Salvaged) {
        let message = format!(
            "The file of your conversations was damaged. {} conversations with {} messages were read from it \
             and put together with the newest backup. The damaged file is kept in `{}`.",
            salvaged.conversations,
            salvaged.messages,
            salvaged.kept.display()
        );
        tracing::warn!(salvaged.conversations, salvaged.messages, "a damaged file was salvaged");
        self.notices.add(Severity::Warning, DAMAGE_NOTICE, message);
        self.changes.send(Change::Notices).ok();
    }

    /// The same while the application runs. Not where another process has the file open: moving it away
    /// would take it from there.
    fn repair_while_open(&mut self) -> bool {
        let Some(run) = self.run.clone() else { return false };
        let Ok(_opening) = self.files.lock_opening(true) else { return false };
        if !run.others().alive.is_empty() {
            return false;
        }
        // The writer goes last: it is the one that leaves the file as it is.
        self.reader.exchange(None);
        if let Some(connection) = self.connection.take() {
            leave_as_it_is(connection);
        }
        match self.repair() {
            Ok(connection) => {
                self.connection = Some(connection);
                self.open_reader();
                true
            }
            Err(error) => {
                self.refuse(error);
                false
            }
        }
    }

    /// This run, where it writes.
    pub(super) fn run(&self) -> Option<Arc<RunLock>> {
        self.run.clone()
    }

    /// Why nothing of the file can be read, where nothing can.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble.clone().filter(|_| self.connection.is_none())
    }

    pub(super) fn is_readable(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn connection(&self) -> Attempt<&Connection> {
        self.connection.as_ref().ok_or_else(|| self.not_open())
    }

    fn not_open(&self) -> Fault {
        let closed = || Error::History { doing: "write", reason: "it was closed".into(), full: false };
        self.trouble.clone().unwrap_or_else(closed).into()
    }

    /// Looks at the file; where what is there is damaged, again after a repair.
    pub(super) fn look<T>(&mut self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        match self.connection().and_then(&look) {
            Err(fault) if fault.is_damage() && self.repair_while_open() => self.connection().and_then(&look),
            result => result,
        }
    }

    /// Makes a change; in a file that is damaged, again after a repair.
    pub(super) fn change<T>(&mut self, change: impl Fn(&Transaction<'_>) -> Attempt<T>) -> Attempt<T> {
        self.change_by(|connection| database::change_synced(connection, &change))
    }

    /// The same, without waiting for the disk: see [`database::change_unsynced`].
    pub(super) fn change_unsynced<T>(
        &mut self,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        self.change_by(|connection| database::change_unsynced(connection, &change))
    }

    fn change_by<T>(&mut self, change: impl Fn(&mut Connection) -> Attempt<T>) -> Attempt<T> {
        self.open_again();
        let made = match self.attempt(&change) {
            Err(fault) if fault.is_damage() && self.repair_while_open() => self.attempt(&change),
            result => result,
        };
        match &made {
            Ok(_) if self.trouble.is_none() => self.note_success(),
            // What keeps the file from being open for writing was told.
            Err(fault) if fault.is_refusal_of_disk() && self.trouble.is_none() => {
                self.note_refusal(&fault.while_doing("write"));
            }
            _ => {}
        }
        made
    }

    /// Makes a change on which nothing depends: it waits for nobody, and a refusal is told to nobody.
    pub(super) fn change_in_passing<T>(
        &mut self,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        self.wait_for_others(Duration::ZERO);
        let made = self.attempt(|connection| database::change_synced(connection, &change));
        if self.refusal.is_none() {
            self.wait_for_others(BUSY_TIMEOUT);
        }
        made
    }

    fn attempt<T>(&mut self, change: impl Fn(&mut Connection) -> Attempt<T>) -> Attempt<T> {
        match &mut self.connection {
            Some(connection) => change(connection),
            None => Err(self.not_open()),
        }
    }

    /// Whether the disk took what it was given last.
    pub(super) fn takes_changes(&self) -> bool {
        self.refusal.is_none() && self.trouble.is_none() && !self.is_closed
    }

    fn note_success(&mut self) {
        if self.refusal.take().is_some() {
            self.wait_for_others(BUSY_TIMEOUT);
            self.notices.clear(NOTICE);
            self.changes.send(Change::Notices).ok();
        }
    }

    /// Tells what the disk does not take, once for each reason.
    fn note_refusal(&mut self, error: &Error) {
        let reason = error.to_string();
        let is_known = self.refusal.as_ref() == Some(&reason);
        self.refusal = Some(reason);
        // Everybody waits while this waits, so that it is done once and not at each try.
        self.wait_for_others(Duration::ZERO);
        if is_known || self.is_closed {
            return;
        }
        let message = format!(
            "New messages are not saved: {error}. You can chat all the same; what is on the disk stays as it \
             is, and saving goes on by itself as soon as the disk takes it."
        );
        tracing::warn!(%error, "conversations are not saved");
        self.notices.clear(NOTICE);
        self.notices.add(Severity::Error, NOTICE, message);
        self.changes.send(Change::Notices).ok();
    }

    fn wait_for_others(&self, patience: Duration) {
        if let Some(connection) = &self.connection {
            // It only fails where nothing else succeeds either.
            connection.busy_timeout(patience).ok();
        }
    }

    /// Lets the file go: what is in the log goes back into it, and the run has ended in order.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        if let Some(backup) = self.backup.take() {
            backup.end(self.is_short);
        }
        // The writer goes last: only it can write the log back.
        self.reader.exchange(None);
        self.connection = None;
        if let Some(run) = self.run.take() {
            run.end();
        }
    }
}

/// Closes a damaged file without writing anything back into it: it is kept as it was found.
fn leave_as_it_is(connection: Connection) {
    // Where this fails the copy that is kept differs by what was in the log, which stands beside it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok();
    drop(connection);
}
