//! The KV cache of all other graphs: the present tensors of one pass are the past of the next, moved and
//! never copied by this engine. (The graph's own Concat copies them; that is its form.)

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, SessionOutputs};
use ort::value::{DynTensor, DynTensorValueType};

use super::contract::KvPair;
use super::tensor;

pub(super) struct HandOver {
    /// One past value per pair, each of exactly the committed rows.
    past: Vec<DynTensor>,
    /// Whether the binding holds this past, and no present but those to come.
    is_bound: bool,
}

impl HandOver {
    /// A past of `rows` rows of zeros, which are none until they are written.
    pub(super) fn new(pairs: &[KvPair], rows: usize) -> ort::Result<Self> {
        let past = pairs.iter().map(|pair| tensor::zeroed(pair, rows)).collect::<ort::Result<_>>()?;
        Ok(Self { past, is_bound: false })
    }

    /// The tensors, in the order of the pairs.
    pub(super) fn tensors(&self) -> &[DynTensor] {
        &self.past
    }

    /// The same, to be written.
    pub(super) fn tensors_mut(&mut self) -> &mut [DynTensor] {
        &mut self.past
    }

    /// Binds what a pass reads and gives, where that was not done at the end of the last one.
    pub(super) fn begin_pass(&mut self, pairs: &[KvPair], binding: &mut IoBinding) -> ort::Result<()> {
        if !self.is_bound {
            self.bind(pairs, binding)?;
        }
        // Nobody knows what is bound behind a pass that is stopped.
        self.is_bound = false;
        Ok(())
    }

    /// Binds the past, and asks for presents of whatever size they will have. An output that stays bound to the last
    /// pass's tensor is refused for its shape; and where a session waits, the binding would keep the past before
    /// this one, or the rows that were cut, in memory that [`HandOver::bytes`] does not count.
    pub(super) fn bind(&mut self, pairs: &[KvPair], binding: &mut IoBinding) -> ort::Result<()> {
        let memory = MemoryInfo::default();
        for (pair, past) in pairs.iter().zip(&self.past) {
            binding.bind_input(pair.past.as_str(), past)?;
            binding.bind_output_to_device(pair.present.as_str(), &memory)?;
        }
        self.is_bound = true;
        Ok(())
    }

    /// Takes the presents over as the next past of `total` rows: all of them, or none. One that has not a row
    /// for each token, such as those of a sliding window, is refused: nobody could cut it where a text differs.
    pub(super) fn take(
        &mut self,
        pairs: &[KvPair],
        outputs: &mut SessionOutputs<'_>,
        total: usize,
    ) -> Result<(), String> {
        let present = pairs
            .iter()
            .map(|pair| {
                let missing = || format!("taking over `{}`, which the pass did not give", pair.present);
                let value = outputs.remove(&pair.present).ok_or_else(missing)?;
                let value = value.downcast::<DynTensorValueType>().map_err(|_| missing())?;
                let (found, expected) = (&value.shape()[..], tensor::shape(pair, total));
                if found == expected {
                    return Ok(value);
                }
                Err(format!(
                    "taking over `{}`, which has the shape {found:?} and not {expected:?}: the graph keeps no row for each token",
                    pair.present
                ))
            })
            .collect::<Result<_, _>>()?;
        self.past = present;
        self.is_bound = false;
        Ok(())
    }

    /// Cuts every tensor from `len` rows to `kept`.
    pub(super) fn truncate(&mut self, pairs: &[KvPair], len: usize, kept: usize) -> ort::Result<()> {
        let cut = pairs
            .iter()
            .zip(&self.past)
            .map(|(pair, past)| tensor::resized(pair, past, len, kept, kept))
            .collect::<ort::Result<_>>()?;
        self.past = cut;
        self.is_bound = false;
        Ok(())
    }

    pub(super) fn bytes(&self, pairs: &[KvPair], len: usize) -> usize {
        pairs.iter().map(|pair| pair.row_bytes() * len).sum()
    }
}
