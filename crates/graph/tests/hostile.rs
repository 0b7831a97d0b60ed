//! Graphs that no runtime should see, each refused for its own reason; and their harmless neighbours, which
//! pass.

mod support;

use graph::preflight::Problem;
use graph::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, Segment,
    SparseTensorProto, TensorProto, attribute_type, data_type,
};
use support::{
    bytes, constant, entry, graph_of, int, ints, is_too_large, kernel, model, node, of_nodes, passes,
    refuses, subgraph, tensor, text, value, whole, with, zeros,
};

fn of_tensor(tensor: TensorProto) -> ModelProto {
    model(graph_of(vec![node("Identity", &["w"], &["y"])], vec![TensorProto { name: text("w"), ..tensor }]))
}

fn is_attribute(problem: &Problem) -> bool {
    matches!(problem, Problem::Attribute { .. })
}

#[test]
fn tensors_whose_data_does_not_fit_their_shape() {
    let length = |problem: &Problem| matches!(problem, Problem::DataLength { .. });
    refuses(&of_tensor(TensorProto { raw_data: Some(vec![0; 15]), ..zeros("w", &[4]) }), length);
    refuses(&of_tensor(TensorProto { raw_data: None, ..zeros("w", &[4]) }), length);
    refuses(&of_tensor(whole("w", &[3], &[1, 2])), length);
    refuses(
        &of_tensor(TensorProto { data_type: Some(data_type::INT32), ..whole("w", &[2], &[1, 2]) }),
        |problem| matches!(problem, Problem::DataLength { .. }),
    );
    let four = TensorProto { data_type: Some(data_type::INT4), ..bytes("w", &[2]) };
    refuses(&of_tensor(TensorProto { dims: vec![5], ..four.clone() }), length);
    passes(&of_tensor(TensorProto { dims: vec![3], ..four }));
    passes(&of_tensor(whole("w", &[0], &[])));
    passes(&of_tensor(whole("w", &[], &[1])));
}

#[test]
fn shapes_whose_product_wraps_or_is_negative() {
    let huge = |dims: &[i64]| {
        of_tensor(TensorProto { dims: dims.to_vec(), raw_data: Some(vec![]), ..zeros("w", &[1]) })
    };
    refuses(&huge(&[1 << 32, 1 << 32]), is_too_large);
    refuses(&huge(&[i64::MAX, 2, 2]), is_too_large);
    refuses(&huge(&[1 << 33, 1 << 31, 0]), is_too_large);
    refuses(&huge(&[1 << 40]), is_too_large);
    refuses(&huge(&[-1]), |problem| *problem == Problem::NegativeDimension { size: -1 });
    refuses(&huge(&[i64::MIN, 2]), |problem| *problem == Problem::NegativeDimension { size: i64::MIN });
}

#[test]
fn element_types_that_nobody_knows_and_segments() {
    for number in [0, 27, 29, -1, 1000] {
        refuses(&of_tensor(TensorProto { data_type: Some(number), ..zeros("w", &[4]) }), |problem| {
            *problem == Problem::ElementType { number }
        });
    }
    let segment = Some(Segment { begin: Some(0), end: Some(4), ..Default::default() });
    refuses(&of_tensor(TensorProto { segment, ..zeros("w", &[4]) }), |problem| {
        *problem == Problem::Segmented
    });
}

