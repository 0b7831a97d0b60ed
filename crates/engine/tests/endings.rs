//! How replies end before their time: full windows, stops and failures; and how they go on.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{
    Cancel, ChatTemplate, Engine, Error, FinishReason, Message, ModelConfig, ModelText, Progress, Sampling,
    TokenId, Tokenizer, stop_ids,
};
use support::fixtures;
use support::scripted::{
    CONTEXT, answering, end_of_turn, engine, generate, ids, prefill, prompt, request, text,
};

const ANSWER: &str = "Hearth runs a model on this computer.";

fn question() -> Vec<Message> {
    vec![Message::user("What is Hearth?")]
}

#[test]
fn a_reply_ends_when_its_window_is_full_to_the_last_row() {
    let answer = ids(ANSWER);
    let rows = prompt(&engine(None, answering(&[])).0, &question()).len();
    for room in 0..=answer.len() + 1 {
        let (mut engine, _) = engine(Some(rows + room), answering(&[ANSWER]));
        assert_eq!(engine.window(), rows + room);
        let prompt = prompt(&engine, &question());
        let finish = generate(&mut engine, &request(prompt)).0.expect("a full window is no error");
        // Each token but the last one chosen takes a row.
        let tokens = (room + 1).min(answer.len());
        assert_eq!(finish.tokens, answer[..tokens], "room for {room}");
        let full = room < answer.len();
        let reason = if full { FinishReason::ContextFull } else { FinishReason::EndOfTurn };
        assert_eq!(finish.reason, reason, "room for {room}");
        assert_eq!(engine.seen().len(), (rows + room).min(rows + answer.len()), "room for {room}");
    }
}

#[test]
fn a_window_is_never_wider_than_the_models_context() {
    assert_eq!(engine(None, answering(&[])).0.window(), CONTEXT);
    assert_eq!(engine(Some(CONTEXT + 1), answering(&[])).0.window(), CONTEXT);
    assert_eq!(engine(Some(0), answering(&[])).0.window(), 1);
}

#[test]
fn a_prompt_longer_than_the_window_is_refused_and_costs_nothing() {
    let (mut engine, passes) = engine(Some(20), answering(&[]));
    generate(&mut engine, &request(vec![5; 20])).0.expect("a prompt may fill the window");
    passes.take();
    let error = generate(&mut engine, &request(vec![5; 21])).0.expect_err("it does not fit");
    assert!(matches!(error, Error::PromptTooLong { tokens: 21, window: 20 }), "{error:?}");
    assert!(passes.take().is_empty());
    assert_eq!(engine.seen().len(), 20, "the KV cache is kept");
}

/// An engine whose pass `stops_at` runs until it is stopped, with a thread that stops it there. The second
/// run, with the stop over, goes through.
fn stopped_at(
    stops_at: usize,
    prompt: Vec<TokenId>,
    answer: Vec<TokenId>,
) -> (Engine<ScriptedDecoder>, engine::scripted::Passes, engine::Finish, Vec<Progress>) {
    let (reached, there) = mpsc::channel();
    let reached = Mutex::new(reached);
    let over = Arc::new(AtomicBool::new(false));
    let (end, begin, is_over) = (end_of_turn(), prompt.len(), Arc::clone(&over));
    let (mut engine, passes) = engine(None, move |seen| {
        if seen.len() >= stops_at && !is_over.load(Ordering::SeqCst) {
            reached.lock().expect("one pass at a time").send(()).expect("the canceller waits");
            return Scripted::UntilCancelled;
        }
        let next = seen.len().checked_sub(begin).and_then(|said| answer.get(said));
        Scripted::Token(next.copied().unwrap_or(end))
    });
    let cancel = Cancel::new();
    let remote = cancel.clone();
    let canceller = std::thread::spawn(move || {
        there.recv().expect("the pass is reached");
        remote.cancel();
    });
    let mut told = Vec::new();
    let finish = engine
        .generate(&request(prompt), &cancel, &mut |progress| told.push(progress))
        .expect("a stop is an outcome");
    canceller.join().expect("the canceller ends");
    over.store(true, Ordering::SeqCst);
    (engine, passes, finish, told)
}

