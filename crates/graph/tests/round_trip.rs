//! What was not edited is written as it was read, and what was keeps what nobody here knows.

mod support;

use std::path::Path;

use graph::proto::{AttributeProto, NodeProto, TensorProto, data_type};
use graph::{Error, Graph, Limits, Part, Weights, preflight};
use proptest::prelude::*;
use prost::Message;
use prost::encoding::encode_varint;
use support::{Folder, graph_of, int, model, node, text, value, zeros};

fn read(bytes: &[u8]) -> Graph {
    Graph::from_bytes(Path::new("model.onnx"), bytes.to_vec(), &Limits::default()).expect("it is a model")
}

fn written(graph: &Graph) -> Vec<u8> {
    graph.to_bytes(Weights::Embed).expect("it is written")
}

fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number << 3 | 2, &mut bytes);
    encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn the_length_of_the_graph_is_spelt_as_it_was_unless_it_is_another() {
    let whole = model(graph_of(vec![node("Neg", &["x"], &["y"])], vec![])).encode_to_vec();
    let inner = graph_of(vec![node("Neg", &["x"], &["y"])], vec![]).encode_to_vec();
    let canonical = field(7, &inner);
    let place = whole.windows(canonical.len()).position(|bytes| bytes == canonical).expect("the graph");
    // Seven bits and the sign that more follow, then nothing more.
    let overlong = [&[canonical[0], canonical[1] | 0x80, 0], &canonical[2..]].concat();
    assert!(inner.len() < 0x80);
    let bytes = [&whole[..place], &overlong, &whole[place + canonical.len()..]].concat();
    assert_eq!(written(&read(&bytes)), bytes);
    let mut edited = read(&bytes);
    edited.nodes[0].edit().name = text("a name");
    assert_eq!(read(&written(&edited)).nodes[0].name(), "a name");
}

/// A field that ONNX does not have, in one of the forms that fields may have.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let key = |number: u64, wire: u64| {
        let mut bytes = Vec::new();
        encode_varint(number << 3 | wire, &mut bytes);
        bytes
    };
    // Those that this crate uses for itself are no less foreign in a file.
    let numbers = prop_oneof![100_u64..3_000, 536_870_900_u64..536_870_912];
    (numbers, 0_usize..4, any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        move |(number, form, value, bytes)| match form {
            0 => {
                let mut field = key(number, 0);
                encode_varint(value, &mut field);
                field
            }
            1 => [key(number, 1), value.to_le_bytes().to_vec()].concat(),
            2 => [key(number, 5), (value as u32).to_le_bytes().to_vec()].concat(),
            _ => field(number, &bytes),
        },
    )
}

/// A node with anything unknown in it and in its attribute.
fn odd_node() -> impl Strategy<Value = Vec<u8>> {
    ("[a-z]{0,6}", any::<i64>(), unknown(), unknown(), any::<bool>()).prop_map(
        |(name, value, inner, outer, is_first)| {
            let attribute = [int("k", value).encode_to_vec(), inner].concat();
            let known = NodeProto { name: text(&name), ..node("Neg", &["x"], &["y"]) }.encode_to_vec();
            let parts = if is_first { [outer, known] } else { [known, outer] };
            [parts.concat(), field(5, &attribute)].concat()
        },
    )
}

fn odd_tensor() -> impl Strategy<Value = Vec<u8>> {
    (0_i64..3_000, unknown(), any::<bool>()).prop_map(|(count, unknown, is_raw)| {
        let tensor = zeros("w", &[count]);
        let tensor = if is_raw {
            tensor
        } else {
            TensorProto { raw_data: None, float_data: vec![0.5; count as usize], ..tensor }
        };
        [unknown, tensor.encode_to_vec()].concat()
    })
}

/// A graph whose fields come in any order.
fn odd_model() -> impl Strategy<Value = Vec<u8>> {
    let inner = prop_oneof![
        odd_node().prop_map(|node| field(1, &node)),
        odd_tensor().prop_map(|tensor| field(5, &tensor)),
        unknown(),
        Just(field(11, &value("x", data_type::FLOAT, &[-1]).encode_to_vec())),
        Just(field(13, &value("y", data_type::FLOAT, &[2]).encode_to_vec())),
    ];
    let inner = prop::collection::vec(inner, 0..12).prop_map(|fields| fields.concat());
    (inner, unknown(), unknown()).prop_map(|(graph, before, after)| {
        let name = field(2, b"producer");
        [before, name, field(7, &graph), after].concat()
    })
}

