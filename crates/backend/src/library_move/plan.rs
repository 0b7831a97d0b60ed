//! What is to be moved, and whether it can be.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::journal::{Journal, MoveLock};
use super::refused;
use crate::directories::AppDirs;
use crate::error::{Error, Result};
use crate::hub::Digest;
use crate::store::files::{failed, make_folder};
use crate::store::staging::{StagingLocks, sweep};
use crate::store::{Manifest, ModelStore};

/// A file of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedFile {
    /// Within its item.
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    /// A link is copied as the file that it leads to.
    pub(super) is_link: bool,
    /// What its bytes must hash to, where the manifest says.
    pub(super) digest: Option<Digest>,
}

/// The folder of a model, or of one that is not whole yet.
#[derive(Debug)]
pub(super) struct Item {
    /// Within the folder of models.
    pub(super) path: PathBuf,
    pub(super) files: Vec<PlannedFile>,
}

/// A move that can be made. While it lives nobody else moves or fetches models.
pub(super) struct Plan {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    pub(super) items: Vec<Item>,
    /// The folders that were made for it, the deepest first.
    pub(super) made: Vec<PathBuf>,
    pub(super) journal_path: PathBuf,
    _lock: MoveLock,
    _staging: StagingLocks,
}

impl Plan {
    /// Plans to move the models of `store` to `folder`, and makes it where it is not there.
    pub(super) fn make(directories: &AppDirs, store: &ModelStore, folder: &Path) -> Result<Self> {
        let lock = MoveLock::take(&directories.data)?;
        let from = store.folder().to_path_buf();
        let to = std::path::absolute(folder).map_err(|error| failed("use the folder", folder, &error))?;
        check_places(directories, &from, &to)?;
        sweep(&from);
        let staging = StagingLocks::take(&from)?;
        let paths = store.own_folders().into_iter().chain(staging.folders());
        let items: Vec<Item> = paths.map(|path| Item::read(&from, &path)).collect::<Result<_>>()?;
        let made = make_place(&to)?;
        let plan = Self {
            journal_path: Journal::path(&directories.data),
            from,
            to,
            items,
            made,
            _lock: lock,
            _staging: staging,
        };
        match plan.check_target() {
            Ok(()) => Ok(plan),
            Err(error) => {
                plan.made.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
                Err(error)
            }
        }
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.items.iter().flat_map(|item| &item.files).map(|file| file.size).sum()
    }

    /// Whether a file of the old place can have a second name at the new one.
    pub(super) fn can_link(&self) -> bool {
        let first = self.items.iter().find_map(|item| {
            let file = item.files.iter().find(|file| !file.is_link)?;
            Some(self.from.join(&item.path).join(&file.path))
        });
        let probe = self.to.join(format!(".probe-{}", uuid::Uuid::new_v4()));
        let linked = first.is_some_and(|file| std::fs::hard_link(file, &probe).is_ok());
        std::fs::remove_file(&probe).ok();
        linked
    }

    /// Whether the new place can be written and has none of the names that are to come.
    fn check_target(&self) -> Result<()> {
        tempfile::NamedTempFile::new_in(&self.to)
            .map_err(|error| refused(&self.to, format!("nothing can be written there: {error}")))?;
        // Asked again: what a link in its path leads to is known only now.
        check_nesting(&self.from, &self.to)?;
        match self.items.iter().find(|item| self.to.join(&item.path).symlink_metadata().is_ok()) {
            None => Ok(()),
            Some(item) => Err(refused(
                &self.to,
                format!("`{}` lies there already; choose another folder", item.path.display()),
            )),
        }
    }
}

impl Item {
    /// The files of the folder `path` in `from`.
    pub(super) fn read(from: &Path, path: &Path) -> Result<Self> {
        let folder = from.join(path);
        if folder.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            let reason =
                "it is a link to a folder of another place; import that folder as a link, then delete this";
            return Err(Error::Library { doing: "move", path: folder.into(), reason: reason.into() });
        }
        let manifest = Manifest::read(&folder).ok().flatten();
        let listed: BTreeMap<PathBuf, Digest> = manifest
            .into_iter()
            .flat_map(|manifest| manifest.record.files)
            .map(|file| (file.path.split('/').collect(), file.digest))
            .collect();
        let mut files = Vec::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(inside) = pending.pop() {
            let place = folder.join(&inside);
            let entries = std::fs::read_dir(&place).map_err(|error| failed("list", &place, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &place, &error))?;
                let (path, full) = (inside.join(entry.file_name()), entry.path());
                let metadata = full.symlink_metadata().map_err(|error| failed("look at", &full, &error))?;
                if metadata.is_dir() {
                    pending.push(path);
                } else {
                    let digest = listed.get(&path).copied();
                    files.push(PlannedFile::of(path, &full, &metadata, digest)?);
                }
            }
        }
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Self { path: path.to_path_buf(), files })
    }
}

impl PlannedFile {
    fn of(path: PathBuf, full: &Path, metadata: &Metadata, digest: Option<Digest>) -> Result<Self> {
        let is_link = metadata.is_symlink();
        let found = std::fs::metadata(full).map_err(|error| failed("look at", full, &error))?;
        if !found.is_file() {
            return Err(Error::Library {
                doing: "move",
                path: full.into(),
                reason: "it is no file, or a link to a folder; put a real one in its place".into(),
            });
        }
        Ok(Self { path, size: found.len(), modified: found.modified().ok(), is_link, digest })
    }
}

/// Refuses places that cannot be the folder of models.
fn check_places(directories: &AppDirs, from: &Path, to: &Path) -> Result<()> {
    check_nesting(from, to)?;
    let (data, default) = (real(&directories.data), real(&directories.models()));
    let place = real(to);
    if place.starts_with(&data) && place != default {
        let reason = "it lies in the folder of Hearth's own data; choose one beside it";
        return Err(refused(to, reason));
    }
    Ok(())
}

fn check_nesting(from: &Path, to: &Path) -> Result<()> {
    let (old, new) = (real(from), real(to));
    if old == new {
        return Err(refused(to, "the models are there already"));
    }
    if new.starts_with(&old) || old.starts_with(&new) {
        let reason = format!("one of it and `{}` lies in the other; choose one beside it", from.display());
        return Err(refused(to, reason));
    }
    Ok(())
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(found) = ancestor.canonicalize() {
            return path.strip_prefix(ancestor).map_or(found.clone(), |rest| {
                if rest.as_os_str().is_empty() { found.clone() } else { found.join(rest) }
            });
        }
    }
    path.to_path_buf()
}

/// Makes `folder` and those above it; returns those that were made, the deepest first.
fn make_place(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.symlink_metadata().is_ok() && !folder.is_dir() {
        return Err(refused(folder, "it is no folder"));
    }
    let missing = folder.ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
    make_folder(folder)?;
    Ok(missing)
}

/// Makes the names in `folder` and in those above it that were made last.
pub(super) fn sync_made(folders: &[PathBuf]) {
    for parent in folders.iter().filter_map(|folder| folder.parent()) {
        if let Ok(parent) = File::open(parent) {
            parent.sync_all().ok();
        }
    }
}
