//! Chat: one turn, from text to finished reply.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use engine::{FailureKind, Finish, FinishReason, Message, Request, TokenId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::conversation::{Conversation, Entry, Question, Reply, ReplyStatus, ReplyUsage};
use crate::error::{Error, Result};
use crate::inference::{Inference, Update};
use crate::models::{Models, ReadyModel};
use crate::reply_options::ReplyOptions;
use crate::turn::{Turn, lock};
use crate::writing::Writing;

/// Whose the KV snapshots are, as long as there is one conversation.
const OWNER: &str = "conversation";

/// What happens during a turn. The reply that the call returns is the truth; these are its preview.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the large one comes once a turn, and events are not kept")]
pub enum ChatEvent {
    /// The question is part of the conversation, and a reply to it has begun.
    Started { question: Option<Question>, reply: Reply },
    /// `done` of `total` prompt tokens are in the KV cache, `reused` of which were there before.
    Prefill { done: usize, total: usize, reused: usize },
    /// More text between thinking marks.
    Thinking(String),
    /// More of the reply.
    Text(String),
}

/// The tokens that a message would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft {
    /// Of the draft alone.
    pub draft_tokens: usize,
    /// Of the whole prompt with it.
    pub prompt_tokens: usize,
    /// The most that the model reads.
    pub window: usize,
}

/// The conversation and the turns in it. Cheap to clone.
#[derive(Clone)]
pub struct Chat(Arc<Inner>);

struct Inner {
    models: Models,
    inference: Inference,
    conversation: Mutex<Conversation>,
    /// The reply under way. There is one at a time.
    turn: Mutex<Option<Arc<Turn>>>,
}

/// Ends the turn however its future ends, also where nobody waits for it any longer.
struct TurnGuard<'a>(&'a Inner, Arc<Turn>);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        // Nobody would hear a job that still runs; one that is done is left alone.
        self.1.stop();
        lock(&self.0.conversation).end_generating();
        *lock(&self.0.turn) = None;
        self.1.end();
    }
}

/// What a reply that goes on has said: ids where they are known and this model's own.
enum Said {
    Tokens(Vec<TokenId>),
    Text(String),
}

/// What a turn is about.
enum Task {
    Answer(Question),
    Again,
    GoOn,
}

impl Chat {
    pub(crate) fn new(models: Models, inference: Inference) -> Self {
        let conversation = Mutex::new(Conversation::begin());
        Self(Arc::new(Inner { models, inference, conversation, turn: Mutex::new(None) }))
    }

    /// The conversation as it is now; a reply under way has what it said until now.
    pub fn conversation(&self) -> Conversation {
        let turn = lock(&self.0.turn).clone();
        let mut conversation = lock(&self.0.conversation).clone();
        if let Some(turn) = turn {
            turn.add_to(&mut conversation);
        }
        conversation
    }

    /// Sends a message and waits for the reply, whatever comes of it: one that failed or was stopped is a
    /// reply too, with what it said until then.
    ///
    /// # Errors
    /// Only where the message did not become part of the conversation: [`Error::EmptyMessage`],
    /// [`Error::Busy`], [`Error::ConversationUnknown`].
    pub async fn send(
        &self,
        conversation: Uuid,
        text: String,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.check(conversation)?;
        if text.trim().is_empty() {
            return Err(Error::EmptyMessage);
        }
        let question = Question { id: Uuid::new_v4(), text, at: Timestamp::now() };
        self.turn(Task::Answer(question), options, on_event).await
    }

    /// Makes the last reply again, in its place.
    ///
    /// # Errors
    /// As [`Chat::send`], and [`Error::NoReply`].
    pub async fn retry(
        &self,
        conversation: Uuid,
        options: ReplyOptions,
        on_event: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        self.check(conversation)?;
        self.turn(Task::Again, options, on_event).await
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
        self.check(conversation)?;
        self.turn(Task::GoOn, options, on_event).await
    }

    /// Stops the reply under way, if there is one. What it said is kept.
    pub fn stop(&self) {
        if let Some(turn) = lock(&self.0.turn).as_ref() {
            turn.stop();
        }
    }

    /// Stops the reply under way and waits until it is part of the conversation.
    pub async fn settle(&self) {
        loop {
            let Some(turn) = lock(&self.0.turn).clone() else { return };
            let ended = turn.ended();
            turn.stop();
            // Between the look and the wait the turn may have ended, and another one begun.
            let still = lock(&self.0.turn).as_ref().is_some_and(|now| Arc::ptr_eq(now, &turn));
            if still {
                ended.await;
            }
        }
    }

