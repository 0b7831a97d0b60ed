//! Random small decoders in the anatomy of optimum's exports, for tests of what rewrites them.
//!
//! Everything that exporters of that family are known to vary is a field, and each thing that no fused
//! attention computes is an [`Oddity`].

mod attention;
mod writer;

pub use writer::Products;

use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, data_type};
use writer::{Writer, int, ints, value};

/// Where positions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// The input `position_ids`.
    Input,
    /// The shapes of the inputs; there is no mask either.
    Shapes,
    /// The sum over the mask.
    Mask,
}

/// How the angles of the rotation are made of `inv_freq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Angles {
    /// A product of matrices, behind Expand and Cast, as optimum writes it.
    Product,
    /// A product of numbers.
    Outer,
}

/// Where scores are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Queries and keys by the fourth root of the head size each.
    BothSides,
    /// The same, computed of a shape.
    Computed,
    Query,
    Product,
    Divided,
}

/// How the causal mask reaches the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Truth values that each layer cuts and turns into numbers.
    PerLayer,
    /// Numbers that are made once.
    Once,
}

/// What makes a graph none that can be fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    Alibi,
    Softcap,
    PartialRotation,
    InterleavedRotation,
    NoRotation,
    NormAfterRotation,
    /// Angles that stop growing.
    BoundedAngles,
    /// The first tokens see each other.
    PrefixMask,
    /// The second layer attends to the keys of the first.
    SharedState,
    /// Values count twice.
    DoubledValues,
    /// Something beside the attention reads the keys.
    ReadElsewhere,
    /// Key heads are repeated as a whole, not each.
    TiledHeads,
    /// Scores grow with the number of tokens.
    ScaledByLength,
    /// The same, from the hundredth token on.
    ScaledFar,
}

/// A decoder of the family.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub seed: u64,
    pub layers: usize,
    pub kv_heads: usize,
    /// Query heads for each key head.
    pub group: usize,
    pub head_size: usize,
    pub hidden: usize,
    pub vocabulary: usize,
    pub has_biases: bool,
    /// Norms of queries and keys before the rotation, as Qwen3 has them.
    pub has_norms: bool,
    pub products: Products,
    pub positions: Positions,
    pub angles: Angles,
    pub theta: f32,
    /// A factor on the slower half of the angles, as scaled positions have it.
    pub slowed: f32,
    /// What cosines and sines are multiplied with.
    pub attention_scaling: f32,
    pub scale: Scale,
    pub mask: Mask,
    /// Whether rows without any attended token are zeroed.
    pub has_guard: bool,
    /// Whether norms take a reciprocal.
    pub has_reciprocal: bool,
    /// Whether keys are expanded where each serves one query head.
    pub always_expands: bool,
    /// Whether weights are reached through copies.
    pub has_copies: bool,
    /// Whether tokens are embedded by what the 4-bit weights of the logits stand for.
    pub is_tied: bool,
    pub window: Option<usize>,
    /// A layer whose queries and keys are not rotated.
    pub unrotated: Option<usize>,
    pub oddity: Option<Oddity>,
}

impl Default for Family {
    fn default() -> Self {
        Self {
            seed: 1,
            layers: 2,
            kv_heads: 2,
            group: 2,
            head_size: 16,
            hidden: 64,
            vocabulary: 96,
            has_biases: false,
            has_norms: false,
            products: Products::Plain,
            positions: Positions::Input,
            angles: Angles::Product,
            theta: 10_000.0,
            slowed: 1.0,
            attention_scaling: 1.0,
            scale: Scale::BothSides,
            mask: Mask::PerLayer,
            has_guard: true,
            has_reciprocal: false,
            always_expands: false,
            has_copies: false,
            is_tied: false,
            window: None,
            unrotated: None,
            oddity: None,
        }
    }
}

/// Values that all layers read.
struct Common {
    /// `[batch, 1, tokens, total]`: truth, or numbers to be added.
    mask: String,
    /// `[batch, 1, tokens, head size]`
    cosines: String,
    sines: String,
}

