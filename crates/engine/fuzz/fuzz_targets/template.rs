//! Any text as a template, rendered with any messages: an error or a prompt, within the limits.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use engine::{ChatTemplate, Clock, Message, ModelConfig, RenderOptions, Tokenizer, prompt_tokens};
use libfuzzer_sys::fuzz_target;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../models/ember"));
    Tokenizer::open(folder, &ModelConfig::default(), None).expect("the built-in tokenizer")
});

fuzz_target!(|input: (&str, &str, &str)| {
    let (source, question, reply) = input;
    let Ok(template) = ChatTemplate::from_source(source, &ModelConfig::default()) else { return };
    let messages = [Message::user(question), Message::assistant(reply), Message::user(question)];
    let clock = Clock::at(jiff::civil::date(2025, 7, 10).at(12, 0, 0, 0));
    drop(prompt_tokens(&template, &TOKENIZER, &messages, &RenderOptions::reply_at(clock)));
});
