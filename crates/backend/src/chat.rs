//! Chat: one turn, from text to finished reply.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use engine::{FailureKind, Finish, FinishReason, Request, TokenId};
use uuid::Uuid;

use crate::context::{self, Room, Wanted};
use crate::conversation::{Conversation, Entry, Question, Reply, ReplyStatus, ReplyUsage};
use crate::error::{Error, Result};
use crate::history::History;
use crate::inference::{Inference, Update};
use crate::models::{Models, ReadyModel};
use crate::reply_options::ReplyOptions;
use crate::saving::Saving;
use crate::turn::{Turn, lock};
use crate::writing::Writing;

/// What happens during a turn. The reply that the call returns is the truth; these are its preview.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the large one comes once a turn, and events are not kept")]
pub enum ChatEvent {
    /// The question is on the disk, and a reply to it has begun.
    Started { question: Option<Question>, reply: Reply },
    /// `done` of `total` prompt tokens are in the KV cache, `reused` of which were there before.
    Prefill { done: usize, total: usize, reused: usize },
    /// More text between thinking marks.
    Thinking(String),
    /// More of the reply.
    Text(String),
}

/// What a message would take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draft {
    /// Of the draft alone.
    pub draft_tokens: usize,
    /// Of the whole prompt with it, after turns have left where it would not fit.
    pub prompt_tokens: usize,
    /// Those of them that would have to be read.
    pub new_tokens: usize,
    /// The most that the model reads.
    pub window: usize,
    /// What of the window is kept free for the reply.
    pub reserved_tokens: usize,
    /// How long the reading would take, where this machine has read with this model before.
    pub reading_seconds: Option<f64>,
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

/// Ends the turn however its future ends, also where nobody waits for it any longer.
struct TurnGuard<'a>(&'a Inner, Arc<Turn>);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        // Nobody would hear a job that still runs; one that is done is left alone.
        self.1.stop();
        if let Some(mut reply) = self.1.take_reply() {
            // The ids of what was told are not known.
            reply.tokens.clear();
            reply.status = ReplyStatus::Finished(FinishReason::Cancelled);
            if let Err(error) = self.0.history.finish(self.1.conversation, &reply, None) {
                tracing::warn!(%error, "a reply that nobody waits for was not saved");
            }
        }
        *lock(&self.0.turn) = None;
        self.1.end();
    }
}

/// What a turn is about.
enum Task {
    /// A question, and the one that it takes the place of.
    Answer(Question, Option<Uuid>),
    /// A reply again; the last one where none is named.
    Again(Option<Uuid>),
    GoOn,
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

    /// The same where the reply under way is one of this conversation.
    pub(crate) async fn settle_in(&self, conversation: Uuid) {
        if lock(&self.0.turn).as_ref().is_some_and(|turn| turn.conversation == conversation) {
            self.settle().await;
        }
    }

    /// Clears the model's memory of the conversation: what stands above is no longer given to it, and its
    /// KV cache is freed. A reply under way is stopped first. Returns the new entry.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`], [`Error::InferenceEnded`].
    pub async fn reset(&self, conversation: Uuid) -> Result<Entry> {
        let entry = loop {
            self.settle().await;
            // While this is held no turn begins, so no reply can stand on both sides of the line.
            let running = lock(&self.0.turn);
            if running.is_none() {
                break self.0.history.reset(conversation)?;
            }
        };
        self.forget(conversation).await?;
        Ok(entry)
    }

    /// Destroys the KV rows of a conversation, in memory and on the disk.
    ///
    /// # Errors
    /// [`Error::InferenceEnded`].
    pub(crate) async fn forget(&self, conversation: Uuid) -> Result<()> {
        *lock(&self.0.remembered) = None;
        let owner = conversation.to_string();
        // The disk first: that is answered at once, also in the middle of another conversation's reply.
        let disk_bytes = self.0.inference.forget_snapshots(&owner).await?;
        let memory_bytes = self.0.inference.forget_owner(&owner).await?;
        tracing::info!(memory_bytes, disk_bytes, "what the model had read was destroyed");
        Ok(())
    }

    /// Takes a reset back: the model is given again what stands above it.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`], [`Error::MessageUnknown`].
    pub async fn undo_reset(&self, conversation: Uuid, reset: Uuid) -> Result<()> {
        loop {
            self.settle().await;
            let running = lock(&self.0.turn);
            if running.is_none() {
                return self.0.history.undo_reset(conversation, reset);
            }
        }
    }

