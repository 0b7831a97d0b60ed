//! Fused attention continues as the original does, over the shared KV cache.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use engine::onnx::{ContractHints, Drafts, ExecutionProviderChoice, OnnxDecoder, OnnxOptions};
use engine::{Cancel, Decoder, Forward, KvBackend, Session, TokenId};
use graph::family::{Family, Products};
use graph::rewrite::attention::{self, AttentionReport, ModelShape};
use graph::{Graph, Limits, Weights};
use proptest::prelude::*;
use prost::Message;
use support::fixtures;
use support::onnx::{difference, feed, greedy, load_graph, runtime};
use tempfile::TempDir;

const CONTEXT: usize = 512;

/// A copy of a fixture's graph and weights, and beside it the graph with fused attention.
fn fused(fixtures: &Path, name: &str) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(fixtures.join("models").join(name)).expect("the fixture is there") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().starts_with("model.onnx") {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
        }
    }
    let original = folder.path().join("model.onnx");
    let fused = folder.path().join("fused.onnx");
    fuse(&original, &fused);
    (folder, original, fused)
}

fn fuse(original: &Path, fused: &Path) {
    let graph = Graph::open(original, &Limits::default()).expect("it is read");
    let rewritten = attention::run(graph, &ModelShape::default(), CONTEXT);
    assert!(matches!(rewritten.report, AttentionReport::Replaced(_)), "{:?}", rewritten.report);
    rewritten.graph.write(fused, Weights::Refer).expect("it is written");
}

#[test]
fn a_fused_graph_takes_the_shared_buffer_and_keeps_its_golden_ids() {
    let Some(fixtures) = fixtures() else { return };
    let (_folder, _, fused) = fused(&fixtures, "concat16-f32");
    let mut decoder = load_graph(&fused, None, CONTEXT);
    assert_eq!(decoder.spec().kv_backend, KvBackend::SharedBuffer, "{:?}", decoder.spec().kv_backend_reason);
    let text = fs::read_to_string(fixtures.join("models/concat16-f32/golden.json")).expect("golden.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let ids = |value: &serde_json::Value| -> Vec<TokenId> {
        serde_json::from_value(value.clone()).expect("ids are numbers")
    };
    let cases = json["cases"].as_array().expect("cases");
    assert!(cases.len() >= 2);
    for case in cases {
        let (prompt, golden) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        assert_eq!(greedy(&mut decoder, &prompt, golden.len()), golden);
    }
}

#[test]
fn fused_fixtures_give_the_logits_of_their_originals() {
    let Some(fixtures) = fixtures() else { return };
    for (name, bound) in [("concat16-f32", 1e-4), ("concat16-q4", 1e-3)] {
        let (_folder, original, fused) = fused(&fixtures, name);
        let (expected, found) = (passes(&original), passes(&fused));
        for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let found = difference(expected, found);
            assert!(found <= bound, "{name}, pass {index}: {found} of the range");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn random_graphs_of_the_family_compute_the_same_when_fused(seed in any::<u64>()) {
        let family = Family::random(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let (original, fused) = (folder.path().join("model.onnx"), folder.path().join("fused.onnx"));
        fs::write(&original, family.model().encode_to_vec()).expect("it is written");
        fuse(&original, &fused);
        prop_assert_eq!(load_graph(&original, None, CONTEXT).spec().kv_backend, KvBackend::HandOver);
        prop_assert_eq!(load_graph(&fused, None, CONTEXT).spec().kv_backend, KvBackend::SharedBuffer);
        // Numbers that are rounded to 8 bits may fall to either side.
        let bound = if family.products == Products::Dynamic8 { 0.03 } else { 1e-4 };
        for (index, (expected, found)) in passes(&original).iter().zip(&passes(&fused)).enumerate() {
            let found = difference(expected, found);
            prop_assert!(found <= bound, "pass {index} of {family:?}: {found} of the range");
        }
    }
}

/// Whether a graph loads and gives logits.
fn runs(path: &Path) -> bool {
    let options = OnnxOptions {
        threads: 1,
        execution_provider: ExecutionProviderChoice::Auto,
        context_length: CONTEXT,
        kv_backend: None,
        drafts: Drafts::default(),
        hints: ContractHints::default(),
    };
    let Ok(mut decoder) = OnnxDecoder::load(&runtime(), path, &options) else { return false };
    let Ok(mut session) = Session::new(&decoder) else { return false };
    [3, 1, 4].into_iter().all(|count| {
        let logits = session.feed(&mut decoder, &vec![5; count], &Cancel::new());
        matches!(logits, Ok(Forward::Logits(logits)) if logits.iter().all(|logit| logit.is_finite()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn damage_that_the_proof_does_not_see_changes_nothing(
        seed in any::<u64>(),
        damage in (any::<usize>(), any::<usize>(), any::<u8>()),
    ) {
        let family = Family { products: Products::Plain, ..Family::random(seed) };
        let folder = tempfile::tempdir().expect("a folder");
        let (original, fused) = (folder.path().join("model.onnx"), folder.path().join("fused.onnx"));
        fs::write(&original, family.damaged(&[damage]).encode_to_vec()).expect("it is written");
        let graph = Graph::open(&original, &Limits::default()).expect("it is read");
        let rewritten = attention::run(graph, &ModelShape::default(), CONTEXT);
        if matches!(rewritten.report, AttentionReport::Replaced(_)) && runs(&original) {
            rewritten.graph.write(&fused, Weights::Refer).expect("it is written");
            for (index, (expected, found)) in passes(&original).iter().zip(&passes(&fused)).enumerate() {
                let found = difference(expected, found);
                prop_assert!(found <= 1e-4, "pass {index} of {family:?}: {found} of the range");
            }
        }
    }
}

/// The logits after a prefill in two chunks, after single steps, and after a rewind and other tokens.
fn passes(path: &Path) -> Vec<Vec<f32>> {
    let mut decoder = load_graph(path, None, CONTEXT);
    let most = decoder.spec().vocabulary_size as TokenId;
    let token = |place: usize| 3 + (place as TokenId * 19 + 5) % (most - 3);
    let tokens: Vec<TokenId> = (0..20).map(token).collect();
    let mut session = Session::new(&decoder).expect("a session starts");
    let mut logits = vec![feed(&mut decoder, &mut session, &tokens, 12)];
    for place in 20..24 {
        logits.push(feed(&mut decoder, &mut session, &[token(place)], 1));
    }
    let other: Vec<TokenId> = (0..6).map(|place| token(place * 7 + 2)).collect();
    let prompt = [&tokens[..9], &other].concat();
    let reused = session.rewind_to(&prompt).expect("it rewinds");
    assert!(reused >= 9, "{reused}");
    logits.push(feed(&mut decoder, &mut session, &prompt[reused..], 4));
    logits
}
