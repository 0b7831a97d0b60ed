//! Which blocks there are, how large, and when each was used last.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::block_file::Digest;
use super::fingerprint::Fingerprint;

const EXTENSION: &str = "kv";

/// Names a block: who computed it, its place, and the tokens up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockName {
    pub(super) model: Fingerprint,
    pub(super) number: usize,
    pub(super) chain: Digest,
}

impl BlockName {
    /// Its file, in the folder of all.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(self.model.to_string()).join(format!("{self}.{EXTENSION}"))
    }

    /// The block of a file `<chain>-<number>` in the folder of `model`.
    pub(super) fn parse(model: Fingerprint, stem: &str) -> Option<Self> {
        let (chain, number) = stem.split_once('-')?;
        let chain = *blake3::Hash::from_hex(chain).ok()?.as_bytes();
        let name = Self { model, number: number.parse().ok()?, chain };
        // Only as it is written here, so that a file has one name.
        (name.to_string() == stem).then_some(name)
    }
}

impl std::fmt::Display for BlockName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", blake3::Hash::from_bytes(self.chain).to_hex(), self.number)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    used: SystemTime,
}

/// The blocks of a folder.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<BlockName, Entry>,
    bytes: u64,
}

impl Index {
    /// Looks through `folder`. Files that are no blocks, and blocks that `is_owned` does not know, are
    /// remains of something that ended in the middle, and are destroyed. So are links, but nothing behind them.
    pub(super) fn open(folder: &Path, is_owned: impl Fn(&BlockName) -> bool) -> std::io::Result<Self> {
        let mut index = Self::default();
        for entry in std::fs::read_dir(folder)?.flatten() {
            let path = entry.path();
            let Some(model) = entry.file_name().to_str().and_then(Fingerprint::parse) else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                // What lies behind a link is not this folder's to destroy, and not to be written to either.
                std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).ok();
                continue;
            }
            for file in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let path = file.path();
                let Ok(metadata) = file.metadata() else { continue };
                let name = (path.extension().is_some_and(|extension| extension == EXTENSION))
                    .then(|| BlockName::parse(model, path.file_stem()?.to_str()?))
                    .flatten()
                    .filter(|name| metadata.is_file() && is_owned(name));
                match name {
                    Some(name) => {
                        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                        index.add(name, Entry { bytes: metadata.len(), used });
                    }
                    // What stays is found again the next time.
                    None => drop(std::fs::remove_file(&path)),
                }
            }
            // It goes only where nothing is left in it.
            std::fs::remove_dir(&path).ok();
        }
        Ok(index)
    }

    pub(super) fn contains(&self, name: &BlockName) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether another model has a block for the same tokens.
    pub(super) fn has_of_another_model(&self, name: &BlockName) -> bool {
        let models: HashSet<Fingerprint> = self.entries.keys().map(|name| name.model).collect();
        let others = models.iter().filter(|model| **model != name.model);
        others.into_iter().any(|&model| self.entries.contains_key(&BlockName { model, ..*name }))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of all blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn bytes_of(&self, name: &BlockName) -> u64 {
        self.entries.get(name).map_or(0, |entry| entry.bytes)
    }

    /// When the block used last was used.
    pub(super) fn newest(&self) -> Option<SystemTime> {
        self.entries.values().map(|entry| entry.used).max()
    }

    pub(super) fn names(&self) -> Vec<BlockName> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, name: BlockName, bytes: u64, used: SystemTime) {
        self.add(name, Entry { bytes, used });
    }

    /// Notes when a block was used, in its file too, for the next start.
    pub(super) fn touch(&mut self, name: &BlockName, used: SystemTime, folder: &Path) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.used = used;
            // Where it cannot be noted the block goes earlier than it should.
            let file = File::options().append(true).open(folder.join(name.path()));
            file.and_then(|file| file.set_modified(used)).ok();
        }
    }

    /// Takes a block out; returns its bytes.
    pub(super) fn remove(&mut self, name: &BlockName) -> u64 {
        let bytes = self.entries.remove(name).map_or(0, |entry| entry.bytes);
        self.bytes -= bytes;
        bytes
    }

    /// The blocks used longest ago except `spared`, as many as `bytes` take. Of those used together the last
    /// of a chain goes first, since nothing can be done with it without those before it.
    pub(super) fn oldest(&self, bytes: u64, spared: &HashSet<&BlockName>) -> Vec<BlockName> {
        let mut candidates: Vec<(&BlockName, &Entry)> =
            if bytes == 0 { Vec::new() } else { self.entries.iter().collect() };
        candidates.retain(|(name, _)| !spared.contains(name));
        candidates.sort_by_key(|(name, entry)| (entry.used, std::cmp::Reverse(name.number)));
        let mut freed = 0;
        let enough = candidates.into_iter().take_while(|(_, entry)| {
            let needed = freed < bytes;
            freed += entry.bytes;
            needed
        });
        enough.map(|(name, _)| *name).collect()
    }

    fn add(&mut self, name: BlockName, entry: Entry) {
        self.remove(&name);
        self.bytes += entry.bytes;
        self.entries.insert(name, entry);
    }
}
