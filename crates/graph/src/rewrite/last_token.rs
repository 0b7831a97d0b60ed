//! Computes logits of the last position only: the others are never sampled, and cost up to a third of a
//! prefill.
//!
//! The rows are dropped before the product that makes the logits. What looks back at several positions of
//! one pass, as speculation does, cannot use such a file.

use std::collections::HashSet;

use super::wiring::{MOST_COPIES, Wiring, dimensions, reads};
use super::{Rewritten, build, is_operator};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::type_proto;
use crate::{Graph, Part};

const LOGITS: &str = "logits";
/// The new node and its values, by names that no exporter gives.
const NAME: &str = "hearth/last_token";
const PLACE: &str = "hearth/last_token/place";
const HIDDEN: &str = "hearth/last_token/hidden";

/// What became of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastTokenReport {
    /// The node `product` reads one position.
    Inserted {
        /// The name of the node that makes the logits.
        product: String,
    },
    /// The graph gives one position as it is.
    AlreadyShort,
    Refused(Refusal),
}

/// Why the graph stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has no output `logits` of three dimensions")]
    NoLogits,
    #[error("its input `{0}` chooses the positions")]
    ChosenByInput(String),
    #[error("its logits come from {0}, not from a product")]
    NoProduct(String),
    #[error("its last hidden state `{0}` is an output too")]
    HiddenIsOutput(String),
    #[error("its logits or what they are made of are read elsewhere (`{0}`)")]
    ReadElsewhere(String),
    #[error("it has a value `{0}` already")]
    NameTaken(String),
}

/// Drops all positions but the last before the logits.
pub fn run(mut graph: Graph) -> Rewritten<LastTokenReport> {
    let report = match find(&graph) {
        Ok(None) => LastTokenReport::AlreadyShort,
        Ok(Some(head)) => {
            let product = graph.nodes[head.product].name().to_owned();
            insert(&mut graph, &head);
            LastTokenReport::Inserted { product }
        }
        Err(refusal) => LastTokenReport::Refused(refusal),
    };
    Rewritten { graph, report }
}

/// The part of a graph that makes logits of hidden states.
pub(super) struct Head {
    /// The node that multiplies with the vocabulary.
    pub(super) product: usize,
    /// The node that reads the hidden state: the product, or what rounds its input.
    pub(super) reader: usize,
    pub(super) hidden: String,
    /// What lies between hidden state and logits: values with one row per position.
    between: HashSet<String>,
}

