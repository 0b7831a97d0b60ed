//! Who makes and who reads each value of a graph, for passes that look around.
//!
//! Everything here takes one walk over the graph, however long that is.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::is_operator;
use crate::Graph;
use crate::preflight::Files;
use crate::preflight::numbers::{self, Numbers};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto};

/// More copies of copies than an exporter leaves.
pub(super) const MOST_COPIES: usize = 16;

/// An index over the values of a graph as it stands.
pub(super) struct Wiring<'g> {
    graph: &'g Graph,
    files: Files,
    makers: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
    initializers: HashMap<&'g str, usize>,
    inputs: HashMap<&'g str, usize>,
    outputs: HashMap<&'g str, usize>,
    /// The numbers and multiplications that evaluations of this graph may still take together.
    steps_left: Cell<u64>,
}

/// Some seconds of one core; a decoder of a hundred layers asks for a quarter.
const MOST_STEPS: u64 = 1 << 32;

impl<'g> Wiring<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (name.as_str(), index)));
            for name in reads(node) {
                let readers = readers.entry(name.as_str()).or_default();
                // A node that reads a value twice is one reader.
                if readers.last() != Some(&index) {
                    readers.push(index);
                }
            }
        }
        let places = |values: &'g [crate::Part<ValueInfoProto>]| {
            values.iter().enumerate().map(|(index, value)| (value.name(), index)).collect()
        };
        let initializers = graph.initializers.iter().enumerate();
        Self {
            graph,
            files: graph.files(),
            makers,
            readers,
            initializers: initializers.map(|(index, tensor)| (tensor.name(), index)).collect(),
            inputs: places(&graph.inputs),
            outputs: places(&graph.outputs),
            steps_left: Cell::new(MOST_STEPS),
        }
    }

    /// Counts steps of evaluations. Says whether there were as many left.
    pub(super) fn spend(&self, steps: u64) -> bool {
        let left = self.steps_left.get().checked_sub(steps);
        self.steps_left.set(left.unwrap_or(0));
        left.is_some()
    }

    pub(super) fn graph(&self) -> &'g Graph {
        self.graph
    }

    pub(super) fn node(&self, index: usize) -> &'g NodeProto {
        &self.graph.nodes[index]
    }

    /// The index of the node that makes a value.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.makers.get(name).copied()
    }

    /// The node that makes a value, where it is the operator `operator` of the standard domain.
    pub(super) fn made_by(&self, name: &str, operator: &str) -> Option<&'g NodeProto> {
        let node = self.node(self.maker(name)?);
        is_operator(node, "", operator).then_some(node)
    }

    /// The indices of the nodes that read a value, those that read it inside their subgraphs too.
    pub(super) fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn input(&self, name: &str) -> Option<&'g ValueInfoProto> {
        self.inputs.get(name).map(|&index| &*self.graph.inputs[index])
    }

    pub(super) fn output(&self, name: &str) -> Option<&'g ValueInfoProto> {
        self.outputs.get(name).map(|&index| &*self.graph.outputs[index])
    }

    /// Whether the graph has a value of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.makers.contains_key(name)
            || self.initializers.contains_key(name)
            || self.inputs.contains_key(name)
    }

    /// The value of which `name` is a copy: exporters merge equal weights and leave `Identity` behind.
    pub(super) fn source<'n>(&self, mut name: &'n str) -> &'n str
    where
        'g: 'n,
    {
        // A circle of copies, or a thousand in a row, is no export; the walk ends all the same.
        for _ in 0..MOST_COPIES {
            match self.made_by(name, "Identity").and_then(|node| node.input.first()) {
                Some(input) => name = input,
                None => break,
            }
        }
        name
    }

    /// The place of the initializer behind a value, copies included.
    pub(super) fn initializer_index(&self, name: &str) -> Option<usize> {
        self.initializers.get(self.source(name)).copied()
    }

    /// The initializer behind a value, copies included.
    pub(super) fn initializer(&self, name: &str) -> Option<&'g TensorProto> {
        self.initializer_index(name).map(|index| &*self.graph.initializers[index])
    }

    /// The tensor behind a value that is constant: an initializer, or what a `Constant` holds as a tensor.
    pub(super) fn constant(&self, name: &str) -> Option<&'g TensorProto> {
        let held = |node: &'g NodeProto| node.attribute.iter().find(|given| given.name() == "value");
        match self.initializer(name) {
            // An initializer that is an input too may be replaced by the caller.
            Some(tensor) => (!self.inputs.contains_key(tensor.name())).then_some(tensor),
            None => held(self.made_by(self.source(name), "Constant")?)?.t.as_deref(),
        }
    }

    /// The numbers of a small constant, in the order of its elements.
    pub(super) fn numbers(&self, name: &str) -> Option<Numbers> {
        numbers::of_tensor(self.constant(name)?, &self.files)
    }

    /// The whole numbers of a small constant.
    pub(super) fn whole(&self, name: &str) -> Option<Vec<i64>> {
        self.numbers(name)?.whole().map(<[i64]>::to_vec)
    }
}

