//! Ctrl-C: the first stops the reply, which is kept; the second, or one at an idle prompt, ends the program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What Ctrl-C does now.
enum Stage {
    /// Ends the program: there is nothing to keep.
    Idle,
    /// Stops the work.
    Working(Box<dyn Fn() + Send>),
    /// The work was asked to stop and has not yet; ends the program as failed.
    Stopping,
}

/// The handler of Ctrl-C. A program has one.
pub(crate) struct Interrupts(Arc<Mutex<Stage>>);

/// Work under way. Dropped, it leaves Ctrl-C to end the program again.
pub(crate) struct Working<'i>(&'i Interrupts);

impl Interrupts {
    /// Takes Ctrl-C over.
    ///
    /// # Errors
    /// [`Error::Setup`] where the system refuses.
    pub(crate) fn install() -> Result<Self> {
        let stage = Arc::new(Mutex::new(Stage::Idle));
        let handled = Arc::clone(&stage);
        let handle = move || {
            let mut stage = lock(&handled);
            match std::mem::replace(&mut *stage, Stage::Stopping) {
                Stage::Working(stop) => stop(),
                Stage::Idle => std::process::exit(0),
                Stage::Stopping => std::process::exit(1),
            }
        };
        ctrlc::set_handler(handle)
            .map_err(|error| Error::Setup { doing: "take over Ctrl-C", source: Box::new(error) })?;
        Ok(Self(stage))
    }

    /// While the answer lives, Ctrl-C calls `stop`.
    pub(crate) fn working(&self, stop: impl Fn() + Send + 'static) -> Working<'_> {
        *lock(&self.0) = Stage::Working(Box::new(stop));
        Working(self)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        *lock(&self.0.0) = Stage::Idle;
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}
