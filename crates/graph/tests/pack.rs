//! Products that read the same value become one: the bytes of its weights are those of the parts, and every
//! reader gets its columns.

mod support;

use std::fs;
use std::io::ErrorKind;

use graph::proto::{ModelProto, NodeProto, TensorProto, data_type};
use graph::rewrite::pack::{self, Outcome, PackReport, Refusal};
use graph::{Error, Graph, Limits, Weights};
use support::{
    Folder, again, ember, fixtures, graph_of, int, kernel, model, node, outside, text, value, with, zeros,
};

const FILE: &str = "model.packed.onnx_data";

/// Bytes that differ from place to place and from tensor to tensor.
fn pattern(name: &str, dims: &[i64], kind: i32) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize * if kind == data_type::FLOAT { 4 } else { 1 };
    let seed = name.bytes().map(usize::from).sum::<usize>();
    let raw = (0..count).map(|place| (place * 7 + seed * 31) as u8 & 0x3f).collect();
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(kind),
        raw_data: Some(raw),
        ..Default::default()
    }
}

fn product(name: &str, columns: i64) -> NodeProto {
    let given = [("K", 64), ("N", columns), ("bits", 4), ("block_size", 32)];
    let inputs = ["x".to_owned(), format!("{name}_B"), format!("{name}_scales")];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    NodeProto { name: text(name), ..kernel("MatMulNBits", &inputs, &[&format!("{name}_out")], &given) }
}

fn weights(name: &str, columns: i64) -> Vec<TensorProto> {
    vec![
        pattern(&format!("{name}_B"), &[columns, 2, 16], data_type::UINT8),
        pattern(&format!("{name}_scales"), &[columns, 2], data_type::FLOAT),
    ]
}

/// Two products of different widths, and what reads them.
fn pair() -> (Vec<NodeProto>, Vec<TensorProto>) {
    let nodes = vec![
        product("gate", 24),
        product("up", 8),
        node("Neg", &["gate_out"], &["left"]),
        node("Neg", &["up_out"], &["right"]),
        with(node("Concat", &["left", "right"], &["y"]), int("axis", -1)),
    ];
    (nodes, [weights("gate", 24), weights("up", 8)].concat())
}

fn of((nodes, tensors): (Vec<NodeProto>, Vec<TensorProto>)) -> ModelProto {
    let mut graph = graph_of(nodes, tensors);
    graph.input = vec![value("x", data_type::FLOAT, &[-1, -1, 64])];
    graph.output = vec![value("y", data_type::FLOAT, &[-1, -1, -1])];
    model(graph)
}

/// The packed model in `folder`, read again, and the report.
fn packed(folder: &Folder) -> (Graph, PackReport) {
    let rewritten = pack::run(folder.open(), FILE);
    let path = folder.path("packed.onnx");
    rewritten.graph.write(&path, Weights::Refer).expect("it is written");
    let report = graph::preflight::check(&path, &Limits::default()).expect("it passes");
    assert!(report.files.contains(&FILE.to_owned()), "{:?}", report.files);
    (Graph::open(&path, &Limits::default()).expect("it is read"), rewritten.report)
}

/// The bytes of the initializer `name`, which lies in the new file.
fn bytes(folder: &Folder, graph: &Graph, name: &str) -> Vec<u8> {
    let tensor = graph.initializers.iter().find(|tensor| tensor.name() == name).expect(name);
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).expect(key).value();
    assert_eq!(entry("location"), FILE);
    let (offset, length): (usize, usize) =
        (entry("offset").parse().expect("a number"), entry("length").parse().expect("a number"));
    assert_eq!(offset % 64, 0, "weights are aligned");
    fs::read(folder.path(FILE)).expect("the file is there")[offset..offset + length].to_vec()
}

fn joined(names: &[&str], tensors: &[TensorProto]) -> Vec<u8> {
    let raw = |name: &&str| {
        let tensor = tensors.iter().find(|tensor| tensor.name() == *name).expect("the tensor");
        tensor.raw_data.clone().expect("raw bytes")
    };
    names.iter().flat_map(raw).collect()
}

