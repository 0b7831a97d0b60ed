//! A conversation as data: what people see of its current branch, and what the model is given of it.

use engine::{Clock, FinishReason, Message, RenderOptions, Role, TokenId, Usage};
use jiff::Timestamp;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One conversation, on its current branch. What is above a memory reset stays readable and is no longer
/// given to the model.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub about: ConversationSummary,
    /// What the model is told before the conversation.
    pub system_prompt: Option<String>,
    /// What stands in the composer.
    pub draft: String,
    pub entries: Vec<Entry>,
    /// Messages of the branch above the first entry that were not asked for.
    pub earlier: usize,
    /// The time that templates print, frozen so that a new day does not change the prompt's beginning.
    pub(crate) clock: Clock,
}

/// One conversation in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationSummary {
    pub id: Uuid,
    /// Empty until the first message.
    pub title: String,
    pub pinned: bool,
    /// Nothing of it is written anywhere; it ends with the application.
    pub private: bool,
    /// Whether all of it is on the disk. Not so while the disk takes nothing, and never of a private one.
    pub saved: bool,
    pub created: Timestamp,
    /// When something was last said in it.
    pub updated: Timestamp,
    /// The id of the model that answered last, or was chosen since.
    pub model: Option<String>,
}

/// One thing in the list.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "every other entry is a reply, so a box would save nothing")]
pub enum Entry {
    Question(Question),
    Reply(Reply),
    /// The model's memory was cleared here.
    MemoryReset {
        id: Uuid,
        at: Timestamp,
    },
    /// The window was full: the model no longer sees anything above. `id` is made from the entry below.
    ContextLine {
        id: Uuid,
        at: Timestamp,
    },
    /// Another model answers from here on. `id` is made from the entry that shows it.
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
    /// Every version of this message in the order of their making, itself included.
    pub versions: Vec<Uuid>,
    /// Whether the model is given it also after its turn has left a full window.
    pub pinned: bool,
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
    /// Every version of this reply in the order of their making, itself included.
    pub versions: Vec<Uuid>,
    /// The first message that the model saw besides pinned ones, where the window was too small for all since
    /// the last reset.
    pub memory_begins: Option<Uuid>,
    /// Whether the model is given it, and the question that it answers, also after its turn has left a full
    /// window.
    pub pinned: bool,
}

/// More of a reply, or all that was said of it in one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReplyPiece {
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// The ids that text and thinking were generated as.
    pub(crate) tokens: Vec<TokenId>,
}

/// How far a reply is.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyStatus {
    Generating,
    Finished(FinishReason),
    /// The application ended before the reply did. What was saved of it until then is kept.
    Interrupted,
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

/// The time now, in the microseconds that are kept.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// The messages among `entries`, after the system prompt. Questions that were never answered go into one
/// message with the next, since most templates want the roles to alternate.
pub(crate) fn messages<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
    system: Option<&str>,
) -> Vec<Message> {
    let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
    for entry in entries {
        match entry {
            Entry::Question(question) => match messages.last_mut() {
                Some(last) if last.role == Role::User => {
                    last.content.push_str("\n\n");
                    last.content.push_str(&question.text);
                }
                _ => messages.push(Message::user(&question.text)),
            },
            Entry::Reply(reply) if !(reply.text.is_empty() && reply.tokens.is_empty()) => {
                // Other programs part one answer into several messages.
                if let Some(last) = messages.last_mut()
                    && last.role == Role::Assistant
                {
                    last.content.push_str("\n\n");
                    last.content.push_str(&reply.text);
                    last.tokens = None;
                    continue;
                }
                messages.push(Message {
                    role: Role::Assistant,
                    content: reply.text.clone(),
                    reasoning: (!reply.thinking.is_empty()).then(|| reply.thinking.clone()),
                    tokens: (!reply.tokens.is_empty()).then(|| reply.tokens.clone()),
                });
            }
            _ => {}
        }
    }
    messages
}

/// The id of something that is shown because of the entry `id`, the same each time it is shown.
fn shown_by(id: Uuid, what: u128) -> Uuid {
    Uuid::from_u128(id.as_u128() ^ what)
}

const CONTEXT_LINE: u128 = 1;
const MODEL_SWITCHED: u128 = 2;
const MODEL_CHOSEN: u128 = 3;

impl Question {
    /// A question that is asked now.
    pub(crate) fn begin(text: String) -> Self {
        let id = Uuid::new_v4();
        Self { id, text, at: now(), versions: vec![id], pinned: false }
    }
}

