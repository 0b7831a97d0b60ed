//! Finds the parts of each layer's attention by their place between past, present and the graph's end.
//!
//! What is found here is a guess at where things lie; what they compute is asked of them afterwards.

use std::collections::HashSet;

use super::Refusal;
use crate::Graph;
use crate::preflight::canonical_domain;
use crate::proto::{AttributeProto, NodeProto, ValueInfoProto, attribute_type, data_type, type_proto};
use crate::rewrite::wiring::{Wiring, dimensions};

/// More nodes than lie between a state and its softmax, or on one side of a rotation.
const MOST_STEPS: usize = 96;

/// More heads, or numbers of a head, than any decoder has.
const MOST_SIZE: usize = 1024;

/// The attention of one layer, by the names of its values.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// As the graph numbers it.
    pub(super) number: String,
    pub(super) past_key: String,
    pub(super) past_value: String,
    pub(super) present_key: String,
    pub(super) present_value: String,
    pub(super) kv_heads: usize,
    pub(super) head_size: usize,
    pub(super) query: Side,
    pub(super) key: Side,
    /// `[batch, heads, tokens, head size]`, not rotated.
    pub(super) value_heads: String,
    /// Query times key, before mask and softmax.
    pub(super) scores: String,
    pub(super) softmax_input: String,
    /// `[batch, tokens, heads · head size]`
    pub(super) output: String,
}

/// Queries or keys around their rotation, `[batch, heads, tokens, head size]`: the same value twice where
/// there is none.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) heads: String,
    pub(super) rotated: String,
}

impl Side {
    pub(super) fn is_rotated(&self) -> bool {
        self.heads != self.rotated
    }
}

/// One state of a layer: what was and what becomes of it.
struct State {
    past: String,
    present: String,
    /// The same as the attention reads it, of which the output may be a copy.
    joined: String,
    new: String,
    heads: usize,
    head_size: usize,
}

/// What the outputs of a graph say of its attention.
pub(super) enum Found {
    Layers(Vec<Layer>),
    AlreadyFused,
}

/// Finds all layers.
pub(super) fn find(wiring: &Wiring<'_>) -> Result<Found, Refusal> {
    let graph = wiring.graph();
    let is_fused = |name: &str| wiring.maker(name).is_some_and(|index| is_kernel(wiring.node(index)));
    let presents = graph.outputs.iter().map(|output| output.name());
    let (fused, plain): (Vec<_>, Vec<_>) =
        presents.filter(|name| name.starts_with("present")).partition(|name| is_fused(name));
    if plain.is_empty() && !fused.is_empty() {
        return Ok(Found::AlreadyFused);
    }
    single_graph(graph)?;
    let mut layers: Vec<(String, Option<State>, Option<State>)> = Vec::new();
    for name in plain {
        let unknown = || Refusal::UnknownState { output: name.to_owned() };
        let mut parts = name.rsplit('.');
        let (kind, number) = (parts.next().ok_or_else(unknown)?, parts.next().ok_or_else(unknown)?);
        if !matches!(kind, "key" | "value") || number.parse::<u32>().is_err() {
            return Err(unknown());
        }
        let state = state(wiring, number, name)?;
        let place = layers.iter().position(|(known, ..)| known == number).unwrap_or_else(|| {
            layers.push((number.to_owned(), None, None));
            layers.len() - 1
        });
        let (_, key, value) = &mut layers[place];
        *(if kind == "key" { key } else { value }) = Some(state);
    }
    if layers.is_empty() {
        return Err(Refusal::NoLayers);
    }
    let layers = layers.into_iter().map(|(number, key, value)| match (key, value) {
        (Some(key), Some(value)) => layer(wiring, number, key, value),
        (key, value) => {
            let output = key.or(value).map_or_else(String::new, |state| state.present);
            Err(Refusal::UnknownState { output })
        }
    });
    layers.collect::<Result<_, _>>().map(Found::Layers)
}

/// What lies in the branches of a node cannot be asked.
fn single_graph(graph: &Graph) -> Result<(), Refusal> {
    let holds = |given: &AttributeProto| {
        let kind = given.r#type.unwrap_or_default();
        given.g.is_some() || matches!(kind, attribute_type::GRAPH | attribute_type::GRAPHS)
    };
    match graph.nodes.iter().find(|node| node.attribute.iter().any(holds)) {
        Some(node) => Err(Refusal::ControlFlow { node: shown(node) }),
        None => Ok(()),
    }
}

