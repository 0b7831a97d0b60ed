//! Fetches models: into a hidden folder, each byte checked, the manifest last, then renamed into place.
//!
//! `file` makes one file right, whatever the network does; `part` is what is on the disk of it; `progress`
//! adds up. Whatever ends a download (a pause, an error, the end of the process) leaves the staging folder as
//! it is, and the next [`Downloader::fetch`] of the same record goes on from there.

mod file;
mod part;
mod progress;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

pub use progress::{DownloadPhase, DownloadProgress};

use crate::error::{Error, Result};
use crate::hub::{Commit, Hub, RepositoryId};
use crate::store::files::{DiskRules, failed, make_folder, rename, sync_folder};
use crate::store::staging::{Staging, repair_folder, sweep};
use crate::store::verify::{check_file, verify};
use crate::store::{CheckedFile, Manifest, ModelRecord, Origin, RecordedFile};
use file::{Ended, Source, blocking};
use progress::Meter;

/// Files that come at the same time.
const AT_ONCE: usize = 2;

/// Looks at a finished folder before it becomes visible.
pub type Inspect = Arc<dyn Fn(&Path) -> Result<()> + Send + Sync>;

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// The model lies in this folder, whole and checked.
    Installed(PathBuf),
    /// It was stopped; what came is kept.
    Paused,
}

/// How a repair ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairOutcome {
    /// These files were wrong and are right now.
    Repaired(Vec<CheckedFile>),
    Paused,
}

/// Fetches models into a folder. Cheap to clone.
#[derive(Clone)]
pub struct Downloader {
    hub: Hub,
    models: PathBuf,
    disk: DiskRules,
    inspect: Inspect,
}

impl Downloader {
    /// Fetches from `hub` into the folder `models`. Each model is checked as the engine will check it.
    pub fn new(hub: Hub, models: PathBuf) -> Self {
        let inspect: Inspect =
            Arc::new(|folder| engine::check_folder(folder).map_err(|error| Error::Engine((&error).into())));
        Self { hub, models, disk: DiskRules::default(), inspect }
    }

    /// The same with other rules for the disk.
    #[must_use]
    pub fn with_disk(self, disk: DiskRules) -> Self {
        Self { disk, ..self }
    }

    /// The same with another last look at each model.
    #[must_use]
    pub fn with_inspect(self, inspect: Inspect) -> Self {
        Self { inspect, ..self }
    }

    /// The last look at each model.
    pub(crate) fn inspect(&self) -> &Inspect {
        &self.inspect
    }

    /// The hub that is asked.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Fetches and installs the model of `record`, going on where an earlier try ended. `stop` pauses.
    ///
    /// # Errors
    /// What keeps a file from coming or the model from being installed. What came is kept.
    pub async fn fetch(
        &self,
        record: &ModelRecord,
        stop: &CancellationToken,
        on_progress: impl FnMut(DownloadProgress) + Send,
    ) -> Result<DownloadOutcome> {
        record.check()?;
        let target = self.models.join(record.folder_name());
        make_folder(&self.models)?;
        sweep(&self.models);
        let staging = Staging::take(&self.models, &record.folder_name())?;
        if target.symlink_metadata().is_ok() {
            return match Manifest::read(&target)? {
                Some(manifest) if manifest.record.files == record.files => {
                    Ok(DownloadOutcome::Installed(target))
                }
                _ => Err(Error::Library {
                    doing: "install into",
                    path: target.into(),
                    reason: "something else lies there; remove it first".into(),
                }),
            };
        }
        staging.prepare(record)?;
        let meter = Meter::new(record.files.len(), record.size(), on_progress);
        if self.fetch_files(record, &record.files, &staging.folder, &meter, stop).await? == Ended::Stopped {
            return Ok(DownloadOutcome::Paused);
        }
        meter.phase(DownloadPhase::Installing);
        let (inspect, manifest, folder) =
            (Arc::clone(&self.inspect), Manifest::of(record.clone()), target.clone());
        let stop = stop.clone();
        blocking(move || {
            staging.keep_only(&manifest.record)?;
            staging.check_whole(&manifest.record)?;
            inspect(&staging.folder)?;
            if !staging.is_exclusive && !reads_right(&staging.folder, &manifest.record, &stop)? {
                return Ok(DownloadOutcome::Paused);
            }
            staging.sync(&manifest.record);
            manifest
                .write(&staging.folder)
                .map_err(|error| failed("write the manifest of", &folder, &error))?;
            staging.install(&folder)?;
            Ok(DownloadOutcome::Installed(folder))
        })
        .await?
    }

