//! Everything that crosses the inference boundary: plain owned data, so that the far side can be a thread
//! today and a process tomorrow.

use std::path::PathBuf;

use engine::{
    EmbedRequest, Embedding, Failure, Finish, LoadOptions, LoadedModel, Message, PrepareOptions,
    PrepareProgress, Prepared, Progress, RenderOptions, Request, TokenId,
};
use serde::{Deserialize, Serialize};

use crate::snapshots::SnapshotUsage;
use crate::store::ModelFolder;

/// Names a job, so that its events find whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// What the inference side is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Run(JobId, Job),
    /// Stops a job that runs or waits. A job that is done is left alone.
    Cancel(JobId),
}

/// One piece of work. Jobs run one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Job {
    /// Loads a model in the place of the one that is loaded.
    Load(ModelFolder, LoadOptions),
    /// Frees the loaded model, and rewrites the graph of another for this machine where that is not done.
    Prepare(ModelFolder, PrepareOptions),
    /// Frees the model.
    Unload,
    /// The ids of a conversation, ending where the reply begins.
    Prompt(Vec<Message>, RenderOptions),
    /// The ids of plain text.
    Encode(String),
    /// One reply, and whose it is. KV rows of nobody's replies never reach the disk.
    Generate(Request, Option<Owner>),
    /// Reads what the next turn begins with, where the KV cache used last has it otherwise: in idle time, until
    /// there is a job that changes the cache or saves it. What was read until then is kept.
    ReadAhead(NextTurn),
    /// Texts as vectors.
    Embed(EmbedRequest),
    /// Frees the KV caches: those of one conversation, or all.
    Forget(Option<String>),
    /// Where KV rows are kept from now on. This and the other jobs about the disk are done at once, also in
    /// the middle of a reply.
    KeepKv(KvKeeping),
    /// What KV snapshots take.
    InspectSnapshots,
    /// Destroys all KV snapshots.
    FreeSnapshots,
    /// Destroys the KV snapshots that only this conversation uses.
    ForgetSnapshots(String),
    /// Destroys the KV snapshots that none of these conversations uses.
    ForgetSnapshotsExcept(Vec<String>),
    /// Saves what is to be saved, in its turn and for so long at most, and ends reading ahead.
    SaveSnapshots { milliseconds: u64 },
    /// The state of the loaded model.
    Inspect,
}

/// What the inference side tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Progress(JobId, Progress),
    /// How far [`Job::Prepare`] is.
    Preparing(JobId, PrepareProgress),
    /// The last event of every job.
    Done(JobId, Outcome),
    /// KV rows cannot be saved, and why; or they can again.
    SnapshotTrouble(Option<String>),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Loaded(Box<LoadedModel>),
    Prepared(Box<Prepared>),
    Unloaded,
    Tokens(Vec<TokenId>),
    Finished(Box<Finish>),
    Embedded(Vec<Embedding>),
    /// What came of reading ahead.
    ReadAhead(AheadOutcome),
    Forgotten {
        bytes: usize,
    },
    Inspected(Inspection),
    /// The folder of the snapshots is in use, or why it is not.
    KvKept {
        trouble: Option<String>,
    },
    SnapshotsInspected(SnapshotUsage),
    SnapshotsDestroyed {
        bytes: u64,
    },
    /// Whether nothing is left to be saved.
    SnapshotsSaved {
        all: bool,
    },
    /// Stopped before it began, or a preparation or an embedding in its middle.
    Cancelled,
    Failed(Failure),
}

/// Where KV rows are kept when they are not in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvKeeping {
    /// The most memory that the KV caches of several conversations take together. The one used last is kept
    /// whatever it takes.
    pub memory_bytes: u64,
    /// The folder of the snapshots; `None` for no snapshots.
    pub folder: Option<PathBuf>,
    /// The most bytes of all snapshots; `None` for the smaller of 2 GB and 5 % of the free disk.
    pub disk_bytes: Option<u64>,
}

/// The conversation that a reply belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub conversation: String,
    /// Whether its KV rows may reach the disk; those of a private one may not.
    pub saved: bool,
}

/// What is known of the next turn before its question is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextTurn {
    /// What stands before the question.
    pub messages: Vec<Message>,
    pub options: RenderOptions,
    /// With a longer beginning other turns would have to leave, so that nothing is known of it.
    pub most_tokens: usize,
}

/// What came of reading what the next turn begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AheadOutcome {
    /// Tokens that were read.
    pub read: usize,
    /// Tokens of the beginning that the KV cache still lacks.
    pub left: usize,
}

/// The state of the loaded model's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Tokens in the KV cache used last.
    pub seen_tokens: usize,
    /// The memory of all KV caches.
    pub kv_bytes: usize,
}
