//! Where conversations lie: on the disk, or in memory where they must not or cannot be written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use uuid::Uuid;

use super::conversations;
use super::database::{self, Attempt, Fault};
use super::disk::Disk;
use super::record::{self, ConversationRecord, Existing};
use super::runs::RunLock;
use super::search::{self, SearchHit};
use crate::conversation::ConversationSummary;
use crate::error::Error;

/// The fact that says which conversation was shown last.
const SHOWN: &str = "shown conversation";

/// Why a conversation lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// Nothing was said in it yet.
    Fresh,
    Private,
    /// The disk did not take it. What it had there when it was taken from there is what may have to go there.
    Unsaved(HashSet<Uuid>),
}

/// The two places of conversations.
pub(super) struct Stores {
    disk: Disk,
    memory: Connection,
    in_memory: HashMap<Uuid, Why>,
    /// The conversation that the next run shows, once it is on the disk.
    shown: Option<Uuid>,
}

impl Stores {
    pub(super) fn open(disk: Disk) -> Self {
        let memory = database::open_in_memory().expect("the schema is right and memory takes it");
        Self { disk, memory, in_memory: HashMap::new(), shown: None }
    }

    /// This run, for the replies that it makes.
    pub(super) fn run(&self) -> Option<Arc<RunLock>> {
        self.disk.run()
    }

