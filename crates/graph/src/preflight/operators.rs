//! Which operators a graph may use: those of the runtime's own domains, and none that loads anything.

use std::collections::{HashMap, HashSet};

use super::canonical_domain;
use super::finding::{Findings, Place, Problem, node_name, shown};
use super::functions::Functions;
use super::scope::{Scope, subgraphs};
use crate::Graph;
use crate::proto::{AttributeProto, NodeProto, OperatorSetIdProto};

/// Domains whose operators the runtime's library implements itself.
pub(super) const KNOWN_DOMAINS: [&str; 3] = ["", "ai.onnx.ml", "com.microsoft"];

/// Operators of known domains that run what a model brings or names: compiled graphs of execution
/// providers, Python, foreign libraries.
const LOADERS: [&str; 7] = ["EPContext", "PythonOp", "PythonOpGrad", "TritonOp", "ATen", "YieldOp", "Snpe"];

/// Settings in a model's metadata that the runtime obeys where an environment variable says so.
const SETTINGS: [&str; 1] = ["ort_config"];

/// Checks what the model says of itself beside its graph.
pub(super) fn check_model(graph: &Graph, findings: &mut Findings) {
    check_imports(&graph.model().opset_import, Place::model, findings);
    if !graph.model().training_info.is_empty() {
        findings.add(Place::model(), Problem::Training);
    }
    for entry in &graph.model().metadata_props {
        if SETTINGS.contains(&entry.key()) {
            findings.add(Place::model(), Problem::Settings { key: shown(entry.key()) });
        }
    }
}

/// Checks every node, those of subgraphs and functions too.
pub(super) fn check(graph: &Graph, scope: &Scope<'_>, functions: &Functions<'_>, findings: &mut Findings) {
    for node in &scope.nodes {
        check_node(node, None, functions, findings);
    }
    for function in &graph.model().functions {
        let within = format!("function `{}`", shown(function.name()));
        let place = || Place::new("function", function.name(), None);
        check_attributes(&function.attribute_proto, place, findings);
        check_imports(&function.opset_import, place, findings);
        for node in &function.node {
            check_node(node, Some(&within), functions, findings);
        }
    }
}

fn check_node(node: &NodeProto, within: Option<&str>, functions: &Functions<'_>, findings: &mut Findings) {
    let domain = canonical_domain(node.domain());
    if functions.find(node).is_none() && !KNOWN_DOMAINS.contains(&domain) {
        let problem = Problem::UnknownDomain { domain: shown(node.domain()) };
        findings.add(Place::node(node, within), problem);
    }
    // A function of that name does not help: the runtime prefers a kernel that it knows.
    if LOADERS.contains(&node.op_type()) {
        findings.add(Place::node(node, within), Problem::Loader);
    }
    check_attributes(&node.attribute, || Place::node(node, within), findings);
    let inner = format!("node `{}`", node_name(node));
    for node in subgraphs(node).flat_map(|graph| &graph.node) {
        check_node(node, Some(&inner), functions, findings);
    }
}

/// Readers differ in which of two versions of a domain they take. The same one twice says nothing else.
fn check_imports(imports: &[OperatorSetIdProto], place: impl Fn() -> Place, findings: &mut Findings) {
    let mut versions = HashMap::new();
    for import in imports {
        let domain = canonical_domain(import.domain());
        let known = versions.insert(domain, import.version());
        if known.is_some_and(|known| known != import.version()) {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            findings.add(place(), Problem::TwoVersions { domain: shown(domain) });
        }
    }
}

/// Of two attributes with one name a reader takes the first, the runtime the last.
fn check_attributes(given: &[AttributeProto], place: impl Fn() -> Place, findings: &mut Findings) {
    let mut seen = HashSet::new();
    if let Some(twice) = given.iter().find(|attribute| !seen.insert(attribute.name())) {
        findings.add(place(), Problem::AttributeTwice { name: shown(twice.name()) });
    }
}
