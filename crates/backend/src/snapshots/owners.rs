//! Who would miss a block: one list a conversation, so that deleting it destroys what nobody else uses.
//!
//! A list is a file to which lines are appended; the digest of the owner's name is the file's.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::block_file::Key;
use super::fingerprint::Fingerprint;
use super::index::BlockName;
use super::{make_private_folder, private_file};

/// The owners of all blocks.
#[derive(Debug)]
pub(super) struct Owners {
    folder: PathBuf,
    key: Key,
    /// The blocks of each list, by the list's file name.
    lists: HashMap<String, HashSet<BlockName>>,
    /// How many lists each block is in.
    counts: HashMap<BlockName, usize>,
}

impl Owners {
    /// Reads the lists in `folder`. Lines that are none are passed over: what they stood for has no owner.
    pub(super) fn open(folder: &Path, key: &Key) -> std::io::Result<Self> {
        make_private_folder(folder)?;
        let mut owners =
            Self { folder: folder.to_path_buf(), key: *key, lists: HashMap::new(), counts: HashMap::new() };
        for entry in std::fs::read_dir(folder)?.flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if !entry.metadata().is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            for block in String::from_utf8_lossy(&bytes).lines().filter_map(parse_line) {
                owners.note(name.clone(), block);
            }
        }
        Ok(owners)
    }

    /// Drops blocks that are not there, and lists that are left without any.
    pub(super) fn retain(&mut self, is_there: impl Fn(&BlockName) -> bool) {
        self.counts.retain(|name, _| is_there(name));
        self.lists.values_mut().for_each(|blocks| blocks.retain(|name| is_there(name)));
        let empty = self.lists.extract_if(|_, blocks| blocks.is_empty()).map(|(list, _)| list);
        let empty: Vec<String> = empty.collect();
        empty.iter().for_each(|list| self.remove_file(list));
    }

    fn note(&mut self, list: String, name: BlockName) {
        if self.lists.entry(list).or_default().insert(name) {
            *self.counts.entry(name).or_default() += 1;
        }
    }

    pub(super) fn has_owner(&self, name: &BlockName) -> bool {
        self.counts.contains_key(name)
    }

    /// Makes `owner` an owner of a block.
    pub(super) fn add(&mut self, owner: &str, name: &BlockName) -> std::io::Result<()> {
        let list = self.list(owner);
        if self.lists.get(&list).is_some_and(|blocks| blocks.contains(name)) {
            return Ok(());
        }
        let path = self.folder.join(&list);
        let mut file = private_file().append(true).create(true).open(path)?;
        // A line that a full disk tore must not swallow the next one.
        file.write_all(format!("\n{} {name}\n", name.model).as_bytes())?;
        self.note(list, *name);
        Ok(())
    }

    /// Notes that `owner` no longer owns a block. Its line stays, and means nothing once the block is gone.
    pub(super) fn release(&mut self, owner: &str, name: &BlockName) {
        let list = self.list(owner);
        if self.lists.get_mut(&list).is_some_and(|blocks| blocks.remove(name))
            && let Some(count) = self.counts.get_mut(name)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(name);
            }
        }
    }

    /// Notes that a block is gone, whoever owned it. As with [`Owners::release`] the lines stay.
    pub(super) fn drop_block(&mut self, name: &BlockName) {
        if self.counts.remove(name).is_some() {
            for blocks in self.lists.values_mut() {
                blocks.remove(name);
            }
        }
    }

    /// Takes an owner away; returns the blocks that nobody owns any longer.
    pub(super) fn remove(&mut self, owner: &str) -> Vec<BlockName> {
        let list = self.list(owner);
        self.remove_list(&list)
    }

    /// Takes every owner but these away; returns the blocks that nobody owns any longer.
    pub(super) fn retain_owners(&mut self, owners: &[String]) -> Vec<BlockName> {
        let kept: HashSet<String> = owners.iter().map(|owner| self.list(owner)).collect();
        let gone: Vec<String> = self.lists.keys().filter(|list| !kept.contains(*list)).cloned().collect();
        gone.iter().flat_map(|list| self.remove_list(list)).collect()
    }

    fn remove_list(&mut self, list: &str) -> Vec<BlockName> {
        self.remove_file(list);
        let mut blocks = self.lists.remove(list).unwrap_or_default();
        blocks.retain(|name| {
            let count = self.counts.get_mut(name).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if count == 0 {
                self.counts.remove(name);
            }
            count == 0
        });
        blocks.into_iter().collect()
    }

    /// Takes every owner away.
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        let lists: Vec<String> = self.lists.drain().map(|(list, _)| list).collect();
        lists.iter().for_each(|list| self.remove_file(list));
    }

    fn remove_file(&self, list: &str) {
        if let Err(error) = std::fs::remove_file(self.folder.join(list))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a list of KV blocks could not be destroyed");
        }
    }

    fn list(&self, owner: &str) -> String {
        blake3::keyed_hash(&self.key, owner.as_bytes()).to_hex().to_string()
    }
}

fn parse_line(line: &str) -> Option<BlockName> {
    let (model, name) = line.split_once(' ')?;
    BlockName::parse(Fingerprint::parse(model)?, name)
}
