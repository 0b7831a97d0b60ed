//! The conversation as it crosses to the interface.

use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;

use super::conversations::ConversationSummary;
use super::{IpcError, count};

/// What people see of a conversation: its current branch.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conversation {
    id: String,
    about: ConversationSummary,
    system_prompt: Option<String>,
    draft: String,
    entries: Vec<Entry>,
    /// How many messages stand above the first entry; they come by opening with a higher number.
    earlier: u32,
}

impl From<backend::Conversation> for Conversation {
    fn from(conversation: backend::Conversation) -> Self {
        Self {
            id: conversation.id().to_string(),
            about: conversation.about.into(),
            system_prompt: conversation.system_prompt,
            draft: conversation.draft,
            entries: conversation.entries.into_iter().map(Entry::from).collect(),
            earlier: count(conversation.earlier),
        }
    }
}

/// What came of deleting a conversation.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deletion {
    /// The conversation that is shown now.
    shown: Conversation,
    /// What was destroyed of what the model had read, in memory and on the disk.
    #[specta(type = Number)]
    freed_bytes: u64,
}

impl From<backend::Deletion> for Deletion {
    fn from(deletion: backend::Deletion) -> Self {
        Self { shown: deletion.shown.into(), freed_bytes: deletion.freed_bytes }
    }
}

/// What came of clearing the model's memory of a conversation.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reset {
    /// Its line in the list.
    line: Entry,
    /// What was destroyed of what the model had read, in memory and on the disk.
    #[specta(type = Number)]
    freed_bytes: u64,
}

impl From<backend::Reset> for Reset {
    fn from(reset: backend::Reset) -> Self {
        Self { line: reset.line.into(), freed_bytes: reset.freed_bytes }
    }
}

/// One thing in the list.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Entry {
    Question(Question),
    Reply(Reply),
    MemoryReset {
        id: String,
        at: String,
    },
    /// The window was full: the model no longer sees anything above but what is pinned.
    ContextLine {
        id: String,
        at: String,
    },
    ModelSwitched {
        id: String,
        at: String,
        model: String,
    },
}

impl From<backend::Entry> for Entry {
    fn from(entry: backend::Entry) -> Self {
        match entry {
            backend::Entry::Question(question) => Self::Question(question.into()),
            backend::Entry::Reply(reply) => Self::Reply(reply.into()),
            backend::Entry::MemoryReset { id, at } => {
                Self::MemoryReset { id: id.to_string(), at: at.to_string() }
            }
            backend::Entry::ContextLine { id, at } => {
                Self::ContextLine { id: id.to_string(), at: at.to_string() }
            }
            backend::Entry::ModelSwitched { id, at, model } => {
                Self::ModelSwitched { id: id.to_string(), at: at.to_string(), model }
            }
        }
    }
}

/// What the user said.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct Question {
    id: String,
    text: String,
    at: String,
    /// The ids of every version of it, oldest first, itself included. More than one where it was edited.
    versions: Vec<String>,
    /// Whether the model is given it also where a full window no longer has its turn.
    pinned: bool,
}

fn ids(ids: Vec<uuid::Uuid>) -> Vec<String> {
    ids.iter().map(uuid::Uuid::to_string).collect()
}

impl From<backend::Question> for Question {
    fn from(question: backend::Question) -> Self {
        Self {
            id: question.id.to_string(),
            text: question.text,
            at: question.at.to_string(),
            versions: ids(question.versions),
            pinned: question.pinned,
        }
    }
}

/// What the model said.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct Reply {
    id: String,
    text: String,
    thinking: Option<String>,
    status: ReplyStatus,
    model: String,
    usage: Option<Usage>,
    at: String,
    /// The ids of every version of it, oldest first, itself included. More than one where it was made again.
    versions: Vec<String>,
    /// Whether the model is given it, with its question, also where a full window no longer has its turn.
    pinned: bool,
}

impl From<backend::Reply> for Reply {
    fn from(reply: backend::Reply) -> Self {
        Self {
            id: reply.id.to_string(),
            text: reply.text,
            thinking: Some(reply.thinking).filter(|thinking| !thinking.is_empty()),
            status: reply.status.into(),
            model: reply.model,
            usage: reply.usage.map(Usage::from),
            at: reply.at.to_string(),
            versions: ids(reply.versions),
            pinned: reply.pinned,
        }
    }
}

/// How far a reply is.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ReplyStatus {
    Generating,
    Finished {
        reason: FinishReason,
    },
    /// Hearth ended before the reply did. What was saved of it until then is kept, and it can go on.
    Interrupted,
    Failed {
        error: IpcError,
    },
}

