//! Drafts of what stood before: replies are the same with and without, in fewer passes.

mod support;

use std::path::Path;

use engine::onnx::{Drafts, OnnxDecoder};
use engine::scripted::{Passes, Scripted, ScriptedDecoder};
use engine::{
    Cancel, Decoder, DraftCost, Engine, Error, Finish, FinishReason, ModelConfig, ModelText, Request, Result,
    Sampling, Session, TokenId,
};
use proptest::prelude::*;
use support::fixtures;
use support::onnx::{feed, load_with_drafts};
use support::scripted::{ember_text, end_of_turn, generate, ids, request};

const FREE: DraftCost = DraftCost { per_token: 0.0 };

/// An engine that follows `script`, given drafts at `cost`.
fn drafting(
    cost: Option<DraftCost>,
    cache_window: Option<usize>,
    script: impl Fn(&[TokenId]) -> Scripted + Send + Sync + 'static,
) -> (Engine<ScriptedDecoder>, Passes) {
    let text = ember_text();
    let mut decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, script);
    if let Some(cost) = cost {
        decoder = decoder.with_draft_cost(cost);
    }
    let passes = decoder.passes();
    (Engine::new(decoder, text, cache_window), passes)
}

/// A text that says `period` tokens again and again.
fn periodic(period: usize) -> impl Fn(&[TokenId]) -> Scripted + Send + Sync + Clone + 'static {
    move |seen| Scripted::Token(300 + (seen.len() % period) as TokenId)
}

fn reply(engine: &mut Engine<ScriptedDecoder>, request: &Request) -> Finish {
    generate(engine, request).0.expect("the reply is made")
}

fn of_length(new: usize) -> Request {
    Request { max_new_tokens: new, ignore_end_of_turn: true, ..request(vec![5, 6, 7]) }
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_passes_and_stays_the_same() {
    let (mut plain, plain_passes) = drafting(None, None, periodic(10));
    let (mut engine, passes) = drafting(Some(FREE), None, periodic(10));
    let expected = reply(&mut plain, &of_length(100));
    let finish = reply(&mut engine, &of_length(100));
    assert_eq!(finish.tokens, expected.tokens);
    assert_eq!(finish.text, expected.text);
    assert_eq!(finish.usage.new_tokens, 100);
    assert_eq!(engine.seen(), plain.seen(), "the session holds the same tokens");
    assert_eq!(plain_passes.take().len(), 100);
    let passes = passes.take();
    assert!(passes.len() < 40, "{passes:?}");
    assert!(passes.iter().all(|&tokens| tokens <= 1 + engine::MOST_DRAFTED), "{passes:?}");
    assert!(finish.accepted_tokens >= 60, "{finish:?}");
    assert!(finish.accepted_tokens <= finish.drafted_tokens);
}

#[test]
fn where_drafts_cost_more_than_they_give_every_pass_has_one_token() {
    for cost in [None, Some(DraftCost { per_token: 1.2 })] {
        let (mut engine, passes) = drafting(cost, None, periodic(10));
        let finish = reply(&mut engine, &of_length(60));
        assert_eq!(finish.drafted_tokens, 0);
        assert!(passes.take()[1..].iter().all(|&tokens| tokens == 1));
    }
}

#[test]
fn in_a_long_reply_drafts_end_where_they_would_change_it_or_cost_too_much() {
    const DEPTH: usize = 100;
    for deep in [None, Some(DraftCost { per_token: 1.2 })] {
        let text = ember_text();
        let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, periodic(10));
        let decoder = decoder.with_draft_costs(move |rows| if rows < DEPTH { Some(FREE) } else { deep });
        let passes = decoder.passes();
        let mut engine = Engine::new(decoder, text, None);
        assert_eq!(reply(&mut engine, &of_length(300)).usage.new_tokens, 300);
        // Every draft is followed to its end, so that all rows of a pass stay.
        let mut rows = 0;
        let mut drafted_behind = Vec::new();
        for tokens in passes.take() {
            if rows > 0 && tokens > 1 {
                drafted_behind.push(rows);
            }
            rows += tokens;
        }
        assert!(!drafted_behind.is_empty());
        assert!(drafted_behind.iter().all(|&rows| rows < DEPTH), "{drafted_behind:?}");
    }
}

