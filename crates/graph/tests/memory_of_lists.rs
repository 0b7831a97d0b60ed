//! Small lists of numbers stay small while they are followed, however many a graph makes of them. Alone in
//! its process, whose peak it reads.
#![cfg(target_os = "linux")]

mod support;

use graph::proto::NodeProto;
use support::{constant, int, node, of_nodes, passes, peak, whole, with};

/// Nodes that each make a list of 256 numbers out of the list `from`.
fn copies(operator: &'static str, from: &'static str) -> impl Iterator<Item = NodeProto> {
    (0..20_000).map(move |copy| node(operator, &[from], &[&format!("{operator}{copy}")]))
}

#[test]
fn half_a_megabyte_of_nodes_over_lists_costs_less_than_two_hundred_megabytes() {
    let gather =
        |from: &str, to: &str, axis: i64| with(node("Gather", &[from, "p"], &[to]), int("axis", axis));
    let mut nodes = vec![
        constant("t", whole("", &[16, 16], &[1; 256])),
        constant("p", whole("", &[256], &[0; 256])),
        constant("list", whole("", &[256], &[1; 256])),
        // 65,536 numbers, of two lists of 256.
        gather("t", "a", 0),
        gather("a", "b", 1),
    ];
    nodes.extend(copies("Identity", "b"));
    nodes.extend(copies("Abs", "list"));
    nodes.extend(copies("Sign", "list"));
    let before = peak();
    passes(&of_nodes(nodes));
    let used = peak() - before;
    assert!(used < 200 << 20, "{used} bytes");
}
