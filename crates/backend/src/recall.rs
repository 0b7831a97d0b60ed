//! What the inference side recalls of earlier prompts: KV blocks come back from disk before a reply, and go
//! there when nobody waits.
//!
//! The files are read and written on this side of the boundary, beside the cache that they come from: a
//! conversation of 4,000 tokens has a hundred megabytes, which are no message. What crosses is the folder,
//! the budgets, and whose a reply is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{
    Cancel, Decoder, Engine, Import, KV_BLOCK, KvBlock, KvLayout, LoadedModel, ReuseLimit, SessionId,
    TokenId, Usage, common_prefix,
};

use crate::error::Result;
use crate::messages::{KvKeeping, Owner};
use crate::snapshots::{Chain, Doubt, Fingerprint, Found, Saved, SnapshotUsage, Snapshots};
use crate::store::ModelFolder;

/// Blocks are read where they save at least so many tokens beyond what is in memory: fewer are read again
/// in less time than all blocks take.
const WORTH_READING: usize = KV_BLOCK / 4;

/// Where KV rows are kept: what the thread that reads commands and the one that infers both use.
#[derive(Default)]
pub(crate) struct Storage {
    snapshots: Option<Snapshots>,
    memory_bytes: u64,
    /// What is to be destroyed as soon as a folder is open.
    owed: Owed,
}

/// What was to be destroyed while no folder was open.
#[derive(Default)]
struct Owed {
    all: bool,
    owners: Vec<String>,
}

pub(crate) type SharedStorage = Arc<Mutex<Storage>>;

impl Storage {
    /// Takes up `keeping`. A folder that cannot be used leaves everything else as asked for.
    pub(crate) fn keep(&mut self, keeping: &KvKeeping) -> Result<()> {
        self.memory_bytes = keeping.memory_bytes;
        let kept = self.snapshots.take_if(|snapshots| keeping.folder.as_deref() == Some(snapshots.folder()));
        // Another folder is let go before the next is opened.
        self.snapshots = None;
        self.snapshots = match (kept, &keeping.folder) {
            (Some(mut snapshots), _) => {
                snapshots.set_budget(keeping.disk_bytes);
                Some(snapshots)
            }
            (None, Some(folder)) => Some(Snapshots::open(folder, keeping.disk_bytes)?),
            (None, None) => None,
        };
        if let Some(snapshots) = &mut self.snapshots {
            let Owed { all, owners } = std::mem::take(&mut self.owed);
            for owner in &owners {
                snapshots.forget(owner);
            }
            if all {
                snapshots.free_all();
            }
        }
        Ok(())
    }

    pub(crate) fn usage(&self) -> SnapshotUsage {
        self.snapshots.as_ref().map_or_else(SnapshotUsage::default, Snapshots::usage)
    }

    pub(crate) fn free_all(&mut self) -> u64 {
        match &mut self.snapshots {
            Some(snapshots) => snapshots.free_all(),
            None => {
                self.owed.all = true;
                0
            }
        }
    }

    pub(crate) fn forget(&mut self, owner: &str) -> u64 {
        match &mut self.snapshots {
            Some(snapshots) => snapshots.forget(owner),
            None => {
                self.owed.owners.push(owner.to_owned());
                0
            }
        }
    }

    /// Forgets everybody but `owners`. Where no folder is open the next start does it.
    pub(crate) fn forget_all_except(&mut self, owners: &[String]) -> u64 {
        self.snapshots.as_mut().map_or(0, |snapshots| snapshots.forget_all_except(owners))
    }
}

pub(crate) fn lock(storage: &SharedStorage) -> MutexGuard<'_, Storage> {
    storage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was done for a prompt before its reply began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recalled {
    /// Rows that came back from disk.
    rows: usize,
    /// Why no more came, with the tokens that there would have been.
    limit: Option<(usize, ReuseLimit)>,
    took: Duration,
}

impl Recalled {
    /// Notes what came of bringing blocks back.
    fn take(&mut self, restored: engine::Result<Import<usize>>) {
        match restored {
            Ok(Import::Whole(rows)) => self.rows = rows,
            Ok(Import::Refused(refusal)) => {
                tracing::warn!(?refusal, "KV blocks do not fit; the prompt is read");
                self.limit = Some((0, ReuseLimit::OtherModel));
            }
            // Such as memory that ran out; the reply itself may do with less.
            Err(error) => {
                let error = engine::Failure::from(error).message;
                tracing::warn!(error, "KV blocks could not be restored; the prompt is read");
            }
        }
    }
}

/// Blocks of one session that are to be saved, from `next` on, and its tail behind them.
struct Pending {
    session: SessionId,
    owner: String,
    model: Fingerprint,
    chain: Chain,
    next: usize,
}

/// What came of an attempt to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    Saved,
    /// No snapshots for this conversation for now: why.
    Failed(String),
}

/// Connects an engine with the storage.
pub(crate) struct Recall {
    storage: SharedStorage,
    model: Option<Fingerprint>,
    pending: VecDeque<Pending>,
    owners: HashMap<SessionId, Owner>,
}

