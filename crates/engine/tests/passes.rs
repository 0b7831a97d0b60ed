//! Packed products, fused norms, shared embeddings and added outputs compute what the original computes.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Decoder, Session, TokenId};
use graph::family::{Family, Products};
use graph::rewrite::attention::{self, AttentionReport, ModelShape};
use graph::rewrite::embedding;
use graph::rewrite::hidden_state;
use graph::rewrite::last_token;
use graph::rewrite::norm;
use graph::rewrite::pack::{self, Outcome};
use graph::{Graph, Limits, Weights};
use proptest::prelude::*;
use prost::Message;
use support::onnx::{difference, feed, load_graph_of};
use support::{fixtures, workspace};
use tempfile::TempDir;

const DATA_FILE: &str = "model.packed.onnx_data";

/// The logits after passes of several tokens, a rewind, and single tokens.
fn logits(path: &Path, head_size: usize) -> Vec<Vec<f32>> {
    let mut decoder = load_graph_of(path, None, 512, head_size);
    let most = decoder.spec().vocabulary_size as TokenId;
    let tokens: Vec<TokenId> = (0..40).map(|place| 3 + place * 11 % (most - 3)).collect();
    let mut session = Session::new(&decoder).expect("a session starts");
    let mut rows = vec![feed(&mut decoder, &mut session, &tokens[..30], 17)];
    session.rewind_to(&tokens[..24]).expect("it goes back");
    for token in &tokens[session.seen().len()..] {
        rows.push(feed(&mut decoder, &mut session, &[*token], 1));
    }
    rows
}

fn largest_difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| difference(left, right)).fold(0.0, f32::max)
}

/// A copy of a model's graph and weights that can be written beside.
struct Copy {
    folder: TempDir,
    name: String,
    head_size: usize,
}

