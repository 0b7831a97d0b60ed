//! Chat: what can be asked of a conversation. `making` makes a reply, `draft` measures one.

mod draft;
mod making;

use std::sync::{Arc, Mutex};

use engine::FailureKind;
use uuid::Uuid;

use crate::conversation::{Conversation, Entry, Question, Reply};
use crate::error::{Error, Result};
use crate::history::History;
use crate::inference::Inference;
use crate::models::Models;
use crate::reply_options::ReplyOptions;
use crate::turn::{Turn, lock};
use making::Task;

pub use draft::Draft;

/// What happens during a turn. The reply that the call returns is the truth; these are its preview.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the large one comes once a turn, and events are not kept")]
pub enum ChatEvent {
    /// The question is kept, on the disk unless it is private or the disk refuses it, and a reply has begun.
    Started { question: Option<Question>, reply: Reply },
    /// `done` of `total` prompt tokens are in the KV cache, `reused` of which were there before.
    Prefill { done: usize, total: usize, reused: usize },
    /// More text between thinking marks; `tokens` were generated since the prompt was read.
    Thinking { text: String, tokens: usize },
    /// More of the reply, with the same count.
    Text { text: String, tokens: usize },
}

/// What came of clearing the model's memory of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Reset {
    /// Its line in the list.
    pub line: Entry,
    /// What was destroyed of what the model had read, in memory and on the disk.
    pub freed_bytes: u64,
}

/// The turns in conversations. Cheap to clone.
#[derive(Clone)]
pub struct Chat(Arc<Inner>);

struct Inner {
    models: Models,
    inference: Inference,
    history: History,
    /// The reply under way. There is one at a time.
    turn: Mutex<Option<Arc<Turn>>>,
    /// The reply that the KV cache ends with.
    remembered: Mutex<Option<Uuid>>,
}

impl Chat {
    pub(crate) fn new(models: Models, inference: Inference, history: History) -> Self {
        let (turn, remembered) = (Mutex::new(None), Mutex::new(None));
        Self(Arc::new(Inner { models, inference, history, turn, remembered }))
    }

    /// The id of the conversation that is shown.
    pub fn current(&self) -> Uuid {
        self.0.history.current()
    }

    /// The conversation `id` as it is now, with the last `most` messages of its current branch; a reply under
    /// way has what it said until now.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`].
    pub fn conversation(&self, id: Uuid, most: usize) -> Result<Conversation> {
        // The turn first: where it ends in between, the history has the whole reply.
        let turn = lock(&self.0.turn).clone();
        let mut conversation = self.0.history.conversation(id, most)?;
        if let Some(turn) = turn.filter(|turn| turn.conversation == id) {
            turn.add_to(&mut conversation);
        }
        if let Some(model) = self.0.models.selected_model() {
            conversation.add_chosen_model(&model.name);
        }
        Ok(conversation)
    }

    /// Sends a message and waits for the reply, whatever comes of it: one that failed or was stopped is a
    /// reply too, with what it said until then.
    ///
    /// # Errors
    /// Only where the message did not become part of the conversation: [`Error::EmptyMessage`],
    /// [`Error::Busy`], [`Error::ConversationUnknown`], [`Error::History`].
    pub async fn send(
        &self,
        conversation: Uuid,
        text: String,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.answer(conversation, text, None, options, on_event).await
    }

    /// Sends another version of the question `question`, in a branch of its own.
    ///
    /// # Errors
    /// As [`Chat::send`], and [`Error::MessageUnknown`].
    pub async fn edit(
        &self,
        conversation: Uuid,
        question: Uuid,
        text: String,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        let now = self.0.history.conversation(conversation, usize::MAX)?;
        let is_question = |entry: &Entry| matches!(entry, Entry::Question(known) if known.id == question);
        if !now.entries.iter().any(is_question) {
            return Err(Error::MessageUnknown { id: question.to_string(), what: "be edited" });
        }
        self.answer(conversation, text, Some(question), options, on_event).await
    }

    async fn answer(
        &self,
        conversation: Uuid,
        text: String,
        beside: Option<Uuid>,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        if text.trim().is_empty() {
            return Err(Error::EmptyMessage);
        }
        self.turn(conversation, Task::Answer(Question::begin(text), beside), options, on_event).await
    }

    /// Makes the last reply again; both versions are kept.
    ///
    /// # Errors
    /// As [`Chat::send`], and [`Error::NoReply`].
    pub async fn retry(
        &self,
        conversation: Uuid,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.turn(conversation, Task::Again(None), options, on_event).await
    }