impl Recall {
    pub(crate) fn new(storage: SharedStorage) -> Self {
        Self { storage, model: None, pending: VecDeque::new(), owners: HashMap::new() }
    }

    /// Lets go of the sessions of a model that is about to be freed.
    pub(crate) fn clear(&mut self) {
        self.model = None;
        self.pending.clear();
        self.owners.clear();
    }

    /// Takes up a model.
    pub(crate) fn begin<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        folder: &ModelFolder,
        loaded: &LoadedModel,
    ) {
        self.clear();
        self.bound(engine);
        match Fingerprint::of(&folder.path, loaded, engine.decoder().kv_layout()) {
            Ok(model) => self.model = Some(model),
            Err(error) => tracing::warn!(%error, "the model has no fingerprint; its KV rows are not saved"),
        }
    }

    /// Has the warm sessions keep to the budget as it is now.
    fn bound<D: Decoder>(&self, engine: &mut Engine<D>) {
        engine.set_kv_budget(usize::try_from(lock(&self.storage).memory_bytes).unwrap_or(usize::MAX));
    }

    /// Brings back from disk what is there of a prompt and not in memory, until a stop.
    pub(crate) fn before<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        prompt: &[TokenId],
        owner: Option<&Owner>,
        cancel: &Cancel,
    ) -> Recalled {
        let began = Instant::now();
        self.bound(engine);
        // What belongs to nobody, or is private, leaves the disk alone.
        let (Some(owner), Some(model)) = (owner.filter(|owner| owner.saved), self.model) else {
            return Recalled::default();
        };
        if cancel.is_cancelled() || prompt.len() > engine.window() {
            return Recalled::default();
        }
        let Some(found) = self.find(&model, &owner.conversation, prompt) else { return Recalled::default() };
        let limit = found.limit.map(|limit| (found.rows(), limit));
        let mut recalled = Recalled { limit, ..Recalled::default() };
        let layout = engine.decoder().kv_layout().clone();
        let warm = engine.warm_tokens(prompt);
        let (tail, mut doubt) = self.tail(&model, &owner.conversation, &found, warm, &layout);
        let behind = tail.as_ref().map_or(0, |tail| common_prefix(&tail.tokens, &prompt[found.rows()..]));
        if found.rows() + behind < warm + WORTH_READING {
            recalled.limit = doubt.or(recalled.limit);
            return recalled;
        }
        let rows = found.rows() + tail.as_ref().map_or(0, |tail| tail.tokens.len());
        let storage = &self.storage;
        // One at a time, and the storage is free between two of them.
        let wanted = (0..found.blocks()).take_while(|_| !cancel.is_cancelled());
        let whole = wanted.map_while(|number| {
            let read = match &mut lock(storage).snapshots {
                Some(snapshots) => snapshots.read(&found, number, prompt, &layout),
                None => Err(Doubt::Missing),
            };
            read.map_err(|found| doubt = Some((number * KV_BLOCK, limit_of(found)))).ok()
        });
        // Where one of the whole blocks is missing, nothing can follow.
        let mut end = 0;
        let blocks = whole.chain(tail).take_while(|block| {
            let follows = block.start == end;
            end = block.rows().end;
            follows
        });
        let mut blocks = blocks.peekable();
        // Warm sessions give way to what can be read, and to nothing else.
        if blocks.peek().is_some() {
            recalled.take(engine.restore(rows, &mut blocks));
        }
        recalled.limit = doubt.or(recalled.limit);
        if recalled.rows > 0
            && let Some(session) = engine.last_session()
        {
            // From now on it is its owner's, whether or not the reply goes on from it.
            self.owners.insert(session, owner.clone());
        }
        recalled.took = began.elapsed();
        recalled
    }

    /// The blocks that there are of a prompt of `owner`, who is not forgotten from then on; `None` where no folder is
    /// in use.
    fn find(&self, model: &Fingerprint, owner: &str, prompt: &[TokenId]) -> Option<Found> {
        let mut storage = lock(&self.storage);
        let snapshots = storage.snapshots.as_mut()?;
        snapshots.welcome(owner);
        Some(snapshots.find(model, prompt))
    }

    /// The tail that `owner` has behind the blocks that were found, where it can have more than the `warm`
    /// tokens in memory; and what is wrong with it.
    fn tail(
        &self,
        model: &Fingerprint,
        owner: &str,
        found: &Found,
        warm: usize,
        layout: &KvLayout,
    ) -> (Option<KvBlock>, Option<(usize, ReuseLimit)>) {
        let mut storage = lock(&self.storage);
        let Some(snapshots) = &mut storage.snapshots else { return (None, None) };
        let tail = snapshots.find_tail(model, owner, found, layout);
        let Some(tail) = tail.filter(|tail| found.rows() + tail.rows() >= warm + WORTH_READING) else {
            return (None, None);
        };
        match snapshots.read_tail(&tail, layout) {
            Ok(block) => (Some(block), None),
            Err(doubt) => (None, Some((found.rows(), limit_of(doubt)))),
        }
    }

    /// Completes the account of a reply, and notes whose its session is and what of it is to be saved.
    pub(crate) fn after<D: Decoder>(
        &mut self,
        engine: &Engine<D>,
        owner: Option<Owner>,
        recalled: Recalled,
        usage: &mut Usage,
    ) {
        usage.restored_tokens = recalled.rows.min(usage.reused_tokens);
        usage.prefill_seconds += recalled.took.as_secs_f64();
        if let Some((there, limit)) = recalled.limit
            && usage.reused_tokens + 1 < usage.prompt_tokens
            && usage.reused_tokens < there + KV_BLOCK
        {
            usage.reuse_limit = Some(limit);
        }
        self.owners.retain(|&session, _| engine.session_tokens(session).is_some());
        let Some(session) = engine.last_session() else { return };
        match owner {
            Some(owner) => self.owners.insert(session, owner),
            None => self.owners.remove(&session),
        };
        self.queue(engine, session);
    }

    /// Notes that what a session holds now is to be saved, in the place of what it held before. That of nobody
    /// and of private conversations is not.
    pub(crate) fn queue<D: Decoder>(&mut self, engine: &Engine<D>, session: SessionId) {
        self.pending.retain(|pending| pending.session != session);
        let Some(owner) = saved(self.owners.get(&session)).map(str::to_owned) else { return };
        let (Some(model), Some(tokens)) = (self.model, engine.session_tokens(session)) else { return };
        let Some(chain) =
            lock(&self.storage).snapshots.as_ref().map(|snapshots| snapshots.chain(&model, tokens))
        else {
            return;
        };
        self.pending.push_back(Pending { session, owner, model, chain, next: 0 });
    }

    /// Whether anything is to be saved.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Saves the next block. Meant for moments when nobody waits: it takes as long as one block takes.
    pub(crate) fn save_next<D: Decoder>(&mut self, engine: &Engine<D>) -> Option<Progress> {
        let mut pending = self.pending.pop_front()?;
        match self.save_block(engine, &pending) {
            Ok(Saved::Written | Saved::Shared) => {
                pending.next += 1;
                if pending.next <= pending.chain.blocks() {
                    self.pending.push_front(pending);
                }
                Some(Progress::Saved)
            }
            Ok(Saved::NoRoom | Saved::Unwanted) => None,
            Err(error) => {
                // The next reply tries again.
                self.pending.clear();
                Some(Progress::Failed(error))
            }
        }
    }

    /// After a panic in here: nothing that was to be saved is. Returns what to say of it.
    pub(crate) fn give_up(&mut self) -> String {
        tracing::error!("bringing back or saving KV rows panicked");
        self.pending.clear();
        "an internal error".into()
    }

    fn save_block<D: Decoder>(&self, engine: &Engine<D>, pending: &Pending) -> Result<Saved, String> {
        let Pending { session, owner, model, chain, next } = pending;
        let mut storage = lock(&self.storage);
        let Some(snapshots) = &mut storage.snapshots else { return Ok(Saved::Unwanted) };
        if snapshots.share(owner, chain, *next).map_err(|error| error.to_string())? {
            return Ok(Saved::Shared);
        }
        drop(storage);
        let end = engine.session_tokens(*session).map_or(0, <[TokenId]>::len);
        let rows = next * KV_BLOCK..end.min((next + 1) * KV_BLOCK);
        let block: Option<KvBlock> =
            engine.export_block(*session, rows).map_err(|error| engine::Failure::from(error).message)?;
        let Some(block) = block else { return Ok(Saved::Unwanted) };
        let saved = match &mut lock(&self.storage).snapshots {
            Some(snapshots) if *next == chain.blocks() => snapshots.save_tail(owner, model, chain, &block),
            Some(snapshots) => snapshots.save(owner, chain, *next, &block),
            None => Ok(Saved::Unwanted),
        };
        saved.map_err(|error| error.to_string())
    }

    /// Frees the sessions of `owner`, and the ids of all that gave way to others; returns the sessions' bytes.
    pub(crate) fn forget<D: Decoder>(&mut self, engine: &mut Engine<D>, owner: &str) -> usize {
        self.pending.retain(|pending| pending.owner != owner);
        engine.forget_evicted();
        let sessions =
            self.owners.extract_if(|_, owning| owning.conversation == owner).map(|(session, _)| session);
        sessions.map(|session| engine.forget_session(session)).sum()
    }
}

/// What a doubt means for whoever asks why a prompt was read.
fn limit_of(doubt: Doubt) -> ReuseLimit {
    match doubt {
        Doubt::Missing => ReuseLimit::Evicted,
        Doubt::Damaged | Doubt::OtherTokens => ReuseLimit::BlockDamaged,
        Doubt::OtherModel | Doubt::OtherLayout => ReuseLimit::OtherModel,
    }
}

/// Whose KV rows go to the disk.
fn saved(owner: Option<&Owner>) -> Option<&str> {
    owner.filter(|owner| owner.saved).map(|owner| owner.conversation.as_str())
}