#[test]
fn sparse_tensors_that_contradict_themselves_or_explode() {
    let sparse = |count: i64, indices: TensorProto, dims: &[i64]| {
        let mut graph = graph_of(vec![node("Identity", &["w"], &["y"])], vec![]);
        graph.sparse_initializer = vec![SparseTensorProto {
            values: Some(zeros("w", &[count])),
            indices: Some(indices),
            dims: dims.to_vec(),
            ..Default::default()
        }];
        model(graph)
    };
    passes(&sparse(2, whole("", &[2], &[0, 3]), &[4]));
    passes(&sparse(2, whole("", &[2, 2], &[0, 0, 1, 1]), &[2, 2]));
    let contradictory = |problem: &Problem| *problem == Problem::Sparse;
    refuses(&sparse(2, whole("", &[3], &[0, 1, 2]), &[4]), contradictory);
    refuses(&sparse(2, whole("", &[2, 3], &[0; 6]), &[2, 2]), contradictory);
    refuses(&sparse(2, zeros("", &[2]), &[4]), contradictory);
    refuses(&sparse(2, whole("", &[2], &[0, 1]), &[1 << 20, 1 << 20]), is_too_large);
    refuses(&sparse(2, whole("", &[2], &[0, 1]), &[1 << 40, 1 << 40]), is_too_large);
}

#[test]
fn inputs_and_values_of_impossible_size() {
    let mut graph = graph_of(vec![node("Identity", &["x"], &["y"])], vec![]);
    graph.input.push(value("z", data_type::FLOAT, &[1 << 32, 1 << 32]));
    refuses(&model(graph), is_too_large);
    let mut graph = graph_of(vec![node("SomethingNew", &["x"], &["y"])], vec![]);
    graph.value_info.push(value("y", data_type::FLOAT, &[1 << 30, 1 << 30]));
    refuses(&model(graph), is_too_large);
}

