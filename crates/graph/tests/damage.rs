//! Damaged graphs go through every pass without a panic, and what passed the check passes it afterwards.

mod support;

use std::path::Path;

use graph::family::{Family, Products};
use graph::preflight::{self, Files};
use graph::proto::{AttributeProto, ModelProto};
use graph::rewrite::accuracy::SelfTest;
use graph::rewrite::attention::ModelShape;
use graph::rewrite::embedding::EmbeddingReport;
use graph::rewrite::hidden_state::HiddenStateReport;
use graph::rewrite::last_token::LastTokenReport;
use graph::rewrite::{accuracy, attention, embedding, hidden_state, last_token, norm, pack};
use graph::{Graph, Limits, Weights};
use proptest::prelude::*;
use prost::Message;

/// Puts a few things of a graph into the wrong place, or gives them sizes that nothing has.
fn damage(model: &mut ModelProto, damages: &[(usize, usize, u8)]) {
    let graph = model.graph.as_mut().expect("a graph");
    let numbers = [i64::MIN, -1, 0, 1, 3, 1 << 31, i64::MAX];
    for &(one, other, kind) in damages {
        let count = graph.node.len();
        let (at, from) = (one % count, other % count);
        match kind % 9 {
            0 => graph.node[at].op_type = graph.node[from].op_type.clone(),
            1 => {
                let value = graph.node[from].output.first().cloned().unwrap_or_default();
                if let Some(input) = graph.node[at].input.last_mut() {
                    *input = value;
                }
            }
            2 => graph.node[at].input.reverse(),
            3 => graph.node[at].attribute = graph.node[from].attribute.clone(),
            4 => {
                graph.node[at].output.pop();
            }
            5 => {
                graph.node[at].input.pop();
            }
            6 => {
                let of_node = graph.node[at].attribute.iter_mut();
                let numbered: Vec<&mut AttributeProto> = of_node.filter(|given| given.i.is_some()).collect();
                numbered.into_iter().for_each(|given| given.i = Some(numbers[other % numbers.len()]));
            }
            7 => {
                let place = one % graph.initializer.len();
                let tensor = &mut graph.initializer[place];
                if let Some(size) = tensor.dims.last_mut() {
                    *size = numbers[other % numbers.len()];
                }
            }
            _ => {
                let place = one % graph.initializer.len();
                graph.initializer[place].data_type = Some((other % 20) as i32);
            }
        }
    }
}

fn is_passed(graph: &Graph) -> bool {
    preflight::inspect(graph, &Files::beside(graph.path()), &Limits::default()).is_passed()
}

/// The graph as it is read again after it was written.
fn again(graph: &Graph) -> Graph {
    let bytes = graph.to_bytes(Weights::Embed).expect("it is written");
    Graph::from_bytes(graph.path(), bytes, &Limits::default()).expect("it is read")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn no_damage_makes_a_pass_panic_or_break_what_was_sound(
        seed in any::<u64>(),
        damages in prop::collection::vec(any::<(usize, usize, u8)>(), 0..4),
    ) {
        let family = Family::random(seed);
        let mut model = family.model();
        damage(&mut model, &damages);
        let open = || Graph::from_bytes(Path::new("model.onnx"), model.encode_to_vec(), &Limits::default());
        let Ok(graph) = open() else { return Ok(()) };
        let was_passed = is_passed(&graph);
        let given = hidden_state::run(graph.clone());
        let cut = last_token::run(graph.clone());
        // Nothing of this would be asked of passes that refuse every graph.
        let is_given = matches!(given.report, HiddenStateReport::Added { .. });
        let is_cut = matches!(cut.report, LastTokenReport::Inserted { .. });
        prop_assert!(!damages.is_empty() || is_given && is_cut, "{:?} {:?}", given.report, cut.report);
        let shared = embedding::run(graph.clone());
        let is_tied = family.is_tied && family.products == Products::Bits4;
        let is_shared = matches!(shared.report, EmbeddingReport::Shared { .. });
        prop_assert!(!damages.is_empty() || is_shared == is_tied, "{:?}", shared.report);
        let rewritten = [
            given.graph,
            cut.graph,
            norm::run(graph.clone()).graph,
            shared.graph,
            accuracy::run(graph.clone(), SelfTest::Passed).graph,
            attention::run(graph.clone(), &ModelShape::default(), 64).graph,
        ];
        for rewritten in &rewritten {
            let rewritten = again(rewritten);
            prop_assert!(!was_passed || is_passed(&rewritten));
        }
        let packed = pack::run(graph, "model.packed.onnx_data");
        again(&norm::run(packed.graph).graph);
    }
}