fn find(graph: &Graph) -> Result<Option<Head>, Refusal> {
    let output = graph.outputs.iter().find(|output| output.name() == LOGITS).ok_or(Refusal::NoLogits)?;
    let dimensions = dimensions(output.r#type.as_ref()).ok_or(Refusal::NoLogits)?;
    let [_, positions, _] = dimensions.as_slice() else { return Err(Refusal::NoLogits) };
    if *positions == Some(1) {
        return Ok(None);
    }
    if let Some(input) = graph.inputs.iter().find(|input| input.name() == "num_logits_to_keep") {
        return Err(Refusal::ChosenByInput(input.name().to_owned()));
    }
    let wiring = Wiring::new(graph);
    let head = head(&wiring)?;
    if graph.outputs.iter().any(|output| output.name() == head.hidden) {
        return Err(Refusal::HiddenIsOutput(head.hidden));
    }
    let is_inner = |name: &&String| head.between.contains(*name) || *name == LOGITS;
    for (index, node) in graph.nodes.iter().enumerate() {
        let makes_inner = index == head.reader
            || node.output.iter().any(|name| head.between.contains(name) || name == LOGITS);
        if let Some(name) = reads(node).find(is_inner).filter(|_| !makes_inner) {
            return Err(Refusal::ReadElsewhere(name.clone()));
        }
    }
    if let Some(output) = graph.outputs.iter().find(|output| head.between.contains(output.name())) {
        return Err(Refusal::ReadElsewhere(output.name().to_owned()));
    }
    match [PLACE, HIDDEN].into_iter().find(|name| wiring.has(name)) {
        Some(name) => Err(Refusal::NameTaken(name.to_owned())),
        None => Ok(Some(head)),
    }
}

/// Goes back from the logits to the product and to what it reads.
pub(super) fn head(wiring: &Wiring<'_>) -> Result<Head, Refusal> {
    let graph = wiring.graph();
    let input = |node: usize, index: usize| {
        graph.nodes[node].input.get(index).cloned().ok_or_else(|| no_product(graph, node))
    };
    let mut between = HashSet::new();
    let mut step = |name: &str| {
        let node = wiring.maker(name).ok_or_else(|| Refusal::NoProduct(format!("`{name}`")))?;
        between.extend(graph.nodes[node].output.iter().filter(|name| *name != LOGITS).cloned());
        Ok::<usize, Refusal>(node)
    };
    let mut node = step(LOGITS)?;
    // Graphs with f16 inside may give f32 outside, and exporters leave copies to rename values.
    for _ in 0..MOST_COPIES {
        let is_passed_on = ["Cast", "Identity"].iter().any(|copy| is_operator(&graph.nodes[node], "", copy));
        if !is_passed_on {
            break;
        }
        node = step(&input(node, 0)?)?;
    }
    if is_operator(&graph.nodes[node], "", "MatMul")
        || is_operator(&graph.nodes[node], "com.microsoft", "MatMulNBits")
    {
        return Ok(Head { product: node, reader: node, hidden: input(node, 0)?, between });
    }
    // Dynamic 8-bit products: Mul(Cast(MatMulInteger(rounded, weights, …)), Mul(scale, scale of weights)).
    let refused = no_product(graph, node);
    if !is_operator(&graph.nodes[node], "", "Mul") {
        return Err(refused);
    }
    let (cast, scales) = (step(&input(node, 0)?)?, step(&input(node, 1)?)?);
    let product = if is_operator(&graph.nodes[cast], "", "Cast") { step(&input(cast, 0)?)? } else { cast };
    if !is_operator(&graph.nodes[product], "", "MatMulInteger")
        || !is_operator(&graph.nodes[scales], "", "Mul")
    {
        return Err(refused);
    }
    let reader = step(&input(product, 0)?)?;
    let is_rounding = is_operator(&graph.nodes[reader], "", "DynamicQuantizeLinear");
    let scale = graph.nodes[reader].output.get(1);
    if !is_rounding || !graph.nodes[scales].input.iter().any(|name| Some(name) == scale) {
        return Err(refused);
    }
    Ok(Head { product, reader, hidden: input(reader, 0)?, between })
}

fn no_product(graph: &Graph, node: usize) -> Refusal {
    Refusal::NoProduct(format!("`{}`", graph.nodes[node].op_type()))
}

fn insert(graph: &mut Graph, head: &Head) {
    // A list of one place keeps the axis of positions, with one row.
    let inputs = [head.hidden.as_str(), PLACE];
    let gather = build::node("Gather", NAME, &inputs, &[HIDDEN], vec![build::int("axis", 1)]);
    graph.initializers.push(Part::new(build::whole(PLACE, &[1], &[-1])));
    graph.nodes[head.reader].edit().input[0] = HIDDEN.to_owned();
    graph.nodes.insert(head.reader, Part::new(gather));
    // They state the rows that are gone.
    graph.value_infos.retain(|value| !head.between.contains(value.name()));
    for output in graph.outputs.iter_mut().filter(|output| output.name() == LOGITS) {
        let Some(type_proto::Value::TensorType(tensor)) =
            output.edit().r#type.as_mut().and_then(|described| described.value.as_mut())
        else {
            continue;
        };
        if let Some(positions) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(1)) {
            positions.value = Some(dimension::Value::DimValue(1));
        }
    }
}