impl From<backend::ReplyStatus> for ReplyStatus {
    fn from(status: backend::ReplyStatus) -> Self {
        match status {
            backend::ReplyStatus::Generating => Self::Generating,
            backend::ReplyStatus::Finished(reason) => Self::Finished { reason: reason.into() },
            backend::ReplyStatus::Interrupted => Self::Interrupted,
            backend::ReplyStatus::Failed(error) => Self::Failed { error: error.into() },
        }
    }
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FinishReason {
    EndOfTurn,
    MaxTokens,
    StopString,
    ContextFull,
    Cancelled,
}

impl From<backend::FinishReason> for FinishReason {
    fn from(reason: backend::FinishReason) -> Self {
        match reason {
            backend::FinishReason::EndOfTurn => Self::EndOfTurn,
            backend::FinishReason::MaxTokens => Self::MaxTokens,
            backend::FinishReason::StopString => Self::StopString,
            backend::FinishReason::ContextFull => Self::ContextFull,
            backend::FinishReason::Cancelled => Self::Cancelled,
        }
    }
}

/// The work that a reply took.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    prompt_tokens: u32,
    /// Those that were read before.
    reused_tokens: u32,
    /// Of the reused ones, those that came from the disk.
    restored_tokens: u32,
    /// Why not more were reused, where any was read.
    reuse_limit: Option<ReuseLimit>,
    new_tokens: u32,
    #[specta(type = Number)]
    prefill_seconds: f64,
    #[specta(type = Number)]
    decode_seconds: f64,
    #[specta(type = Number)]
    time_to_first_token_seconds: f64,
}

impl From<backend::ReplyUsage> for Usage {
    fn from(usage: backend::ReplyUsage) -> Self {
        Self {
            prompt_tokens: count(usage.usage.prompt_tokens),
            reused_tokens: count(usage.usage.reused_tokens),
            restored_tokens: count(usage.usage.restored_tokens),
            reuse_limit: usage.usage.reuse_limit.map(ReuseLimit::from),
            new_tokens: count(usage.usage.new_tokens),
            prefill_seconds: usage.usage.prefill_seconds,
            decode_seconds: usage.usage.decode_seconds,
            time_to_first_token_seconds: usage.time_to_first_token_seconds,
        }
    }
}

/// Why a prompt was not reused further.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ReuseLimit {
    NothingKept,
    /// What was kept goes on otherwise from this token of the prompt on.
    DiffersAt {
        token: u32,
    },
    Evicted,
    BlockDamaged,
    OtherModel,
}

impl From<backend::ReuseLimit> for ReuseLimit {
    fn from(limit: backend::ReuseLimit) -> Self {
        match limit {
            backend::ReuseLimit::NothingKept => Self::NothingKept,
            backend::ReuseLimit::DiffersAt { token } => Self::DiffersAt { token: count(token) },
            backend::ReuseLimit::Evicted => Self::Evicted,
            backend::ReuseLimit::BlockDamaged => Self::BlockDamaged,
            backend::ReuseLimit::OtherModel => Self::OtherModel,
        }
    }
}

/// What happens while a reply is made: a preview, which the command's result replaces.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
#[expect(clippy::large_enum_variant, reason = "the large one comes once a turn, and events are not kept")]
pub(crate) enum ChatEvent {
    /// The question is part of the conversation, and a reply has begun.
    Started { question: Option<Question>, reply: Reply },
    /// `done` of `total` prompt tokens are in the KV cache, `reused` of which were there before.
    Prefill { done: u32, total: u32, reused: u32 },
    /// More between thinking marks; `tokens` were generated since the prompt was read.
    Thinking { text: String, tokens: u32 },
    /// More of the reply, with the same count.
    Text { text: String, tokens: u32 },
}

impl From<backend::ChatEvent> for ChatEvent {
    fn from(event: backend::ChatEvent) -> Self {
        match event {
            backend::ChatEvent::Started { question, reply } => {
                Self::Started { question: question.map(Question::from), reply: reply.into() }
            }
            backend::ChatEvent::Prefill { done, total, reused } => {
                Self::Prefill { done: count(done), total: count(total), reused: count(reused) }
            }
            backend::ChatEvent::Thinking { text, tokens } => Self::Thinking { text, tokens: count(tokens) },
            backend::ChatEvent::Text { text, tokens } => Self::Text { text, tokens: count(tokens) },
        }
    }
}

/// What a message would take.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Draft {
    /// Of the draft alone.
    draft_tokens: u32,
    /// Of the whole prompt with it.
    prompt_tokens: u32,
    /// Those of them that would have to be read.
    new_tokens: u32,
    /// The most that the model reads.
    window: u32,
    /// What of the window is kept free for the reply.
    reserved_tokens: u32,
    /// How long the reading would take, where this machine has read with this model before.
    #[specta(type = Option<Number>)]
    reading_seconds: Option<f64>,
}

impl From<backend::Draft> for Draft {
    fn from(draft: backend::Draft) -> Self {
        Self {
            draft_tokens: count(draft.draft_tokens),
            prompt_tokens: count(draft.prompt_tokens),
            new_tokens: count(draft.new_tokens),
            window: count(draft.window),
            reserved_tokens: count(draft.reserved_tokens),
            reading_seconds: draft.reading_seconds,
        }
    }
}
