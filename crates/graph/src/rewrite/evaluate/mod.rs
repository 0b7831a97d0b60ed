//! Computes values of a graph for given inputs, as far as those reach: enough to ask a graph what its
//! masks, rotations and attention do instead of recognising how an exporter wrote them.
//!
//! Numbers are kept as f64, whole ones too, and are not rounded to the types of the graph. Values whose
//! numbers are unknown or too many have a shape only; operators beyond these give neither.

mod elementwise;
mod layout;
mod products;
mod tensor;

use std::collections::HashMap;
use std::rc::Rc;

pub(super) use tensor::Tensor;

use super::wiring::Wiring;
use crate::preflight::canonical_domain;
use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// Values by name; `None` for those of which nothing is known.
type Known = HashMap<String, Option<Rc<Tensor>>>;

/// The values of a graph for one set of inputs, each computed when it is asked for.
pub(super) struct Evaluation<'w, 'g> {
    wiring: &'w Wiring<'g>,
    known: Known,
    /// Shapes that another evaluation found, of values that this one need not compute for their shape.
    shapes: Option<&'w Known>,
    /// The first node that left something unknown though all that it reads was known.
    stopped_at: Option<usize>,
    /// How many numbers may still be computed.
    left: usize,
}

/// What one evaluation computes at most: masks over the longest context, and no more than 128 MB.
const MOST_IN_ALL: usize = 1 << 24;

/// Longer lists are no places or sizes.
const MOST_OF_A_SHAPE: usize = 4096;

impl<'w, 'g> Evaluation<'w, 'g> {
    pub(super) fn new(wiring: &'w Wiring<'g>) -> Self {
        Self { wiring, known: Known::new(), shapes: None, stopped_at: None, left: MOST_IN_ALL }
    }

    /// An evaluation that takes shapes from this one, whose inputs have the same.
    pub(super) fn with_shapes_of(wiring: &'w Wiring<'g>, other: &'w Evaluation<'_, 'g>) -> Self {
        Self { shapes: Some(&other.known), ..Self::new(wiring) }
    }

    /// Sets a value, in the place of what the graph would compute.
    pub(super) fn set(&mut self, name: &str, tensor: Tensor) {
        self.known.insert(name.to_owned(), Some(Rc::new(tensor)));
    }

    /// The value `name`, where anything is known of it.
    pub(super) fn value(&mut self, name: &str) -> Option<Rc<Tensor>> {
        if !self.known.contains_key(name) {
            for index in self.needed(name) {
                self.evaluate(index);
            }
        }
        self.known.get(name)?.clone()
    }

    /// Keeps the shapes alone of values with more numbers than shapes are made of.
    pub(super) fn forget_long_lists(&mut self) {
        for tensor in self.known.values_mut().flatten() {
            if tensor.numbers().is_some_and(|numbers| numbers.len() > MOST_OF_A_SHAPE) {
                *tensor = Rc::new(Tensor::shaped(tensor.shape()));
            }
        }
    }

    /// The numbers of the value `name`.
    pub(super) fn numbers(&mut self, name: &str) -> Option<Vec<f64>> {
        self.value(name)?.numbers().map(<[f64]>::to_vec)
    }

