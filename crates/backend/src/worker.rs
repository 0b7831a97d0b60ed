//! The worker: jobs one after the other, and what is done in idle time.
//!
//! Between two jobs it first reads ahead, so that the next message reads only itself, then saves KV rows, block by
//! block. Both give way to the next job: the one in the middle of a pass, the other after one block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use engine::{Cancel, Decoder, Embedded, Engine, Failure, FailureKind, Preparation, Request};

use crate::inference::Open;
use crate::messages::{AheadOutcome, Event, Inspection, Job, JobId, Outcome, Owner};
use crate::read_ahead::{Interruption, ReadingAhead};
use crate::recall::{self, Recall, SharedStorage};

/// How long the end waits for KV rows to be saved.
const LAST_SAVE: Duration = Duration::from_secs(2);

type Waiters = mpsc::Receiver<(JobId, Job, Cancel)>;

/// Does the jobs of one inference thread.
pub(crate) struct Worker<D: Decoder, O> {
    open: O,
    engine: Option<Engine<D>>,
    recall: Recall,
    ahead: Option<ReadingAhead>,
    /// Stops the pass that reads ahead when a job comes.
    interruption: Interruption,
    /// Whether it was told that KV rows cannot be saved.
    troubled: bool,
    tell: Box<dyn Fn(Event)>,
}

impl<D: Decoder, O: Open<D>> Worker<D, O> {
    pub(crate) fn new(
        open: O,
        storage: SharedStorage,
        interruption: Interruption,
        tell: Box<dyn Fn(Event)>,
    ) -> Self {
        let recall = Recall::new(storage);
        Self { open, engine: None, recall, ahead: None, interruption, troubled: false, tell }
    }

    /// Does jobs until there will be no more, and saves what is left to be saved.
    pub(crate) fn work(mut self, queue: &Waiters) {
        while let Some((id, job, cancel)) = self.next(queue) {
            if ends_reading_ahead(&job) {
                self.end_reading_ahead();
            }
            if let Some(outcome) = self.run(id, job, &cancel) {
                (self.tell)(Event::Done(id, outcome));
            }
        }
        self.end_reading_ahead();
        self.save(LAST_SAVE);
    }

