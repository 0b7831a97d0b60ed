//! Contracts of graphs as exporters write them, from descriptions of their inputs and outputs.

use ort::value::{Shape, SymbolicDimensions};

use super::*;

/// A graph's description. A dimension of -1 is one that the export writes as a symbol.
#[derive(Clone, Default)]
struct Graph {
    inputs: Vec<(String, ValueType)>,
    outputs: Vec<(String, ValueType)>,
}

fn tensor_of(ty: TensorElementType, shape: &[i64]) -> ValueType {
    let dimension_symbols = SymbolicDimensions::empty(shape.len());
    ValueType::Tensor { ty, shape: Shape::new(shape.iter().copied()), dimension_symbols }
}

const I64: TensorElementType = TensorElementType::Int64;
const F32: TensorElementType = TensorElementType::Float32;
const F16: TensorElementType = TensorElementType::Float16;
const VOCABULARY: i64 = 151_936;

impl Graph {
    fn input(mut self, name: impl Into<String>, ty: TensorElementType, shape: &[i64]) -> Self {
        self.inputs.push((name.into(), tensor_of(ty, shape)));
        self
    }

    fn output(mut self, name: impl Into<String>, ty: TensorElementType, shape: &[i64]) -> Self {
        self.outputs.push((name.into(), tensor_of(ty, shape)));
        self
    }

    fn pair(self, tail: &str, ty: TensorElementType, shape: &[i64]) -> Self {
        self.input(format!("past_key_values.{tail}"), ty, shape).output(format!("present.{tail}"), ty, shape)
    }

    /// Ids, mask and logits.
    fn bare() -> Self {
        Self::default().input("input_ids", I64, &[-1, -1]).input("attention_mask", I64, &[-1, -1]).output(
            "logits",
            F32,
            &[-1, -1, VOCABULARY],
        )
    }

    /// As optimum exports Qwen2.5: mask and positions, key and value of each layer in turn.
    fn optimum(layers: usize) -> Self {
        Self::bare().input("position_ids", I64, &[-1, -1]).layers(layers)
    }

    fn layers(self, layers: usize) -> Self {
        (0..layers).fold(self, |graph, layer| {
            graph.pair(&format!("{layer}.key"), F32, &[-1, 2, -1, 64]).pair(
                &format!("{layer}.value"),
                F32,
                &[-1, 2, -1, 64],
            )
        })
    }

    fn read_with(&self, hints: ContractHints) -> Result<Contract> {
        fn ports(all: &[(String, ValueType)]) -> Vec<Port<'_>> {
            all.iter().map(|(name, value)| Port { name, value }).collect()
        }
        Contract::read(Path::new("folder/model.onnx"), &ports(&self.inputs), &ports(&self.outputs), hints)
    }

    fn read(&self) -> Contract {
        self.read_with(ContractHints::default()).expect("the graph is supported")
    }

    /// The reason of the refusal, which must name the graph and each of `words`.
    fn refused(&self, words: &[&str]) {
        let error = self.read_with(ContractHints::default()).expect_err("the graph is refused").to_string();
        assert!(error.contains("folder/model.onnx"), "{error}");
        for word in words {
            assert!(error.contains(word), "`{word}` in: {error}");
        }
    }
}

#[test]
fn exports_of_51_and_57_inputs_are_two_instances_of_one_rule() {
    let ids_alone = Graph::default()
        .input("input_ids", I64, &[-1, -1])
        .output("logits", F32, &[-1, -1, VOCABULARY])
        .layers(28);
    for (graph, layers, inputs) in
        [(Graph::optimum(24), 24, 51), (ids_alone, 28, 57), (Graph::optimum(28), 28, 59)]
    {
        let contract = graph.read();
        assert_eq!(contract.input_count(), inputs);
        assert_eq!(contract.layers(), layers);
        assert_eq!(contract.kv_bytes_per_token(), layers * 2 * 2 * 64 * 4);
        assert_eq!(contract.logits.vocabulary_size, 151_936);
        assert!(!contract.logits.last_only);
        for pair in &contract.state {
            assert_eq!(pair.past.replace("past_key_values", "present"), pair.present);
        }
    }
}

