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
use super::kinds::{NO_MORE, PACKING};
use super::numbers::{self, Numbers};
use super::operators::KNOWN_DOMAINS;
use super::scope::{Scope, graphs_of, subgraphs};
use super::value::Value;
use super::{bounds, canonical_domain, kernels, names, shapes};
use crate::limits::Limits;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{AttributeProto, FunctionProto, NodeProto, TensorProto, TypeProto, type_proto};

/// More dimensions than any operator reads.
pub(super) const MOST_DIMENSIONS: usize = 64;
/// The most bytes that following calls may read; each call reads its function again.
const MOST_WORK: u64 = 1 << 29;

static UNKNOWN: Value = Value { is_constant: false, element: 0, shape: None, numbers: None, most_bytes: 0 };

/// Numbers that are kept at once. Beyond, sizes that depend on more are not followed.
const MOST_KEPT: usize = 1 << 21;

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
    let most_packed = weights.saturating_mul(4).saturating_add(limits.packed_bytes);
    let mut follow = Follow {
        functions,
        files,
        limits,
        findings,
        folded: 0,
        limit,
        packed: 0,
        most_packed,
        work: 0,
        kept: 0,
    };
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
    /// Bytes of weights, as often as kernels read them.
    packed: u64,
    most_packed: u64,
    /// Bytes of functions and attributes that calls read.
    work: u64,
    /// Numbers that the values of the scopes around have.
    kept: usize,
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
        let kept = self.kept;
        for &(name, described) in &scope.inputs {
            let mut value = described.map(of_type).unwrap_or_default();
            self.size(&mut value, || Place::new("input", name, within));
            values.entry(name).or_insert(value);
        }
        for tensor in &scope.initializers {
            let mut value = of_tensor(tensor, self.files);
            self.keep(&mut value);
            values.insert(tensor.name(), value);
        }
        for sparse in scope.sparse {
            let Some(tensor) = &sparse.values else { continue };
            let shape = of_dimensions(&sparse.dims);
            values.insert(tensor.name(), of_parts(tensor.data_type(), shape, None));
        }
        let described = self.described(scope, within);
        let mut known = Known { values, outer };
        for index in names::order(scope).unwrap_or_default() {
            let node = scope.nodes[index];
            let made = self.node(node, &known, given, within);
            for (name, mut value) in node.output.iter().zip(made) {
                // What constants become is computed here, whatever the file says of it.
                if !value.is_constant {
                    value.shape = agreed(value.shape, described.get(name.as_str()));
                }
                self.keep(&mut value);
                known.values.insert(name, value);
            }
        }
        self.kept = kept;
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
        let Some(function) = self.functions.find(node) else {
            return self.operator(node, &inputs, known, given, within);
        };
        let mut called = self.call(node, function, &inputs, given);
        if !KNOWN_DOMAINS.contains(&canonical_domain(node.domain())) {
            return called;
        }
        // Of two with one name the runtime takes its own operator, if its version has that one. Only what
        // holds of both is known.
        called.resize_with(node.output.len(), Value::default);
        let own = self.operator(node, &inputs, known, given, within);
        called.into_iter().zip(own).map(|(called, own)| called.or(own)).collect()
    }

    /// Follows one operator of the runtime to its outputs.
    fn operator<'a>(
        &mut self,
        node: &'a NodeProto,
        inputs: &[Option<&Value>],
        known: &Known<'a, '_>,
        given: &Given<'_>,
        within: Option<&str>,
    ) -> Vec<Value>
    where
        'f: 'a,
    {
        if subgraphs(node).next().is_some() {
            return self.branches(node, inputs, known, given);
        }
        let is_function = self.functions.find(node).is_some();
        let resolved = self.resolve(node, given);
        let node = resolved.as_ref().unwrap_or(node);
        if canonical_domain(node.domain()) == "com.microsoft" || node.op_type().ends_with("Attention") {
            for problem in kernels::check(node, inputs) {
                self.findings.add(Place::node(node, within), problem);
            }
        }
        self.pack(node, inputs, within);
        let is_constant = shapes::is_constant(node, inputs);
        let inferred = shapes::infer(node, inputs);
        let mut is_followed = inferred.is_ok();
        let mut made = inferred.unwrap_or_default();
        made.resize_with(node.output.len(), || Value { is_constant, ..Value::default() });
        for value in &mut made {
            self.size(value, || Place::node(node, within));
        }
        if is_constant {
            is_followed &= bound(node, inputs, &mut made, is_function);
        }
        if !is_followed {
            self.findings.add(Place::node(node, within), Problem::Unfollowable);
        }
        if is_constant && !shapes::is_free(node) {
            self.fold(node, &made, within);
        }
        made
    }

    /// Follows the graphs inside a node. Of a choice that is made while loading the outcome is known too.
    fn branches<'a>(
        &mut self,
        node: &'a NodeProto,
        inputs: &[Option<&Value>],
        known: &Known<'a, '_>,
        given: &Given<'_>,
    ) -> Vec<Value>
    where
        'f: 'a,
    {
        let inner = format!("node `{}`", super::finding::node_name(node));
        let condition = inputs.first().copied().flatten();
        let is_decided = condition.is_some_and(|value| value.is_constant) && node.op_type() == "If";
        let number = condition.filter(|_| is_decided).and_then(|value| value.numbers.as_ref()?.single());
        let chosen = number.map(|number| if number == 0.0 { "else_branch" } else { "then_branch" });
        let mut outcomes = Vec::new();
        for (attribute, graph) in
            node.attribute.iter().flat_map(|given| graphs_of(given).map(move |graph| (given, graph)))
        {
            let scope = Scope::of_subgraph(graph);
            let mut outcome = self.scope(&scope, Some(known), HashMap::new(), given, Some(&inner));
            outcome.resize_with(node.output.len(), Value::default);
            if is_decided && chosen.is_none_or(|chosen| chosen == attribute.name()) {
                outcomes.push(outcome);
            }
        }
        let either = outcomes
            .into_iter()
            .reduce(|one, other| one.into_iter().zip(other).map(|(one, other)| one.or(other)).collect());
        either.unwrap_or_else(|| vec![Value::default(); node.output.len()])
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

    /// Counts the numbers of a value that is kept; of too many, none are known.
    fn keep(&mut self, value: &mut Value) {
        let kept = self.kept + value.numbers.as_ref().map_or(0, Numbers::len);
        if kept <= MOST_KEPT {
            self.kept = kept;
        } else {
            value.numbers = None;
        }
    }

    /// Counts the weights that a runtime packs for each kernel by itself, whoever else reads them.
    fn pack(&mut self, node: &NodeProto, inputs: &[Option<&Value>], within: Option<&str>) {
        if !PACKING.contains(&node.op_type()) {
            return;
        }
        let weights = inputs.iter().skip(1).flatten().filter(|value| value.is_constant);
        let before = self.packed;
        self.packed = weights.map(|value| value.most_bytes).fold(before, u64::saturating_add);
        if before <= self.most_packed && self.packed > self.most_packed {
            let problem = Problem::Packing { bytes: self.packed, limit: self.most_packed };
            self.findings.add(Place::node(node, within), problem);
        }
    }

    /// Counts what the runtime computes while it loads.
    fn fold(&mut self, node: &NodeProto, made: &[Value], within: Option<&str>) {
        let before = self.folded;
        let exact = made.iter().filter_map(Value::exact_bytes).fold(0, u64::saturating_add);
        let unknown = made.iter().filter(|value| value.exact_bytes().is_none()).map(|value| value.most_bytes);
        let most = match NO_MORE.contains(&node.op_type()) {
            // One bound for all outputs together.
            true => unknown.max().unwrap_or(0),
            false => unknown.fold(0, u64::saturating_add),
        };
        self.folded = before.saturating_add(exact).saturating_add(most);
        if before <= self.limit && self.folded > self.limit {
            let problem = Problem::Folding { bytes: self.folded, limit: self.limit };
            self.findings.add(Place::node(node, within), problem);
        }
    }
}

/// Sets how large each of the constants is that a node makes. Says whether that can be known.
fn bound(node: &NodeProto, inputs: &[Option<&Value>], made: &mut [Value], is_function: bool) -> bool {
    let is_exact = made.iter().all(|value| value.exact_bytes().is_some());
    let most = if is_exact { Some(0) } else { bounds::most_bytes(node, inputs) };
    let assumed = most.unwrap_or_else(|| bounds::given_bytes(inputs));
    for value in made {
        value.most_bytes = value.exact_bytes().unwrap_or(assumed);
    }
    // A function's own nodes say how large it is.
    most.is_some() || is_function
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
    of_parts(tensor.data_type(), of_dimensions(&tensor.dims), numbers::of_tensor(tensor, files))
}

/// A constant of the file.
fn of_parts(element: i32, shape: Option<Vec<Option<u64>>>, numbers: Option<Numbers>) -> Value {
    let value = Value { is_constant: true, element, shape, numbers, most_bytes: 0 };
    Value { most_bytes: value.exact_bytes().unwrap_or(0), ..value }
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
    Value { element: tensor.elem_type(), shape, ..Value::default() }
}