    /// Makes an installed model right again, fetching only the files that are not.
    ///
    /// # Errors
    /// As [`Downloader::fetch`], and where the folder is none of the installed models, has no manifest, or its
    /// files came from no hub.
    pub async fn repair(
        &self,
        folder: &Path,
        stop: &CancellationToken,
        mut on_progress: impl FnMut(DownloadProgress) + Send,
    ) -> Result<RepairOutcome> {
        let no_manifest = || Error::Library {
            doing: "repair",
            path: folder.into(),
            reason: "it has no manifest, so nobody knows what is right; remove it and fetch it again".into(),
        };
        if folder.parent() != Some(&self.models) {
            let reason =
                "it does not lie in the folder of installed models; mend it where it lies".to_owned();
            return Err(Error::Unsupported { what: format!("`{}`", folder.display()), reason });
        }
        let record = Manifest::read(folder)?.ok_or_else(no_manifest)?.record;
        // Before gigabytes are read for nothing.
        hub_origin(&record)?;
        let whole = record.files.clone();
        let staging = Staging::take(&self.models, &repair_name(folder))?;
        on_progress(DownloadProgress::checking(record.size()));
        let (place, checked, stopped) = (folder.to_path_buf(), record.clone(), stop.clone());
        let checked = blocking(move || verify(&place, &checked, &stopped, &mut |_| {})).await?;
        let Some(checked) = checked else { return Ok(RepairOutcome::Paused) };
        let wrong: Vec<CheckedFile> = checked.into_iter().filter(|file| !file.state.is_right()).collect();
        if wrong.is_empty() {
            staging.discard()?;
            return Ok(RepairOutcome::Repaired(wrong));
        }
        let is_wrong = |file: &&RecordedFile| wrong.iter().any(|wrong| wrong.path == file.path);
        let files: Vec<RecordedFile> = record.files.iter().filter(is_wrong).cloned().collect();
        let part = ModelRecord { files: files.clone(), ..record };
        let meter = Meter::new(files.len(), part.size(), on_progress);
        staging.prepare(&part)?;
        if self.fetch_files(&part, &files, &staging.folder, &meter, stop).await? == Ended::Stopped {
            return Ok(RepairOutcome::Paused);
        }
        meter.phase(DownloadPhase::Installing);
        let folder = folder.to_path_buf();
        blocking(move || {
            staging.check_whole(&part)?;
            // It may have been removed by a program that knows nothing of this lock: half a model must not appear.
            if Manifest::read(&folder)?.is_none_or(|now| now.record.files != whole) {
                let reason = "it was removed or changed meanwhile".into();
                return Err(Error::Library { doing: "repair", path: folder.into(), reason });
            }
            files.iter().try_for_each(|file| replace(&staging.folder, &folder, &file.path))?;
            staging.discard()
        })
        .await??;
        Ok(RepairOutcome::Repaired(wrong))
    }

    /// Deletes what came of the model of `record`.
    ///
    /// # Errors
    /// [`Error::Library`] while it is being fetched.
    pub fn discard(&self, record: &ModelRecord) -> Result<()> {
        record.check()?;
        Staging::take(&self.models, &record.folder_name())?.discard()
    }

    /// Deletes what came of a repair of the model in `folder`.
    ///
    /// # Errors
    /// [`Error::Library`] while it is being repaired.
    pub fn discard_repair(&self, folder: &Path) -> Result<()> {
        match Manifest::read(folder)? {
            Some(_) => Staging::take(&self.models, &repair_name(folder))?.discard(),
            // Nothing can have been begun.
            None => Ok(()),
        }
    }

