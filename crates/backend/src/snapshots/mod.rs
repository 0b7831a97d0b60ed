//! KV snapshots: blocks of KV rows on disk, so that nothing is read twice, not even after a restart.
//!
//! One file a block, named after the chain of tokens that leads to its end, so that branches and
//! conversations with the same beginning share files. `block_file` is the format and every check,
//! `fingerprint` what a model must have in common with the one that computed a block, `index` which files
//! there are and which goes first, `owners` who would miss them, `disk` how much they may take.
//!
//! A snapshot is only a cache: it is used where the model, the layout and every token are the same and the
//! file is what was written, byte for byte. In any doubt the prompt is read.

mod block_file;
mod disk;
mod fingerprint;
mod index;
mod owners;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::{KV_BLOCK, KvBlock, KvLayout, ReuseLimit, TokenId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use block_file::Doubt;
use block_file::{Content, Digest, Key};
pub use disk::Disk;
pub use fingerprint::Fingerprint;
use index::{BlockName, Index};
use owners::Owners;

/// The most evicted blocks that are remembered.
const MOST_REMEMBERED: usize = 4096;
/// The least time between two uses.
const TICK: Duration = Duration::from_millis(1);
/// The folder of the lists of owners.
const OWNERS: &str = "owners";

/// The KV blocks in one folder. One program at a time has it.
pub struct Snapshots {
    folder: PathBuf,
    key: Key,
    disk: Disk,
    budget: u64,
    /// The budget that was asked for; `None` for the default.
    asked: Option<u64>,
    index: Index,
    owners: Owners,
    /// Blocks that gave way to others, to tell why a prompt is read again.
    evicted: HashSet<BlockName>,
    /// How often everything was freed: what was to be saved before that is not.
    freed: u64,
    /// Who was forgotten and has asked for nothing since: what is still to be saved for them is not.
    forgotten: HashSet<String>,
    /// Kept open, because the lock goes with it.
    _lock: File,
}

/// Blocks that are there for a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    blocks: Vec<BlockName>,
    /// Why there are no more of them, where that is known.
    pub limit: Option<ReuseLimit>,
}

impl Found {
    /// The blocks, each of [`KV_BLOCK`] tokens.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The tokens that they hold.
    pub fn rows(&self) -> usize {
        self.blocks.len() * KV_BLOCK
    }
}

/// The blocks of a text, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    blocks: Vec<BlockName>,
    /// When the chain was used: one time for all of its blocks.
    used: SystemTime,
    /// How often everything had been freed then.
    freed: u64,
}

impl Chain {
    /// The whole blocks of the text.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

/// The rows behind the whole blocks of a conversation: fewer than a block, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    name: BlockName,
    parent: Digest,
    rows: usize,
}

impl Tail {
    /// The tokens that it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What its file is of, but for its tokens.
    fn content<'a>(&'a self, layout: &'a KvLayout) -> Content<'a> {
        let start = self.name.number * KV_BLOCK;
        Content {
            model: &self.name.model,
            parent: self.parent,
            chain: self.name.chain,
            start,
            tokens: &[],
            layout,
        }
    }
}

/// What came of saving a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    Written,
    /// It is there already.
    Shared,
    /// The budget has no room for it beside the blocks before it, or the disk has too little.
    NoRoom,
    /// Its owner was forgotten meanwhile, or everything was freed.
    Unwanted,
}

/// What KV snapshots take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotUsage {
    /// Of all block files.
    pub bytes: u64,
    /// The most that they may take.
    pub budget_bytes: u64,
    pub blocks: usize,
}

impl Snapshots {
    /// Opens `folder`, making it where it is missing. What nobody owns or nobody finished is destroyed.
    /// `budget` bounds the bytes of all blocks; `None` takes the smaller of 2 GB and 5 % of the free disk.
    ///
    /// # Errors
    /// [`Error::DataFolder`] where the folder cannot be used, or another program uses it.
    pub fn open(folder: &Path, budget: Option<u64>) -> Result<Self> {
        Self::open_on(Disk::default(), folder, budget)
    }

