//! Any bytes as a model: an error, or a graph that is written as the same bytes, and that means the same
//! after everything in it was encoded anew.
#![no_main]

use std::path::Path;

use graph::{Graph, Limits, Weights};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) -> graph::Result<Graph> {
    Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), &Limits::default())
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut graph) = read(bytes) else { return };
    assert_eq!(graph.to_bytes(Weights::Embed).expect("it is written"), bytes);
    graph.edit_model();
    for node in &mut graph.nodes {
        node.edit();
    }
    for tensor in &mut graph.initializers {
        tensor.edit();
    }
    let again = read(&graph.to_bytes(Weights::Embed).expect("it is written")).expect("it is read again");
    assert!(again.nodes.iter().zip(&graph.nodes).all(|(again, node)| again.input == node.input));
    assert_eq!((again.nodes.len(), again.counts().weights), (graph.nodes.len(), graph.counts().weights));
});
