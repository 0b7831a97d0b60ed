//! The passes: functions from graph to graph. A pass can refuse, and says why, but cannot fail; a graph of
//! which it changed nothing is written as it was.
//!
//! Whether a rewritten graph is used is decided elsewhere, by its numbers.

pub mod accuracy;
pub mod attention;
mod build;
pub mod embedding;
mod evaluate;
pub mod hidden_state;
pub mod last_token;
pub mod norm;
pub mod pack;
mod rows;
mod wiring;

use crate::Graph;
use crate::preflight::canonical_domain;
use crate::proto::NodeProto;

/// An RMS norm in one node, which the runtime's own fusion puts into the standard domain.
const NORM: &str = "SimplifiedLayerNormalization";
/// The same of a sum, which it gives away too.
const SUM_NORM: &str = "SkipSimplifiedLayerNormalization";

/// What a pass made, and what it says about it.
#[derive(Debug, Clone)]
pub struct Rewritten<R> {
    pub graph: Graph,
    pub report: R,
}

/// Whether `node` is the operator `name` of `domain`.
fn is_operator(node: &NodeProto, domain: &str, name: &str) -> bool {
    node.op_type() == name && canonical_domain(node.domain()) == domain
}

/// A whole number that `node` is given by name.
fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|given| given.name() == name)?.i
}