impl Family {
    /// A decoder without oddity that a seed chooses.
    pub fn random(seed: u64) -> Self {
        let mut dice = Writer::new(seed);
        let mut flag = || dice.choice(2) == 1;
        let (has_biases, has_norms, has_guard) = (flag(), flag(), flag());
        let (has_reciprocal, always_expands, has_copies, has_window) = (flag(), flag(), flag(), flag());
        let layers = 1 + dice.choice(3);
        // One layer at least is rotated.
        let unrotated = (layers > 1 && dice.choice(3) == 0).then(|| dice.choice(layers));
        let scales = [Scale::BothSides, Scale::Computed, Scale::Query, Scale::Product, Scale::Divided];
        Self {
            seed,
            layers,
            unrotated,
            kv_heads: 1 + dice.choice(3),
            group: 1 + dice.choice(4),
            head_size: [16, 32, 64][dice.choice(3)],
            products: [Products::Plain, Products::Bits4, Products::Dynamic8][dice.choice(3)],
            positions: [Positions::Input, Positions::Shapes, Positions::Mask][dice.choice(3)],
            angles: [Angles::Product, Angles::Outer][dice.choice(2)],
            theta: [10_000.0, 500_000.0, 1_000_000.0][dice.choice(3)],
            slowed: [1.0, 0.25, 0.125][dice.choice(3)],
            attention_scaling: [1.0, 1.0, 1.25][dice.choice(3)],
            scale: scales[dice.choice(scales.len())],
            mask: [Mask::PerLayer, Mask::Once][dice.choice(2)],
            window: has_window.then(|| 2 + dice.choice(18)),
            has_biases,
            has_norms,
            has_guard,
            has_reciprocal,
            always_expands,
            has_copies,
            is_tied: seed.is_multiple_of(2),
            ..Self::default()
        }
    }

    /// The number of query heads.
    pub fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    /// The decoder as a file has it.
    pub fn model(&self) -> ModelProto {
        let mut writer = Writer::new(self.seed);
        let (vocabulary, hidden) = (self.vocabulary as i64, self.hidden as i64);
        let table = writer.random_weights("model.embed_tokens.weight", &[vocabulary, hidden], 0.0, 1.0);
        let mut state = writer.op("Gather", &[&table, "input_ids"], Vec::new());
        let common = self.common(&mut writer, &state);
        for layer in 0..self.layers {
            state = self.layer(&mut writer, layer, &state, &common);
        }
        let last = self.norm(&mut writer, "model.norm", &state, self.hidden);
        let sizes = (self.hidden, self.vocabulary);
        let logits = writer.product("lm_head", &last, sizes, self.products);
        if self.is_tied && self.products == Products::Bits4 {
            writer.tie(&table, "lm_head");
        }
        writer.named("Identity", &[&logits], "logits", Vec::new());
        self.finish(writer)
    }

    /// The decoder with a few things in the wrong place, each a node, another and a kind of damage.
    pub fn damaged(&self, damages: &[(usize, usize, u8)]) -> ModelProto {
        let mut model = self.model();
        let Some(graph) = model.graph.as_mut() else { return model };
        for &(one, other, kind) in damages {
            let count = graph.node.len();
            let (one, other) = (one % count, other % count);
            match kind % 5 {
                0 => graph.node[one].op_type = graph.node[other].op_type.clone(),
                1 => {
                    let value = graph.node[other].output[0].clone();
                    if let Some(input) = graph.node[one].input.last_mut() {
                        *input = value;
                    }
                }
                2 => graph.node[one].input.reverse(),
                3 => graph.node[one].attribute = graph.node[other].attribute.clone(),
                _ => {
                    let numbers = [i64::MIN, -1, 0, 1, 2, 3, i64::MAX];
                    let held = graph.node[one].attribute.iter_mut().find_map(|given| given.t.as_mut());
                    if let Some(raw) = held.and_then(|tensor| tensor.raw_data.as_mut())
                        && let Some(start) = raw.first_chunk_mut()
                    {
                        *start = numbers[other % numbers.len()].to_le_bytes();
                    }
                }
            }
        }
        model
    }

