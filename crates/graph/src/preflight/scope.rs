//! The three things that hold nodes, seen in one way: the graph, subgraphs of nodes, functions.

use crate::Graph;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, TypeProto,
    ValueInfoProto,
};

/// Nodes with the names that they see.
pub(super) struct Scope<'a> {
    pub(super) nodes: Vec<&'a NodeProto>,
    pub(super) initializers: Vec<&'a TensorProto>,
    pub(super) sparse: &'a [SparseTensorProto],
    pub(super) inputs: Vec<(&'a str, Option<&'a TypeProto>)>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) described: Vec<&'a ValueInfoProto>,
}

impl<'a> Scope<'a> {
    pub(super) fn of_graph(graph: &'a Graph) -> Self {
        Self {
            nodes: graph.nodes.iter().map(|part| &**part).collect(),
            initializers: graph.initializers.iter().map(|part| &**part).collect(),
            sparse: &graph.frame().sparse_initializer,
            inputs: graph.inputs.iter().map(|part| (part.name(), part.r#type.as_ref())).collect(),
            outputs: graph.outputs.iter().map(|part| part.name()).collect(),
            described: graph.value_infos.iter().chain(&graph.outputs).map(|part| &**part).collect(),
        }
    }

    pub(super) fn of_subgraph(graph: &'a GraphProto) -> Self {
        Self {
            nodes: graph.node.iter().collect(),
            initializers: graph.initializer.iter().collect(),
            sparse: &graph.sparse_initializer,
            inputs: graph.input.iter().map(|input| (input.name(), input.r#type.as_ref())).collect(),
            outputs: graph.output.iter().map(|output| output.name()).collect(),
            described: graph.value_info.iter().chain(&graph.output).collect(),
        }
    }

    pub(super) fn of_function(function: &'a FunctionProto) -> Self {
        Self {
            nodes: function.node.iter().collect(),
            initializers: Vec::new(),
            sparse: &[],
            inputs: function.input.iter().map(|input| (input.as_str(), None)).collect(),
            outputs: function.output.iter().map(String::as_str).collect(),
            described: function.value_info.iter().collect(),
        }
    }
}

/// The graphs that an attribute holds.
pub(super) fn graphs_of(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.as_deref().into_iter().chain(&attribute.graphs)
}

/// The graphs inside a node.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(graphs_of)
}
