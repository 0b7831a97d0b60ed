//! The seam between generating and computing: one forward pass, and the memory that it extends.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kv_block::{Import, KvBlock, KvLayout};
use crate::{Cancel, Result, TokenId};

/// A model that turns tokens into logits. All of its memory is in the cache, so one decoder serves any
/// number of sessions, one at a time.
pub trait Decoder {
    /// The memory of one session.
    type Cache: KvCache;

    /// What the model is and how it runs.
    fn spec(&self) -> &ModelSpec;

    /// An empty cache.
    fn new_cache(&self) -> Result<Self::Cache>;

    /// How rows of its caches lie in blocks.
    fn kv_layout(&self) -> &KvLayout;

    /// A cache of the rows that `blocks` bring, which follow each other from row 0 on and are `rows` at
    /// most: all of them or, where one does not fit, none. They come one at a time, so that a long
    /// conversation lies in memory once. Where there are fewer, the cache ends behind the last.
    ///
    /// What was imported answers bit for bit as the cache that was exported.
    fn import_cache(
        &self,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<Self::Cache>>;

    /// Runs `tokens` (one or more) behind what `cache` holds and appends their rows to it.
    ///
    /// After [`Forward::Cancelled`] and [`Forward::ContextFull`] the cache is as before the call; after
    /// an error it must be thrown away.
    fn forward<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut Self::Cache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>>;

    /// The width of the last hidden state, where [`Decoder::forward_hidden`] gives that.
    fn hidden_size(&self) -> Option<usize> {
        None
    }

    /// The same pass, which also appends the last hidden state to `_rows`: one row of
    /// [`Decoder::hidden_size`] numbers for each of `tokens`, and nothing where there is no such state.
    fn forward_hidden<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut Self::Cache,
        cancel: &Cancel,
        _rows: &mut Vec<f32>,
    ) -> Result<Forward<'d>> {
        self.forward(tokens, cache, cancel)
    }

    /// The same pass, and [`Forward::Logits`] holds the logits of every one of `tokens`, row after row. It
    /// is asked for only where [`Decoder::draft_cost`] gave a cost.
    fn forward_rows<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut Self::Cache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>>;

    /// What drafted tokens cost behind the rows of `cache`, measured there where nothing is known of such a depth;
    /// the cache is as before then. `None` where one pass cannot give the logits of several tokens, or gives
    /// others than passes of one token do, so that replies would differ, where the cache cannot be cut at every
    /// row, and where it has no room for the measurement or that was cancelled.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; the cache must be thrown away.
    fn draft_cost(&mut self, cache: &mut Self::Cache, cancel: &Cancel) -> Result<Option<DraftCost>>;
}

/// What it costs to have the model check drafted tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DraftCost {
    /// The time of each further token of a pass, as a share of the time of a pass of one.
    pub per_token: f64,
}

/// How a forward pass ended.
#[derive(Debug)]
pub enum Forward<'d> {
    /// The logits of the last token, one f32 per vocabulary entry (after [`Decoder::forward_rows`] those of
    /// every token). The sampler works on them in place.
    Logits(&'d mut [f32]),
    /// The pass was cancelled.
    Cancelled,
    /// The graph has no room for more positions, for example because its rotary table ends here.
    ContextFull,
}

/// The keys and values of the tokens that a session has seen.
pub trait KvCache {
    /// The number of rows, one per token.
    fn len(&self) -> usize;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the rows from `len` on. Returns the length really reached: a cache that cannot be cut
    /// there goes further back, down to 0.
    fn truncate(&mut self, len: usize) -> Result<usize>;

    /// The memory held, in bytes, room for growth included.
    fn bytes(&self) -> usize;

    /// The bytes of `rows` as [`Decoder::kv_layout`] says; `None` where the cache cannot be cut there or
    /// does not have them.
    fn export(&self, rows: Range<usize>) -> Result<Option<Vec<u8>>>;
}

/// How keys and values are kept between two forward passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KvBackend {
    /// One buffer per layer, bound as past and present: attention writes in place, a rewind is free.
    SharedBuffer,
    /// The present tensors of one pass become the past of the next; a rewind copies rows.
    HandOver,
}

impl std::fmt::Display for KvBackend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::SharedBuffer => "shared buffer",
            Self::HandOver => "hand-over",
        })
    }
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionProvider {
    #[serde(rename = "cpu")]
    Cpu,
    #[serde(rename = "coreml")]
    CoreMl,
}

impl std::fmt::Display for ExecutionProvider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "CPU",
            Self::CoreMl => "CoreML",
        })
    }
}

/// What a loaded model is and how it runs: plain data that crosses the inference boundary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// The width of the logits.
    pub vocabulary_size: usize,
    /// The most KV rows that the model itself can use, from its configuration.
    pub context_length: usize,
    /// The layers that keep keys and values.
    pub layers: usize,
    /// The bytes that one token takes in the KV cache, over all layers.
    pub kv_bytes_per_token: usize,
    pub kv_backend: KvBackend,
    /// Why the shared buffer is not in use, where it is not.
    pub kv_backend_reason: Option<String>,
    pub execution_provider: ExecutionProvider,
    /// Threads inside one operator.
    pub threads: usize,
}
