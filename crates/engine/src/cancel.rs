//! Cancelling a running reply from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Interrupt = Box<dyn Fn() + Send + Sync>;

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
        // Called under the lock: once the pass has ended, an interrupt that came late would hit the next one.
        if let Some(interrupt) = self.interrupt().as_ref() {
            interrupt();
        }
    }

    /// Whether the stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Runs `work` and calls `interrupt` if the stop is asked for meanwhile. `interrupt` may be called
    /// from any thread, more than once, and never after this call has returned. It must not block.
    pub(crate) fn interrupting<R>(
        &self,
        interrupt: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce() -> R,
    ) -> R {
        let registered = Registered(self);
        {
            let mut slot = self.interrupt();
            // A stop that came before found nothing to interrupt.
            if self.is_cancelled() {
                interrupt();
            }
            *slot = Some(Box::new(interrupt));
        }
        let result = work();
        drop(registered);
        result
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<Interrupt>> {
        self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the interrupt away however the work ends, a panic included.
struct Registered<'a>(&'a Cancel);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        *self.0.interrupt() = None;
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_interrupt_is_over_before_the_work_is() {
        let cancel = Cancel::new();
        let remote = cancel.clone();
        let (begun, begins) = mpsc::channel();
        let begun = Mutex::new(begun);
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let canceller = cancel.interrupting(
            move || {
                begun.lock().unwrap().send(()).ok();
                for _ in 0..10_000 {
                    std::thread::yield_now();
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            },
            || {
                let canceller = std::thread::spawn(move || remote.cancel());
                begins.recv().expect("the interrupt begins");
                canceller
            },
        );
        assert_eq!(steps.load(Ordering::SeqCst), 10_000, "a late interrupt would hit the next work");
        canceller.join().expect("the canceller ends");
    }

    #[test]
    fn a_stop_that_came_before_interrupts_at_once_and_one_after_never() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |cancel: &Cancel| {
            let calls = Arc::clone(&calls);
            cancel.interrupting(
                move || {
                    calls.fetch_add(1, Ordering::SeqCst);
                },
                || (),
            );
        };
        let before = Cancel::new();
        before.cancel();
        count(&before);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let after = Cancel::new();
        count(&after);
        after.cancel();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn work_that_panics_leaves_no_interrupt_behind() {
        let cancel = Cancel::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let work = || {
            cancel.interrupting(
                move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                },
                || panic!("the work"),
            );
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).expect_err("it panics");
        cancel.cancel();
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }
}
