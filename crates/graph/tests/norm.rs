//! RMS norms become one node in whatever form an export spells them, with the sum before them where that
//! loses nothing.

mod support;

use graph::proto::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_type, data_type};
use graph::rewrite::norm::{self, Apart, NormReport, Outcome, Refusal};
use graph::{Graph, Limits, Weights};
use prost::Message;
use support::{again, fixtures, graph_of, int, ints, model, node, text, value, whole, with, zeros};

const SKIP: &str = "SkipSimplifiedLayerNormalization";
const ALONE: &str = "SimplifiedLayerNormalization";

fn number(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(value.to_le_bytes().to_vec()),
        ..Default::default()
    }
}

/// How an export spells a norm.
#[derive(Clone, Copy)]
struct Form {
    square: &'static str,
    inverse: &'static str,
    casts: bool,
    axes_are_input: bool,
    weight_first: bool,
}

const OPTIMUM: Form =
    Form { square: "Pow", inverse: "Div", casts: true, axes_are_input: false, weight_first: true };

/// The nodes that norm `input` into `normed`.
fn spelt(input: &str, form: Form) -> Vec<NodeProto> {
    let to = |node| with(node, int("to", 1));
    let mut nodes = Vec::new();
    let x = if form.casts { "x32" } else { input };
    if form.casts {
        nodes.push(to(node("Cast", &[input], &[x])));
    }
    nodes.push(match form.square {
        "Pow" => node("Pow", &[x, "two"], &["square"]),
        _ => node("Mul", &[x, x], &["square"]),
    });
    nodes.push(match form.axes_are_input {
        true => node("ReduceMean", &["square", "axes"], &["mean"]),
        false => with(node("ReduceMean", &["square"], &["mean"]), ints("axes", &[-1])),
    });
    nodes.push(node("Add", &["mean", "epsilon"], &["shifted"]));
    nodes.push(node("Sqrt", &["shifted"], &["root"]));
    match form.inverse {
        "Div" => nodes.push(node("Div", &["one", "root"], &["inverse"])),
        "Reciprocal" => nodes.push(node("Reciprocal", &["root"], &["inverse"])),
        _ => {}
    }
    nodes.push(match form.inverse {
        "by root" => node("Div", &[x, "root"], &["scaled"]),
        _ => node("Mul", &["inverse", x], &["scaled"]),
    });
    let scaled = if form.casts { "scaled32" } else { "scaled" };
    if form.casts {
        nodes.push(to(node("Cast", &["scaled"], &[scaled])));
    }
    let inputs = if form.weight_first { ["weight", scaled] } else { [scaled, "weight"] };
    nodes.push(NodeProto { name: text("end"), ..node("Mul", &inputs, &["normed"]) });
    nodes
}

fn constants() -> Vec<TensorProto> {
    vec![
        zeros("table", &[8, 16]),
        zeros("w", &[16, 16]),
        zeros("weight", &[16]),
        zeros("other_weight", &[16]),
        number("two", 2.0),
        number("one", 1.0),
        number("epsilon", 1e-6),
        whole("axes", &[1], &[-1]),
        whole("flat", &[3], &[0, 0, -1]),
    ]
}

/// A residual, its sum with a product, the norm of the sum, and what goes on with both.
fn layer(norm: Vec<NodeProto>) -> ModelProto {
    let mut nodes = vec![
        node("Gather", &["table", "input_ids"], &["embedded"]),
        node("MatMul", &["embedded", "w"], &["projected"]),
        node("Add", &["embedded", "projected"], &["sum"]),
    ];
    nodes.extend(norm);
    nodes.push(node("MatMul", &["normed", "w"], &["down"]));
    nodes.push(node("Add", &["sum", "down"], &["y"]));
    built(nodes)
}

