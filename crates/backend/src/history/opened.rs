//! The conversations as they were opened: what changes them, and beside it what reads them without waiting for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use rusqlite::Connection;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::conversations;
use super::database::{self, Attempt};
use super::disk::Disk;
use super::files::{self, Files};
use super::memory::Memory;
use super::reader::Reader;
use super::search::{self, SearchHit};
use super::stores::Stores;
use crate::Change;
use crate::conversation::ConversationSummary;
use crate::error::Error;
use crate::notices::Notices;
use crate::turn::lock;

/// Both sides. A look takes `memory` for a moment and then the reader; only where the reader has nothing to look at,
/// or finds damage, it waits for the stores.
pub(super) struct Opened {
    stores: Mutex<Stores>,
    memory: Arc<Mutex<Memory>>,
    reader: Arc<Reader>,
    /// The log of changes on the disk.
    log: PathBuf,
    /// The conversation that this run shows.
    shown: Mutex<Uuid>,
    /// Whether the next run shows what this one showed last.
    remembers: bool,
}

impl Opened {
    pub(super) fn open(
        folder: PathBuf,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
        remembers: bool,
    ) -> Self {
        let (reader, memory) = (Arc::new(Reader::default()), Arc::new(Mutex::new(Memory::new())));
        let log = files::with_ending(&Files { folder: folder.clone() }.database(), "-wal");
        let disk = Disk::open(folder, notices, changes, !remembers, Arc::clone(&reader));
        let mut stores = Stores::new(disk, Arc::clone(&memory));
        let last = stores.last_shown().filter(|_| remembers);
        let shown = last.unwrap_or_else(|| lock(&memory).begin(false));
        Self { stores: Mutex::new(stores), memory, reader, log, shown: Mutex::new(shown), remembers }
    }

    /// What changes conversations, for one caller at a time.
    pub(super) fn stores(&self) -> MutexGuard<'_, Stores> {
        self.told_what_is_shown(lock(&self.stores))
    }

    /// Waits until what was changed is on the disk. Nobody waits for who waits here.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        database::sync_log(&self.log)
    }

    fn told_what_is_shown<'s>(&self, mut stores: MutexGuard<'s, Stores>) -> MutexGuard<'s, Stores> {
        if self.remembers {
            stores.show(self.shown());
        }
        stores
    }

    /// The same where nobody else has them.
    fn stores_if_free(&self) -> Option<MutexGuard<'_, Stores>> {
        let stores = match self.stores.try_lock() {
            Ok(stores) => stores,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.told_what_is_shown(stores))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// The conversation that this run shows.
    pub(super) fn shown(&self) -> Uuid {
        *lock(&self.shown)
    }

    /// Shows another conversation. One in which nothing was said is forgotten when it is left.
    pub(super) fn show(&self, id: Uuid) {
        let left = std::mem::replace(&mut *lock(&self.shown), id);
        {
            let mut memory = self.memory();
            if left != id && memory.is_fresh(left) {
                memory.remove(left);
            }
        }
        // Where somebody has them, the change under way or the one after it notes it.
        if let Some(mut stores) = self.stores_if_free() {
            stores.note_shown();
        }
    }

    /// Looks at the place where the conversation `id` lies.
    pub(super) fn read<T>(&self, id: Uuid, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        let memory = self.memory();
        if memory.has(id) {
            return memory.look(look);
        }
        drop(memory);
        self.look(look)
    }

    /// Looks at the disk.
    pub(super) fn look<T>(&self, look: impl Fn(&Connection) -> Attempt<T>) -> Attempt<T> {
        match self.reader.look(&look) {
            Some(Err(fault)) if fault.is_damage() => self.stores().look(look),
            Some(looked) => looked,
            None => self.stores().look(look),
        }
    }

    /// Why nothing on the disk can be read, where nothing can.
    pub(super) fn trouble(&self) -> Option<Error> {
        if self.reader.is_open() { None } else { self.stores().trouble() }
    }

    fn is_readable(&self) -> bool {
        self.reader.is_open() || self.stores().is_readable()
    }

    /// Tries again to open the file for writing, where that did not succeed before and nobody else tries it.
    fn open_again(&self) {
        if self.reader.is_blocked()
            && let Some(mut stores) = self.stores_if_free()
        {
            stores.open_again();
        }
    }

    pub(super) fn list(&self, skip: usize, most: usize) -> Attempt<Vec<ConversationSummary>> {
        self.open_again();
        // Memory first: what moves to the disk meanwhile is seen here, and not there besides.
        let (mut all, in_memory) = {
            let memory = self.memory();
            (memory.listed()?, memory.ids())
        };
        let is_readable = self.is_readable();
        if all.is_empty() && is_readable {
            return self.look(|disk| Ok(conversations::list(disk, skip, most)?));
        }
        if is_readable {
            let reach = skip.saturating_add(most).saturating_add(all.len());
            let on_disk = self.look(|disk| Ok(conversations::list(disk, 0, reach)?))?;
            all.extend(on_disk.into_iter().filter(|about| !in_memory.contains(&about.id)));
        }
        all.sort_by_key(|about| std::cmp::Reverse((about.pinned, about.updated)));
        Ok(all.into_iter().skip(skip).take(most).collect())
    }

    pub(super) fn search(&self, words: &str, most: usize) -> Attempt<Vec<SearchHit>> {
        let Some(query) = search::query(words) else { return Ok(Vec::new()) };
        let (mut hits, in_memory) = {
            let memory = self.memory();
            (memory.look(|memory| Ok(search::find(memory, &query, most)?))?, memory.ids())
        };
        if self.is_readable() {
            let on_disk = self.look(|disk| Ok(search::find(disk, &query, most)?))?;
            hits.extend(on_disk.into_iter().filter(|hit| !in_memory.contains(&hit.conversation)));
        }
        hits.truncate(most);
        Ok(hits)
    }

    /// Lets the disk go. From now on nothing is kept.
    pub(super) fn close(&self) {
        self.stores().close();
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.close();
    }
}
