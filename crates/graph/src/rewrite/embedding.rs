//! Lets a tied model embed its tokens from the quantised weights that make its logits.
//!
//! Exports quantise products and leave the embedding in f32, though a tied model has the same numbers twice
//! then: at half a billion parameters 545 of 853 MB. This pass changes what is computed, by what rounding the
//! table to the product's steps changes. Both are compared at rows spread over the vocabulary, since a
//! product of the same size may be another one.

use super::wiring::Wiring;
use super::{Rewritten, build, integer, is_operator, last_token};
use crate::data::Place;
use crate::proto::{NodeProto, TensorProto, data_type};
use crate::{Graph, Part};

const NAME: &str = "hearth/embedding";
const WEIGHTS: &str = "hearth/embedding/weights";
const SCALES: &str = "hearth/embedding/scales";
/// The rows that are compared, spread over the vocabulary.
const SAMPLED_ROWS: u64 = 64;
/// Beyond half a step by this share of one is rounding of the comparison itself.
const SLACK: f32 = 1e-3;
const MOST_SIZE: i64 = 1 << 24;

/// What became of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbeddingReport {
    /// The table is gone.
    Shared {
        table: String,
        /// The bytes that it had.
        bytes: u64,
    },
    /// The tokens are embedded from quantised weights as it is.
    AlreadyQuantised,
    Refused(Refusal),
}

impl EmbeddingReport {
    /// Whether the graph is another now.
    pub fn changed(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }
}

impl std::fmt::Display for EmbeddingReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared { table, bytes } => {
                write!(formatter, "the weights of the logits took the place of `{table}`, {bytes} bytes")
            }
            Self::AlreadyQuantised => write!(formatter, "its embedding is quantised already"),
            Self::Refused(refusal) => write!(formatter, "refused: {refusal}"),
        }
    }
}

