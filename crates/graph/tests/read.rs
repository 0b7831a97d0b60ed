//! The walk: whatever the bytes, an error that says what and where, or a model within the limits.

mod support;

use std::path::Path;

use graph::preflight::{self, Files};
use graph::proto::{GraphProto, ModelProto, ValueInfoProto};
use graph::{Error, Graph, Limits, Part};
use proptest::prelude::*;
use prost::Message;
use prost::encoding::encode_varint;
use support::{constant, graph_of, model, node, subgraph, text, whole, with, zeros};

fn read(bytes: &[u8]) -> Result<Graph, Error> {
    read_within(bytes, &Limits::default())
}

fn read_within(bytes: &[u8], limits: &Limits) -> Result<Graph, Error> {
    Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), limits)
}

/// A field of bytes.
fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number << 3 | 2, &mut bytes);
    encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

/// A number field.
fn number(number: u64, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number << 3, &mut bytes);
    encode_varint(value, &mut bytes);
    bytes
}

#[track_caller]
fn malformed(bytes: &[u8], expected: &str) {
    match read(bytes) {
        Err(Error::Malformed { reason, offset, .. }) => {
            assert!(reason.contains(expected), "{reason}");
            assert!(offset <= bytes.len() as u64);
        }
        other => panic!("expected `{expected}`, got {other:?}"),
    }
}

#[track_caller]
fn too_large(bytes: &[u8], limits: &Limits, expected: &str) {
    match read_within(bytes, limits) {
        Err(Error::TooLarge { what, .. }) => assert_eq!(what, expected),
        other => panic!("expected too many {expected}, got {other:?}"),
    }
}

fn small() -> ModelProto {
    model(graph_of(vec![node("Add", &["x", "w"], &["y"])], vec![zeros("w", &[4])]))
}

#[test]
fn what_is_no_model_is_named_with_its_place() {
    malformed(b"", "no graph");
    malformed(b"this is no graph", "type");
    malformed(&[0x08], "past its end");
    malformed(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], "64 bits");
    malformed(&[0x3a, 0x7f], "too early");
    malformed(&[0x00, 0x00], "no number");
    malformed(&[0x0b, 0x0c], "type");
    malformed(&[0x7b, 0x7c], "no known type");
    malformed(&[0xf9, 0x01, 0, 0, 0], "past its end");
    malformed(&[0x80; 11], "64 bits");
    malformed(&field(7, &field(2, b"\xff\xfe")), "UTF-8");
    malformed(&field(1, b"ten"), "another type");
    malformed(&number(7, 1), "type");
    let lengths = [0xba, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    malformed(&[&[0x3a], &lengths[1..]].concat(), "too early");
    malformed(&field(7, &field(5, &field(4, &[0; 5]))), "within a number");
    malformed(&field(7, &field(5, &field(7, &[0x80]))), "within a number");
    malformed(&field(7, &field(5, &field(7, &[0x80; 12]))), "64 bits");
}

#[test]
fn what_may_occur_once_occurs_once() {
    let graph = field(7, &[]);
    read(&graph).expect("one graph");
    malformed(&[graph.clone(), graph.clone()].concat(), "twice");
    malformed(&[graph.clone(), number(1, 10), number(1, 3)].concat(), "twice");
    let raw = field(9, &[0; 4]);
    malformed(&field(7, &field(5, &[raw.clone(), raw].concat())), "twice");
    malformed(&field(7, &field(1, &[field(4, b"Add"), field(4, b"Sub")].concat())), "twice");
}