fn operators(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.op_type()).collect()
}

#[test]
fn weights_are_joined_column_behind_column_and_a_split_serves_the_readers() {
    let (mut nodes, mut tensors) = pair();
    for (node, name, columns) in [(0, "gate", 24), (1, "up", 8)] {
        nodes[node].input.push(format!("{name}_points"));
        tensors.push(pattern(&format!("{name}_points"), &[columns], data_type::UINT8));
    }
    let folder = Folder::new(&of((nodes, tensors.clone())));
    let (graph, report) = packed(&folder);
    assert_eq!(report.groups.len(), 1);
    assert_eq!(report.groups[0].products, ["gate", "up"]);
    assert_eq!(report.groups[0].outcome, Outcome::Split);
    assert_eq!(report.bytes, fs::metadata(folder.path(FILE)).expect("the file is there").len());
    assert_eq!(operators(&graph), ["MatMulNBits", "Split", "Neg", "Neg", "Concat"]);
    let product = &graph.nodes[0];
    let columns = product.attribute.iter().find(|given| given.name() == "N").and_then(|given| given.i);
    assert_eq!(columns, Some(32));
    assert_eq!(graph.nodes[1].output, ["gate_out", "up_out"]);
    for (input, part) in [(1, "B"), (2, "scales"), (3, "points")] {
        let names = [format!("gate_{part}"), format!("up_{part}")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(bytes(&folder, &graph, &product.input[input]), joined(&names, &tensors), "{part}");
    }
    assert!(
        !graph.initializers.iter().any(|tensor| tensor.name().starts_with("gate")),
        "old weights are gone"
    );
    let before = graph.to_bytes(Weights::Embed).expect("it is written");
    let twice = pack::run(graph, "model.again.onnx_data");
    assert!(!twice.report.changed(), "{}", twice.report);
    assert_eq!(twice.graph.to_bytes(Weights::Embed).expect("it is written"), before);
}

#[test]
fn added_biases_become_part_of_the_product_where_every_product_has_one() {
    let biased = |both: bool| {
        let (mut nodes, mut tensors) = pair();
        for (name, columns, reader) in [("gate", 24, 2), ("up", 8, 3)] {
            if both || name == "gate" {
                let (output, sum) = (format!("{name}_out"), format!("{name}_sum"));
                nodes.push(node("Add", &[&format!("{name}_bias"), &output], &[&sum]));
                tensors.push(pattern(&format!("{name}_bias"), &[columns], data_type::FLOAT));
                nodes[reader].input[0] = sum;
            }
        }
        nodes.sort_by_key(|node| match node.op_type() {
            "MatMulNBits" => 0,
            "Add" => 1,
            "Neg" => 2,
            _ => 3,
        });
        (nodes, tensors)
    };
    let (nodes, tensors) = biased(true);
    let folder = Folder::new(&of((nodes, tensors.clone())));
    let (graph, _) = packed(&folder);
    assert_eq!(operators(&graph), ["MatMulNBits", "Split", "Neg", "Neg", "Concat"]);
    assert_eq!(graph.nodes[1].output, ["gate_sum", "up_sum"]);
    let bias = &graph.nodes[0].input[5];
    assert_eq!(graph.nodes[0].input[3..5], ["", ""]);
    assert_eq!(bytes(&folder, &graph, bias), joined(&["gate_bias", "up_bias"], &tensors));
    let folder = Folder::new(&of(biased(false)));
    let (graph, report) = packed(&folder);
    assert_eq!(report.groups[0].outcome, Outcome::Split);
    assert_eq!(operators(&graph), ["MatMulNBits", "Split", "Add", "Neg", "Neg", "Concat"]);
}

/// Queries, keys and values that attention reads, the values first in the file.
fn attended(change: impl Fn(&mut NodeProto)) -> ModelProto {
    let heads = [("num_heads", 2), ("kv_num_heads", 1), ("do_rotary", 1)];
    let inputs = ["q_out", "k_out", "v_out", "past_k", "past_v", "lens", "total", "cos", "sin"];
    let mut attention = kernel("GroupQueryAttention", &inputs, &["y", "present_k", "present_v"], &heads);
    change(&mut attention);
    let nodes = vec![product("v", 16), product("q", 32), product("k", 16), attention];
    let mut tensors = [weights("v", 16), weights("q", 32), weights("k", 16)].concat();
    tensors.extend([zeros("cos", &[64, 8]), zeros("sin", &[64, 8]), zeros("norm", &[16])]);
    let mut model = of((nodes, tensors));
    let graph = model.graph.as_mut().expect("a graph");
    let past = |name| value(name, data_type::FLOAT, &[-1, 1, -1, 16]);
    graph.input.extend([past("past_k"), past("past_v")]);
    graph.input.push(value("lens", data_type::INT32, &[-1]));
    graph.input.push(value("total", data_type::INT32, &[]));
    graph.output.extend([past("present_k"), past("present_v")]);
    model
}

#[test]
fn attention_with_rotation_reads_the_packed_product_itself() {
    let folder = Folder::new(&attended(|_| {}));
    let (graph, report) = packed(&folder);
    assert_eq!(report.groups[0].outcome, Outcome::IntoAttention);
    assert_eq!(operators(&graph), ["MatMulNBits", "GroupQueryAttention"]);
    assert_eq!(graph.nodes[1].input[..3], [graph.nodes[0].output[0].as_str(), "", ""]);
    let tensors = [weights("q", 32), weights("k", 16), weights("v", 16)].concat();
    let found = bytes(&folder, &graph, &graph.nodes[0].input[1]);
    assert_eq!(found, joined(&["q_B", "k_B", "v_B"], &tensors), "in the order that attention wants");
}

#[test]
fn attention_that_rotates_outside_or_norms_inside_gets_its_parts_by_a_split() {
    let unrotated = |node: &mut NodeProto| node.attribute.retain(|given| given.name() != "do_rotary");
    let normed = |node: &mut NodeProto| {
        node.input.resize(14, String::new());
        node.input.extend(["norm".to_owned(), "norm".to_owned()]);
    };
    let odd_heads = |node: &mut NodeProto| node.attribute[0].i = Some(4);
    let changes: [&dyn Fn(&mut NodeProto); 3] = [&unrotated, &normed, &odd_heads];
    for change in changes {
        let folder = Folder::new(&attended(change));
        let (graph, report) = packed(&folder);
        assert_eq!(report.groups[0].outcome, Outcome::Split);
        assert_eq!(operators(&graph), ["MatMulNBits", "Split", "GroupQueryAttention"]);
        assert_eq!(graph.nodes[2].input[..3], ["q_out", "k_out", "v_out"]);
    }
}

#[test]
fn attention_that_reads_one_product_as_two_gets_its_parts_by_a_split() {
    // Keys are values as well, and what stands in the place of the past is the third product.
    let twice = |node: &mut NodeProto| {
        node.input[1] = "v_out".to_owned();
        node.input[3] = "k_out".to_owned();
    };
    let folder = Folder::new(&attended(twice));
    let (graph, report) = packed(&folder);
    assert_eq!(report.groups[0].outcome, Outcome::Split);
    assert_eq!(graph.nodes[2].input[..4], ["q_out", "v_out", "v_out", "k_out"]);
}

/// Why the model stays as it is, byte for byte.
fn refusal(model: &ModelProto, file: &str) -> Refusal {
    let folder = Folder::new(model);
    let before = fs::read(folder.path("model.onnx")).expect("it is there");
    let rewritten = pack::run(folder.open(), file);
    assert!(!rewritten.report.changed());
    assert_eq!(rewritten.graph.to_bytes(Weights::Embed).expect("it is written"), before);
    match &rewritten.report.groups.first().expect("a group").outcome {
        Outcome::Refused(refusal) => refusal.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn products_that_differ_stay_apart_with_the_reason() {
    let refused = |change: &dyn Fn(&mut Vec<NodeProto>, &mut Vec<TensorProto>)| {
        let (mut nodes, mut tensors) = pair();
        change(&mut nodes, &mut tensors);
        refusal(&of((nodes, tensors)), FILE)
    };
    let differs = |what: &str| Refusal::Differs { product: "up".to_owned(), what: what.to_owned() };
    let up = || "up".to_owned();
    assert_eq!(
        refused(&|nodes, _| nodes[1].attribute.push(int("accuracy_level", 4))),
        differs("accuracy_level")
    );
    assert_eq!(refused(&|nodes, _| nodes[1].attribute[2].i = Some(8)), differs("bits"));
    assert_eq!(refused(&|nodes, _| nodes[1].attribute[3].i = Some(64)), differs("block_size"));
    assert_eq!(
        refused(&|nodes, tensors| {
            nodes[1].input.push("points".to_owned());
            tensors.push(pattern("points", &[8], data_type::UINT8));
        }),
        differs("zero_points")
    );
    assert_eq!(
        refused(&|nodes, tensors| {
            nodes[1].input.extend([String::new(), String::new(), "bias".to_owned()]);
            tensors.push(pattern("bias", &[8], data_type::FLOAT));
        }),
        differs("bias")
    );
    assert_eq!(
        refused(&|nodes, tensors| {
            nodes[1].input.extend([String::new(), "order".to_owned()]);
            let order = (0..64).collect();
            tensors.push(TensorProto { int32_data: order, ..pattern("order", &[64], data_type::INT32) });
            tensors.last_mut().expect("it is there").raw_data = None;
        }),
        Refusal::GroupIndex { product: up() }
    );
    assert_eq!(
        refused(&|_, tensors| {
            tensors[3].data_type = Some(data_type::FLOAT16);
            tensors[3].raw_data.as_mut().expect("raw bytes").truncate(32);
        }),
        Refusal::Differs { product: up(), what: "the numbers of `scales`".to_owned() }
    );
    assert_eq!(
        refused(&|_, tensors| {
            tensors[2].dims = vec![4, 2, 16];
            tensors[2].raw_data.as_mut().expect("raw bytes").truncate(128);
        }),
        Refusal::Size { product: up(), input: "B" }
    );
    assert_eq!(
        refused(&|nodes, tensors| {
            nodes.insert(0, node("Neg", &["up_scales"], &["made"]));
            nodes[2].input[2] = "made".to_owned();
            tensors.swap(0, 1);
        }),
        Refusal::Unjoinable { product: up(), input: "scales" }
    );
}

#[test]
fn old_operator_sets_and_files_that_hold_weights_are_refused() {
    let mut old = of(pair());
    old.opset_import[0].version = Some(11);
    assert_eq!(refusal(&old, FILE), Refusal::OperatorSet(11));
    let (mut nodes, mut tensors) = pair();
    tensors.push(outside("held", &[("location", "Held.data"), ("length", "16")]));
    nodes.push(node("Neg", &["held"], &["unused"]));
    let holding = of((nodes, tensors));
    for name in ["held.data", "model.onnx", "../up.data", ""] {
        assert_eq!(refusal(&holding, name), Refusal::DataFile(name.to_owned()));
    }
}

#[test]
fn weights_that_cannot_be_read_fail_the_writing_and_leave_nothing_behind() {
    let (nodes, mut tensors) = pair();
    tensors[0].raw_data = None;
    tensors[0].data_location = Some(1);
    tensors[0].external_data = vec![support::entry("location", "gone.data"), support::entry("length", "768")];
    let folder = Folder::new(&of((nodes, tensors)));
    let rewritten = pack::run(folder.open(), FILE);
    assert!(rewritten.report.changed());
    let write = || rewritten.graph.write(&folder.path("packed.onnx"), Weights::Refer);
    let Err(Error::File { doing, path, .. }) = write() else { panic!("it is gone") };
    assert_eq!((doing, path), ("open", folder.path("gone.data")), "nothing is wrong with the new file");
    fs::write(folder.path("gone.data"), [0; 767]).expect("written");
    let Err(Error::File { doing, path, source }) = write() else { panic!("it ends too early") };
    assert_eq!((doing, path), ("read", folder.path("gone.data")));
    assert_eq!(source.kind(), ErrorKind::UnexpectedEof);
    fs::remove_file(folder.path("gone.data")).expect("removed");
    let folder = fs::read_dir(folder.path("")).expect("the folder is read");
    let names: Vec<_> = folder.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["model.onnx"]);
}

#[test]
fn every_layer_of_a_real_export_is_packed() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let name = path.display().to_string();
        let graph = Graph::open(&path, &Limits::default()).expect("it is read");
        let products = graph.nodes.iter().filter(|node| node.op_type() == "MatMulNBits").count();
        let rewritten = pack::run(graph, FILE);
        let report = &rewritten.report;
        // q/k/v and gate/up where they are apart, gate/up in builder exports, nothing in others.
        let expected = match () {
            () if products == 0 => 0,
            () if name.contains("concat") => 10,
            () if name.contains("ember") => 6,
            () => 5,
        };
        assert_eq!(report.packed(), expected, "{name}: {report}");
        assert_eq!(report.groups.len(), expected, "{name}: {report}");
        if expected == 0 {
            again(&rewritten.graph);
            assert_eq!(report.to_string(), "no two 4-bit products read the same value");
        }
    }
}

