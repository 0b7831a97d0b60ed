//! The KV cache of one session in one of its two forms, with the binding that feeds it to the graph.

use std::ops::Range;
use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, SessionOutputs};
use ort::value::DynTensor;

use super::contract::{Contract, KvPair};
use super::hand_over::HandOver;
use super::inputs::Inputs;
use super::shared_buffer::SharedBuffer;
use super::tensor;
use crate::{Error, Import, KvBackend, KvBlock, KvCache, KvLayout, Result};

/// Keys and values of a session in ONNX Runtime tensors.
pub struct OnnxKvCache {
    contract: Arc<Contract>,
    pub(super) binding: IoBinding,
    pub(super) inputs: Inputs,
    storage: Storage,
    len: usize,
}

enum Storage {
    Shared(SharedBuffer),
    HandOver(HandOver),
}

impl OnnxKvCache {
    /// An empty cache. `most` bounds the rows that a shared buffer may have, `first` those it begins with.
    pub(super) fn new(
        contract: &Arc<Contract>,
        mut binding: IoBinding,
        backend: KvBackend,
        first: usize,
    ) -> Result<Self> {
        let storage = match backend {
            KvBackend::SharedBuffer => {
                SharedBuffer::new(&contract.state, first, &mut binding).map(Storage::Shared)
            }
            KvBackend::HandOver => HandOver::new(&contract.state, 0).map(Storage::HandOver),
        }
        .map_err(allocating)?;
        let inputs = Inputs::new(contract).map_err(allocating)?;
        Ok(Self { contract: Arc::clone(contract), binding, inputs, storage, len: 0 })
    }

    /// A cache of the rows of `blocks`, at most `rows` of them, in tensors of their own: nothing else is
    /// changed before the last one is in. `most` bounds the rows that a shared buffer may have.
    pub(super) fn import(
        contract: &Arc<Contract>,
        mut binding: IoBinding,
        backend: KvBackend,
        layout: &KvLayout,
        (rows, most): (usize, usize),
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<Self>> {
        let pairs = &contract.state;
        let mut storage = match backend {
            KvBackend::SharedBuffer => {
                SharedBuffer::new(pairs, SharedBuffer::rows_for(rows, most), &mut binding)
                    .map(Storage::Shared)
            }
            KvBackend::HandOver => HandOver::new(pairs, rows).map(Storage::HandOver),
        }
        .map_err(allocating)?;
        let mut len = 0;
        for block in blocks {
            if let Err(refusal) = block.check(len, layout, rows) {
                return Ok(Import::Refused(refusal));
            }
            storage.write(pairs, &block).map_err(copying)?;
            len = block.rows().end;
        }
        if len < rows
            && let Storage::HandOver(past) = &mut storage
        {
            past.truncate(pairs, rows, len).map_err(allocating)?;
        }
        let inputs = Inputs::new(contract).map_err(allocating)?;
        Ok(Import::Whole(Self { contract: Arc::clone(contract), binding, inputs, storage, len }))
    }

    /// Makes ready for a pass that brings the cache to `total` rows.
    pub(super) fn prepare(&mut self, total: usize, most: usize) -> Result<()> {
        let pairs = &self.contract.state;
        match &mut self.storage {
            Storage::Shared(buffer) => buffer.reserve(pairs, self.len, total, most, &mut self.binding),
            Storage::HandOver(past) => past.begin_pass(pairs, &mut self.binding),
        }
        .map_err(allocating)
    }

    /// Makes the rows of a finished pass part of the cache.
    pub(super) fn commit(
        storage: &mut CacheParts<'_>,
        outputs: &mut SessionOutputs<'_>,
        total: usize,
    ) -> Result<()> {
        if let Storage::HandOver(past) = storage.storage {
            past.take(storage.pairs, outputs, total)
                .map_err(|reason| Error::Run { doing: reason, source: None })?;
        }
        *storage.len = total;
        Ok(())
    }

    /// Lets the binding go of what is no part of the cache: a past that was handed over, presents that were cut, and
    /// the output `logits`, if one was made. Else an idle session would keep them until its next pass.
    pub(super) fn let_go(&mut self, logits: Option<&str>) -> Result<()> {
        if let Some(name) = logits {
            self.binding.bind_output_to_device(name, &MemoryInfo::default()).map_err(allocating)?;
        }
        match &mut self.storage {
            Storage::Shared(_) => Ok(()),
            Storage::HandOver(past) => past.bind(&self.contract.state, &mut self.binding).map_err(allocating),
        }
    }

    /// The binding apart from the rest, since a pass borrows the one while it changes the other.
    pub(super) fn split(&mut self) -> (&IoBinding, CacheParts<'_>) {
        let parts =
            CacheParts { pairs: &self.contract.state, storage: &mut self.storage, len: &mut self.len };
        (&self.binding, parts)
    }
}

impl Storage {
    fn tensors(&self) -> &[DynTensor] {
        match self {
            Self::Shared(buffer) => buffer.tensors(),
            Self::HandOver(past) => past.tensors(),
        }
    }

    /// Writes the rows of a block that was checked.
    fn write(&mut self, pairs: &[KvPair], block: &KvBlock) -> ort::Result<()> {
        let tensors = match self {
            Self::Shared(buffer) => buffer.tensors_mut(),
            Self::HandOver(past) => past.tensors_mut(),
        };
        let mut rest = block.data.as_slice();
        for (pair, tensor) in pairs.iter().zip(tensors) {
            let (bytes, behind) = rest.split_at(block.tokens.len() * pair.row_bytes());
            tensor::write_rows(pair, tensor, block.rows(), bytes)?;
            rest = behind;
        }
        Ok(())
    }
}

/// What a finished pass changes.
pub(super) struct CacheParts<'a> {
    pairs: &'a [KvPair],
    storage: &'a mut Storage,
    len: &'a mut usize,
}

impl KvCache for OnnxKvCache {
    fn len(&self) -> usize {
        self.len
    }

    fn truncate(&mut self, len: usize) -> Result<usize> {
        if len < self.len {
            if let Storage::HandOver(past) = &mut self.storage {
                past.truncate(&self.contract.state, self.len, len).map_err(allocating)?;
            }
            self.len = len;
            self.let_go(None)?;
        }
        Ok(self.len)
    }

    fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Shared(buffer) => buffer.bytes(&self.contract.state),
            Storage::HandOver(past) => past.bytes(&self.contract.state, self.len),
        }
    }

    fn export(&self, rows: Range<usize>) -> Result<Option<Vec<u8>>> {
        if rows.is_empty() || rows.end > self.len {
            return Ok(None);
        }
        let pairs = &self.contract.state;
        let row_bytes: usize = pairs.iter().map(KvPair::row_bytes).sum();
        let mut bytes = Vec::with_capacity(rows.len() * row_bytes);
        for (pair, tensor) in pairs.iter().zip(self.storage.tensors()) {
            tensor::read_rows(pair, tensor, rows.clone(), &mut bytes).map_err(copying)?;
        }
        Ok(Some(bytes))
    }
}

fn allocating(error: ort::Error) -> Error {
    Error::Run { doing: "making room for the KV cache".into(), source: Some(Box::new(error)) }
}

fn copying(error: ort::Error) -> Error {
    Error::Run { doing: "copying rows of the KV cache".into(), source: Some(Box::new(error)) }
}
