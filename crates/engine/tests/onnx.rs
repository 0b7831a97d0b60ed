//! The engine's ONNX half against a real trained model in ten export forms.

mod support;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use engine::onnx::OnnxDecoder;
use engine::{Cancel, Decoder, Forward, KvBackend, KvCache, Sampling, Session, TokenId};
use support::fixtures;
use support::onnx::{continue_with, difference, feed, greedy, load};

const CONTEXT: usize = 512;

/// A fixture form and what may be expected of it across schedules of passes.
struct Form {
    name: &'static str,
    backend: KvBackend,
    /// The largest difference of logits between two schedules, as a share of their range.
    tolerance: f32,
    /// Whether whole sequences must be the same across schedules.
    exact: bool,
}

const fn form(name: &'static str, backend: KvBackend, tolerance: f32, exact: bool) -> Form {
    Form { name, backend, tolerance, exact }
}

/// f32 forms agree to rounding. 4-bit products choose other kernels for one row than for many, and
/// dynamic int8 scales each pass by its own largest activation.
const FORMS: [Form; 10] = [
    form("concat-bare", KvBackend::HandOver, 1e-4, true),
    form("concat-f16", KvBackend::HandOver, 5e-3, false),
    form("concat-f32", KvBackend::HandOver, 1e-4, true),
    form("concat-int8", KvBackend::HandOver, 0.15, false),
    form("concat-q4", KvBackend::HandOver, 1e-4, false),
    form("concat16-f32", KvBackend::HandOver, 1e-4, true),
    form("concat16-q4", KvBackend::HandOver, 1e-4, false),
    form("gqa-f32", KvBackend::SharedBuffer, 1e-4, true),
    form("gqa-q4", KvBackend::SharedBuffer, 0.05, false),
    form("gqa-q4-pruned", KvBackend::SharedBuffer, 0.05, false),
];

struct Golden {
    prompt: Vec<TokenId>,
    greedy: Vec<TokenId>,
}

fn goldens(folder: &Path) -> Vec<Golden> {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json is there");
    let json: serde_json::Value = serde_json::from_str(&text).expect("golden.json is JSON");
    let ids = |value: &serde_json::Value| -> Vec<TokenId> {
        serde_json::from_value(value.clone()).expect("ids are numbers")
    };
    let cases = json["cases"].as_array().expect("cases");
    cases
        .iter()
        .map(|case| Golden { prompt: ids(&case["prompt_ids"]), greedy: ids(&case["greedy_ids"]) })
        .collect()
}

/// Runs `check` on each form in turn.
fn each_form(mut check: impl FnMut(&Form, &Path, OnnxDecoder)) {
    let Some(fixtures) = fixtures() else { return };
    for form in &FORMS {
        let folder = fixtures.join("models").join(form.name);
        check(form, &folder, load(&folder, None, CONTEXT));
    }
}

/// The story that the model knows best: a long, real text to read in several ways.
fn story(folder: &Path) -> Vec<TokenId> {
    let golden = &goldens(folder)[0];
    [golden.prompt.as_slice(), &golden.greedy].concat()
}

#[test]
fn each_form_gets_the_kv_backend_that_its_graph_can_use() {
    each_form(|form, _, decoder| {
        assert_eq!(decoder.spec().kv_backend, form.backend, "{}", form.name);
        assert_eq!(decoder.spec().layers, 5, "{}", form.name);
        assert_eq!(decoder.spec().vocabulary_size, 512, "{}", form.name);
    });
}

#[test]
fn f32_and_f16_forms_continue_with_their_golden_ids() {
    each_form(|form, folder, mut decoder| {
        for (index, golden) in goldens(folder).iter().enumerate() {
            let reply = greedy(&mut decoder, &golden.prompt, golden.greedy.len());
            let differing = reply.iter().zip(&golden.greedy).filter(|(ours, golden)| ours != golden).count();
            println!("{} prompt {index}: {differing} of {} tokens differ", form.name, reply.len());
            if form.name.ends_with("f32") || form.name.ends_with("f16") || form.name.ends_with("bare") {
                assert_eq!(reply, golden.greedy, "{} prompt {index}", form.name);
            }
        }
    });
}

#[test]
fn prefill_in_chunks_gives_the_logits_of_a_whole_prefill() {
    each_form(|form, folder, mut decoder| {
        let story = story(folder);
        let mut session = Session::new(&decoder).expect("starts");
        let whole = feed(&mut decoder, &mut session, &story, story.len());
        for chunk in [1, 7, 30, 64] {
            let mut session = Session::new(&decoder).expect("starts");
            let chunked = feed(&mut decoder, &mut session, &story, chunk);
            let difference = difference(&whole, &chunked);
            assert!(difference <= form.tolerance, "{} in chunks of {chunk}: {difference}", form.name);
        }
    });
}

