//! How a reply is made: from the question on the disk to the reply that is part of the conversation.

use std::sync::Arc;
use std::time::Instant;

use engine::{Finish, FinishReason, Request, TokenId};
use uuid::Uuid;

use super::{Chat, ChatEvent, Inner};
use crate::context::{self, Room, Wanted};
use crate::conversation::{Entry, Question, Reply, ReplyStatus, ReplyUsage};
use crate::error::{Error, Result};
use crate::inference::Update;
use crate::models::ReadyModel;
use crate::next_turn;
use crate::reply_options::ReplyOptions;
use crate::saving::Saving;
use crate::turn::{Turn, lock};
use crate::writing::Writing;

/// What a turn is about.
pub(super) enum Task {
    /// A question, and the one that it takes the place of.
    Answer(Question, Option<Uuid>),
    /// A reply again; the last one where none is named.
    Again(Option<Uuid>),
    GoOn,
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

impl Chat {
    /// Makes one turn.
    ///
    /// # Errors
    /// Only where nothing became part of the conversation.
    pub(super) async fn turn(
        &self,
        conversation: Uuid,
        task: Task,
        mut options: ReplyOptions,
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
        let result = self.reply(&mut reply, &mut options, &turn, &mut writing).await;
        let reply = self.conclude(&turn, reply, &options, result, writing);
        if let Some(about) = self.0.models.loaded() {
            let Inner { inference, history, .. } = self.0.as_ref();
            // Before the turn ends: behind it comes the next reply.
            next_turn::read_ahead(inference, history, about.window, conversation, &reply, &options);
        }
        Ok(reply)
    }

    /// Writes the question and the beginning of its reply to the disk.
    fn begin(&self, conversation: Uuid, task: Task) -> Result<(Option<Question>, Reply)> {
        let history = &self.0.history;
        let selected = self.0.models.selected_model();
        let model = selected.as_ref().map(|model| model.name.clone()).unwrap_or_default();
        let model_id = selected.as_ref().map(|model| model.id.as_str());
        // Each is one change: behind it nothing fails, or what is on the disk would be sent again.
        match task {
            Task::Answer(mut question, beside) => {
                let reply = Reply::begin(model);
                question.versions = history.ask(conversation, beside, &question, &reply, model_id)?;
                Ok((Some(question), reply))
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
                reply.versions = history.answer_again(conversation, old, &reply, model_id)?;
                Ok((None, reply))
            }
            Task::GoOn => {
                let now = history.conversation(conversation, usize::MAX)?;
                let mut reply = now.last_reply("go on")?.clone();
                history.go_on(conversation, reply.id, model_id)?;
                reply.status = ReplyStatus::Generating;
                Ok((None, reply))
            }
        }
    }

    async fn reply(
        &self,
        reply: &mut Reply,
        options: &mut ReplyOptions,
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
        let owner = turn.conversation.to_string();
        let mut running = if self.0.history.is_saved(turn.conversation) {
            self.0.inference.generate_for(&owner, request)
        } else {
            self.0.inference.generate_privately(&owner, request)
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
        options: &mut ReplyOptions,
        ready: &ReadyModel,
    ) -> Result<(Vec<TokenId>, usize)> {
        let now = self.0.history.conversation(conversation, usize::MAX)?;
        self.0.models.defaults_of(&ready.model.id).fill(options, now.system_prompt.is_some());
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
            Err(error) => {
                tracing::warn!(%error, "a reply was not saved");
                // Nobody makes it any longer.
                self.0.history.give_up(turn.conversation, reply.id).ok();
            }
        }
        reply
    }
}