#[test]
fn bombs_in_subgraphs_and_functions() {
    let bomb = |input: &str| node("ConstantOfShape", &[input], &["y"]);
    let mut branch = graph_of(vec![constant("s", whole("", &[1], &[1 << 40])), bomb("s")], vec![]);
    branch.input.clear();
    let branches = with(node("If", &["c"], &["z"]), subgraph("then_branch", branch.clone()));
    let mut graph = graph_of(vec![with(branches, subgraph("else_branch", branch))], vec![]);
    graph.input.push(value("c", data_type::BOOL, &[]));
    refuses(&model(graph), is_too_large);
    // The size comes from the caller, as an input or as an attribute.
    let function = |nodes: Vec<NodeProto>, inputs: &[&str]| FunctionProto {
        name: text("F"),
        domain: text("local"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec!["y".to_owned()],
        attribute: vec!["size".to_owned()],
        node: nodes,
        ..Default::default()
    };
    let call = |inputs: &[&str]| NodeProto { domain: text("local"), ..node("F", inputs, &["z"]) };
    let given = |size: i64| {
        let mut model = of_nodes(vec![constant("s", whole("", &[1], &[size])), call(&["s"])]);
        model.functions = vec![function(vec![bomb("n")], &["n"])];
        model
    };
    refuses(&given(1 << 40), is_too_large);
    passes(&given(16));
    let reference = |name: &str| AttributeProto {
        name: text(name),
        ref_attr_name: text("size"),
        r#type: Some(attribute_type::INTS),
        ..Default::default()
    };
    let by_attribute = |size: i64| {
        let mut model = of_nodes(vec![with(call(&[]), ints("size", &[size]))]);
        let inner = with(node("Constant", &[], &["n"]), reference("value_ints"));
        model.functions = vec![function(vec![inner, bomb("n")], &[])];
        model
    };
    refuses(&by_attribute(1 << 40), is_too_large);
    passes(&by_attribute(16));
}

#[test]
fn domains_that_nobody_knows() {
    for domain in [
        "evil.ops",
        "com.microsoft.nchwc",
        "trt.plugins",
        "ai.onnx.contrib",
        "org.pytorch.aten",
        "COM.MICROSOFT",
    ] {
        let foreign = NodeProto { domain: text(domain), ..node("Anything", &["x"], &["y"]) };
        refuses(&of_nodes(vec![foreign.clone()]), |problem| {
            *problem == Problem::UnknownDomain { domain: domain.to_owned() }
        });
        let mut branch = graph_of(vec![foreign], vec![]);
        branch.input.clear();
        let mut graph =
            graph_of(vec![with(node("If", &["c"], &["z"]), subgraph("then_branch", branch))], vec![]);
        graph.input.push(value("c", data_type::BOOL, &[]));
        refuses(&model(graph), |problem| matches!(problem, Problem::UnknownDomain { .. }));
    }
    let spelled_out = NodeProto { domain: text("ai.onnx"), ..node("Identity", &["x"], &["y"]) };
    passes(&of_nodes(vec![spelled_out]));
}

#[test]
fn operators_that_load_code_or_files() {
    for operator in ["EPContext", "PythonOp", "PythonOpGrad", "TritonOp", "ATen", "YieldOp", "Snpe"] {
        let loader = kernel(operator, &["x"], &["y"], &[]);
        refuses(&of_nodes(vec![loader.clone()]), |problem| *problem == Problem::Loader);
        // A function of that name does not help: the runtime prefers the kernel.
        let harmless = shadow("com.microsoft", operator, &["a"], vec![node("Neg", &["a"], &["y"])]);
        let shadowed = ModelProto { functions: vec![harmless], ..of_nodes(vec![loader]) };
        refuses(&shadowed, |problem| *problem == Problem::Loader);
    }
    let mut settings = of_nodes(vec![node("Identity", &["x"], &["y"])]);
    settings.metadata_props = vec![entry("ort_config", "{}")];
    refuses(&settings, |problem| *problem == Problem::Settings { key: "ort_config".to_owned() });
}

#[test]
fn functions_that_call_themselves_or_explode() {
    let function = |name: &str, calls: &[&str]| FunctionProto {
        name: text(name),
        domain: text("local"),
        input: vec!["a".to_owned()],
        output: vec!["y0".to_owned()],
        node: calls
            .iter()
            .enumerate()
            .map(|(index, called)| {
                let domain = if *called == "Identity" { "" } else { "local" };
                NodeProto { domain: text(domain), ..node(called, &["a"], &[&format!("y{index}")]) }
            })
            .collect(),
        ..Default::default()
    };
    let calling = |functions: Vec<FunctionProto>| {
        let call = NodeProto { domain: text("local"), ..node("f0", &["x"], &["z"]) };
        ModelProto { functions, ..of_nodes(vec![call]) }
    };
    passes(&calling(vec![function("f0", &["f1"]), function("f1", &["Identity"])]));
    let recursion = |problem: &Problem| *problem == Problem::Recursion;
    refuses(&calling(vec![function("f0", &["f0"])]), recursion);
    refuses(&calling(vec![function("f0", &["f1"]), function("f1", &["f0"])]), recursion);
    let chain = |last: &str, width: usize, length: usize| {
        let names: Vec<String> = (0..length).map(|index| format!("f{index}")).collect();
        let next = |index: usize| names.get(index + 1).map_or(last, String::as_str);
        names.iter().enumerate().map(|(index, name)| function(name, &vec![next(index); width])).collect()
    };
    // Ten calls in each of ten functions are ten thousand million nodes.
    refuses(&calling(chain("Identity", 10, 10)), |problem| matches!(problem, Problem::Expansion { .. }));
    refuses(&calling(chain("Identity", 1, 1000)), |problem| matches!(problem, Problem::Depth { .. }));
    passes(&calling(chain("Identity", 2, 8)));
    // The same where each function was met before the one that calls it.
    let mut backwards = calling(chain("Identity", 1, 1000));
    let calls = (0..1000).rev().map(|index| NodeProto {
        domain: text("local"),
        ..node(&format!("f{index}"), &["x"], &[&format!("z{index}")])
    });
    backwards.graph.as_mut().expect("a graph").node = calls.collect();
    backwards.graph.as_mut().expect("a graph").output.clear();
    refuses(&backwards, |problem| matches!(problem, Problem::Depth { .. }));
    let twice = vec![function("f0", &["Identity"]), function("f0", &["Identity"])];
    refuses(&calling(twice), |problem| *problem == Problem::MadeTwice);
}

#[test]
fn attributes_that_occur_twice() {
    let twice = |problem: &Problem| matches!(problem, Problem::AttributeTwice { .. });
    let product = |given: &[(&str, i64)]| {
        let node = kernel("MatMulNBits", &["x", "B", "scales"], &["y"], given);
        model(graph_of(vec![node], vec![bytes("B", &[8, 2, 16]), zeros("scales", &[16])]))
    };
    let once = [("K", 64), ("N", 8), ("bits", 4), ("block_size", 32)];
    passes(&product(&once));
    refuses(&product(&[&once[..], &[("N", 1 << 30)]].concat()), twice);
    let heads = [("num_heads", 8), ("kv_num_heads", 2), ("num_heads", 0)];
    refuses(&of_nodes(vec![kernel("GroupQueryAttention", &["x"], &["y"], &heads)]), twice);
    let pads = with(with(node("Pad", &["x"], &["y"]), ints("pads", &[0; 4])), ints("pads", &[1 << 40; 4]));
    refuses(&of_nodes(vec![pads.clone()]), twice);
    // In a branch, and among the values that a function has of itself.
    let mut branch = graph_of(vec![pads], vec![]);
    branch.input.clear();
    let mut graph = graph_of(vec![with(node("If", &["c"], &["z"]), subgraph("then_branch", branch))], vec![]);
    graph.input.push(value("c", data_type::BOOL, &[]));
    refuses(&model(graph), twice);
    let function = FunctionProto {
        name: text("F"),
        domain: text("local"),
        attribute_proto: vec![int("size", 1), int("size", 1 << 40)],
        output: vec!["y".to_owned()],
        node: vec![constant("y", zeros("", &[1]))],
        ..Default::default()
    };
    let call = NodeProto { domain: text("local"), ..node("F", &[], &["z"]) };
    refuses(&ModelProto { functions: vec![function], ..of_nodes(vec![call]) }, twice);
}

#[test]
fn domains_that_are_imported_in_two_versions() {
    let set = |domain: &str, version| OperatorSetIdProto {
        domain: text(domain),
        version: Some(version),
        ..Default::default()
    };
    let importing = |sets: &[OperatorSetIdProto]| {
        let mut model = of_nodes(vec![node("Identity", &["x"], &["y"])]);
        model.opset_import = sets.to_vec();
        model
    };
    let twice = |problem: &Problem| matches!(problem, Problem::TwoVersions { .. });
    passes(&importing(&[set("", 17), set("com.microsoft", 1)]));
    passes(&importing(&[set("", 17), set("com.microsoft", 1), set("com.microsoft", 1), set("", 17)]));
    refuses(&importing(&[set("", 17), set("", 13)]), twice);
    refuses(&importing(&[set("", 17), set("ai.onnx", 1)]), twice);
    refuses(&importing(&[set("", 17), set("local", 1), set("local", 2)]), |problem| {
        *problem == Problem::TwoVersions { domain: "local".to_owned() }
    });
    let function = |sets: &[OperatorSetIdProto]| FunctionProto {
        name: text("F"),
        domain: text("local"),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("Identity", &["a"], &["b"])],
        opset_import: sets.to_vec(),
        ..Default::default()
    };
    let calling = |function| {
        let call = NodeProto { domain: text("local"), ..node("F", &["x"], &["y"]) };
        ModelProto { functions: vec![function], ..of_nodes(vec![call]) }
    };
    passes(&calling(function(&[set("", 17)])));
    refuses(&calling(function(&[set("", 17), set("", 6)])), twice);
}

