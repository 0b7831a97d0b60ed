//! What is asked of the engine and what it answers: plain data that crosses the inference boundary.

use serde::{Deserialize, Serialize};

use crate::{Sampling, TokenId};

/// One reply to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The whole prompt. What the session has seen of it is not read again.
    pub prompt: Vec<TokenId>,
    /// How many of the prompt's last tokens are the beginning of this very reply, which goes on there.
    pub continued: usize,
    pub sampling: Sampling,
    /// The most tokens to generate.
    pub max_new_tokens: usize,
    /// The reply ends before the first of these texts.
    pub stop: Vec<String>,
    /// Goes on behind ends of turn, for measurements of a fixed length.
    pub ignore_end_of_turn: bool,
}

/// What happens while a reply is made. What was told of ids until then stands for all of the text and the
/// thinking that was, and at most for a few bytes more, which wait to become a character or a stop string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Progress {
    /// `done` of `total` prompt tokens are in the KV cache, `reused` of which were there before.
    Prefill { done: usize, total: usize, reused: usize },
    /// More of the reply: whole characters only, and the ids generated since the last were told.
    Text { text: String, tokens: Vec<TokenId> },
    /// More of what the model writes between its thinking marks, and the ids generated since the last were
    /// told.
    Thinking { text: String, tokens: Vec<TokenId> },
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FinishReason {
    /// The model ended its turn.
    EndOfTurn,
    /// The most tokens asked for were generated.
    MaxTokens,
    /// A stop string came up.
    StopString,
    /// The window of KV rows is full.
    ContextFull,
    /// The user stopped it.
    Cancelled,
}

/// The work that a reply took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the whole prompt.
    pub prompt_tokens: usize,
    /// Those of them that the KV cache held already.
    pub reused_tokens: usize,
    /// Those of the reused ones that came back from disk.
    pub restored_tokens: usize,
    /// Why no more were reused; `None` where all that was ever read of the prompt was.
    pub reuse_limit: Option<ReuseLimit>,
    /// Tokens generated, the end of turn included.
    pub new_tokens: usize,
    /// From the request to the first token's choice.
    pub prefill_seconds: f64,
    /// From the first token's choice to the end.
    pub decode_seconds: f64,
}

/// Why a prompt was not reused further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ReuseLimit {
    /// Nothing was kept.
    NothingKept,
    /// What was kept goes on otherwise from this token of the prompt on.
    DiffersAt { token: usize },
    /// More was kept once, and gave way to others.
    Evicted,
    /// A kept block was damaged, and was destroyed.
    BlockDamaged,
    /// What was kept was computed by another model, or by this one in another way.
    OtherModel,
}

/// A finished reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finish {
    pub reason: FinishReason,
    /// The whole reply, what it goes on from included; stop strings, control tokens and thinking excluded.
    pub text: String,
    /// What stood between thinking marks.
    pub thinking: String,
    /// The ids generated in this run, ends of turn excluded.
    pub tokens: Vec<TokenId>,
    pub usage: Usage,
    /// Tokens that were drafted from the text before them.
    pub drafted_tokens: usize,
    /// Those of them that the model chose too, so that they needed no pass of their own.
    pub accepted_tokens: usize,
    /// The seed that was used, drawn or given.
    pub seed: u64,
}
