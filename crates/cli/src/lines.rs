//! The JSON lines: one object a line on stdout.

use backend::{FinishReason, TokenId, Usage};
use serde::Serialize;

/// One line of a conversation.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    Prefill { done: usize, total: usize, reused: usize },
    Text { text: &'a str },
    Thinking { text: &'a str },
    Notice { code: &'a str, message: &'a str },
    Error { code: &'a str, message: &'a str },
    Reset,
    Finish { text: &'a str, token_ids: &'a [TokenId], reason: &'static str, usage: Usage, seed: Option<u64> },
}

/// A reply that ended, as far as it came.
#[derive(Debug, Default)]
pub(crate) struct FinishedReply {
    pub(crate) text: String,
    pub(crate) token_ids: Vec<TokenId>,
    /// `None`: stopped before it began.
    pub(crate) reason: Option<FinishReason>,
    pub(crate) usage: Usage,
    pub(crate) seed: Option<u64>,
}

impl FinishedReply {
    pub(crate) fn line(&self) -> Line<'_> {
        Line::Finish {
            text: &self.text,
            token_ids: &self.token_ids,
            reason: reason_name(self.reason),
            usage: self.usage,
            seed: self.seed,
        }
    }
}

fn reason_name(reason: Option<FinishReason>) -> &'static str {
    match reason {
        Some(FinishReason::EndOfTurn) => "end_of_turn",
        Some(FinishReason::MaxTokens) => "max_tokens",
        Some(FinishReason::StopString) => "stop_string",
        Some(FinishReason::ContextFull) => "context_full",
        Some(FinishReason::Cancelled) | None => "cancelled",
    }
}