#[test]
fn a_stop_while_the_prompt_is_read_keeps_the_chunks_that_were_read() {
    let prompt: Vec<TokenId> = (0..700).map(|token| 5 + token % 50).collect();
    let (mut engine, passes, finish, told) = stopped_at(512, prompt.clone(), ids(ANSWER));
    assert_eq!(finish.reason, FinishReason::Cancelled);
    assert!(finish.tokens.is_empty());
    assert_eq!(prefill(&told).last(), Some(&(256, 700, 0)), "the second chunk was not read");
    assert_eq!(engine.seen(), &prompt[..256]);
    passes.take();
    let finish = generate(&mut engine, &request(prompt)).0.expect("the reply is made");
    assert_eq!(finish.usage.reused_tokens, 256);
    assert_eq!(passes.take()[..2], [256, 188]);
    assert_eq!(finish.text, ANSWER, "the session that was stopped is sound");
}

#[test]
fn a_stop_while_it_answers_keeps_what_was_said_and_the_rows_of_it() {
    let (answer, prompt) = (ids(ANSWER), vec![5; 30]);
    let (mut engine, passes, finish, told) = stopped_at(33, prompt.clone(), answer.clone());
    assert_eq!(finish.reason, FinishReason::Cancelled);
    assert_eq!(finish.tokens, answer[..3], "three were chosen; the pass of the third was stopped");
    assert_eq!(text(&told), finish.text);
    assert_eq!(engine.seen(), [&prompt[..], &answer[..2]].concat());
    passes.take();
    let again = generate(&mut engine, &request(prompt)).0.expect("the reply is made");
    assert_eq!(again.text, ANSWER);
    assert_eq!(passes.take()[0], 1);
}

#[test]
fn a_stop_that_came_before_the_request_runs_nothing() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let cancel = Cancel::new();
    cancel.cancel();
    let finish = engine.generate(&request(vec![5; 30]), &cancel, &mut |_| {}).expect("an outcome");
    assert_eq!(finish.reason, FinishReason::Cancelled);
    assert!(passes.take().is_empty());
}

#[test]
fn after_a_failure_the_next_reply_reads_everything_again() {
    let failures = [Scripted::Error("computing".into()), Scripted::NotFinite];
    for failure in failures {
        for fails_at in [20, 22] {
            let (over, answer, end) = (Arc::new(AtomicBool::new(false)), ids(ANSWER), end_of_turn());
            let (fails, is_over) = (failure.clone(), Arc::clone(&over));
            let (mut engine, passes) = engine(None, move |seen| {
                if seen.len() == fails_at && !is_over.load(Ordering::SeqCst) {
                    return fails.clone();
                }
                Scripted::Token(answer.get(seen.len() - 20).copied().unwrap_or(end))
            });
            let (finish, told) = generate(&mut engine, &request(vec![5; 20]));
            match finish.expect_err("the pass fails") {
                Error::Run { doing, .. } => assert_eq!(doing, "computing"),
                Error::LogitsNotFinite { position } => assert_eq!(position, fails_at),
                other => panic!("{other:?}"),
            }
            let said = ids(ANSWER)[..fails_at - 20].to_vec();
            let said = support::scripted::ember_text().tokenizer.decode(&said).expect("decodes");
            assert_eq!(text(&told), said, "what was told is the reply so far");
            assert!(engine.seen().is_empty(), "a cache in doubt is thrown away");
            passes.take();
            over.store(true, Ordering::SeqCst);
            let finish = generate(&mut engine, &request(vec![5; 20])).0.expect("the reply is made");
            assert_eq!(finish.text, ANSWER);
            assert_eq!(passes.take()[0], 20);
        }
    }
}

