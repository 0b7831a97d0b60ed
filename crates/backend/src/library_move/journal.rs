//! What the next start needs to know of a move: which places, and which folders.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Item;
use super::refused;
use crate::directories::AppDirs;
use crate::error::Result;
use crate::settings::{Settings, write_json};
use crate::store::files::{read_bounded, sync_folder};
use crate::store::staging::STAGING;

const LARGEST_JOURNAL: u64 = 4 << 20;
/// The mark of folders at the new place that are not whole yet, in [`STAGING`].
pub(super) const COMING: &str = ".moving-";
/// What makes the folder of models not empty, so that it can be told from the place of a disk that is away.
pub(super) const MARK: &str = ".hearth";

/// A move under way. It lies in the data folder until nothing of the move is left to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    /// Within either place.
    pub(super) items: Vec<PathBuf>,
    /// The folders that were made for it, the deepest first.
    pub(super) made: Vec<PathBuf>,
}

impl Journal {
    pub(super) fn path(data: &Path) -> PathBuf {
        data.join("library-move.json")
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)?;
        if let Some(folder) = path.parent() {
            sync_folder(folder);
        }
        Ok(())
    }

    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&read_bounded(path, LARGEST_JOURNAL).ok()?).ok()
    }

    /// Takes what came to the new place away again, where the old one has it.
    pub(super) fn undo(&self) {
        let staging = self.to.join(STAGING);
        for entry in std::fs::read_dir(&staging).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(COMING) {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
        self.items.iter().for_each(|item| remove_copies(&self.to.join(item), &self.from.join(item)));
        std::fs::remove_file(self.to.join(MARK)).ok();
        std::fs::remove_dir(&staging).ok();
        // Only where they are empty.
        self.made.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }

    /// Takes what the new place has away from the old one.
    pub(super) fn finish(&self, mut on_item: impl FnMut(usize)) {
        for (index, item) in self.items.iter().enumerate() {
            on_item(index);
            remove_copies(&self.from.join(item), &self.to.join(item));
        }
        sync_folder(&self.from);
    }
}

/// Deletes what a move left behind that was ended in its middle: at the new place where the old one still counts,
/// else at the old place. While a place is away, or the move goes on in another program, all stays.
pub(crate) fn settle(directories: &AppDirs, settings: &Settings) {
    let path = Journal::path(&directories.data);
    let Some(journal) = Journal::read(&path) else { return };
    let Ok(_lock) = MoveLock::take(&directories.data) else { return };
    let default = directories.models();
    let counts = settings.library.as_ref().filter(|folder| folder.is_absolute()).unwrap_or(&default);
    let is_there = |folder: &Path| folder.is_dir();
    if *counts == journal.to {
        if !is_there(&journal.from) || !is_there(&journal.to) {
            return;
        }
        journal.finish(|_| {});
    } else if *counts == journal.from {
        if !is_there(&journal.to) && journal.to.parent().is_some_and(|parent| !parent.is_dir()) {
            return;
        }
        journal.undo();
    }
    tracing::info!("what a move of the models left behind was put in order");
    std::fs::remove_file(path).ok();
}

/// Deletes each file below `folder` that lies below `kept` too, with the same length, and then the folders that are
/// empty. What is only in `folder` stays.
fn remove_copies(folder: &Path, kept: &Path) {
    // What is behind a link is not the library's.
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    let mut folders = vec![folder.to_path_buf()];
    let mut index = 0;
    while let Some(place) = folders.get(index).cloned() {
        index += 1;
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(inside) = path.strip_prefix(folder) else { continue };
            let length = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.len());
            let is_kept = length(&kept.join(inside)).is_some_and(|kept| Some(kept) == length(&path));
            if is_kept && let Err(error) = std::fs::remove_file(&path) {
                // It takes room, and nothing else.
                tracing::warn!(%error, "a file that was moved stays at the other place too");
            }
        }
    }
    folders.iter().rev().for_each(|folder| drop(std::fs::remove_dir(folder)));
}

/// Held while models are moved: one move at a time, in all programs together.
pub(super) struct MoveLock {
    _file: File,
}

impl MoveLock {
    pub(super) fn take(data: &Path) -> Result<Self> {
        let path = data.join("library-move.lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| refused(data, format!("no move can be noted there: {error}")))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(refused(data, "they are being moved already")),
            // Some file systems know no locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file }),
        }
    }
}

/// What the journal says of `items`.
pub(super) fn paths(items: &[Item]) -> Vec<PathBuf> {
    items.iter().map(|item| item.path.clone()).collect()
}