#[test]
fn a_draft_that_the_model_does_not_follow_leaves_nothing_behind() {
    // Three tokens of a run, then always another one than the time before.
    let script = |seen: &[TokenId]| {
        let place = seen.len() % 5;
        Scripted::Token(if place == 4 { 400 + (seen.len() / 5) as TokenId } else { 300 + place as TokenId })
    };
    let (mut plain, _) = drafting(None, None, script);
    let (mut engine, _) = drafting(Some(FREE), None, script);
    let expected = reply(&mut plain, &of_length(150));
    let finish = reply(&mut engine, &of_length(150));
    assert!(finish.drafted_tokens > finish.accepted_tokens, "{finish:?}");
    assert_eq!(finish.tokens, expected.tokens);
    assert_eq!(engine.seen(), plain.seen());
}

#[test]
fn a_full_window_and_the_last_token_asked_for_end_a_draft_too() {
    for window in [40, 41, 45, 50] {
        let (mut plain, _) = drafting(None, Some(window), periodic(6));
        let (mut engine, _) = drafting(Some(FREE), Some(window), periodic(6));
        let (expected, finish) = (reply(&mut plain, &of_length(400)), reply(&mut engine, &of_length(400)));
        assert_eq!(finish.reason, FinishReason::ContextFull);
        assert_eq!(finish.tokens, expected.tokens, "window {window}");
        assert_eq!(engine.seen().len(), window);
    }
    for most in 20..40 {
        let (mut engine, _) = drafting(Some(FREE), None, periodic(6));
        let finish = reply(&mut engine, &of_length(most));
        assert_eq!((finish.reason, finish.tokens.len()), (FinishReason::MaxTokens, most));
        assert_eq!(engine.seen().len(), 3 + most - 1, "the last token was not run");
    }
}

#[test]
fn a_stop_in_the_middle_of_an_accepted_draft_ends_the_reply_there() {
    let letters: Vec<TokenId> = "abcdefghij".chars().map(|letter| ids(&letter.to_string())[0]).collect();
    let last = letters[6];
    let prompt: Vec<TokenId> = letters.iter().copied().cycle().take(22).collect();
    let script = move |seen: &[TokenId]| Scripted::Token(letters[seen.len() % 10]);
    for stop in ["g", "fgh"] {
        let (mut plain, _) = drafting(None, None, script.clone());
        let (mut engine, _) = drafting(Some(FREE), None, script.clone());
        let request = Request { stop: vec![stop.into()], ..request(prompt.clone()) };
        let (expected, finish) = (reply(&mut plain, &request), reply(&mut engine, &request));
        assert_eq!(finish.reason, FinishReason::StopString);
        assert_eq!((finish.text, finish.tokens), (expected.text, expected.tokens.clone()), "{stop}");
        assert!(finish.accepted_tokens > 0, "{stop}");
        assert!(expected.tokens.contains(&last));
        assert_eq!(engine.seen(), plain.seen(), "{stop}");
    }
}

#[test]
fn an_end_of_turn_is_never_drafted() {
    let end = end_of_turn();
    let prompt: Vec<TokenId> = [300, 301, 302, 303, end, 9, 300, 301, 302].to_vec();
    let (mut engine, _) =
        drafting(Some(FREE), None, move |seen| Scripted::Token(if seen.len() == 9 { 303 } else { end }));
    let finish = reply(&mut engine, &request(prompt));
    assert_eq!((finish.reason, finish.tokens), (FinishReason::EndOfTurn, vec![303]));
    assert_eq!(engine.seen().len(), 10);
}

