//! Ids to text while they are generated.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use engine::{Piece, TextStream, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{ember, fixtures, open};

fn stream(tokenizer: &Tokenizer, ids: &[u32], stop: &[&str]) -> Vec<Piece> {
    let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
    let mut stream = TextStream::new(tokenizer, stop, false);
    let mut pieces: Vec<Piece> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish());
    pieces
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let mut tokenizers = vec![("ember", open(&ember()).tokenizer)];
    if let Some(fixtures) = fixtures() {
        for name in ["qwen3", "smollm2", "tinyllama", "phi-3-mini", "gpt2"] {
            tokenizers.push((name, open(&fixtures.join("tokenizers").join(name)).tokenizer));
        }
    }
    tokenizers
}

#[test]
fn random_ids_give_the_text_of_the_whole() {
    for (name, tokenizer) in tokenizers() {
        let shown = |id: &u32| !tokenizer.control_ids().contains(id);
        let size = tokenizer.vocabulary_size() as u32;
        // Single bytes come first in these vocabularies: half characters and broken ones.
        let id = prop_oneof![0..size, 0..size.min(262)];
        let mut runner =
            TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
        let result = runner.run(&prop::collection::vec(id, 0..40), |ids| {
            let ids: Vec<u32> = ids.into_iter().filter(shown).collect();
            prop_assert_eq!(text(&stream(&tokenizer, &ids, &[])), tokenizer.decode(&ids).unwrap());
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn characters_of_several_tokens_arrive_whole() {
    for (name, tokenizer) in tokenizers() {
        let whole = "Grüße 👩‍👩‍👧 und 漢字, ok? नमस्ते";
        let ids = tokenizer.encode_content(whole).unwrap();
        let pieces = stream(&tokenizer, &ids, &[]);
        assert_eq!(text(&pieces), whole, "{name}");
        assert!(pieces.iter().all(|piece| !piece.text.contains('\u{fffd}')), "{name} split a character");
        assert!(
            pieces.len() > 5 && pieces.iter().filter(|piece| !piece.text.is_empty()).count() > 3,
            "{name}"
        );
    }
}

#[test]
fn half_a_character_is_given_out_at_the_end() {
    let tokenizer = open(&ember()).tokenizer;
    let ids = tokenizer.encode_content("a👋").unwrap();
    let pieces = stream(&tokenizer, &ids[..ids.len() - 1], &[]);
    assert_eq!(text(&pieces[..pieces.len() - 1]), "a");
    assert_eq!(pieces.last().unwrap().text, "\u{fffd}");
}

#[test]
fn a_stop_string_ends_the_text_wherever_the_tokens_cut_it() {
    for (name, tokenizer) in tokenizers() {
        let ids = tokenizer.encode_content("one two\n\nUser: three").unwrap();
        let pieces = stream(&tokenizer, &ids, &["nothing", "\n\nUser:"]);
        assert_eq!(text(&pieces), "one two", "{name}");
        assert!(pieces.last().unwrap().stopped, "{name}");
    }
}

#[test]
fn the_earliest_stop_string_counts() {
    let tokenizer = open(&ember()).tokenizer;
    let ids = tokenizer.encode_content("abcdef").unwrap();
    assert_eq!(text(&stream(&tokenizer, &ids, &["ef", "cd"])), "ab");
    assert_eq!(text(&stream(&tokenizer, &ids, &[""])), "abcdef", "an empty stop string stops nothing");
}

#[test]
fn what_only_begins_a_stop_string_is_given_out_later() {
    let tokenizer = open(&ember()).tokenizer;
    let ids: Vec<u32> =
        "x###y##".chars().flat_map(|c| tokenizer.encode_content(&c.to_string()).unwrap()).collect();
    let pieces = stream(&tokenizer, &ids, &["####"]);
    assert_eq!(pieces[0].text, "x");
    assert!(pieces[1..4].iter().all(Piece::is_empty), "three marks may begin the stop string");
    assert_eq!(pieces[4].text, "###y");
    assert_eq!(pieces.last().unwrap().text, "##");
    assert!(!pieces.last().unwrap().stopped);
}

#[test]
fn thinking_is_told_apart_by_id_and_special_tokens_are_not_shown() {
    let Some(fixtures) = fixtures() else { return };
    let tokenizer = open(&fixtures.join("tokenizers/qwen3")).tokenizer;
    let ids = tokenizer.encode_scaffold("<think>\nfirst 👋\n</think>\n\nAnswer<|im_end|>").unwrap();
    let mut stream = TextStream::new(&tokenizer, vec!["first".to_owned()], false);
    let mut pieces: Vec<Piece> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish());
    let thinking: String = pieces.iter().map(|piece| piece.thinking.as_str()).collect();
    assert_eq!(thinking, "first 👋\n", "stop strings are looked for in the answer only");
    assert_eq!(text(&pieces), "Answer");

    let typed = tokenizer.encode_content("<think>no</think>").unwrap();
    let mut stream = TextStream::new(&tokenizer, Vec::new(), false);
    let mut all = String::new();
    for id in typed {
        all.push_str(&stream.push(id).unwrap().text);
    }
    all.push_str(&stream.finish().text);
    assert_eq!(all, "<think>no</think>", "the same letters as text are text");

    let mut stream = TextStream::new(&tokenizer, Vec::new(), true);
    let ids = tokenizer.encode_scaffold("\nhm\n</think>yes").unwrap();
    let mut pieces: Vec<Piece> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish());
    assert_eq!(pieces.iter().map(|piece| piece.thinking.as_str()).collect::<String>(), "hm\n");
    assert_eq!(text(&pieces), "yes");
}

#[test]
fn ids_outside_of_the_vocabulary_have_no_text() {
    let tokenizer = open(&ember()).tokenizer;
    assert_eq!(text(&stream(&tokenizer, &[5_000, u32::MAX], &[])), "");
}