    /// The same on a disk of which something else than the system tells.
    ///
    /// # Errors
    /// As [`Snapshots::open`].
    pub fn open_on(disk: Disk, folder: &Path, budget: Option<u64>) -> Result<Self> {
        let failed = |error| cannot_use(folder, &error);
        make_private_folder(folder).map_err(failed)?;
        let lock = lock(folder)?;
        let key = key(folder).map_err(failed)?;
        let mut owners = Owners::open(&folder.join(OWNERS), &key).map_err(failed)?;
        let index = Index::open(folder, |name| owners.has_owner(name)).map_err(failed)?;
        owners.retain(|name| index.contains(name));
        let asked = budget;
        let budget = budget.unwrap_or_else(|| disk.default_budget(folder, index.bytes()));
        let mut snapshots = Self {
            folder: folder.to_path_buf(),
            key,
            disk,
            budget,
            asked,
            index,
            owners,
            evicted: HashSet::new(),
            freed: 0,
            forgotten: HashSet::new(),
            _lock: lock,
        };
        snapshots.make_room(0, &[]);
        Ok(snapshots)
    }

    /// The blocks of `tokens` as `model` computes them.
    pub fn chain(&self, model: &Fingerprint, tokens: &[TokenId]) -> Chain {
        let mut parent = Digest::default();
        let names = tokens.chunks_exact(KV_BLOCK).enumerate().map(|(number, tokens)| {
            parent = block_file::chain(&self.key, &parent, tokens);
            BlockName { model: *model, number, chain: parent }
        });
        // A clock that was set back must not make what is used now the first to go.
        let used =
            self.index.newest().map_or_else(SystemTime::now, |newest| SystemTime::now().max(newest + TICK));
        Chain { blocks: names.collect(), used, freed: self.freed }
    }

    /// The longest run of blocks for the beginning of `prompt`. Its last token is left out: logits exist only
    /// after it was run.
    pub fn find(&self, model: &Fingerprint, prompt: &[TokenId]) -> Found {
        let chain = self.chain(model, &prompt[..prompt.len().saturating_sub(1)]).blocks;
        let found = chain.iter().take_while(|name| self.index.contains(name)).count();
        let limit = chain.get(found).and_then(|next| {
            if self.evicted.contains(next) {
                Some(ReuseLimit::Evicted)
            } else if self.index.has_of_another_model(next) {
                Some(ReuseLimit::OtherModel)
            } else {
                None
            }
        });
        Found { blocks: chain[..found].to_vec(), limit }
    }

    /// Reads and checks one of the blocks that were found for `prompt`. One that is in doubt is destroyed.
    ///
    /// # Errors
    /// The doubt.
    pub fn read(
        &mut self,
        found: &Found,
        number: usize,
        prompt: &[TokenId],
        layout: &KvLayout,
    ) -> Result<KvBlock, Doubt> {
        let name = *found.blocks.get(number).ok_or(Doubt::Missing)?;
        let start = number * KV_BLOCK;
        let tokens = prompt.get(start..start + KV_BLOCK).ok_or(Doubt::OtherTokens)?;
        let parent = number.checked_sub(1).map(|before| found.blocks[before].chain).unwrap_or_default();
        let content = Content { model: &name.model, parent, chain: name.chain, start, tokens, layout };
        let read = block_file::read(&self.folder.join(name.path()), &self.key, &content);
        match read {
            Ok(data) => Ok(KvBlock { start, tokens: tokens.to_vec(), layout: layout.clone(), data }),
            Err(doubt) => {
                tracing::warn!(?doubt, number, "a KV block cannot be used; the prompt is read");
                self.destroy(&name);
                Err(doubt)
            }
        }
    }

    /// The tail that `owner` has behind the blocks that were found. Its tokens are known when it was read, and
    /// may go on otherwise than the prompt.
    pub fn find_tail(
        &self,
        model: &Fingerprint,
        owner: &str,
        found: &Found,
        layout: &KvLayout,
    ) -> Option<Tail> {
        let parent = found.blocks.last().map(|name| name.chain).unwrap_or_default();
        let name = self.tail_name(model, owner, found.blocks.len(), &parent);
        let tail = Tail { name, parent, rows: 0 };
        let rows = block_file::rows_of_tail(self.index.bytes_of(&name), &tail.content(layout))?;
        (rows < KV_BLOCK).then_some(Tail { rows, ..tail })
    }

    fn tail_name(&self, model: &Fingerprint, owner: &str, number: usize, parent: &Digest) -> BlockName {
        BlockName { model: *model, number, chain: block_file::tail(&self.key, parent, owner) }
    }

