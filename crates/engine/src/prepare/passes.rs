//! The passes, in the order in which they are tried. Another pass is one entry of [`ALL`].

use graph::Graph;
use graph::rewrite::accuracy::{self, Outcome, SelfTest};
use graph::rewrite::attention::{self, AttentionReport, ModelShape, Replaced};
use graph::rewrite::embedding::{self, EmbeddingReport};
use graph::rewrite::hidden_state::{self, HiddenStateReport};
use graph::rewrite::last_token::{self, LastTokenReport};
use graph::rewrite::{norm, pack};

use crate::ModelConfig;
use crate::onnx::SelfTestErrors;

/// Kernels that are further than this from the exact product are wrong: rounding to 8 bits costs about one
/// hundredth, and those that were found broken were off by almost a half (onnxruntime#29853).
const LARGEST_ERROR: f64 = 0.05;

/// The most positions for which a rewritten graph keeps rotations: 64 MiB for heads of 128 numbers. A
/// longer conversation is full there.
const MOST_POSITIONS: usize = 131_072;

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
    /// The name of the file for weights that a pass makes.
    pub data_file: &'a str,
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

/// Every pass. Those that only compute in another order come before those that round: with 8-bit integers a
/// last bit that differs becomes a hundredth of the logits' range, and what is right could not be told from
/// what is nearly right. The one that writes a file of weights is last: each graph brings its file along.
pub const ALL: &[Pass] = &[
    Pass { name: "last_token", version: 1, numbers: Numbers::Same, run: last_token },
    Pass { name: "attention", version: 1, numbers: Numbers::Same, run: attention },
    Pass { name: "norm", version: 1, numbers: Numbers::Same, run: norm },
    Pass { name: "accuracy", version: 1, numbers: Numbers::Rounded, run: accuracy },
    Pass { name: "embedding", version: 1, numbers: Numbers::Rounded, run: embedding },
    Pass { name: "hidden_state", version: 1, numbers: Numbers::Same, run: hidden_state },
    Pass { name: "pack", version: 1, numbers: Numbers::Same, run: pack },
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

fn attention(graph: Graph, facts: &Facts<'_>) -> Step {
    let config = facts.config;
    let shape = ModelShape {
        heads: config.attention_heads,
        kv_heads: config.key_value_heads,
        head_size: config.head_size,
        rope_theta: config.rope_theta.map(f64::from),
        partial_rotary_factor: config.partial_rotary_factor.map(f64::from),
        sliding_window: config.sliding_window,
        softcap: config.attention_softcap.map(f64::from),
        max_positions: config.context_length,
    };
    let rewritten = attention::run(graph, &shape, MOST_POSITIONS);
    let change = match rewritten.report {
        AttentionReport::Replaced(Replaced { layers, nodes: (before, after), .. }) => Change::Made(format!(
            "fused the attention of {} layers, {after} nodes instead of {before}",
            layers.len()
        )),
        AttentionReport::AlreadyFused => Change::Nothing("its attention is fused already".to_owned()),
        AttentionReport::Refused(refusal) => Change::Refused(refusal.to_string()),
    };
    Step { graph: rewritten.graph, change }
}

fn norm(graph: Graph, _: &Facts<'_>) -> Step {
    let rewritten = norm::run(graph);
    let report = rewritten.report;
    let change = changed(report.norms.is_empty(), report.changed(), report.to_string());
    Step { graph: rewritten.graph, change }
}

fn embedding(graph: Graph, _: &Facts<'_>) -> Step {
    let rewritten = embedding::run(graph);
    let change = match &rewritten.report {
        report @ EmbeddingReport::Shared { .. } => Change::Made(report.to_string()),
        report @ EmbeddingReport::AlreadyQuantised => Change::Nothing(report.to_string()),
        EmbeddingReport::Refused(refusal) => Change::Refused(refusal.to_string()),
    };
    Step { graph: rewritten.graph, change }
}

fn hidden_state(graph: Graph, _: &Facts<'_>) -> Step {
    let rewritten = hidden_state::run(graph);
    let change = match &rewritten.report {
        report @ HiddenStateReport::Added { .. } => Change::Made(report.to_string()),
        report @ HiddenStateReport::AlreadyThere => Change::Nothing(report.to_string()),
        HiddenStateReport::Refused(refusal) => Change::Refused(refusal.to_string()),
    };
    Step { graph: rewritten.graph, change }
}

fn pack(graph: Graph, facts: &Facts<'_>) -> Step {
    let rewritten = pack::run(graph, facts.data_file);
    let report = rewritten.report;
    let change = changed(report.groups.is_empty(), report.changed(), report.to_string());
    Step { graph: rewritten.graph, change }
}

/// What became of many places of a graph.
fn changed(there_are_none: bool, is_changed: bool, told: String) -> Change {
    match (there_are_none, is_changed) {
        (true, _) => Change::Nothing(told),
        (_, true) => Change::Made(told),
        (_, false) => Change::Refused(told),
    }
}
