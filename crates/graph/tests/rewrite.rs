//! The passes change what they are meant to change, say so, and change nothing the second time.

mod support;

use std::path::Path;

use graph::proto::{ModelProto, NodeProto, TensorProto, data_type};
use graph::rewrite::accuracy::{self, Outcome, SelfTest};
use graph::rewrite::last_token::{self, LastTokenReport, Refusal};
use graph::{Graph, Limits, Weights};
use prost::Message;
use support::{again, bytes, ember, fixtures, graph_of, int, kernel, model, node, value, with, zeros};

fn read(model: &ModelProto) -> Graph {
    Graph::from_bytes(Path::new("model.onnx"), model.encode_to_vec(), &Limits::default()).expect("a model")
}

/// A product of 4-bit weights.
fn product(name: &str, output: &str, extra: &[&str]) -> NodeProto {
    let given = [("K", 32), ("N", 8), ("bits", 4), ("block_size", 32)];
    let mut inputs = vec!["x", "B", "scales"];
    inputs.extend_from_slice(extra);
    NodeProto { name: support::text(name), ..kernel("MatMulNBits", &inputs, &[output], &given) }
}

fn weights() -> Vec<TensorProto> {
    vec![bytes("B", &[8, 1, 16]), zeros("scales", &[8]), bytes("points", &[8])]
}

#[test]
fn unset_levels_become_four_and_others_stay() {
    let nodes = vec![
        product("unset", "a", &[]),
        with(product("zero", "b", &[""]), int("accuracy_level", 0)),
        with(product("set", "c", &[]), int("accuracy_level", 1)),
        product("points", "d", &["points"]),
        node("Neg", &["d"], &["y"]),
    ];
    let model = model(graph_of(nodes, weights()));
    let outcomes = |self_test| {
        let rewritten = accuracy::run(read(&model), self_test);
        (rewritten.report.products.clone(), again(&rewritten.graph), rewritten.report.raised())
    };
    let level = |graph: &Graph, index: usize| {
        graph.nodes[index]
            .attribute
            .iter()
            .find(|given| given.name() == "accuracy_level")
            .map(|given| given.i())
    };
    let (products, graph, raised) = outcomes(SelfTest::NotPassed);
    let named = |name: &str, outcome| (name.to_owned(), outcome);
    assert_eq!(
        products,
        [
            named("unset", Outcome::Raised),
            named("zero", Outcome::Raised),
            named("set", Outcome::AlreadySet(1)),
            named("points", Outcome::LeftZeroPoints),
        ]
    );
    assert_eq!(raised, 2);
    assert_eq!([0, 1, 2, 3].map(|index| level(&graph, index)), [Some(4), Some(4), Some(1), None]);
    let (products, graph, _) = outcomes(SelfTest::Passed);
    assert_eq!(products[3], named("points", Outcome::Raised));
    assert_eq!(level(&graph, 3), Some(4));
    // Once more, and there is nothing left to do.
    let bytes = graph.to_bytes(Weights::Embed).expect("it is written");
    let twice = accuracy::run(graph, SelfTest::Passed);
    assert_eq!(twice.report.raised(), 0);
    assert_eq!(twice.graph.to_bytes(Weights::Embed).expect("it is written"), bytes);
}

#[test]
fn every_product_of_a_real_export_is_raised_once() {
    for path in fixtures().unwrap_or_default() {
        let graph = Graph::open(&path, &Limits::default()).expect("it is read");
        let products = graph.nodes.iter().filter(|node| node.op_type() == "MatMulNBits").count();
        let unset = path.to_string_lossy().contains("concat");
        let rewritten = accuracy::run(graph, SelfTest::NotPassed);
        assert_eq!(rewritten.report.products.len(), products);
        assert_eq!(rewritten.report.raised(), if unset { products } else { 0 }, "{}", path.display());
        again(&rewritten.graph);
    }
}

