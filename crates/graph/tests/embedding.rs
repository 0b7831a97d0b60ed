//! A tied model embeds from the weights of its logits, and only where those are the table that they replace.

mod support;

use graph::proto::{ModelProto, NodeProto, TensorProto, data_type};
use graph::rewrite::embedding::{self, EmbeddingReport, Refusal};
use graph::rewrite::last_token;
use graph::{Graph, Limits, Weights};
use support::{Folder, again, ember, fixtures, graph_of, int, kernel, model, node, text, value, with, zeros};

const VOCABULARY: usize = 100;
const WIDTH: usize = 32;
const STEP: f32 = 0.25;

/// The code of a number of the table, and the number itself: what quantises to that code.
fn code(row: usize, column: usize) -> u8 {
    ((row * 5 + column * 3) % 16) as u8
}

fn number(row: usize, column: usize) -> f32 {
    let off = ((row + column) % 9) as f32 / 20.0 - 0.2;
    (f32::from(code(row, column)) - 8.0 + off) * STEP
}

fn raw(name: &str, dims: &[i64], kind: i32, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(kind),
        raw_data: Some(bytes),
        ..Default::default()
    }
}

fn table(number: impl Fn(usize, usize) -> f32) -> TensorProto {
    let places = (0..VOCABULARY).flat_map(|row| (0..WIDTH).map(move |column| (row, column)));
    let bytes = places.flat_map(|(row, column)| number(row, column).to_le_bytes()).collect();
    raw("table", &[VOCABULARY as i64, WIDTH as i64], data_type::FLOAT, bytes)
}

fn tied() -> ModelProto {
    let given = [("K", WIDTH as i64), ("N", VOCABULARY as i64), ("bits", 4), ("block_size", 16)];
    let nodes = vec![
        node("Gather", &["table", "input_ids"], &["x"]),
        node("Neg", &["x"], &["h"]),
        kernel("MatMulNBits", &["h", "B", "scales"], &["logits"], &given),
    ];
    let places = (0..VOCABULARY).flat_map(|row| (0..WIDTH / 2).map(move |pair| (row, pair * 2)));
    let packed = places.map(|(row, column)| code(row, column) | code(row, column + 1) << 4).collect();
    let scales = (0..VOCABULARY * 2).flat_map(|_| STEP.to_le_bytes()).collect();
    let tensors = vec![
        table(number),
        raw("B", &[VOCABULARY as i64, 2, 8], data_type::UINT8, packed),
        raw("scales", &[VOCABULARY as i64 * 2], data_type::FLOAT, scales),
    ];
    let mut graph = graph_of(nodes, tensors);
    graph.input = vec![value("input_ids", data_type::INT64, &[-1, -1])];
    graph.output = vec![value("logits", data_type::FLOAT, &[-1, -1, VOCABULARY as i64])];
    model(graph)
}

#[test]
fn the_table_is_replaced_by_the_same_bytes_under_other_dimensions() {
    let folder = Folder::new(&tied());
    let rewritten = embedding::run(folder.open());
    let bytes = (VOCABULARY * WIDTH * 4) as u64;
    assert_eq!(rewritten.report, EmbeddingReport::Shared { table: "table".to_owned(), bytes });
    assert!(rewritten.report.changed());
    let path = folder.path("shared.onnx");
    rewritten.graph.write(&path, Weights::Refer).expect("it is written");
    graph::preflight::check(&path, &Limits::default()).expect("it passes");
    let graph = Graph::open(&path, &Limits::default()).expect("it is read");
    let gather = &graph.nodes[0];
    assert_eq!(gather.op_type(), "GatherBlockQuantized");
    assert_eq!(gather.output, ["x"]);
    let tensor = |name: &str| graph.initializers.iter().find(|tensor| tensor.name() == name).expect(name);
    assert_eq!(tensor(&gather.input[0]).dims, [VOCABULARY as i64, WIDTH as i64 / 2]);
    assert_eq!(tensor(&gather.input[2]).dims, [VOCABULARY as i64, 2]);
    assert_eq!(tensor(&gather.input[0]).external_data, tensor("B").external_data, "nothing is copied");
    assert!(!graph.initializers.iter().any(|tensor| tensor.name() == "table"));
    let twice = embedding::run(graph);
    assert_eq!(twice.report, EmbeddingReport::AlreadyQuantised);
}

#[test]
fn a_number_beyond_the_range_counts_as_its_end() {
    // Code 15 is 7 steps; what was up to 8 steps was cut off there.
    let cut_off = |row, column| match code(row, column) {
        15 => STEP * 7.9,
        _ => number(row, column),
    };
    let mut model = tied();
    model.graph.as_mut().expect("a graph").initializer[0] = table(cut_off);
    assert!(embedding::run(Folder::new(&model).open()).report.changed());
}

