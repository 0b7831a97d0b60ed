//! The inference thread and the handle to it: the only file that starts it.
//!
//! [`serve`] is the far side. It reads commands from anywhere and gives events to anyone, so the thread
//! becomes a process when two ends of a pipe take the place of the channels here. What it does with them is the
//! worker's.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use engine::onnx::OnnxDecoder;
use engine::prepare::prepare;
use engine::{
    Cancel, Decoder, EmbedRequest, Embedding, Engine, Failure, FailureKind, Finish, LoadOptions, LoadedModel,
    Message, Preparation, PrepareOptions, PrepareProgress, Prepared, Progress, RenderOptions, Request,
    TokenId,
};
use tokio::sync::mpsc as channel;

use crate::error::{Error, Result};
use crate::messages::{
    AheadOutcome, Command, Event, Inspection, Job, JobId, KvKeeping, NextTurn, Outcome, Owner,
};
use crate::read_ahead::Interruption;
use crate::recall::{self, SharedStorage};
use crate::snapshots::SnapshotUsage;
use crate::store::ModelFolder;
use crate::worker::Worker;

/// How a model folder becomes an engine: the real way, or a scripted one in tests. A function that opens is
/// enough; what it opens is prepared the real way.
pub trait Open<D: Decoder> {
    /// Opens the model in `folder`.
    fn open(&self, folder: &Path, options: &LoadOptions) -> engine::Result<(Engine<D>, LoadedModel)>;

    /// Rewrites its graph for this machine.
    fn prepare(
        &self,
        folder: &Path,
        options: &PrepareOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(PrepareProgress),
    ) -> engine::Result<Preparation> {
        prepare(folder, options, cancel, on_progress)
    }
}

impl<D: Decoder, F: Fn(&Path, &LoadOptions) -> engine::Result<(Engine<D>, LoadedModel)>> Open<D> for F {
    fn open(&self, folder: &Path, options: &LoadOptions) -> engine::Result<(Engine<D>, LoadedModel)> {
        self(folder, options)
    }
}

/// The handle to the inference thread. Cheap to clone.
#[derive(Clone)]
pub struct Inference {
    commands: mpsc::Sender<Command>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
    trouble: TroubleListener,
}

/// Takes an event to whoever waits for it.
pub type Deliver = Box<dyn Fn(Event) + Send + Sync>;

/// Whoever wants to know why KV rows cannot be saved.
type TroubleListener = Arc<Mutex<Option<Box<dyn Fn(Option<&str>) + Send>>>>;

type Waiting = Arc<Mutex<HashMap<JobId, channel::UnboundedSender<Event>>>>;

impl Inference {
    /// Starts the thread, with models in ONNX Runtime.
    pub fn start() -> Self {
        Self::start_with(|folder: &Path, options: &LoadOptions| Engine::<OnnxDecoder>::open(folder, options))
    }