#[test]
fn a_rewound_session_answers_as_a_fresh_one() {
    each_form(|form, folder, mut decoder| {
        let story = story(folder);
        let other = &goldens(folder)[1].prompt[1..];
        let mut rewound = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut rewound, &story, 256);
        let prompt = [&story[..40], other].concat();
        assert_eq!(rewound.rewind_to(&prompt).expect("rewinds"), 40, "{}", form.name);
        assert_eq!(rewound.seen(), &story[..40], "{}", form.name);
        let mut fresh = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut fresh, &story[..40], 256);
        let after_rewind = feed(&mut decoder, &mut rewound, other, 256);
        let after_fresh = feed(&mut decoder, &mut fresh, other, 256);
        let difference = difference(&after_fresh, &after_rewind);
        assert!(difference <= form.tolerance, "{}: {difference}", form.name);
        let cold = greedy(&mut decoder, &prompt, 60);
        let mut again = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut again, &story, 256);
        let reused = again.rewind_to(&prompt).expect("rewinds");
        let warm = continue_with(&mut decoder, &mut again, &prompt[reused..], 60, &Sampling::default());
        compare(form, "rewound", &cold, &warm);
    });
}

#[test]
fn a_second_turn_over_the_kv_cache_answers_as_a_cold_run() {
    each_form(|form, folder, mut decoder| {
        let first = &goldens(folder)[1];
        let mut session = Session::new(&decoder).expect("starts");
        let reply = continue_with(&mut decoder, &mut session, &first.prompt, 40, &Sampling::default());
        // The next prompt holds the first, its reply and one more sentence of the user.
        let prompt = [&first.prompt[..], &reply, &story(folder)[1..30]].concat();
        let reused = session.rewind_to(&prompt).expect("rewinds");
        assert_eq!(reused, first.prompt.len() + reply.len() - 1, "all but the last token was in the cache");
        let warm = continue_with(&mut decoder, &mut session, &prompt[reused..], 60, &Sampling::default());
        let cold = greedy(&mut decoder, &prompt, 60);
        compare(form, "second turn", &cold, &warm);
        session.rewind_to(&prompt).expect("rewinds");
        let mut fresh = Session::new(&decoder).expect("starts");
        let cold = feed(&mut decoder, &mut fresh, &prompt, 256);
        let reused = session.seen().len();
        let warm = feed(&mut decoder, &mut session, &prompt[reused..], 256);
        let difference = difference(&cold, &warm);
        assert!(difference <= form.tolerance, "{}: {difference}", form.name);
    });
}

/// f32 forms must agree to the last token. For the others a near tie may flip and the texts part ways
/// there, so the number of different tokens is stated only, and the callers compare logits.
#[expect(clippy::print_stdout, reason = "the counts are what is looked for in the log")]
fn compare(form: &Form, what: &str, cold: &[TokenId], warm: &[TokenId]) {
    let differing = cold.iter().zip(warm).filter(|(cold, warm)| cold != warm).count();
    println!("{} {what}: {differing} of {} tokens differ", form.name, cold.len());
    if form.exact {
        assert_eq!(warm, cold, "{} {what}", form.name);
    }
}

#[test]
fn the_shared_buffer_computes_what_the_hand_over_computes() {
    let Some(fixtures) = fixtures() else { return };
    for form in FORMS.iter().filter(|form| form.backend == KvBackend::SharedBuffer) {
        let folder = fixtures.join("models").join(form.name);
        let mut shared = load(&folder, None, CONTEXT);
        let mut handed = load(&folder, Some(KvBackend::HandOver), CONTEXT);
        assert_eq!(handed.spec().kv_backend, KvBackend::HandOver);
        for golden in goldens(&folder) {
            // 300 tokens cross the first power of two, so the buffer grows in mid-reply.
            let count = 300 - golden.prompt.len();
            let (shared, handed) =
                (greedy(&mut shared, &golden.prompt, count), greedy(&mut handed, &golden.prompt, count));
            assert_eq!(shared, handed, "{}", form.name);
        }
    }
}

