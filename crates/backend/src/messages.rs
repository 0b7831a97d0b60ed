//! Everything that crosses the inference boundary: plain owned data, so that the far side can be a thread
//! today and a process tomorrow.

use engine::{
    EmbedRequest, Embedding, Failure, Finish, LoadOptions, LoadedModel, Message, PrepareOptions,
    PrepareProgress, Prepared, Progress, RenderOptions, Request, TokenId,
};
use serde::{Deserialize, Serialize};

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
    /// One reply.
    Generate(Request),
    /// Texts as vectors.
    Embed(EmbedRequest),
    /// Frees the KV cache.
    Forget,
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
    Forgotten {
        bytes: usize,
    },
    Inspected(Inspection),
    /// Stopped before it began, or a preparation or an embedding in its middle.
    Cancelled,
    Failed(Failure),
}

/// The state of the loaded model's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Tokens in the KV cache.
    pub seen_tokens: usize,
    /// The memory of the KV cache.
    pub kv_bytes: usize,
}
