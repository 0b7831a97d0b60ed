//! Reading on between two turns: templates may write the last reply otherwise into the next prompt than it was
//! generated, as those do that drop the thinking of earlier turns. What the next turn begins with is known as
//! soon as the reply is; so it is read while the user reads, and the next message reads only itself.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{Cancel, Decoder, Engine, ReadAhead, SessionId, TokenId, common_prefix};

use crate::messages::{AheadOutcome, JobId, NextTurn};

/// Where the KV cache is the beginning of the next prompt already, so many tokens must be missing: the few that
/// end a turn are read with the next message in no more time.
const WORTH_READING: usize = 32;

/// Stops the pass that runs in idle time, so that a job waits for nothing.
#[derive(Clone, Default)]
pub(crate) struct Interruption(Arc<Mutex<Cancel>>);

impl Interruption {
    /// Makes ready for a pass. Whoever looks for jobs after this call and finds none may begin it: a job that
    /// comes later stops it.
    pub(crate) fn begin_pass(&self) -> Cancel {
        let cancel = Cancel::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        cancel
    }

    /// Stops the pass under way, and no other.
    pub(crate) fn interrupt(&self) {
        self.interrupt_for(|| ());
    }

    /// Does what a pass gives way to, such as sending a job, and stops the pass under way. No pass begins between the
    /// two: the one that follows the job would be stopped in its place, and made again for nothing.
    pub(crate) fn interrupt_for<T>(&self, what: impl FnOnce() -> T) -> T {
        let pass = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = what();
        pass.cancel();
        done
    }
}

/// A session that is brought to what the next turn begins with.
pub(crate) struct ReadingAhead {
    pub(crate) id: JobId,
    /// Ends it for good; a pass is stopped by an [`Interruption`] and made again.
    cancel: Cancel,
    pub(crate) session: SessionId,
    target: Target,
    pub(crate) outcome: AheadOutcome,
}

enum Target {
    Asked(NextTurn),
    /// The ids that the session is to hold.
    Known(Vec<TokenId>),
}

impl ReadingAhead {
    pub(crate) fn new(id: JobId, cancel: Cancel, session: SessionId, next: NextTurn) -> Self {
        Self { id, cancel, session, target: Target::Asked(next), outcome: AheadOutcome::default() }
    }

    /// Does the next small part. Returns whether there is more to do.
    ///
    /// # Errors
    /// Those of the template at first, and of [`Engine::read_ahead`] later.
    pub(crate) fn step<D: Decoder>(&mut self, engine: &mut Engine<D>, pass: &Cancel) -> engine::Result<bool> {
        if self.cancel.is_cancelled() {
            return Ok(false);
        }
        match &self.target {
            Target::Asked(next) => {
                let beginning = engine.next_turn(&next.messages, &next.options)?;
                let seen = engine.session_tokens(self.session).unwrap_or_default();
                let shared = common_prefix(seen, &beginning);
                self.outcome.left = beginning.len() - shared;
                let differs = shared < seen.len();
                let is_worth_it =
                    if differs { self.outcome.left > 0 } else { self.outcome.left >= WORTH_READING };
                let fits = beginning.len() <= next.most_tokens;
                self.target = Target::Known(beginning);
                Ok(is_worth_it && fits)
            }
            Target::Known(beginning) => {
                let before = self.outcome.left;
                self.outcome.left = match engine.read_ahead(self.session, beginning, pass)? {
                    ReadAhead::Whole => 0,
                    ReadAhead::Left(left) => left,
                    ReadAhead::Cancelled => return Ok(true),
                    ReadAhead::Ended => return Ok(false),
                };
                self.outcome.read += before - self.outcome.left;
                Ok(self.outcome.left > 0)
            }
        }
    }
}
