//! Makes one product of those that read the same value: queries, keys and values, or gate and up.
//!
//! Rows of quantised weights are whole bytes, so the joined weights are the bytes of the parts, one behind
//! the other, in a file of their own. Attention that takes packed queries, keys and values reads the product
//! as it is; all other readers get their columns by a Split.

use std::collections::{HashMap, HashSet};

use super::wiring::{Wiring, sweep};
use super::{Rewritten, build, integer, is_operator};
use crate::data::{DataFile, Place};
use crate::preflight::{Files, element_bits, is_plain_name};
use crate::proto::{NodeProto, TensorProto, data_type};
use crate::{Graph, Part};

const NAME: &str = "hearth/pack";
/// Inputs of MatMulNBits.
const WEIGHTS: usize = 1;
const SCALES: usize = 2;
const ZERO_POINTS: usize = 3;
const GROUP_INDEX: usize = 4;
const BIAS: usize = 5;

/// Every set of products that read the same value, with what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackReport {
    pub groups: Vec<Group>,
    /// The size of the new file, 0 where there is none.
    pub bytes: u64,
}

/// Products that read the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The names of their nodes.
    pub products: Vec<String>,
    pub outcome: Outcome,
}

/// What became of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Attention reads the packed product.
    IntoAttention,
    /// A Split gives the readers their columns.
    Split,
    Refused(Refusal),
}

/// Why products stay apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("`{product}` differs from the first in `{what}`")]
    Differs { product: String, what: String },
    #[error("`{product}` sorts its rows by `g_idx`")]
    GroupIndex { product: String },
    #[error("the `{input}` of `{product}` are not constant, or lie in a form that cannot be joined")]
    Unjoinable { product: String, input: &'static str },
    #[error("the `{input}` of `{product}` are not as large as its attributes say")]
    Size { product: String, input: &'static str },
    #[error("its operator set {0} knows no Split by an input")]
    OperatorSet(i64),
    #[error("the weights of `{product}` are shared so often that joining them takes more than there are")]
    Multiplied { product: String },
    #[error("`{0}` is no plain file name, or holds weights of this graph")]
    DataFile(String),
}

impl PackReport {
    /// Whether the graph is another now.
    pub fn changed(&self) -> bool {
        self.packed() > 0
    }

    /// The number of products that were made of several.
    pub fn packed(&self) -> usize {
        self.groups.iter().filter(|group| !matches!(group.outcome, Outcome::Refused(_))).count()
    }
}

impl std::fmt::Display for PackReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.groups.is_empty() {
            return write!(formatter, "no two 4-bit products read the same value");
        }
        let attention = self.groups.iter().filter(|group| group.outcome == Outcome::IntoAttention).count();
        write!(
            formatter,
            "{} of {} groups of products packed, {attention} of them into attention, {} bytes",
            self.packed(),
            self.groups.len(),
            self.bytes
        )?;
        let refused = self.groups.iter().find_map(|group| match &group.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        });
        refused.map_or(Ok(()), |refusal| write!(formatter, "; refused: {refusal}"))
    }
}

/// Packs what can be packed. The joined weights go into the file `data_file`, which [`Graph::write`] puts
/// beside the graph that it writes.
pub fn run(mut graph: Graph, data_file: &str) -> Rewritten<PackReport> {
    let wiring = Wiring::new(&graph);
    let mut report = PackReport::default();
    let mut file = DataFile::new(data_file);
    let mut edits = Edits { taken: taken(&graph), ..Edits::default() };
    let is_free = is_free(&graph, data_file);
    // Each weight is joined once. What many share is small, and there is more that is not joined at all.
    let mut room = weight_bytes(&graph);
    for nodes in groups(&graph) {
        let plan = match is_free {
            true => plan(&wiring, &nodes).and_then(|plan| {
                let bytes = plan.bytes();
                match bytes <= room {
                    true => room -= bytes,
                    false => return Err(Refusal::Multiplied { product: name(wiring.node(nodes[0])) }),
                }
                Ok(plan)
            }),
            false => Err(Refusal::DataFile(data_file.to_owned())),
        };
        let products = nodes.iter().map(|&node| name(wiring.node(node))).collect();
        let outcome = match plan {
            Ok(plan) => {
                edits.add(&graph, &plan, &mut file);
                if plan.attention.is_some() { Outcome::IntoAttention } else { Outcome::Split }
            }
            Err(refusal) => Outcome::Refused(refusal),
        };
        report.groups.push(Group { products, outcome });
    }
    if report.changed() {
        report.bytes = file.length();
        edits.apply(&mut graph);
        graph.data.push(file);
        sweep(&mut graph);
    }
    Rewritten { graph, report }
}

