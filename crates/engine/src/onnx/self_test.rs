//! Whether this machine's kernels multiply 4-bit weights right when they compute with 8-bit integers.
//!
//! Some did not: on processors with AVX2 alone, single rows over weights with zero points came out wrong by
//! almost a half (onnxruntime#29853). So a tiny product is computed once per process and compared with the
//! exact one.

use std::path::Path;
use std::sync::OnceLock;

use graph::preflight::{self, Files};
use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type, tensor_shape_proto, type_proto,
};
use graph::{Graph, Limits};
use ort::session::Session;
use ort::value::Tensor;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::decoder::{running, session_builder};
use super::runtime::Runtime;
use crate::{Error, Result};

const ROWS: usize = 48;
const COLUMNS: usize = 256;
const BLOCK: usize = 32;
const BLOCKS: usize = COLUMNS / BLOCK;
/// Single rows and several have kernels of their own.
const INPUTS: [usize; 2] = [1, 5];
const SEED: u64 = 29_853;

/// How far 4-bit products at level 4 are from the exact ones, as shares of their length. The larger of
/// those for one row and for several; 1 where the kernel did not run at all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTestErrors {
    /// Blocks around eight.
    pub symmetric: f64,
    /// Blocks with zero points of their own.
    pub zero_points: f64,
}

impl Runtime {
    /// The self-test of this machine, made once per process.
    pub fn self_test(&self) -> SelfTestErrors {
        static RESULT: OnceLock<SelfTestErrors> = OnceLock::new();
        *RESULT.get_or_init(|| {
            let errors = test(self).unwrap_or_else(|error| {
                tracing::warn!(%error, "the self-test of 4-bit products did not run");
                SelfTestErrors { symmetric: 1.0, zero_points: 1.0 }
            });
            tracing::info!(errors.symmetric, errors.zero_points, "tested 4-bit products at level 4");
            errors
        })
    }
}

fn test(runtime: &Runtime) -> Result<SelfTestErrors> {
    let mut generator = Pcg64Mcg::seed_from_u64(SEED);
    let weights = Weights::draw(&mut generator);
    let mut session = open(runtime, &weights.model())?;
    let mut errors = SelfTestErrors { symmetric: 0.0, zero_points: 0.0 };
    for rows in INPUTS {
        let input: Vec<f32> = (0..rows * COLUMNS).map(|_| generator.random_range(-1.0..1.0)).collect();
        let [symmetric, zero_points] = run(&mut session, rows, &input)?;
        let error = |points, found: &[f32]| distance(&weights.product(&input, points), found);
        errors.symmetric = errors.symmetric.max(error(false, &symmetric));
        errors.zero_points = errors.zero_points.max(error(true, &zero_points));
    }
    Ok(errors)
}

fn open(runtime: &Runtime, model: &ModelProto) -> Result<Session> {
    let (bytes, limits) = (model.to_bytes(), Limits::default());
    let graph = Graph::from_bytes(Path::new("self_test.onnx"), bytes.clone(), &limits)?;
    let report = preflight::inspect(&graph, &Files::none(), &limits);
    if !report.is_passed() {
        let path = graph.path().to_path_buf();
        return Err(graph::Error::Refused { path, findings: report.findings }.into());
    }
    session_builder(runtime, 1)
        .and_then(|mut builder| builder.commit_from_memory(&bytes))
        .map_err(|error| running("testing 4-bit products", error))
}

/// Both products of `rows` rows.
fn run(session: &mut Session, rows: usize, input: &[f32]) -> Result<[Vec<f32>; 2]> {
    let failed = |error| running("testing 4-bit products", error);
    let shape = [rows as i64, COLUMNS as i64];
    let input = Tensor::from_array((shape, input.to_vec())).map_err(failed)?;
    let outputs = session.run(ort::inputs!["x" => input]).map_err(failed)?;
    let values = |name: &str| -> Result<Vec<f32>> {
        let missing = || Error::Run { doing: format!("reading `{name}` of the self-test"), source: None };
        let value = outputs.get(name).ok_or_else(missing)?;
        Ok(value.try_extract_tensor::<f32>().map_err(failed)?.1.to_vec())
    };
    Ok([values("symmetric")?, values("zero_points")?])
}

