//! Any bytes as a model that is checked: findings or none, within bounded memory and time.
#![no_main]

use std::path::Path;

use graph::preflight::{self, Files};
use graph::{Graph, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(graph) = Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), &limits) else { return };
    let report = preflight::inspect(&graph, &Files::none(), &limits);
    assert!(report.findings.len() <= 100);
    assert!(report.findings.iter().all(|finding| !finding.to_string().contains(char::is_control)));
    assert!(report.files.is_empty(), "there are none");
});