impl Reply {
    /// A reply that begins now.
    pub(crate) fn begin(model: String) -> Self {
        let id = Uuid::new_v4();
        Self {
            id,
            text: String::new(),
            thinking: String::new(),
            status: ReplyStatus::Generating,
            model,
            usage: None,
            tokens: Vec::new(),
            seed: None,
            at: now(),
            versions: vec![id],
            memory_begins: None,
            pinned: false,
        }
    }

    /// Whether it says nothing that could be lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thinking.is_empty() && self.tokens.is_empty()
    }
}

impl Entry {
    /// What names the entry in its list.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Question(question) => question.id,
            Self::Reply(reply) => reply.id,
            Self::MemoryReset { id, .. } | Self::ContextLine { id, .. } | Self::ModelSwitched { id, .. } => {
                *id
            }
        }
    }
}

impl Conversation {
    /// What names the conversation.
    pub fn id(&self) -> Uuid {
        self.about.id
    }

    /// What prompts of this conversation depend on besides its messages.
    pub(crate) fn render_options(&self, thinking: Option<bool>) -> RenderOptions {
        RenderOptions { thinking, ..RenderOptions::reply_at(self.clock.clone()) }
    }

    /// The place behind the last reset before `end`.
    pub(crate) fn memory_start(&self, end: usize) -> usize {
        self.entries[..end]
            .iter()
            .rposition(|entry| matches!(entry, Entry::MemoryReset { .. }))
            .map_or(0, |reset| reset + 1)
    }

    /// What is pinned above `begin` and below the last reset. A pinned reply comes with the question that it
    /// answers: most templates want one before each, and without it an answer says little.
    pub(crate) fn pinned_above(&self, begin: usize) -> Vec<&Entry> {
        let (mut pinned, mut asked) = (Vec::new(), None);
        for entry in &self.entries[self.memory_start(begin)..begin] {
            match entry {
                Entry::Question(question) if question.pinned => {
                    pinned.push(entry);
                    asked = None;
                }
                Entry::Question(_) => asked = Some(entry),
                Entry::Reply(reply) if reply.pinned => {
                    pinned.extend(asked.take());
                    pinned.push(entry);
                }
                _ => {}
            }
        }
        pinned
    }

    /// The last reply, if it still is in the model's memory.
    pub(crate) fn last_reply(&self, what: &'static str) -> Result<&Reply> {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| match entry {
                Entry::Reply(reply) => Some(Some(reply)),
                Entry::MemoryReset { .. } => Some(None),
                _ => None,
            })
            .flatten()
            .ok_or(Error::NoReply { what })
    }

    /// The place of the entry `id`.
    pub(crate) fn place_of(&self, id: Uuid) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.id() == id)
    }

    pub(crate) fn reply_mut(&mut self, id: Uuid) -> Option<&mut Reply> {
        self.entries.iter_mut().rev().find_map(|entry| match entry {
            Entry::Reply(reply) if reply.id == id => Some(reply),
            _ => None,
        })
    }

    /// Adds the lines that follow from the replies: where the model changed, and where its memory begins.
    pub(crate) fn add_lines(&mut self) {
        self.add_model_lines();
        self.add_context_line();
    }

    fn add_model_lines(&mut self) {
        let mut answered: Option<String> = None;
        // The place where what led to the next reply begins.
        let mut begin = 0;
        let mut place = 0;
        while place < self.entries.len() {
            if let Entry::Reply(reply) = &self.entries[place] {
                let model = reply.model.clone();
                if answered.as_ref().is_some_and(|answered| *answered != model) {
                    let id = shown_by(reply.id, MODEL_SWITCHED);
                    let line = Entry::ModelSwitched { id, at: reply.at, model: model.clone() };
                    self.entries.insert(begin, line);
                    place += 1;
                }
                answered = Some(model);
                begin = place + 1;
            }
            place += 1;
        }
    }

    fn add_context_line(&mut self) {
        let start = self.memory_start(self.entries.len());
        let last = self.entries[start..].iter().rev().find_map(|entry| match entry {
            Entry::Reply(reply) => Some(reply),
            _ => None,
        });
        let Some((begins, at)) = last.and_then(|reply| Some((reply.memory_begins?, reply.at))) else {
            return;
        };
        if let Some(place) = self.place_of(begins) {
            let line = Entry::ContextLine { id: shown_by(begins, CONTEXT_LINE), at };
            self.entries.insert(place, line);
        }
    }

    /// Adds a line at the end where another model than the last one is to answer next.
    pub(crate) fn add_chosen_model(&mut self, model: &str) {
        let last = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Reply(reply) => Some(reply),
            _ => None,
        });
        if let Some(reply) = last
            && reply.model != model
            && reply.status != ReplyStatus::Generating
        {
            let id = shown_by(reply.id, MODEL_CHOSEN);
            self.entries.push(Entry::ModelSwitched { id, at: reply.at, model: model.to_owned() });
        }
    }
}
