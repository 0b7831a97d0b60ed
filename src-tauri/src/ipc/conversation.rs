//! The conversation as it crosses to the interface.

use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;

use super::{IpcError, count};

/// What people see of a conversation.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct Conversation {
    id: String,
    entries: Vec<Entry>,
}

impl From<backend::Conversation> for Conversation {
    fn from(conversation: backend::Conversation) -> Self {
        let entries = conversation.entries.into_iter().map(Entry::from).collect();
        Self { id: conversation.id.to_string(), entries }
    }
}

/// One thing in the list.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Entry {
    Question(Question),
    Reply(Reply),
    MemoryReset { id: String, at: String },
    ModelSwitched { id: String, at: String, model: String },
}

impl From<backend::Entry> for Entry {
    fn from(entry: backend::Entry) -> Self {
        match entry {
            backend::Entry::Question(question) => Self::Question(question.into()),
            backend::Entry::Reply(reply) => Self::Reply(reply.into()),
            backend::Entry::MemoryReset { id, at } => {
                Self::MemoryReset { id: id.to_string(), at: at.to_string() }
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
}

impl From<backend::Question> for Question {
    fn from(question: backend::Question) -> Self {
        Self { id: question.id.to_string(), text: question.text, at: question.at.to_string() }
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
        }
    }
}

/// How far a reply is.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum ReplyStatus {
    Generating,
    Finished { reason: FinishReason },
    Failed { error: IpcError },
}

impl From<backend::ReplyStatus> for ReplyStatus {
    fn from(status: backend::ReplyStatus) -> Self {
        match status {
            backend::ReplyStatus::Generating => Self::Generating,
            backend::ReplyStatus::Finished(reason) => Self::Finished { reason: reason.into() },
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
    reused_tokens: u32,
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
            new_tokens: count(usage.usage.new_tokens),
            prefill_seconds: usage.usage.prefill_seconds,
            decode_seconds: usage.usage.decode_seconds,
            time_to_first_token_seconds: usage.time_to_first_token_seconds,
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
    /// More between thinking marks.
    Thinking { text: String },
    /// More of the reply.
    Text { text: String },
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
            backend::ChatEvent::Thinking(text) => Self::Thinking { text },
            backend::ChatEvent::Text(text) => Self::Text { text },
        }
    }
}

/// The tokens that a message would take.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Draft {
    draft_tokens: u32,
    prompt_tokens: u32,
    window: u32,
}

impl From<backend::Draft> for Draft {
    fn from(draft: backend::Draft) -> Self {
        Self {
            draft_tokens: count(draft.draft_tokens),
            prompt_tokens: count(draft.prompt_tokens),
            window: count(draft.window),
        }
    }
}