fn is_kernel(node: &NodeProto) -> bool {
    canonical_domain(node.domain()) == "com.microsoft" && node.op_type() == "GroupQueryAttention"
}

/// A node by its name, or by its operator where it has none.
pub(super) fn shown(node: &NodeProto) -> String {
    let name = if node.name().is_empty() { node.op_type() } else { node.name() };
    name.to_owned()
}

fn shown_maker(wiring: &Wiring<'_>, value: &str) -> String {
    wiring.maker(value).map_or_else(|| value.to_owned(), |index| shown(wiring.node(index)))
}

fn state(wiring: &Wiring<'_>, number: &str, present: &str) -> Result<State, Refusal> {
    let not_joined = || Refusal::NotJoined {
        layer: number.to_owned(),
        output: present.to_owned(),
        node: shown_maker(wiring, present),
    };
    let joined = wiring.source(present);
    let join = wiring.made_by(joined, "Concat").ok_or_else(not_joined)?;
    let [past, new] = join.input.as_slice() else { return Err(not_joined()) };
    let input = wiring.input(past).ok_or_else(not_joined)?;
    let (heads, head_size) = sizes(number, input)?;
    let (past, new) = (past.clone(), new.clone());
    Ok(State { past, present: present.to_owned(), joined: joined.to_owned(), new, heads, head_size })
}

/// The heads and the head size of a past input.
fn sizes(number: &str, input: &ValueInfoProto) -> Result<(usize, usize), Refusal> {
    let element = match input.r#type.as_ref().and_then(|described| described.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type(),
        _ => 0,
    };
    let (layer, input_name) = (number.to_owned(), input.name().to_owned());
    if element != data_type::FLOAT {
        let found = match element {
            data_type::FLOAT16 => "f16",
            data_type::BFLOAT16 => "bf16",
            _ => "of another type",
        };
        return Err(Refusal::NotSinglePrecision { layer, input: input_name, found });
    }
    let known = |size: Option<i64>| usize::try_from(size?).ok().filter(|size| (1..=MOST_SIZE).contains(size));
    match dimensions(input.r#type.as_ref()).as_deref() {
        Some(&[_, heads, _, size]) => known(heads).zip(known(size)),
        _ => None,
    }
    .ok_or(Refusal::OpenShape { layer, input: input_name })
}

fn layer(wiring: &Wiring<'_>, number: String, key: State, value: State) -> Result<Layer, Refusal> {
    let sizes = |state: &State| (state.heads, state.head_size);
    if sizes(&key) != sizes(&value) {
        let (key, value) = (sizes(&key), sizes(&value));
        return Err(Refusal::UnequalHeads { layer: number, key, value });
    }
    if !key.head_size.is_multiple_of(16) {
        return Err(Refusal::HeadSize { layer: number, size: key.head_size });
    }
    let search = Search { wiring, number: &number };
    let softmax = search.softmax(&key.joined)?;
    let softmax_input = softmax.input.first().cloned().unwrap_or_default();
    let product = search.scores(&softmax_input)?;
    let scores = product.output.first().cloned().unwrap_or_default();
    let rotated_query = search.unscaled(product.input.first().map_or("", String::as_str))?;
    let query = search.side(&rotated_query)?;
    let rotated_key = search.side(&key.new)?;
    let value_heads = search.turned(&value.new).map(|_| value.new.clone());
    let output = search.output(softmax.output.first().map_or("", String::as_str))?;
    let value_heads = value_heads.ok_or_else(|| search.not_attention(&value.new))?;
    Ok(Layer {
        past_key: key.past,
        past_value: value.past,
        present_key: key.present,
        present_value: value.present,
        kv_heads: key.heads,
        head_size: key.head_size,
        query,
        key: rotated_key,
        value_heads,
        scores,
        softmax_input,
        output,
        number,
    })
}

struct Search<'s, 'g> {
    wiring: &'s Wiring<'g>,
    number: &'s str,
}