/// Why the graph stays as it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// What makes the logits is of another form.
    #[error(transparent)]
    Head(#[from] last_token::Refusal),
    #[error("its logits come from a {0}, not from quantised weights")]
    NotQuantised(String),
    #[error("the weights of its logits have {0}")]
    Form(&'static str),
    #[error("the weights of its logits are not constant, or lie in another form")]
    UnknownWeights,
    #[error("it has no table of f32 from which tokens are embedded, {vocabulary} rows of {width}")]
    NoTable { vocabulary: i64, width: i64 },
    #[error("its table `{0}` is read elsewhere too, so nothing would be saved")]
    ReadElsewhere(String),
    #[error("row {row} of `{table}` is {steps:.2} steps from the weights of the logits: it is another table")]
    NotTied { table: String, row: u64, steps: f32 },
    #[error("its weights cannot be compared: {0}")]
    Unreadable(String),
    #[error("it has a value `{0}` already")]
    NameTaken(&'static str),
}

/// Replaces the table of the embedding.
pub fn run(mut graph: Graph) -> Rewritten<EmbeddingReport> {
    if graph.nodes.iter().any(|node| is_operator(node, "com.microsoft", "GatherBlockQuantized")) {
        return Rewritten { graph, report: EmbeddingReport::AlreadyQuantised };
    }
    let report = match find(&graph) {
        Ok(tied) => {
            let (table, bytes) = (tied.table.clone(), tied.bytes);
            share(&mut graph, tied);
            EmbeddingReport::Shared { table, bytes }
        }
        Err(refusal) => EmbeddingReport::Refused(refusal),
    };
    Rewritten { graph, report }
}

/// A product and the table that it was quantised from.
struct Tied {
    gather: usize,
    table: String,
    bytes: u64,
    weights: TensorProto,
    scales: TensorProto,
    bits: i64,
    block: i64,
}

fn find(graph: &Graph) -> Result<Tied, Refusal> {
    let wiring = Wiring::new(graph);
    if let Some(name) = [WEIGHTS, SCALES].into_iter().find(|name| wiring.has(name)) {
        return Err(Refusal::NameTaken(name));
    }
    let product = wiring.node(last_token::head(&wiring)?.product);
    let head = Quantised::of(&wiring, product)?;
    let (gather, table) = table(&wiring, &head)?;
    let values = graph.place(table).ok_or(Refusal::UnknownWeights)?;
    compare(graph, &head, table.name(), &values)?;
    let blocks = head.width / head.block;
    let shaped = |tensor: &TensorProto, name: &str, columns: i64| TensorProto {
        name: Some(name.to_owned()),
        dims: vec![head.vocabulary, columns],
        ..tensor.clone()
    };
    Ok(Tied {
        gather,
        table: table.name().to_owned(),
        bytes: values.length(),
        // The same bytes under other dimensions: a row of the product is a row of the table.
        weights: shaped(head.weights, WEIGHTS, head.width * head.bits / 8),
        scales: shaped(head.scales, SCALES, blocks),
        bits: head.bits,
        block: head.block,
    })
}

/// The product that makes the logits, whose weights can be gathered.
struct Quantised<'g> {
    vocabulary: i64,
    width: i64,
    bits: i64,
    block: i64,
    weights: &'g TensorProto,
    scales: &'g TensorProto,
    weights_at: Place,
    scales_at: Place,
}

impl<'g> Quantised<'g> {
    fn of(wiring: &Wiring<'g>, product: &NodeProto) -> Result<Self, Refusal> {
        if !is_operator(product, "com.microsoft", "MatMulNBits") {
            return Err(Refusal::NotQuantised(product.op_type().to_owned()));
        }
        // Larger sizes are none of a model, and their products could not be counted.
        let given = |name: &str| integer(product, name).filter(|size| (1..=MOST_SIZE).contains(size));
        let (bits, packing) = (given("bits").unwrap_or(4), integer(product, "weight_prepacked").unwrap_or(0));
        let (Some(vocabulary), Some(width), Some(block)) = (given("N"), given("K"), given("block_size"))
        else {
            return Err(Refusal::UnknownWeights);
        };
        if !matches!(bits, 4 | 8) {
            return Err(Refusal::Form("neither 4 nor 8 bits"));
        }
        if packing != 0 {
            return Err(Refusal::Form("the layout of one kernel"));
        }
        if width % block != 0 {
            return Err(Refusal::Form("a last block that is not full"));
        }
        let is_given = |input: usize| product.input.get(input).is_some_and(|name| !name.is_empty());
        if is_given(3) {
            return Err(Refusal::Form("zero points"));
        }
        if is_given(4) {
            return Err(Refusal::Form("rows sorted by `g_idx`"));
        }
        let tensor = |input: usize, kind: i32, elements: i64| {
            let tensor = wiring.initializer(product.input.get(input)?)?;
            let place = wiring.graph().place(tensor)?;
            let size = if kind == data_type::FLOAT { 4 } else { 1 };
            let is_constant = wiring.input(tensor.name()).is_none() && tensor.data_type() == kind;
            (is_constant && place.length() == (elements * size) as u64).then_some((tensor, place))
        };
        let weights = tensor(1, data_type::UINT8, vocabulary * (width * bits / 8));
        let scales = tensor(2, data_type::FLOAT, vocabulary * (width / block));
        let (Some((weights, weights_at)), Some((scales, scales_at))) = (weights, scales) else {
            return Err(Refusal::UnknownWeights);
        };
        Ok(Self { vocabulary, width, bits, block, weights, scales, weights_at, scales_at })
    }

    /// What the row `row` of the weights stands for, with the step of each number and whether it is the
    /// lowest or the highest that its bits can say.
    fn row(&self, graph: &Graph, row: u64) -> crate::Result<Vec<(f32, f32, bool)>> {
        let (width, bits) = (self.width as u64, self.bits as u64);
        let bytes = width * bits / 8;
        let packed = graph.read_at(&self.weights_at, row * bytes, bytes)?;
        let blocks = width / self.block as u64;
        let scales = floats(&graph.read_at(&self.scales_at, row * blocks * 4, blocks * 4)?);
        let highest = (1_i32 << bits) - 1;
        let number = |place: usize| {
            let code = match bits {
                8 => packed[place],
                _ => packed[place / 2] >> (place % 2 * 4) & 0xf,
            };
            let (code, scale) = (i32::from(code), scales[place / self.block as usize]);
            // Without zero points the middle of the range stands for zero, here and where it is gathered.
            ((code - (highest + 1) / 2) as f32 * scale, scale.abs(), code == 0 || code == highest)
        };
        Ok((0..self.width as usize).map(number).collect())
    }
}

/// The Gather that embeds tokens from a table as large as the weights, and that table.
fn table<'g>(wiring: &Wiring<'g>, head: &Quantised<'_>) -> Result<(usize, &'g TensorProto), Refusal> {
    let is_table = |tensor: &&TensorProto| {
        tensor.data_type() == data_type::FLOAT
            && tensor.dims == [head.vocabulary, head.width]
            && wiring.input(tensor.name()).is_none()
    };
    let gathers = wiring.graph().nodes.iter().enumerate().filter_map(|(place, node)| {
        let is_rows = is_operator(node, "", "Gather") && integer(node, "axis").unwrap_or(0) == 0;
        let tensor = wiring.initializer(node.input.first()?).filter(is_table)?;
        (is_rows && node.input.len() == 2 && node.output.len() == 1).then_some((place, tensor))
    });
    let mut gathers = gathers.collect::<Vec<_>>();
    let Some((gather, table)) = gathers.pop() else {
        return Err(Refusal::NoTable { vocabulary: head.vocabulary, width: head.width });
    };
    let is_only = gathers.is_empty()
        && wiring.readers(table.name()).len() == 1
        && wiring.readers(&wiring.node(gather).input[0]) == [gather]
        && wiring.output(table.name()).is_none();
    if is_only { Ok((gather, table)) } else { Err(Refusal::ReadElsewhere(table.name().to_owned())) }
}

