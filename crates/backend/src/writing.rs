//! What a reply says while it is made, on its way to whoever watches.

use std::time::{Duration, Instant};

use engine::Progress;

use crate::chat::ChatEvent;
use crate::conversation::ReplyPiece;

/// Text is told at most this often: each message costs the window a turn of its event loop.
const TELL_EVERY: Duration = Duration::from_millis(30);

/// A reply's progress on its way to whoever watches.
pub(crate) struct Writing<F> {
    began: Instant,
    first_token: Option<Instant>,
    /// All that the reply said in this run.
    pub(crate) said: ReplyPiece,
    untold_text: String,
    untold_thinking: String,
    told: Option<Instant>,
    on_event: F,
}

impl<F: FnMut(ChatEvent) + Send> Writing<F> {
    pub(crate) fn new(began: Instant, on_event: F) -> Self {
        Self {
            began,
            first_token: None,
            said: ReplyPiece::default(),
            untold_text: String::new(),
            untold_thinking: String::new(),
            told: None,
            on_event,
        }
    }

    /// Takes progress; says how many tokens the reply said more, where it did.
    pub(crate) fn take(&mut self, progress: Progress) -> Option<usize> {
        let mut more = None;
        match progress {
            Progress::Prefill { done, total, reused } => {
                if done == total {
                    // The first token is chosen when the whole prompt was read.
                    self.first_token.get_or_insert_with(Instant::now);
                }
                (self.on_event)(ChatEvent::Prefill { done, total, reused });
            }
            Progress::Thinking { text, tokens } => {
                more = Some(tokens.len());
                self.said.thinking.push_str(&text);
                self.said.tokens.extend(tokens);
                self.untold_thinking.push_str(&text);
            }
            Progress::Text { text, tokens } => {
                more = Some(tokens.len());
                self.said.text.push_str(&text);
                self.said.tokens.extend(tokens);
                self.untold_text.push_str(&text);
            }
        }
        self.tell_if_due();
        more
    }

    pub(crate) fn tell_if_due(&mut self) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.tell();
        }
    }

    /// When the text that was not told yet must be.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.untold_text.is_empty() && self.untold_thinking.is_empty() {
            return None;
        }
        Some(self.told.map_or(self.began, |told| told + TELL_EVERY))
    }

    pub(crate) fn tell(&mut self) {
        let tokens = self.said.tokens.len();
        let thinking = std::mem::take(&mut self.untold_thinking);
        if !thinking.is_empty() {
            (self.on_event)(ChatEvent::Thinking { text: thinking, tokens });
        }
        let text = std::mem::take(&mut self.untold_text);
        if !text.is_empty() {
            (self.on_event)(ChatEvent::Text { text, tokens });
        }
        self.told = Some(Instant::now());
    }

    pub(crate) fn first_token_seconds(&self) -> f64 {
        self.first_token.unwrap_or_else(Instant::now).duration_since(self.began).as_secs_f64()
    }
}
