//! Where conversations lie: on the disk, or in memory where they must not or cannot be written.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::conversations;
use super::database::{self, Attempt, Fault};
use super::files::Files;
use super::opening;
use super::record::{self, ConversationRecord, Existing};
use super::runs::RunLock;
use super::salvage;
use super::search::{self, SearchHit};
use crate::Change;
use crate::conversation::ConversationSummary;
use crate::error::{Error, Result};
use crate::notices::{Notices, Severity};

/// What notices about the conversations are filed under.
const NOTICE: &str = "history";
const DAMAGE_NOTICE: &str = "historyDamaged";

/// The fact that says which conversation was shown last.
const SHOWN: &str = "shown conversation";

/// Why a conversation lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Nothing was said in it yet.
    Fresh,
    Private,
    /// The disk did not take it.
    Unsaved,
}

/// The two places of conversations.
pub(super) struct Stores {
    files: Files,
    /// The file, or why it is not open.
    disk: Result<Connection>,
    memory: Connection,
    in_memory: HashMap<Uuid, Why>,
    /// The conversation that the next run shows, once it is on the disk.
    shown: Option<Uuid>,
    run: Option<RunLock>,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
}

impl Stores {
    pub(super) fn open(folder: PathBuf, notices: Arc<Notices>, changes: broadcast::Sender<Change>) -> Self {
        let memory = database::open_in_memory().expect("the schema is right and memory takes it");
        let mut stores = Self {
            files: Files { folder },
            disk: Err(not_open()),
            memory,
            in_memory: HashMap::new(),
            shown: None,
            run: None,
            notices,
            changes,
        };
        stores.open_or_warn();
        stores
    }

    fn open_or_warn(&mut self) {
        self.disk = self.open_disk();
        if let Err(error) = &self.disk {
            self.warn(&error.to_string());
        }
    }

    /// Tries again to open a file that could not be opened. What went on in memory meanwhile moves there.
    fn reopen(&mut self) {
        if self.disk.is_ok() {
            return;
        }
        self.open_or_warn();
        if self.disk.is_ok() {
            self.save_what_is_unsaved();
            self.note_saved();
            // Without listeners there is nobody to tell.
            self.changes.send(Change::Conversations).ok();
        }
    }

    fn open_disk(&mut self) -> Result<Connection> {
        self.files.make().map_err(|error| database::place_error(&self.files.folder, &error))?;
        if self.run.is_none() {
            let runs = self.files.runs();
            self.run = Some(RunLock::begin(&runs).map_err(|error| database::place_error(&runs, &error))?);
        }
        let run = self.run.as_ref();
        let others = run.map(RunLock::others).unwrap_or_default();
        let (is_alone, was_cut_off) = (others.alive.is_empty(), !others.cut_off.is_empty());
        let mut connection = match opening::open(&self.files, was_cut_off) {
            Err(fault) if fault.is_damage_at_opening() && is_alone => self.repair()?,
            result => result.map_err(|fault| fault.while_doing("open"))?,
        };
        let is_over = |id: Option<Uuid>| !id.zip(run).is_some_and(|(id, run)| run.is_alive(id));
        match opening::tidy(&mut connection, is_over) {
            Err(fault) if fault.is_damage() && is_alone => {
                drop(connection);
                connection = self.repair()?;
            }
            result => result.map_err(|fault| fault.while_doing("end interrupted replies"))?,
        }
        if let Some(run) = run {
            run.forget(&others.cut_off);
        }
        opening::back_up(self.files.clone());
        Ok(connection)
    }

    /// Makes a new database of what can be read of a damaged one, and tells of it.
    fn repair(&self) -> Result<Connection> {
        let failed = |reason| Error::History { doing: "put together what can be read", reason, full: false };
        let salvaged = salvage::repair(&self.files).map_err(failed)?;
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
        opening::open(&self.files, false).map_err(|fault| fault.while_doing("open"))
    }