#[test]
fn the_shared_buffer_grows_in_powers_of_two_from_256_rows() {
    let Some(fixtures) = fixtures() else { return };
    let mut decoder = load(&fixtures.join("models/gqa-f32"), None, CONTEXT);
    let row = decoder.spec().kv_bytes_per_token;
    let mut cache = decoder.new_cache().expect("a cache");
    assert_eq!(cache.bytes(), 256 * row);
    let mut sizes = Vec::new();
    for step in 0..5 {
        let tokens = vec![5; 100];
        assert!(
            matches!(decoder.forward(&tokens, &mut cache, &Cancel::new()), Ok(Forward::Logits(_))),
            "{step}"
        );
        sizes.push(cache.bytes() / row);
    }
    assert_eq!(sizes, [256, 256, 512, 512, 512]);
    assert_eq!(cache.truncate(3).expect("cuts"), 3);
    assert_eq!(cache.len(), 3);
}

#[test]
fn the_last_row_of_the_context_can_be_used_and_the_next_one_says_that_it_is_full() {
    each_form(|form, folder, mut decoder| {
        let story = story(folder);
        let tokens: Vec<TokenId> = story.iter().copied().cycle().take(CONTEXT).collect();
        let mut cache = decoder.new_cache().expect("a cache");
        for chunk in tokens.chunks(200) {
            let outcome = decoder.forward(chunk, &mut cache, &Cancel::new()).expect("the pass succeeds");
            assert!(matches!(outcome, Forward::Logits(_)), "{}", form.name);
        }
        assert_eq!(cache.len(), CONTEXT, "{}", form.name);
        let outcome = decoder.forward(&[7], &mut cache, &Cancel::new()).expect("no error");
        assert!(matches!(outcome, Forward::ContextFull), "{}", form.name);
        assert_eq!(cache.len(), CONTEXT, "the cache is as before");
    });
}

#[test]
fn a_rotary_table_shorter_than_the_configured_context_ends_as_a_full_context() {
    let Some(fixtures) = fixtures() else { return };
    let mut decoder = load(&fixtures.join("models/gqa-f32"), None, 4096);
    let mut cache = decoder.new_cache().expect("a cache");
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        let outcome = decoder.forward(&[5; 100], &mut cache, &Cancel::new()).expect("no error");
        outcomes.push(matches!(outcome, Forward::Logits(_)));
    }
    assert_eq!(outcomes, [true, true, true, true, true, false]);
    assert_eq!(cache.len(), 500);
}

#[test]
fn fifty_seeded_runs_of_every_form_are_the_same() {
    let sampling = Sampling {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.95,
        min_p: 0.02,
        repetition_penalty: 1.05,
        presence_penalty: 0.1,
        frequency_penalty: 0.1,
        seed: Some(20_260_101),
    };
    each_form(|form, folder, mut decoder| {
        let story = story(folder);
        for prompt in [&story[..1], &story[..9], &story[..33], &story[10..60], &story[50..130]] {
            let mut runs = (0..10).map(|_| {
                let mut session = Session::new(&decoder).expect("starts");
                continue_with(&mut decoder, &mut session, prompt, 24, &sampling)
            });
            let first = runs.next().expect("ten runs");
            for (run, reply) in runs.enumerate() {
                assert_eq!(reply, first, "{} run {}", form.name, run + 2);
            }
        }
    });
}

#[test]
fn a_cancel_ends_a_running_pass_and_leaves_the_cache_valid() {
    each_form(|form, folder, mut decoder| {
        let story = story(folder);
        let mut session = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut session, &story[..100], 256);
        let tokens: Vec<TokenId> = story.iter().copied().cycle().skip(100).take(400).collect();
        let cancel = Cancel::new();
        let remote = cancel.clone();
        let (begin, begun) = mpsc::channel();
        let canceller = std::thread::spawn(move || {
            begun.recv().expect("the pass begins");
            let asked = Instant::now();
            remote.cancel();
            asked
        });
        begin.send(()).expect("the canceller waits");
        // The stop may come before, in or after any one pass, so passes go on until one is stopped.
        let mut passes = 0;
        while let Forward::Logits(_) = session.feed(&mut decoder, &tokens, &cancel).expect("no error") {
            session.rewind_to(&[&story[..100], &[0]].concat()).expect("rewinds");
            passes += 1;
            assert!(passes < 10_000, "{}: the cancel never arrived", form.name);
        }
        let lag = canceller.join().expect("the canceller ends").elapsed();
        println!("{}: stopped {lag:?} after the cancel, {passes} passes before", form.name);
        assert!(lag < Duration::from_secs(5), "{}: {lag:?}", form.name);
        assert_eq!(session.seen().len(), 100, "{}", form.name);
        let after = feed(&mut decoder, &mut session, &story[100..130], 256);
        let mut fresh = Session::new(&decoder).expect("starts");
        feed(&mut decoder, &mut fresh, &story[..100], 256);
        let expected = feed(&mut decoder, &mut fresh, &story[100..130], 256);
        assert_eq!(after, expected, "{}: the next pass is as if nothing had been stopped", form.name);
    });
}