    /// Starts the thread, with models that `open` makes.
    pub fn start_with<D: Decoder + 'static>(open: impl Open<D> + Send + 'static) -> Self {
        Self::over(move |incoming, deliver| serve(incoming.into_iter(), deliver, open))
    }

    /// A handle to `far_side`, which runs on a thread of its own: it is given the commands, gives back
    /// their events, and returns when there are no more. Whatever carries the two to where [`serve`] is
    /// belongs into it.
    pub fn over(far_side: impl FnOnce(mpsc::Receiver<Command>, Deliver) + Send + 'static) -> Self {
        let (commands, incoming) = mpsc::channel();
        let waiting = Waiting::default();
        let trouble = TroubleListener::default();
        let receivers = Arc::clone(&waiting);
        let listener = Arc::clone(&trouble);
        std::thread::Builder::new()
            .name("inference-commands".into())
            .spawn(move || {
                let deliver = Arc::clone(&receivers);
                far_side(incoming, Box::new(move |event| hand_over(&deliver, &listener, event)));
                // Whoever still waits is told by the end of its channel.
                lock(&receivers).clear();
            })
            .expect("the system can start a thread at start-up");
        Self { commands, waiting, next: Arc::default(), trouble }
    }

    /// Loads a model in the place of the one that is loaded.
    pub async fn load(&self, folder: ModelFolder, options: LoadOptions) -> Result<LoadedModel> {
        match self.run(Job::Load(folder, options)).outcome().await? {
            Outcome::Loaded(loaded) => Ok(*loaded),
            other => Err(unexpected(other)),
        }
    }

    /// Starts to rewrite a model's graph for this machine. The loaded model is freed first.
    pub fn prepare(&self, folder: ModelFolder, options: PrepareOptions) -> Running {
        self.run(Job::Prepare(folder, options))
    }

    /// Frees the loaded model, if there is one.
    pub async fn unload(&self) -> Result<()> {
        match self.run(Job::Unload).outcome().await? {
            Outcome::Unloaded => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The token ids of a conversation, ending where the reply begins.
    pub async fn prompt(&self, messages: Vec<Message>, options: RenderOptions) -> Result<Vec<TokenId>> {
        self.tokens(Job::Prompt(messages, options)).await
    }

    /// The token ids of plain text.
    pub async fn encode(&self, text: String) -> Result<Vec<TokenId>> {
        self.tokens(Job::Encode(text)).await
    }

    /// Starts one reply. Its events come through the running job.
    pub fn generate(&self, request: Request) -> Running {
        self.run(Job::Generate(request, None))
    }

    /// The same in a conversation: KV rows come from its snapshots, and new ones are saved for `owner`.
    pub fn generate_for(&self, owner: &str, request: Request) -> Running {
        self.generate_in(owner, true, request)
    }

    /// The same in a private conversation: its KV rows are in memory only.
    pub fn generate_privately(&self, owner: &str, request: Request) -> Running {
        self.generate_in(owner, false, request)
    }

    fn generate_in(&self, conversation: &str, saved: bool, request: Request) -> Running {
        self.run(Job::Generate(request, Some(Owner { conversation: conversation.to_owned(), saved })))
    }

    /// Has what the next turn begins with read in idle time, behind the reply that was made last. The next
    /// reply ends it, and so do another model and the end of the program; [`Running::read_ahead`] waits for
    /// its end.
    pub fn read_ahead(&self, next: NextTurn) -> Running {
        self.run(Job::ReadAhead(next))
    }

    /// Starts to turn texts into vectors, which [`Running::embedded`] waits for.
    pub fn embed(&self, request: EmbedRequest) -> Running {
        self.run(Job::Embed(request))
    }

    /// Frees all KV caches; returns their bytes.
    pub async fn forget(&self) -> Result<usize> {
        self.free(None).await
    }

    /// Frees the KV caches of one conversation; returns their bytes.
    pub async fn forget_owner(&self, owner: &str) -> Result<usize> {
        self.free(Some(owner.to_owned())).await
    }

    async fn free(&self, owner: Option<String>) -> Result<usize> {
        match self.run(Job::Forget(owner)).outcome().await? {
            Outcome::Forgotten { bytes } => Ok(bytes),
            other => Err(unexpected(other)),
        }
    }

    /// Says where KV rows are kept from now on. Returns why snapshots are not, where they were asked for and
    /// cannot be.
    pub async fn keep_kv(&self, keeping: KvKeeping) -> Result<Option<String>> {
        match self.run(Job::KeepKv(keeping)).outcome().await? {
            Outcome::KvKept { trouble } => Ok(trouble),
            other => Err(unexpected(other)),
        }
    }

    /// What KV snapshots take.
    pub async fn snapshot_usage(&self) -> Result<SnapshotUsage> {
        match self.run(Job::InspectSnapshots).outcome().await? {
            Outcome::SnapshotsInspected(usage) => Ok(usage),
            other => Err(unexpected(other)),
        }
    }

    /// Destroys all KV snapshots; returns their bytes.
    pub async fn free_snapshots(&self) -> Result<u64> {
        self.destroy(Job::FreeSnapshots).await
    }

    /// Destroys the KV snapshots that only `owner` uses; returns their bytes.
    pub async fn forget_snapshots(&self, owner: &str) -> Result<u64> {
        self.destroy(Job::ForgetSnapshots(owner.to_owned())).await
    }

    /// Destroys the KV snapshots that none of `owners` uses; returns their bytes.
    pub async fn forget_snapshots_except(&self, owners: Vec<String>) -> Result<u64> {
        self.destroy(Job::ForgetSnapshotsExcept(owners)).await
    }

    async fn destroy(&self, job: Job) -> Result<u64> {
        match self.run(job).outcome().await? {
            Outcome::SnapshotsDestroyed { bytes } => Ok(bytes),
            other => Err(unexpected(other)),
        }
    }

    /// Saves the KV rows that are to be saved, for at most `limit`. Returns whether all are.
    pub async fn save_snapshots(&self, limit: Duration) -> Result<bool> {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match self.run(Job::SaveSnapshots { milliseconds }).outcome().await? {
            Outcome::SnapshotsSaved { all } => Ok(all),
            other => Err(unexpected(other)),
        }
    }

    /// Tells `listener` from now on why KV rows cannot be saved, and when they can again.
    pub fn on_snapshot_trouble(&self, listener: impl Fn(Option<&str>) + Send + 'static) {
        *lock(&self.trouble) = Some(Box::new(listener));
    }

    /// The state of the loaded model's memory.
    pub async fn inspect(&self) -> Result<Inspection> {
        match self.run(Job::Inspect).outcome().await? {
            Outcome::Inspected(inspection) => Ok(inspection),
            other => Err(unexpected(other)),
        }
    }

    async fn tokens(&self, job: Job) -> Result<Vec<TokenId>> {
        match self.run(job).outcome().await? {
            Outcome::Tokens(tokens) => Ok(tokens),
            other => Err(unexpected(other)),
        }
    }

    fn run(&self, job: Job) -> Running {
        let id = JobId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = channel::unbounded_channel();
        lock(&self.waiting).insert(id, sender);
        if self.commands.send(Command::Run(id, job)).is_err() {
            lock(&self.waiting).remove(&id);
        }
        Running { id, events, canceller: Canceller { id, commands: self.commands.clone() } }
    }
}

/// A job under way.
pub struct Running {
    id: JobId,
    events: channel::UnboundedReceiver<Event>,
    canceller: Canceller,
}

/// What a running job has to say next.
#[derive(Debug)]
pub enum Update {
    Progress(Progress),
    Finished(Box<Finish>),
}

impl Running {
    /// Stops this job from elsewhere.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// The next update of a reply. After [`Update::Finished`] and after an error there is no other.
    pub async fn next(&mut self) -> Result<Update> {
        match self.events.recv().await {
            Some(Event::Progress(id, progress)) => {
                debug_assert_eq!(id, self.id, "each job has a channel of its own");
                Ok(Update::Progress(progress))
            }
            Some(Event::Done(_, Outcome::Finished(finish))) => Ok(Update::Finished(finish)),
            Some(Event::Done(_, other)) => Err(unexpected(other)),
            Some(Event::Preparing(..)) => Err(unexpected(Outcome::Cancelled)),
            // It is about no job and goes to its listener.
            Some(Event::SnapshotTrouble(_)) | None => Err(Error::InferenceEnded),
        }
    }

    /// The vectors of an embedding, one for each text; `None` where it was stopped.
    pub async fn embedded(self) -> Result<Option<Vec<Embedding>>> {
        match self.outcome().await? {
            Outcome::Embedded(embeddings) => Ok(Some(embeddings)),
            Outcome::Cancelled => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// What reading ahead came to.
    pub async fn read_ahead(self) -> Result<AheadOutcome> {
        match self.outcome().await? {
            Outcome::ReadAhead(outcome) => Ok(outcome),
            Outcome::Cancelled => Ok(AheadOutcome::default()),
            other => Err(unexpected(other)),
        }
    }

    /// What a preparation came to; `None` where it was cancelled.
    pub async fn prepared(self, on_progress: impl FnMut(PrepareProgress)) -> Result<Option<Prepared>> {
        match self.outcome_with(on_progress).await? {
            Outcome::Prepared(prepared) => Ok(Some(*prepared)),
            Outcome::Cancelled => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    async fn outcome(self) -> Result<Outcome> {
        self.outcome_with(|_| {}).await
    }

    async fn outcome_with(mut self, mut on_progress: impl FnMut(PrepareProgress)) -> Result<Outcome> {
        loop {
            match self.events.recv().await {
                Some(Event::Done(_, Outcome::Failed(failure))) => return Err(failure.into()),
                Some(Event::Done(_, outcome)) => return Ok(outcome),
                Some(Event::Preparing(_, progress)) => on_progress(progress),
                Some(Event::Progress(..) | Event::SnapshotTrouble(_)) => {}
                None => return Err(Error::InferenceEnded),
            }
        }
    }
}

/// Stops a job.
#[derive(Clone)]
pub struct Canceller {
    id: JobId,
    commands: mpsc::Sender<Command>,
}

impl Canceller {
    /// Asks for the stop. The job answers with its outcome.
    pub fn cancel(&self) {
        // Where the thread has ended there is nothing left to stop.
        self.commands.send(Command::Cancel(self.id)).ok();
    }
}

fn unexpected(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Failed(failure) => failure.into(),
        _ => Failure {
            kind: FailureKind::Internal,
            message: "the inference thread answered something else than was asked".into(),
        }
        .into(),
    }
}

fn hand_over(waiting: &Waiting, trouble: &TroubleListener, event: Event) {
    let (id, last) = match &event {
        // Nothing else is held meanwhile, since a listener may ask for something.
        Event::SnapshotTrouble(why) => {
            if let Some(listener) = lock(trouble).as_ref() {
                listener(why.as_deref());
            }
            return;
        }
        Event::Progress(id, _) | Event::Preparing(id, _) => (*id, false),
        Event::Done(id, _) => (*id, true),
    };
    let mut waiting = lock(waiting);
    if let Some(receiver) = waiting.get(&id) {
        // Whoever dropped the receiver no longer wants to know.
        receiver.send(event).ok();
    }
    if last {
        waiting.remove(&id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves commands until there are no more: the far side of the boundary.
///
/// The calling thread reads, so that a stop is heard in the middle of a reply; a second one infers.
pub fn serve<D: Decoder + 'static>(
    incoming: impl Iterator<Item = Command>,
    outgoing: impl Fn(Event) + Send + Sync + 'static,
    open: impl Open<D> + Send + 'static,
) {
    let cancels: Arc<Mutex<HashMap<JobId, Cancel>>> = Arc::default();
    let (jobs, queue) = mpsc::channel::<(JobId, Job, Cancel)>();
    let storage = SharedStorage::default();
    let interruption = Interruption::default();
    let outgoing = Arc::new(outgoing);
    let (kept, idle) = (Arc::clone(&storage), interruption.clone());
    let (done, tell) = (Arc::clone(&cancels), Arc::clone(&outgoing));
    let worker = std::thread::Builder::new().name("inference".into()).spawn(move || {
        let tell = Box::new(move |event: Event| {
            if let Event::Done(id, _) = &event {
                lock(&done).remove(id);
            }
            tell(event);
        });
        Worker::<D, _>::new(open, kept, idle, tell).work(&queue);
    });
    let Ok(worker) = worker else { return };
    for command in incoming {
        match command {
            Command::Run(id, job) => {
                if let Some(outcome) = at_once(&job, &storage) {
                    outgoing(Event::Done(id, outcome));
                    continue;
                }
                let cancel = Cancel::new();
                lock(&cancels).insert(id, cancel.clone());
                // What is done in idle time gives way to whatever there is to do.
                if !interruption.interrupt_for(|| jobs.send((id, job, cancel)).is_ok()) {
                    break;
                }
            }
            Command::Cancel(id) => {
                let cancel = lock(&cancels).get(&id).cloned();
                if let Some(cancel) = cancel {
                    cancel.cancel();
                }
                interruption.interrupt();
            }
        }
    }
    drop(jobs);
    // Nobody is left to hear the rest.
    lock(&cancels).values().for_each(Cancel::cancel);
    interruption.interrupt();
    // A panic outside of a job would be a fault of this file; there is nobody left to tell.
    worker.join().ok();
}

/// Does a job about the disk, which needs no model and no turn; `None` for all others.
fn at_once(job: &Job, storage: &SharedStorage) -> Option<Outcome> {
    let storage = || recall::lock(storage);
    Some(match job {
        Job::KeepKv(keeping) => {
            Outcome::KvKept { trouble: storage().keep(keeping).err().map(|error| error.to_string()) }
        }
        Job::InspectSnapshots => Outcome::SnapshotsInspected(storage().usage()),
        Job::FreeSnapshots => Outcome::SnapshotsDestroyed { bytes: storage().free_all() },
        Job::ForgetSnapshots(owner) => Outcome::SnapshotsDestroyed { bytes: storage().forget(owner) },
        Job::ForgetSnapshotsExcept(owners) => {
            Outcome::SnapshotsDestroyed { bytes: storage().forget_all_except(owners) }
        }
        _ => return None,
    })
}