#[test]
fn presents_are_found_by_name_in_whatever_order_they_come() {
    let mut graph = Graph::bare();
    for part in ["key", "value"] {
        for layer in 0..3 {
            graph = graph.input(format!("past_key_values.{layer}.{part}"), F16, &[-1, 4, -1, 32]);
        }
    }
    for layer in 0..3 {
        for part in ["value", "key"] {
            graph = graph.output(format!("present.{layer}.{part}"), F16, &[-1, 4, -1, 32]);
        }
    }
    let contract = graph.read();
    assert_eq!(contract.layers(), 3);
    assert_eq!(contract.state[0].present, "present.0.key");
    assert_eq!(contract.state[3].present, "present.0.value");
    assert_eq!(contract.kv_bytes_per_token(), 3 * 2 * 4 * 32 * 2, "f16 takes two bytes");
}

#[test]
fn other_spellings_of_past_and_present_are_paired() {
    let shape = [-1, 4, -1, 32];
    for (past, present) in [
        ("past_key_self_0", "present_key_self_0"),
        ("past_0", "present_0"),
        ("past_key_values.0.key", "present_key_values.0.key"),
    ] {
        let contract = Graph::bare().input(past, F32, &shape).output(present, F32, &shape).read();
        assert_eq!((contract.state[0].past.as_str(), contract.state[0].present.as_str()), (past, present));
    }
}

#[test]
fn mask_and_positions_may_be_made_inside_the_graph() {
    let contract = Graph::default()
        .input("input_ids", I64, &[-1, -1])
        .pair("0.key", F32, &[-1, 4, -1, 8])
        .pair("0.value", F32, &[-1, 4, -1, 8])
        .output("logits", F32, &[-1, -1, 512])
        .read();
    assert_eq!(contract.input_count(), 3);
    assert!(contract.attention_mask.is_none() && contract.position_ids.is_none());
}

#[test]
fn ids_and_mask_may_be_32_bit_numbers() {
    let contract = Graph::default()
        .input("input_ids", TensorElementType::Int32, &[1, -1])
        .input("attention_mask", TensorElementType::Int32, &[1, -1])
        .pair("0.key", F32, &[-1, 4, -1, 8])
        .output("logits", F16, &[-1, -1, 512])
        .read();
    assert_eq!(contract.input_ids.element, IntegerType::I32);
    assert_eq!(contract.attention_mask.expect("a mask").element, IntegerType::I32);
    assert!(contract.logits.half);
}

#[test]
fn sizes_written_as_symbols_are_taken_from_the_configuration() {
    let graph = Graph::default()
        .input("input_ids", I64, &[-1, -1])
        .pair("0.key", F32, &[-1, -1, -1, -1])
        .output("logits", F32, &[-1, -1, -1]);
    let hints = ContractHints { head_size: Some(64), kv_heads: Some(2), vocabulary_size: Some(900) };
    let contract = graph.read_with(hints).expect("the hints tell");
    assert_eq!((contract.state[0].heads, contract.state[0].head_size), (2, 64));
    assert_eq!(contract.logits.vocabulary_size, 900);
    for (hints, what) in [
        (ContractHints { head_size: None, ..hints }, "head size"),
        (ContractHints { kv_heads: None, ..hints }, "number of heads"),
        (ContractHints { vocabulary_size: None, ..hints }, "width of its logits"),
    ] {
        let error = graph.read_with(hints).expect_err("nothing tells").to_string();
        assert!(error.contains(what) && error.contains("symbol"), "{error}");
    }
    let written = Graph::optimum(1).read_with(hints).expect("read");
    assert_eq!(written.state[0].head_size, 64, "what the graph says counts");
    assert_eq!(written.logits.vocabulary_size, 151_936);
}

