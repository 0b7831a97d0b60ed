//! What must hold for any bytes: the fuzz targets ask it of bytes without end, `tests/corpus.rs` of the corpora.

use std::path::Path;

use graph::preflight::{self, Files};
use graph::{Graph, Limits, Weights};

/// An error, or a graph that is written as the same bytes, and that means the same after everything in it was
/// encoded anew.
pub(crate) fn read(bytes: &[u8]) {
    let from = |bytes: &[u8]| Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), &Limits::default());
    let Ok(mut graph) = from(bytes) else { return };
    assert_eq!(graph.to_bytes(Weights::Embed).expect("it is written"), bytes);
    graph.edit_model();
    for node in &mut graph.nodes {
        node.edit();
    }
    for tensor in &mut graph.initializers {
        tensor.edit();
    }
    let again = from(&graph.to_bytes(Weights::Embed).expect("it is written")).expect("it is read again");
    assert!(again.nodes.iter().zip(&graph.nodes).all(|(again, node)| again.input == node.input));
    assert_eq!((again.nodes.len(), again.counts().weights), (graph.nodes.len(), graph.counts().weights));
}

/// Findings or none, within bounded memory and time, and fit to be shown.
pub(crate) fn preflight(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(graph) = Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), &limits) else { return };
    let report = preflight::inspect(&graph, &Files::none(), &limits);
    assert!(report.findings.len() <= 100);
    assert!(report.findings.iter().all(|finding| !finding.to_string().contains(char::is_control)));
    assert!(report.files.is_empty(), "there are none");
}