    /// The next job, and until there is one what is done in idle time.
    fn next(&mut self, queue: &Waiters) -> Option<(JobId, Job, Cancel)> {
        while self.ahead.is_some() || self.recall.is_pending() {
            // Before the look at the queue: whatever comes behind that stops the pass.
            let pass = self.interruption.begin_pass();
            match queue.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.ahead.is_some() => self.read_ahead(&pass),
                Err(TryRecvError::Empty) => self.save_next(),
            }
        }
        queue.recv().ok()
    }

    /// Does the next part of reading ahead.
    fn read_ahead(&mut self, pass: &Cancel) {
        let (Some(ahead), Some(engine)) = (&mut self.ahead, &mut self.engine) else {
            return self.end_reading_ahead();
        };
        match catch_unwind(AssertUnwindSafe(|| ahead.step(engine, pass))) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => self.end_reading_ahead(),
            Ok(Err(error)) => {
                // It costs time with the next message, which tells whatever is wrong.
                log(&error);
                self.end_reading_ahead();
            }
            Err(_) => {
                tracing::error!("reading ahead panicked; all sessions are read again");
                // The next reply tells whether the model itself still works.
                engine.forget();
                self.end_reading_ahead();
            }
        }
    }

    /// Ends reading ahead, if it is under way. What the session holds now is what is to be saved of it.
    fn end_reading_ahead(&mut self) {
        let Some(ahead) = self.ahead.take() else { return };
        if let Some(engine) = &self.engine {
            self.recall.queue(engine, ahead.session);
        }
        let AheadOutcome { read, left } = ahead.outcome;
        tracing::debug!(read, left, "read ahead");
        (self.tell)(Event::Done(ahead.id, Outcome::ReadAhead(ahead.outcome)));
    }

    /// Saves KV rows for at most `limit`. Returns whether none are left.
    fn save(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.recall.is_pending() && began.elapsed() < limit {
            self.save_next();
        }
        !self.recall.is_pending()
    }

    fn save_next(&mut self) {
        let Some(engine) = &self.engine else { return self.recall.clear() };
        let saved = catch_unwind(AssertUnwindSafe(|| self.recall.save_next(engine)));
        match saved {
            Ok(Some(recall::Progress::Failed(why))) => self.tell_trouble(Some(why)),
            Ok(Some(recall::Progress::Saved)) => self.tell_trouble(None),
            Ok(None) => {}
            // Sessions are only read by it.
            Err(_) => {
                let why = self.recall.give_up();
                self.tell_trouble(Some(why));
            }
        }
    }

    /// Tells why KV rows cannot be saved: once, and once when it is over.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        if trouble.is_some() != self.troubled {
            self.troubled = trouble.is_some();
            (self.tell)(Event::SnapshotTrouble(trouble));
        }
    }

    /// Does one job. `None` where its outcome is told later.
    fn run(&mut self, id: JobId, job: Job, cancel: &Cancel) -> Option<Outcome> {
        if cancel.is_cancelled() && !matches!(job, Job::Generate(..)) {
            return Some(Outcome::Cancelled);
        }
        let job = match job {
            Job::ReadAhead(next) => {
                let session = self.engine.as_ref().and_then(Engine::last_session);
                let Some(session) = session else {
                    return Some(Outcome::ReadAhead(AheadOutcome::default()));
                };
                self.ahead = Some(ReadingAhead::new(id, cancel.clone(), session, next));
                return None;
            }
            job => job,
        };
        let result = catch_unwind(AssertUnwindSafe(|| self.attempt(id, job, cancel)));
        Some(match result {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                log(&error);
                Outcome::Failed(error.into())
            }
            Err(panic) => {
                // What the panic left behind is in doubt, the runtime's session included. Where that panics too as it
                // goes, the thread must live to tell of the first.
                let in_doubt = self.engine.take();
                catch_unwind(AssertUnwindSafe(|| drop(in_doubt))).ok();
                self.recall.clear();
                let message = panic_message(panic.as_ref());
                // The message of a panic may quote the text that was worked on, so the log goes without.
                tracing::error!("a job panicked; the model was unloaded");
                Outcome::Failed(Failure {
                    kind: FailureKind::Crashed,
                    message: format!("inference crashed and the model was unloaded: {message}"),
                })
            }
        })
    }

    fn attempt(&mut self, id: JobId, job: Job, cancel: &Cancel) -> engine::Result<Outcome> {
        match job {
            Job::Load(folder, options) => {
                self.unload();
                let (mut engine, loaded) = self.open.open(&folder.path, &options)?;
                self.recall.begin(&mut engine, &folder, &loaded);
                self.engine = Some(engine);
                Ok(Outcome::Loaded(Box::new(loaded)))
            }
            Job::Prepare(folder, options) => {
                // Graphs are loaded and measured, which another model would disturb.
                self.unload();
                let tell = &self.tell;
                let on_progress = &mut |progress| tell(Event::Preparing(id, progress));
                match self.open.prepare(&folder.path, &options, cancel, on_progress)? {
                    Preparation::Prepared(prepared) => Ok(Outcome::Prepared(prepared)),
                    Preparation::Cancelled => Ok(Outcome::Cancelled),
                }
            }
            Job::Unload => {
                self.unload();
                Ok(Outcome::Unloaded)
            }
            Job::Prompt(messages, options) => {
                Ok(Outcome::Tokens(self.engine()?.prompt(&messages, &options)?))
            }
            Job::Encode(text) => Ok(Outcome::Tokens(self.engine()?.encode(&text)?)),
            Job::Generate(request, owner) => self.generate(id, &request, owner, cancel),
            Job::Embed(request) => Ok(match self.engine()?.embed(&request, cancel)? {
                Embedded::Embeddings(embeddings) => Outcome::Embedded(embeddings),
                Embedded::Cancelled => Outcome::Cancelled,
            }),
            Job::Forget(owner) => {
                let bytes = match (&mut self.engine, owner) {
                    (None, _) => 0,
                    (Some(engine), Some(owner)) => self.recall.forget(engine, &owner),
                    (Some(engine), None) => {
                        let bytes = engine.kv_bytes();
                        engine.forget();
                        bytes
                    }
                };
                Ok(Outcome::Forgotten { bytes })
            }
            Job::SaveSnapshots { milliseconds } => {
                Ok(Outcome::SnapshotsSaved { all: self.save(Duration::from_millis(milliseconds)) })
            }
            Job::KeepKv(_)
            | Job::InspectSnapshots
            | Job::FreeSnapshots
            | Job::ForgetSnapshots(_)
            | Job::ForgetSnapshotsExcept(_)
            | Job::ReadAhead(_) => {
                Err(engine::Error::Invalid { reason: "this job is not done in the worker's turn".into() })
            }
            Job::Inspect => {
                Ok(Outcome::Inspected(self.engine.as_ref().map_or_else(Inspection::default, |engine| {
                    Inspection { seen_tokens: engine.seen().len(), kv_bytes: engine.kv_bytes() }
                })))
            }
        }
    }

    /// Makes one reply, from the KV rows that there are.
    fn generate(
        &mut self,
        id: JobId,
        request: &Request,
        owner: Option<Owner>,
        cancel: &Cancel,
    ) -> engine::Result<Outcome> {
        let recalled = self
            .around_reply(|recall, engine| recall.before(engine, &request.prompt, owner.as_ref(), cancel))?;
        let tell = &self.tell;
        let mut on_progress = |progress| tell(Event::Progress(id, progress));
        let mut finish = loaded(&mut self.engine)?.generate(request, cancel, &mut on_progress)?;
        self.around_reply(|recall, engine| recall.after(engine, owner, recalled, &mut finish.usage))?;
        Ok(Outcome::Finished(Box::new(finish)))
    }

    /// Does something with KV rows before or after a reply. Where that panics it costs all sessions, since nobody
    /// knows whose they are now, and neither the reply nor the model.
    fn around_reply<T: Default>(
        &mut self,
        work: impl FnOnce(&mut Recall, &mut Engine<D>) -> T,
    ) -> engine::Result<T> {
        let (recall, engine) = (&mut self.recall, loaded(&mut self.engine)?);
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| work(recall, engine))) {
            return Ok(done);
        }
        engine.forget();
        let why = self.recall.give_up();
        self.tell_trouble(Some(why));
        Ok(T::default())
    }

    /// Frees the model, after its KV rows were saved: the next one may not fit beside it.
    fn unload(&mut self) {
        self.save(LAST_SAVE);
        self.recall.clear();
        self.engine = None;
    }

    fn engine(&mut self) -> engine::Result<&mut Engine<D>> {
        loaded(&mut self.engine)
    }
}

/// Whether a job changes the KV cache that is being read, frees it, or saves it for the end.
fn ends_reading_ahead(job: &Job) -> bool {
    !matches!(job, Job::Prompt(..) | Job::Encode(_) | Job::Inspect)
}

fn loaded<D: Decoder>(engine: &mut Option<Engine<D>>) -> engine::Result<&mut Engine<D>> {
    engine.as_mut().ok_or_else(|| engine::Error::Invalid { reason: "no model is loaded".into() })
}

/// Logs a failure, without its words where they may quote what the user wrote.
fn log(error: &engine::Error) {
    match error {
        engine::Error::Template { .. } => tracing::warn!("the chat template failed"),
        engine::Error::Tokenizer { .. } => tracing::warn!("the tokenizer failed"),
        error => tracing::warn!(error = Failure::from(error).message, "a job failed"),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
