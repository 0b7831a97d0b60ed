//! Every tensor of a file, wherever it hides: its weights are as long as its shape says, and lie in this
//! file or in one beside it.

use std::collections::BTreeSet;

use super::files::Files;
use super::finding::{Findings, Place, Problem, node_name, shown};
use super::scope::graphs_of;
use super::values::MOST_DIMENSIONS;
use crate::Graph;
use crate::limits::Limits;
use crate::proto::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, data_type};

/// The weights of a model.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) bytes: u64,
    pub(super) files: BTreeSet<String>,
}

/// Where the weights of a tensor lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External<'a> {
    pub(crate) file: &'a str,
    pub(crate) offset: u64,
    pub(crate) length: Option<u64>,
}

/// Checks all tensors: of the graph, its subgraphs, attributes, functions and training programs.
pub(super) fn check(graph: &Graph, files: &Files, limits: &Limits, findings: &mut Findings) -> Weights {
    let mut check = Check { files, limits, findings, weights: Weights::default() };
    graph.initializers.iter().for_each(|tensor| check.tensor(tensor, None));
    graph.frame().sparse_initializer.iter().for_each(|tensor| check.sparse(tensor, None));
    graph.nodes.iter().for_each(|node| check.node(node));
    let model = graph.model();
    for function in &model.functions {
        let within = format!("function `{}`", shown(function.name()));
        function.node.iter().for_each(|node| check.node(node));
        function.attribute_proto.iter().for_each(|attribute| check.attribute(attribute, &within));
    }
    for training in &model.training_info {
        let graphs = training.initialization.iter().chain(&training.algorithm);
        graphs.for_each(|graph| check.graph(graph, "a training program"));
    }
    check.weights
}

struct Check<'c> {
    files: &'c Files,
    limits: &'c Limits,
    findings: &'c mut Findings,
    weights: Weights,
}

