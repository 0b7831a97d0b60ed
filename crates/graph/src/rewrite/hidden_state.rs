//! Adds the last hidden state as an output: what an embedding of a text is made of.
//!
//! It is what the product of the logits reads, at all positions, as f32. Whoever does not ask for the output
//! pays for one copy of it.

use super::wiring::Wiring;
use super::{Rewritten, build, integer, is_operator, last_token};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{TensorShapeProto, TypeProto, ValueInfoProto, data_type, type_proto};
use crate::{Graph, Part};

/// The output, f32 `[batch, sequence, hidden]`, by a name that no exporter gives.
pub const OUTPUT: &str = "hearth.last_hidden_state";
const NAME: &str = "hearth/last_hidden_state";

/// What became of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HiddenStateReport {
    /// The value is an output now.
    Added {
        /// Its name in the graph.
        value: String,
    },
    AlreadyThere,
    Refused(Refusal),
}

impl HiddenStateReport {
    /// Whether the graph is another now.
    pub fn changed(&self) -> bool {
        matches!(self, Self::Added { .. })
    }
}

impl std::fmt::Display for HiddenStateReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Added { value } => write!(formatter, "`{value}` became the output `{OUTPUT}`"),
            Self::AlreadyThere => write!(formatter, "it has the output `{OUTPUT}` already"),
            Self::Refused(refusal) => write!(formatter, "refused: {refusal}"),
        }
    }
}

/// Why the graph stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What makes the logits is of another form.
    #[error(transparent)]
    Head(#[from] last_token::Refusal),
    #[error("the hidden state `{value}` holds the positions that a {operator} chose")]
    SomePositions { value: String, operator: String },
    #[error("the width of its hidden state `{0}` is unknown")]
    UnknownWidth(String),
    #[error("it has no input `input_ids` of two dimensions")]
    NoInputIds,
    #[error("it has a value `{OUTPUT}` already that is no output")]
    NameTaken,
}

/// Adds the output [`OUTPUT`].
pub fn run(mut graph: Graph) -> Rewritten<HiddenStateReport> {
    if graph.outputs.iter().any(|output| output.name() == OUTPUT) {
        return Rewritten { graph, report: HiddenStateReport::AlreadyThere };
    }
    let report = match find(&graph) {
        Ok(hidden) => {
            let value = hidden.value.clone();
            add(&mut graph, hidden);
            HiddenStateReport::Added { value }
        }
        Err(refusal) => HiddenStateReport::Refused(refusal),
    };
    Rewritten { graph, report }
}

struct Hidden {
    value: String,
    /// The node before which the value exists.
    reader: usize,
    /// Batch, sequence, width.
    dimensions: Vec<Dimension>,
}

fn find(graph: &Graph) -> Result<Hidden, Refusal> {
    let wiring = Wiring::new(graph);
    if wiring.input("num_logits_to_keep").is_some() {
        return Err(last_token::Refusal::ChosenByInput("num_logits_to_keep".to_owned()).into());
    }
    if wiring.has(OUTPUT) {
        return Err(Refusal::NameTaken);
    }
    let head = last_token::head(&wiring)?;
    let value = all_positions(&wiring, &head.hidden)?;
    let width = width(&wiring, head.product).ok_or_else(|| Refusal::UnknownWidth(value.clone()))?;
    let ids = wiring.input("input_ids").ok_or(Refusal::NoInputIds)?;
    let Some(type_proto::Value::TensorType(ids)) = ids.r#type.as_ref().and_then(|ids| ids.value.as_ref())
    else {
        return Err(Refusal::NoInputIds);
    };
    let mut dimensions = ids.shape.as_ref().map(|shape| shape.dim.clone()).unwrap_or_default();
    if dimensions.len() != 2 {
        return Err(Refusal::NoInputIds);
    }
    dimensions.push(Dimension { value: Some(dimension::Value::DimValue(width)), ..Default::default() });
    Ok(Hidden { value, reader: head.reader, dimensions })
}

/// The value of which `hidden` is the last position, or `hidden` itself where it has all.
fn all_positions(wiring: &Wiring<'_>, hidden: &str) -> Result<String, Refusal> {
    let Some(mut node) = wiring.maker(hidden).map(|maker| wiring.node(maker)) else {
        return Ok(hidden.to_owned());
    };
    // Exports that keep one position choose it by a scalar and give its axis back.
    if is_operator(node, "", "Unsqueeze")
        && let Some(gather) = node.input.first().and_then(|name| wiring.made_by(name, "Gather"))
    {
        node = gather;
    }
    if !["Gather", "GatherND", "GatherElements", "Slice"].contains(&node.op_type()) {
        return Ok(hidden.to_owned());
    }
    match node.input.first() {
        Some(whole) if is_operator(node, "", "Gather") && integer(node, "axis") == Some(1) => {
            Ok(whole.clone())
        }
        _ => Err(Refusal::SomePositions { value: hidden.to_owned(), operator: node.op_type().to_owned() }),
    }
}

/// The width of what the product at `product` reads, from its attributes or the shape of its weights.
fn width(wiring: &Wiring<'_>, product: usize) -> Option<i64> {
    let product = wiring.node(product);
    if is_operator(product, "com.microsoft", "MatMulNBits") {
        return integer(product, "K");
    }
    let weights = product.input.get(1)?;
    if let Some(tensor) = wiring.initializer(weights) {
        let [width, _] = tensor.dims.as_slice() else { return None };
        return Some(*width);
    }
    // A tied model may turn the table of its embedding around.
    let turned = wiring.made_by(weights, "Transpose")?.input.first()?;
    let [_, width] = wiring.initializer(turned)?.dims.as_slice() else { return None };
    Some(*width)
}

fn add(graph: &mut Graph, hidden: Hidden) {
    // An output has the name of its value. A cast gives it a name of its own, and f32 whatever is inside.
    let to = build::int("to", i64::from(data_type::FLOAT));
    let cast = build::node("Cast", NAME, &[&hidden.value], &[OUTPUT], vec![to]);
    graph.nodes.insert(hidden.reader, Part::new(cast));
    let shape = TensorShapeProto { dim: hidden.dimensions, ..Default::default() };
    let tensor =
        type_proto::Tensor { elem_type: Some(data_type::FLOAT), shape: Some(shape), ..Default::default() };
    let described = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    graph.outputs.push(Part::new(ValueInfoProto {
        name: Some(OUTPUT.to_owned()),
        r#type: Some(described),
        ..Default::default()
    }));
}
