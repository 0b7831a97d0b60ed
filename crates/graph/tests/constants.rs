//! Constants that a runtime computes while it loads: those that would take all memory are refused, and their
//! neighbours, which models have, pass.

mod support;

use graph::preflight::Problem;
use graph::proto::{ModelProto, NodeProto, SparseTensorProto, TensorProto, data_type};
use support::{
    bytes, constant, graph_of, int, ints, is_too_large, kernel, model, node, of_nodes, passes, refuses,
    subgraph, value, whole, with, zeros,
};

fn is_refused(problem: &Problem) -> bool {
    is_too_large(problem) || *problem == Problem::Unfollowable
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
fn steps_after_an_operator_that_nobody_measures() {
    // Of each of these the runtime knows the shape of what it makes, and the file does not say it.
    for operator in ["Compress", "Unique", "NonZero", "ArgMax", "TopK", "DepthToSpace", "ReduceL2", "Split"] {
        let mut nodes = vec![constant("c", zeros("", &[1024])), constant("k", whole("", &[1], &[4]))];
        nodes.push(node(operator, &["c", "k"], &["v0"]));
        for step in 0..40 {
            let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
            nodes.push(with(node("Concat", &[&from, &from], &[&to]), int("axis", 0)));
        }
        refuses(&of_nodes(nodes), is_refused);
    }
    let after = |nodes: Vec<NodeProto>| {
        let first = vec![constant("c", zeros("", &[4096])), node("Unique", &["c"], &["v"])];
        of_nodes([first, nodes].concat())
    };
    passes(&after(vec![node("Neg", &["v"], &["y"])]));
    let amounts = |list: &[i64]| constant("a", whole("", &[list.len() as i64], list));
    let by = |operator: &str, list: &[i64]| after(vec![amounts(list), node(operator, &["v", "a"], &["y"])]);
    refuses(&by("Tile", &[1 << 20]), is_refused);
    passes(&by("Tile", &[2]));
    refuses(&by("Expand", &[1 << 20, 1]), is_refused);
    passes(&by("Expand", &[2, 1]));
    refuses(&by("Pad", &[0, 1 << 40]), is_refused);
    let resized = node("Resize", &["v", "", "", "a"], &["y"]);
    refuses(&after(vec![amounts(&[1 << 40]), resized]), is_refused);
    refuses(
        &after(vec![node("MatMul", &["v", "v"], &["w"]), node("MatMul", &["w", "w"], &["y"])]),
        is_refused,
    );
    refuses(&after(vec![node("Mul", &["v", "v"], &["w"]), node("Mul", &["w", "w"], &["y"])]), is_refused);
    refuses(&after(vec![node("Shape", &["v"], &["s"]), node("ConstantOfShape", &["s"], &["y"])]), is_refused);
    let columns = kernel(
        "MatMulNBits",
        &["v", "B", "scales"],
        &["y"],
        &[("K", 16), ("N", 1 << 20), ("block_size", 16)],
    );
    let mut product = after(vec![columns]);
    let tensors = vec![bytes("B", &[1 << 20, 1, 8]), zeros("scales", &[1 << 20])];
    product.graph.as_mut().expect("a graph").initializer = tensors;
    refuses(&product, is_refused);
}

#[test]
fn a_file_that_calls_a_large_constant_small() {
    let step = |count: i64| {
        let mut graph = graph_of(
            vec![
                constant("c", zeros("", &[1 << 16])),
                node("Unique", &["c"], &["u"]),
                constant("a", whole("", &[1], &[count])),
                node("Tile", &["u", "a"], &["y"]),
            ],
            vec![],
        );
        graph.value_info.push(value("u", data_type::FLOAT, &[1]));
        model(graph)
    };
    refuses(&step(1 << 20), is_refused);
    passes(&step(2));
}

#[test]
fn windows_over_constants_that_reach_far_beyond_them() {
    let over = |operator: &str, given: &[(&str, &[i64])]| {
        let window = node(operator, &["p", "w"], &["y"]);
        let window = given.iter().fold(window, |node, (name, list)| with(node, ints(name, list)));
        of_nodes(vec![
            constant("p", zeros("", &[1, 1, 1, 1])),
            constant("w", zeros("", &[1, 1, 1, 1])),
            window,
        ])
    };
    passes(&over("Conv", &[]));
    refuses(&over("Conv", &[("pads", &[30_000; 4])]), is_refused);
    refuses(&over("MaxPool", &[("pads", &[30_000; 4])]), is_refused);
    refuses(&over("ConvTranspose", &[("strides", &[1 << 15; 2])]), is_refused);
    refuses(&over("ConvTranspose", &[("output_shape", &[1; 2])]), is_refused);
    refuses(&over("RoiAlign", &[("output_height", &[1 << 20])]), is_refused);
    refuses(&over("MaxRoiPool", &[("pooled_shape", &[1 << 20; 2])]), is_refused);
    refuses(&over("DFT", &[]), is_refused);
    let two = |operator: &str, first: i64, second: i64| {
        of_nodes(vec![
            constant("a", whole("", &[], &[first])),
            constant("b", whole("", &[], &[second])),
            constant("c", whole("", &[], &[16_000])),
            node(operator, &["a", "b", "c"], &["y"]),
        ])
    };
    refuses(&two("MelWeightMatrix", 1 << 40, 512), is_too_large);
    passes(&two("MelWeightMatrix", 80, 512));
}

#[test]
fn sizes_of_some_axes_only() {
    let data = || constant("d", zeros("", &[1000, 1000, 1]));
    let size = constant("s", whole("", &[1], &[1 << 20]));
    let resized = with(node("Resize", &["d", "", "", "s"], &["y"]), ints("axes", &[2]));
    refuses(&of_nodes(vec![data(), size.clone(), resized]), is_refused);
    let cropped = with(node("CenterCropPad", &["d", "s"], &["y"]), ints("axes", &[2]));
    refuses(&of_nodes(vec![data(), size, cropped]), is_refused);
}

#[test]
fn choices_that_are_made_while_loading() {
    let made = |size: i64| {
        let mut branch = graph_of(vec![constant("s", whole("", &[1], &[size]))], vec![]);
        branch.input.clear();
        branch
    };
    let chosen = |condition: NodeProto, then: i64, other: i64| {
        let choice = with(node("If", &["c"], &["z"]), subgraph("then_branch", made(then)));
        let choice = with(choice, subgraph("else_branch", made(other)));
        of_nodes(vec![condition, choice, node("ConstantOfShape", &["z"], &["y"])])
    };
    let truth = |truth: i32| {
        let tensor = TensorProto { int64_data: vec![], int32_data: vec![truth], ..whole("", &[], &[]) };
        constant("c", TensorProto { data_type: Some(data_type::BOOL), ..tensor })
    };
    refuses(&chosen(truth(1), 1 << 40, 4), is_too_large);
    refuses(&chosen(truth(0), 4, 1 << 40), is_too_large);
    passes(&chosen(truth(1), 4, 1 << 40));
    // A condition that nobody knows here and the runtime does.
    let hidden = || with(node("Constant", &[], &["c"]), support::tensor("value", zeros("", &[1, 300])));
    refuses(&chosen(hidden(), 4, 1 << 40), |problem| *problem == Problem::Unfollowable);
    passes(&chosen(hidden(), 4, 4));
}

#[test]
fn parts_of_lists_as_exporters_cut_them() {
    // A shape that is split into its sizes, one of which is a size again.
    let cut = |count: i64| {
        of_nodes(vec![
            constant("s", whole("", &[2], &[4, count])),
            node("Split", &["s"], &["a", "b"]),
            node("ConstantOfShape", &["b"], &["y"]),
        ])
    };
    passes(&cut(8));
    refuses(&cut(1 << 40), is_too_large);
    // The parts of a large weight are together as large as it is.
    let parts = of_nodes(vec![
        constant("w", zeros("", &[3 << 20, 16])),
        node("Split", &["w"], &["q", "k", "v"]),
        with(node("Concat", &["q", "k"], &["y"]), int("axis", 0)),
    ]);
    passes(&parts);
}

#[test]
fn sparse_constants_count_as_what_they_become() {
    let sparse = |size: i64, steps: usize| -> ModelProto {
        let tensor = SparseTensorProto {
            values: Some(zeros("v", &[1])),
            indices: Some(whole("", &[1], &[0])),
            dims: vec![size],
            ..Default::default()
        };
        let mut given = ints("sparse_value", &[]);
        given.r#type = Some(graph::proto::attribute_type::SPARSE_TENSOR);
        given.sparse_tensor = Some(Box::new(tensor));
        let mut nodes = vec![with(node("Constant", &[], &["v0"]), given)];
        for step in 0..steps {
            let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
            nodes.push(with(node("Concat", &[&from, &from], &[&to]), int("axis", 0)));
        }
        of_nodes(nodes)
    };
    passes(&sparse(1 << 20, 2));
    refuses(&sparse(1 << 20, 7), is_too_large);
}

#[test]
fn weights_that_many_kernels_pack() {
    let products = |count: usize| {
        let given = [("K", 1024), ("N", 2048), ("bits", 4), ("block_size", 32)];
        let product = |at: usize| kernel("MatMulNBits", &["x", "B", "scales"], &[&format!("y{at}")], &given);
        let tensors = vec![bytes("B", &[2048, 32, 16]), zeros("scales", &[2048, 32])];
        model(graph_of((0..count).map(product).collect(), tensors))
    };
    passes(&products(3));
    refuses(&products(2000), |problem| matches!(problem, Problem::Packing { .. }));
}