/// Why the model stays as it is, byte for byte.
fn refusal(change: impl Fn(&mut Vec<NodeProto>, &mut Vec<TensorProto>)) -> Refusal {
    let mut model = tied();
    let graph = model.graph.as_mut().expect("a graph");
    change(&mut graph.node, &mut graph.initializer);
    let folder = Folder::new(&model);
    let before = folder.open().to_bytes(Weights::Embed).expect("it is written");
    let rewritten = embedding::run(folder.open());
    let EmbeddingReport::Refused(refusal) = &rewritten.report else { panic!("{}", rewritten.report) };
    assert!(!rewritten.report.changed());
    assert_eq!(rewritten.graph.to_bytes(Weights::Embed).expect("it is written"), before);
    refusal.clone()
}

#[test]
fn another_table_of_the_same_size_is_refused() {
    let off_by_one = |row: usize, column| number(row, column) + if row == 99 { STEP } else { 0.0 };
    let refused = refusal(|_, tensors| tensors[0] = table(off_by_one));
    let Refusal::NotTied { table, row, steps } = &refused else { panic!("{refused}") };
    assert_eq!((table.as_str(), *row), ("table", 99));
    assert!(*steps > 0.5 && *steps < 1.5, "{refused}");
    let not_numbers = refusal(|_, tensors| tensors[0] = self::table(|_, _| f32::NAN));
    assert!(matches!(not_numbers, Refusal::NotTied { row: 0, .. }), "{not_numbers}");
}

#[test]
fn weights_of_another_form_are_refused_with_the_reason() {
    let no_table = Refusal::NoTable { vocabulary: VOCABULARY as i64, width: WIDTH as i64 };
    assert_eq!(refusal(|nodes, _| nodes[0].attribute.push(int("axis", 1))), no_table);
    let read_elsewhere = refusal(|nodes, _| nodes.push(node("Neg", &["table"], &["seen"])));
    assert_eq!(read_elsewhere, Refusal::ReadElsewhere("table".to_owned()));
    let points = refusal(|nodes, tensors| {
        nodes[2].input.push("points".to_owned());
        tensors.push(support::bytes("points", &[VOCABULARY as i64]));
    });
    assert_eq!(points, Refusal::Form("zero points"));
    let two_bits = refusal(|nodes, _| nodes[2].attribute[2].i = Some(2));
    assert_eq!(two_bits, Refusal::Form("neither 4 nor 8 bits"));
    let partial = refusal(|nodes, _| nodes[2].attribute[3].i = Some(64));
    assert_eq!(partial, Refusal::Form("a last block that is not full"));
    let packed = refusal(|nodes, _| nodes[2].attribute.push(int("weight_prepacked", 1)));
    assert_eq!(packed, Refusal::Form("the layout of one kernel"));
    let short = refusal(|_, tensors| tensors[1] = support::bytes("B", &[50, 2, 8]));
    assert_eq!(short, Refusal::UnknownWeights);
    let plain = refusal(|nodes, tensors| {
        nodes[2] = node("MatMul", &["h", "w"], &["logits"]);
        tensors.push(zeros("w", &[WIDTH as i64, VOCABULARY as i64]));
    });
    assert_eq!(plain, Refusal::NotQuantised("MatMul".to_owned()));
    let softened = refusal(|nodes, _| {
        nodes[2].output[0] = "raw".to_owned();
        nodes.push(with(node("Tanh", &["raw"], &["logits"]), int("unused", 0)));
    });
    assert_eq!(softened, Refusal::Head(last_token::Refusal::NoProduct("`Tanh`".to_owned())));
}

#[test]
fn real_exports_share_what_is_tied() {
    for path in fixtures().unwrap_or_default().into_iter().chain([ember()]) {
        let name = path.display().to_string();
        let rewritten = embedding::run(Graph::open(&path, &Limits::default()).expect("it is read"));
        let report = &rewritten.report;
        again(&rewritten.graph);
        match () {
            () if name.contains("concat-q4") || name.contains("concat16-q4") => {
                assert!(matches!(report, EmbeddingReport::Shared { bytes: 131_072, .. }), "{name}: {report}");
            }
            () if name.contains("gqa-q4") => assert_eq!(*report, EmbeddingReport::AlreadyQuantised, "{name}"),
            () if name.contains("ember") => {
                assert!(
                    matches!(report, EmbeddingReport::Shared { bytes: 3_145_728, .. }),
                    "{name}: {report}"
                );
            }
            () => {
                let is_refused = matches!(report, EmbeddingReport::Refused(Refusal::NotQuantised(_)));
                assert!(is_refused, "{name}: {report}");
            }
        }
    }
}