impl Check<'_> {
    fn graph(&mut self, graph: &GraphProto, within: &str) {
        graph.initializer.iter().for_each(|tensor| self.tensor(tensor, Some(within)));
        graph.sparse_initializer.iter().for_each(|tensor| self.sparse(tensor, Some(within)));
        graph.node.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &NodeProto) {
        if !node.attribute.is_empty() {
            let within = format!("node `{}`", node_name(node));
            node.attribute.iter().for_each(|attribute| self.attribute(attribute, &within));
        }
    }

    fn attribute(&mut self, attribute: &AttributeProto, within: &str) {
        let dense = attribute.t.as_deref().into_iter().chain(&attribute.tensors);
        dense.for_each(|tensor| self.tensor(tensor, Some(within)));
        let sparse = attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors);
        sparse.for_each(|tensor| self.sparse(tensor, Some(within)));
        graphs_of(attribute).for_each(|graph| self.graph(graph, within));
    }

    fn tensor(&mut self, tensor: &TensorProto, within: Option<&str>) {
        match self.judge(tensor) {
            Ok(bytes) => self.weights.bytes = self.weights.bytes.saturating_add(bytes),
            Err(problem) => self.findings.add(Place::new("tensor", tensor.name(), within), problem),
        }
    }

    /// The bytes of a tensor with which nothing is wrong.
    fn judge(&mut self, tensor: &TensorProto) -> Result<u64, Problem> {
        if tensor.segment.is_some() {
            return Err(Problem::Segmented);
        }
        let number = tensor.data_type();
        let bits = element_bits(number).ok_or(Problem::ElementType { number })?;
        let (rank, limit) = (tensor.dims.len(), MOST_DIMENSIONS);
        if rank > limit {
            return Err(Problem::Rank { rank, limit });
        }
        let elements = elements(&tensor.dims)?;
        let limit = self.limits.value_bytes;
        let too_large = |bytes| Problem::TooLarge { bytes, limit };
        let elements = elements.ok_or_else(|| too_large(None))?;
        let bytes = elements.checked_mul(bits).map(|bits| bits.div_ceil(8)).ok_or_else(|| too_large(None))?;
        if bytes > limit {
            return Err(too_large(Some(bytes)));
        }
        match external(tensor)? {
            Some(external) => self.judge_external(tensor, &external, bytes)?,
            None => judge_inline(tensor, elements, bytes, bits)?,
        }
        Ok(bytes)
    }

    fn judge_external(
        &mut self,
        tensor: &TensorProto,
        external: &External<'_>,
        bytes: u64,
    ) -> Result<(), Problem> {
        let size = self.files.size(external.file)?;
        if inline_kinds(tensor) > 0 {
            return Err(Problem::DataTwice);
        }
        if tensor.data_type() == data_type::STRING {
            return Err(Problem::ElementType { number: data_type::STRING });
        }
        if let Some(length) = external.length.filter(|&length| length != bytes) {
            return Err(Problem::DataLength { expected: bytes, found: length });
        }
        let file = external.file.to_owned();
        let end = external.offset.saturating_add(bytes);
        if end > size {
            return Err(Problem::PastTheEnd { file, end, size });
        }
        self.weights.files.insert(file);
        Ok(())
    }

    /// The parts of a sparse tensor, and what it takes when a runtime makes it dense.
    fn sparse(&mut self, tensor: &SparseTensorProto, within: Option<&str>) {
        let name = tensor.values.as_ref().map_or("", |values| values.name());
        tensor.values.iter().chain(&tensor.indices).for_each(|part| self.tensor(part, within));
        if let Err(problem) = self.judge_sparse(tensor) {
            self.findings.add(Place::new("sparse tensor", name, within), problem);
        }
    }

    fn judge_sparse(&self, tensor: &SparseTensorProto) -> Result<(), Problem> {
        let (Some(values), Some(indices)) = (&tensor.values, &tensor.indices) else {
            return Err(Problem::Sparse);
        };
        let rank = tensor.dims.len() as i64;
        if tensor.dims.len() > MOST_DIMENSIONS {
            return Err(Problem::Rank { rank: tensor.dims.len(), limit: MOST_DIMENSIONS });
        }
        let belong = match (values.dims.as_slice(), indices.dims.as_slice()) {
            ([count], [places]) => count == places,
            ([count], [places, axes]) => count == places && *axes == rank,
            _ => false,
        };
        if !belong || indices.data_type() != data_type::INT64 {
            return Err(Problem::Sparse);
        }
        let limit = self.limits.folded_bytes;
        let bits = element_bits(values.data_type()).unwrap_or(64);
        let bytes =
            elements(&tensor.dims)?.and_then(|count| count.checked_mul(bits)).map(|bits| bits.div_ceil(8));
        match bytes {
            Some(bytes) if bytes <= limit => Ok(()),
            bytes => Err(Problem::TooLarge { bytes, limit }),
        }
    }
}

/// Data in the file itself: of one kind, and as long as the shape says.
fn judge_inline(tensor: &TensorProto, elements: u64, bytes: u64, bits: u64) -> Result<(), Problem> {
    let number = tensor.data_type();
    if inline_kinds(tensor) > 1 {
        return Err(Problem::DataTwice);
    }
    if let Some(raw) = raw_length(tensor) {
        let expected = if number == data_type::STRING { 0 } else { bytes };
        return equal(expected, raw);
    }
    let numbers = match number {
        data_type::COMPLEX64 | data_type::COMPLEX128 => elements.saturating_mul(2),
        _ if bits < 8 => bytes,
        _ => elements,
    };
    let field = data_field(number);
    let located = tensor.located.iter().filter(|located| located.field == field);
    let located: u64 = located.map(|located| located.elements).sum();
    let listed = match field {
        4 => tensor.float_data.len(),
        6 => tensor.string_data.len(),
        7 => tensor.int64_data.len(),
        10 => tensor.double_data.len(),
        11 => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    };
    equal(numbers, located.saturating_add(listed as u64))
}

fn equal(expected: u64, found: u64) -> Result<(), Problem> {
    if expected == found { Ok(()) } else { Err(Problem::DataLength { expected, found }) }
}

/// The length of a tensor's raw bytes, where it has any.
fn raw_length(tensor: &TensorProto) -> Option<u64> {
    let located = tensor.located.iter().find(|located| located.field == 9);
    located.map(|located| located.length).or(tensor.raw_data.as_ref().map(|raw| raw.len() as u64))
}

