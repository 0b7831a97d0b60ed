//! Graphs that no runtime should see, each refused for its own reason; and their harmless neighbours, which
//! pass.

mod support;

use graph::preflight::Problem;
use graph::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, Segment, SparseTensorProto,
    TensorProto, attribute_type, data_type,
};
use support::{
    bytes, constant, entry, graph_of, int, ints, kernel, model, node, passes, refuses, subgraph, tensor,
    text, value, whole, with, zeros,
};

fn of_nodes(nodes: Vec<NodeProto>) -> ModelProto {
    model(graph_of(nodes, vec![]))
}

fn of_tensor(tensor: TensorProto) -> ModelProto {
    model(graph_of(vec![node("Identity", &["w"], &["y"])], vec![TensorProto { name: text("w"), ..tensor }]))
}

fn is_too_large(problem: &Problem) -> bool {
    matches!(problem, Problem::TooLarge { .. } | Problem::Folding { .. })
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
fn constants_that_ask_for_memory_at_load() {
    let shaped = |operator: &str, dims: &[i64]| {
        let amount = dims.len() as i64;
        of_nodes(vec![constant("s", whole("", &[amount], dims)), node(operator, &["s"], &["y"])])
    };
    refuses(&shaped("ConstantOfShape", &[1 << 40]), is_too_large);
    refuses(&shaped("ConstantOfShape", &[1 << 20, 1 << 20]), is_too_large);
    refuses(&shaped("ConstantOfShape", &[1 << 62, 1 << 62]), is_too_large);
    refuses(&shaped("ConstantOfShape", &[72_000_000]), is_too_large);
    passes(&shaped("ConstantOfShape", &[4, 4]));
    let two = |operator: &str, data: TensorProto, amounts: TensorProto| {
        of_nodes(vec![constant("d", data), constant("a", amounts), node(operator, &["d", "a"], &["y"])])
    };
    refuses(&two("Expand", zeros("", &[1]), whole("", &[2], &[1 << 20, 1 << 20])), is_too_large);
    refuses(&two("Tile", zeros("", &[4]), whole("", &[1], &[1 << 40])), is_too_large);
    refuses(&two("Tile", zeros("", &[4]), whole("", &[1], &[i64::MAX])), is_too_large);
    refuses(&two("Pad", zeros("", &[4]), whole("", &[2], &[0, 1 << 40])), is_too_large);
    passes(&two("Expand", zeros("", &[1]), whole("", &[2], &[4, 4])));
    passes(&two("Tile", zeros("", &[4]), whole("", &[1], &[4])));
    passes(&two("Pad", zeros("", &[4]), whole("", &[2], &[1, 1])));
    // An outer product: small lists, large result.
    let outer = two("Mul", zeros("", &[30_000, 1]), zeros("", &[1, 30_000]));
    refuses(&outer, is_too_large);
    refuses(&two("MatMul", zeros("", &[30_000, 1]), zeros("", &[1, 30_000])), is_too_large);
    refuses(&two("OneHot", whole("", &[3], &[1, 2, 3]), whole("", &[], &[1 << 40])), is_too_large);
}

#[test]
fn ranges_that_never_end() {
    let range = |limit: i64| {
        of_nodes(vec![
            constant("a", whole("", &[], &[0])),
            constant("b", whole("", &[], &[limit])),
            constant("c", whole("", &[], &[1])),
            node("Range", &["a", "b", "c"], &["y"]),
        ])
    };
    refuses(&range(1 << 40), is_too_large);
    refuses(&range(i64::MAX), is_too_large);
    passes(&range(512));
}

#[test]
fn random_values_and_windows_of_any_size() {
    let random = |dims: &[i64]| of_nodes(vec![with(node("RandomNormal", &[], &["y"]), ints("shape", dims))]);
    refuses(&random(&[1 << 20, 1 << 20]), is_too_large);
    passes(&random(&[2, 2]));
    let window = |size: i64| {
        of_nodes(vec![constant("n", whole("", &[], &[size])), node("HannWindow", &["n"], &["y"])])
    };
    refuses(&window(1 << 40), is_too_large);
}

#[test]
fn sizes_that_are_computed_on_the_way() {
    let product = vec![
        constant("a", whole("", &[1], &[1 << 20])),
        node("Mul", &["a", "a"], &["b"]),
        node("ConstantOfShape", &["b"], &["y"]),
    ];
    refuses(&of_nodes(product), is_too_large);
    let joined = vec![
        constant("a", whole("", &[1], &[1 << 20])),
        with(node("Concat", &["a", "a"], &["b"]), int("axis", 0)),
        node("ConstantOfShape", &["b"], &["y"]),
    ];
    refuses(&of_nodes(joined), is_too_large);
    // A shape that the file states leads to constants too.
    let mut stated = graph_of(
        vec![
            node("Shape", &["fixed"], &["s"]),
            node("Mul", &["s", "s"], &["t"]),
            node("ConstantOfShape", &["t"], &["y"]),
        ],
        vec![],
    );
    stated.input.push(value("fixed", data_type::FLOAT, &[1 << 10, 1 << 12]));
    refuses(&model(stated), is_too_large);
    // A sum of numbers, a power, a cast, a choice, a part of a list.
    let steps = vec![
        constant("a", whole("", &[3], &[1 << 10, 1 << 20, 7])),
        constant("start", whole("", &[1], &[0])),
        constant("end", whole("", &[1], &[2])),
        node("Slice", &["a", "start", "end"], &["b"]),
        with(node("ReduceProd", &["b"], &["c"]), int("keepdims", 1)),
        with(node("Cast", &["c"], &["d"]), int("to", i64::from(data_type::DOUBLE))),
        with(node("Cast", &["d"], &["e"]), int("to", i64::from(data_type::INT64))),
        node("ConstantOfShape", &["e"], &["y"]),
    ];
    refuses(&of_nodes(steps), is_too_large);
}

#[test]
fn paddings_as_exporters_compute_them() {
    // Pairs of numbers in the order of the framework, turned into ONNX's own.
    let padding = |last: i64| {
        of_nodes(vec![
            constant("given", whole("", &[4], &[0, last, 1, 1])),
            constant("pairs", whole("", &[2], &[-1, 2])),
            node("Reshape", &["given", "pairs"], &["a"]),
            constant("start", whole("", &[1], &[-1])),
            constant("end", whole("", &[1], &[i64::MIN + 1])),
            constant("axis", whole("", &[1], &[0])),
            constant("step", whole("", &[1], &[-1])),
            node("Slice", &["a", "start", "end", "axis", "step"], &["b"]),
            with(node("Transpose", &["b"], &["c"]), ints("perm", &[1, 0])),
            constant("flat", whole("", &[1], &[-1])),
            node("Reshape", &["c", "flat"], &["d"]),
            with(node("Cast", &["d"], &["e"]), int("to", i64::from(data_type::INT64))),
            constant("small", zeros("", &[2, 2])),
            node("Pad", &["small", "e"], &["y"]),
        ])
    };
    passes(&padding(3));
    refuses(&padding(1 << 40), is_too_large);
    // A part of a table, and one of its columns.
    let picked = |row: i64| {
        of_nodes(vec![
            constant("table", whole("", &[2, 2], &[2, 3, 1 << 20, 1 << 21])),
            constant("row", whole("", &[], &[row])),
            with(node("Gather", &["table", "row"], &["a"]), int("axis", 0)),
            node("ConstantOfShape", &["a"], &["y"]),
        ])
    };
    passes(&picked(0));
    refuses(&picked(1), is_too_large);
    refuses(&picked(-1), is_too_large);
}

#[test]
fn sizes_that_cannot_be_followed() {
    let hidden = vec![
        constant("a", whole("", &[1], &[1 << 20])),
        node("SomethingNew", &["a"], &["b"]),
        node("ConstantOfShape", &["b"], &["y"]),
    ];
    refuses(&of_nodes(hidden), |problem| *problem == Problem::Unfollowable);
    // The same from the outside is decided when it runs, and passes.
    let mut given = graph_of(vec![node("ConstantOfShape", &["s"], &["y"])], vec![]);
    given.input.push(value("s", data_type::INT64, &[-1]));
    passes(&model(given));
}

#[test]
fn many_small_steps_to_a_large_constant() {
    let mut nodes = vec![constant("v0", zeros("", &[1024]))];
    for step in 0..40 {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        nodes.push(with(node("Concat", &[&from, &from], &[&to]), int("axis", 0)));
    }
    refuses(&of_nodes(nodes), is_too_large);
    let mut copies = vec![constant("v", zeros("", &[1 << 20]))];
    for copy in 0..200 {
        copies.push(node("Neg", &["v"], &[&format!("y{copy}")]));
    }
    refuses(&of_nodes(copies), is_too_large);
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
    for operator in ["EPContext", "PythonOp", "ATen"] {
        refuses(&of_nodes(vec![kernel(operator, &["x"], &["y"], &[])]), |problem| {
            *problem == Problem::Loader
        });
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
        // Whatever is found, it is found soon and without a panic.
        drop(support::Folder::new(&of_nodes(nodes)).check());
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
    drop(support::Folder::new(&of_nodes(nodes)).check());
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
    // Weights that come at run time cannot be measured.
    let node = kernel("MatMulNBits", &["x", "x", "scales"], &["y"], &GOOD);
    refuses(&model(graph_of(vec![node], vec![zeros("scales", &[16])])), |problem| {
        *problem == Problem::UnknownWeights { input: "B" }
    });
    let points = |count: i64| {
        let node = kernel("MatMulNBits", &["x", "B", "scales", "points"], &["y"], &GOOD);
        let tensors = vec![bytes("B", &[8, 2, 16]), zeros("scales", &[16]), bytes("points", &[count])];
        model(graph_of(vec![node], tensors))
    };
    passes(&points(8));
    refuses(&points(7), size);
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