    /// Fetches `files` into `folder`. Those that are there and right are left alone.
    async fn fetch_files(
        &self,
        record: &ModelRecord,
        files: &[RecordedFile],
        folder: &Path,
        meter: &Meter<'_>,
        stop: &CancellationToken,
    ) -> Result<Ended> {
        let (repository, commit) = hub_origin(record)?;
        meter.phase(DownloadPhase::Checking);
        let mut missing = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let (path, expected, stopped) = (folder.join(&file.path), file.clone(), stop.clone());
            let state = blocking(move || check_file(&path, &expected, &stopped, &mut |_| {})).await?;
            match state {
                None => return Ok(Ended::Stopped),
                Some(state) if state.is_right() => meter.set(index, file.size),
                Some(_) => missing.push((index, file)),
            }
        }
        let there: u64 = missing.iter().map(|(_, file)| part_length(folder, file)).sum();
        let needed: u64 = missing.iter().map(|(_, file)| file.size).sum();
        if !missing.is_empty() {
            self.disk.check_before(folder, needed.saturating_sub(there))?;
        }
        // The small files first: what is wrong with a repository shows before the gigabytes.
        missing.sort_by_key(|(_, file)| file.size);
        // An error in one file stops the others, so that it is told at once.
        let halt = stop.child_token();
        let disk = &self.disk;
        let source = Source { hub: &self.hub, repository, commit, folder, disk, meter, stop: &halt };
        let queue = Mutex::new(VecDeque::from(missing));
        let worker = || async {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((index, file)) = next else { return Ok(Ended::Whole) };
                match source.fetch(index, file).await {
                    Ok(Ended::Whole) => {}
                    Ok(Ended::Stopped) => return Ok(Ended::Stopped),
                    Err(error) => {
                        halt.cancel();
                        return Err(error);
                    }
                }
            }
        };
        const { assert!(AT_ONCE == 2, "as many workers as are joined below") };
        let (one, other) = tokio::join!(worker(), worker());
        let ended = [one?, other?];
        Ok(if ended.contains(&Ended::Stopped) { Ended::Stopped } else { Ended::Whole })
    }
}

/// Of the staging folder of a repair of the model in `folder`.
fn repair_name(folder: &Path) -> String {
    repair_folder(&folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Where the files of `record` come from.
///
/// # Errors
/// [`Error::Unsupported`] where that is no hub.
fn hub_origin(record: &ModelRecord) -> Result<(&RepositoryId, &Commit)> {
    match &record.origin {
        Origin::Hub { repository, commit } => Ok((repository, commit)),
        Origin::Folder { .. } => {
            let reason = "its files come from a folder of this machine; import it again".to_owned();
            Err(Error::Unsupported { what: format!("`{}`", record.id), reason })
        }
    }
}

/// Reads all of `folder` once more; `false` where `stop` came first. Where nobody can hold a lock, another program
/// may have written to the files after they were compared.
fn reads_right(folder: &Path, record: &ModelRecord, stop: &CancellationToken) -> Result<bool> {
    let Some(checked) = verify(folder, record, stop, &mut |_| {}) else { return Ok(false) };
    match checked.into_iter().find(|file| !file.state.is_right()) {
        None => Ok(true),
        Some(wrong) => {
            let reason = "it was changed meanwhile; is another download of this model under way?".into();
            Err(Error::Library { doing: "install", path: folder.join(wrong.path).into(), reason })
        }
    }
}

/// Moves the file at `path` from one folder to another, which is there. Folders below it are made.
fn replace(from: &Path, to: &Path, path: &str) -> Result<()> {
    let target = to.join(path);
    for (end, _) in path.match_indices('/') {
        let folder = to.join(&path[..end]);
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("make the folder", &folder, &error));
            }
            _ => {}
        }
    }
    rename(&from.join(path), &target).map_err(|error| failed("replace", &target, &error))?;
    let folders = target.ancestors().skip(1).take_while(|folder| folder.starts_with(to));
    folders.for_each(sync_folder);
    Ok(())
}

fn part_length(folder: &Path, file: &RecordedFile) -> u64 {
    let part = crate::store::part_path(&folder.join(&file.path));
    std::fs::metadata(part).map_or(0, |part| part.len().min(file.size))
}