#[test]
fn limits_hold_and_say_what_they_are_of() {
    let bytes = small().encode_to_vec();
    read(&bytes).expect("it is a model");
    let limits = Limits::default;
    too_large(&bytes, &Limits { file_bytes: 10, ..limits() }, "bytes");
    too_large(&bytes, &Limits { description_bytes: 20, ..limits() }, "bytes beside its weights");
    too_large(&bytes, &Limits { messages: 3, ..limits() }, "messages");
    too_large(&bytes, &Limits { nodes: 0, ..limits() }, "nodes");
    too_large(&bytes, &Limits { tensors: 0, ..limits() }, "tensors");
    too_large(&bytes, &Limits { entries: 5, ..limits() }, "entries");
    too_large(&bytes, &Limits { text_bytes: 2, ..limits() }, "bytes of one text");
    let with_attribute = model(graph_of(vec![constant("y", whole("", &[1], &[1]))], vec![])).encode_to_vec();
    too_large(&with_attribute, &Limits { attributes: 0, ..limits() }, "attributes");
    too_large(&with_attribute, &Limits { depth: 4, ..limits() }, "messages inside messages");
}

#[test]
fn a_million_nodes_are_refused_before_they_are_decoded() {
    // Two bytes each in the file, hundreds in memory.
    let nodes = field(1, &[]).repeat(1_000_000);
    too_large(&field(7, &nodes), &Limits::default(), "nodes");
    let names = field(1, &[]).repeat(5_000_000);
    too_large(&field(7, &field(1, &names)), &Limits::default(), "entries");
    let numbers = field(7, &field(1, &field(5, &field(8, &vec![0; 5_000_000]))));
    too_large(&numbers, &Limits::default(), "entries");
}

#[test]
fn depth_of_ten_thousand_is_refused() {
    // Graphs inside attributes inside nodes.
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        bytes = field(1, &field(5, &field(6, &bytes)));
        if bytes.len() > 1 << 20 {
            break;
        }
    }
    too_large(&field(7, &bytes), &Limits::default(), "messages inside messages");
    // Types inside types.
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        bytes = field(4, &field(1, &bytes));
    }
    too_large(&field(7, &field(11, &field(2, &bytes))), &Limits::default(), "messages inside messages");
    let mut graph = graph_of(vec![node("Neg", &["x"], &["y"])], vec![]);
    for _ in 0..15 {
        let holder = with(node("If", &["x"], &["y"]), subgraph("then_branch", graph));
        graph = graph_of(vec![holder], vec![]);
    }
    read(&model(graph).encode_to_vec()).expect("what people write is not so deep");
}

#[test]
fn every_field_of_the_schema_is_known_to_the_walk() {
    let whole = support::everything();
    let bytes = whole.encode_to_vec();
    let graph = read(&bytes).expect("it is a model");
    let mut model = whole.clone();
    let expected = *model.graph.take().expect("it has a graph");
    assert_eq!(*graph.model(), model);
    let plain =
        |parts: &[Part<ValueInfoProto>]| parts.iter().map(|part| (**part).clone()).collect::<Vec<_>>();
    let read = GraphProto {
        node: graph.nodes.iter().map(|part| (**part).clone()).collect(),
        initializer: graph.initializers.iter().map(|part| (**part).clone()).collect(),
        input: plain(&graph.inputs),
        output: plain(&graph.outputs),
        value_info: plain(&graph.value_infos),
        ..graph.frame().clone()
    };
    assert_eq!(read, expected, "whatever the walk did not know would be in `unknown`");
    assert_eq!(graph.to_bytes(graph::Weights::Embed).expect("it is written"), bytes);
}

#[test]
fn names_are_text() {
    let mut odd = small();
    odd.graph.as_mut().expect("a graph").node[0].name = text("\u{202e}name\u{0}");
    read(&odd.encode_to_vec()).expect("any text is a name");
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_model(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(graph) = read(&bytes) {
            drop(preflight::inspect(&graph, &Files::none(), &Limits::default()));
        }
    }

    #[test]
    fn any_bytes_inside_a_model_are_an_error_or_a_model(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        place in 0_usize..400,
    ) {
        let mut whole = small().encode_to_vec();
        let place = place.min(whole.len());
        let end = (place + bytes.len()).min(whole.len());
        whole.splice(place..end, bytes);
        if let Ok(graph) = read(&whole) {
            drop(preflight::inspect(&graph, &Files::none(), &Limits::default()));
            prop_assert_eq!(graph.to_bytes(graph::Weights::Embed).expect("it is written"), whole);
        }
    }
}
