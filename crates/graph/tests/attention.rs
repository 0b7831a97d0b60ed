//! Attention in plain operators is fused where it is proven to be the kernel's, and refused by name where
//! it is not.

mod support;

use std::path::Path;

use graph::family::{Family, Mask, Oddity, Positions};
use graph::proto::{ModelProto, data_type};
use graph::rewrite::accuracy::{self, SelfTest};
use graph::rewrite::attention::{self, AttentionReport, ModelShape, Refusal, Replaced};
use graph::rewrite::last_token::{self, LastTokenReport};
use graph::{Graph, Limits, Weights};
use proptest::prelude::*;
use prost::Message;
use support::{again, fixture, fixtures, node, subgraph, text, value, with};

const ROWS: usize = 128;

fn read(model: &ModelProto) -> Graph {
    Graph::from_bytes(Path::new("model.onnx"), model.encode_to_vec(), &Limits::default()).expect("a model")
}

fn bytes_of(graph: &Graph) -> Vec<u8> {
    graph.to_bytes(Weights::Embed).expect("it is written")
}

/// Fuses, and checks everything that holds for every fused graph.
#[track_caller]
fn fuse(graph: Graph, shape: &ModelShape) -> (Graph, Replaced) {
    let layers = graph.outputs.iter().filter(|output| output.name().ends_with(".key")).count();
    let rewritten = attention::run(graph, shape, ROWS);
    let AttentionReport::Replaced(replaced) = rewritten.report else { panic!("{:?}", rewritten.report) };
    let fused = again(&rewritten.graph);
    let is_kernel = |operator: &str| operator == "GroupQueryAttention";
    assert_eq!(fused.nodes.iter().filter(|node| is_kernel(node.op_type())).count(), layers);
    assert_eq!(replaced.layers.len(), layers);
    assert_eq!(fused.operator_set("com.microsoft"), Some(1));
    for operator in ["Softmax", "Concat", "Expand", "Cos", "Transpose", "Slice"] {
        assert!(fused.nodes.iter().all(|node| node.op_type() != operator), "{operator} is left");
    }
    let names: Vec<_> = fused.inputs.iter().map(|input| input.name()).collect();
    assert!(names.contains(&"attention_mask") && !names.contains(&"position_ids"), "{names:?}");
    let twice = attention::run(fused.clone(), shape, ROWS);
    assert_eq!(twice.report, AttentionReport::AlreadyFused);
    assert!(bytes_of(&twice.graph) == bytes_of(&fused), "a second application changes nothing");
    (fused, replaced)
}

/// The reason for which a graph stays byte for byte as it is.
#[track_caller]
fn refusal(graph: Graph, shape: &ModelShape) -> Refusal {
    let before = bytes_of(&graph);
    let rewritten = attention::run(graph, shape, ROWS);
    let AttentionReport::Refused(refusal) = rewritten.report else { panic!("{:?}", rewritten.report) };
    assert!(bytes_of(&rewritten.graph) == before, "{refusal}");
    refusal
}

#[test]
fn real_exports_are_fused_or_refused_with_the_reason() {
    for path in fixtures().unwrap_or_default() {
        let name =
            path.parent().expect("a folder").file_name().expect("a name").to_string_lossy().into_owned();
        let graph = Graph::open(&path, &Limits::default()).expect("it is read");
        let shape = ModelShape::default();
        match name.as_str() {
            "concat16-f32" | "concat16-q4" => {
                let (fused, replaced) = fuse(graph, &shape);
                assert_eq!(replaced.removed_inputs, ["position_ids"]);
                assert_eq!(replaced.nodes, (1339, fused.nodes.len()));
                for layer in &replaced.layers {
                    assert_eq!((layer.heads, layer.kv_heads, layer.head_size), (8, 4, 16));
                    assert_eq!((layer.scale, layer.window), (0.25, None));
                }
            }
            "concat-f16" => {
                let refusal = refusal(graph, &shape);
                assert!(matches!(refusal, Refusal::NotSinglePrecision { found: "f16", .. }), "{refusal}");
            }
            name if name.starts_with("concat") => {
                let expected = Refusal::HeadSize { layer: "0".to_owned(), size: 8 };
                assert_eq!(refusal(graph, &shape), expected, "{name}");
            }
            _ => {
                let before = bytes_of(&graph);
                let rewritten = attention::run(graph, &shape, ROWS);
                assert_eq!(rewritten.report, AttentionReport::AlreadyFused, "{name}");
                assert!(bytes_of(&rewritten.graph) == before);
            }
        }
    }
}

