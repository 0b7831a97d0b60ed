//! A folder of KV snapshots, and what tests put into it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;

use backend::snapshots::{Doubt, Fingerprint, Saved, Snapshots};
use engine::{KV_BLOCK, KvBlock, KvElement, KvLayout, KvTensor, TokenId};
use tempfile::TempDir;

use crate::files::block_files;

pub(crate) const ROOM: u64 = 1 << 20;

pub(crate) fn layout() -> KvLayout {
    let tensor = KvTensor { heads: 1, head_size: 2, element: KvElement::F16 };
    KvLayout { tensors: vec![tensor; 2] }
}

pub(crate) fn model(name: u8) -> Fingerprint {
    Fingerprint::from_bytes([name; 32])
}

/// A text of `blocks` blocks and a bit, other for each `kind` from its first token on.
pub(crate) fn text(kind: TokenId, blocks: usize) -> Vec<TokenId> {
    (0..(blocks * KV_BLOCK + 10) as TokenId).map(|place| kind * 1000 + place % 700).collect()
}

/// Rows that no other block has.
pub(crate) fn block(tokens: &[TokenId], number: usize) -> KvBlock {
    let start = number * KV_BLOCK;
    let tokens = tokens[start..start + KV_BLOCK].to_vec();
    let row = |token: TokenId| (0..8).map(move |byte| (token as usize * 31 + number * 7 + byte) as u8);
    let data = tokens.iter().flat_map(|&token| row(token)).collect();
    KvBlock { start, tokens, layout: layout(), data }
}

pub(crate) struct Folder {
    pub(crate) folder: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("kv")
    }

    pub(crate) fn open(&self) -> Snapshots {
        self.open_with(ROOM)
    }

    pub(crate) fn open_with(&self, budget: u64) -> Snapshots {
        Snapshots::open(&self.path(), Some(budget)).expect("it opens")
    }

    /// Every block file.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        block_files(&self.path())
    }
}

/// Saves every block of `tokens`; returns what came of each.
pub(crate) fn save(
    snapshots: &mut Snapshots,
    owner: &str,
    model: &Fingerprint,
    tokens: &[TokenId],
) -> Vec<Saved> {
    snapshots.welcome(owner);
    let chain = snapshots.chain(model, tokens);
    (0..chain.blocks())
        .map(|number| snapshots.save(owner, &chain, number, &block(tokens, number)).expect("it is written"))
        .collect()
}

/// The blocks that come back for `prompt`, until one is in doubt.
pub(crate) fn load(
    snapshots: &mut Snapshots,
    model: &Fingerprint,
    prompt: &[TokenId],
) -> (Vec<KvBlock>, Option<Doubt>) {
    let found = snapshots.find(model, prompt);
    let mut blocks = Vec::new();
    for number in 0..found.blocks() {
        match snapshots.read(&found, number, prompt, &layout()) {
            Ok(block) => blocks.push(block),
            Err(doubt) => return (blocks, Some(doubt)),
        }
    }
    (blocks, None)
}

/// The rows behind the whole blocks of `tokens`.
pub(crate) fn rest(tokens: &[TokenId]) -> KvBlock {
    let start = tokens.len() / KV_BLOCK * KV_BLOCK;
    let tokens = tokens[start..].to_vec();
    let data = tokens.iter().flat_map(|&token| [token as u8; 8]).collect();
    KvBlock { start, tokens, layout: layout(), data }
}

pub(crate) fn load_tail(
    snapshots: &mut Snapshots,
    owner: &str,
    prompt: &[TokenId],
) -> Option<Result<KvBlock, Doubt>> {
    let found = snapshots.find(&model(1), prompt);
    let tail = snapshots.find_tail(&model(1), owner, &found, &layout())?;
    Some(snapshots.read_tail(&tail, &layout()))
}