/// Whether a new file of this name takes no weights away.
fn is_free(graph: &Graph, name: &str) -> bool {
    let mut tensors =
        graph.initializers.iter().map(|tensor| &**tensor).chain(
            graph.nodes.iter().flat_map(|node| &node.attribute).filter_map(|given| given.t.as_deref()),
        );
    let is_same = |other: &str| other.eq_ignore_ascii_case(name);
    let is_graph = graph.path().file_name().is_some_and(|own| is_same(&own.to_string_lossy()));
    let is_weights = tensors.any(|tensor| tensor.external_data.iter().any(|entry| is_same(entry.value())));
    is_plain_name(name) && !is_graph && !is_weights && !graph.data.iter().any(|file| is_same(&file.name))
}

/// The places of products that read the same value, in the order of the graph.
fn groups(graph: &Graph) -> Vec<Vec<usize>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (node, part) in graph.nodes.iter().enumerate() {
        if !is_operator(part, "com.microsoft", "MatMulNBits") {
            continue;
        }
        let ([_], Some(read)) = (part.output.as_slice(), part.input.first().filter(|name| !name.is_empty()))
        else {
            continue;
        };
        let place = *places.entry(read.as_str()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(node);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// How a group is packed.
struct Plan {
    products: Vec<Product>,
    /// The node of attention that reads queries, keys and values.
    attention: Option<usize>,
    /// The Adds of biases that become part of the product.
    adds: Vec<usize>,
    inputs: Vec<(usize, Joined)>,
}

struct Product {
    node: usize,
    columns: i64,
    /// What others read of it: behind the bias, where that becomes part of the product.
    output: String,
}

/// An input of the new product.
struct Joined {
    data_type: i32,
    dims: Vec<i64>,
    parts: Vec<Place>,
}

impl Plan {
    /// The bytes of everything that is joined.
    fn bytes(&self) -> u64 {
        self.inputs.iter().flat_map(|(_, joined)| &joined.parts).map(Place::length).sum()
    }
}

/// The bytes of all weights, those of a file that many tensors share no more often than it has them.
fn weight_bytes(graph: &Graph) -> u64 {
    let files = Files::beside(graph.path());
    let (mut inline, mut by_file) = (0_u64, HashMap::<String, u64>::new());
    for tensor in &graph.initializers {
        match graph.place(tensor) {
            Some(Place::Beside { file, length, .. }) => *by_file.entry(file).or_default() += length,
            Some(place) => inline += place.length(),
            None => {}
        }
    }
    // A file that is still to be written has each weight once.
    let bytes = by_file.into_iter().map(|(file, bytes)| bytes.min(files.size(&file).unwrap_or(bytes)));
    bytes.sum::<u64>() + inline
}

fn plan(wiring: &Wiring<'_>, nodes: &[usize]) -> Result<Plan, Refusal> {
    let first = wiring.node(nodes[0]);
    for &node in nodes {
        compare(first, wiring.node(node))?;
    }
    let mut products = Vec::new();
    for &node in nodes {
        let product = wiring.node(node);
        let columns = size(product, "N", None)?;
        products.push(Product { node, columns, output: product.output[0].clone() });
    }
    let (rows, block) = (size(first, "K", None)?, size(first, "block_size", None)?);
    let bits = size(first, "bits", Some(4))?;
    let (blocks, blob) = ((rows as u64).div_ceil(block as u64) as i64, block * bits / 8);
    let mut inputs = Vec::new();
    let of =
        |input: usize| -> Vec<&str> { nodes.iter().map(|&node| read(wiring.node(node), input)).collect() };
    let join = |input: usize, what: &'static str| join(wiring, &products, &of(input), what);
    let weights = join(WEIGHTS, "B")?.shaped(&products, &[blocks, blob])?;
    inputs.push((WEIGHTS, weights));
    inputs.push((SCALES, join(SCALES, "scales")?.shaped(&products, &[blocks])?));
    if !read(first, ZERO_POINTS).is_empty() {
        let points = join(ZERO_POINTS, "zero_points")?;
        // Packed as the weights are, or one number for each block.
        let is_packed = points.data_type == data_type::UINT8;
        let row = if is_packed { (blocks * bits + 7) / 8 } else { blocks };
        inputs.push((ZERO_POINTS, points.shaped(&products, &[row])?));
    }
    let mut adds = Vec::new();
    if !read(first, BIAS).is_empty() {
        inputs.push((BIAS, join(BIAS, "bias")?.shaped(&products, &[])?));
    } else if let Some((nodes, names)) = added_biases(wiring, &products) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        inputs.push((BIAS, self::join(wiring, &products, &names, "bias")?.shaped(&products, &[])?));
        for (product, &add) in products.iter_mut().zip(&nodes) {
            product.output.clone_from(&wiring.node(add).output[0]);
        }
        adds = nodes;
    }
    let attention = attention(wiring, &mut products, &mut inputs);
    if attention.is_none() {
        let version = wiring.graph().operator_set("").unwrap_or(0);
        if version < 13 {
            return Err(Refusal::OperatorSet(version));
        }
    }
    Ok(Plan { products, attention, adds, inputs })
}

/// The one node that reads `value`, where the graph does not give it away as well.
fn only_reader(wiring: &Wiring<'_>, value: &str) -> Option<usize> {
    match wiring.readers(value) {
        [reader] if wiring.output(value).is_none() => Some(*reader),
        _ => None,
    }
}

/// The weights behind `value` that no input may replace.
fn weights<'g>(wiring: &Wiring<'g>, value: &str) -> Option<&'g TensorProto> {
    wiring.initializer(value).filter(|tensor| wiring.input(tensor.name()).is_none())
}

