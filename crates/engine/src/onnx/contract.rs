//! What a graph asks for and gives, read from the session's metadata alone.
//!
//! Names, types and dimensions decide; no family of models is known by name. Exports of the 0.5B and
//! 1.5B Qwen2.5 models, with 51 and 57 inputs, are two instances of one rule: whatever past state there
//! is, is paired with the present that replaces it.

use std::path::Path;

use graph::rewrite::hidden_state::OUTPUT;
use ort::value::{Outlet, TensorElementType, ValueType};

use super::hidden_state::HiddenState;
use crate::{Error, KvElement, KvLayout, KvTensor, Result};

/// The bytes of one token's keys and values over all layers; the largest models that a desktop runs have 1 MiB.
const MOST_ROW_BYTES: usize = 64 << 20;
const LARGEST_VOCABULARY: usize = 1 << 24;

/// The inputs and outputs of a decoder graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// The token ids, `[batch, tokens]`.
    pub(crate) input_ids: Integers,
    /// Ones over past and new tokens, `[batch, rows]`; some exports make it inside the graph.
    pub(crate) attention_mask: Option<Integers>,
    /// The new tokens' places, `[batch, tokens]`; some exports make them inside the graph.
    pub(crate) position_ids: Option<Integers>,
    /// How many of the last positions get logits (a scalar or `[1]`), in exports that can leave the others out.
    pub(crate) logits_to_keep: Option<Integers>,
    /// Every key and every value tensor of every layer, in the order of the graph's inputs.
    pub(crate) state: Vec<KvPair>,
    /// `[batch, tokens or 1, vocabulary]`
    pub(crate) logits: Logits,
    /// The last hidden state, in graphs to which it was added.
    pub(crate) hidden_state: Option<HiddenState>,
}

/// An input or output as a session describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a ValueType,
}

impl<'a> From<&'a Outlet> for Port<'a> {
    fn from(outlet: &'a Outlet) -> Self {
        Self { name: outlet.name(), value: outlet.dtype() }
    }
}

/// An integer input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Integers {
    pub(crate) name: String,
    pub(crate) element: IntegerType,
    /// The number of its dimensions.
    pub(crate) rank: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntegerType {
    I32,
    I64,
}

/// One past input with the present output that replaces it: `[1, heads, rows, head_size]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KvPair {
    pub(crate) past: String,
    pub(crate) present: String,
    pub(crate) element: KvElement,
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
}

impl KvPair {
    /// What of it matters outside of the graph.
    pub(crate) fn tensor(&self) -> KvTensor {
        KvTensor { heads: self.heads, head_size: self.head_size, element: self.element }
    }

    /// The bytes of one row over all heads.
    pub(crate) fn row_bytes(&self) -> usize {
        self.tensor().row_bytes()
    }
}

/// The logits output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logits {
    pub(crate) name: String,
    pub(crate) half: bool,
    pub(crate) vocabulary_size: usize,
    /// Whether the graph computes the last position only, whatever it is fed.
    pub(crate) last_only: bool,
}

/// What a graph may leave open and the model's configuration knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContractHints {
    /// For exports that write the head size as a symbol.
    pub head_size: Option<usize>,
    /// For exports that write the number of KV heads as a symbol.
    pub kv_heads: Option<usize>,
    /// For exports that write the width of the logits as a symbol.
    pub vocabulary_size: Option<usize>,
}