#[test]
fn weights_stay_where_they_are() {
    let Some(path) = fixture("concat16-q4") else { return };
    let graph = Graph::open(&path, &Limits::default()).expect("it is read");
    let kept: Vec<_> = graph.initializers.iter().map(|tensor| tensor.name().to_owned()).collect();
    let (fused, _) = fuse(graph.clone(), &ModelShape::default());
    for tensor in fused.initializers.iter().filter(|tensor| !tensor.name().starts_with("hearth/")) {
        let place = kept.iter().position(|name| name == tensor.name()).expect("it was there");
        assert!(**tensor == *graph.initializers[place], "{}", tensor.name());
    }
}

#[test]
fn the_rotation_reaches_as_far_as_the_model_and_no_further_than_asked() {
    let graph = || read(&Family::default().model());
    let rows = |shape: &ModelShape, rows| match attention::run(graph(), shape, rows).report {
        AttentionReport::Replaced(replaced) => replaced.rows,
        other => panic!("{other:?}"),
    };
    let most = |rows| ModelShape { max_positions: Some(rows), ..ModelShape::default() };
    assert_eq!(rows(&most(64), 1000), 64);
    assert_eq!(rows(&most(4096), 100), 100);
    let fused = attention::run(graph(), &most(64), 1000).graph;
    let table = fused.initializers.iter().find(|tensor| tensor.name().starts_with("hearth/attention/cos"));
    let table = table.expect("there are cosines");
    assert_eq!(table.dims, [64, 8]);
    let raw = table.raw_data.as_ref().expect("numbers");
    // Row 3, pair 1 of theta 10,000 over 8 pairs.
    let found = f32::from_le_bytes(raw[(3 * 8 + 1) * 4..][..4].try_into().expect("four bytes"));
    let frequency = f64::from(10_000_f32.powf(-1.0 / 8.0));
    assert_eq!(found, (3.0 * frequency).cos() as f32);
}

#[test]
fn a_graph_that_makes_mask_and_positions_itself_gets_a_mask_to_tell_its_length() {
    let family = Family { positions: Positions::Shapes, ..Family::default() };
    let before = read(&family.model());
    assert!(before.inputs.iter().all(|input| input.name() != "attention_mask"));
    let (fused, replaced) = fuse(before, &ModelShape::default());
    assert!(replaced.removed_inputs.is_empty());
    assert!(fused.inputs.iter().any(|input| input.name() == "attention_mask"));
}

#[test]
fn windows_are_found_and_passed_on() {
    for mask in [Mask::Once, Mask::PerLayer] {
        let family = Family { window: Some(7), mask, ..Family::default() };
        let (fused, replaced) = fuse(read(&family.model()), &ModelShape::default());
        assert!(replaced.layers.iter().all(|layer| layer.window == Some(7)));
        let sizes = fused.nodes.iter().filter(|node| node.op_type() == "GroupQueryAttention").map(|node| {
            node.attribute.iter().find(|given| given.name() == "local_window_size").map(|given| given.i())
        });
        assert!(sizes.into_iter().all(|size| size == Some(7)));
    }
}

#[test]
fn layers_without_a_rotation_are_fused_beside_others_with_one() {
    let family = Family { layers: 3, unrotated: Some(1), ..Family::default() };
    let (fused, _) = fuse(read(&family.model()), &ModelShape::default());
    let kernels = fused.nodes.iter().filter(|node| node.op_type() == "GroupQueryAttention");
    let forms: Vec<_> = kernels
        .map(|node| {
            let given = node.attribute.iter().find(|given| given.name() == "do_rotary");
            (given.map(|given| given.i()), node.input.len())
        })
        .collect();
    assert_eq!(forms, [(Some(1), 9), (Some(0), 7), (Some(1), 9)]);
}