    /// The same while the application runs. Not where another process has the file open: moving it away
    /// would take it from there.
    fn repair_while_open(&mut self) -> bool {
        if !self.run.as_ref().is_some_and(|run| run.others().alive.is_empty()) {
            return false;
        }
        self.disk = Err(not_open());
        self.disk = self.repair();
        if let Err(error) = &self.disk {
            self.warn(&error.to_string());
        }
        self.disk.is_ok()
    }

    /// The id of this run, for the replies that it makes.
    pub(super) fn run(&self) -> Option<Uuid> {
        self.run.as_ref().map(|run| run.id)
    }

    /// Begins a conversation in memory.
    pub(super) fn begin(&mut self, private: bool) -> Uuid {
        let id = Uuid::new_v4();
        conversations::begin(&self.memory, id).expect("memory takes a row under a new id");
        self.in_memory.insert(id, if private { Why::Private } else { Why::Fresh });
        id
    }

    /// Forgets a conversation in which nothing was said, when another one is shown.
    pub(super) fn leave(&mut self, id: Uuid) {
        if self.is_fresh(id) {
            self.in_memory.remove(&id);
            // What stays in memory is one empty row.
            self.memory.execute("DELETE FROM conversation WHERE id = ?1", [id]).ok();
        }
    }

    /// Removes a conversation with all its rows where it is a private one: its memory is overwritten. Says
    /// whether it was one.
    pub(super) fn remove_private(&mut self, id: Uuid) -> Attempt<bool> {
        if self.in_memory.get(&id) != Some(&Why::Private) {
            return Ok(false);
        }
        database::change(&mut self.memory, |change| Ok(conversations::remove(change, id)?))?;
        self.in_memory.remove(&id);
        Ok(true)
    }

    pub(super) fn is_fresh(&self, id: Uuid) -> bool {
        self.in_memory.get(&id) == Some(&Why::Fresh)
    }

    pub(super) fn is_on_disk(&self, id: Uuid) -> bool {
        !self.in_memory.contains_key(&id)
    }

    /// Says of a conversation where it lies.
    pub(super) fn note_place(&self, about: &mut ConversationSummary) {
        let why = self.in_memory.get(&about.id);
        about.private = why == Some(&Why::Private);
        about.saved = why.is_none();
    }

    /// Looks at the place where the conversation `id` lies.
    pub(super) fn read<T>(&mut self, id: Uuid, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        if self.is_on_disk(id) { self.look_at_disk(look) } else { look(&self.memory) }
    }

    /// Looks at the disk; where what is there is damaged, again after a repair.
    fn look_at_disk<T>(&mut self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        let attempt = |disk: &Result<Connection>| look(disk.as_ref().map_err(Error::clone)?);
        match attempt(&self.disk) {
            Err(fault) if fault.is_damage() && self.repair_while_open() => attempt(&self.disk),
            result => result,
        }
    }

    /// Looks at the disk, or at memory where there is none.
    pub(super) fn look<T>(&self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        look(self.disk.as_ref().unwrap_or(&self.memory))
    }

    /// Changes a conversation where it lies. What was new, or could not be written before, moves to the disk
    /// with it; what the disk does not take goes on in memory.
    pub(super) fn change<T>(
        &mut self,
        id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        if self.in_memory.get(&id) == Some(&Why::Private) {
            return database::change(&mut self.memory, &change);
        }
        self.reopen();
        let made = if self.is_on_disk(id) {
            match self.change_on_disk(&change) {
                Err(fault) if fault.is_refusal_of_disk() => {
                    self.take_into_memory(id, fault)?;
                    return database::change(&mut self.memory, &change);
                }
                result => result?,
            }
        } else {
            let made = database::change(&mut self.memory, &change)?;
            if !self.move_to_disk(id) {
                return Ok(made);
            }
            made
        };
        // The disk took this, so it may take what it refused before.
        self.save_what_is_unsaved();
        Ok(made)
    }