    /// Reads and checks a tail. One that is in doubt is destroyed.
    ///
    /// # Errors
    /// The doubt.
    pub fn read_tail(&mut self, tail: &Tail, layout: &KvLayout) -> Result<KvBlock, Doubt> {
        let content = tail.content(layout);
        let read = block_file::read_tail(&self.folder.join(tail.name.path()), &self.key, &content, tail.rows);
        match read {
            Ok((tokens, data)) => Ok(KvBlock { start: content.start, tokens, layout: layout.clone(), data }),
            Err(doubt) => {
                tracing::warn!(?doubt, "the tail of a conversation cannot be used; it is read");
                self.destroy(&tail.name);
                Err(doubt)
            }
        }
    }

    /// Saves the rows behind the whole blocks of a chain in the place of those that `owner` has there.
    ///
    /// # Errors
    /// As [`Snapshots::save`].
    pub fn save_tail(
        &mut self,
        owner: &str,
        model: &Fingerprint,
        chain: &Chain,
        block: &KvBlock,
    ) -> Result<Saved> {
        if self.is_unwanted(owner, chain) || block.tokens.len() >= KV_BLOCK {
            return Ok(Saved::Unwanted);
        }
        let parent = chain.blocks.last().map(|name| name.chain).unwrap_or_default();
        let name = self.tail_name(model, owner, chain.blocks.len(), &parent);
        let tail = Tail { name, parent, rows: block.tokens.len() };
        let content = Content { tokens: &block.tokens, ..tail.content(&block.layout) };
        self.put(owner, chain, &name, &content, &block.data)
    }

    /// Notes that `owner` asks for something again.
    pub fn welcome(&mut self, owner: &str) {
        self.forgotten.remove(owner);
    }

    /// Notes that `owner` uses a block that is there. `false` where it is not.
    ///
    /// # Errors
    /// [`Error::DataFolder`] where that cannot be written down: then the owner is none of it.
    pub fn share(&mut self, owner: &str, chain: &Chain, number: usize) -> Result<bool> {
        let Some(name) = chain.blocks.get(number).filter(|name| self.index.contains(name)) else {
            return Ok(false);
        };
        if !self.forgotten.contains(owner) {
            self.owners.add(owner, name).map_err(|error| cannot_use(&self.folder, &error))?;
        }
        self.index.touch(name, chain.used, &self.folder);
        Ok(true)
    }

    /// Saves one block of a chain for `owner`, whole or not at all, and evicts what was used longest ago
    /// where the budget asks for it, none of this chain.
    ///
    /// # Errors
    /// [`Error::DataFolder`], as where the disk is full.
    pub fn save(&mut self, owner: &str, chain: &Chain, number: usize, block: &KvBlock) -> Result<Saved> {
        if self.is_unwanted(owner, chain) {
            return Ok(Saved::Unwanted);
        }
        if self.share(owner, chain, number)? {
            return Ok(Saved::Shared);
        }
        let Some(&name) = chain.blocks.get(number) else { return Ok(Saved::Unwanted) };
        let parent = number.checked_sub(1).map(|before| chain.blocks[before].chain).unwrap_or_default();
        let content = Content {
            model: &name.model,
            parent,
            chain: name.chain,
            start: block.start,
            tokens: &block.tokens,
            layout: &block.layout,
        };
        let saved = self.put(owner, chain, &name, &content, &block.data)?;
        if saved == Saved::Written {
            // What stood here until the block was whole.
            let tail = self.tail_name(&name.model, owner, number, &parent);
            self.owners.release(owner, &tail);
            self.destroy(&tail);
        }
        Ok(saved)
    }

    /// Whether a chain was destroyed while it was being saved: the rest of it would stand behind a hole.
    fn is_unwanted(&self, owner: &str, chain: &Chain) -> bool {
        self.forgotten.contains(owner) || chain.freed != self.freed
    }

    /// Writes a block of a chain, if there is room for it.
    fn put(
        &mut self,
        owner: &str,
        chain: &Chain,
        name: &BlockName,
        content: &Content<'_>,
        data: &[u8],
    ) -> Result<Saved> {
        let size = block_file::size(content);
        if !self.disk.has_room(&self.folder, size) || !self.make_room(size, &chain.blocks) {
            return Ok(Saved::NoRoom);
        }
        let written = self.write(owner, name, content, data);
        written.map_err(|error| cannot_use(&self.folder, &error))?;
        self.evicted.remove(name);
        self.index.insert(*name, size, chain.used);
        self.index.touch(name, chain.used, &self.folder);
        Ok(Saved::Written)
    }

