//! Names: every value is made once, somewhere, and never out of itself.

use std::collections::{HashMap, HashSet};

use super::finding::{Findings, Place, Problem, node_name, shown};
use super::scope::{Scope, subgraphs};
use crate::Graph;
use crate::proto::{GraphProto, NodeProto};

/// Names of a scope and of those around it.
struct Names<'a, 'o> {
    defined: HashMap<&'a str, Maker>,
    outer: Option<&'o Names<'a, 'o>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Input,
    Initializer,
    Node(usize),
}

impl Names<'_, '_> {
    fn knows(&self, name: &str) -> bool {
        self.defined.contains_key(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }
}

/// Checks the graph, its subgraphs and its functions. Says whether values can be followed through them.
pub(super) fn check(graph: &Graph, scope: &Scope<'_>, findings: &mut Findings) -> bool {
    let mut is_sound = check_scope(scope, None, None, findings);
    for function in &graph.model().functions {
        let within = format!("function `{}`", shown(function.name()));
        is_sound &= check_scope(&Scope::of_function(function), None, Some(&within), findings);
    }
    is_sound
}

fn check_scope<'a>(
    scope: &Scope<'a>,
    outer: Option<&Names<'a, '_>>,
    within: Option<&str>,
    findings: &mut Findings,
) -> bool {
    let names = Names { defined: define(scope, within, findings), outer };
    for node in &scope.nodes {
        let missing = node.input.iter().filter(|name| !name.is_empty() && !names.knows(name));
        for name in missing {
            findings.add(Place::new("value", name, within), Problem::MadeNowhere);
        }
    }
    for name in scope.outputs.iter().filter(|name| !names.knows(name)) {
        findings.add(Place::new("output", name, within), Problem::MadeNowhere);
    }
    let mut is_sound = match order(scope) {
        Ok(_) => true,
        Err(node) => {
            findings.add(Place::node(scope.nodes[node], within), Problem::Cycle);
            false
        }
    };
    for node in &scope.nodes {
        let inner = node_name(node);
        for graph in subgraphs(node) {
            let within = format!("node `{inner}`");
            is_sound &= check_scope(&Scope::of_subgraph(graph), Some(&names), Some(&within), findings);
        }
    }
    is_sound
}

fn define<'a>(scope: &Scope<'a>, within: Option<&str>, findings: &mut Findings) -> HashMap<&'a str, Maker> {
    let mut defined = HashMap::new();
    let inputs = scope.inputs.iter().map(|(name, _)| (*name, Maker::Input));
    let dense = scope.initializers.iter().map(|tensor| tensor.name());
    let sparse = scope.sparse.iter().filter_map(|tensor| Some(tensor.values.as_ref()?.name()));
    let initializers = dense.chain(sparse).map(|name| (name, Maker::Initializer));
    let made =
        scope.nodes.iter().enumerate().flat_map(|(index, node)| {
            node.output.iter().map(move |name| (name.as_str(), Maker::Node(index)))
        });
    for (name, maker) in inputs.chain(initializers).chain(made) {
        // An output that nobody wants has no name.
        if name.is_empty() && matches!(maker, Maker::Node(_)) {
            continue;
        }
        let earlier = defined.insert(name, maker);
        // An initializer may be the default of an input.
        let is_default = (earlier, maker) == (Some(Maker::Input), Maker::Initializer);
        if earlier.is_some() && !is_default {
            findings.add(Place::new("value", name, within), Problem::MadeTwice);
        }
    }
    defined
}

/// The nodes in an order in which each comes after those that it reads; as they are listed where that
/// is one. `Err` holds a node of a cycle.
pub(super) fn order(scope: &Scope<'_>) -> Result<Vec<usize>, usize> {
    let mut makers = HashMap::new();
    for (index, node) in scope.nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            makers.entry(output.as_str()).or_insert(index);
        }
    }
    let mut waiting = vec![0_usize; scope.nodes.len()];
    let mut readers = vec![Vec::new(); scope.nodes.len()];
    for (index, node) in scope.nodes.iter().enumerate() {
        let sources: HashSet<usize> =
            reads(node).into_iter().filter_map(|name| makers.get(name).copied()).collect();
        waiting[index] = sources.len();
        sources.into_iter().for_each(|source| readers[source].push(index));
    }
    let mut ready: std::collections::BinaryHeap<_> =
        (0..waiting.len()).filter(|&index| waiting[index] == 0).map(std::cmp::Reverse).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(std::cmp::Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(std::cmp::Reverse(reader));
            }
        }
    }
    match waiting.iter().position(|&count| count > 0) {
        Some(node) => Err(node),
        None => Ok(order),
    }
}

/// The names that a node reads, those that only its subgraphs read too.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    subgraphs(node).for_each(|graph| names.extend(captured(graph)));
    names
}

/// The names that a subgraph takes from outside.
fn captured(graph: &GraphProto) -> Vec<&str> {
    let local: HashSet<&str> = graph
        .input
        .iter()
        .map(|input| input.name())
        .chain(graph.initializer.iter().map(|tensor| tensor.name()))
        .chain(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)))
        .collect();
    let inner = graph.node.iter().flat_map(reads);
    inner
        .chain(graph.output.iter().map(|output| output.name()))
        .filter(|name| !local.contains(name))
        .collect()
}