    fn layer(&self, writer: &mut Writer, layer: usize, state: &str, common: &Common) -> String {
        let name = format!("model.layers.{layer}");
        let normed = self.norm(writer, &format!("{name}.input_layernorm"), state, self.hidden);
        let attended = self.attention(writer, layer, &normed, common);
        let state = writer.op("Add", &[state, &attended], Vec::new());
        let normed = self.norm(writer, &format!("{name}.post_attention_layernorm"), &state, self.hidden);
        let wide = 2 * self.hidden;
        let gate = writer.product(&format!("{name}.gate"), &normed, (self.hidden, wide), self.products);
        let open = writer.op("Sigmoid", &[&gate], Vec::new());
        let gate = writer.op("Mul", &[&gate, &open], Vec::new());
        let up = writer.product(&format!("{name}.up"), &normed, (self.hidden, wide), self.products);
        let inner = writer.op("Mul", &[&gate, &up], Vec::new());
        let down = writer.product(&format!("{name}.down"), &inner, (wide, self.hidden), self.products);
        writer.op("Add", &[&state, &down], Vec::new())
    }

    /// Root mean square norm over the last axis.
    fn norm(&self, writer: &mut Writer, name: &str, x: &str, width: usize) -> String {
        let x = writer.cast(x, data_type::FLOAT);
        let two = writer.number(2.0);
        let squares = writer.op("Pow", &[&x, &two], Vec::new());
        let mean = writer.op("ReduceMean", &[&squares], vec![ints("axes", &[-1]), int("keepdims", 1)]);
        let least = writer.number(1e-6);
        let mean = writer.op("Add", &[&mean, &least], Vec::new());
        let root = writer.op("Sqrt", &[&mean], Vec::new());
        let factor = if self.has_reciprocal {
            writer.op("Reciprocal", &[&root], Vec::new())
        } else {
            let one = writer.number(1.0);
            writer.op("Div", &[&one, &root], Vec::new())
        };
        let even = writer.op("Mul", &[&x, &factor], Vec::new());
        let even = writer.cast(&even, data_type::FLOAT);
        let mut weight = writer.random_weights(&format!("{name}.weight"), &[width as i64], 1.0, 0.2);
        if self.has_copies {
            weight = writer.op("Identity", &[&weight], Vec::new());
        }
        writer.op("Mul", &[&weight, &even], Vec::new())
    }

    fn finish(&self, writer: Writer) -> ModelProto {
        let (batch, tokens, total) = (Err("batch_size"), Err("sequence_length"), Err("total_length"));
        let past = Err("past_sequence_length");
        let mut inputs = vec![value("input_ids", data_type::INT64, &[batch, tokens])];
        if self.positions != Positions::Shapes {
            inputs.push(value("attention_mask", data_type::INT64, &[batch, total]));
        }
        if self.positions == Positions::Input {
            inputs.push(value("position_ids", data_type::INT64, &[batch, tokens]));
        }
        let mut outputs = vec![value("logits", data_type::FLOAT, &[batch, tokens, Ok(self.vocabulary)])];
        for layer in 0..self.layers {
            for kind in ["key", "value"] {
                let dims = |rows| [batch, Ok(self.kv_heads), rows, Ok(self.head_size)];
                let (was, is) =
                    (format!("past_key_values.{layer}.{kind}"), format!("present.{layer}.{kind}"));
                inputs.push(value(&was, data_type::FLOAT, &dims(past)));
                outputs.push(value(&is, data_type::FLOAT, &dims(total)));
            }
        }
        let graph = GraphProto {
            name: Some("main_graph".to_owned()),
            node: writer.nodes,
            initializer: writer.tensors,
            input: inputs,
            output: outputs,
            ..Default::default()
        };
        let set = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
            ..Default::default()
        };
        let mut sets = vec![set("", 17)];
        if self.products == Products::Bits4 {
            sets.push(set("com.microsoft", 1));
        }
        ModelProto {
            ir_version: Some(8),
            opset_import: sets,
            producer_name: Some("hearth".to_owned()),
            graph: Some(Box::new(graph)),
            ..Default::default()
        }
    }
}