    /// Makes the reply `reply` of the current branch again; both versions are kept, with what follows them.
    ///
    /// # Errors
    /// As [`Chat::send`], and [`Error::MessageUnknown`].
    pub async fn regenerate(
        &self,
        conversation: Uuid,
        reply: Uuid,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.turn(conversation, Task::Again(Some(reply)), options, on_event).await
    }

    /// Goes on with the last reply where it was stopped.
    ///
    /// # Errors
    /// As [`Chat::send`], and [`Error::NoReply`].
    pub async fn go_on(
        &self,
        conversation: Uuid,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.turn(conversation, Task::GoOn, options, on_event).await
    }

    /// Stops the reply under way, if there is one. What it said is kept.
    pub fn stop(&self) {
        if let Some(turn) = lock(&self.0.turn).as_ref() {
            turn.stop();
        }
    }

    /// Stops the reply under way, if it is one of this conversation. What it said is kept.
    pub fn stop_in(&self, conversation: Uuid) {
        if let Some(turn) = lock(&self.0.turn).as_ref().filter(|turn| turn.conversation == conversation) {
            turn.stop();
        }
    }

    /// Stops the reply under way and waits until it is part of the conversation.
    pub async fn settle(&self) {
        self.outlast(Turn::stop).await;
    }

    /// Waits until no reply is being made.
    pub(crate) async fn rest(&self) {
        self.outlast(|_| ()).await;
    }

    async fn outlast(&self, act: impl Fn(&Turn)) {
        loop {
            let Some(turn) = lock(&self.0.turn).clone() else { return };
            let ended = turn.ended();
            act(&turn);
            // Between the look and the wait the turn may have ended, and another one begun.
            let still = lock(&self.0.turn).as_ref().is_some_and(|now| Arc::ptr_eq(now, &turn));
            if still {
                ended.await;
            }
        }
    }

    /// The same where the reply under way is one of this conversation.
    pub(crate) async fn settle_in(&self, conversation: Uuid) {
        if Self::is_of(lock(&self.0.turn).as_ref(), conversation) {
            self.settle().await;
        }
    }

    fn is_of(turn: Option<&Arc<Turn>>, conversation: Uuid) -> bool {
        turn.is_some_and(|turn| turn.conversation == conversation)
    }

    /// Clears the model's memory of the conversation: what stands above is no longer given to it, and its
    /// KV cache is freed. A reply of it under way is stopped first; one of another conversation goes on, and is
    /// waited for.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`], [`Error::InferenceEnded`].
    pub async fn reset(&self, conversation: Uuid) -> Result<Reset> {
        let line = loop {
            self.settle_in(conversation).await;
            // While this is held no turn begins, so no reply can stand on both sides of the line.
            let running = lock(&self.0.turn);
            if !Self::is_of(running.as_ref(), conversation) {
                break self.0.history.reset(conversation)?;
            }
        };
        let freed_bytes = self.forget(conversation).await?;
        Ok(Reset { line, freed_bytes })
    }

    /// Destroys the KV rows of a conversation, in memory and on the disk. Returns their bytes.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`].
    pub(crate) async fn forget(&self, conversation: Uuid) -> Result<u64> {
        *lock(&self.0.remembered) = None;
        let owner = conversation.to_string();
        // The disk first: that is answered at once, also in the middle of another conversation's reply.
        let disk_bytes = self.0.inference.forget_snapshots(&owner).await?;
        let memory_bytes = self.0.inference.forget_owner(&owner).await?;
        tracing::info!(memory_bytes, disk_bytes, "what the model had read was destroyed");
        Ok(disk_bytes + memory_bytes as u64)
    }

    /// Takes a reset back: the model is given again what stands above it.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`], [`Error::MessageUnknown`].
    pub async fn undo_reset(&self, conversation: Uuid, reset: Uuid) -> Result<()> {
        loop {
            self.settle_in(conversation).await;
            let running = lock(&self.0.turn);
            if !Self::is_of(running.as_ref(), conversation) {
                return self.0.history.undo_reset(conversation, reset);
            }
        }
    }

    /// Where the inference thread crashed the model is gone, and the next turn loads it again.
    fn note_crash(&self, error: &Error) {
        if error.engine_kind() == Some(FailureKind::Crashed) {
            self.0.models.lost(error);
        }
    }
}