#[test]
fn what_no_kernel_computes_is_refused_by_name() {
    let refused = |oddity| {
        let family = Family { oddity: Some(oddity), ..Family::default() };
        refusal(read(&family.model()), &ModelShape::default())
    };
    let check = |oddity, is_right: &dyn Fn(&Refusal) -> bool| {
        let refusal = refused(oddity);
        assert!(is_right(&refusal), "{oddity:?}: {refusal:?}");
        assert!(refusal.to_string().contains("layer 0"), "{refusal}");
    };
    check(Oddity::Alibi, &|refusal| matches!(refusal, Refusal::Alibi { .. }));
    check(Oddity::Softcap, &|refusal| matches!(refusal, Refusal::Softcap { .. }));
    check(Oddity::PartialRotation, &|refusal| {
        matches!(refusal, Refusal::PartialRotation { rotated: 8, size: 16, .. })
    });
    check(Oddity::InterleavedRotation, &|refusal| matches!(refusal, Refusal::InterleavedRotation { .. }));
    check(Oddity::NoRotation, &|refusal| matches!(refusal, Refusal::NoRotation { .. }));
    check(Oddity::NormAfterRotation, &|refusal| matches!(refusal, Refusal::NormAfterRotation { .. }));
    check(Oddity::BoundedAngles, &|refusal| matches!(refusal, Refusal::PositionDependentRotation { .. }));
    check(Oddity::PrefixMask, &|refusal| matches!(refusal, Refusal::AttentionBias { .. }));
    check(Oddity::SharedState, &|refusal| matches!(refusal, Refusal::SharedState { readers: 2, .. }));
    check(Oddity::DoubledValues, &|refusal| matches!(refusal, Refusal::OtherNumbers { .. }));
    check(Oddity::ReadElsewhere, &|refusal| matches!(refusal, Refusal::ReadElsewhere { .. }));
    check(Oddity::TiledHeads, &|refusal| matches!(refusal, Refusal::OtherNumbers { .. }));
    check(Oddity::ScaledByLength, &|refusal| matches!(refusal, Refusal::UnevenScale { .. }));
    check(Oddity::ScaledFar, &|refusal| matches!(refusal, Refusal::UnevenScale { .. }));
}

/// A graph of the family after a change.
fn changed(family: Family, change: impl Fn(&mut graph::proto::GraphProto)) -> Graph {
    let mut model = family.model();
    change(model.graph.as_mut().expect("a graph"));
    read(&model)
}