impl<'g> Search<'_, 'g> {
    fn not_attention(&self, value: &str) -> Refusal {
        Refusal::NotAttention { layer: self.number.to_owned(), node: shown_maker(self.wiring, value) }
    }

    /// The one softmax that keys lead to.
    fn softmax(&self, present_key: &str) -> Result<&'g NodeProto, Refusal> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut pending = vec![present_key.to_owned()];
        while let Some(value) = pending.pop() {
            for &index in self.wiring.readers(&value) {
                let node = self.wiring.node(index);
                // Shapes lead to every mask of the graph.
                if node.op_type() == "Shape" || !seen.insert(index) {
                    continue;
                }
                if node.op_type() == "Softmax" {
                    found.push(node);
                    continue;
                }
                if seen.len() > MOST_STEPS {
                    return Err(self.not_attention(present_key));
                }
                pending.extend(node.output.iter().cloned());
            }
        }
        match found.as_slice() {
            [softmax] => Ok(softmax),
            [] => Err(self.not_attention(present_key)),
            several => Err(Refusal::SharedState { layer: self.number.to_owned(), readers: several.len() }),
        }
    }

    /// The product of queries and keys behind a softmax.
    fn scores(&self, softmax_input: &str) -> Result<&'g NodeProto, Refusal> {
        let through = ["Add", "Sub", "Mul", "Div", "Where", "Cast", "Identity", "Tanh", "Max", "Min", "Clip"];
        let (mut products, mut cap) = (Vec::new(), None);
        self.back(softmax_input, &mut |node| match node.op_type() {
            "MatMul" => {
                products.push(node);
                false
            }
            operator => {
                cap = cap.take().or((operator == "Tanh").then_some(node));
                through.contains(&operator)
            }
        });
        if let Some(node) = cap {
            return Err(Refusal::Softcap { layer: self.number.to_owned(), node: shown(node) });
        }
        match products.as_slice() {
            [product] => Ok(product),
            _ => Err(self.not_attention(softmax_input)),
        }
    }

    /// Walks back from a value through the nodes that `enters` accepts.
    fn back(&self, value: &str, enters: &mut dyn FnMut(&'g NodeProto) -> bool) {
        let mut seen = HashSet::new();
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            let Some(index) = self.wiring.maker(value) else { continue };
            if seen.len() > MOST_STEPS || !seen.insert(index) {
                continue;
            }
            let node = self.wiring.node(index);
            if enters(node) {
                // The rest are places and sizes.
                let data =
                    if matches!(node.op_type(), "Slice" | "Split" | "Gather") { 1 } else { usize::MAX };
                pending.extend(node.input.iter().take(data).map(String::as_str));
            }
        }
    }

    /// The value before it was scaled.
    fn unscaled(&self, value: &str) -> Result<String, Refusal> {
        let mut value = value.to_owned();
        for _ in 0..MOST_STEPS {
            let Some(index) = self.wiring.maker(&value) else { break };
            let node = self.wiring.node(index);
            let next = match node.op_type() {
                "Cast" | "Identity" => node.input.first(),
                "Div" => node.input.first(),
                "Mul" => {
                    let leads = |input: &&String| {
                        self.wiring.constant(input).is_none() && !self.comes_of_shapes(input)
                    };
                    let mut factors = node.input.iter().filter(leads);
                    match (factors.next(), factors.next()) {
                        (Some(factor), None) => Some(factor),
                        _ => break,
                    }
                }
                _ => break,
            };
            value = next.cloned().ok_or_else(|| self.not_attention(&value))?;
        }
        Ok(value)
    }

    /// Whether a factor is computed of sizes, as the root of the head size is in some exports.
    fn comes_of_shapes(&self, value: &str) -> bool {
        let through = ["Sqrt", "Div", "Cast", "Reciprocal", "Gather", "Slice", "Squeeze", "Unsqueeze", "Pow"];
        let (mut has_shape, mut is_pure) = (false, true);
        self.back(value, &mut |node| {
            has_shape |= node.op_type() == "Shape";
            let goes_on = through.contains(&node.op_type());
            is_pure &= goes_on || matches!(node.op_type(), "Shape" | "Constant");
            goes_on
        });
        has_shape && is_pure
    }

    /// The heads that a rotation turns.
    fn side(&self, rotated: &str) -> Result<Side, Refusal> {
        let layer = self.number.to_owned();
        let node = self.wiring.maker(rotated).map(|index| self.wiring.node(index));
        let node = node.ok_or_else(|| self.not_attention(rotated))?;
        let through = [
            "Add",
            "Sub",
            "Mul",
            "Neg",
            "Concat",
            "Slice",
            "Split",
            "Cast",
            "Identity",
            "Gather",
            "Reshape",
            "Unsqueeze",
            "Squeeze",
            "ScatterElements",
        ];
        let mut heads = HashSet::new();
        self.back(rotated, &mut |node| match node.op_type() {
            "Transpose" => {
                heads.extend(
                    self.turned(node.output.first().map_or("", String::as_str)).map(|_| &node.output[0]),
                );
                false
            }
            operator => through.contains(&operator),
        });
        if !matches!(node.op_type(), "Add" | "Concat") && self.is_norm(rotated) {
            return Err(Refusal::NormAfterRotation { layer, node: shown(node) });
        }
        let mut heads: Vec<_> = heads.into_iter().collect();
        match (heads.pop(), heads.pop()) {
            (Some(heads), None) => Ok(Side { heads: heads.clone(), rotated: rotated.to_owned() }),
            _ => Err(Refusal::NoRotation { layer, node: shown(node) }),
        }
    }

    /// Whether a value was just divided by a mean.
    fn is_norm(&self, value: &str) -> bool {
        let through = ["Mul", "Cast", "Div", "Sqrt", "Add", "Reciprocal", "Identity"];
        let mut has_mean = false;
        self.back(value, &mut |node| {
            has_mean |= matches!(node.op_type(), "ReduceMean" | "SimplifiedLayerNormalization");
            through.contains(&node.op_type())
        });
        has_mean
    }

    /// What a transposition from tokens to heads reads.
    fn turned(&self, value: &str) -> Option<&'g str> {
        let node = self.wiring.made_by(value, "Transpose")?;
        let order = node.attribute.iter().find(|given| given.name() == "perm")?;
        (order.ints == [0, 2, 1, 3]).then(|| node.input.first().map(String::as_str))?
    }

    /// What the weighted values become before they leave the attention.
    fn output(&self, softmax: &str) -> Result<String, Refusal> {
        let mut value = softmax.to_owned();
        let mut is_turned = false;
        for _ in 0..MOST_STEPS {
            let is_data = |index: &&usize| !matches!(self.wiring.node(**index).op_type(), "IsNaN" | "Shape");
            let mut readers = self.wiring.readers(&value).iter().filter(is_data);
            let (Some(&index), None) = (readers.next(), readers.next()) else { break };
            let node = self.wiring.node(index);
            value = node.output.first().cloned().unwrap_or_default();
            match node.op_type() {
                "Transpose" => is_turned = true,
                "Reshape" if is_turned => return Ok(value),
                "Where" | "Cast" | "Identity" | "Dropout" | "MatMul" | "Mul" | "Div" => {}
                _ => break,
            }
        }
        Err(self.not_attention(&value))
    }
}

/// Where a layer's heads come from.
pub(super) struct Sources<'g> {
    /// `[batch, tokens, heads, head size]`
    pub(super) turned: &'g str,
    /// The node behind it that makes heads of rows, itself or before a norm of each head.
    pub(super) split: Option<&'g NodeProto>,
}

/// Goes back from `[batch, heads, tokens, head size]`.
pub(super) fn sources<'g>(wiring: &Wiring<'g>, heads: &str) -> Option<Sources<'g>> {
    let turned = wiring.made_by(heads, "Transpose")?.input.first()?;
    let norm = ["Mul", "Cast", "Div", "Sqrt", "Add", "Reciprocal", "Identity", "Pow", "ReduceMean"];
    let mut splits = Vec::new();
    Search { wiring, number: "" }.back(turned, &mut |node| match node.op_type() {
        "Reshape" => {
            splits.push(node);
            false
        }
        operator => norm.contains(&operator) || operator == "SimplifiedLayerNormalization",
    });
    let split = if let [split] = splits.as_slice() { Some(*split) } else { None };
    Some(Sources { turned, split })
}
