//! Refuses what must not reach a runtime: files outside the model folder, loaders of foreign code, shapes
//! that ask for more memory than any model needs, graphs that contradict themselves.
//!
//! Every finding is typed and names its tensor, node or function. The checks, each in its file:
//! `tensors` and `files` (weights lie where a file of the folder has them, and are as long as their shape
//! says), `names` (every value is made once and before it is read), `functions` (no recursion, no
//! explosion), `operators` (known domains, no loaders), `values` and its parts (what a graph computes from
//! constants, which a runtime does while it loads: `shapes` where it can be followed, `bounds` elsewhere).

mod bounds;
mod files;
mod finding;
mod functions;
mod kernels;
mod kinds;
mod names;
pub(crate) mod numbers;
mod operators;
mod places;
mod scope;
mod shapes;
mod tensors;
mod value;
mod values;

use std::path::Path;

pub use files::{Files, is_plain_name};
pub use finding::{Finding, Place, Problem};
pub(crate) use tensors::{element_bits, elements, external};

use crate::limits::Limits;
use crate::read::Counts;
use crate::{Error, Graph, Result};
use finding::Findings;
use scope::Scope;

/// What a check found, and what it saw on the way.
#[derive(Debug, Clone)]
pub struct Report {
    /// Empty where the graph may be run.
    pub findings: Vec<Finding>,
    pub counts: Counts,
    /// Bytes of all weights, wherever they lie.
    pub weights: u64,
    /// The files beside the graph that hold weights.
    pub files: Vec<String>,
}

impl Report {
    pub fn is_passed(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads and checks the model at `path`: what a runtime needs before it is given that path.
///
/// # Errors
/// Those of [`Graph::open`], and [`Error::Refused`] with every finding.
pub fn check(path: &Path, limits: &Limits) -> Result<Report> {
    let graph = Graph::open(path, limits)?;
    let report = inspect(&graph, &graph.files(), limits);
    if report.is_passed() {
        Ok(report)
    } else {
        Err(Error::Refused { path: path.to_path_buf(), findings: report.findings })
    }
}

/// Checks a graph that was read, whose external data lies in `files`.
pub fn inspect(graph: &Graph, files: &Files, limits: &Limits) -> Report {
    let mut findings = Findings::default();
    operators::check_model(graph, &mut findings);
    let weights = tensors::check(graph, files, limits, &mut findings);
    let functions = functions::check(graph, limits, &mut findings);
    let scope = Scope::of_graph(graph);
    operators::check(graph, &scope, &functions, &mut findings);
    let is_ordered = names::check(graph, &scope, &mut findings);
    // Values flow along names; where those contradict each other there is nothing to follow.
    if is_ordered && functions.is_sound {
        values::check(&scope, &functions, files, limits, weights.bytes, &mut findings);
    }
    Report {
        findings: findings.into_list(),
        counts: graph.counts(),
        weights: weights.bytes,
        files: weights.files.into_iter().collect(),
    }
}

/// The standard domain has two names.
pub(crate) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}
