//! Rows of a KV cache as plain data, so that they can be kept outside of a session and come back.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::TokenId;

/// The rows of one block, and the tokens of one prefill pass: a prompt that goes on behind restored blocks
/// is then read in the passes of one that was read from its beginning.
pub const KV_BLOCK: usize = 256;

/// The number format of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KvElement {
    F32,
    F16,
}

impl KvElement {
    /// The size of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// One key or value tensor of one layer: `[1, heads, rows, head_size]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvTensor {
    pub heads: usize,
    pub head_size: usize,
    pub element: KvElement,
}

impl KvTensor {
    /// The bytes of one row over all heads.
    pub fn row_bytes(&self) -> usize {
        self.heads * self.head_size * self.element.bytes()
    }
}

/// How the rows of a model lie in a block: tensor behind tensor in the order of the graph's inputs, in each
/// head behind head, in each the rows one after the other, numbers little-endian.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvLayout {
    pub tensors: Vec<KvTensor>,
}

impl KvLayout {
    /// The bytes of one row over all tensors.
    pub fn row_bytes(&self) -> usize {
        self.tensors.iter().map(KvTensor::row_bytes).sum()
    }
}

/// The rows of some tokens that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvBlock {
    /// The first row's place.
    pub start: usize,
    /// One token a row.
    pub tokens: Vec<TokenId>,
    pub layout: KvLayout,
    /// As the layout says.
    pub data: Vec<u8>,
}

impl KvBlock {
    /// The places of its rows.
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.tokens.len()
    }

    /// Whether it can follow `start` rows of a cache with `layout` that has room for `limit`.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, start: usize, layout: &KvLayout, limit: usize) -> Result<(), KvRefusal> {
        if self.layout != *layout {
            return Err(KvRefusal::Layout);
        }
        if self.start != start {
            return Err(KvRefusal::Place { expected: start, found: self.start });
        }
        let expected = self.tokens.len().checked_mul(layout.row_bytes());
        if self.tokens.is_empty() || expected != Some(self.data.len()) {
            return Err(KvRefusal::Size { rows: self.tokens.len(), bytes: self.data.len() });
        }
        if self.tokens.len() > limit.saturating_sub(start) {
            return Err(KvRefusal::NoRoom { rows: limit });
        }
        Ok(())
    }
}

/// Why a block is none of a model's. An outcome: whoever offered it reads the prompt instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvRefusal {
    /// It has other tensors.
    Layout,
    /// It does not follow the block before.
    Place { expected: usize, found: usize },
    /// Its bytes are not those of its rows.
    Size { rows: usize, bytes: usize },
    /// It ends behind the rows that were announced, or behind the model's context.
    NoRoom { rows: usize },
}

/// What came of an import.
#[derive(Debug)]
pub enum Import<T> {
    /// All blocks that were given.
    Whole(T),
    /// A block did not fit, so none was taken.
    Refused(KvRefusal),
}