/// In how many fields a tensor has data.
fn inline_kinds(tensor: &TensorProto) -> usize {
    let located = |field| tensor.located.iter().any(|located| located.field == field);
    [
        raw_length(tensor).is_some(),
        !tensor.float_data.is_empty() || located(4),
        !tensor.int32_data.is_empty() || located(5),
        !tensor.string_data.is_empty(),
        !tensor.int64_data.is_empty() || located(7),
        !tensor.double_data.is_empty() || located(10),
        !tensor.uint64_data.is_empty() || located(11),
    ]
    .into_iter()
    .filter(|&has| has)
    .count()
}

/// Where the weights of `tensor` lie, if not in this file.
pub(crate) fn external(tensor: &TensorProto) -> Result<Option<External<'_>>, Problem> {
    let entry = |key: &str, value: &str| Problem::ExternalEntry { key: shown(key), value: shown(value) };
    match tensor.data_location.unwrap_or(0) {
        0 if tensor.external_data.is_empty() => return Ok(None),
        // The runtime would ignore the entries; another reader may not.
        0 => return Err(Problem::DataTwice),
        1 => {}
        other => return Err(entry("data_location", &other.to_string())),
    }
    let (mut location, mut offset, mut length, mut checksum) = (None, None, None, None);
    for given in &tensor.external_data {
        let (key, value) = (given.key(), given.value());
        let number = || parse(value).ok_or_else(|| entry(key, value));
        let is_repeated = match key {
            "location" => location.replace(value).is_some(),
            "offset" => offset.replace(number()?).is_some(),
            "length" => length.replace(number()?).is_some(),
            "checksum" => checksum.replace(value).is_some(),
            // Among them weights that were packed for one kernel, which takes them as they are.
            _ => true,
        };
        if is_repeated {
            return Err(entry(key, value));
        }
    }
    let file = location.ok_or(Problem::NoLocation)?;
    if !super::is_plain_name(file) {
        return Err(Problem::NotAFileName { location: shown(file) });
    }
    Ok(Some(External { file, offset: offset.unwrap_or(0), length }))
}

/// A decimal number without sign, space or anything else that readers could take in two ways.
fn parse(text: &str) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal).filter(|&number: &u64| number <= i64::MAX as u64)
}

/// The product of the dimensions; `None` where it has more than 64 bits.
pub(crate) fn elements(dimensions: &[i64]) -> Result<Option<u64>, Problem> {
    let mut product = Some(1_u64);
    for &size in dimensions {
        let size = u64::try_from(size).map_err(|_| Problem::NegativeDimension { size })?;
        // A later zero does not make an earlier overflow good.
        product = product.and_then(|product| product.checked_mul(size));
    }
    Ok(product)
}

/// The bits of an element; texts count as what the runtime keeps for an empty one.
pub(crate) fn element_bits(number: i32) -> Option<u64> {
    use data_type::{
        BFLOAT16, BOOL, COMPLEX64, COMPLEX128, DOUBLE, FLOAT, FLOAT4E2M1, FLOAT8E4M3FN, FLOAT8E8M0, FLOAT16,
        INT2, INT4, INT8, INT16, INT32, INT64, STRING, UINT2, UINT4, UINT8, UINT16, UINT32, UINT64,
    };
    Some(match number {
        UINT2 | INT2 => 2,
        UINT4 | INT4 | FLOAT4E2M1 => 4,
        UINT8 | INT8 | BOOL | FLOAT8E4M3FN..=20 | FLOAT8E8M0 => 8,
        UINT16 | INT16 | FLOAT16 | BFLOAT16 => 16,
        FLOAT | INT32 | UINT32 => 32,
        DOUBLE | INT64 | UINT64 | COMPLEX64 => 64,
        COMPLEX128 => 128,
        STRING => 256,
        _ => return None,
    })
}

/// The number of the field that holds elements of a type one by one.
fn data_field(number: i32) -> u32 {
    match number {
        data_type::FLOAT | data_type::COMPLEX64 => 4,
        data_type::DOUBLE | data_type::COMPLEX128 => 10,
        data_type::INT64 => 7,
        data_type::UINT32 | data_type::UINT64 => 11,
        data_type::STRING => 6,
        _ => 5,
    }
}
