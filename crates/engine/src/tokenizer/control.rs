//! Which added tokens only the chat template may write.

use serde_json::Value;
use tokenizers::AddedToken;

use crate::{ModelConfig, TokenId};

/// Marks that steer a model in any file that has them, special or not.
const ALWAYS: [&str; 4] = ["<think>", "</think>", "<s>", "</s>"];

type Added = Vec<(TokenId, AddedToken)>;

/// Added tokens as (control, ordinary): control are the special ones, those that the configuration names,
/// those whose text occurs in the template and those that look like marks. Pieces of whitespace and of ordinary text stay ordinary.
pub(super) fn divide(added: Added, config: &ModelConfig, template: &str) -> (Added, Added) {
    let named = [&config.bos_token, &config.eos_token, &config.pad_token, &config.unknown_token];
    added.into_iter().partition(|(id, token)| {
        let text = &token.content;
        !text.trim().is_empty()
            && (token.special
                || named.iter().any(|name| name.as_ref() == Some(text))
                || ALWAYS.contains(&text.as_str())
                || config.stop_ids.contains(id)
                // Files call some of these ordinary, such as those that mark the hole to be filled in code.
                || (text.starts_with("<|") && text.ends_with("|>"))
                || template.contains(text.as_str()))
    })
}

/// The texts of tokens, longest first, so that no text is replaced inside of a longer one.
pub(super) fn longest_first(tokens: Added) -> Vec<String> {
    let mut texts: Vec<String> = tokens.into_iter().map(|(_, token)| token.content).collect();
    texts.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
    texts
}

/// A normaliser's JSON without the step that puts a character before the text.
pub(super) fn without_prepend(normalizer: Value) -> Value {
    let is_prepend = |value: &Value| value.get("type").and_then(Value::as_str) == Some("Prepend");
    if is_prepend(&normalizer) {
        return Value::Null;
    }
    let mut normalizer = normalizer;
    if let Some(steps) = normalizer.get_mut("normalizers").and_then(Value::as_array_mut) {
        steps.retain(|step| !is_prepend(step));
    }
    normalizer
}

/// A pre-tokeniser's JSON that puts no space before the text.
pub(super) fn without_prefix_space(mut pre_tokenizer: Value) -> Value {
    match &mut pre_tokenizer {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "prepend_scheme" => *value = Value::from("never"),
                    "add_prefix_space" => *value = Value::from(false),
                    "pretokenizers" => *value = without_prefix_space(value.take()),
                    _ => {}
                }
            }
        }
        Value::Array(steps) => steps.iter_mut().for_each(|step| *step = without_prefix_space(step.take())),
        _ => {}
    }
    pre_tokenizer
}