    fn write(
        &mut self,
        owner: &str,
        name: &BlockName,
        content: &Content<'_>,
        data: &[u8],
    ) -> std::io::Result<()> {
        let path = self.folder.join(name.path());
        let folder = path.parent().unwrap_or(&self.folder);
        make_private_folder(folder)?;
        // First whose it is: a block without an owner could not be forgotten.
        self.owners.add(owner, name)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        block_file::write(file.as_file_mut(), &self.key, content, data)?;
        // Not synced: a block that a power cut tore is told by its digest, and costs time only.
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Destroys the blocks of `owner` that nobody else owns. Returns their bytes.
    pub fn forget(&mut self, owner: &str) -> u64 {
        self.forgotten.insert(owner.to_owned());
        let orphans = self.owners.remove(owner);
        orphans.iter().map(|name| self.destroy(name)).sum()
    }

    /// Destroys the blocks that none of `owners` owns. Returns their bytes.
    pub fn forget_all_except(&mut self, owners: &[String]) -> u64 {
        let orphans = self.owners.retain_owners(owners);
        orphans.iter().map(|name| self.destroy(name)).sum()
    }

    /// Destroys every block. Returns their bytes.
    pub fn free_all(&mut self) -> u64 {
        self.owners.clear();
        self.evicted.clear();
        self.freed += 1;
        let names = self.index.names();
        names.iter().map(|name| self.destroy(name)).sum()
    }

    /// What the blocks take.
    pub fn usage(&self) -> SnapshotUsage {
        SnapshotUsage { bytes: self.index.bytes(), budget_bytes: self.budget, blocks: self.index.len() }
    }

    /// The folder of the blocks.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Changes the budget, `None` to the default, and evicts what is beyond it. The default is the one of the
    /// disk as it was when it was first asked for: a disk that fills up meanwhile evicts nothing.
    pub fn set_budget(&mut self, budget: Option<u64>) {
        if budget == self.asked {
            return;
        }
        self.asked = budget;
        self.budget = budget.unwrap_or_else(|| self.disk.default_budget(&self.folder, self.index.bytes()));
        self.make_room(0, &[]);
    }

    /// Evicts blocks except `spared` until `bytes` more fit. Where they never would, nothing is evicted.
    fn make_room(&mut self, bytes: u64, spared: &[BlockName]) -> bool {
        let spared: HashSet<&BlockName> = spared.iter().collect();
        let spared_bytes: u64 = spared.iter().map(|name| self.index.bytes_of(name)).sum();
        if spared_bytes.saturating_add(bytes) > self.budget {
            return false;
        }
        let surplus = self.index.bytes().saturating_add(bytes).saturating_sub(self.budget);
        for name in self.index.oldest(surplus, &spared) {
            self.destroy(&name);
            self.owners.drop_block(&name);
            if self.evicted.len() >= MOST_REMEMBERED {
                self.evicted.clear();
            }
            self.evicted.insert(name);
        }
        true
    }

    fn destroy(&mut self, name: &BlockName) -> u64 {
        let path = self.folder.join(name.path());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a KV block could not be destroyed");
                // It stays counted, and is tried again.
                0
            }
            _ => self.index.remove(name),
        }
    }
}

fn cannot_use(folder: &Path, error: &std::io::Error) -> Error {
    Error::DataFolder {
        path: folder.to_path_buf(),
        full: error.kind() == std::io::ErrorKind::StorageFull,
        reason: error.to_string(),
    }
}

/// A folder that only its user can look into.
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Two programs would evict and forget behind each other's back.
fn lock(folder: &Path) -> Result<File> {
    let failed = |error| cannot_use(folder, &error);
    let file = private_file().create(true).truncate(false).open(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::DataFolder {
            path: folder.to_path_buf(),
            full: false,
            reason: "another program uses it".into(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The key of this folder's digests: a file that was written elsewhere is none of its blocks. Where it is
/// missing or damaged a new one is made, and the old blocks are void: nobody owns them any longer.
fn key(folder: &Path) -> std::io::Result<Key> {
    let path = folder.join("key");
    let mut kept = Vec::new();
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        File::open(&path)?.take(64).read_to_end(&mut kept)?;
    }
    if let Ok(key) = Key::try_from(kept.as_slice()) {
        return Ok(key);
    }
    // Before the new key is there: nobody could say under it whose these lists are.
    match std::fs::remove_dir_all(folder.join(OWNERS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let key: Key = rand::random();
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&key)?;
    // It is written once, and without it every block is lost.
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(key)
}

/// How files are opened that only their user may read and write.
fn private_file() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