#[test]
fn a_reply_goes_on_as_if_it_had_never_been_cut() {
    // One byte-level token each for the parts of a character, and a favourite that penalties wear out.
    let answer = "Ember glows 🔥 and warms the room, and warms the room again.";
    let sampling = Sampling { repetition_penalty: 1.1, frequency_penalty: 11.0, ..Sampling::default() };
    let whole = {
        let (mut engine, _) = engine(None, answering(&[answer]));
        let request = engine::Request {
            sampling: sampling.clone(),
            max_new_tokens: 40,
            ignore_end_of_turn: true,
            ..request(prompt(&engine, &question()))
        };
        generate(&mut engine, &request).0.expect("the reply is made")
    };
    assert_ne!(
        whole.tokens[..ids(answer).len().min(40)],
        ids(answer)[..ids(answer).len().min(40)],
        "the penalties matter here"
    );
    for cut in 1..whole.tokens.len() {
        let (mut engine, passes) = engine(None, answering(&[answer]));
        let first = engine::Request {
            sampling: sampling.clone(),
            max_new_tokens: cut,
            ignore_end_of_turn: true,
            ..request(prompt(&engine, &question()))
        };
        let beginning = generate(&mut engine, &first).0.expect("the reply is made");
        assert_eq!(beginning.tokens, whole.tokens[..cut]);
        passes.take();
        let rest = engine::Request {
            prompt: [first.prompt.as_slice(), &beginning.tokens].concat(),
            continued: cut,
            max_new_tokens: 40 - cut,
            ..first
        };
        let rest = generate(&mut engine, &rest).0.expect("the reply is made");
        assert_eq!([beginning.tokens, rest.tokens].concat(), whole.tokens, "cut at {cut}");
        assert_eq!(rest.text, whole.text, "cut at {cut}");
        assert_eq!(passes.take()[0], 1, "only the token that no row was made for is run");
    }
}

#[test]
fn thinking_and_answer_are_told_apart() {
    let Some(fixtures) = fixtures() else { return };
    let folder = fixtures.join("tokenizers/qwen3");
    let config = ModelConfig::read(&folder).expect("the configuration can be read");
    let template = ChatTemplate::open(&folder, &config).expect("the template compiles");
    let tokenizer = Tokenizer::open(&folder, &config, Some(template.source())).expect("the tokenizer opens");
    let stop_ids = stop_ids(&config, &tokenizer, template.source());
    let end = tokenizer.token_id("<|im_end|>").expect("the tokenizer has it");
    let said = "<think>\nSix times seven.\n</think>\n\nIt is 42.";
    let answer = tokenizer.encode_scaffold(said).expect("encodes");
    let vocabulary = tokenizer.vocabulary_size();
    let decoder = ScriptedDecoder::new(vocabulary, 512, {
        let answer = answer.clone();
        move |seen| Scripted::Token(answer.get(seen.len() - 3).copied().unwrap_or(end))
    });
    let mut engine = Engine::new(decoder, ModelText { tokenizer, template, stop_ids }, None);
    let (finish, told) = generate(&mut engine, &request(vec![5; 3]));
    let finish = finish.expect("the reply is made");
    assert_eq!(finish.text, "It is 42.");
    assert_eq!(finish.thinking.trim(), "Six times seven.");
    assert_eq!(finish.tokens, answer, "the ids hold the marks");
    let thought: String = told
        .iter()
        .filter_map(|progress| match progress {
            Progress::Thinking { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((thought, text(&told)), (finish.thinking, finish.text));
    assert_eq!(told_ids(&told), answer, "the ids are told with the text, marks included");
}

/// The ids among what was told.
fn told_ids(told: &[Progress]) -> Vec<TokenId> {
    told.iter()
        .flat_map(|progress| match progress {
            Progress::Text { tokens, .. } | Progress::Thinking { tokens, .. } => tokens.as_slice(),
            Progress::Prefill { .. } => &[],
        })
        .copied()
        .collect()
}

#[test]
fn at_any_moment_the_ids_that_were_told_stand_for_the_text_that_was() {
    let answer = "Grüße aus dem Haus: naïve façade, 火 and 👋🏽.";
    let (mut engine, _) = engine(None, answering(&[answer]));
    let prompt = prompt(&engine, &question());
    let (finish, told) = generate(&mut engine, &request(prompt));
    let tokenizer = support::scripted::ember_text().tokenizer;
    for end in 0..told.len() {
        let told = &told[..=end];
        assert_eq!(tokenizer.decode(&told_ids(told)).expect("decodes"), text(told), "after {end}");
    }
    assert_eq!(told_ids(&told), finish.expect("the reply is made").tokens);
}
