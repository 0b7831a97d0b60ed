//! Follows values through a graph as far as they are known before it runs.
//!
//! While a model loads, the runtime computes whatever depends on constants alone: 152 bytes of graph can
//! ask for petabytes. This is the same computation without the values: shapes, and the small lists of
//! numbers that shapes are made of. An operator whose output is larger than its inputs and whose size
//! depends on constants in a way that cannot be followed is refused.

use std::collections::HashMap;

use prost::Message;

use super::files::Files;
use super::finding::{Findings, Place, Problem};
use super::functions::Functions;
use super::numbers::{self, Numbers};
use super::scope::{Scope, subgraphs};
use super::tensors::element_bits;
use super::{canonical_domain, kernels, names, shapes};
use crate::limits::Limits;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{AttributeProto, FunctionProto, NodeProto, TensorProto, TypeProto, type_proto};

/// More dimensions than any operator reads.
pub(super) const MOST_DIMENSIONS: usize = 64;
/// The most bytes that following calls may read; each call reads its function again.
const MOST_WORK: u64 = 1 << 29;

static UNKNOWN: Value = Value { is_constant: false, element: 0, shape: None, numbers: None };

/// What is known of a value. A dimension is unknown where it is a symbol.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    /// Whether it depends on constants alone.
    pub(super) is_constant: bool,
    /// The type of its elements; 0 where it is unknown.
    pub(super) element: i32,
    pub(super) shape: Option<Vec<Option<u64>>>,
    pub(super) numbers: Option<Numbers>,
}

impl Value {
    /// The number of its elements, where all of its dimensions are known.
    pub(super) fn elements(&self) -> Option<u64> {
        let mut product = 1_u64;
        for size in self.shape.as_ref()? {
            product = product.checked_mul((*size)?)?;
        }
        Some(product)
    }

    /// Its dimensions and its numbers, where both are known and belong together. There is at least one: with
    /// none, the dimensions beside the zero may be of any size.
    pub(super) fn grid(&self) -> Option<(Vec<u64>, &Numbers)> {
        let numbers = self.numbers.as_ref().filter(|numbers| numbers.len() > 0)?;
        let belong = self.elements() == Some(numbers.len() as u64);
        let dimensions = self.shape.iter().flatten().copied().collect::<Option<_>>()?;
        belong.then_some((dimensions, numbers))
    }

    /// The bytes that it takes at least; `None` where they have more than 64 bits.
    pub(super) fn least_bytes(&self) -> Option<u64> {
        let known = || self.shape.iter().flatten().flatten();
        if known().any(|&size| size == 0) {
            return Some(0);
        }
        let elements = known().try_fold(1_u64, |product, &size| product.checked_mul(size))?;
        Some(elements.checked_mul(element_bits(self.element).unwrap_or(32))?.div_ceil(8))
    }

    /// A list of numbers.
    pub(super) fn of_numbers(numbers: Option<Numbers>, element: i32, is_constant: bool) -> Self {
        let shape = numbers.as_ref().map(|numbers| vec![Some(numbers.len() as u64)]);
        Self { is_constant, element, shape, numbers }
    }
}

/// The attribute `name` of a node.
pub(super) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

/// Values by name, with those of the scopes around.
struct Known<'a, 'o> {
    values: HashMap<&'a str, Value>,
    outer: Option<&'o Known<'a, 'o>>,
}

impl Known<'_, '_> {
    fn find(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer?.find(name))
    }
}

/// The attributes that a function was called with.
type Given<'a> = HashMap<&'a str, &'a AttributeProto>;

/// Follows the values of a graph and adds what is wrong with them.
pub(super) fn check(
    scope: &Scope<'_>,
    functions: &Functions<'_>,
    files: &Files,
    limits: &Limits,
    weights: u64,
    findings: &mut Findings,
) {
    let limit = weights.saturating_mul(2).saturating_add(limits.folded_bytes);
    let mut follow = Follow { functions, files, limits, findings, folded: 0, limit, work: 0 };
    follow.scope(scope, None, HashMap::new(), &Given::new(), None);
}

struct Follow<'c, 'f> {
    functions: &'c Functions<'f>,
    files: &'c Files,
    limits: &'c Limits,
    findings: &'c mut Findings,
    /// Bytes computed from constants.
    folded: u64,
    limit: u64,
    /// Bytes of functions and attributes that calls read.
    work: u64,
}