fn name(node: &NodeProto) -> String {
    node.name().to_owned()
}

/// A size of the product `node`, as no model has it larger: products of three of them can be counted.
fn size(node: &NodeProto, given: &str, default: Option<i64>) -> Result<i64, Refusal> {
    const MOST: i64 = 1 << 20;
    let size = integer(node, given).or(default).filter(|size| (1..=MOST).contains(size));
    size.ok_or_else(|| Refusal::Size { product: name(node), input: "B" })
}

/// What `node` reads at `input`, empty where it is left out.
fn read(node: &NodeProto, input: usize) -> &str {
    node.input.get(input).map_or("", String::as_str)
}

/// Finds the first difference between two products that keeps them apart.
fn compare(first: &NodeProto, other: &NodeProto) -> Result<(), Refusal> {
    let differs = |what: &str| Refusal::Differs { product: name(other), what: what.to_owned() };
    let names: HashSet<&str> =
        first.attribute.iter().chain(&other.attribute).map(|given| given.name()).collect();
    let mut names: Vec<&str> = names.into_iter().filter(|name| *name != "N").collect();
    names.sort_unstable();
    let default = |name: &str| if name == "bits" { 4 } else { 0 };
    for name in names {
        let value = |node: &NodeProto| integer(node, name).unwrap_or_else(|| default(name));
        if value(first) != value(other) {
            return Err(differs(name));
        }
    }
    for (input, what) in [(ZERO_POINTS, "zero_points"), (BIAS, "bias")] {
        if read(first, input).is_empty() != read(other, input).is_empty() {
            return Err(differs(what));
        }
    }
    if read(other, GROUP_INDEX).is_empty() {
        Ok(())
    } else {
        Err(Refusal::GroupIndex { product: name(other) })
    }
}

/// An input of all products, with the places of its parts and the elements of each.
struct Parts {
    what: &'static str,
    data_type: i32,
    is_flat: bool,
    parts: Vec<(Place, String)>,
}

