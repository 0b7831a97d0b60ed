//! The inference thread and the handle to it: the only file that starts it.
//!
//! [`serve`] is the far side. It reads commands from anywhere and gives events to anyone, so the thread
//! becomes a process when two ends of a pipe take the place of the channels here.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use engine::onnx::OnnxDecoder;
use engine::prepare::prepare;
use engine::{
    Cancel, Decoder, EmbedRequest, Embedded, Embedding, Engine, Failure, FailureKind, Finish, LoadOptions,
    LoadedModel, Message, Preparation, PrepareOptions, PrepareProgress, Prepared, Progress, RenderOptions,
    Request, TokenId,
};
use tokio::sync::mpsc as channel;

use crate::error::{Error, Result};
use crate::messages::{Command, Event, Inspection, Job, JobId, Outcome};
use crate::store::ModelFolder;

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
}

/// Takes an event to whoever waits for it.
pub type Deliver = Box<dyn Fn(Event) + Send + Sync>;

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
        let receivers = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name("inference-commands".into())
            .spawn(move || {
                let deliver = Arc::clone(&receivers);
                far_side(incoming, Box::new(move |event| hand_over(&deliver, event)));
                // Whoever still waits is told by the end of its channel.
                lock(&receivers).clear();
            })
            .expect("the system can start a thread at start-up");
        Self { commands, waiting, next: Arc::default() }
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
        self.run(Job::Generate(request))
    }

    /// Starts to turn texts into vectors, which [`Running::embedded`] waits for.
    pub fn embed(&self, request: EmbedRequest) -> Running {
        self.run(Job::Embed(request))
    }

    /// Frees the KV cache; returns its bytes.
    pub async fn forget(&self) -> Result<usize> {
        match self.run(Job::Forget).outcome().await? {
            Outcome::Forgotten { bytes } => Ok(bytes),
            other => Err(unexpected(other)),
        }
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
            None => Err(Error::InferenceEnded),
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
                Some(Event::Progress(..)) => {}
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

fn hand_over(waiting: &Waiting, event: Event) {
    let mut waiting = lock(waiting);
    let (id, last) = match &event {
        Event::Progress(id, _) | Event::Preparing(id, _) => (*id, false),
        Event::Done(id, _) => (*id, true),
    };
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
    let done = Arc::clone(&cancels);
    let worker = std::thread::Builder::new().name("inference".into()).spawn(move || {
        let mut worker = Worker { open, engine: None };
        for (id, job, cancel) in queue {
            let outcome = worker.run(id, job, &cancel, &outgoing);
            lock(&done).remove(&id);
            outgoing(Event::Done(id, outcome));
        }
    });
    let Ok(worker) = worker else { return };
    for command in incoming {
        match command {
            Command::Run(id, job) => {
                let cancel = Cancel::new();
                lock(&cancels).insert(id, cancel.clone());
                if jobs.send((id, job, cancel)).is_err() {
                    break;
                }
            }
            Command::Cancel(id) => {
                let cancel = lock(&cancels).get(&id).cloned();
                if let Some(cancel) = cancel {
                    cancel.cancel();
                }
            }
        }
    }
    drop(jobs);
    // Nobody is left to hear the rest.
    lock(&cancels).values().for_each(Cancel::cancel);
    // A panic outside of a job would be a fault of this file; there is nobody left to tell.
    worker.join().ok();
}

struct Worker<D: Decoder, O> {
    open: O,
    engine: Option<Engine<D>>,
}

impl<D: Decoder, O: Open<D>> Worker<D, O> {
    fn run(&mut self, id: JobId, job: Job, cancel: &Cancel, tell: &dyn Fn(Event)) -> Outcome {
        if cancel.is_cancelled() && !matches!(job, Job::Generate(_)) {
            return Outcome::Cancelled;
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.attempt(id, job, cancel, tell)));
        match result {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                log(&error);
                Outcome::Failed(error.into())
            }
            Err(panic) => {
                // What the panic left behind is in doubt, the runtime's session included.
                self.engine = None;
                let message = panic_message(panic.as_ref());
                // The message of a panic may quote the text that was worked on, so the log goes without.
                tracing::error!("a job panicked; the model was unloaded");
                Outcome::Failed(Failure {
                    kind: FailureKind::Crashed,
                    message: format!("inference crashed and the model was unloaded: {message}"),
                })
            }
        }
    }

    fn attempt(
        &mut self,
        id: JobId,
        job: Job,
        cancel: &Cancel,
        tell: &dyn Fn(Event),
    ) -> engine::Result<Outcome> {
        match job {
            Job::Load(folder, options) => {
                // The old model goes first: two at once may not fit.
                self.engine = None;
                let (engine, loaded) = self.open.open(&folder.path, &options)?;
                self.engine = Some(engine);
                Ok(Outcome::Loaded(Box::new(loaded)))
            }
            Job::Prepare(folder, options) => {
                // Graphs are loaded and measured, which another model would disturb.
                self.engine = None;
                let on_progress = &mut |progress| tell(Event::Preparing(id, progress));
                match self.open.prepare(&folder.path, &options, cancel, on_progress)? {
                    Preparation::Prepared(prepared) => Ok(Outcome::Prepared(prepared)),
                    Preparation::Cancelled => Ok(Outcome::Cancelled),
                }
            }
            Job::Unload => {
                self.engine = None;
                Ok(Outcome::Unloaded)
            }
            Job::Prompt(messages, options) => {
                Ok(Outcome::Tokens(self.engine()?.prompt(&messages, &options)?))
            }
            Job::Encode(text) => Ok(Outcome::Tokens(self.engine()?.encode(&text)?)),
            Job::Generate(request) => {
                let on_progress = &mut |progress| tell(Event::Progress(id, progress));
                let finish = self.engine()?.generate(&request, cancel, on_progress)?;
                Ok(Outcome::Finished(Box::new(finish)))
            }
            Job::Embed(request) => Ok(match self.engine()?.embed(&request, cancel)? {
                Embedded::Embeddings(embeddings) => Outcome::Embedded(embeddings),
                Embedded::Cancelled => Outcome::Cancelled,
            }),
            Job::Forget => {
                let bytes = self.engine.as_ref().map_or(0, Engine::kv_bytes);
                self.engine.iter_mut().for_each(Engine::forget);
                Ok(Outcome::Forgotten { bytes })
            }
            Job::Inspect => {
                Ok(Outcome::Inspected(self.engine.as_ref().map_or_else(Inspection::default, |engine| {
                    Inspection { seen_tokens: engine.seen().len(), kv_bytes: engine.kv_bytes() }
                })))
            }
        }
    }

    fn engine(&mut self) -> engine::Result<&mut Engine<D>> {
        self.engine.as_mut().ok_or_else(|| engine::Error::Invalid { reason: "no model is loaded".into() })
    }
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