/// Finds out whether the weights are the table, rounded to their steps.
fn compare(graph: &Graph, head: &Quantised<'_>, table: &str, values: &Place) -> Result<(), Refusal> {
    let rows = head.vocabulary as u64;
    let sampled = SAMPLED_ROWS.min(rows);
    let unreadable = |error: crate::Error| Refusal::Unreadable(error.to_string());
    for sample in 0..sampled {
        let row = if sampled == 1 { 0 } else { sample * (rows - 1) / (sampled - 1) };
        let length = head.width as u64 * 4;
        let expected = floats(&graph.read_at(values, row * length, length).map_err(unreadable)?);
        let quantised = head.row(graph, row).map_err(unreadable)?;
        for (expected, (found, step, is_end)) in expected.iter().zip(quantised) {
            let difference = (expected - found).abs();
            // The signed range has one step less above zero than below, so what lies there is cut off.
            let is_beyond = is_end && expected.abs() > found.abs();
            let most = if is_beyond { 1.0 } else { 0.5 } + SLACK;
            let is_near = difference <= step * most || difference <= f32::MIN_POSITIVE;
            if !is_near {
                return Err(Refusal::NotTied { table: table.to_owned(), row, steps: difference / step });
            }
        }
    }
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn share(graph: &mut Graph, tied: Tied) {
    let old = &graph.nodes[tied.gather];
    let inputs = [WEIGHTS, old.input[1].as_str(), SCALES];
    let attributes = vec![
        build::int("bits", tied.bits),
        build::int("block_size", tied.block),
        build::int("gather_axis", 0),
        build::int("quantize_axis", 1),
    ];
    let mut node = build::node("GatherBlockQuantized", NAME, &inputs, &[&old.output[0]], attributes);
    node.domain = Some("com.microsoft".to_owned());
    graph.nodes[tied.gather] = Part::new(node);
    graph.initializers.push(Part::new(tied.weights));
    graph.initializers.push(Part::new(tied.scales));
    super::wiring::sweep(graph);
}