#[test]
fn graphs_of_another_form_are_refused_by_name() {
    let plain = ModelShape::default();
    let past = "past_key_values.1.value";
    let retyped = |element, dims: &'static [i64]| {
        changed(Family::default(), move |graph| {
            let input = graph.input.iter_mut().find(|input| input.name() == past).expect("it is there");
            *input = value(past, element, dims);
        })
    };
    let found = refusal(retyped(data_type::FLOAT16, &[-1, 2, -1, 16]), &plain);
    let layer = || "1".to_owned();
    let input = past.to_owned();
    assert_eq!(found, Refusal::NotSinglePrecision { layer: layer(), input: input.clone(), found: "f16" });
    let found = refusal(retyped(data_type::FLOAT, &[-1, -1, -1, 16]), &plain);
    assert_eq!(found, Refusal::OpenShape { layer: layer(), input: input.clone() });
    let found = refusal(retyped(data_type::FLOAT, &[-1, 2, -1, 32]), &plain);
    assert_eq!(found, Refusal::UnequalHeads { layer: layer(), key: (2, 16), value: (2, 32) });
    let found = refusal(read(&Family { head_size: 24, ..Family::default() }.model()), &plain);
    assert_eq!(found, Refusal::HeadSize { layer: "0".to_owned(), size: 24 });
    let control = changed(Family::default(), |graph| {
        let inner = support::graph_of(vec![node("Neg", &["logits"], &["inner"])], Vec::new());
        let branch = |name| subgraph(name, inner.clone());
        let mut choice = with(with(node("If", &["c"], &["z"]), branch("then_branch")), branch("else_branch"));
        choice.name = text("choice");
        graph.node.push(choice);
    });
    assert_eq!(refusal(control, &plain), Refusal::ControlFlow { node: "choice".to_owned() });
    let copied = changed(Family::default(), |graph| {
        let join = graph.node.iter_mut().find(|node| node.output == ["present.1.key"]).expect("it is there");
        join.op_type = text("Max");
        join.attribute.clear();
    });
    assert!(matches!(refusal(copied, &plain), Refusal::NotJoined { .. }));
    let renamed = changed(Family::default(), |graph| {
        graph.output.push(value("present.conv", data_type::FLOAT, &[-1, 4]));
    });
    assert_eq!(refusal(renamed, &plain), Refusal::UnknownState { output: "present.conv".to_owned() });
    let rows = changed(Family::default(), |graph| {
        let input = graph.input.iter_mut().find(|input| input.name() == "position_ids").expect("it is there");
        *input = value("position_ids", data_type::INT64, &[3, -1, -1]);
    });
    assert!(matches!(refusal(rows, &plain), Refusal::SeveralPositions { .. }));
    let stateless = changed(Family::default(), |graph| graph.output.truncate(1));
    assert_eq!(refusal(stateless, &plain), Refusal::NoLayers);
    let hard = changed(Family::default(), |graph| {
        let softmax = graph.node.iter_mut().find(|node| node.op_type() == "Softmax").expect("it is there");
        softmax.op_type = text("Hardmax");
    });
    assert!(matches!(refusal(hard, &plain), Refusal::NotAttention { .. }));
    let foreign = changed(Family::default(), |graph| {
        let guard = graph.node.iter_mut().find(|node| node.op_type() == "Cos").expect("it is there");
        guard.op_type = text("Acosh");
    });
    assert!(matches!(refusal(foreign, &plain), Refusal::Unknown { operator, .. } if operator == "Acosh"));
    let taken = changed(Family::default(), |graph| {
        graph.node.push(node("Neg", &["logits"], &["hearth/attention/last"]));
    });
    assert!(matches!(refusal(taken, &plain), Refusal::NameTaken { .. }));
}

#[test]
fn questions_to_a_graph_end_soon_and_take_little_memory() {
    // Two constants that are expanded to eight thousand million multiplications at every position.
    let slow = changed(Family::default(), |graph| {
        let place = graph.node.iter().position(|node| node.op_type() == "Cos").expect("it is there");
        let angles = graph.node[place].input[0].clone();
        graph.node[place].input[0] = "late".to_owned();
        let more = vec![
            support::constant("wide", support::whole("", &[2], &[2048, 2048])),
            support::constant("one", support::zeros("", &[1, 1])),
            node("Expand", &["one", "wide"], &["square"]),
            node("MatMul", &["square", "square"], &["product"]),
            with(node("ReduceMax", &["product"], &["row"]), support::ints("axes", &[0])),
            with(node("ReduceMax", &["row"], &["most"]), support::ints("axes", &[1])),
            node("Add", &[&angles, "most"], &["late"]),
        ];
        graph.node.splice(place..place, more);
    });
    let found = refusal(slow, &ModelShape::default());
    assert!(matches!(&found, Refusal::Unknown { operator, .. } if operator == "MatMul"), "{found:?}");
    let wide = Family { head_size: 64, ..Family::default() };
    let rows = (1 << 20) + 1;
    let rewritten = attention::run(read(&wide.model()), &ModelShape::default(), rows);
    let AttentionReport::Refused(found) = rewritten.report else { panic!("{:?}", rewritten.report) };
    assert!(matches!(found, Refusal::TooManyRotations { bytes, limit, .. } if bytes > limit), "{found:?}");
}

