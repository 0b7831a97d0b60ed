//! A file of two gigabytes is checked in the memory that its description takes. Alone in its process, whose
//! peak it reads.
#![cfg(target_os = "linux")]

mod support;

use std::io::{Seek, SeekFrom, Write};

use graph::preflight;
use graph::proto::{TensorProto, data_type};
use graph::{Graph, Limits, Weights};
use prost::Message;
use support::{graph_of, model, node, peak, text, zeros};

/// A field of bytes without the bytes.
fn header(number: u64, length: u64) -> Vec<u8> {
    let mut header = Vec::new();
    prost::encoding::encode_varint(number << 3 | 2, &mut header);
    prost::encoding::encode_varint(length, &mut header);
    header
}

#[test]
fn two_gigabytes_of_inline_weights_cost_less_than_a_hundred_megabytes() {
    const ROWS: u64 = 500_000;
    let weights = ROWS * 1024 * 4;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    // The weights are a hole in the file: they have a length and no bytes on the disk.
    let tensor = TensorProto {
        name: text("w"),
        dims: vec![ROWS as i64, 1024],
        data_type: Some(data_type::FLOAT),
        ..Default::default()
    };
    let mut tensor = tensor.encode_to_vec();
    tensor.extend(header(9, weights));
    let tensor_length = tensor.len() as u64 + weights;
    let mut graph =
        graph_of(vec![node("Gather", &["w", "y"], &["z"])], vec![zeros("y", &[1])]).encode_to_vec();
    graph.extend(header(5, tensor_length));
    let graph_length = graph.len() as u64 + tensor_length;
    let mut whole = model(Default::default());
    whole.graph = None;
    let mut file = std::fs::File::create(&path).expect("made");
    file.write_all(&whole.encode_to_vec()).expect("written");
    file.write_all(&header(7, graph_length)).expect("written");
    file.write_all(&graph).expect("written");
    file.write_all(&tensor).expect("written");
    let start = file.stream_position().expect("a place");
    file.seek(SeekFrom::Start(start + weights)).expect("moved");
    file.set_len(start + weights).expect("grown");
    drop(file);

    let before = peak();
    let report = preflight::check(&path, &Limits::default()).expect("it passes");
    assert_eq!(report.weights, weights + 4);
    let mut graph = Graph::open(&path, &Limits::default()).expect("it is read");
    graph.nodes[0].edit().name = text("renamed");
    let rewritten = folder.path().join("rewritten.onnx");
    graph.write(&rewritten, Weights::Refer).expect("it is written");
    preflight::check(&rewritten, &Limits::default()).expect("it passes as well");
    assert!(rewritten.metadata().expect("it is there").len() < 4096, "the weights stayed where they were");
    let used = peak() - before;
    assert!(used < 100 << 20, "{used} bytes");
}
