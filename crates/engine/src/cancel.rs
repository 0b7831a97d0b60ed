//! Cancelling a running reply from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// A request to stop, shared between the thread that runs a reply and the one that reads commands.
///
/// Cancelling is final for one `Cancel`: make a new one for each reply.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Default)]
struct State {
    requested: AtomicBool,
    interrupt: Mutex<Option<Interrupt>>,
}

impl Cancel {
    /// A cancel that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop, and interrupts the forward pass that runs now, if there is one.
    pub fn cancel(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let interrupt = self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(interrupt) = interrupt {
            interrupt();
        }
    }

    /// Whether the stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Runs `work` and calls `interrupt` if the stop is asked for meanwhile. `interrupt` may be called
    /// from any thread and, when the stop comes at the very end of `work`, just after it.
    pub(crate) fn interrupting<R>(
        &self,
        interrupt: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce() -> R,
    ) -> R {
        let interrupt: Interrupt = Arc::new(interrupt);
        *self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&interrupt));
        // A stop that came before the line above found nothing to interrupt.
        if self.is_cancelled() {
            interrupt();
        }
        let result = work();
        *self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = None;
        result
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}