#[test]
fn an_error_in_a_draft_that_is_not_followed_is_none() {
    // After the seventh token the model turns away from what it repeated; what the draft would have led to
    // cannot be computed.
    let script = |seen: &[TokenId]| match seen {
        _ if seen.len() == 30 => Scripted::Token(900),
        _ if seen.len() > 30 && seen[30] != 900 => Scripted::NotFinite,
        _ => Scripted::Token(300 + (seen.len() % 5) as TokenId),
    };
    let (mut engine, _) = drafting(Some(FREE), None, script);
    let finish = reply(&mut engine, &of_length(60));
    assert_eq!(finish.tokens.len(), 60);
    let broken = |seen: &[TokenId]| match seen.len() {
        30.. => Scripted::NotFinite,
        length => Scripted::Token(300 + (length % 5) as TokenId),
    };
    let (mut engine, _) = drafting(Some(FREE), None, broken);
    let error = generate(&mut engine, &of_length(60)).0.expect_err("nothing can be chosen");
    assert!(matches!(error, Error::LogitsNotFinite { position: 30 }), "{error:?}");
    assert!(engine.seen().is_empty(), "the KV cache is thrown away");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Texts of few words, so that they repeat themselves by chance and then do not.
    #[test]
    fn whatever_the_text_drafts_change_nothing(
        words in prop::collection::vec(300u32..304, 1..120),
        prompt in prop::collection::vec(300u32..304, 1..40),
        per_token in 0.0..0.5f64,
        seed in any::<u64>(),
        temperature in prop::sample::select(vec![0.0f32, 4.0]),
        repetition_penalty in prop::sample::select(vec![1.0f32, 1.3]),
    ) {
        let begin = prompt.len();
        let script = move |seen: &[TokenId]| Scripted::Token(words[(seen.len() - begin) % words.len()]);
        let sampling =
            Sampling { temperature, repetition_penalty, top_k: 8, seed: Some(seed), ..Sampling::default() };
        let request = Request { sampling, prompt, max_new_tokens: 150, ..of_length(150) };
        let (mut plain, _) = drafting(None, None, script.clone());
        let (mut engine, _) = drafting(Some(DraftCost { per_token }), None, script);
        let (expected, finish) = (reply(&mut plain, &request), reply(&mut engine, &request));
        prop_assert_eq!(finish.tokens, expected.tokens);
        prop_assert_eq!(engine.seen(), plain.seen());
    }
}

/// The forms that give the logits of every token, and whether they give those of single passes. Those of
/// `concat-int8` depend on the other tokens of the pass, those of `concat-f16` are rounded between the operators, and
/// the kernels of 4-bit products are other ones on other processors.
const FORMS: [(&str, Option<bool>); 8] = [
    ("concat-bare", Some(true)),
    ("concat-f32", Some(true)),
    ("concat-q4", None),
    ("concat16-f32", Some(true)),
    ("gqa-f32", Some(true)),
    ("gqa-q4", None),
    ("concat-int8", Some(false)),
    ("gqa-q4-pruned", Some(false)),
];

fn open(folder: &Path, drafts: Drafts) -> Engine<OnnxDecoder> {
    let config = ModelConfig::read(folder).expect("the configuration can be read");
    let text = ModelText::open(folder, &config).expect("tokenizer and template can be read");
    Engine::new(load_with_drafts(&folder.join("model.onnx"), None, 512, drafts), text, None)
}

fn run(engine: &mut Engine<OnnxDecoder>, request: &Request) -> Result<Finish> {
    engine.forget();
    engine.generate(request, &Cancel::new(), &mut |_| {})
}

#[test]
fn real_graphs_reply_the_same_with_and_without_drafts() {
    let Some(fixtures) = fixtures() else { return };
    for (name, can_draft) in FORMS {
        let folder = fixtures.join("models").join(name);
        let (mut plain, mut drafted) = (open(&folder, Drafts::Never), open(&folder, Drafts::Always));
        let story = plain
            .encode("Once upon a time, there was a little girl named Lily. She loved to play ")
            .expect("encodes");
        let prompt = [story.as_slice(), &story, &story].concat();
        let warm = Sampling { temperature: 0.8, top_p: 0.9, seed: Some(11), ..Sampling::default() };
        for sampling in [Sampling::default(), warm] {
            let request = Request {
                sampling,
                max_new_tokens: 200,
                ignore_end_of_turn: true,
                ..request(prompt.clone())
            };
            let expected = run(&mut plain, &request).expect("the reply is made");
            let finish = run(&mut drafted, &request).expect("the reply is made");
            let (drafted_tokens, accepted) = (finish.drafted_tokens, finish.accepted_tokens);
            println!("{name}: {accepted} of {drafted_tokens} drafted tokens accepted");
            assert_eq!(finish.tokens, expected.tokens, "{name}");
            if let Some(can_draft) = can_draft {
                assert_eq!(drafted_tokens > 0, can_draft, "{name}");
            }
            assert_eq!(expected.drafted_tokens, 0, "{name}");
        }
    }
}

