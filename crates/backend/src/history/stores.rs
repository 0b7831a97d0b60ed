//! What changes conversations, where they lie: on the disk, or in memory where they must not or cannot be written.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, Transaction};
use uuid::Uuid;

use super::conversations;
use super::database::{Attempt, Fault};
use super::disk::Disk;
use super::memory::{Memory, Why};
use super::record::{self, ConversationRecord, Existing};
use super::runs::RunLock;
use crate::error::Error;
use crate::turn::lock;

/// The fact that says which conversation was shown last.
const SHOWN: &str = "shown conversation";

/// When a change is safe from a power cut; from the end of the process it always is at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Synced {
    Now,
    /// As soon as the log of changes is synced.
    Later,
}

/// The two places of conversations, for one change at a time. `memory` is held for moments only: those who read it
/// wait for no disk.
pub(super) struct Stores {
    disk: Disk,
    memory: Arc<Mutex<Memory>>,
    /// The conversation that the next run shows, once it is on the disk.
    shown: Option<Uuid>,
    /// The one that the disk has noted.
    noted: Option<Uuid>,
}

impl Stores {
    pub(super) fn new(disk: Disk, memory: Arc<Mutex<Memory>>) -> Self {
        Self { disk, memory, shown: None, noted: None }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// This run, for the replies that it makes.
    pub(super) fn run(&self) -> Option<Arc<RunLock>> {
        self.disk.run()
    }

    /// Why nothing on the disk can be read, where nothing can.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.disk.trouble()
    }

    pub(super) fn is_readable(&self) -> bool {
        self.disk.is_readable()
    }

    /// Tries again to open the file for writing, where that did not succeed before.
    pub(super) fn open_again(&mut self) {
        self.disk.open_again();
    }

    /// Looks at the disk with the connection that writes; where what is there is damaged, again after a repair.
    pub(super) fn look<T>(&mut self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        self.disk.look(look)
    }

    fn is_on_disk(&self, id: Uuid) -> bool {
        !self.memory().has(id)
    }

    pub(super) fn is_fresh(&self, id: Uuid) -> bool {
        self.memory().is_fresh(id)
    }

    /// Changes a conversation where it lies. What was new, or could not be written before, moves to the disk
    /// with it; what the disk does not take goes on in memory.
    pub(super) fn change<T>(
        &mut self,
        id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        let is_to_move = matches!(self.memory().why(id), Some(Why::Fresh | Why::Unsaved(_)));
        let made = self.change_in_place(id, change, Synced::Now)?;
        if is_to_move {
            self.move_to_disk(id);
        }
        if self.disk.takes_changes() {
            let unsaved = self.memory().unsaved();
            unsaved.into_iter().for_each(|id| self.move_to_disk(id));
        }
        Ok(made)
    }

    /// The same, and what lies in memory stays there: for what is changed every second.
    pub(super) fn change_in_place<T>(
        &mut self,
        id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
        synced: Synced,
    ) -> Attempt<T> {
        if !self.is_on_disk(id) {
            return self.memory().change(&change);
        }
        let made = match synced {
            Synced::Now => self.disk.change(&change),
            Synced::Later => self.disk.change_unsynced(&change),
        };
        match made {
            Err(fault) if fault.is_refusal_of_disk() => {
                self.take_into_memory(id, fault)?;
                self.memory().change(&change)
            }
            made => {
                self.note_shown();
                made
            }
        }
    }

    /// Copies a conversation into memory, because the disk did not take a change of it.
    fn take_into_memory(&mut self, id: Uuid, fault: Fault) -> Attempt<()> {
        let Ok(disk) = self.disk.connection() else { return Err(fault) };
        let Some(record) = record::read(disk, id)? else { return Err(fault) };
        self.memory().take(&record, Why::Unsaved(record.parts()))
    }

    /// Moves a conversation from memory to the disk, if the disk takes it.
    fn move_to_disk(&mut self, id: Uuid) {
        match self.try_to_move(id) {
            Ok(()) => self.memory().remove(id),
            Err(fault) => {
                let error = fault.while_doing("write");
                tracing::warn!(%error, "a conversation stays in memory for now");
                self.memory().note_unsaved(id);
            }
        }
    }