proptest! {
    #[test]
    fn what_was_not_edited_is_written_as_it_was_read(bytes in odd_model()) {
        prop_assert_eq!(written(&read(&bytes)), bytes);
    }

    #[test]
    fn an_edit_changes_what_was_edited_and_keeps_what_is_unknown(bytes in odd_model(), name in "[a-z]{1,9}") {
        let mut graph = read(&bytes);
        let before = graph.clone();
        for part in &mut graph.nodes {
            part.edit().name = text(&name);
        }
        let after = read(&written(&graph));
        prop_assert_eq!(after.nodes.len(), before.nodes.len());
        for (after, before) in after.nodes.iter().zip(&before.nodes) {
            let expected = NodeProto { name: text(&name), ..(**before).clone() };
            prop_assert_eq!(&**after, &expected);
        }
        prop_assert_eq!(after.frame(), before.frame());
        prop_assert_eq!(after.model(), before.model());
        let weights = |graph: &Graph| graph.counts().weights;
        prop_assert_eq!(weights(&after), weights(&before));
        // Back again, and nothing is different but the order of fields inside the edited nodes.
        let twice = read(&written(&after));
        prop_assert_eq!(written(&twice), written(&after));
    }

    #[test]
    fn weights_survive_an_edit_of_their_tensor(bytes in odd_model()) {
        let mut graph = read(&bytes);
        let before: Vec<TensorProto> = graph.initializers.iter().map(|part| (**part).clone()).collect();
        for part in &mut graph.initializers {
            part.edit().doc_string = text("edited");
        }
        let after = read(&written(&graph));
        for (after, before) in after.initializers.iter().zip(&before) {
            prop_assert_eq!(after.doc_string(), "edited");
            prop_assert_eq!(&after.unknown, &before.unknown);
            prop_assert_eq!(&after.raw_data, &before.raw_data);
            prop_assert_eq!(&after.float_data, &before.float_data);
            let sizes = |tensor: &TensorProto| {
                tensor.located.iter().map(|located| (located.field, located.length)).collect::<Vec<_>>()
            };
            prop_assert_eq!(sizes(after), sizes(before));
        }
    }
}

#[test]
fn only_the_edited_node_has_other_bytes() {
    let nodes = vec![node("Neg", &["x"], &["a"]), node("Abs", &["a"], &["b"]), node("Neg", &["b"], &["y"])];
    let bytes = model(graph_of(nodes, vec![zeros("w", &[4])])).encode_to_vec();
    let mut graph = read(&bytes);
    graph.nodes[1].edit().op_type = text("Exp");
    assert!(!graph.nodes[1].is_untouched() && graph.nodes[0].is_untouched());
    let after = written(&graph);
    assert_eq!(after.len(), bytes.len(), "the new name is as long as the old one");
    let place = bytes.windows(3).position(|three| three == b"Abs").expect("it is there");
    let mut expected = bytes;
    expected[place..place + 3].copy_from_slice(b"Exp");
    assert_eq!(after, expected);
}

#[test]
fn new_nodes_stand_where_the_list_has_them_and_removed_ones_are_gone() {
    let nodes = vec![node("Neg", &["x"], &["a"]), node("Abs", &["a"], &["y"])];
    let mut graph = read(&model(graph_of(nodes, vec![])).encode_to_vec());
    graph.nodes.insert(1, Part::new(node("Exp", &["a"], &["b"])));
    graph.nodes[2].edit().input[0] = "b".to_owned();
    graph.nodes.push(Part::new(node("Log", &["y"], &["z"])));
    graph.initializers.push(Part::new(zeros("w", &[2])));
    let names = |graph: &Graph| graph.nodes.iter().map(|node| node.op_type().to_owned()).collect::<Vec<_>>();
    let again = read(&written(&graph));
    assert_eq!(names(&again), ["Neg", "Exp", "Abs", "Log"]);
    assert_eq!(again.initializers.len(), 1);
    graph.nodes.swap(0, 3);
    graph.nodes.remove(1);
    assert_eq!(names(&read(&written(&graph))), ["Log", "Abs", "Neg"]);
}

#[test]
fn the_model_around_the_graph_can_be_edited() {
    let mut graph = read(&model(graph_of(vec![node("Neg", &["x"], &["y"])], vec![])).encode_to_vec());
    assert_eq!(graph.operator_set("ai.onnx"), Some(21));
    assert_eq!(graph.operator_set("com.microsoft"), Some(1));
    assert_eq!(graph.operator_set("elsewhere"), None);
    graph.edit_model().producer_name = text("somebody else");
    let again = read(&written(&graph));
    assert_eq!(again.model().producer_name(), "somebody else");
    assert_eq!(again.nodes.len(), 1);
}

