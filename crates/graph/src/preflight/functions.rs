//! The model's own functions: none calls itself, and putting them in place stays within bounds.

use std::collections::HashMap;

use super::canonical_domain;
use super::finding::{Findings, Place, Problem};
use super::scope::subgraphs;
use crate::Graph;
use crate::limits::Limits;
use crate::proto::{FunctionProto, NodeProto};

/// Calls and subgraphs inside each other. Whoever follows them, this check too, does so by recursion.
const DEEPEST: usize = 64;

type Key<'a> = (&'a str, &'a str, &'a str);

/// The functions by domain, name and overload.
pub(super) struct Functions<'a> {
    by_key: HashMap<Key<'a>, &'a FunctionProto>,
    /// Whether following calls ends, and soon.
    pub(super) is_sound: bool,
}

impl<'a> Functions<'a> {
    /// The function that `node` calls.
    pub(super) fn find(&self, node: &NodeProto) -> Option<&'a FunctionProto> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&(canonical_domain(node.domain()), node.op_type(), node.overload())).copied()
    }
}

/// Collects the functions and checks their calls.
pub(super) fn check<'a>(graph: &'a Graph, limits: &Limits, findings: &mut Findings) -> Functions<'a> {
    let mut functions = Functions { by_key: HashMap::new(), is_sound: true };
    for function in &graph.model().functions {
        let key = (canonical_domain(function.domain()), function.name(), function.overload());
        if functions.by_key.insert(key, function).is_some() {
            findings.add(Place::new("function", function.name(), None), Problem::MadeTwice);
        }
    }
    let mut sizes = Sizes { functions: &functions, known: HashMap::new(), fault: None };
    let main = sizes.nodes(graph.nodes.iter().map(|node| &**node), 0);
    // Those that nobody calls are read by the runtime as well.
    for function in &graph.model().functions {
        sizes.function(function, 0);
    }
    let fault = sizes.fault.take();
    let limit = limits.nodes as u64;
    if let Some((name, problem)) = fault {
        functions.is_sound = false;
        findings.add(Place::new("function", name, None), problem);
    } else if main.height > DEEPEST {
        functions.is_sound = false;
        findings.add(Place::model(), Problem::Depth { limit: DEEPEST });
    } else if main.nodes > limit {
        functions.is_sound = false;
        findings.add(Place::model(), Problem::Expansion { nodes: main.nodes, limit });
    }
    functions
}

/// What nodes become when their calls are put in place.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: u64,
    height: usize,
}

struct Sizes<'f, 'a> {
    functions: &'f Functions<'a>,
    /// `None` while a function is being measured.
    known: HashMap<*const FunctionProto, Option<Size>>,
    fault: Option<(&'a str, Problem)>,
}

impl<'a> Sizes<'_, 'a> {
    fn nodes<'n>(&mut self, nodes: impl Iterator<Item = &'n NodeProto>, depth: usize) -> Size {
        nodes.fold(Size::default(), |sum, node| {
            let size = self.node(node, depth);
            Size { nodes: sum.nodes.saturating_add(size.nodes), height: sum.height.max(size.height) }
        })
    }

    fn node(&mut self, node: &NodeProto, depth: usize) -> Size {
        let called = self.functions.find(node).map(|function| self.function(function, depth + 1));
        let called = called.unwrap_or_default();
        let inner = self.nodes(subgraphs(node).flat_map(|graph| &graph.node), depth + 1);
        Size {
            nodes: called.nodes.saturating_add(inner.nodes).saturating_add(1),
            height: called.height.max(inner.height) + 1,
        }
    }

    fn function(&mut self, function: &'a FunctionProto, depth: usize) -> Size {
        if self.fault.is_some() {
            return Size::default();
        }
        let fault = match self.known.get(&std::ptr::from_ref(function)) {
            Some(Some(size)) => return *size,
            Some(None) => Problem::Recursion,
            None if depth > DEEPEST => Problem::Depth { limit: DEEPEST },
            None => {
                self.known.insert(function, None);
                let size = self.nodes(function.node.iter(), depth);
                self.known.insert(function, Some(size));
                return size;
            }
        };
        self.fault = Some((function.name(), fault));
        Size::default()
    }
}
