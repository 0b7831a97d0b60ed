//! Rewritten graphs compute what their originals compute, with the weights where those have them.

mod support;

use std::fs;
use std::path::Path;

use engine::{Session, TokenId};
use graph::rewrite::accuracy::{self, SelfTest};
use graph::rewrite::last_token::{self, LastTokenReport};
use graph::{Graph, Limits, Weights};
use support::fixtures;
use support::onnx::{difference, feed, load_graph};

/// The logits after a few tokens in passes of several.
fn logits(path: &Path) -> Vec<f32> {
    let tokens: Vec<TokenId> = (0..23).map(|place| 3 + place * 19).collect();
    let mut decoder = load_graph(path, None, 512);
    let mut session = Session::new(&decoder).expect("a session starts");
    feed(&mut decoder, &mut session, &tokens, 9)
}

#[test]
fn last_positions_and_faster_products_give_the_logits_of_the_original() {
    let Some(fixtures) = fixtures() else { return };
    for model in fs::read_dir(fixtures.join("models")).expect("the fixtures are there") {
        let source = model.expect("an entry").path();
        let name = source.file_name().expect("a name").to_string_lossy().into_owned();
        let folder = tempfile::tempdir().expect("a folder");
        for entry in fs::read_dir(&source).expect("the fixture is there") {
            let entry = entry.expect("an entry");
            if entry.file_name().to_string_lossy().starts_with("model.onnx") {
                let bytes = fs::read(entry.path()).expect("read");
                fs::write(folder.path().join(entry.file_name()), bytes).expect("written");
            }
        }
        let original = folder.path().join("model.onnx");
        let expected = logits(&original);

        let graph = Graph::open(&original, &Limits::default()).expect("it is read");
        let short = last_token::run(graph);
        let is_short =
            matches!(short.report, LastTokenReport::Inserted { .. } | LastTokenReport::AlreadyShort);
        assert!(is_short, "{name}: {:?}", short.report);
        let path = folder.path().join("short.onnx");
        short.graph.write(&path, Weights::Refer).expect("it is written");
        // Dynamic 8-bit products round by the largest number of all positions, of which there are fewer now.
        let bound = if name.contains("int8") { 0.03 } else { 1e-5 };
        let found = difference(&expected, &logits(&path));
        assert!(found <= bound, "{name}: {found} of the range");

        let fast = accuracy::run(short.graph, SelfTest::NotPassed);
        let path = folder.path().join("fast.onnx");
        fast.graph.write(&path, Weights::Refer).expect("it is written");
        let bound = if fast.report.raised() > 0 { 0.03 } else { bound };
        let found = difference(&expected, &logits(&path));
        assert!(found <= bound, "{name}: {found} of the range with {} products raised", fast.report.raised());
    }
}