/// A function of the model with the name of one of the runtime's operators, whose nodes read `a`.
fn shadow(domain: &str, name: &str, inputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: text(name),
        domain: text(domain),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec!["y".to_owned()],
        node: nodes,
        ..Default::default()
    }
}

#[test]
fn functions_with_the_names_of_operators() {
    let copy = || vec![node("Neg", &["a"], &["y"])];
    let with_function =
        |function: FunctionProto, model: ModelProto| ModelProto { functions: vec![function], ..model };
    // The kernel is what runs, whatever the function would have done.
    let given = [("K", 1 << 20), ("N", 1 << 20), ("bits", 4), ("block_size", 32)];
    let product = kernel("MatMulNBits", &["x", "B", "scales"], &["z"], &given);
    let product = model(graph_of(vec![product], vec![bytes("B", &[16]), zeros("scales", &[16])]));
    let function = shadow("com.microsoft", "MatMulNBits", &["a", "b", "c"], copy());
    refuses(&with_function(function, product), |problem| matches!(problem, Problem::WeightSize { .. }));
    let heads = [("num_heads", 0), ("kv_num_heads", 0)];
    let attention = of_nodes(vec![kernel("GroupQueryAttention", &["x"], &["z"], &heads)]);
    let function = shadow("com.microsoft", "GroupQueryAttention", &["a"], copy());
    refuses(&with_function(function, attention), is_attribute);
    let filled = |size: i64| {
        let size = constant("s", whole("", &[1], &[size]));
        of_nodes(vec![size, node("ConstantOfShape", &["s"], &["z"])])
    };
    for domain in ["", "ai.onnx"] {
        let function = shadow(domain, "ConstantOfShape", &["a"], copy());
        refuses(&with_function(function, filled(1 << 40)), is_too_large);
    }
    // Where the two say different things, neither is believed.
    let size = |size: i64| constant("y", whole("", &[1], &[size]));
    let copied = |made: i64| {
        let nodes = vec![
            constant("s", whole("", &[1], &[4])),
            node("Identity", &["s"], &["t"]),
            node("ConstantOfShape", &["t"], &["z"]),
        ];
        with_function(shadow("", "Identity", &["a"], vec![size(made)]), of_nodes(nodes))
    };
    refuses(&copied(1 << 40), |problem| *problem == Problem::Unfollowable);
    passes(&copied(4));
    // The branches of a node are looked at as well, where a function has the node's name.
    let mut branch = graph_of(
        vec![constant("s", whole("", &[1], &[1 << 40])), node("ConstantOfShape", &["s"], &["y"])],
        vec![],
    );
    branch.input.clear();
    let mut graph = graph_of(vec![with(node("If", &["c"], &["z"]), subgraph("then_branch", branch))], vec![]);
    graph.input.push(value("c", data_type::BOOL, &[]));
    refuses(&with_function(shadow("", "If", &["a"], copy()), model(graph)), is_too_large);
}