#[test]
fn sizes_that_no_model_has_are_refused_whoever_tells_them() {
    let graph = Graph::default()
        .input("input_ids", I64, &[-1, -1])
        .pair("0.key", F32, &[-1, -1, -1, -1])
        .pair("0.value", F32, &[-1, -1, -1, -1])
        .output("logits", F32, &[-1, -1, -1]);
    let hints = ContractHints { head_size: Some(256), kv_heads: Some(64), vocabulary_size: Some(262_144) };
    graph.read_with(hints).expect("there are such models");
    for (hints, what) in [
        (ContractHints { head_size: Some(65_536), kv_heads: Some(4_096), ..hints }, "64 MiB"),
        (ContractHints { head_size: Some(usize::MAX), ..hints }, "64 MiB"),
        (ContractHints { vocabulary_size: Some((1 << 24) + 1), ..hints }, "vocabulary"),
    ] {
        let error = graph.read_with(hints).expect_err("no model is so large").to_string();
        assert!(error.contains("folder/model.onnx") && error.contains(what), "{error}");
    }
    Graph::bare().pair("0.key", F32, &[-1, 1 << 20, -1, 1 << 20]).refused(&["64 MiB"]);
}

#[test]
fn graphs_that_leave_out_logits_are_recognised() {
    let mut graph = Graph::optimum(1);
    graph.outputs[0].1 = tensor_of(F32, &[-1, 1, VOCABULARY]);
    assert!(graph.read().logits.last_only);
    for (shape, rank) in [(&[][..], 0), (&[1][..], 1)] {
        let contract = Graph::optimum(1).input("num_logits_to_keep", I64, shape).read();
        assert_eq!(contract.logits_to_keep.as_ref().expect("the input").rank, rank);
        assert_eq!(contract.input_count(), 6);
    }
}

#[test]
fn inputs_that_nothing_here_can_feed_are_refused_by_name() {
    for (name, word) in [
        ("inputs_embeds", "embeddings"),
        ("use_cache_branch", "merged"),
        ("pixel_values", "image"),
        ("encoder_hidden_states", "encoder-decoder"),
        ("token_type_ids", "encoder models"),
        ("beam_width", "beam search"),
        ("something_new", "none that a decoder is fed"),
    ] {
        Graph::optimum(1).input(name, F32, &[-1, -1, 64]).refused(&[name, word]);
    }
}

#[test]
fn past_state_that_is_no_kv_cache_is_refused_by_name() {
    let shape = [-1, 4, -1, 8];
    Graph::bare()
        .pair("0.conv_state", F32, &[-1, 64, 4])
        .refused(&["past_key_values.0.conv_state", "recurrent"]);
    Graph::bare().input("past_conv.0", F32, &[-1, 64, 3]).refused(&["past_conv.0", "recurrent"]);
    Graph::bare().pair("0.key", F32, &[-1, -1, 8]).refused(&["past_key_values.0.key", "3 dimensions"]);
    Graph::bare().pair("0.key", TensorElementType::Int8, &shape).refused(&["past_key_values.0.key", "Int8"]);
    Graph::bare()
        .input("past_key_values.0.key", F32, &shape)
        .refused(&["past_key_values.0.key", "no present"]);
    Graph::optimum(1).output("present.1.key", F32, &shape).refused(&["present.1.key", "no past"]);
    Graph::bare().refused(&["no past inputs"]);
}

#[test]
fn inputs_and_outputs_of_other_shapes_and_kinds_are_refused_by_name() {
    let state = |graph: Graph| graph.pair("0.key", F32, &[-1, 4, -1, 8]);
    let logits = |graph: Graph| graph.output("logits", F32, &[-1, -1, 512]);
    let ids = |graph: Graph| graph.input("input_ids", I64, &[-1, -1]);
    let start = Graph::default;
    logits(ids(state(start()))).input("position_ids", I64, &[3, -1, -1]).refused(&["position_ids", "3 dim"]);
    logits(ids(state(start()))).input("position_ids", I64, &[3, -1]).refused(&["position_ids", "3 rows"]);
    logits(state(start())).input("input_ids", F32, &[-1, -1]).refused(&["input_ids", "Float32"]);
    logits(state(start())).refused(&["input_ids"]);
    ids(state(start())).refused(&["logits"]);
    ids(state(start())).output("logits", I64, &[-1, -1, 512]).refused(&["logits", "Int64"]);
    ids(state(start())).output("logits", F32, &[-1, 512]).refused(&["logits", "2 dimensions"]);
    let mut sequence = logits(ids(state(start())));
    sequence.inputs[0].1 = ValueType::Sequence(Box::new(tensor_of(F32, &[-1])));
    sequence.refused(&["past_key_values.0.key", "not a tensor"]);
}
