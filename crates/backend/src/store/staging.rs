//! Models that are not whole yet: hidden folders beside the installed ones, each under a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::{failed, make_folder, read_bounded, rename, sync_folder, write_whole};
use super::manifest::{MANIFEST, ModelRecord};
use crate::error::{Error, Result};

/// In the folder of the models. Folders with a dot are none.
const STAGING: &str = ".staging";
const PLAN: &str = "plan.json";
const LARGEST_PLAN: u64 = 4 << 20;
/// The mark of folders that are to be deleted.
const REMOVED: &str = ".removed-";

/// The folder of one model that is being made, held by this process alone.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) folder: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

/// A download that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub record: ModelRecord,
    /// Bytes on the disk, checked or not.
    pub bytes: u64,
    /// Where they lie.
    pub folder: PathBuf,
}

impl Staging {
    /// Takes the staging folder called `name` in `models`.
    ///
    /// # Errors
    /// [`Error::Library`] where another process works in it, or where it cannot be made.
    pub(crate) fn take(models: &Path, name: &str) -> Result<Self> {
        let all = models.join(STAGING);
        make_folder(&all)?;
        let lock_path = all.join(format!("{name}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed("lock", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason = "another download or repair of this model is under way".to_owned();
                return Err(Error::Library {
                    doing: "begin the download in",
                    path: all.join(name).into(),
                    reason: reason.into(),
                });
            }
            // Some network file systems know no locks; names are unique enough there.
            Err(TryLockError::Error(error)) => tracing::warn!(%error, "no lock for a download"),
        }
        Ok(Self { folder: all.join(name), lock_path, _lock: lock })
    }

    /// Makes the folder ready for `record`, keeping what is there of it.
    pub(crate) fn prepare(&self, record: &ModelRecord) -> Result<()> {
        make_folder(&self.folder)?;
        // A manifest is the last thing written; one of an earlier try says nothing about this one.
        std::fs::remove_file(self.folder.join(MANIFEST)).ok();
        let plan = self.folder.join(PLAN);
        let text = serde_json::to_vec_pretty(record).map_err(|error| Error::Library {
            doing: "write",
            path: plan.clone().into(),
            reason: error.to_string().into(),
        })?;
        write_whole(&plan, &text).map_err(|error| failed("write", &plan, &error))
    }

    /// Deletes what is no part of `record`: tags, and files that a killed program left. The plan stays to the
    /// last, so that a model that is refused can be found and deleted.
    pub(crate) fn keep_only(&self, record: &ModelRecord) -> Result<()> {
        let mut pending = vec![(self.folder.clone(), String::new())];
        while let Some((folder, prefix)) = pending.pop() {
            let entries = std::fs::read_dir(&folder).map_err(|error| failed("list", &folder, &error))?;
            for entry in entries.flatten() {
                let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
                let inside = format!("{path}/");
                if record.files.iter().any(|file| file.path.starts_with(&inside)) {
                    pending.push((entry.path(), inside));
                } else if path != PLAN && !record.files.iter().any(|file| file.path == path) {
                    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    let removed = if is_folder {
                        std::fs::remove_dir_all(entry.path())
                    } else {
                        std::fs::remove_file(entry.path())
                    };
                    removed.map_err(|error| failed("delete", &entry.path(), &error))?;
                }
            }
        }
        Ok(())
    }

    /// Puts the finished folder in its place, where nothing may be.
    pub(crate) fn install(self, target: &Path) -> Result<()> {
        std::fs::remove_file(self.folder.join(PLAN)).ok();
        sync_folder(&self.folder);
        // On some systems a rename replaces an empty folder: an own check says so before.
        if target.symlink_metadata().is_ok() {
            return Err(Error::Library {
                doing: "install into",
                path: target.into(),
                reason: "something lies there already".into(),
            });
        }
        rename(&self.folder, target).map_err(|error| failed("install into", target, &error))?;
        if let Some(parent) = target.parent() {
            sync_folder(parent);
        }
        Ok(())
    }

    /// Deletes what is left of the folder.
    pub(crate) fn discard(self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("delete", &self.folder, &error)),
            _ => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // While the lock is held nobody else has taken it, and the file is of no more use without a folder.
        if !self.folder.exists() {
            std::fs::remove_file(&self.lock_path).ok();
        }
    }
}

/// The downloads that were begun in `models`, by name.
pub(crate) fn unfinished(models: &Path) -> Vec<Unfinished> {
    let entries = std::fs::read_dir(models.join(STAGING)).into_iter().flatten().flatten();
    let mut found: Vec<Unfinished> = entries
        .filter_map(|entry| {
            let folder = entry.path();
            let text = read_bounded(&folder.join(PLAN), LARGEST_PLAN).ok()?;
            let record: ModelRecord = serde_json::from_slice(&text).ok()?;
            record.check().ok()?;
            // A repair has a plan too, and another name.
            (entry.file_name().to_str()? == record.folder_name()).then_some(())?;
            let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let bytes = record
                .files
                .iter()
                .map(|file| {
                    let path = folder.join(&file.path);
                    length(path.clone()).max(length(part_path(&path))).min(file.size)
                })
                .sum();
            Some(Unfinished { record, bytes, folder })
        })
        .collect();
    found.sort_by(|left, right| left.record.id.cmp(&right.record.id));
    found
}

/// Deletes an installed model: gone at once, its bytes a little later.
pub(crate) fn remove(models: &Path, folder: &Path) -> Result<()> {
    let all = models.join(STAGING);
    make_folder(&all)?;
    let aside = all.join(format!("{REMOVED}{}", uuid::Uuid::new_v4()));
    rename(folder, &aside).map_err(|error| failed("remove", folder, &error))?;
    sync_folder(models);
    std::fs::remove_dir_all(&aside).map_err(|error| failed("delete", &aside, &error))
}

/// Deletes what a removal left behind when the program ended in it.
pub(crate) fn sweep(models: &Path) {
    let entries = std::fs::read_dir(models.join(STAGING)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(REMOVED)) {
        std::fs::remove_dir_all(entry.path()).ok();
    }
}

/// Where a file lies until it is whole and right.
pub(crate) fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