fn join(
    wiring: &Wiring<'_>,
    products: &[Product],
    names: &[&str],
    what: &'static str,
) -> Result<Parts, Refusal> {
    let mut joined: Option<Parts> = None;
    for (product, tensor) in products.iter().zip(names) {
        let product = name(wiring.node(product.node));
        let unjoinable = || Refusal::Unjoinable { product: product.clone(), input: what };
        let tensor = weights(wiring, tensor).ok_or_else(unjoinable)?;
        let place = wiring.graph().place(tensor).ok_or_else(unjoinable)?;
        let joined = joined.get_or_insert_with(|| Parts {
            what,
            data_type: tensor.data_type(),
            is_flat: tensor.dims.len() < 2,
            parts: Vec::new(),
        });
        if joined.data_type != tensor.data_type() {
            return Err(Refusal::Differs { product, what: format!("the numbers of `{what}`") });
        }
        joined.parts.push((place, product));
    }
    Ok(joined.unwrap_or(Parts { what, data_type: 0, is_flat: true, parts: Vec::new() }))
}

impl Parts {
    /// The input for all columns, each of which has a row of this shape.
    fn shaped(self, products: &[Product], row: &[i64]) -> Result<Joined, Refusal> {
        let elements: i64 = row.iter().product();
        let bytes = element_bits(self.data_type).unwrap_or(0) / 8;
        for (product, (place, name)) in products.iter().zip(&self.parts) {
            let expected = (product.columns as u64).checked_mul(elements as u64 * bytes);
            if expected != Some(place.length()) {
                return Err(Refusal::Size { product: name.clone(), input: self.what });
            }
        }
        let columns: i64 = products.iter().map(|product| product.columns).sum();
        let dims = match self.is_flat {
            true => vec![columns * elements],
            false => std::iter::once(columns).chain(row.iter().copied()).collect(),
        };
        Ok(Joined {
            data_type: self.data_type,
            dims,
            parts: self.parts.into_iter().map(|part| part.0).collect(),
        })
    }
}

/// The Adds that are all that reads the products, and their biases; `None` unless every product has one.
fn added_biases(wiring: &Wiring<'_>, products: &[Product]) -> Option<(Vec<usize>, Vec<String>)> {
    let mut found = (Vec::new(), Vec::new());
    for product in products {
        let add = only_reader(wiring, &product.output)?;
        let node = wiring.node(add);
        let [left, right] = node.input.as_slice() else { return None };
        let bias = if *left == product.output { right } else { left };
        let tensor = weights(wiring, bias)?;
        if !is_operator(node, "", "Add") || node.output.len() != 1 || tensor.dims != [product.columns] {
            return None;
        }
        let scales = weights(wiring, read(wiring.node(product.node), SCALES))?;
        if scales.data_type() != tensor.data_type() {
            return None;
        }
        found.0.push(add);
        found.1.push(bias.clone());
    }
    Some(found)
}

/// The node of attention that is all that reads the products and takes them packed. Puts them into the
/// order that it wants.
fn attention(wiring: &Wiring<'_>, products: &mut [Product], inputs: &mut [(usize, Joined)]) -> Option<usize> {
    let attention = only_reader(wiring, &products[0].output)?;
    let node = wiring.node(attention);
    let is_alone = products.iter().all(|product| only_reader(wiring, &product.output) == Some(attention));
    let has_norms = [14, 15].iter().any(|&input| !read(node, input).is_empty());
    if !is_operator(node, "com.microsoft", "GroupQueryAttention")
        || products.len() != 3
        || !is_alone
        || has_norms
        || integer(node, "do_rotary") != Some(1)
    {
        return None;
    }
    let mut order = Vec::new();
    for input in 0..3 {
        order.push(products.iter().position(|product| product.output == read(node, input))?);
    }
    // Where one product is two of them, no order puts each in its place.
    if (0..3).any(|product| !order.contains(&product)) {
        return None;
    }
    let (heads, shared) = (integer(node, "num_heads")?, integer(node, "kv_num_heads")?);
    let columns = |place: usize| products[order[place]].columns;
    let fits = heads > 0 && shared > 0 && columns(0) % heads == 0 && columns(1) % shared == 0;
    if !fits || columns(0) / heads != columns(1) / shared || columns(1) != columns(2) {
        return None;
    }
    // Three places: each swap brings one product to where it belongs.
    for place in 0..2 {
        let from = products.iter().position(|product| product.output == read(node, place))?;
        products.swap(place, from);
        inputs.iter_mut().for_each(|(_, joined)| joined.parts.swap(place, from));
    }
    Some(attention)
}

