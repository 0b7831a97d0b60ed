//! The KV cache of graphs that attend by GroupQueryAttention: one buffer per tensor, bound as past and
//! as present at once.
//!
//! The kernel writes new rows in place when past and present are the same memory; the lengths that the
//! attention mask carries are all of its state. Rows behind the committed length are garbage that no
//! later pass reads, so a rewind is a smaller number and a cancelled pass needs no repair.

use ort::session::IoBinding;
use ort::value::DynTensor;

use super::contract::KvPair;
use super::tensor;

/// The rows that the first buffer has.
const FIRST_ROWS: usize = 256;

pub(super) struct SharedBuffer {
    tensors: Vec<DynTensor>,
    /// The rows of every tensor. All have the same, or, after an allocation failed half-way, at least these.
    rows: usize,
}

impl SharedBuffer {
    /// Buffers for `rows` rows, bound.
    pub(super) fn new(pairs: &[KvPair], rows: usize, binding: &mut IoBinding) -> ort::Result<Self> {
        let tensors = pairs.iter().map(|pair| tensor::zeroed(pair, rows)).collect::<ort::Result<_>>()?;
        let mut buffer = Self { tensors, rows };
        for (pair, tensor) in pairs.iter().zip(&mut buffer.tensors) {
            bind(binding, pair, tensor)?;
        }
        Ok(buffer)
    }

    /// The rows to begin with, at most `most`.
    pub(super) fn first_rows(most: usize) -> usize {
        FIRST_ROWS.min(most)
    }

    /// The rows to have where `needed` are in use, at most `most`.
    pub(super) fn rows_for(needed: usize, most: usize) -> usize {
        needed.next_power_of_two().max(FIRST_ROWS).min(most).max(needed)
    }

    /// The tensors, in the order of the pairs.
    pub(super) fn tensors(&self) -> &[DynTensor] {
        &self.tensors
    }

    /// The same, for rows that nothing is bound to read yet.
    pub(super) fn tensors_mut(&mut self) -> &mut [DynTensor] {
        &mut self.tensors
    }

    /// Makes room for `needed` rows, at most `most`, and keeps the first `len`.
    ///
    /// Capacity grows in powers of two, so that a conversation copies each row a bounded number of times
    /// and memory follows what is used: 32,768 rows of Qwen3-0.6B would be 7 GiB up front. Tensors grow
    /// one after the other, which holds only one of them twice; each is valid by itself at any moment.
    pub(super) fn reserve(
        &mut self,
        pairs: &[KvPair],
        len: usize,
        needed: usize,
        most: usize,
        binding: &mut IoBinding,
    ) -> ort::Result<()> {
        if needed <= self.rows {
            return Ok(());
        }
        let rows = Self::rows_for(needed, most);
        for (pair, tensor) in pairs.iter().zip(&mut self.tensors) {
            let old_rows = tensor::capacity(tensor);
            if old_rows < rows {
                let mut grown = tensor::resized(pair, tensor, old_rows, len, rows)?;
                bind(binding, pair, &mut grown)?;
                *tensor = grown;
            }
        }
        tracing::debug!(rows, len, "grew the KV cache");
        self.rows = rows;
        Ok(())
    }

    pub(super) fn bytes(&self, pairs: &[KvPair]) -> usize {
        pairs.iter().map(|pair| pair.row_bytes() * self.rows).sum()
    }
}

/// Binds one tensor on both sides. The binding keeps its memory alive.
fn bind(binding: &mut IoBinding, pair: &KvPair, tensor: &mut DynTensor) -> ort::Result<()> {
    binding.bind_input(pair.past.as_str(), tensor)?;
    binding.bind_output(pair.present.as_str(), tensor)
}