#[test]
fn new_nodes_take_no_name_that_a_node_has() {
    let (mut nodes, tensors) = pair();
    let folder = Folder::new(&of((nodes.clone(), tensors.clone())));
    let free = pack::run(folder.open(), FILE).graph;
    let first = free.nodes[0].name().to_owned();
    nodes[2].name = Some(first.clone());
    let (graph, report) = packed(&Folder::new(&of((nodes, tensors))));
    assert_eq!(report.packed(), 1);
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name()).collect();
    assert_eq!(names.iter().filter(|name| **name == first).count(), 1, "{names:?}");
}

#[test]
fn weights_that_many_groups_share_are_not_multiplied() {
    // Sixteen groups of products over different values, all with the weights of one.
    let (mut nodes, mut sums) = (Vec::new(), Vec::new());
    for group in 0..16 {
        let input = format!("x{group}");
        nodes.push(node("Neg", &["x"], &[&input]));
        for (name, columns) in [("gate", 24), ("up", 8)] {
            let mut product = product(name, columns);
            product.input[0].clone_from(&input);
            product.name = text(&format!("{name}{group}"));
            product.output = vec![format!("{name}_out{group}")];
            sums.push(node("ReduceSum", &[&product.output[0]], &[&format!("{name}_sum{group}")]));
            nodes.push(product);
        }
    }
    let names: Vec<String> = sums.iter().map(|node| node.output[0].clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    nodes.extend(sums);
    nodes.push(with(node("Concat", &names, &["y"]), int("axis", -1)));
    let tensors = [weights("gate", 24), weights("up", 8)].concat();
    let all: usize = tensors.iter().map(|tensor| tensor.raw_data.as_ref().expect("raw bytes").len()).sum();
    let folder = Folder::new(&of((nodes, tensors)));
    let report = pack::run(folder.open(), FILE).report;
    assert_eq!(report.packed(), 1, "{report:?}");
    assert!(report.bytes <= all as u64 + 64, "{} bytes of {all}", report.bytes);
    let refused = report.groups.iter().filter(|group| {
        matches!(&group.outcome, Outcome::Refused(Refusal::Multiplied { product }) if product.starts_with("gate"))
    });
    assert_eq!(refused.count(), 15, "{report:?}");
}
