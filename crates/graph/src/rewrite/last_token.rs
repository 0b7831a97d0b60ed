//! Computes logits of the last position only: the others are never sampled, and cost up to a third of a
//! prefill.
//!
//! The rows are dropped before the product that makes the logits. What looks back at several positions of
//! one pass, as speculation does, cannot use such a file.

use std::collections::HashSet;

use super::{Rewritten, is_operator};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{
    AttributeProto, NodeProto, TensorProto, TypeProto, attribute_type, data_type, type_proto,
};
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
struct Head {
    /// The node that multiplies with the vocabulary.
    product: usize,
    /// The node that reads the hidden state: the product, or what rounds its input.
    reader: usize,
    hidden: String,
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
    let head = head(graph)?;
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
    let taken = |wanted: &str| {
        let made = graph.nodes.iter().flat_map(|node| &node.output).any(|name| name == wanted);
        made || graph.initializers.iter().any(|tensor| tensor.name() == wanted)
    };
    match [PLACE, HIDDEN].into_iter().find(|name| taken(name)) {
        Some(name) => Err(Refusal::NameTaken(name.to_owned())),
        None => Ok(Some(head)),
    }
}

/// Goes back from the logits to the product and to what it reads.
fn head(graph: &Graph) -> Result<Head, Refusal> {
    let maker = |name: &str| graph.nodes.iter().position(|node| node.output.iter().any(|made| made == name));
    let input = |node: usize, index: usize| {
        graph.nodes[node].input.get(index).cloned().ok_or_else(|| no_product(graph, node))
    };
    let mut between = HashSet::new();
    let mut step = |name: &str| {
        let node = maker(name).ok_or_else(|| Refusal::NoProduct(format!("`{name}`")))?;
        between.extend(graph.nodes[node].output.iter().filter(|name| *name != LOGITS).cloned());
        Ok::<usize, Refusal>(node)
    };
    let mut node = step(LOGITS)?;
    // Graphs with f16 inside may give f32 outside.
    if is_operator(&graph.nodes[node], "", "Cast") {
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

/// The names that a node reads, also inside its subgraphs.
fn reads(node: &NodeProto) -> Box<dyn Iterator<Item = &String> + '_> {
    let graphs = node.attribute.iter().flat_map(|given| given.g.as_deref().into_iter().chain(&given.graphs));
    Box::new(node.input.iter().chain(graphs.flat_map(|graph| graph.node.iter().flat_map(reads))))
}

fn insert(graph: &mut Graph, head: &Head) {
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(1),
        ..Default::default()
    };
    // A list of one place keeps the axis of positions, with one row.
    let gather = NodeProto {
        input: vec![head.hidden.clone(), PLACE.to_owned()],
        output: vec![HIDDEN.to_owned()],
        name: Some(NAME.to_owned()),
        op_type: Some("Gather".to_owned()),
        attribute: vec![axis],
        ..Default::default()
    };
    graph.initializers.push(Part::new(TensorProto {
        dims: vec![1],
        data_type: Some(data_type::INT64),
        name: Some(PLACE.to_owned()),
        raw_data: Some((-1_i64).to_le_bytes().to_vec()),
        ..Default::default()
    }));
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

/// The dimensions of a tensor, unknown where they are symbols.
fn dimensions(described: Option<&TypeProto>) -> Option<Vec<Option<i64>>> {
    let Some(type_proto::Value::TensorType(tensor)) = &described?.value else { return None };
    let size = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) => Some(*size),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(|dimension| size(&dimension.value)).collect())
}
