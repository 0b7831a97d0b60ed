//! An engine over the built-in model's text half and a decoder that gives written answers.

use engine::scripted::{Passes, Scripted, ScriptedDecoder};
use engine::{
    Cancel, Clock, Engine, Finish, Message, ModelConfig, ModelText, Progress, RenderOptions, Request, Result,
    Sampling, TokenId,
};

pub(crate) const CONTEXT: usize = 4096;

/// The built-in model's tokenizer and template.
pub(crate) fn ember_text() -> ModelText {
    let folder = super::ember();
    let config = ModelConfig::read(&folder).expect("the configuration can be read");
    ModelText::open(&folder, &config).expect("tokenizer and template can be read")
}

pub(crate) fn ids(text: &str) -> Vec<TokenId> {
    ember_text().tokenizer.encode_content(text).expect("encodes")
}

/// The id that ends a turn of the built-in model.
pub(crate) fn end_of_turn() -> TokenId {
    ember_text().tokenizer.token_id("<|im_end|>").expect("the built-in model has it")
}

/// What a decoder says in the n-th reply of a conversation: `answers[n]`, then the end of the turn.
pub(crate) fn answering(answers: &[&str]) -> impl Fn(&[TokenId]) -> Scripted + Send + Sync + 'static {
    let marker = ember_text().tokenizer.encode_scaffold("<|im_start|>assistant\n").expect("encodes");
    let answers: Vec<Vec<TokenId>> = answers.iter().map(|answer| ids(answer)).collect();
    let end = end_of_turn();
    move |seen| {
        let replies: Vec<usize> = (0..seen.len())
            .filter(|&place| seen[place..].starts_with(&marker))
            .map(|place| place + marker.len())
            .collect();
        let Some(&begin) = replies.last() else { return Scripted::Token(end) };
        let answer = answers.get(replies.len() - 1).map_or(&[][..], Vec::as_slice);
        Scripted::Token(answer.get(seen.len() - begin).copied().unwrap_or(end))
    }
}

/// An engine that follows `script`, and the count of its passes.
pub(crate) fn engine(
    cache_window: Option<usize>,
    script: impl Fn(&[TokenId]) -> Scripted + Send + Sync + 'static,
) -> (Engine<ScriptedDecoder>, Passes) {
    let text = ember_text();
    let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), CONTEXT, script);
    let passes = decoder.passes();
    (Engine::new(decoder, text, cache_window), passes)
}

/// The prompt of a conversation, at a time that stands.
pub(crate) fn prompt(engine: &Engine<ScriptedDecoder>, messages: &[Message]) -> Vec<TokenId> {
    let time = "2026-01-02T03:04:05".parse().expect("a time");
    engine.prompt(messages, &RenderOptions::reply_at(Clock::at(time))).expect("the template renders")
}

pub(crate) fn request(prompt: Vec<TokenId>) -> Request {
    Request {
        prompt,
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 1000,
        stop: Vec::new(),
        ignore_end_of_turn: false,
    }
}

/// Generates, and keeps what was told meanwhile.
pub(crate) fn generate(
    engine: &mut Engine<ScriptedDecoder>,
    request: &Request,
) -> (Result<Finish>, Vec<Progress>) {
    let mut told = Vec::new();
    let finish = engine.generate(request, &Cancel::new(), &mut |progress| told.push(progress));
    (finish, told)
}

/// The visible text among what was told.
pub(crate) fn text(told: &[Progress]) -> String {
    told.iter()
        .filter_map(|progress| match progress {
            Progress::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// How many tokens were said to be read, in order.
pub(crate) fn prefill(told: &[Progress]) -> Vec<(usize, usize, usize)> {
    told.iter()
        .filter_map(|progress| match *progress {
            Progress::Prefill { done, total, reused } => Some((done, total, reused)),
            _ => None,
        })
        .collect()
}