#[test]
fn functions_that_exporters_write_for_operators_pass() {
    // As they stand in files of newer operator sets, for runtimes that do not have the operator yet.
    let norm = shadow(
        "",
        "RMSNormalization",
        &["a", "weight"],
        vec![
            node("Mul", &["a", "a"], &["squares"]),
            node("ReduceMean", &["squares"], &["mean"]),
            node("Sqrt", &["mean"], &["root"]),
            node("Div", &["a", "root"], &["even"]),
            node("Mul", &["even", "weight"], &["y"]),
        ],
    );
    let attention = shadow(
        "",
        "Attention",
        &["q", "k", "v"],
        vec![
            with(node("Transpose", &["k"], &["turned"]), ints("perm", &[1, 0])),
            node("MatMul", &["q", "turned"], &["scores"]),
            node("Softmax", &["scores"], &["shares"]),
            node("MatMul", &["shares", "v"], &["y"]),
        ],
    );
    let nodes = vec![
        node("RMSNormalization", &["x", "w"], &["n"]),
        with(
            with(node("Attention", &["n", "n", "n"], &["z"]), int("q_num_heads", 1)),
            int("kv_num_heads", 1),
        ),
    ];
    let mut model = model(graph_of(nodes, vec![zeros("w", &[4])]));
    model.functions = vec![norm, attention];
    passes(&model);
}

