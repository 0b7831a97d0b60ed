//! Lets 4-bit products compute with 8-bit integers, which is 4 times as fast.
//!
//! Exporters leave `accuracy_level` of MatMulNBits unset, and its kernel then computes with f32. Level 4
//! rounds the activations of each block to 8 bits. Blocks with zero points came out wrong by half on some
//! processors (onnxruntime#29853), so those wait for a test of the machine.

use super::{Rewritten, build, is_operator};
use crate::Graph;
use crate::proto::NodeProto;

const NAME: &str = "accuracy_level";
const LEVEL: i64 = 4;

/// What is known of this machine's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest {
    /// Blocks with zero points were computed and compared.
    Passed,
    NotPassed,
}

/// What became of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Raised,
    /// The file has a level of its own.
    AlreadySet(i64),
    /// It has zero points, and the machine did not pass the test of those.
    LeftZeroPoints,
}

/// Every MatMulNBits of the graph with what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccuracyReport {
    /// The names of their nodes, in the order of the graph.
    pub products: Vec<(String, Outcome)>,
}

impl AccuracyReport {
    /// How many compute at a higher level now.
    pub fn raised(&self) -> usize {
        self.products.iter().filter(|(_, outcome)| *outcome == Outcome::Raised).count()
    }
}

/// Raises the level of every product for which that is known to be right.
pub fn run(mut graph: Graph, self_test: SelfTest) -> Rewritten<AccuracyReport> {
    let mut report = AccuracyReport::default();
    for part in &mut graph.nodes {
        if !is_operator(part, "com.microsoft", "MatMulNBits") {
            continue;
        }
        let outcome = judge(part, self_test);
        report.products.push((part.name().to_owned(), outcome));
        if outcome == Outcome::Raised {
            raise(part.edit());
        }
    }
    Rewritten { graph, report }
}

fn judge(node: &NodeProto, self_test: SelfTest) -> Outcome {
    let level = node.attribute.iter().find(|given| given.name() == NAME).map_or(0, |given| given.i());
    let has_zero_points = node.input.get(3).is_some_and(|name| !name.is_empty());
    match level {
        0 if has_zero_points && self_test == SelfTest::NotPassed => Outcome::LeftZeroPoints,
        0 => Outcome::Raised,
        level => Outcome::AlreadySet(level),
    }
}

fn raise(node: &mut NodeProto) {
    match node.attribute.iter_mut().find(|given| given.name() == NAME) {
        Some(given) => given.i = Some(LEVEL),
        None => node.attribute.push(build::int(NAME, LEVEL)),
    }
}
