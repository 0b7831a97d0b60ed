//! A conversation as data: what people see, and what the model is given of it.

use engine::{Clock, FinishReason, Message, RenderOptions, Role, TokenId, Usage};
use jiff::Timestamp;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One conversation. What is above a memory reset stays readable and is no longer given to the model.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub id: Uuid,
    pub entries: Vec<Entry>,
    /// The time that templates print, frozen so that a new day does not change the prompt's beginning.
    clock: Clock,
}

/// One thing in the list.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most entries are the large one")]
pub enum Entry {
    Question(Question),
    Reply(Reply),
    /// The model's memory was cleared here.
    MemoryReset {
        id: Uuid,
        at: Timestamp,
    },
    /// Another model answers from here on.
    ModelSwitched {
        id: Uuid,
        at: Timestamp,
        model: String,
    },
}

/// What the user said.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub id: Uuid,
    pub text: String,
    pub at: Timestamp,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub id: Uuid,
    pub text: String,
    /// What stood between thinking marks.
    pub thinking: String,
    pub status: ReplyStatus,
    /// The name of the model.
    pub model: String,
    pub usage: Option<ReplyUsage>,
    /// The ids as generated, so that they are never encoded again.
    pub tokens: Vec<TokenId>,
    pub seed: Option<u64>,
    pub at: Timestamp,
}

/// How far a reply is.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyStatus {
    Generating,
    Finished(FinishReason),
    /// What it said before is kept.
    Failed(Error),
}

/// The work that a reply took, as its reader feels it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplyUsage {
    pub usage: Usage,
    /// From the message to the first token, waiting for the model included.
    pub time_to_first_token_seconds: f64,
}

impl Reply {
    /// A reply that begins now.
    pub(crate) fn begin(model: String) -> Self {
        Self {
            id: Uuid::new_v4(),
            text: String::new(),
            thinking: String::new(),
            status: ReplyStatus::Generating,
            model,
            usage: None,
            tokens: Vec::new(),
            seed: None,
            at: Timestamp::now(),
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty()
    }
}

impl Conversation {
    /// A conversation that begins now.
    pub(crate) fn begin() -> Self {
        Self { id: Uuid::new_v4(), entries: Vec::new(), clock: Clock::now() }
    }

    /// What prompts of this conversation depend on besides its messages.
    pub(crate) fn render_options(&self, thinking: Option<bool>) -> RenderOptions {
        RenderOptions { thinking, ..RenderOptions::reply_at(self.clock.clone()) }
    }

    /// The messages that the model is given for the reply at `index`, or for the next one: those since the
    /// last reset. Questions that were never answered go into one message with the next, since most
    /// templates want the roles to alternate.
    pub(crate) fn messages_before(&self, index: usize, system: Option<&str>) -> Vec<Message> {
        let entries = &self.entries[..index];
        let begin = entries
            .iter()
            .rposition(|entry| matches!(entry, Entry::MemoryReset { .. }))
            .map_or(0, |reset| reset + 1);
        let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        for entry in &entries[begin..] {
            match entry {
                Entry::Question(question) => match messages.last_mut() {
                    Some(last) if last.role == Role::User => {
                        last.content.push_str("\n\n");
                        last.content.push_str(&question.text);
                    }
                    _ => messages.push(Message::user(&question.text)),
                },
                Entry::Reply(reply) if !reply.is_empty() => messages.push(Message {
                    role: Role::Assistant,
                    content: reply.text.clone(),
                    reasoning: (!reply.thinking.is_empty()).then(|| reply.thinking.clone()),
                    tokens: (!reply.tokens.is_empty()).then(|| reply.tokens.clone()),
                }),
                Entry::Reply(_) | Entry::MemoryReset { .. } | Entry::ModelSwitched { .. } => {}
            }
        }
        messages
    }

    /// The place of the last reply, if it still is in the model's memory.
    pub(crate) fn last_reply(&self, what: &'static str) -> Result<usize> {
        self.entries
            .iter()
            .rposition(|entry| matches!(entry, Entry::Reply(_) | Entry::MemoryReset { .. }))
            .filter(|&index| matches!(self.entries[index], Entry::Reply(_)))
            .ok_or(Error::NoReply { what })
    }

    /// The place of the reply `id`.
    pub(crate) fn place_of(&self, id: Uuid) -> Option<usize> {
        self.entries.iter().rposition(|entry| matches!(entry, Entry::Reply(reply) if reply.id == id))
    }

    /// Marks replies that nobody makes any longer as stopped.
    pub(crate) fn end_generating(&mut self) {
        for entry in &mut self.entries {
            if let Entry::Reply(reply) = entry
                && reply.status == ReplyStatus::Generating
            {
                reply.status = ReplyStatus::Finished(FinishReason::Cancelled);
            }
        }
    }

    pub(crate) fn reply_mut(&mut self, id: Uuid) -> Option<&mut Reply> {
        self.entries.iter_mut().rev().find_map(|entry| match entry {
            Entry::Reply(reply) if reply.id == id => Some(reply),
            _ => None,
        })
    }
}