#[test]
fn names_that_are_made_twice_or_never() {
    let twice = |problem: &Problem| *problem == Problem::MadeTwice;
    let never = |problem: &Problem| *problem == Problem::MadeNowhere;
    let identity = |from: &str, to: &str| node("Identity", &[from], &[to]);
    refuses(&of_nodes(vec![identity("x", "y"), identity("x", "y")]), twice);
    refuses(&of_nodes(vec![node("Split", &["x"], &["y", "y"])]), twice);
    refuses(&of_nodes(vec![identity("x", "x"), identity("x", "y")]), twice);
    let doubled = vec![zeros("w", &[1]), zeros("w", &[1])];
    refuses(&model(graph_of(vec![identity("w", "y")], doubled)), twice);
    refuses(&model(graph_of(vec![identity("w", "w"), identity("w", "y")], vec![zeros("w", &[1])])), twice);
    refuses(&of_nodes(vec![identity("nothing", "y")]), never);
    let mut graph = graph_of(vec![identity("x", "y")], vec![]);
    graph.output.push(value("nothing", data_type::FLOAT, &[-1]));
    refuses(&model(graph), never);
    // An initializer may be the default of an input, and an output may have no name.
    passes(&model(graph_of(vec![node("Dropout", &["x"], &["y", ""])], vec![zeros("x", &[1, 4])])));
}

#[test]
fn shapes_of_thousands_of_dimensions() {
    let rank = |problem: &Problem| matches!(problem, Problem::Rank { .. });
    refuses(&of_tensor(TensorProto { dims: vec![1; 65], ..zeros("w", &[1]) }), rank);
    passes(&of_tensor(TensorProto { dims: vec![1; 64], ..zeros("w", &[1]) }));
    let mut graph = graph_of(vec![node("Identity", &["x"], &["y"])], vec![]);
    graph.input.push(value("z", data_type::FLOAT, &[1; 1_000]));
    refuses(&model(graph), rank);
    let grown = |step: usize| {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        node("Unsqueeze", &[&from, "axes"], &[&to])
    };
    let mut nodes = vec![constant("axes", whole("", &[1], &[0])), constant("v0", zeros("", &[1]))];
    nodes.extend((0..70).map(grown));
    refuses(&of_nodes(nodes), rank);
}

#[test]
fn small_functions_that_read_large_attributes_again_and_again() {
    let reference = AttributeProto {
        name: text("value_ints"),
        ref_attr_name: text("size"),
        r#type: Some(attribute_type::INTS),
        ..Default::default()
    };
    let nodes =
        (0..10_000).map(|index| with(node("Constant", &[], &[&format!("y{index}")]), reference.clone()));
    let function = FunctionProto {
        name: text("F"),
        domain: text("local"),
        output: vec!["y0".to_owned()],
        attribute: vec!["size".to_owned()],
        node: nodes.collect(),
        ..Default::default()
    };
    let call = NodeProto { domain: text("local"), ..node("F", &[], &["z"]) };
    let mut model = of_nodes(vec![with(call, ints("size", &vec![1; 100_000]))]);
    model.functions = vec![function];
    refuses(&model, |problem| matches!(problem, Problem::Work { .. }));
}

#[test]
fn kernels_that_move_numbers_out_of_bounds() {
    // Sizes that nothing has, in operators that list the places of their numbers.
    let huge = whole("", &[1], &[1 << 40]);
    for operator in ["Reshape", "Expand"] {
        let nodes = vec![
            constant("a", whole("", &[4], &[1, 2, 3, 4])),
            constant("size", huge.clone()),
            node(operator, &["a", "size"], &["b"]),
            with(node("Transpose", &["b"], &["c"]), ints("perm", &[0, 0, 0])),
            constant("place", whole("", &[1], &[i64::MIN])),
            node("Gather", &["b", "place"], &["d"]),
            node("Slice", &["b", "place", "size", "place", "place"], &["e"]),
            with(node("Concat", &["c", "d", "e"], &["y"]), int("axis", i64::MIN)),
        ];
        refuses(&of_nodes(nodes), |problem| is_too_large(problem) || *problem == Problem::Unfollowable);
    }
}