    /// Clears the model's memory of the conversation: what stands above is no longer given to it, and its
    /// KV cache is freed. A reply under way is stopped first. Returns the new entry.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::InferenceEnded`].
    pub async fn reset(&self, conversation: Uuid) -> Result<Entry> {
        self.check(conversation)?;
        let entry = Entry::MemoryReset { id: Uuid::new_v4(), at: Timestamp::now() };
        loop {
            self.settle().await;
            // While this is held no turn begins, so no reply can stand on both sides of the line.
            let running = lock(&self.0.turn);
            if running.is_none() {
                lock(&self.0.conversation).entries.push(entry.clone());
                break;
            }
        }
        let disk_bytes = self.0.inference.forget_snapshots(OWNER).await?;
        let memory_bytes = self.0.inference.forget_owner(OWNER).await?;
        tracing::info!(memory_bytes, disk_bytes, "the model's memory was reset");
        Ok(entry)
    }

    /// Notes in the list that another model answers, if anything was said before.
    pub(crate) fn note_model(&self, model: &str) {
        let mut conversation = lock(&self.0.conversation);
        if let Some(Entry::ModelSwitched { .. }) = conversation.entries.last() {
            conversation.entries.pop();
        }
        let answered = conversation.entries.iter().rev().find_map(|entry| match entry {
            Entry::Reply(reply) => Some(reply.model.clone()),
            _ => None,
        });
        if answered.is_some_and(|answered| answered != model) {
            let entry =
                Entry::ModelSwitched { id: Uuid::new_v4(), at: Timestamp::now(), model: model.to_owned() };
            conversation.entries.push(entry);
        }
    }

    /// How many tokens the next prompt would have with `text` as its message.
    ///
    /// # Errors
    /// [`Error::Busy`] while a reply is made; whatever keeps the model from loading or the template from
    /// rendering.
    pub async fn measure(&self, conversation: Uuid, text: String) -> Result<Draft> {
        self.check(conversation)?;
        if lock(&self.0.turn).is_some() {
            return Err(Error::Busy);
        }
        let (ready, _held) = self.0.models.hold_ready().await?;
        let (mut messages, options) = {
            let conversation = lock(&self.0.conversation);
            (
                conversation.messages_before(conversation.entries.len(), None),
                conversation.render_options(None),
            )
        };
        messages.push(Message::user(&text));
        let count = async {
            let draft_tokens = self.0.inference.encode(text).await?.len();
            let prompt_tokens = self.0.inference.prompt(messages, options).await?.len();
            Ok(Draft { draft_tokens, prompt_tokens, window: ready.about.window })
        };
        let draft = count.await;
        if let Err(error) = &draft {
            self.note_crash(error);
        }
        draft
    }

    /// Where the inference thread crashed the model is gone, and the next turn loads it again.
    fn note_crash(&self, error: &Error) {
        if error.engine_kind() == Some(FailureKind::Crashed) {
            self.0.models.lost(error);
        }
    }

    fn check(&self, id: Uuid) -> Result<()> {
        if lock(&self.0.conversation).id == id {
            Ok(())
        } else {
            Err(Error::ConversationUnknown { id: id.to_string() })
        }
    }

    async fn turn(
        &self,
        task: Task,
        options: ReplyOptions,
        mut tell: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        let began = Instant::now();
        let turn = Arc::new(Turn::default());
        {
            let mut running = lock(&self.0.turn);
            if running.is_some() {
                return Err(Error::Busy);
            }
            *running = Some(Arc::clone(&turn));
        }
        let _guard = TurnGuard(&self.0, Arc::clone(&turn));
        let (id, event) = self.begin(task)?;
        let mut on_event = |event| {
            turn.note(&event);
            tell(event);
        };
        on_event(event);
        let mut writing = Writing::new(began, on_event);
        let result = self.reply(id, &options, &turn, &mut writing).await;
        Ok(self.conclude(id, result, writing))
    }

    /// Makes the question and the beginning of its reply part of the conversation.
    fn begin(&self, task: Task) -> Result<(Uuid, ChatEvent)> {
        let model = self.0.models.selected_model().map(|model| model.name).unwrap_or_default();
        let mut conversation = lock(&self.0.conversation);
        let (question, reply) = match task {
            Task::Answer(question) => {
                conversation.entries.push(Entry::Question(question.clone()));
                (Some(question), Reply::begin(model))
            }
            Task::Again => {
                let index = conversation.last_reply("be made again")?;
                conversation.entries.remove(index);
                (None, Reply::begin(model))
            }
            Task::GoOn => {
                let index = conversation.last_reply("go on")?;
                let Entry::Reply(mut reply) = conversation.entries.remove(index) else {
                    return Err(Error::NoReply { what: "go on" });
                };
                reply.status = ReplyStatus::Generating;
                (None, reply)
            }
        };
        conversation.entries.push(Entry::Reply(reply.clone()));
        Ok((reply.id, ChatEvent::Started { question, reply }))
    }