impl Contract {
    /// Reads the contract of the graph at `path` (named in errors only).
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the input or output that this engine cannot serve, and why.
    pub(crate) fn read(
        path: &Path,
        inputs: &[Port<'_>],
        outputs: &[Port<'_>],
        hints: ContractHints,
    ) -> Result<Self> {
        let refuse = |reason: String| Error::Unsupported { path: path.to_path_buf(), reason };
        let (mut input_ids, mut attention_mask, mut position_ids, mut logits_to_keep) =
            (None, None, None, None);
        let mut state = Vec::new();
        for input in inputs {
            match input.name {
                "input_ids" => input_ids = Some(integers(input, &[2]).map_err(refuse)?),
                "attention_mask" => attention_mask = Some(integers(input, &[2]).map_err(refuse)?),
                "position_ids" => position_ids = Some(integers(input, &[2]).map_err(refuse)?),
                "num_logits_to_keep" => logits_to_keep = Some(integers(input, &[0, 1]).map_err(refuse)?),
                name if name.starts_with("past") => {
                    state.push(pair(input, outputs, hints).map_err(refuse)?);
                }
                name => return Err(refuse(format!("its input `{name}` {}", unserved(name)))),
            }
        }
        if let Some(unpaired) = outputs.iter().find(|output| {
            output.name.starts_with("present") && !state.iter().any(|pair| pair.present == output.name)
        }) {
            let name = unpaired.name;
            return Err(refuse(format!("its output `{name}` has no past input that it could continue")));
        }
        if state.is_empty() {
            return Err(refuse(
                "it has no past inputs, so every token would be read again for each new one".into(),
            ));
        }
        let input_ids = input_ids.ok_or_else(|| {
            refuse("it has no input `input_ids`: it is not a decoder that reads token ids".into())
        })?;
        let logits = logits(outputs, hints).map_err(refuse)?;
        let hidden_state = hidden_state(outputs);
        check_sizes(&state, &logits).map_err(refuse)?;
        Ok(Self { input_ids, attention_mask, position_ids, logits_to_keep, state, logits, hidden_state })
    }

    /// The number of inputs that the graph is fed.
    pub fn input_count(&self) -> usize {
        let optional = [&self.attention_mask, &self.position_ids, &self.logits_to_keep];
        1 + optional.iter().filter(|input| input.is_some()).count() + self.state.len()
    }

    /// The layers that keep keys and values, each a key and a value tensor.
    pub fn layers(&self) -> usize {
        self.state.len().div_ceil(2)
    }

    /// How rows of the KV cache lie in blocks.
    pub(crate) fn kv_layout(&self) -> KvLayout {
        KvLayout { tensors: self.state.iter().map(KvPair::tensor).collect() }
    }

    /// The bytes that one token takes in the KV cache.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.state.iter().map(KvPair::row_bytes).sum()
    }
}

/// Refuses sizes that no model has. A graph may leave them to a configuration file, which is trusted no more than
/// the graph is, and memory is taken for them before the first pass.
fn check_sizes(state: &[KvPair], logits: &Logits) -> Result<(), String> {
    if logits.vocabulary_size > LARGEST_VOCABULARY {
        let found = logits.vocabulary_size;
        return Err(format!("its logits are said to be {found} numbers wide, more than any vocabulary has"));
    }
    let row = state.iter().try_fold(0_usize, |sum, pair| {
        sum.checked_add(pair.heads.checked_mul(pair.head_size)?.checked_mul(pair.element.bytes())?)
    });
    match row {
        Some(row) if row <= MOST_ROW_BYTES => Ok(()),
        _ => Err(format!("one token would take more than {} MiB of its KV cache", MOST_ROW_BYTES >> 20)),
    }
}

/// Why an input beyond the known ones cannot be fed.
fn unserved(name: &str) -> &'static str {
    match name {
        "inputs_embeds" => "wants embeddings from a second graph, which this engine does not run",
        "use_cache_branch" => "belongs to merged exports of the old form; an export without it works",
        "encoder_hidden_states" | "encoder_attention_mask" => "belongs to encoder-decoder models",
        "pixel_values" | "image_features" | "image_sizes" => {
            "wants an image, which this engine does not read"
        }
        "token_type_ids" => "belongs to encoder models",
        "beam_width" | "cache_indirection" => "belongs to beam search, which this engine does not do",
        _ => {
            "is none that a decoder is fed here (`input_ids`, `attention_mask`, `position_ids`, `num_logits_to_keep`, `past…`)"
        }
    }
}

fn tensor<'a>(port: &Port<'a>) -> Result<(TensorElementType, &'a [i64]), String> {
    match port.value {
        ValueType::Tensor { ty, shape, .. } => Ok((*ty, shape)),
        _ => Err(format!("`{}` is not a tensor", port.name)),
    }
}