    fn try_to_move(&mut self, id: Uuid) -> Attempt<()> {
        let is_shown = self.shown == Some(id);
        let before = match self.memory().why(id) {
            Some(Why::Unsaved(before)) => before.clone(),
            _ => HashSet::new(),
        };
        let memory = Arc::clone(&self.memory);
        self.disk.change(|change| {
            // Read here, so that a disk that takes nothing is found out before it costs anything.
            let found = lock(&memory).look(|memory| {
                let deleted = conversations::find(memory, id)?.and_then(|header| header.deleted);
                Ok(record::read(memory, id)?.map(|record| (record, deleted)))
            })?;
            let Some((record, deleted)) = found else { return Ok(()) };
            record::write(change, &record, Existing::Replace)?;
            record::remove_parts(change, id, before.difference(&record.parts()))?;
            if is_shown {
                conversations::set_fact(change, SHOWN, &id.to_string())?;
            }
            conversations::set_deleted(change, id, deleted)
        })?;
        if is_shown {
            self.noted = Some(id);
        }
        Ok(())
    }

    pub(super) fn duplicate(&mut self, id: Uuid) -> Attempt<Uuid> {
        let read = |connection: &Connection| -> Attempt<Option<ConversationRecord>> {
            conversations::number(connection, id)?;
            Ok(record::read(connection, id)?)
        };
        let record = if self.is_on_disk(id) { self.disk.look(read)? } else { self.memory().look(read)? };
        let record = record.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() })?;
        let copy = record.renewed();
        let is_private = self.memory().why(id) == Some(&Why::Private);
        let why = if is_private { Why::Private } else { Why::Unsaved(HashSet::new()) };
        self.memory().take(&copy, why)?;
        if !is_private {
            self.move_to_disk(copy.id);
        }
        Ok(copy.id)
    }

    /// Every conversation that may leave the application.
    ///
    /// # Errors
    /// Also where nothing on the disk can be read: no conversations are not those that nobody can see.
    pub(super) fn ids(&mut self) -> Attempt<Vec<Uuid>> {
        self.disk.open_again();
        if let Some(error) = self.disk.trouble() {
            return Err(error.into());
        }
        let mut ids = conversations::ids(self.disk.connection()?)?;
        let unsaved = self.memory().unsaved();
        ids.extend(unsaved.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        Ok(ids)
    }

    /// Adds what is not here of a conversation. Says whether anything was.
    pub(super) fn import(&mut self, record: &ConversationRecord) -> Attempt<bool> {
        let write = |change: &Transaction<'_>| {
            let known = conversations::find(change, record.id)?.filter(|header| header.deleted.is_none());
            let added = record::write(change, record, Existing::Keep)?;
            Ok(known.is_none() || added > 0)
        };
        if self.is_on_disk(record.id) { self.disk.change(write) } else { self.change(record.id, write) }
    }

    /// The conversation that the run before showed last, if it still is there.
    pub(super) fn last_shown(&mut self) -> Option<Uuid> {
        let disk = self.disk.connection().ok()?;
        let id = conversations::fact(disk, SHOWN).ok().flatten()?.parse().ok()?;
        self.noted = Some(id);
        conversations::number(disk, id).ok().map(|_| id)
    }

    /// Says which conversation the next run is to show.
    pub(super) fn show(&mut self, id: Uuid) {
        self.shown = Some(id);
    }

    /// Notes on the disk which conversation is shown, where it lies there. Waits for nobody: whoever opens a
    /// conversation would, and what is not noted now is with the next change.
    pub(super) fn note_shown(&mut self) {
        let Some(id) = self.shown.filter(|&id| self.noted != Some(id) && self.is_on_disk(id)) else { return };
        let set = self
            .disk
            .change_in_passing(|change| Ok(conversations::set_fact(change, SHOWN, &id.to_string())?));
        match set {
            Ok(()) => self.noted = Some(id),
            Err(fault) => {
                let error = fault.while_doing("remember what is shown");
                tracing::debug!(%error, "which conversation is shown is noted later");
            }
        }
    }

    /// Lets the disk go, after a last try to write what it did not take. From now on nothing is kept.
    pub(super) fn close(&mut self) {
        let unsaved = self.memory().unsaved();
        unsaved.into_iter().for_each(|id| self.move_to_disk(id));
        self.note_shown();
        self.disk.close();
    }
}
