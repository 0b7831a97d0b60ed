//! Real exports pass, whatever tool made them, and are written as they were read.

mod support;

use graph::preflight::{self, Files};
use graph::{Graph, Limits, Weights};
use support::{ember, fixture, fixtures};

#[test]
fn every_real_export_passes_preflight() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let report = preflight::check(&path, &Limits::default()).expect("a real export passes");
        assert!(report.counts.nodes >= 60, "{}: {:?}", path.display(), report.counts);
        assert!(report.weights > 200_000, "{}: {}", path.display(), report.weights);
    }
}

#[test]
fn the_files_that_hold_weights_are_listed() {
    let Some(path) = fixture("gqa-q4") else { return };
    let report = preflight::check(&path, &Limits::default()).expect("it passes");
    assert_eq!(report.files, ["model.onnx.data"]);
    let graph = Graph::open(&path, &Limits::default()).expect("it is read");
    let report = preflight::inspect(&graph, &Files::none(), &Limits::default());
    assert!(!report.is_passed(), "its data file is not there");
}

#[test]
fn real_exports_are_written_byte_for_byte_as_they_were_read() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let bytes = std::fs::read(&path).expect("read");
        let graph = Graph::open(&path, &Limits::default()).expect("it is read");
        assert!(graph.to_bytes(Weights::Embed).expect("it is written") == bytes, "{}", path.display());
        let graph = Graph::from_bytes(&path, bytes.clone(), &Limits::default()).expect("it is read");
        assert!(graph.to_bytes(Weights::Embed).expect("it is written") == bytes, "{}", path.display());
    }
}

#[test]
fn an_export_of_which_everything_is_encoded_anew_means_the_same() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let mut graph = Graph::open(&path, &Limits::default()).expect("it is read");
        let before = graph.clone();
        graph.edit_model();
        for part in &mut graph.nodes {
            part.edit();
        }
        for part in &mut graph.initializers {
            part.edit();
        }
        for part in &mut graph.inputs {
            part.edit();
        }
        for part in &mut graph.outputs {
            part.edit();
        }
        for part in &mut graph.value_infos {
            part.edit();
        }
        let bytes = graph.to_bytes(Weights::Embed).expect("it is written");
        let after = Graph::from_bytes(&path, bytes, &Limits::default()).expect("it is read again");
        assert_eq!(after.model(), before.model());
        assert!(after.nodes.iter().zip(&before.nodes).all(|(after, before)| **after == **before));
        assert_eq!(after.nodes.len(), before.nodes.len());
        assert_eq!(after.counts().weights, before.counts().weights);
        assert!(preflight::inspect(&after, &Files::beside(&path), &Limits::default()).is_passed());
    }
}

#[test]
fn truncated_exports_are_errors_and_never_panics() {
    let bytes = std::fs::read(ember()).expect("read");
    for step in 0..200 {
        let cut = bytes.len() * step / 200;
        let read = Graph::from_bytes(&ember(), bytes[..cut].to_vec(), &Limits::default());
        // Cut between two fields of the model it may still be one; its graph is the large one.
        assert!(read.is_err(), "cut at {cut} of {}", bytes.len());
    }
}

#[test]
fn flipped_bits_are_errors_findings_or_other_models_and_never_panics() {
    let path = fixture("gqa-q4").unwrap_or_else(ember);
    let bytes = std::fs::read(&path).expect("read");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..1_000 {
        let mut flipped = bytes.clone();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bit = (state % (bytes.len() as u64 * 8)) as usize;
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(graph) = Graph::from_bytes(&path, flipped.clone(), &Limits::default()) {
            drop(preflight::inspect(&graph, &Files::beside(&path), &Limits::default()));
            assert!(graph.to_bytes(Weights::Embed).expect("it is written") == flipped, "bit {bit}");
        }
    }
}