/// The distance of two vectors as a share of the first one's length.
fn distance(exact: &[f64], found: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let apart = square(&mut exact.iter().zip(found).map(|(exact, found)| exact - f64::from(*found)));
    let share = (apart / square(&mut exact.iter().copied())).sqrt();
    if share.is_finite() && exact.len() == found.len() { share } else { 1.0 }
}

/// A matrix of 4-bit numbers in blocks.
struct Weights {
    /// Numbers from 0 to 15, a row after the other.
    numbers: Vec<u8>,
    /// One for each block.
    scales: Vec<f32>,
    /// From 0 to 15, one for each block.
    zero_points: Vec<u8>,
}

impl Weights {
    fn draw(generator: &mut Pcg64Mcg) -> Self {
        let mut nibbles = |count: usize| (0..count).map(|_| generator.random_range(0..16)).collect();
        let (numbers, zero_points) = (nibbles(ROWS * COLUMNS), nibbles(ROWS * BLOCKS));
        let scales = (0..ROWS * BLOCKS).map(|_| generator.random_range(0.01..0.1)).collect();
        Self { numbers, scales, zero_points }
    }

    /// The exact product of rows of `input` with the matrix.
    fn product(&self, input: &[f32], with_zero_points: bool) -> Vec<f64> {
        let weight = |row: usize, column: usize| {
            let block = row * BLOCKS + column / BLOCK;
            let zero = if with_zero_points { self.zero_points[block] } else { 8 };
            (f64::from(self.numbers[row * COLUMNS + column]) - f64::from(zero))
                * f64::from(self.scales[block])
        };
        let dot = |input: &[f32], row| -> f64 {
            input.iter().enumerate().map(|(column, x)| f64::from(*x) * weight(row, column)).sum()
        };
        input.chunks(COLUMNS).flat_map(|input| (0..ROWS).map(move |row| dot(input, row))).collect()
    }

    /// A model that makes both products of `x`: without and with the zero points.
    fn model(&self) -> ModelProto {
        let packed = |values: &[u8]| values.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect();
        let scales = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let graph = GraphProto {
            name: text("self_test"),
            node: vec![
                product(&["x", "numbers", "scales"], "symmetric"),
                product(&["x", "numbers", "scales", "points"], "zero_points"),
            ],
            initializer: vec![
                tensor("numbers", data_type::UINT8, &[ROWS, BLOCKS, BLOCK / 2], packed(&self.numbers)),
                tensor("scales", data_type::FLOAT, &[ROWS * BLOCKS], scales),
                tensor("points", data_type::UINT8, &[ROWS * BLOCKS / 2], packed(&self.zero_points)),
            ],
            input: vec![value("x", COLUMNS)],
            output: vec![value("symmetric", ROWS), value("zero_points", ROWS)],
            ..Default::default()
        };
        let set = |domain: &str, version| OperatorSetIdProto {
            domain: text(domain),
            version: Some(version),
            ..Default::default()
        };
        ModelProto {
            ir_version: Some(10),
            opset_import: vec![set("", 21), set("com.microsoft", 1)],
            graph: Some(Box::new(graph)),
            ..Default::default()
        }
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn product(inputs: &[&str], output: &str) -> NodeProto {
    let given = [("K", COLUMNS), ("N", ROWS), ("bits", 4), ("block_size", BLOCK), ("accuracy_level", 4)];
    let attribute = |(name, number): &(&str, usize)| AttributeProto {
        name: text(name),
        r#type: Some(attribute_type::INT),
        i: Some(*number as i64),
        ..Default::default()
    };
    NodeProto {
        op_type: text("MatMulNBits"),
        domain: text("com.microsoft"),
        name: text(output),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: given.iter().map(attribute).collect(),
        ..Default::default()
    }
}

fn tensor(name: &str, kind: i32, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(kind),
        dims: dims.iter().map(|&size| size as i64).collect(),
        raw_data: Some(bytes),
        ..Default::default()
    }
}

/// Rows of `width` numbers.
fn value(name: &str, width: usize) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let sizes = [Value::DimParam("rows".to_owned()), Value::DimValue(width as i64)];
    let dim = sizes.into_iter().map(|size| Dimension { value: Some(size), ..Default::default() });
    let shape = TensorShapeProto { dim: dim.collect(), ..Default::default() };
    let tensor =
        type_proto::Tensor { elem_type: Some(data_type::FLOAT), shape: Some(shape), ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: text(name), r#type: Some(kind), ..Default::default() }
}