#[test]
fn a_configuration_that_says_otherwise_is_a_reason() {
    let family = Family { window: Some(7), ..Family::default() };
    let right = ModelShape {
        heads: Some(4),
        kv_heads: Some(2),
        head_size: Some(16),
        rope_theta: Some(10_000.0),
        partial_rotary_factor: Some(1.0),
        sliding_window: Some(7),
        softcap: None,
        max_positions: Some(512),
    };
    fuse(read(&family.model()), &right);
    let wrong = [
        ModelShape { heads: Some(8), ..right.clone() },
        ModelShape { kv_heads: Some(1), ..right.clone() },
        ModelShape { head_size: Some(32), ..right.clone() },
        ModelShape { rope_theta: Some(500_000.0), ..right.clone() },
        ModelShape { partial_rotary_factor: Some(0.5), ..right.clone() },
        ModelShape { sliding_window: Some(8), ..right.clone() },
        ModelShape { softcap: Some(30.0), ..right.clone() },
    ];
    for shape in wrong {
        let refusal = refusal(read(&family.model()), &shape);
        assert!(matches!(refusal, Refusal::Disagreement { .. }), "{refusal}");
    }
    let without = Family::default();
    let found = refusal(read(&without.model()), &right);
    assert!(matches!(found, Refusal::Disagreement { what: "a window of", .. }), "{found}");
}

#[test]
fn the_passes_follow_each_other_in_any_order() {
    let Some(path) = fixture("concat16-q4") else { return };
    let open = || Graph::open(&path, &Limits::default()).expect("it is read");
    let is_short = |report: &LastTokenReport| matches!(report, LastTokenReport::Inserted { .. });
    let short = last_token::run(open());
    assert!(is_short(&short.report), "{:?}", short.report);
    let (first, _) = fuse(accuracy::run(short.graph, SelfTest::NotPassed).graph, &ModelShape::default());
    let (fused, _) = fuse(open(), &ModelShape::default());
    let last = last_token::run(accuracy::run(fused, SelfTest::NotPassed).graph);
    assert!(is_short(&last.report), "{:?}", last.report);
    let operators = |graph: &Graph| {
        let mut operators: Vec<_> = graph.nodes.iter().map(|node| node.op_type().to_owned()).collect();
        operators.sort();
        operators
    };
    assert_eq!(operators(&first), operators(&again(&last.graph)));
}

fn families() -> impl Strategy<Value = Family> {
    any::<u64>().prop_map(Family::random)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_graph_of_the_family_is_fused(family in families()) {
        let graph = again(&read(&family.model()));
        let (_, replaced) = fuse(graph, &ModelShape::default());
        for layer in &replaced.layers {
            prop_assert_eq!(layer.heads, family.heads());
            prop_assert_eq!(layer.kv_heads, family.kv_heads);
            let scale = (family.head_size as f64).powf(-0.5);
            prop_assert!((layer.scale - scale).abs() < 1e-6, "{}", layer.scale);
            prop_assert_eq!(layer.window, family.window);
        }
    }

    #[test]
    fn damaged_graphs_are_refused_or_fused_and_never_panic(
        family in families(),
        damages in prop::collection::vec(any::<(usize, usize, u8)>(), 1..4),
    ) {
        let graph = read(&family.damaged(&damages));
        let before = bytes_of(&graph);
        let rewritten = attention::run(graph, &ModelShape::default(), ROWS);
        if let AttentionReport::Refused(_) = rewritten.report {
            prop_assert!(bytes_of(&rewritten.graph) == before);
        }
    }

    #[test]
    fn no_oddity_hides_behind_a_form(family in families(), oddity in prop::sample::select(vec![
        Oddity::Alibi, Oddity::Softcap, Oddity::PartialRotation, Oddity::InterleavedRotation,
        Oddity::NoRotation, Oddity::NormAfterRotation, Oddity::BoundedAngles, Oddity::PrefixMask,
        Oddity::DoubledValues, Oddity::ReadElsewhere, Oddity::ScaledByLength, Oddity::ScaledFar,
    ])) {
        let family = Family { oddity: Some(oddity), ..family };
        refusal(again(&read(&family.model())), &ModelShape::default());
    }
}
