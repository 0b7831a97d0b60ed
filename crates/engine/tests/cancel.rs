//! How soon a stop ends a reply of the whole engine, in every export form.

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use engine::onnx::OnnxDecoder;
use engine::{Cancel, Engine, Finish, FinishReason, LoadOptions, Progress, Request, Sampling, TokenId};
use support::fixtures;
use support::onnx::library;

const FORMS: [&str; 10] = [
    "concat-bare",
    "concat-f16",
    "concat-f32",
    "concat-int8",
    "concat-q4",
    "concat16-f32",
    "concat16-q4",
    "gqa-f32",
    "gqa-q4",
    "gqa-q4-pruned",
];

/// Whether what is told is the moment to stop at.
type Moment = fn(&Progress) -> bool;

fn request(prompt: &[TokenId]) -> Request {
    Request {
        prompt: prompt.to_vec(),
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 1000,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    }
}

/// Generates while another thread stops it as soon as `when` holds for what is told. Returns how it ended
/// and how long that took from the stop on.
fn stop_when(engine: &mut Engine<OnnxDecoder>, prompt: &[TokenId], when: Moment) -> (Finish, Duration) {
    let cancel = Cancel::new();
    let remote = cancel.clone();
    let (tell, told) = mpsc::channel();
    let canceller = std::thread::spawn(move || {
        told.recv().expect("the moment comes");
        let asked = Instant::now();
        remote.cancel();
        asked
    });
    let finish = engine
        .generate(&request(prompt), &cancel, &mut |progress| {
            if when(&progress) {
                // Only the first word finds somebody listening.
                tell.send(()).ok();
            }
        })
        .expect("a stop is an outcome");
    let ended = Instant::now();
    let asked = canceller.join().expect("the canceller ends");
    (finish, ended.saturating_duration_since(asked))
}

#[test]
fn a_stop_ends_prefill_and_decode_of_every_form_and_the_session_goes_on() {
    let Some(fixtures) = fixtures() else { return };
    let moments: [(&str, usize, Moment); 2] = [
        ("prefill", 500, |progress| matches!(progress, Progress::Prefill { .. })),
        ("decode", 40, |progress| matches!(progress, Progress::Text { .. })),
    ];
    for form in FORMS {
        let folder = fixtures.join("models").join(form);
        let options = LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) };
        let (mut engine, _) = Engine::<OnnxDecoder>::open(&folder, &options).expect("the fixture opens");
        for (moment, length, when) in moments {
            let prompt: Vec<TokenId> = (0..length).map(|index| 260 + (index * 7 % 200) as TokenId).collect();
            // These models are so small that a reply may be over before the other thread has woken.
            let stopped = (0..50).find_map(|_| {
                engine.forget();
                let (finish, lag) = stop_when(&mut engine, &prompt, when);
                assert!(lag < Duration::from_secs(5), "{form} {moment}: {lag:?}");
                (finish.reason == FinishReason::Cancelled).then_some((finish, lag))
            });
            let (finish, lag) = stopped.unwrap_or_else(|| panic!("{form} {moment}: never stopped in time"));
            println!("{form} {moment}: ended {lag:?} after the stop, {} tokens said", finish.tokens.len());
            let known = [prompt.as_slice(), &finish.tokens].concat();
            assert!(known.starts_with(engine.seen()), "{form} {moment}: the rows are those of the tokens");
            let seen = engine.seen().len();
            let short = Request { max_new_tokens: 8, ..request(&prompt) };
            let after = engine.generate(&short, &Cancel::new(), &mut |_| {}).expect("the session is sound");
            assert_eq!(after.usage.reused_tokens, seen.min(prompt.len() - 1), "{form} {moment}");
            engine.forget();
            let fresh = engine.generate(&short, &Cancel::new(), &mut |_| {}).expect("a fresh session");
            // Quantised forms may flip a near tie between two schedules of passes.
            if form.ends_with("f32") || form.ends_with("bare") {
                assert_eq!(after.tokens, fresh.tokens, "{form} {moment}");
            }
        }
    }
}
