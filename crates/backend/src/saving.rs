//! Saves a reply while it is made, so that a cut costs a second of it at most.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::history::History;

/// What was said is saved at least this often,
const SAVE_EVERY: Duration = Duration::from_millis(900);
/// and after so many pieces of text. One is a token or a few.
const MOST_PIECES: usize = 48;

/// What of a reply is saved already.
pub(crate) struct Saving {
    history: History,
    conversation: Uuid,
    reply: Uuid,
    text: usize,
    thinking: usize,
    pieces: usize,
    last: Instant,
    /// One piece at a time, so that they are saved in order.
    under_way: Option<JoinHandle<()>>,
}

impl Saving {
    pub(crate) fn new(history: History, conversation: Uuid, reply: Uuid) -> Self {
        let last = Instant::now();
        Self { history, conversation, reply, text: 0, thinking: 0, pieces: 0, last, under_way: None }
    }

    /// Notes that there is more to save.
    pub(crate) fn note_piece(&mut self) {
        if self.pieces == 0 {
            self.last = Instant::now();
        }
        self.pieces += 1;
    }

    /// When what is not saved yet must be.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.pieces {
            0 => None,
            MOST_PIECES.. if !self.is_busy() => Some(self.last),
            _ if self.is_busy() => {
                Some(Instant::now().max(self.last + SAVE_EVERY) + Duration::from_millis(20))
            }
            _ => Some(self.last + SAVE_EVERY),
        }
    }

    fn is_busy(&self) -> bool {
        self.under_way.as_ref().is_some_and(|saving| !saving.is_finished())
    }

    /// Saves what is due of `text` and `thinking`, elsewhere than on this thread.
    pub(crate) fn save_if_due(&mut self, text: &str, thinking: &str) {
        if self.is_busy() || self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let (history, conversation, reply) = (self.history.clone(), self.conversation, self.reply);
        let (more, more_thinking) = (text[self.text..].to_owned(), thinking[self.thinking..].to_owned());
        (self.text, self.thinking, self.pieces) = (text.len(), thinking.len(), 0);
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = history.append(conversation, reply, &more, &more_thinking) {
                tracing::warn!(%error, "a part of a reply was not saved");
            }
        }));
    }

    /// Waits for what is being saved.
    pub(crate) async fn settle(&mut self) {
        if let Some(saving) = self.under_way.take() {
            // A panic there was told of there; the end of the reply is saved all the same.
            saving.await.ok();
        }
    }
}