fn integers(input: &Port<'_>, ranks: &[usize]) -> Result<Integers, String> {
    let name = input.name;
    let (element, shape) = tensor(input)?;
    let element = match element {
        TensorElementType::Int64 => IntegerType::I64,
        TensorElementType::Int32 => IntegerType::I32,
        other => return Err(format!("its input `{name}` holds {other:?}, not whole numbers")),
    };
    if !ranks.contains(&shape.len()) {
        let rank = shape.len();
        return Err(format!("its input `{name}` has {rank} dimensions, not {}", ranks[0]));
    }
    // Three rows of positions stand for time, height and width in vision models.
    if shape.len() == 2 && shape[0] > 1 {
        return Err(format!("its input `{name}` has {} rows for one sequence", shape[0]));
    }
    Ok(Integers { name: name.to_owned(), element, rank: shape.len() })
}

fn pair(input: &Port<'_>, outputs: &[Port<'_>], hints: ContractHints) -> Result<KvPair, String> {
    let past = input.name;
    let (element, shape) = tensor(input)?;
    let recurrent = ["ssm", "conv", "recurrent", "compressor", "indexer"];
    if recurrent.iter().any(|kind| past.contains(kind)) {
        return Err(format!(
            "its input `{past}` carries recurrent state, which cannot be rewound to an earlier token"
        ));
    }
    let element = match element {
        TensorElementType::Float32 => KvElement::F32,
        TensorElementType::Float16 => KvElement::F16,
        other => {
            return Err(format!("its input `{past}` keeps keys or values as {other:?}, not as f32 or f16"));
        }
    };
    let &[_, heads, _, head_size] = shape else {
        let rank = shape.len();
        return Err(format!("its input `{past}` has {rank} dimensions, not [batch, heads, rows, head size]"));
    };
    let known = |dimension: i64, hint: Option<usize>, what: &str| {
        usize::try_from(dimension).ok().filter(|&size| size > 0).or(hint).ok_or_else(|| {
            format!(
                "the {what} of its input `{past}` is written as a symbol and no configuration file tells it"
            )
        })
    };
    let tail = past.strip_prefix("past_key_values").or_else(|| past.strip_prefix("past")).unwrap_or(past);
    let present = ["present", "present_key_values"]
        .into_iter()
        .map(|head| format!("{head}{tail}"))
        .find(|name| outputs.iter().any(|output| output.name == name))
        .ok_or_else(|| format!("its input `{past}` has no present output that would continue it"))?;
    Ok(KvPair {
        past: past.to_owned(),
        present,
        element,
        heads: known(heads, hints.kv_heads, "number of heads")?,
        head_size: known(head_size, hints.head_size, "head size")?,
    })
}

/// The last hidden state, where there is one of the form that is known; any other output is left alone.
fn hidden_state(outputs: &[Port<'_>]) -> Option<HiddenState> {
    let output = outputs.iter().find(|output| output.name == OUTPUT)?;
    let (element, shape) = tensor(output).ok()?;
    let &[_, _, width] = shape else { return None };
    let width = usize::try_from(width).ok().filter(|&width| width > 0)?;
    (element == TensorElementType::Float32).then(|| HiddenState { name: OUTPUT.to_owned(), width })
}

fn logits(outputs: &[Port<'_>], hints: ContractHints) -> Result<Logits, String> {
    let output = outputs
        .iter()
        .find(|output| output.name == "logits")
        .ok_or("it has no output `logits`: it is not a language model, or was exported without its head")?;
    let (element, shape) = tensor(output)?;
    let half = match element {
        TensorElementType::Float32 => false,
        TensorElementType::Float16 => true,
        other => return Err(format!("its logits are {other:?}, not f32 or f16")),
    };
    let &[_, positions, width] = shape else {
        return Err(format!("its logits have {} dimensions, not [batch, tokens, vocabulary]", shape.len()));
    };
    let vocabulary_size = usize::try_from(width)
        .ok()
        .filter(|&size| size > 0)
        .or(hints.vocabulary_size)
        .ok_or("the width of its logits is written as a symbol and no configuration file tells it")?;
    Ok(Logits { name: "logits".to_owned(), half, vocabulary_size, last_only: positions == 1 })
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