#[test]
fn real_exports_give_the_logits_of_the_last_position() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let graph = Graph::open(&path, &Limits::default()).expect("it is read");
        let nodes = graph.nodes.len();
        let rewritten = last_token::run(graph);
        if path.to_string_lossy().contains("pruned") {
            assert_eq!(rewritten.report, LastTokenReport::AlreadyShort);
            continue;
        }
        let LastTokenReport::Inserted { product } = &rewritten.report else {
            panic!("{}: {:?}", path.display(), rewritten.report)
        };
        assert!(product.contains("lm_head"), "{product}");
        let short = again(&rewritten.graph);
        assert_eq!(short.nodes.len(), nodes + 1);
        let gather =
            short.nodes.iter().position(|node| node.name() == "hearth/last_token").expect("it is there");
        let made = short.nodes[gather].output[0].clone();
        let readers: Vec<_> = short.nodes.iter().filter(|node| node.input.contains(&made)).collect();
        assert_eq!(readers.len(), 1, "only the logits lose their rows");
        let bytes = short.to_bytes(Weights::Embed).expect("it is written");
        let twice = last_token::run(short);
        assert_eq!(twice.report, LastTokenReport::AlreadyShort);
        assert_eq!(twice.graph.to_bytes(Weights::Embed).expect("it is written"), bytes);
    }
}

/// A graph whose logits are made by `nodes` from the hidden state `h`.
fn headed(nodes: Vec<NodeProto>) -> ModelProto {
    let mut all = vec![node("Neg", &["x"], &["h"])];
    all.extend(nodes);
    let mut graph = graph_of(all, vec![zeros("w", &[4, 8])]);
    graph.input = vec![value("x", data_type::FLOAT, &[-1, -1, 4])];
    graph.output = vec![value("logits", data_type::FLOAT, &[-1, -1, 8])];
    model(graph)
}

#[test]
fn graphs_whose_logits_are_of_another_form_are_left_with_the_reason() {
    let refusal = |model: &ModelProto| {
        let graph = read(model);
        let before = graph.to_bytes(Weights::Embed).expect("it is written");
        let rewritten = last_token::run(graph);
        let LastTokenReport::Refused(refusal) = rewritten.report else { panic!("{:?}", rewritten.report) };
        assert_eq!(rewritten.graph.to_bytes(Weights::Embed).expect("it is written"), before);
        refusal
    };
    let head = || node("MatMul", &["h", "w"], &["logits"]);
    let good = headed(vec![head()]);
    assert!(matches!(last_token::run(read(&good)).report, LastTokenReport::Inserted { .. }));
    let mut kept = good.clone();
    kept.graph.as_mut().expect("a graph").input.push(value("num_logits_to_keep", data_type::INT64, &[]));
    assert_eq!(refusal(&kept), Refusal::ChosenByInput("num_logits_to_keep".to_owned()));
    let mut hidden = good.clone();
    hidden.graph.as_mut().expect("a graph").output.push(value("h", data_type::FLOAT, &[-1, -1, 4]));
    assert_eq!(refusal(&hidden), Refusal::HiddenIsOutput("h".to_owned()));
    let softened = headed(vec![node("MatMul", &["h", "w"], &["raw"]), node("Tanh", &["raw"], &["logits"])]);
    assert_eq!(refusal(&softened), Refusal::NoProduct("`Tanh`".to_owned()));
    let read_twice = headed(vec![head(), node("Neg", &["logits"], &["other"])]);
    assert_eq!(refusal(&read_twice), Refusal::ReadElsewhere("logits".to_owned()));
    let mut flat = good.clone();
    flat.graph.as_mut().expect("a graph").output = vec![value("logits", data_type::FLOAT, &[-1, 8])];
    assert_eq!(refusal(&flat), Refusal::NoLogits);
    let mut none = good.clone();
    none.graph.as_mut().expect("a graph").output = vec![value("h", data_type::FLOAT, &[-1, -1, 4])];
    assert_eq!(refusal(&none), Refusal::NoLogits);
    let taken = headed(vec![node("Neg", &["h"], &["hearth/last_token/hidden"]), head()]);
    assert_eq!(refusal(&taken), Refusal::NameTaken("hearth/last_token/hidden".to_owned()));
}