impl Copy {
    fn of(source: &Path, head_size: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for entry in fs::read_dir(source).expect("the model is there") {
            let entry = entry.expect("an entry");
            if entry.file_name().to_string_lossy().starts_with("model.onnx") {
                let bytes = fs::read(entry.path()).expect("read");
                fs::write(folder.path().join(entry.file_name()), bytes).expect("written");
            }
        }
        Self { folder, name: source.file_name().expect("a name").to_string_lossy().into_owned(), head_size }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Graph {
        Graph::open(&self.path("model.onnx"), &Limits::default()).expect("it is read")
    }

    fn original(&self) -> Vec<Vec<f32>> {
        logits(&self.path("model.onnx"), self.head_size)
    }

    /// The logits of `graph`, which is written beside the original.
    fn rewritten(&self, graph: &Graph) -> Vec<Vec<f32>> {
        let path = self.path("rewritten.onnx");
        graph.write(&path, Weights::Refer).expect("it is written");
        logits(&path, self.head_size)
    }
}

/// All fixtures and the built-in model.
fn models() -> Vec<Copy> {
    let ember = Copy::of(&workspace().join("models/ember"), 32);
    let Some(fixtures) = fixtures() else { return vec![ember] };
    let folder = fs::read_dir(fixtures.join("models")).expect("the fixtures are there");
    folder.map(|entry| Copy::of(&entry.expect("an entry").path(), 16)).chain([ember]).collect()
}

#[test]
fn packed_products_give_the_logits_of_the_original() {
    let mut packed = 0;
    for model in models() {
        let rewritten = pack::run(model.open(), DATA_FILE);
        if rewritten.report.changed() {
            packed += 1;
            let found = largest_difference(&model.original(), &model.rewritten(&rewritten.graph));
            assert!(found <= 1e-5, "{}: {found} of the range; {}", model.name, rewritten.report);
        }
    }
    assert!(packed >= 1);
}

#[test]
fn an_output_more_changes_no_logits() {
    for model in models() {
        let rewritten = hidden_state::run(model.open());
        assert!(rewritten.report.changed(), "{}: {}", model.name, rewritten.report);
        let found = largest_difference(&model.original(), &model.rewritten(&rewritten.graph));
        assert!(found <= 1e-5, "{}: {found} of the range", model.name);
    }
}

#[test]
fn fused_norms_give_the_logits_of_the_original() {
    let mut fused = 0;
    for model in models() {
        let rewritten = norm::run(model.open());
        if rewritten.report.changed() {
            fused += 1;
            let found = largest_difference(&model.original(), &model.rewritten(&rewritten.graph));
            // Dynamic 8-bit products turn the last digit of an activation into a step now and then.
            let bound = if model.name.contains("int8") { 0.005 } else { 1e-5 };
            assert!(found <= bound, "{}: {found} of the range; {}", model.name, rewritten.report);
        }
    }
    assert!(fused >= 1 || fixtures().is_none());
}

/// Rounds the table of concat16-q4's embedding to what the weights of its logits say.
fn round_table(graph: &Graph, data: &mut [u8]) {
    let place = |name: &str| {
        let tensor = graph.initializers.iter().find(|tensor| tensor.name() == name).expect(name);
        let entry = |key: &str| {
            let entry = tensor.external_data.iter().find(|entry| entry.key() == key).expect(key);
            entry.value().parse::<usize>().expect("a number")
        };
        entry("offset")..entry("offset") + entry("length")
    };
    let head = graph.nodes.iter().find(|node| node.output == ["logits"]).expect("the product of the logits");
    let weights = data[place(&head.input[1])].to_vec();
    let scales: Vec<f32> = data[place(&head.input[2])]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    // 512 rows of 64 numbers, two to a byte, the lower half first, a scale for each 32.
    for (number, target) in data[place("model.embed_tokens.weight")].chunks_exact_mut(4).enumerate() {
        let code = weights[number / 2] >> (number % 2 * 4) & 0xf;
        target.copy_from_slice(&((f32::from(code) - 8.0) * scales[number / 32]).to_le_bytes());
    }
}

#[test]
fn a_shared_embedding_is_the_table_rounded_to_the_steps_of_the_logits() {
    let Some(fixtures) = fixtures() else { return };
    let model = Copy::of(&fixtures.join("models/concat16-q4"), 16);
    let original = model.original();
    let graph = model.open();
    let shared = embedding::run(model.open());
    assert!(shared.report.changed(), "{}", shared.report);
    let shared = model.rewritten(&shared.graph);
    let data = model.path("model.onnx_data");
    let mut bytes = fs::read(&data).expect("read");
    round_table(&graph, &mut bytes);
    fs::write(&data, bytes).expect("written");
    let found = largest_difference(&model.original(), &shared);
    assert!(found <= 1e-5, "{found} of the range between the rounded table and the shared one");
    let found = largest_difference(&original, &shared);
    assert!(found > 1e-4 && found <= 0.2, "{found} of the range between the table and the shared one");
}

#[test]
fn all_passes_together_give_the_logits_of_the_original() {
    for model in models() {
        let short = last_token::run(model.open());
        let packed = pack::run(short.graph, DATA_FILE);
        let normed = norm::run(packed.graph);
        let all = hidden_state::run(normed.graph);
        assert!(all.report.changed(), "{}: {}", model.name, all.report);
        let found = largest_difference(&model.original(), &model.rewritten(&all.graph));
        let bound = if model.name.contains("int8") { 0.03 } else { 1e-5 };
        assert!(found <= bound, "{}: {found} of the range", model.name);
    }
}

/// The graph after all passes that compute the same, attention among them where it can be fused.
fn prepared(graph: Graph) -> (Graph, bool, pack::PackReport) {
    let fused = attention::run(last_token::run(graph).graph, &ModelShape::default(), 512);
    let is_fused = matches!(fused.report, AttentionReport::Replaced(_));
    let packed = pack::run(fused.graph, DATA_FILE);
    let normed = norm::run(packed.graph);
    assert!(normed.report.changed(), "{}", normed.report);
    (hidden_state::run(normed.graph).graph, is_fused, packed.report)
}

#[test]
fn packed_queries_keys_and_values_go_into_fused_attention() {
    let Some(fixtures) = fixtures() else { return };
    let model = Copy::of(&fixtures.join("models/concat16-q4"), 16);
    let (graph, is_fused, packed) = prepared(model.open());
    assert!(is_fused);
    let into_attention = packed.groups.iter().filter(|group| group.outcome == Outcome::IntoAttention).count();
    assert_eq!((packed.packed(), into_attention), (10, 5), "{packed}");
    let found = largest_difference(&model.original(), &model.rewritten(&graph));
    assert!(found <= 1e-3, "{found} of the range");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn random_graphs_of_the_family_compute_the_same_after_all_passes(seed in any::<u64>()) {
        let family = Family::random(seed);
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("model.onnx"), family.model().encode_to_vec()).expect("it is written");
        let model = Copy { folder, name: format!("{family:?}"), head_size: family.head_size };
        let (graph, is_fused, packed) = prepared(model.open());
        prop_assert!(is_fused, "{}", model.name);
        let refused = packed.groups.iter().find(|group| matches!(group.outcome, Outcome::Refused(_)));
        prop_assert_eq!(refused, None);
        let found = largest_difference(&model.original(), &model.rewritten(&graph));
        // Dynamic 8-bit products round by the largest number of all positions, of which the last has fewer.
        let bound = if family.products == Products::Dynamic8 { 0.03 } else { 1e-4 };
        prop_assert!(found <= bound, "{}: {found} of the range; {packed}", model.name);
    }
}
