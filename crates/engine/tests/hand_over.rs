//! Graphs that do not keep a row for each token: refused, at the latest when the first row is missing.

mod support;

use std::fs;
use std::path::PathBuf;

use engine::onnx::{ContractHints, Drafts, ExecutionProviderChoice, OnnxDecoder, OnnxOptions};
use engine::{Cancel, Error, Failure, FailureKind, Forward, KvBackend, Result, Session};
use graph::family::Family;
use graph::proto::{NodeProto, TensorProto, data_type};
use prost::Message;
use support::onnx::{feed, load_graph_of, runtime};
use tempfile::TempDir;

const CONTEXT: usize = 512;

/// A small decoder whose presents are the last `rows` rows, as the caches of sliding windows are.
fn sliding(rows: i64) -> (TempDir, PathBuf) {
    let mut model = Family::default().model();
    let graph = model.graph.as_mut().expect("it has a graph");
    let presents: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    for present in presents.iter().filter(|name| name.starts_with("present")) {
        let whole = format!("{present}.whole");
        let names = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        names.filter(|name| *name == present).for_each(|name| name.clone_from(&whole));
        let bounds = ["start", "end", "axis"].map(|bound| format!("{present}.{bound}"));
        graph.initializer.extend(bounds.iter().zip([-rows, i64::MAX, 2]).map(|(name, value)| TensorProto {
            name: Some(name.clone()),
            dims: vec![1],
            data_type: Some(data_type::INT64),
            raw_data: Some(value.to_le_bytes().to_vec()),
            ..Default::default()
        }));
        graph.node.push(NodeProto {
            op_type: Some("Slice".to_owned()),
            input: [vec![whole], bounds.to_vec()].concat(),
            output: vec![present.clone()],
            ..Default::default()
        });
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    fs::write(&path, model.encode_to_vec()).expect("it is written");
    (folder, path)
}

fn load(path: &std::path::Path) -> Result<OnnxDecoder> {
    let options = OnnxOptions {
        threads: 1,
        execution_provider: ExecutionProviderChoice::Auto,
        context_length: CONTEXT,
        kv_backend: Some(KvBackend::HandOver),
        drafts: Drafts::default(),
        hints: ContractHints::default(),
    };
    OnnxDecoder::load(&runtime(), path, &options)
}

#[test]
fn a_graph_that_forgets_rows_at_once_is_refused_when_it_is_loaded() {
    let (_folder, path) = sliding(2);
    let error = load(&path).err().expect("it is refused");
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.kind, FailureKind::ModelBroken);
    for part in ["model.onnx", "present.0.key", "[1, 2, 2, 16]", "[1, 2, 3, 16]", "no row for each token"] {
        assert!(failure.message.contains(part), "`{part}` in: {}", failure.message);
    }
}

#[test]
fn a_graph_that_forgets_rows_later_fails_where_the_first_one_is_missing() {
    let (_folder, path) = sliding(20);
    let mut decoder = load_graph_of(&path, Some(KvBackend::HandOver), CONTEXT, 16);
    let mut session = Session::new(&decoder).expect("a session starts");
    let tokens: Vec<u32> = (0..40).map(|place| 3 + place * 7 % 90).collect();
    feed(&mut decoder, &mut session, &tokens[..20], 5);
    assert_eq!(session.rewind_to(&tokens[..10]).expect("it rewinds"), 9, "until then it has every row");
    feed(&mut decoder, &mut session, &tokens[9..20], 5);
    let error = match session.feed(&mut decoder, &tokens[20..21], &Cancel::new()) {
        Err(error) => error.to_string(),
        Ok(Forward::Logits(_)) => panic!("a row was lost silently"),
        Ok(other) => panic!("{other:?}"),
    };
    assert!(error.contains("present.0.key") && error.contains("no row for each token"), "{error}");
}