#[test]
fn a_rewritten_graph_refers_to_the_weights_of_its_original() {
    let numbers: Vec<f32> = (0..2_000).map(|number| number as f32).collect();
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let tensors = vec![
        TensorProto { raw_data: Some(raw.clone()), ..zeros("raw", &[2_000]) },
        TensorProto { raw_data: None, float_data: numbers, ..zeros("listed", &[2_000]) },
        TensorProto {
            raw_data: None,
            int32_data: vec![1; 3_000],
            data_type: Some(data_type::UINT8),
            ..zeros("bytes", &[3_000])
        },
        zeros("small", &[4]),
    ];
    let tensors = tensors.into_iter().map(|tensor| {
        let dims = tensor.dims.clone();
        TensorProto { dims, ..tensor }
    });
    let names = ["raw", "listed", "small"];
    let mut nodes: Vec<_> =
        names.iter().map(|name| node("Identity", &[name], &[&format!("{name}_out")])).collect();
    nodes.push(node("Identity", &["bytes"], &["y"]));
    let folder = Folder::new(&model(graph_of(nodes, tensors.collect())));
    let original = std::fs::read(folder.path("model.onnx")).expect("read");
    let graph = folder.open();
    let target = folder.path("model.hearth.onnx");
    graph.write(&target, Weights::Refer).expect("it is written");
    assert_eq!(std::fs::read(folder.path("model.onnx")).expect("read"), original, "the original stays");
    assert!(!folder.path("model.hearth.onnx.part").exists());
    let report = preflight::check(&target, &Limits::default()).expect("it passes");
    assert_eq!(report.files, ["model.onnx"]);
    let rewritten = Graph::open(&target, &Limits::default()).expect("it is read");
    let reference = |name: &str| {
        let tensor = rewritten.initializers.iter().find(|tensor| tensor.name() == name).expect("it is there");
        let entries = tensor.external_data.iter().map(|entry| (entry.key(), entry.value()));
        let entries: std::collections::HashMap<_, _> = entries.collect();
        let number = |key: &str| entries.get(key)?.parse::<usize>().ok();
        entries.get("location").map(|file| (*file, number("offset"), number("length")))
    };
    for name in ["raw", "listed"] {
        let (file, offset, length) = reference(name).expect("it refers to the original");
        assert_eq!(file, "model.onnx");
        let start = offset.expect("an offset");
        assert!(original[start..start + length.expect("a length")] == raw[..], "{name}");
    }
    assert_eq!(reference("bytes"), None, "its numbers lie in another form there");
    assert_eq!(reference("small"), None, "shapes and scalars stay where runtimes look for them");
    // A graph that refers to another is itself written without loss.
    let bytes = std::fs::read(&target).expect("read");
    assert_eq!(rewritten.to_bytes(Weights::Refer).expect("it is written"), bytes);
}

#[test]
fn a_graph_that_refers_to_its_original_lies_beside_it() {
    let folder = Folder::new(&model(graph_of(vec![node("Neg", &["x"], &["y"])], vec![])));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let graph = folder.open();
    let error =
        graph.write(&elsewhere.path().join("model.onnx"), Weights::Refer).expect_err("it is elsewhere");
    assert!(matches!(error, Error::NotBeside { .. }), "{error}");
    graph
        .write(&elsewhere.path().join("model.onnx"), Weights::Embed)
        .expect("with its weights it may go anywhere");
    let error = graph.write(&elsewhere.path().join("no/folder.onnx"), Weights::Embed).expect_err("no folder");
    assert!(matches!(error, Error::File { doing: "write", .. }), "{error}");
}

#[test]
fn an_unknown_field_of_a_touched_attribute_stays() {
    let attribute = [int("k", 1).encode_to_vec(), field(777, b"kept")].concat();
    let one = [node("Neg", &["x"], &["y"]).encode_to_vec(), field(5, &attribute)].concat();
    let mut graph = read(&field(7, &field(1, &one)));
    let touched: &mut AttributeProto = &mut graph.nodes[0].edit().attribute[0];
    touched.i = Some(2);
    let after = written(&graph);
    assert!(after.windows(4).any(|four| four == b"kept"));
    assert_eq!(read(&after).nodes[0].attribute[0].i, Some(2));
}