fn built(nodes: Vec<NodeProto>) -> ModelProto {
    let mut graph = graph_of(nodes, constants());
    graph.input = vec![value("input_ids", data_type::INT64, &[-1, -1])];
    graph.output = vec![value("y", data_type::FLOAT, &[-1, -1, -1])];
    let mut model = model(graph);
    model.opset_import.truncate(1);
    model
}

fn rewritten(model: &ModelProto) -> (Graph, NormReport) {
    let path = std::path::Path::new("model.onnx");
    let graph = Graph::from_bytes(path, model.encode_to_vec(), &Limits::default()).expect("a model");
    let rewritten = norm::run(graph);
    let graph = again(&rewritten.graph);
    let before = graph.to_bytes(Weights::Embed).expect("it is written");
    let twice = norm::run(graph.clone());
    assert!(!twice.report.changed(), "a second time: {}", twice.report);
    assert_eq!(twice.graph.to_bytes(Weights::Embed).expect("it is written"), before);
    (graph, rewritten.report)
}

fn operators(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.op_type()).collect()
}

#[test]
fn every_form_becomes_one_node_with_the_sum() {
    let forms = [
        OPTIMUM,
        Form { inverse: "Reciprocal", ..OPTIMUM },
        Form { inverse: "by root", casts: false, ..OPTIMUM },
        Form { square: "Mul", axes_are_input: true, weight_first: false, ..OPTIMUM },
        Form { casts: false, square: "Mul", weight_first: false, ..OPTIMUM },
    ];
    for form in forms {
        let mut model = layer(spelt("sum", form));
        if form.axes_are_input {
            model.opset_import[0].version = Some(18);
        }
        let (graph, report) = rewritten(&model);
        assert_eq!(report.norms, [("end".to_owned(), Outcome::WithSum)]);
        assert_eq!(report.with_sum(), 1);
        assert_eq!(operators(&graph).iter().filter(|name| **name == SKIP).count(), 1);
        let fused = graph.nodes.iter().find(|node| node.op_type() == SKIP).expect("it is there");
        assert_eq!(fused.input, ["embedded", "projected", "weight"]);
        assert_eq!(fused.output, ["normed", "", "", "sum"], "the residual goes on");
        assert_eq!(fused.attribute[0].f, Some(1e-6));
        assert_eq!(graph.operator_set("com.microsoft"), Some(1));
        // Nothing of the norm is left but the node, and a cast that others may read.
        assert!(graph.nodes.len() <= 5, "{:?}", operators(&graph));
    }
}

#[test]
fn a_norm_of_no_sum_is_fused_alone() {
    let norm = spelt("embedded", OPTIMUM);
    let mut nodes = vec![node("Gather", &["table", "input_ids"], &["embedded"])];
    nodes.extend(norm);
    nodes.push(node("Neg", &["normed"], &["y"]));
    let (graph, report) = rewritten(&built(nodes));
    assert_eq!(report.norms, [("end".to_owned(), Outcome::Alone(None))]);
    assert_eq!(operators(&graph), ["Gather", "Cast", ALONE, "Neg"]);
    assert_eq!(graph.nodes[2].input, ["x32", "weight"]);
}

