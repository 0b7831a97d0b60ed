//! The KV cache over a real graph that is always there: `data/tiny`, made by `models/ember/recipe/tiny.py`.

mod support;

use std::path::Path;

use engine::onnx::OnnxDecoder;
use engine::{KvBackend, Sampling, Session, TokenId};
use support::onnx::{continue_with, difference, feed, greedy, load, load_graph};
use support::{Folder, open, tiny};

/// What `config.json` of the model says.
const CONTEXT: usize = 512;

fn decoder(kv_backend: Option<KvBackend>) -> OnnxDecoder {
    load(&tiny(), kv_backend, CONTEXT)
}

/// The ids of a chat that asks to count.
fn prompt(text: &str) -> Vec<TokenId> {
    let Folder { tokenizer, .. } = open(&tiny());
    let chat = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    tokenizer.encode_scaffold(&chat).expect("it encodes")
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("an entry").len()).sum()
}

#[test]
fn the_tiny_model_is_small_enough_to_keep() {
    assert!(size(&tiny()) < 200_000, "{} bytes", size(&tiny()));
}

/// What is checked is what is run: a name cannot make ONNX Runtime read another format in the file.
#[test]
fn a_graph_is_read_as_onnx_whatever_it_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("model.ort");
    std::fs::copy(tiny().join("model.onnx"), &other).expect("copied");
    let prompt = prompt("count to 7");
    let expected = greedy(&mut decoder(None), &prompt, 20);
    assert_eq!(greedy(&mut load_graph(&other, None, CONTEXT), &prompt, 20), expected);
}

#[test]
fn a_greedy_reply_is_the_same_every_time_and_through_both_backends() {
    let prompt = prompt("count to 7");
    let first = greedy(&mut decoder(None), &prompt, 40);
    for backend in [None, Some(KvBackend::SharedBuffer), Some(KvBackend::HandOver)] {
        assert_eq!(greedy(&mut decoder(backend), &prompt, 40), first, "{backend:?}");
    }
}

#[test]
fn chunks_of_any_size_give_the_logits_of_a_whole_prefill() {
    let prompt = prompt("count from 3 to 12");
    let mut decoder = decoder(None);
    let mut session = Session::new(&decoder).expect("starts");
    let whole = feed(&mut decoder, &mut session, &prompt, prompt.len());
    for chunk in 1..prompt.len() {
        let mut session = Session::new(&decoder).expect("starts");
        let chunked = feed(&mut decoder, &mut session, &prompt, chunk);
        assert!(difference(&whole, &chunked) < 1e-4, "in chunks of {chunk}");
    }
}

#[test]
fn a_session_rewound_to_any_length_answers_as_a_fresh_one() {
    let (question, other) = (prompt("count to 9"), prompt("down from 8 to 2"));
    let mut decoder = decoder(None);
    for kept in 1..question.len() {
        // The tail begins with a token of its own, so that exactly `kept` are shared.
        let tail = [&[other[0]; 1], &other[..]].concat();
        let prompt = [&question[..kept], &tail].concat();
        let fresh = greedy(&mut decoder, &prompt, 12);
        let mut session = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut session, &question, 64);
        let reused = session.rewind_to(&prompt).expect("it rewinds");
        assert!(reused >= kept, "{reused} of {kept} tokens were kept");
        let rewound = continue_with(&mut decoder, &mut session, &prompt[reused..], 12, &Sampling::default());
        assert_eq!(rewound, fresh, "after keeping {kept} tokens");
    }
}
