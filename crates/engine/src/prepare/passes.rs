//! The passes, in the order in which they are tried. Another pass is one entry of [`ALL`].

use graph::Graph;
use graph::rewrite::accuracy::{self, Outcome, SelfTest};
use graph::rewrite::last_token::{self, LastTokenReport};

use crate::ModelConfig;
use crate::onnx::SelfTestErrors;

/// Kernels that are further than this from the exact product are wrong: rounding to 8 bits costs about one
/// hundredth, and those that were found broken were off by almost a half (onnxruntime#29853).
const LARGEST_ERROR: f64 = 0.05;

/// A rewrite with what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    pub name: &'static str,
    /// Raised when the pass makes something else of the same graph: what older ones made is made anew.
    pub version: u32,
    pub numbers: Numbers,
    pub run: fn(Graph, &Facts<'_>) -> Step,
}

/// What a pass may do to the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// It computes the same in another order.
    Same,
    /// It rounds in another way.
    Rounded,
}

/// What passes may know beyond the graph.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub config: &'a ModelConfig,
    pub self_test: SelfTestErrors,
}

/// What a pass made.
#[derive(Debug)]
pub struct Step {
    pub graph: Graph,
    pub change: Change,
}

/// What a pass did, in a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Made(String),
    /// There was nothing to do.
    Nothing(String),
    /// It would have something to do and cannot.
    Refused(String),
}

/// Every pass.
pub const ALL: &[Pass] = &[
    Pass { name: "accuracy", version: 1, numbers: Numbers::Rounded, run: accuracy },
    Pass { name: "last_token", version: 1, numbers: Numbers::Same, run: last_token },
];

fn accuracy(graph: Graph, facts: &Facts<'_>) -> Step {
    let errors = facts.self_test;
    if errors.symmetric > LARGEST_ERROR {
        let change = Change::Refused(format!("4-bit products with 8-bit integers are wrong here: {errors}"));
        return Step { graph, change };
    }
    let self_test = if errors.zero_points > LARGEST_ERROR { SelfTest::NotPassed } else { SelfTest::Passed };
    let rewritten = accuracy::run(graph, self_test);
    let report = rewritten.report;
    let (total, raised) = (report.products.len(), report.raised());
    let left = report.products.iter().filter(|(_, outcome)| *outcome == Outcome::LeftZeroPoints).count();
    let left_too = match left {
        0 => String::new(),
        left => format!("; left {left} with zero points, which come out wrong on this machine"),
    };
    let change = match (total, raised, left) {
        (0, ..) => Change::Nothing("it has no 4-bit products".to_owned()),
        (_, 0, 0) => Change::Nothing(format!("all {total} products have a level of their own")),
        (_, 0, _) => Change::Refused(format!("none of {total} products is raised{left_too}")),
        _ => Change::Made(format!("raised {raised} of {total} products to level 4{left_too}")),
    };
    Step { graph: rewritten.graph, change }
}

fn last_token(graph: Graph, _: &Facts<'_>) -> Step {
    let rewritten = last_token::run(graph);
    let change = match rewritten.report {
        LastTokenReport::Inserted { product } => {
            Change::Made(format!("`{product}` computes the logits of the last position only"))
        }
        LastTokenReport::AlreadyShort => {
            Change::Nothing("it gives the logits of the last position only".to_owned())
        }
        LastTokenReport::Refused(refusal) => Change::Refused(refusal.to_string()),
    };
    Step { graph: rewritten.graph, change }
}