impl<'f> Follow<'_, 'f> {
    /// Follows one scope to its outputs.
    fn scope<'a>(
        &mut self,
        scope: &Scope<'a>,
        outer: Option<&Known<'a, '_>>,
        mut values: HashMap<&'a str, Value>,
        given: &Given<'_>,
        within: Option<&str>,
    ) -> Vec<Value>
    where
        'f: 'a,
    {
        for &(name, described) in &scope.inputs {
            let mut value = described.map(of_type).unwrap_or_default();
            self.size(&mut value, || Place::new("input", name, within));
            values.entry(name).or_insert(value);
        }
        for tensor in &scope.initializers {
            values.insert(tensor.name(), of_tensor(tensor, self.files));
        }
        for sparse in scope.sparse {
            let Some(tensor) = &sparse.values else { continue };
            let shape = of_dimensions(&sparse.dims);
            let value = Value { is_constant: true, element: tensor.data_type(), shape, numbers: None };
            values.insert(tensor.name(), value);
        }
        let described = self.described(scope, within);
        let mut known = Known { values, outer };
        for index in names::order(scope).unwrap_or_default() {
            let node = scope.nodes[index];
            let made = self.node(node, &known, given, within);
            for (name, mut value) in node.output.iter().zip(made) {
                value.shape = agreed(value.shape, described.get(name.as_str()));
                known.values.insert(name, value);
            }
        }
        scope.outputs.iter().map(|name| known.find(name).cloned().unwrap_or_default()).collect()
    }

    /// The shapes that the file states of values, which a runtime takes for true.
    fn described<'a>(
        &mut self,
        scope: &Scope<'a>,
        within: Option<&str>,
    ) -> HashMap<&'a str, Vec<Option<u64>>> {
        let mut shapes = HashMap::new();
        for described in &scope.described {
            let mut value = described.r#type.as_ref().map(of_type).unwrap_or_default();
            self.size(&mut value, || Place::new("value", described.name(), within));
            let earlier = shapes.remove(described.name());
            shapes.extend(agreed(value.shape, earlier.as_ref()).map(|shape| (described.name(), shape)));
        }
        shapes
    }

    /// Follows one node to its outputs.
    fn node<'a>(
        &mut self,
        node: &'a NodeProto,
        known: &Known<'a, '_>,
        given: &Given<'_>,
        within: Option<&str>,
    ) -> Vec<Value>
    where
        'f: 'a,
    {
        let inputs: Vec<Option<&Value>> = node
            .input
            .iter()
            .map(|name| (!name.is_empty()).then(|| known.find(name).unwrap_or(&UNKNOWN)))
            .collect();
        if let Some(function) = self.functions.find(node) {
            return self.call(node, function, &inputs, given);
        }
        let mut has_subgraphs = false;
        for graph in subgraphs(node) {
            has_subgraphs = true;
            let inner = format!("node `{}`", super::finding::node_name(node));
            self.scope(&Scope::of_subgraph(graph), Some(known), HashMap::new(), given, Some(&inner));
        }
        if has_subgraphs {
            return vec![Value::default(); node.output.len()];
        }
        let resolved = self.resolve(node, given);
        let node = resolved.as_ref().unwrap_or(node);
        if canonical_domain(node.domain()) == "com.microsoft" || node.op_type().ends_with("Attention") {
            for problem in kernels::check(node, &inputs) {
                self.findings.add(Place::node(node, within), problem);
            }
        }
        let (mut made, is_followed) = match shapes::infer(node, &inputs) {
            Ok(made) => (made, true),
            Err(shapes::Unfollowable) => (Vec::new(), false),
        };
        if !is_followed {
            self.findings.add(Place::node(node, within), Problem::Unfollowable);
        }
        let is_constant = shapes::is_constant(node, &inputs);
        made.resize_with(node.output.len(), || Value { is_constant, ..Value::default() });
        for value in &mut made {
            self.size(value, || Place::node(node, within));
        }
        if is_constant && !shapes::is_free(node) {
            self.fold(node, &inputs, &made, within);
        }
        made
    }

    /// Follows a call of one of the model's functions, as if its nodes stood in the place of the call.
    fn call(
        &mut self,
        node: &NodeProto,
        function: &'f FunctionProto,
        inputs: &[Option<&Value>],
        given: &Given<'_>,
    ) -> Vec<Value> {
        if !self.works(function.encoded_len()) {
            return Vec::new();
        }
        let scope = Scope::of_function(function);
        let resolved = self.resolve(node, given);
        let node = resolved.as_ref().unwrap_or(node);
        let mut attributes: Given<'_> = HashMap::new();
        attributes.extend(function.attribute_proto.iter().map(|attribute| (attribute.name(), attribute)));
        attributes.extend(node.attribute.iter().map(|attribute| (attribute.name(), attribute)));
        let names = function.input.iter().map(String::as_str);
        let values =
            names.zip(inputs).map(|(name, value)| (name, value.unwrap_or(&UNKNOWN).clone())).collect();
        let within = format!("function `{}`", super::finding::shown(function.name()));
        self.scope(&scope, None, values, &attributes, Some(&within))
    }

    /// Counts what following calls reads again and again. Says whether it may go on.
    fn works(&mut self, bytes: usize) -> bool {
        let before = self.work;
        self.work = before.saturating_add(bytes as u64);
        if before <= MOST_WORK && self.work > MOST_WORK {
            self.findings.add(Place::model(), Problem::Work { limit: MOST_WORK });
        }
        self.work <= MOST_WORK
    }

    /// The node with the attributes that its function was called with, where it refers to any.
    fn resolve(&mut self, node: &NodeProto, given: &Given<'_>) -> Option<NodeProto> {
        let refers = |attribute: &AttributeProto| !attribute.ref_attr_name().is_empty();
        if !node.attribute.iter().any(refers) {
            return None;
        }
        let mut resolved = node.clone();
        resolved.attribute.retain_mut(|attribute| {
            if !refers(attribute) {
                return true;
            }
            let Some(value) = given.get(attribute.ref_attr_name()) else { return false };
            let may_go_on = self.works(value.encoded_len());
            if may_go_on {
                let name = attribute.name.take();
                *attribute = AttributeProto { name, ..(*value).clone() };
            }
            may_go_on
        });
        Some(resolved)
    }

    /// Refuses a value that is larger than any may be.
    fn size(&mut self, value: &mut Value, place: impl FnOnce() -> Place) {
        if let Some(shape) = value.shape.take_if(|shape| shape.len() > MOST_DIMENSIONS) {
            self.findings.add(place(), Problem::Rank { rank: shape.len(), limit: MOST_DIMENSIONS });
            return;
        }
        let limit = self.limits.value_bytes;
        match value.least_bytes() {
            Some(bytes) if bytes <= limit => {}
            bytes => self.findings.add(place(), Problem::TooLarge { bytes, limit }),
        }
    }

    /// Counts what the runtime computes while it loads.
    fn fold(&mut self, node: &NodeProto, inputs: &[Option<&Value>], made: &[Value], within: Option<&str>) {
        let bytes = |value: &Value| value.shape.as_ref().map(|_| value.least_bytes().unwrap_or(u64::MAX));
        let before = self.folded;
        for bytes in made.iter().filter_map(bytes) {
            self.folded = self.folded.saturating_add(bytes);
        }
        // What no rule is known for makes about as much as it is given.
        if made.iter().any(|value| value.shape.is_none()) {
            let given = inputs.iter().copied().flatten().filter_map(bytes);
            self.folded = given.fold(self.folded, u64::saturating_add);
        }
        if before <= self.limit && self.folded > self.limit {
            let problem = Problem::Folding { bytes: self.folded, limit: self.limit };
            self.findings.add(Place::node(node, within), problem);
        }
    }
}

