//! The ids that end a reply.

use std::collections::BTreeSet;

use crate::{ModelConfig, TokenId, Tokenizer};

/// Ends of turns that count where both vocabulary and template have them: files often name only one of the
/// two ids that a model ends with.
const TURN_ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_text|>", "<turn|>"];

/// The union of all that the files, the tokenizer and the template say ends a turn. Ids outside of the
/// vocabulary are left out.
pub fn stop_ids(config: &ModelConfig, tokenizer: &Tokenizer, template_source: &str) -> BTreeSet<TokenId> {
    // Harmony writes `<|end|>` after every part of a reply, and several parts make one.
    let harmony = template_source.contains("<|channel|>") && template_source.contains("<|start|>");
    let turn_ends = TURN_ENDS
        .iter()
        .filter(|text| template_source.contains(**text) && !(harmony && **text == "<|end|>"))
        .filter_map(|text| tokenizer.token_id(text));
    let size = tokenizer.vocabulary_size().max(config.vocabulary_size.unwrap_or(0));
    let eos = config.eos_token.as_ref().and_then(|text| tokenizer.token_id(text));
    config.stop_ids.iter().copied().chain(eos).chain(turn_ends).filter(|id| (*id as usize) < size).collect()
}
