//! Conversations in memory: private ones, new ones in which nothing was said, and those that the disk does not take.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Transaction};
use uuid::Uuid;

use super::conversations;
use super::database::{self, Attempt};
use super::record::{self, ConversationRecord, Existing};
use crate::conversation::ConversationSummary;

/// Why a conversation lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing was said in it yet.
    Fresh,
    Private,
    /// The disk did not take it. What it had there when it was taken from there is what may have to go there.
    Unsaved(HashSet<Uuid>),
}

/// The same tables as on the disk, and why something is in them.
pub(super) struct Memory {
    connection: Connection,
    why: HashMap<Uuid, Why>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let connection = database::open_in_memory().expect("the schema is right and memory takes it");
        Self { connection, why: HashMap::new() }
    }

    /// Begins a conversation.
    pub(super) fn begin(&mut self, private: bool) -> Uuid {
        let id = Uuid::new_v4();
        conversations::begin(&self.connection, id).expect("memory takes a row under a new id");
        self.why.insert(id, if private { Why::Private } else { Why::Fresh });
        id
    }

    /// Why the conversation `id` is here, where it is.
    pub(super) fn why(&self, id: Uuid) -> Option<&Why> {
        self.why.get(&id)
    }

    pub(super) fn has(&self, id: Uuid) -> bool {
        self.why.contains_key(&id)
    }

    /// Whether nothing was said yet in the conversation `id`, which is not private.
    pub(super) fn is_fresh(&self, id: Uuid) -> bool {
        self.why(id) == Some(&Why::Fresh)
    }

    /// Every conversation that is here.
    pub(super) fn ids(&self) -> HashSet<Uuid> {
        self.why.keys().copied().collect()
    }

    /// Those that belong on the disk.
    pub(super) fn unsaved(&self) -> Vec<Uuid> {
        let unsaved = self.why.iter().filter(|(_, why)| matches!(why, Why::Unsaved(_)));
        unsaved.map(|(id, _)| *id).collect()
    }

    /// Notes that the disk did not take the conversation `id`.
    pub(super) fn note_unsaved(&mut self, id: Uuid) {
        let why = self.why.entry(id).or_insert(Why::Fresh);
        if *why == Why::Fresh {
            *why = Why::Unsaved(HashSet::new());
        }
    }

    /// Says of a conversation where it lies.
    pub(super) fn note_place(&self, about: &mut ConversationSummary) {
        let why = self.why(about.id);
        about.private = why == Some(&Why::Private);
        about.saved = why.is_none();
    }

    /// The conversations of the list that are here, in no particular order.
    pub(super) fn listed(&self) -> rusqlite::Result<Vec<ConversationSummary>> {
        let mut listed = conversations::list(&self.connection, 0, usize::MAX)?;
        listed.retain(|about| !self.is_fresh(about.id));
        listed.iter_mut().for_each(|about| self.note_place(about));
        Ok(listed)
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Connection) -> Attempt<T>) -> Attempt<T> {
        look(&self.connection)
    }

    pub(super) fn change<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Attempt<T>) -> Attempt<T> {
        database::change(&mut self.connection, change)
    }

    /// Takes a whole conversation in.
    pub(super) fn take(&mut self, record: &ConversationRecord, why: Why) -> Attempt<()> {
        self.change(|change| Ok(record::write(change, record, Existing::Replace)?))?;
        self.why.insert(record.id, why);
        Ok(())
    }

    /// Removes a conversation that is on the disk now, or in which nothing was said.
    pub(super) fn remove(&mut self, id: Uuid) {
        self.why.remove(&id);
        if let Err(fault) = self.change(|change| Ok(conversations::remove(change, id)?)) {
            let error = fault.while_doing("remove what is on the disk now");
            tracing::warn!(%error, "a conversation stays in memory besides");
        }
    }

    /// Removes a conversation with all its rows where it is a private one: its memory is overwritten. Says
    /// whether it was one.
    pub(super) fn remove_private(&mut self, id: Uuid) -> Attempt<bool> {
        if self.why(id) != Some(&Why::Private) {
            return Ok(false);
        }
        self.change(|change| Ok(conversations::remove(change, id)?))?;
        self.why.remove(&id);
        Ok(true)
    }
}