/// What two statements of one shape say together.
fn agreed(shape: Option<Vec<Option<u64>>>, other: Option<&Vec<Option<u64>>>) -> Option<Vec<Option<u64>>> {
    match (shape, other) {
        (Some(shape), Some(other)) if shape.len() == other.len() => {
            Some(shape.into_iter().zip(other).map(|(size, other)| size.or(*other)).collect())
        }
        (shape, other) => shape.or_else(|| other.cloned()),
    }
}

/// What is known of a tensor of the file.
pub(super) fn of_tensor(tensor: &TensorProto, files: &Files) -> Value {
    let numbers = numbers::of_tensor(tensor, files);
    Value { is_constant: true, element: tensor.data_type(), shape: of_dimensions(&tensor.dims), numbers }
}

/// The dimensions of a tensor; of one that is refused for their number, none.
fn of_dimensions(dimensions: &[i64]) -> Option<Vec<Option<u64>>> {
    let sizes = || dimensions.iter().map(|&size| u64::try_from(size).ok()).collect();
    (dimensions.len() <= MOST_DIMENSIONS).then(sizes)
}

/// What a type says of a value.
fn of_type(described: &TypeProto) -> Value {
    let Some(type_proto::Value::TensorType(tensor)) = &described.value else { return Value::default() };
    let shape = tensor.shape.as_ref().map(|shape| {
        let sizes = shape.dim.iter().map(|dimension| match dimension.value {
            Some(dimension::Value::DimValue(size)) => u64::try_from(size).ok(),
            _ => None,
        });
        sizes.collect()
    });
    Value { is_constant: false, element: tensor.elem_type(), shape, numbers: None }
}
