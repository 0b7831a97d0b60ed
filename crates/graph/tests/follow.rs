//! Values are followed through any graph of any operators without a panic, soon, and in little memory.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use graph::preflight::{self, Files};
use graph::proto::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_type, data_type};
use graph::{Graph, Limits};
use proptest::prelude::*;
use prost::Message;
use support::{constant, graph_of, int, ints, model, node, text, whole, zeros};

const OPERATORS: [&str; 80] = [
    "Identity",
    "Shape",
    "Size",
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Range",
    "OneHot",
    "Pad",
    "Resize",
    "Upsample",
    "RandomNormal",
    "RandomUniformLike",
    "HannWindow",
    "AffineGrid",
    "CenterCropPad",
    "Col2Im",
    "MelWeightMatrix",
    "MaxUnpool",
    "ConvTranspose",
    "Einsum",
    "Concat",
    "Gather",
    "GatherElements",
    "GatherND",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Cast",
    "MatMul",
    "MatMulInteger",
    "Gemm",
    "Slice",
    "Where",
    "ReduceSum",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Pow",
    "Max",
    "Min",
    "And",
    "Or",
    "Equal",
    "Greater",
    "LessOrEqual",
    "Neg",
    "Abs",
    "Sign",
    "Not",
    "Floor",
    "Ceil",
    "Round",
    "Sqrt",
    "Reciprocal",
    "Exp",
    "Log",
    "DequantizeLinear",
    "Split",
    "Unique",
    "TopK",
    "Compress",
    "ArgMax",
    "ReduceL2",
    "CastLike",
    "EyeLike",
    "Conv",
    "MaxPool",
    "STFT",
    "NonZero",
    "Trilu",
    "MatMulNBits",
    "GroupQueryAttention",
];

/// Numbers that sizes and places have, and those at which arithmetic breaks.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3_i64..6,
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, -(1 << 40), 1 << 31, 1 << 40, 1 << 62, i64::MAX]),
    ]
}

fn list() -> impl Strategy<Value = TensorProto> {
    let element = prop::sample::select(vec![
        data_type::INT64,
        data_type::INT32,
        data_type::UINT8,
        data_type::BOOL,
        data_type::UINT64,
        data_type::FLOAT,
        data_type::DOUBLE,
        data_type::FLOAT16,
    ]);
    (prop::collection::vec(number(), 0..5), element, 0_usize..3).prop_map(|(numbers, element, form)| {
        let count = numbers.len() as i64;
        let dims = match form {
            0 if count == 1 => vec![],
            1 if count == 4 => vec![2, 2],
            1 if count == 0 => vec![1 << 40, 0],
            _ => vec![count],
        };
        let tensor = TensorProto { dims, data_type: Some(element), ..whole("", &[], &[]) };
        match element {
            data_type::INT64 => TensorProto { int64_data: numbers, ..tensor },
            data_type::UINT64 => TensorProto {
                int64_data: vec![],
                uint64_data: numbers.iter().map(|&n| n as u64).collect(),
                ..tensor
            },
            data_type::FLOAT => {
                TensorProto { float_data: numbers.iter().map(|&n| n as f32 / 2.0).collect(), ..tensor }
            }
            data_type::DOUBLE => {
                TensorProto { double_data: numbers.iter().map(|&n| n as f64).collect(), ..tensor }
            }
            _ => TensorProto { int32_data: numbers.iter().map(|&n| n as i32).collect(), ..tensor },
        }
    })
}

fn given() -> impl Strategy<Value = AttributeProto> {
    let names =
        ["axis", "axes", "perm", "pads", "shape", "start", "end", "starts", "ends", "scales", "to", "K", "N"];
    let name = prop::sample::select(names.to_vec());
    let numbers = prop::collection::vec(number(), 0..5);
    let more = prop::sample::select(vec![
        "keepdims",
        "transA",
        "bits",
        "block_size",
        "num_heads",
        "kv_num_heads",
        "output_shape",
        "split",
        "dtype",
        "noop_with_empty_axes",
    ]);
    (prop_oneof![name, more], number(), numbers, any::<bool>()).prop_map(|(name, value, numbers, is_list)| {
        if name == "scales" {
            let floats = numbers.iter().map(|&number| number as f32).collect();
            let kind = Some(attribute_type::FLOATS);
            return AttributeProto { name: text(name), r#type: kind, floats, ..Default::default() };
        }
        if is_list { ints(name, &numbers) } else { int(name, value) }
    })
}

/// A graph of constants and of nodes that read whatever was made before.
fn graph() -> impl Strategy<Value = ModelProto> {
    let step = (
        prop::sample::select(OPERATORS.to_vec()),
        prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        prop::collection::vec(given(), 0..3),
    );
    (prop::collection::vec(list(), 1..6), prop::collection::vec(step, 1..14)).prop_map(|(lists, steps)| {
        let mut names = vec!["x".to_owned(), "w".to_owned(), String::new()];
        let mut nodes = Vec::new();
        for (index, list) in lists.into_iter().enumerate() {
            names.push(format!("c{index}"));
            nodes.push(constant(&format!("c{index}"), list));
        }
        for (index, (operator, inputs, attributes)) in steps.into_iter().enumerate() {
            let inputs: Vec<&str> = inputs.iter().map(|input| input.get(&names).as_str()).collect();
            let made = format!("v{index}");
            let domain =
                if matches!(operator, "MatMulNBits" | "GroupQueryAttention") { "com.microsoft" } else { "" };
            nodes.push(NodeProto {
                domain: text(domain),
                attribute: attributes,
                ..node(operator, &inputs, &[&made, &format!("{made}_second")])
            });
            names.push(made);
        }
        model(graph_of(nodes, vec![zeros("w", &[2, 3])]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_graph_of_known_operators_is_followed(model in graph()) {
        let limits = Limits::default();
        let graph = Graph::from_bytes(Path::new("model.onnx"), model.encode_to_vec(), &limits).expect("a model");
        let begin = Instant::now();
        let report = preflight::inspect(&graph, &Files::none(), &limits);
        prop_assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", report);
    }
}