#[test]
fn a_graph_that_cannot_draft_says_so_and_a_cancelled_measurement_is_made_again() {
    let Some(fixtures) = fixtures() else { return };
    let mut decoder =
        load_with_drafts(&fixtures.join("models/gqa-f32/model.onnx"), None, 512, Drafts::WherePaying);
    let cancelled = Cancel::new();
    cancelled.cancel();
    let mut cache = decoder.new_cache().expect("a cache");
    assert_eq!(decoder.draft_cost(&mut cache, &cancelled).expect("no error"), None);
    let cost = decoder.draft_cost(&mut cache, &Cancel::new()).expect("no error").expect("the rows agree");
    assert!(cost.per_token >= 0.0 && cost.per_token.is_finite());
    let again = decoder.draft_cost(&mut cache, &Cancel::new()).expect("no error");
    assert_eq!(again, Some(cost), "it is measured once");
    let mut pruned =
        load_with_drafts(&fixtures.join("models/gqa-q4-pruned/model.onnx"), None, 512, Drafts::Always);
    let mut cache = pruned.new_cache().expect("a cache");
    assert_eq!(pruned.draft_cost(&mut cache, &Cancel::new()).expect("no error"), None);
}

#[test]
fn drafts_are_measured_where_they_are_used_and_leave_the_cache_as_it_was() {
    let Some(fixtures) = fixtures() else { return };
    for name in ["gqa-f32", "concat-f32"] {
        let graph = fixtures.join("models").join(name).join("model.onnx");
        let mut decoder = load_with_drafts(&graph, None, 512, Drafts::WherePaying);
        let tokens: Vec<TokenId> = (0..505).map(|place| 5 + place * 7 % 400).collect();
        let mut session = Session::new(&decoder).expect("a session starts");
        let measured = |session: &mut Session<OnnxDecoder>, decoder: &mut OnnxDecoder| {
            session.draft_cost(decoder, &Cancel::new()).expect("no error").expect("the rows agree")
        };
        feed(&mut decoder, &mut session, &tokens[..20], 20);
        let shallow = measured(&mut session, &mut decoder);
        feed(&mut decoder, &mut session, &tokens[20..100], 80);
        assert_eq!(
            measured(&mut session, &mut decoder),
            shallow,
            "{name}: what is known is not measured again"
        );
        feed(&mut decoder, &mut session, &tokens[100..300], 200);
        assert_ne!(measured(&mut session, &mut decoder), shallow, "{name}: it is another depth");
        assert_eq!(session.seen().len(), 300);
        let mut plain = load_with_drafts(&graph, None, 512, Drafts::Never);
        let mut fresh = Session::new(&plain).expect("a session starts");
        for part in [0..20, 20..100, 100..300] {
            feed(&mut plain, &mut fresh, &tokens[part.clone()], part.len());
        }
        let next = &tokens[300..310];
        let (expected, found) =
            (feed(&mut plain, &mut fresh, next, 10), feed(&mut decoder, &mut session, next, 10));
        assert_eq!(found, expected, "{name}: nothing of the measurement is left");
        let mut full = load_with_drafts(&graph, None, 512, Drafts::WherePaying);
        let mut session = Session::new(&full).expect("a session starts");
        feed(&mut full, &mut session, &tokens, 256);
        assert_eq!(session.draft_cost(&mut full, &Cancel::new()).expect("no error"), None, "{name}: no room");
    }
}