#[test]
fn a_norm_that_is_one_node_already_takes_its_sum_in() {
    let attributes = vec![
        int("axis", -1),
        AttributeProto { r#type: Some(attribute_type::FLOAT), f: Some(1e-6), ..int("epsilon", 0) },
    ];
    let alone = NodeProto {
        name: text("end"),
        attribute: attributes,
        ..node(ALONE, &["sum", "weight"], &["normed"])
    };
    let (graph, report) = rewritten(&layer(vec![alone]));
    assert_eq!(report.norms, [("end".to_owned(), Outcome::WithSum)]);
    assert_eq!(operators(&graph), ["Gather", "MatMul", SKIP, "MatMul", "Add"]);
}

#[test]
fn sums_of_other_shapes_stay_apart() {
    // A bias in every row, and rows whose shape nobody knows.
    let biased = ["embedded", "other_weight"];
    let reshaped = ["embedded", "reshaped"];
    for terms in [biased, reshaped] {
        let mut nodes = vec![
            node("Gather", &["table", "input_ids"], &["embedded"]),
            node("Reshape", &["embedded", "flat"], &["reshaped"]),
            node("Add", &terms, &["sum"]),
        ];
        nodes.extend(spelt("sum", OPTIMUM));
        nodes.push(node("Add", &["normed", "reshaped"], &["y"]));
        let (graph, report) = rewritten(&built(nodes));
        let apart = Apart::OtherShapes("sum".to_owned());
        assert_eq!(report.norms, [("end".to_owned(), Outcome::Alone(Some(apart)))]);
        assert_eq!(operators(&graph), ["Gather", "Reshape", "Add", "Cast", ALONE, "Add"]);
    }
}

#[test]
fn norms_whose_inside_is_read_or_that_are_not_f32_stay_as_they_are() {
    let mut read = layer(spelt("sum", OPTIMUM));
    let graph = read.graph.as_mut().expect("a graph");
    graph.node.push(node("Neg", &["mean"], &["seen"]));
    graph.output.push(value("seen", data_type::FLOAT, &[-1, -1, 1]));
    let mut given = layer(spelt("sum", OPTIMUM));
    given.graph.as_mut().expect("a graph").output.push(value("mean", data_type::FLOAT, &[-1, -1, 1]));
    for model in [read, given] {
        let (graph, report) = rewritten(&model);
        let refusal = Refusal::ReadElsewhere("mean".to_owned());
        assert_eq!(report.norms, [("end".to_owned(), Outcome::Refused(refusal))]);
        assert!(!report.changed());
        assert_eq!(graph.nodes.len(), model.graph.as_ref().map_or(0, |graph| graph.node.len()));
    }
    let mut half = layer(spelt("sum", OPTIMUM));
    for node in &mut half.graph.as_mut().expect("a graph").node {
        node.attribute.iter_mut().filter(|given| given.name() == "to").for_each(|to| to.i = Some(10));
    }
    let (_, report) = rewritten(&half);
    assert_eq!(report.norms, [("end".to_owned(), Outcome::Refused(Refusal::NotF32))]);
    assert!(report.to_string().contains("not computed in f32"), "{report}");
}

#[test]
fn what_only_looks_like_a_norm_is_left_alone() {
    let change = |at: &str, change: &dyn Fn(&mut NodeProto)| {
        let mut nodes = spelt("sum", OPTIMUM);
        nodes.iter_mut().filter(|node| node.op_type() == at).for_each(change);
        rewritten(&layer(nodes)).1
    };
    assert!(change("ReduceMean", &|node| node.attribute[0].ints = vec![1]).norms.is_empty());
    assert!(change("Pow", &|node| node.input[1] = "one".to_owned()).norms.is_empty());
    assert!(change("Div", &|node| node.input[0] = "two".to_owned()).norms.is_empty());
    assert!(change("ReduceMean", &|node| node.attribute.push(int("keepdims", 0))).norms.is_empty());
}

#[test]
fn every_norm_of_a_real_export_takes_its_sum_in() {
    for path in fixtures().unwrap_or_default() {
        let name = path.display().to_string();
        let rewritten = norm::run(Graph::open(&path, &Limits::default()).expect("it is read"));
        let report = &rewritten.report;
        let found = (report.norms.len(), report.with_sum());
        let expected = match () {
            () if name.contains("gqa") => (0, 0),
            () if name.contains("f16") => (11, 0),
            () => (11, 10),
        };
        assert_eq!(found, expected, "{name}: {report}");
        assert_eq!(report.changed(), expected.1 > 0, "{name}: {report}");
        let graph = again(&rewritten.graph);
        let twice = norm::run(graph);
        assert!(!twice.report.changed(), "{name}: {}", twice.report);
    }
}