/// The names that a node reads, also inside its subgraphs.
pub(super) fn reads(node: &NodeProto) -> Box<dyn Iterator<Item = &String> + '_> {
    let graphs = node.attribute.iter().flat_map(|given| given.g.as_deref().into_iter().chain(&given.graphs));
    // What a subgraph gives may be a value of the graph around it.
    let inner = graphs.flat_map(|graph| {
        let given = graph.output.iter().filter_map(|output| output.name.as_ref());
        graph.node.iter().flat_map(reads).chain(given)
    });
    Box::new(node.input.iter().chain(inner).filter(|name| !name.is_empty()))
}

/// The dimensions of a tensor, unknown where they are symbols.
pub(super) fn dimensions(described: Option<&TypeProto>) -> Option<Vec<Option<i64>>> {
    let Some(type_proto::Value::TensorType(tensor)) = &described?.value else { return None };
    let size = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) => Some(*size),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(|dimension| size(&dimension.value)).collect())
}

/// What [`sweep`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) nodes: usize,
    pub(super) initializers: usize,
    /// The inputs that nothing reads.
    pub(super) inputs: Vec<String>,
}

/// Removes what no output of the graph needs: nodes, initializers, inputs and the descriptions of values
/// that are gone.
pub(super) fn sweep(graph: &mut Graph) -> Swept {
    let (is_live, read) = live(graph);
    let mut swept = Swept { nodes: graph.nodes.len(), ..Swept::default() };
    let mut flags = is_live.iter();
    graph.nodes.retain(|_| flags.next().is_some_and(|is_live| *is_live));
    swept.nodes -= graph.nodes.len();
    swept.initializers = graph.initializers.len();
    graph.initializers.retain(|tensor| read.contains(tensor.name()));
    swept.initializers -= graph.initializers.len();
    graph.inputs.retain(|input| {
        let is_read = read.contains(input.name());
        if !is_read {
            swept.inputs.push(input.name().to_owned());
        }
        is_read
    });
    let made: HashSet<&str> = graph.nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let kept = |name: &str| made.contains(name) || read.contains(name);
    graph.value_infos.retain(|value| kept(value.name()));
    swept
}

/// Which nodes the outputs need, and the names that those read or the outputs give.
fn live(graph: &Graph) -> (Vec<bool>, HashSet<String>) {
    let wiring = Wiring::new(graph);
    let mut is_live = vec![false; graph.nodes.len()];
    let mut read: HashSet<String> = graph.outputs.iter().map(|output| output.name().to_owned()).collect();
    let mut pending: Vec<usize> = read.iter().filter_map(|name| wiring.maker(name)).collect();
    while let Some(index) = pending.pop() {
        if std::mem::replace(&mut is_live[index], true) {
            continue;
        }
        for name in reads(wiring.node(index)) {
            if !read.contains(name) {
                read.insert(name.clone());
                pending.extend(wiring.maker(name));
            }
        }
    }
    (is_live, read)
}