/// The names of nodes that begin as those of new ones do. A graph may have a hundred thousand groups, none of which
/// should look through all nodes.
fn taken(graph: &Graph) -> HashSet<String> {
    let names = graph.nodes.iter().map(|node| node.name());
    names.filter(|name| name.starts_with(NAME)).map(str::to_owned).collect()
}

/// What is to be done to a graph, by the places of its nodes.
#[derive(Default)]
struct Edits {
    /// New nodes before the old one at a place.
    before: HashMap<usize, Vec<NodeProto>>,
    gone: HashSet<usize>,
    /// Attention, with the packed value that it reads.
    attention: Vec<(usize, String)>,
    tensors: Vec<TensorProto>,
    /// The names of nodes that a new one might want.
    taken: HashSet<String>,
    made: usize,
}

impl Edits {
    fn add(&mut self, graph: &Graph, plan: &Plan, file: &mut DataFile) {
        let first = plan.products.iter().map(|product| product.node).min().unwrap_or(0);
        let base = self.free_name();
        let (name, output) = (|part: &str| format!("{base}/{part}"), format!("{base}/packed"));
        let mut product = NodeProto::clone(&graph.nodes[first]);
        product.name = Some(base.clone());
        product.output = vec![output.clone()];
        let columns: i64 = plan.products.iter().map(|product| product.columns).sum();
        for given in product.attribute.iter_mut().filter(|given| given.name() == "N") {
            given.i = Some(columns);
        }
        let last = plan.inputs.iter().map(|(input, _)| *input).max().unwrap_or(SCALES);
        product.input.truncate(1);
        product.input.resize(last + 1, String::new());
        for (input, joined) in &plan.inputs {
            let called = name(["A", "B", "scales", "zero_points", "g_idx", "bias"][*input]);
            let Joined { data_type, dims, parts } = joined;
            self.tensors.push(file.join(called.clone(), *data_type, dims.clone(), parts.clone()));
            product.input[*input] = called;
        }
        let mut nodes = vec![product];
        match plan.attention {
            Some(attention) => self.attention.push((attention, output)),
            None => {
                let sizes: Vec<i64> = plan.products.iter().map(|product| product.columns).collect();
                let (sized, outputs) =
                    (name("columns"), plan.products.iter().map(|product| &*product.output));
                self.tensors.push(build::whole(&sized, &[sizes.len() as i64], &sizes));
                let (inputs, outputs): ([&str; 2], Vec<&str>) = ([&output, &sized], outputs.collect());
                let axis = vec![build::int("axis", -1)];
                nodes.push(build::node("Split", &name("Split"), &inputs, &outputs, axis));
            }
        }
        self.gone.extend(plan.products.iter().map(|product| product.node).chain(plan.adds.iter().copied()));
        self.before.insert(first, nodes);
    }

    /// A name that no node has yet.
    fn free_name(&mut self) -> String {
        loop {
            let name = format!("{NAME}/{}", self.made);
            self.made += 1;
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    fn apply(mut self, graph: &mut Graph) {
        for (attention, packed) in self.attention {
            let inputs = &mut graph.nodes[attention].edit().input;
            inputs[0] = packed;
            inputs[1].clear();
            inputs[2].clear();
        }
        let nodes = std::mem::take(&mut graph.nodes);
        for (place, node) in nodes.into_iter().enumerate() {
            let new = self.before.remove(&place).unwrap_or_default();
            graph.nodes.extend(new.into_iter().map(Part::new));
            if !self.gone.contains(&place) {
                graph.nodes.push(node);
            }
        }
        graph.initializers.extend(self.tensors.into_iter().map(Part::new));
    }
}