    /// Why nothing on the disk can be read, where nothing can.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.disk.trouble()
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
            self.remove_from_memory(id);
        }
    }

    fn remove_from_memory(&mut self, id: Uuid) {
        self.in_memory.remove(&id);
        let removed = database::change(&mut self.memory, |change| Ok(conversations::remove(change, id)?));
        if let Err(fault) = removed {
            let error = fault.while_doing("remove what is on the disk now");
            tracing::warn!(%error, "a conversation stays in memory besides");
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
        if self.is_on_disk(id) { self.disk.look(look) } else { look(&self.memory) }
    }

    /// Looks at the disk, or at memory where there is none.
    pub(super) fn look<T>(&self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        look(self.disk.connection().unwrap_or(&self.memory))
    }

    /// Changes a conversation where it lies. What was new, or could not be written before, moves to the disk
    /// with it; what the disk does not take goes on in memory.
    pub(super) fn change<T>(
        &mut self,
        id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        let is_to_move = matches!(self.in_memory.get(&id), Some(Why::Fresh | Why::Unsaved(_)));
        let made = self.change_in_place(id, change)?;
        if is_to_move {
            self.move_to_disk(id);
        }
        if self.disk.takes_changes() {
            self.unsaved().into_iter().for_each(|id| self.move_to_disk(id));
        }
        Ok(made)
    }

    /// The same, and what lies in memory stays there: for what is changed every second.
    pub(super) fn change_in_place<T>(
        &mut self,
        id: Uuid,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Attempt<T> {
        if !self.is_on_disk(id) {
            return database::change(&mut self.memory, &change);
        }
        match self.disk.change(&change) {
            Err(fault) if fault.is_refusal_of_disk() => {
                self.take_into_memory(id, fault)?;
                database::change(&mut self.memory, &change)
            }
            result => result,
        }
    }

    /// Copies a conversation into memory, because the disk did not take a change of it.
    fn take_into_memory(&mut self, id: Uuid, fault: Fault) -> Attempt<()> {
        let Ok(disk) = self.disk.connection() else { return Err(fault) };
        let Some(record) = record::read(disk, id)? else { return Err(fault) };
        database::change(&mut self.memory, |change| Ok(record::write(change, &record, Existing::Replace)?))?;
        self.in_memory.insert(id, Why::Unsaved(record.parts()));
        Ok(())
    }

    fn unsaved(&self) -> Vec<Uuid> {
        let unsaved = self.in_memory.iter().filter(|(_, why)| matches!(why, Why::Unsaved(_)));
        unsaved.map(|(id, _)| *id).collect()
    }

    /// Moves a conversation from memory to the disk, if the disk takes it.
    fn move_to_disk(&mut self, id: Uuid) {
        match self.try_to_move(id) {
            Ok(()) => self.remove_from_memory(id),
            Err(fault) => {
                let error = fault.while_doing("write");
                tracing::warn!(%error, "a conversation stays in memory for now");
                self.note_unsaved(id);
            }
        }
    }

    fn note_unsaved(&mut self, id: Uuid) {
        let why = self.in_memory.entry(id).or_insert(Why::Fresh);
        if *why == Why::Fresh {
            *why = Why::Unsaved(HashSet::new());
        }
    }

    fn try_to_move(&mut self, id: Uuid) -> Attempt<()> {
        let (memory, is_shown) = (&self.memory, self.shown == Some(id));
        let before = match self.in_memory.get(&id) {
            Some(Why::Unsaved(before)) => before.clone(),
            _ => HashSet::new(),
        };
        self.disk.change(|change| {
            // Read here, so that a disk that takes nothing is found out before it costs anything.
            let Some(record) = record::read(memory, id)? else { return Ok(()) };
            let deleted = conversations::find(memory, id)?.and_then(|header| header.deleted);
            record::write(change, &record, Existing::Replace)?;
            record::remove_parts(change, id, before.difference(&record.parts()))?;
            if is_shown {
                conversations::set_fact(change, SHOWN, &id.to_string())?;
            }
            conversations::set_deleted(change, id, deleted)
        })
    }

    pub(super) fn list(&mut self, skip: usize, most: usize) -> Attempt<Vec<ConversationSummary>> {
        self.disk.open_again();
        let mut all: Vec<ConversationSummary> = Vec::new();
        for mut about in conversations::list(&self.memory, 0, usize::MAX)? {
            self.note_place(&mut about);
            if !self.is_fresh(about.id) {
                all.push(about);
            }
        }
        if all.is_empty() && self.disk.is_readable() {
            return self.disk.look(|disk| Ok(conversations::list(disk, skip, most)?));
        }
        if self.disk.is_readable() {
            let reach = skip.saturating_add(most).saturating_add(all.len());
            let on_disk = self.disk.look(|disk| Ok(conversations::list(disk, 0, reach)?))?;
            all.extend(on_disk.into_iter().filter(|about| self.is_on_disk(about.id)));
        }
        all.sort_by_key(|about| std::cmp::Reverse((about.pinned, about.updated)));
        Ok(all.into_iter().skip(skip).take(most).collect())
    }

    pub(super) fn search(&mut self, words: &str, most: usize) -> Attempt<Vec<SearchHit>> {
        let Some(query) = search::query(words) else { return Ok(Vec::new()) };
        let mut hits = search::find(&self.memory, &query, most)?;
        if self.disk.is_readable() {
            let on_disk = self.disk.look(|disk| Ok(search::find(disk, &query, most)?))?;
            hits.extend(on_disk.into_iter().filter(|hit| self.is_on_disk(hit.conversation)));
        }
        hits.truncate(most);
        Ok(hits)
    }

    pub(super) fn duplicate(&mut self, id: Uuid) -> Attempt<Uuid> {
        let record = self.read(id, |connection| {
            conversations::number(connection, id)?;
            Ok(record::read(connection, id)?)
        })?;
        let record = record.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() })?;
        let copy = record.renewed();
        let is_private = self.in_memory.get(&id) == Some(&Why::Private);
        let why = if is_private { Why::Private } else { Why::Unsaved(HashSet::new()) };
        database::change(&mut self.memory, |change| Ok(record::write(change, &copy, Existing::Replace)?))?;
        self.in_memory.insert(copy.id, why);
        if !is_private {
            self.move_to_disk(copy.id);
        }
        Ok(copy.id)
    }

    /// Whether the conversations on the disk can be read and written.
    pub(super) fn has_disk(&self) -> bool {
        self.disk.trouble().is_none()
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
        let unsaved: Vec<Uuid> = self.unsaved().into_iter().filter(|id| !ids.contains(id)).collect();
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
        if self.is_on_disk(record.id) { self.disk.change(write) } else { self.change(record.id, write) }
    }

    /// The conversation that the run before showed last, if it still is there.
    pub(super) fn last_shown(&self) -> Option<Uuid> {
        let disk = self.disk.connection().ok()?;
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
        let set = self.disk.change(|change| Ok(conversations::set_fact(change, SHOWN, &id.to_string())?));
        if let Err(fault) = set {
            let error = fault.while_doing("remember what is shown");
            tracing::warn!(%error, "the next start shows another conversation");
        }
    }

    /// Lets the disk go, after a last try to write what it did not take. From now on nothing is kept.
    pub(super) fn close(&mut self) {
        self.unsaved().into_iter().for_each(|id| self.move_to_disk(id));
        self.disk.close();
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        self.close();
    }
}