    /// Changes a conversation that is new, without keeping it yet.
    pub(super) fn change_in_memory(
        &mut self,
        _id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<()>,
    ) -> Result<()> {
        database::change(&mut self.memory, change).map_err(|fault| fault.while_doing("change a conversation"))
    }

    fn change_on_disk<T>(&mut self, change: impl Fn(&Transaction<'_>) -> Attempt<T>) -> Attempt<T> {
        let attempt = |disk: &mut Result<Connection>| {
            database::change(disk.as_mut().map_err(|error| error.clone())?, &change)
        };
        match attempt(&mut self.disk) {
            Err(fault) if fault.is_damage() && self.repair_while_open() => attempt(&mut self.disk),
            result => result,
        }
    }

    /// Copies a conversation into memory, because the disk did not take a change of it.
    fn take_into_memory(&mut self, id: Uuid, fault: Fault) -> Attempt<()> {
        let Ok(disk) = &self.disk else { return Err(fault) };
        let Some(record) = record::read(disk, id)? else { return Err(fault) };
        database::change(&mut self.memory, |change| Ok(record::write(change, &record, Existing::Replace)?))?;
        self.in_memory.insert(id, Why::Unsaved);
        self.warn(&fault.while_doing("write").to_string());
        Ok(())
    }

    /// Moves a conversation from memory to the disk; says whether the disk took it.
    fn move_to_disk(&mut self, id: Uuid) -> bool {
        match self.try_to_move(id) {
            Ok(()) => {
                self.in_memory.remove(&id);
                self.memory.execute("DELETE FROM conversation WHERE id = ?1", [id]).ok();
                self.note_saved();
                true
            }
            Err(fault) => {
                self.in_memory.insert(id, Why::Unsaved);
                self.warn(&fault.while_doing("write").to_string());
                false
            }
        }
    }

    /// Moves what the disk refused before, up to the first that it still refuses.
    fn save_what_is_unsaved(&mut self) {
        for id in self.unsaved() {
            if !self.move_to_disk(id) {
                break;
            }
        }
    }

    fn unsaved(&self) -> Vec<Uuid> {
        self.in_memory.iter().filter(|(_, why)| **why == Why::Unsaved).map(|(id, _)| *id).collect()
    }

    /// Takes the notice away where all is saved.
    fn note_saved(&self) {
        if self.unsaved().is_empty() && self.notices.all().iter().any(|notice| notice.code == NOTICE) {
            self.notices.clear(NOTICE);
            self.changes.send(Change::Notices).ok();
        }
    }

    fn try_to_move(&mut self, id: Uuid) -> Attempt<()> {
        let disk = self.disk.as_mut().map_err(|error| error.clone())?;
        let Some(record) = record::read(&self.memory, id)? else { return Ok(()) };
        let deleted = conversations::find(&self.memory, id)?.and_then(|header| header.deleted);
        let is_shown = self.shown == Some(id);
        database::change(disk, |change| {
            record::write(change, &record, Existing::Replace)?;
            if is_shown {
                conversations::set_fact(change, SHOWN, &id.to_string())?;
            }
            conversations::set_deleted(change, id, deleted)
        })
    }

    fn warn(&self, reason: &str) {
        let message = format!(
            "New messages are not saved: {reason}. You can chat all the same; what is on the disk stays as it \
             is, and saving goes on by itself as soon as the disk takes it."
        );
        if self.notices.all().iter().any(|notice| notice.code == NOTICE && notice.message == message) {
            return;
        }
        tracing::warn!(reason, "conversations are not saved");
        self.notices.clear(NOTICE);
        self.notices.add(Severity::Error, NOTICE, message);
        self.changes.send(Change::Notices).ok();
    }

    pub(super) fn list(&mut self, skip: usize, most: usize) -> Attempt<Vec<ConversationSummary>> {
        self.reopen();
        let mut all: Vec<ConversationSummary> = Vec::new();
        for mut about in conversations::list(&self.memory, 0, usize::MAX)? {
            self.note_place(&mut about);
            if !self.is_fresh(about.id) {
                all.push(about);
            }
        }
        if self.disk.is_ok() {
            let reach = skip.saturating_add(most).saturating_add(all.len());
            let on_disk = self.look_at_disk(|disk| Ok(conversations::list(disk, 0, reach)?))?;
            all.extend(on_disk.into_iter().filter(|about| self.is_on_disk(about.id)));
        }
        all.sort_by_key(|about| std::cmp::Reverse((about.pinned, about.updated)));
        Ok(all.into_iter().skip(skip).take(most).collect())
    }

    pub(super) fn search(&mut self, words: &str, most: usize) -> Attempt<Vec<SearchHit>> {
        let Some(query) = search::query(words) else { return Ok(Vec::new()) };
        let mut hits = search::find(&self.memory, &query, most)?;
        if self.disk.is_ok() {
            let on_disk = self.look_at_disk(|disk| Ok(search::find(disk, &query, most)?))?;
            hits.extend(on_disk.into_iter().filter(|hit| self.is_on_disk(hit.conversation)));
        }
        hits.truncate(most);
        Ok(hits)
    }

    pub(super) fn duplicate(&mut self, id: Uuid) -> Attempt<Uuid> {
        let record = self.read(id, |connection| Ok(record::read(connection, id)?))?;
        let record = record.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() })?;
        let copy = record.renewed();
        let why = if self.in_memory.get(&id) == Some(&Why::Private) { Why::Private } else { Why::Unsaved };
        database::change(&mut self.memory, |change| Ok(record::write(change, &copy, Existing::Replace)?))?;
        self.in_memory.insert(copy.id, why);
        if why == Why::Unsaved {
            self.move_to_disk(copy.id);
        }
        Ok(copy.id)
    }

    /// Whether conversations can be on the disk at all.
    pub(super) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Every conversation that may leave the application.
    pub(super) fn ids(&self) -> Attempt<Vec<Uuid>> {
        let mut ids = match &self.disk {
            Ok(disk) => conversations::ids(disk)?,
            Err(_) => Vec::new(),
        };
        let mut unsaved = self.unsaved();
        unsaved.retain(|id| !ids.contains(id));
        ids.extend(unsaved);
        Ok(ids)
    }

    /// Adds what is not here of a conversation. Says whether anything was.
    pub(super) fn import(&mut self, record: &ConversationRecord) -> Attempt<bool> {
        let write = |change: &Transaction<'_>| {
            let known = conversations::find(change, record.id)?.filter(|header| header.deleted.is_none());
            let added = record::write(change, record, Existing::Keep)?;
            Ok(known.is_none() || added > 0)
        };
        if self.is_on_disk(record.id) { self.change_on_disk(write) } else { self.change(record.id, write) }
    }

    /// The conversation that the run before showed last, if it still is there.
    pub(super) fn last_shown(&self) -> Option<Uuid> {
        let disk = self.disk.as_ref().ok()?;
        let id = conversations::fact(disk, SHOWN).ok().flatten()?.parse().ok()?;
        conversations::number(disk, id).ok().map(|_| id)
    }

    /// Remembers for the next run which conversation is shown.
    pub(super) fn note_shown(&mut self, id: Uuid) {
        self.shown = Some(id);
        if self.in_memory.contains_key(&id) {
            return;
        }
        // Which one was open is worth a try and no failure.
        let set = self.change_on_disk(|change| Ok(conversations::set_fact(change, SHOWN, &id.to_string())?));
        if let Err(fault) = set {
            let error = fault.while_doing("remember what is shown");
            tracing::warn!(%error, "the next start shows another conversation");
        }
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        for id in self.unsaved() {
            self.move_to_disk(id);
        }
        // Closing writes the log back into the file; then the run has ended in order.
        self.disk = Err(not_open());
        if let Some(run) = &self.run {
            run.end();
        }
    }
}

/// Before the file is opened, while it is repaired, and at the end.
fn not_open() -> Error {
    Error::History { doing: "work", reason: "it is not open".into(), full: false }
}
