//! The connection that only reads: what is looked at waits for no change, and no change waits for a look.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::database::{Attempt, Fault};
use crate::turn::lock;

/// A second connection to the file, as long as the writer has it open. One look at a time.
#[derive(Default)]
pub(super) struct Reader {
    connection: Mutex<Option<Connection>>,
    is_blocked: AtomicBool,
}

impl Reader {
    /// Looks at another file from now on, or at none. Waits for the end of a look under way.
    pub(super) fn exchange(&self, connection: Option<Connection>) {
        *lock(&self.connection) = connection;
    }

    /// Looks at the file as it is now; what is read in several steps is of one moment. `None` where it is not
    /// open: then the writer knows more.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Connection) -> Attempt<T>) -> Option<Attempt<T>> {
        let connection = lock(&self.connection);
        let moment = connection.as_ref()?.unchecked_transaction().map_err(Fault::from);
        Some(moment.and_then(|moment| look(&moment)))
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.connection).is_some()
    }

    /// Says whether the file takes changes.
    pub(super) fn note_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::SeqCst);
    }

    /// Whether something keeps the file from taking changes, so that it is worth another try to open it.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::SeqCst)
    }
}