#[test]
fn nothing_in_a_shape_without_end() {
    let empty = TensorProto { dims: vec![1 << 40, 0], ..whole("", &[], &[]) };
    let nodes = vec![
        constant("a", empty),
        constant("place", whole("", &[1], &[0])),
        node("Gather", &["a", "place"], &["b"]),
        node("Slice", &["a", "place", "place"], &["c"]),
        node("Transpose", &["a"], &["y"]),
    ];
    // Without an element there is nothing to make, however long the other axis is.
    passes(&of_nodes(nodes));
}

#[test]
fn cycles_of_values() {
    let cycle = |problem: &Problem| *problem == Problem::Cycle;
    refuses(&of_nodes(vec![node("Add", &["x", "b"], &["a"]), node("Neg", &["a"], &["b"])]), cycle);
    refuses(&of_nodes(vec![node("Add", &["x", "y"], &["y"])]), cycle);
    // Through a subgraph that reads what follows.
    let mut branch = graph_of(vec![node("Neg", &["later"], &["inner"])], vec![]);
    branch.input.clear();
    let branches = with(node("If", &["c"], &["z"]), subgraph("then_branch", branch));
    let mut graph = graph_of(vec![branches, node("Neg", &["z"], &["later"])], vec![]);
    graph.input.push(value("c", data_type::BOOL, &[]));
    refuses(&model(graph), cycle);
    // Out of order is no cycle.
    passes(&of_nodes(vec![node("Neg", &["a"], &["y"]), node("Neg", &["x"], &["a"])]));
}

#[test]
fn kernels_whose_attributes_do_not_fit_their_weights() {
    const GOOD: [(&str, i64); 4] = [("K", 64), ("N", 8), ("bits", 4), ("block_size", 32)];
    let product = |given: &[(&str, i64)], b: &[i64], scales: &[i64]| {
        let node = kernel("MatMulNBits", &["x", "B", "scales"], &["y"], given);
        model(graph_of(vec![node], vec![bytes("B", b), zeros("scales", scales)]))
    };
    passes(&product(&GOOD, &[8, 2, 16], &[16]));
    passes(&product(&GOOD, &[8, 2, 16], &[8, 2]));
    let size = |problem: &Problem| matches!(problem, Problem::WeightSize { .. });
    refuses(&product(&GOOD, &[8, 2, 15], &[16]), size);
    refuses(&product(&GOOD, &[8, 2, 16], &[15]), size);
    for (name, worse) in [
        ("K", 1 << 20),
        ("N", 1 << 30),
        ("K", 0),
        ("N", -8),
        ("K", i64::MAX),
        ("N", i64::MIN),
        ("bits", 3),
        ("bits", 0),
        ("bits", i64::MAX),
        ("block_size", 0),
        ("block_size", 24),
        ("block_size", i64::MAX),
    ] {
        let given: Vec<_> =
            GOOD.iter().map(|&(key, value)| (key, if key == name { worse } else { value })).collect();
        refuses(&product(&given, &[8, 2, 16], &[16]), |problem| size(problem) || is_attribute(problem));
    }
    refuses(&product(&GOOD[1..], &[8, 2, 16], &[16]), is_attribute);
    // Weights that come at run time cannot be measured, whatever the file says of their shape.
    let unknown = |problem: &Problem| *problem == Problem::UnknownWeights { input: "B" };
    let node = kernel("MatMulNBits", &["x", "x", "scales"], &["y"], &GOOD);
    refuses(&model(graph_of(vec![node], vec![zeros("scales", &[16])])), unknown);
    let nodes = vec![
        support::node("Reshape", &["x", "size"], &["b"]),
        kernel("MatMulNBits", &["x", "b", "scales"], &["y"], &GOOD),
    ];
    let mut claimed = graph_of(nodes, vec![zeros("scales", &[16])]);
    claimed.input.push(value("size", data_type::INT64, &[3]));
    claimed.value_info.push(value("b", data_type::UINT8, &[8, 2, 16]));
    refuses(&model(claimed), unknown);
    let points = |points: TensorProto| {
        let node = kernel("MatMulNBits", &["x", "B", "scales", "points"], &["y"], &GOOD);
        model(graph_of(vec![node], vec![bytes("B", &[8, 2, 16]), zeros("scales", &[16]), points]))
    };
    passes(&points(bytes("points", &[8])));
    passes(&points(zeros("points", &[16])));
    refuses(&points(bytes("points", &[7])), size);
    // Bytes are packed, and numbers are not.
    refuses(&points(bytes("points", &[16])), size);
    refuses(&points(zeros("points", &[8])), size);
    let given = [("K", 64), ("N", 8), ("block_size", 64)];
    let bnb = |b: i64| {
        let node = kernel("MatMulBnb4", &["x", "B", "absmax"], &["y"], &given);
        model(graph_of(vec![node], vec![bytes("B", &[b]), zeros("absmax", &[8])]))
    };
    passes(&bnb(256));
    refuses(&bnb(255), size);
}