    async fn reply(
        &self,
        id: Uuid,
        options: &ReplyOptions,
        turn: &Turn,
        writing: &mut Writing<impl FnMut(ChatEvent) + Send>,
    ) -> Result<Option<Finish>> {
        let (ready, held) = tokio::select! {
            ready = self.0.models.hold_ready() => ready?,
            () = turn.stopped() => return Ok(None),
        };
        let (prompt, continued) = self.prompt(id, options, &ready).await?;
        if turn.is_stopped() {
            return Ok(None);
        }
        let request = Request {
            prompt,
            continued,
            sampling: options.sampling(&ready.about.sampling),
            max_new_tokens: options.max_new_tokens(),
            stop: options.stop.clone(),
            ignore_end_of_turn: false,
        };
        let mut running = self.0.inference.generate_for(OWNER, request);
        // The reply is queued behind the prompt, and no other model came between.
        drop(held);
        turn.stops(running.canceller());
        loop {
            let update = match writing.due() {
                None => running.next().await?,
                Some(due) => match tokio::time::timeout_at(due.into(), running.next()).await {
                    Ok(update) => update?,
                    Err(_) => {
                        writing.tell();
                        continue;
                    }
                },
            };
            match update {
                Update::Progress(progress) => writing.take(progress),
                Update::Finished(finish) => return Ok(Some(*finish)),
            }
        }
    }

    /// The prompt of a reply with what the reply has said already, and how many tokens that is.
    async fn prompt(
        &self,
        id: Uuid,
        options: &ReplyOptions,
        ready: &ReadyModel,
    ) -> Result<(Vec<TokenId>, usize)> {
        let (messages, render_options, said) = {
            let mut conversation = lock(&self.0.conversation);
            let index = conversation.place_of(id).ok_or(Error::NoReply { what: "be made" })?;
            let messages = conversation.messages_before(index, options.system.as_deref());
            let render_options = conversation.render_options(options.thinking);
            let reply = conversation.reply_mut(id).ok_or(Error::NoReply { what: "be made" })?;
            // The ids of another model mean nothing to this one.
            if reply.model != ready.model.name {
                reply.model.clone_from(&ready.model.name);
                reply.tokens.clear();
            }
            let said = if reply.tokens.is_empty() {
                Said::Text(reply.text.clone())
            } else {
                Said::Tokens(reply.tokens.clone())
            };
            (messages, render_options, said)
        };
        let mut prompt = self.0.inference.prompt(messages, render_options).await?;
        let said = match said {
            Said::Tokens(tokens) => tokens,
            Said::Text(text) if text.is_empty() => Vec::new(),
            Said::Text(text) => {
                let tokens = self.ids_within(text).await?;
                if let Some(reply) = lock(&self.0.conversation).reply_mut(id) {
                    reply.tokens.clone_from(&tokens);
                }
                tokens
            }
        };
        prompt.extend(&said);
        Ok((prompt, said.len()))
    }

    /// The ids of text in the middle of a prompt: without what a model wants before a text that stands alone.
    async fn ids_within(&self, text: String) -> Result<Vec<TokenId>> {
        let before = self.0.inference.encode(String::new()).await?.len();
        let mut tokens = self.0.inference.encode(text).await?;
        tokens.drain(..before.min(tokens.len()));
        Ok(tokens)
    }

    /// Makes what came of the turn part of the conversation.
    fn conclude(
        &self,
        id: Uuid,
        result: Result<Option<Finish>>,
        mut writing: Writing<impl FnMut(ChatEvent) + Send>,
    ) -> Reply {
        writing.tell();
        if let Err(error) = &result {
            // Without its words: those of a chat template may quote what the user wrote.
            tracing::warn!(kind = ?error.engine_kind(), "the reply failed");
            self.note_crash(error);
        }
        let mut conversation = lock(&self.0.conversation);
        let mut lost = Reply::begin(String::new());
        let reply = conversation.reply_mut(id).unwrap_or(&mut lost);
        match result {
            Ok(Some(finish)) => {
                reply.text = finish.text;
                // A reply that goes on from text alone does not think it all again.
                if !finish.thinking.is_empty() {
                    reply.thinking = finish.thinking;
                }
                reply.tokens.extend(finish.tokens);
                reply.seed = Some(finish.seed);
                reply.status = ReplyStatus::Finished(finish.reason);
                reply.usage = Some(ReplyUsage {
                    usage: finish.usage,
                    time_to_first_token_seconds: writing.first_token_seconds(),
                });
            }
            Ok(None) => reply.status = ReplyStatus::Finished(FinishReason::Cancelled),
            Err(error) => {
                // The ids of an unfinished reply are not known; its text is what was seen.
                reply.text.push_str(&writing.text);
                reply.thinking.push_str(&writing.thinking);
                if !writing.text.is_empty() {
                    reply.tokens.clear();
                }
                reply.status = ReplyStatus::Failed(error);
            }
        }
        reply.clone()
    }
}
