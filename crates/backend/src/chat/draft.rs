//! What a message would take, told while it is written.

use uuid::Uuid;

use super::Chat;
use crate::context::{self, Room, Wanted};
use crate::conversation::{Entry, Question};
use crate::error::{Error, Result};
use crate::reply_options::ReplyOptions;
use crate::turn::lock;

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

impl Chat {
    /// What a message with `text` would take.
    ///
    /// # Errors
    /// [`Error::Busy`] while a reply is made, [`Error::ModelNotLoaded`], or whatever keeps the template from
    /// rendering.
    pub async fn measure(&self, conversation: Uuid, text: String) -> Result<Draft> {
        let mut now = self.0.history.conversation(conversation, usize::MAX)?;
        if lock(&self.0.turn).is_some() {
            return Err(Error::Busy);
        }
        // A draft is counted again and again, and no count is worth a load.
        let (ready, _held) = self.0.models.hold_loaded().await.ok_or(Error::ModelNotLoaded)?;
        let last = now.last_reply("be measured").ok().cloned();
        let began = last.as_ref().filter(|reply| reply.model == ready.model.name);
        let began = began.and_then(|reply| reply.memory_begins);
        now.entries.push(Entry::Question(Question::begin(text.clone())));
        let count = async {
            let draft_tokens = self.0.inference.encode(text).await?.len();
            let mut options = ReplyOptions::default();
            self.0.models.defaults_of(&ready.model.id).fill(&mut options, now.system_prompt.is_some());
            let room = Room::new(ready.about.window, options.max_new_tokens());
            let wanted = Wanted {
                conversation: &now,
                end: now.entries.len(),
                system: options.system.as_deref().or(now.system_prompt.as_deref()),
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
}