    /// The node at which the evaluation came to an end.
    pub(super) fn stopped_at(&self) -> Option<&'g NodeProto> {
        self.stopped_at.map(|index| self.wiring.node(index))
    }

    /// The nodes between what is known and `name`, in the order of the graph.
    fn needed(&mut self, name: &str) -> Vec<usize> {
        let mut is_needed = std::collections::BTreeSet::new();
        let mut pending = vec![name.to_owned()];
        while let Some(name) = pending.pop() {
            if self.known.contains_key(&name) {
                continue;
            }
            if let Some(tensor) = self.wiring.constant(&name) {
                let known = constant(self.wiring, &name, tensor);
                self.known.insert(name, known);
                continue;
            }
            let Some(index) = self.wiring.maker(&name) else {
                // An input that was not set, or no value at all.
                self.known.insert(name, None);
                continue;
            };
            if !is_needed.insert(index) {
                continue;
            }
            let node = self.wiring.node(index);
            if node.op_type() == "Shape"
                && let Some(shape) = self.foreign_shape(node)
            {
                let result = layout::shape_of(node, &shape);
                self.known.insert(name, result.map(Rc::new));
                is_needed.remove(&index);
                continue;
            }
            pending.extend(node.input.iter().filter(|input| !input.is_empty()).cloned());
        }
        is_needed.into_iter().collect()
    }

    /// The tensor, without numbers where there were too many before.
    fn afforded(&mut self, tensor: Tensor) -> Tensor {
        let count = tensor.numbers().map_or(0, <[f64]>::len);
        match self.left.checked_sub(count).filter(|_| self.wiring.spend(count as u64)) {
            Some(left) => {
                self.left = left;
                tensor
            }
            None => Tensor::shaped(tensor.shape()),
        }
    }

    /// Whether a softmax is along an axis that newer sets have not by default.
    fn has_old_axis(&self, node: &NodeProto) -> bool {
        let is_old = || self.wiring.graph().operator_set("").is_some_and(|version| version < 13);
        node.op_type() == "Softmax" && attribute(node, "axis").is_none() && is_old()
    }

    fn foreign_shape(&self, node: &NodeProto) -> Option<Rc<Tensor>> {
        let input = node.input.first()?;
        if self.known.contains_key(input) {
            return None;
        }
        self.shapes?.get(input)?.clone()
    }

    fn evaluate(&mut self, index: usize) {
        let node = self.wiring.node(index);
        if node.output.iter().all(|output| output.is_empty() || self.known.contains_key(output)) {
            return;
        }
        let find = |name: &String| self.known.get(name).and_then(Option::as_deref);
        let inputs: Vec<Option<&Tensor>> = node.input.iter().map(find).collect();
        let is_affordable = self.wiring.spend(products::steps(node, &inputs));
        let is_computed = is_affordable && !self.has_old_axis(node);
        let results = if is_computed { operator(node, &inputs) } else { None };
        let is_known = |tensor: &Option<&Tensor>| tensor.is_some_and(|tensor| tensor.numbers().is_some());
        let had_all = node.input.iter().zip(&inputs).all(|(name, value)| name.is_empty() || is_known(value));
        let lacks = |results: &Option<Vec<Tensor>>| match results {
            None => true,
            Some(results) => results.iter().any(|tensor| had_all && tensor.numbers().is_none()),
        };
        let had_shapes =
            node.input.iter().zip(&inputs).all(|(name, value)| name.is_empty() || value.is_some());
        if self.stopped_at.is_none() && had_shapes && lacks(&results) {
            self.stopped_at = Some(index);
        }
        let mut results = results.unwrap_or_default().into_iter();
        for output in &node.output {
            let result = results.next().map(|tensor| Rc::new(self.afforded(tensor)));
            if !output.is_empty() {
                self.known.entry(output.clone()).or_insert(result);
            }
        }
    }
}

fn constant(wiring: &Wiring<'_>, name: &str, tensor: &TensorProto) -> Option<Rc<Tensor>> {
    let shape = tensor.dims.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let numbers = wiring.numbers(name);
    let is_whole = numbers.as_ref().is_some_and(|numbers| numbers.whole().is_some());
    Some(Rc::new(Tensor::new(shape, numbers.map(|numbers| numbers.real()), is_whole)))
}

/// What a node makes of its inputs; `None` for operators that are not computed here, and for inputs of
/// which too little is known.
fn operator(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    if !is_as_assumed(node) {
        return None;
    }
    let result = match canonical_domain(node.domain()) {
        "" => match node.op_type() {
            "Split" => return layout::split(node, inputs),
            "DynamicQuantizeLinear" => return products::rounded(inputs),
            _ => elementwise::evaluate(node, inputs)
                .or_else(|| layout::evaluate(node, inputs))
                .or_else(|| products::evaluate(node, inputs)),
        },
        "com.microsoft" => match node.op_type() {
            "SkipSimplifiedLayerNormalization" | "SkipLayerNormalization" => {
                return products::skipped(inputs);
            }
            _ => products::evaluate(node, inputs),
        },
        _ => None,
    };
    Some(vec![result?])
}

/// Whether attributes that change what is computed, and that nobody reads here, are left at their defaults.
fn is_as_assumed(node: &NodeProto) -> bool {
    let has = |name: &str, value: i64| int(node, name, value) == value;
    match node.op_type() {
        "CumSum" => has("exclusive", 0) && has("reverse", 0),
        "IsInf" => has("detect_negative", 1) && has("detect_positive", 1),
        _ => true,
    }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|given| given.name() == name)
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|given| given.i).unwrap_or(default)
}

/// An axis counted from the front.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}
