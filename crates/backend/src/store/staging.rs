//! Models that are not whole yet: hidden folders beside the installed ones, each under a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::{failed, make_folder, read_bounded, rename, sync_folder, write_whole};
use super::manifest::{MANIFEST, ModelRecord};
use crate::error::{Error, Result};

/// In the folder of the models. Folders with a dot are none.
pub(crate) const STAGING: &str = ".staging";
/// Whoever looks for, makes or deletes a lock holds this one meanwhile. It is never deleted itself.
const GATE: &str = ".staging.lock";
const PLAN: &str = "plan.json";
const LARGEST_PLAN: u64 = 4 << 20;
/// The mark of folders that are to be deleted.
const REMOVED: &str = ".removed-";
/// The mark of models that are to be deleted when the program ends that set them aside.
const ASIDE: &str = ".aside-";

/// The folder of one model that is being made, held by this process alone.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) folder: PathBuf,
    /// Whether it is certain that nobody else has it: some network file systems know no locks.
    pub(crate) is_exclusive: bool,
    lock_path: PathBuf,
    gate_path: PathBuf,
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
        let (lock_path, gate_path) = (all.join(format!("{name}.lock")), models.join(GATE));
        // Between opening a lock and taking it, its last holder must not delete it: two would hold locks of one
        // name, and one folder.
        let gate = lock_file(&gate_path)?;
        let is_gated = gate.lock_shared().is_ok();
        let lock = lock_file(&lock_path)?;
        let is_exclusive = match lock.try_lock() {
            Ok(()) => is_gated,
            Err(TryLockError::WouldBlock) => {
                let reason = "another download or repair of this model is under way".to_owned();
                return Err(Error::Library {
                    doing: "work in",
                    path: all.join(name).into(),
                    reason: reason.into(),
                });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "no lock for a download");
                false
            }
        };
        Ok(Self { folder: all.join(name), is_exclusive, lock_path, gate_path, _lock: lock })
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
                // Of a link this says that it is none, whatever it leads to.
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder && record.files.iter().any(|file| file.path.starts_with(&inside)) {
                    pending.push((entry.path(), inside));
                } else if path != PLAN && !record.files.iter().any(|file| file.path == path) {
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

    /// Looks whether every file of `record` lies there, real, of one name and of the right length. Each was right
    /// when it got its name; this finds what was done to it since.
    ///
    /// # Errors
    /// [`Error::Library`] names the first that is not. It is deleted, so that the next try fetches it.
    pub(crate) fn check_whole(&self, record: &ModelRecord) -> Result<()> {
        for file in &record.files {
            let path = self.folder.join(&file.path);
            let found = path.symlink_metadata();
            if !found.is_ok_and(|found| found.is_file() && found.len() == file.size && has_one_name(&found)) {
                std::fs::remove_file(&path).ok();
                let reason =
                    "a file that was right is gone or was changed; the same command fetches it again";
                return Err(Error::Library { doing: "install", path: path.into(), reason: reason.into() });
            }
        }
        Ok(())
    }

    /// Makes the names of the files of `record` last, in every folder.
    pub(crate) fn sync(&self, record: &ModelRecord) {
        let folders = record.files.iter().flat_map(|file| {
            let ends = file.path.match_indices('/').map(|(end, _)| end);
            ends.map(|end| file.path[..end].to_owned()).collect::<Vec<_>>()
        });
        let mut folders: Vec<String> = folders.collect();
        folders.sort();
        folders.dedup();
        folders.iter().for_each(|folder| sync_folder(&self.folder.join(folder)));
        sync_folder(&self.folder);
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
        if self.folder.exists() {
            return;
        }
        // Behind the gate nobody has opened it either, to lock it once it has no name any more.
        if let Ok(gate) = lock_file(&self.gate_path)
            && gate.lock().is_ok()
        {
            std::fs::remove_file(&self.lock_path).ok();
        }
    }
}

/// All staging folders of a folder of models, held by this process alone: nothing is begun in it meanwhile.
#[derive(Debug, Default)]
pub(crate) struct StagingLocks {
    folders: Vec<PathBuf>,
    locks: Vec<File>,
}

impl StagingLocks {
    /// Takes what lies in `models`, if that is there.
    ///
    /// # Errors
    /// [`Error::Library`] where another process works in one of them.
    pub(crate) fn take(models: &Path) -> Result<Self> {
        let mut taken = Self::default();
        if !models.is_dir() {
            return Ok(taken);
        }
        taken.hold(models, &models.join(GATE))?;
        for entry in std::fs::read_dir(models.join(STAGING)).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            // What was removed, and may be put back, is its program's own.
            if path.is_dir() && !name.to_string_lossy().starts_with('.') {
                taken.hold(models, &lock_of(&path))?;
                taken.folders.push(Path::new(STAGING).join(name));
            }
        }
        taken.folders.sort();
        Ok(taken)
    }

    /// The folders, within that of the models.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    fn hold(&mut self, models: &Path, lock_path: &Path) -> Result<()> {
        let lock = lock_file(lock_path)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::Library {
                doing: "move the models from",
                path: models.into(),
                reason: "another program fetches, repairs or imports a model there".into(),
            });
        }
        // Some file systems know no locks.
        self.locks.push(lock);
        Ok(())
    }
}

fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.map_err(|error| failed("lock", path, &error))
}

#[cfg(unix)]
fn has_one_name(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) == 1
}

/// Windows tells the number of names only of open files, in an interface that is not stable yet.
#[cfg(not(unix))]
fn has_one_name(_: &std::fs::Metadata) -> bool {
    true
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

/// The staging folder of a repair of the model whose folder is called `folder_name`.
pub(crate) fn repair_folder(folder_name: &str) -> String {
    format!("{folder_name}.repair")
}

/// Keeps every repair away from the model in `folder`: one that is under way would bring files of it back.
///
/// # Errors
/// [`Error::Library`] while it is being repaired.
fn take_from_repairs(models: &Path, folder: &Path) -> Result<Staging> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Staging::take(models, &repair_folder(&name))
}

/// Deletes an installed model, and what came of a repair of it: gone at once, its bytes a little later.
///
/// # Errors
/// [`Error::Library`], also while it is being repaired.
pub(crate) fn remove(models: &Path, folder: &Path) -> Result<()> {
    let repair = take_from_repairs(models, folder)?;
    let aside = models.join(STAGING).join(format!("{REMOVED}{}", uuid::Uuid::new_v4()));
    rename(folder, &aside).map_err(|error| failed("remove", folder, &error))?;
    sync_folder(models);
    for left in
        [std::fs::remove_dir_all(&aside).map_err(|error| failed("delete", &aside, &error)), repair.discard()]
    {
        if let Err(error) = left {
            // The model is gone; the next sweep takes what is left of it.
            tracing::warn!(%error, "a removed model still takes room");
        }
    }
    Ok(())
}

/// Deletes what removals left behind when their programs ended in them. What a program that runs has set aside
/// stays: it holds the lock.
pub(crate) fn sweep(models: &Path) {
    let entries = std::fs::read_dir(models.join(STAGING)).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(REMOVED) {
            std::fs::remove_dir_all(entry.path()).ok();
        } else if name.starts_with(ASIDE) && entry.path().is_dir() {
            let lock_path = lock_of(&entry.path());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                std::fs::remove_dir_all(entry.path()).ok();
                std::fs::remove_file(lock_path).ok();
            }
        }
    }
}

/// An installed model that was taken out of the library and lies beside it. Without its lock it is deleted by
/// the next [`sweep`].
#[derive(Debug)]
pub(crate) struct Aside {
    folder: PathBuf,
    /// Where it lay.
    home: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Aside {
    /// Sets the model in `folder` aside: gone at once as far as anybody sees. What came of a repair of it is deleted.
    ///
    /// # Errors
    /// [`Error::Library`], also while it is being repaired.
    pub(crate) fn take(models: &Path, folder: &Path) -> Result<Self> {
        let all = models.join(STAGING);
        let repair = take_from_repairs(models, folder)?;
        let aside = all.join(format!("{ASIDE}{}", uuid::Uuid::new_v4()));
        let lock_path = lock_of(&aside);
        let lock = File::create(&lock_path).map_err(|error| failed("lock", &lock_path, &error))?;
        // The name is nobody else's; a file system without locks only lets another program delete it earlier.
        lock.try_lock().ok();
        let set = Self { folder: aside, home: folder.to_path_buf(), lock_path, _lock: lock };
        rename(folder, &set.folder).map_err(|error| failed("remove", folder, &error))?;
        sync_folder(models);
        if let Err(error) = repair.discard() {
            tracing::warn!(%error, "what came of a repair still takes room");
        }
        Ok(set)
    }

    /// Puts it back where it lay.
    ///
    /// # Errors
    /// [`Error::Library`] where something else lies there.
    pub(crate) fn restore(&self) -> Result<()> {
        if self.home.symlink_metadata().is_ok() {
            return Err(Error::Library {
                doing: "put back",
                path: self.home.clone().into(),
                reason: "something lies there already".into(),
            });
        }
        rename(&self.folder, &self.home).map_err(|error| failed("put back", &self.home, &error))
    }

    /// Deletes it for good.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub(crate) fn delete(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).map_err(|error| failed("delete", &self.folder, &error))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.folder.exists() {
            std::fs::remove_file(&self.lock_path).ok();
        }
    }
}

pub(crate) fn lock_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Where a file lies until it is whole and right.
pub(crate) fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Staging;

    /// The holder deletes the lock's file while others are about to lock it.
    #[test]
    fn a_lock_is_held_by_one_however_often_it_changes_hands() {
        let models = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        let Ok(_staging) = Staging::take(models.path(), "model") else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                        taken.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(taken.into_inner() > 4, "it changed hands");
    }
}