#[test]
fn heads_that_no_attention_has() {
    let attention = |heads: i64, shared: i64| {
        let given = [("num_heads", heads), ("kv_num_heads", shared)];
        of_nodes(vec![kernel("GroupQueryAttention", &["x"], &["y"], &given)])
    };
    passes(&attention(8, 2));
    for (heads, shared) in [
        (0, 0),
        (8, 0),
        (0, 8),
        (1 << 31, 1),
        (8, 1 << 31),
        (8, 3),
        (-8, 2),
        (8, -2),
        (8, i64::MIN),
        (i64::MIN, -1),
    ] {
        refuses(&attention(heads, shared), is_attribute);
    }
    refuses(&of_nodes(vec![kernel("GroupQueryAttention", &["x"], &["y"], &[])]), is_attribute);
    refuses(&of_nodes(vec![kernel("MultiHeadAttention", &["x"], &["y"], &[("num_heads", 0)])]), is_attribute);
    let standard = with(node("Attention", &["x", "x", "x"], &["y"]), int("q_num_heads", 1 << 40));
    refuses(&of_nodes(vec![standard]), is_attribute);
}

#[test]
fn every_finding_says_where_it_is() {
    let mut branch =
        graph_of(vec![constant("s", TensorProto { dims: vec![-1], ..zeros("inner", &[1]) })], vec![]);
    branch.input.clear();
    let named = NodeProto {
        name: text("layers.3"),
        ..with(node("If", &["c"], &["z"]), subgraph("then_branch", branch))
    };
    let mut graph = graph_of(vec![named], vec![]);
    graph.input.push(value("c", data_type::BOOL, &[]));
    let findings = support::refused(&support::Folder::new(&model(graph)));
    assert_eq!(findings.len(), 1, "{findings:?}");
    let text = findings[0].to_string();
    assert_eq!(text, "tensor `inner` in node `s (Constant)`: a dimension is -1");
}

#[test]
fn a_hundred_findings_are_enough() {
    let nodes = (0..1_000).map(|index| node("Neg", &["nothing"], &[&format!("y{index}")])).collect();
    assert_eq!(support::refused(&support::Folder::new(&of_nodes(nodes))).len(), 100);
}

#[test]
fn an_empty_graph_of_nothing_passes_and_a_model_without_a_graph_does_not() {
    passes(&model(GraphProto::default()));
    let mut empty = model(GraphProto::default());
    empty.graph = None;
    let error = support::Folder::new(&empty).check().expect_err("there is nothing to run").to_string();
    assert!(error.contains("no graph"), "{error}");
    let held = with(node("Constant", &[], &["y"]), tensor("value", zeros("", &[1])));
    passes(&of_nodes(vec![held]));
}
