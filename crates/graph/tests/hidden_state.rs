//! The last hidden state becomes an output, whatever else was done to the graph, or the reason is told.

mod support;

use std::path::Path;

use graph::proto::tensor_shape_proto::dimension;
use graph::proto::{ModelProto, NodeProto, data_type, type_proto};
use graph::rewrite::hidden_state::{self, HiddenStateReport, OUTPUT, Refusal};
use graph::rewrite::last_token::{self, LastTokenReport};
use graph::{Graph, Limits, Weights};
use prost::Message;
use support::{again, ember, fixtures, graph_of, int, model, node, value, whole, with, zeros};

#[test]
fn every_real_export_gives_its_hidden_state_before_and_after_its_logits_were_cut() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let name = path.display();
        let open = || Graph::open(&path, &Limits::default()).expect("it is read");
        let whole = hidden_state::run(open());
        let HiddenStateReport::Added { value } = &whole.report else { panic!("{name}: {}", whole.report) };
        assert!(whole.report.changed());
        let graph = again(&whole.graph);
        let output = graph.outputs.last().expect("an output");
        assert_eq!(output.name(), OUTPUT);
        let Some(type_proto::Value::TensorType(tensor)) =
            output.r#type.as_ref().and_then(|described| described.value.as_ref())
        else {
            panic!("{name}: no tensor")
        };
        assert_eq!(tensor.elem_type, Some(data_type::FLOAT), "{name}");
        let dimensions = tensor.shape.as_ref().expect("a shape").dim.iter().map(|size| size.value.clone());
        let dimensions: Vec<_> = dimensions.map(|size| size.expect("a size")).collect();
        assert_eq!(dimensions.len(), 3, "{name}");
        let width = if path == ember() { 256 } else { 64 };
        assert_eq!(dimensions[2], dimension::Value::DimValue(width), "{name}");
        assert!(matches!(dimensions[1], dimension::Value::DimParam(_)), "{name}: as many as are read");
        // Cut first or cut afterwards: the output is the same value with all positions.
        let cut = hidden_state::run(last_token::run(open()).graph);
        assert_eq!(cut.report, HiddenStateReport::Added { value: value.clone() }, "{name}");
        again(&cut.graph);
        let later = last_token::run(graph);
        assert!(!matches!(later.report, LastTokenReport::Refused(_)), "{name}: {:?}", later.report);
        let later = again(&later.graph);
        let bytes = later.to_bytes(Weights::Embed).expect("it is written");
        let twice = hidden_state::run(later);
        assert_eq!(twice.report, HiddenStateReport::AlreadyThere);
        assert!(!twice.report.changed());
        assert_eq!(twice.graph.to_bytes(Weights::Embed).expect("it is written"), bytes, "{name}");
    }
}

/// A graph whose logits are made by `nodes` from the hidden state `h`.
fn headed(nodes: Vec<NodeProto>) -> ModelProto {
    let mut all = vec![node("Gather", &["table", "input_ids"], &["x"]), node("Neg", &["x"], &["h"])];
    all.extend(nodes);
    let tensors = vec![zeros("table", &[8, 4]), zeros("w", &[4, 8]), whole("last", &[], &[-1])];
    let mut graph = graph_of(all, tensors);
    graph.input = vec![value("input_ids", data_type::INT64, &[-1, -1])];
    graph.output = vec![value("logits", data_type::FLOAT, &[-1, -1, 8])];
    model(graph)
}

fn read(model: &ModelProto) -> Graph {
    Graph::from_bytes(Path::new("model.onnx"), model.encode_to_vec(), &Limits::default()).expect("a model")
}

#[test]
fn the_table_of_a_tied_model_tells_the_width() {
    let tied = headed(vec![
        node("Transpose", &["table"], &["turned"]),
        node("MatMul", &["h", "turned"], &["logits"]),
    ]);
    let rewritten = hidden_state::run(read(&tied));
    assert_eq!(rewritten.report, HiddenStateReport::Added { value: "h".to_owned() });
}

#[test]
fn graphs_of_another_form_are_left_with_the_reason() {
    let refusal = |model: &ModelProto| {
        let graph = read(model);
        let before = graph.to_bytes(Weights::Embed).expect("it is written");
        let rewritten = hidden_state::run(graph);
        let HiddenStateReport::Refused(refusal) = &rewritten.report else { panic!("{}", rewritten.report) };
        assert!(!rewritten.report.changed());
        assert!(rewritten.report.to_string().starts_with("refused: "), "{}", rewritten.report);
        assert_eq!(rewritten.graph.to_bytes(Weights::Embed).expect("it is written"), before);
        refusal.clone()
    };
    let product = |input| node("MatMul", &[input, "w"], &["logits"]);
    let mut kept = headed(vec![product("h")]);
    kept.graph.as_mut().expect("a graph").input.push(value("num_logits_to_keep", data_type::INT64, &[]));
    let chosen = last_token::Refusal::ChosenByInput("num_logits_to_keep".to_owned());
    assert_eq!(refusal(&kept), Refusal::Head(chosen));
    let softened = headed(vec![node("MatMul", &["h", "w"], &["raw"]), node("Tanh", &["raw"], &["logits"])]);
    let no_product = last_token::Refusal::NoProduct("`Tanh`".to_owned());
    assert_eq!(refusal(&softened), Refusal::Head(no_product));
    let other_axis = with(node("Gather", &["h", "last"], &["one"]), int("axis", 2));
    let other_axis = headed(vec![other_axis, product("one")]);
    let some = Refusal::SomePositions { value: "one".to_owned(), operator: "Gather".to_owned() };
    assert_eq!(refusal(&other_axis), some);
    let made = headed(vec![node("Neg", &["w"], &["made"]), node("MatMul", &["h", "made"], &["logits"])]);
    assert_eq!(refusal(&made), Refusal::UnknownWidth("h".to_owned()));
    let mut nameless = headed(vec![product("h")]);
    nameless.graph.as_mut().expect("a graph").input = vec![value("ids", data_type::INT64, &[-1, -1])];
    assert_eq!(refusal(&nameless), Refusal::NoInputIds);
    let taken = headed(vec![node("Neg", &["h"], &[OUTPUT]), product("h")]);
    assert_eq!(refusal(&taken), Refusal::NameTaken);
}