    /// What a message with `text` would take.
    ///
    /// # Errors
    /// [`Error::Busy`] while a reply is made; whatever keeps the model from loading or the template from
    /// rendering.
    pub async fn measure(&self, conversation: Uuid, text: String) -> Result<Draft> {
        let mut now = self.0.history.conversation(conversation, usize::MAX)?;
        if lock(&self.0.turn).is_some() {
            return Err(Error::Busy);
        }
        let (ready, _held) = self.0.models.hold_ready().await?;
        let last = now.last_reply("be measured").ok().cloned();
        let began = last.as_ref().filter(|reply| reply.model == ready.model.name);
        let began = began.and_then(|reply| reply.memory_begins);
        now.entries.push(Entry::Question(Question::begin(text.clone())));
        let count = async {
            let draft_tokens = self.0.inference.encode(text).await?.len();
            let room = Room::new(ready.about.window, ReplyOptions::default().max_new_tokens());
            let wanted = Wanted {
                conversation: &now,
                end: now.entries.len(),
                system: now.system_prompt.as_deref(),
                options: now.render_options(None),
                said: 0,
                began,
            };
            let prompt = context::fit(&self.0.inference, room, wanted).await?;
            let is_remembered = last.is_some_and(|last| Some(last.id) == *lock(&self.0.remembered));
            let seen = if is_remembered && prompt.begins == began {
                self.0.inference.inspect().await?.seen_tokens
            } else {
                0
            };
            // At least one token is always read.
            let new_tokens = prompt.tokens.len().saturating_sub(seen).max(1);
            let rate = self.0.history.reading_rate(&ready.model.name);
            Ok(Draft {
                draft_tokens,
                prompt_tokens: prompt.tokens.len(),
                new_tokens,
                window: room.window,
                reserved_tokens: room.reserved,
                reading_seconds: rate.map(|rate| new_tokens as f64 / rate),
            })
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

    async fn turn(
        &self,
        conversation: Uuid,
        task: Task,
        options: ReplyOptions,
        mut tell: impl FnMut(ChatEvent) + Send,
    ) -> Result<Reply> {
        let began = Instant::now();
        let turn = Arc::new(Turn::new(conversation));
        {
            let mut running = lock(&self.0.turn);
            if running.is_some() {
                return Err(Error::Busy);
            }
            *running = Some(Arc::clone(&turn));
        }
        let _guard = TurnGuard(&self.0, Arc::clone(&turn));
        let (question, mut reply) = self.begin(conversation, task)?;
        let mut on_event = |event| {
            turn.note(&event);
            tell(event);
        };
        on_event(ChatEvent::Started { question, reply: reply.clone() });
        let mut writing = Writing::new(began, on_event);
        let result = self.reply(&mut reply, &options, &turn, &mut writing).await;
        Ok(self.conclude(&turn, reply, &options, result, writing))
    }

    /// Writes the question and the beginning of its reply to the disk.
    fn begin(&self, conversation: Uuid, task: Task) -> Result<(Option<Question>, Reply)> {
        let history = &self.0.history;
        let selected = self.0.models.selected_model();
        let model = selected.as_ref().map(|model| model.name.clone()).unwrap_or_default();
        let begun = match task {
            Task::Answer(mut question, beside) => {
                let reply = Reply::begin(model);
                history.ask(conversation, beside, &question, &reply)?;
                if beside.is_some() {
                    question.versions = self.versions(conversation, question.id)?;
                }
                (Some(question), reply)
            }
            Task::Again(id) => {
                let now = history.conversation(conversation, usize::MAX)?;
                let old = match id {
                    None => now.last_reply("be made again")?,
                    Some(id) => now
                        .entries
                        .iter()
                        .find_map(|entry| match entry {
                            Entry::Reply(reply) if reply.id == id => Some(reply),
                            _ => None,
                        })
                        .ok_or(Error::NoReply { what: "be made again" })?,
                };
                let mut reply = Reply::begin(model);
                history.answer_again(conversation, old, &reply)?;
                reply.versions = self.versions(conversation, reply.id)?;
                (None, reply)
            }
            Task::GoOn => {
                let now = history.conversation(conversation, usize::MAX)?;
                let mut reply = now.last_reply("go on")?.clone();
                history.go_on(conversation, reply.id)?;
                reply.status = ReplyStatus::Generating;
                (None, reply)
            }
        };
        if let Some(model) = selected {
            history.set_model(conversation, &model.id)?;
        }
        Ok(begun)
    }

    /// Every version of a message that was written just now.
    fn versions(&self, conversation: Uuid, message: Uuid) -> Result<Vec<Uuid>> {
        let now = self.0.history.conversation(conversation, 2)?;
        let versions = now.entries.into_iter().find_map(|entry| match entry {
            Entry::Question(question) if question.id == message => Some(question.versions),
            Entry::Reply(reply) if reply.id == message => Some(reply.versions),
            _ => None,
        });
        Ok(versions.unwrap_or_else(|| vec![message]))
    }

    async fn reply(
        &self,
        reply: &mut Reply,
        options: &ReplyOptions,
        turn: &Turn,
        writing: &mut Writing<impl FnMut(ChatEvent) + Send>,
    ) -> Result<Option<Finish>> {
        let (ready, held) = tokio::select! {
            ready = self.0.models.hold_ready() => ready?,
            () = turn.stopped() => return Ok(None),
        };
        let (prompt, continued) = self.prompt(turn.conversation, reply, options, &ready).await?;
        if turn.is_stopped() {
            return Ok(None);
        }
        *lock(&self.0.remembered) = None;
        let request = Request {
            prompt,
            continued,
            sampling: options.sampling(&ready.about.sampling),
            max_new_tokens: options.max_new_tokens(),
            stop: options.stop.clone(),
            ignore_end_of_turn: false,
        };
        let mut running = if self.0.history.is_saved(turn.conversation) {
            self.0.inference.generate_for(&turn.conversation.to_string(), request)
        } else {
            self.0.inference.generate(request)
        };
        // The reply is queued behind the prompt, and no other model came between.
        drop(held);
        turn.stops(running.canceller());
        let mut saving = Saving::new(self.0.history.clone(), turn.conversation, reply.id);
        let finish = loop {
            let due = [writing.due(), saving.due()].into_iter().flatten().min();
            let update = match due {
                None => running.next().await,
                Some(due) => match tokio::time::timeout_at(due.into(), running.next()).await {
                    Ok(update) => update,
                    Err(_) => {
                        writing.tell_if_due();
                        saving.save_if_due(&writing.said);
                        continue;
                    }
                },
            };
            match update {
                Ok(Update::Progress(progress)) => {
                    if let Some(tokens) = writing.take(progress) {
                        saving.note_more(tokens);
                    }
                    saving.save_if_due(&writing.said);
                }
                Ok(Update::Finished(finish)) => break Ok(Some(*finish)),
                Err(error) => break Err(error),
            }
        };
        saving.settle().await;
        finish
    }

    /// The prompt of a reply with what the reply has said already, and how many tokens that is.
    async fn prompt(
        &self,
        conversation: Uuid,
        reply: &mut Reply,
        options: &ReplyOptions,
        ready: &ReadyModel,
    ) -> Result<(Vec<TokenId>, usize)> {
        let now = self.0.history.conversation(conversation, usize::MAX)?;
        let end = now.place_of(reply.id).ok_or(Error::NoReply { what: "be made" })?;
        let begun = (reply.model.clone(), reply.tokens.len(), reply.memory_begins);
        // The ids of another model mean nothing to this one.
        if reply.model != ready.model.name {
            reply.model.clone_from(&ready.model.name);
            reply.tokens.clear();
            reply.memory_begins = None;
        }
        if reply.tokens.is_empty() && !reply.text.is_empty() {
            reply.tokens = self.ids_within(reply.text.clone()).await?;
        }
        let start = now.memory_start(end);
        let before = now.entries[start..end].iter().rev().find_map(|entry| match entry {
            Entry::Reply(before) => Some(before),
            _ => None,
        });
        let before = before.filter(|before| before.model == reply.model);
        let wanted = Wanted {
            conversation: &now,
            end,
            system: options.system.as_deref().or(now.system_prompt.as_deref()),
            options: now.render_options(options.thinking),
            said: reply.tokens.len(),
            began: reply.memory_begins.or_else(|| before?.memory_begins),
        };
        let room = Room::new(ready.about.window, options.max_new_tokens());
        let mut prompt = context::fit(&self.0.inference, room, wanted).await?;
        reply.memory_begins = prompt.begins;
        if begun != (reply.model.clone(), reply.tokens.len(), reply.memory_begins) {
            self.0.history.note_beginning(conversation, reply)?;
        }
        prompt.tokens.extend(&reply.tokens);
        Ok((prompt.tokens, reply.tokens.len()))
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
        turn: &Turn,
        mut reply: Reply,
        options: &ReplyOptions,
        result: Result<Option<Finish>>,
        mut writing: Writing<impl FnMut(ChatEvent) + Send>,
    ) -> Reply {
        writing.tell();
        turn.take_reply();
        if let Err(error) = &result {
            // Without its words: those of a chat template may quote what the user wrote.
            tracing::warn!(kind = ?error.engine_kind(), "the reply failed");
            self.note_crash(error);
        }
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
                *lock(&self.0.remembered) = Some(reply.id);
            }
            Ok(None) => reply.status = ReplyStatus::Finished(FinishReason::Cancelled),
            Err(error) => {
                let said = writing.said;
                reply.text.push_str(&said.text);
                reply.thinking.push_str(&said.thinking);
                reply.tokens.extend(said.tokens);
                reply.status = ReplyStatus::Failed(error);
            }
        }
        let settings = serde_json::to_string(options).ok();
        match self.0.history.finish(turn.conversation, &reply, settings.as_deref()) {
            Ok(pinned) => reply.pinned = pinned,
            // The caller has the reply, and what was saved of it while it was made is kept.
            Err(error) => tracing::warn!(%error, "a reply was not saved"),
        }
        reply
    }
}
