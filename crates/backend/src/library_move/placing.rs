//! Brings the models to the new place: each folder hidden until it is whole, every copied byte compared.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::journal::{COMING, Journal, MARK, paths};
use super::plan::{Item, Plan, PlannedFile, sync_made};
use super::{MovePhase, MoveProgress};
use crate::error::{Error, Result};
use crate::hub::{Digest, FileHasher};
use crate::store::files::{DiskRules, failed, make_folder, rename, sync_folder, write_whole};
use crate::store::staging::{STAGING, lock_of};
use crate::store::verify::hash;

const CHUNK: usize = 1 << 20;
/// After so many bytes the free room is looked at again.
const ROOM_INTERVAL: u64 = 16 << 20;

type Tell<'t> = &'t mut dyn FnMut(MoveProgress);

/// A move that brings files to the new place.
pub(super) struct Placing<'s> {
    plan: Plan,
    journal: Journal,
    links: bool,
    disk: &'s DiskRules,
    stop: &'s CancellationToken,
    done: u64,
    total: u64,
}

/// A move whose files are all at the new place, which does not count yet.
pub(super) struct Placed {
    plan: Plan,
    journal: Journal,
    total: u64,
}

impl<'s> Placing<'s> {
    /// Notes what is to be moved, so that the next start knows of it.
    pub(super) fn begin(
        plan: Plan,
        copies: bool,
        disk: &'s DiskRules,
        stop: &'s CancellationToken,
    ) -> Result<Self> {
        let journal = Journal {
            from: plan.from.clone(),
            to: plan.to.clone(),
            items: paths(&plan.items),
            made: plan.made.clone(),
        };
        let links = !copies && plan.can_link();
        let bytes = plan.bytes();
        // Copies are read twice: once from the old place, once from the new one.
        let total = if links { bytes } else { 2 * bytes };
        let room = if links { Ok(()) } else { disk.check_before(&plan.to, bytes) };
        let noted = room.and_then(|()| journal.write(&plan.journal_path));
        match noted {
            Ok(()) => Ok(Self { plan, journal, links, disk, stop, done: 0, total }),
            Err(error) => {
                journal.undo();
                Err(error)
            }
        }
    }

    /// Brings everything to the new place; `None` where a stop came first, and then nothing is left there.
    pub(super) fn run(mut self, tell: Tell<'_>) -> Result<Option<Placed>> {
        let items = std::mem::take(&mut self.plan.items);
        let placed = items
            .iter()
            .enumerate()
            .try_fold(true, |goes_on, (index, item)| Ok(goes_on && self.place(index, item, tell)?));
        let marked = placed.and_then(|is_whole| {
            // What is asked while the last file comes is heard, too.
            let is_whole = is_whole && !self.stop.is_cancelled();
            if is_whole {
                self.mark()?;
            }
            Ok(is_whole)
        });
        let placed = Placed { plan: self.plan, journal: self.journal, total: self.total };
        match marked {
            Ok(true) => Ok(Some(placed)),
            Ok(false) => {
                placed.undo();
                Ok(None)
            }
            Err(error) => {
                placed.undo();
                Err(error)
            }
        }
    }

    /// Brings one folder to the new place; `false` where a stop came first.
    fn place(&mut self, index: usize, item: &Item, tell: Tell<'_>) -> Result<bool> {
        let coming = self.plan.to.join(STAGING).join(format!("{COMING}{index}"));
        std::fs::remove_dir_all(&coming).ok();
        make_folder(&coming)?;
        let old = self.plan.from.join(&item.path);
        for file in &item.files {
            self.tell(tell);
            let (source, target) = (old.join(&file.path), coming.join(&file.path));
            if let Some(folder) = target.parent() {
                make_folder(folder)?;
            }
            if self.links && !file.is_link && std::fs::hard_link(&source, &target).is_ok() {
                self.done += file.size;
            } else if !self.copy(item, file, &source, &target, tell)? {
                return Ok(false);
            }
        }
        // Somebody may have written there meanwhile: what came would be of before.
        if Item::read(&self.plan.from, &item.path)?.files != item.files {
            let reason = "it changed while it was moved; try again when nobody writes to it";
            return Err(Error::Library { doing: "move", path: old.into(), reason: reason.into() });
        }
        sync_below(&coming);
        self.tell(tell);
        let target = self.plan.to.join(&item.path);
        rename(&coming, &target).map_err(|error| failed("move to", &target, &error))?;
        Ok(true)
    }

    /// Copies a file and compares the copy; `false` where a stop came first.
    fn copy(
        &mut self,
        item: &Item,
        file: &PlannedFile,
        source: &Path,
        target: &Path,
        tell: Tell<'_>,
    ) -> Result<bool> {
        let kind = file.digest.unwrap_or(Digest::Sha256([0; 32]));
        let mut hasher = FileHasher::like(&kind, file.size);
        if !self.copy_bytes(file, source, target, &mut hasher, tell)? {
            return Ok(false);
        }
        let copied = hasher.finish();
        if file.digest.is_some_and(|listed| listed != copied) {
            return Err(Error::ModelChanged {
                id: item.path.display().to_string().into(),
                file: file.path.display().to_string().into(),
                found: "it has other bytes".into(),
            });
        }
        let mut hasher = FileHasher::like(&kind, file.size);
        let reading = |error: std::io::Error| failed("read", target, &error);
        let mut written = File::open(target).map_err(reading)?;
        let stop = self.stop;
        let compared = hash(&mut written, &mut hasher, stop, &mut |bytes| {
            self.done += bytes;
            tell(MoveProgress { phase: MovePhase::Placing, done: self.done, total: self.total });
        });
        if compared.map_err(reading)?.is_none() {
            return Ok(false);
        }
        if hasher.finish() == copied {
            return Ok(true);
        }
        let reason = "the copy has other bytes than the file; the disk may be failing";
        Err(Error::Library { doing: "move to", path: target.into(), reason: reason.into() })
    }

    fn copy_bytes(
        &mut self,
        file: &PlannedFile,
        source: &Path,
        target: &Path,
        hasher: &mut FileHasher,
        tell: Tell<'_>,
    ) -> Result<bool> {
        let reading = |error: std::io::Error| failed("read", source, &error);
        let writing = |error: std::io::Error| failed("write", target, &error);
        let mut from = File::open(source).map_err(reading)?;
        let mut to = File::create_new(target).map_err(writing)?;
        let (mut buffer, mut unchecked) = (vec![0; CHUNK], ROOM_INTERVAL);
        loop {
            if self.stop.is_cancelled() {
                return Ok(false);
            }
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(error)),
            };
            unchecked += length as u64;
            if unchecked >= ROOM_INTERVAL {
                unchecked = 0;
                self.disk.check_during(&self.plan.to, ROOM_INTERVAL.min(file.size))?;
            }
            hasher.update(&buffer[..length]);
            to.write_all(&buffer[..length]).map_err(writing)?;
            self.done += length as u64;
            self.tell(tell);
        }
        // A model that was written before its manifest must not seem to be written after it.
        if let Some(modified) = file.modified {
            to.set_modified(modified).ok();
        }
        to.sync_all().map_err(writing)?;
        Ok(true)
    }

    /// Leaves a file at the new place, so that it can be told from the place of a disk that is away.
    fn mark(&self) -> Result<()> {
        let path = self.plan.to.join(MARK);
        write_whole(&path, b"Hearth keeps models in this folder.\n")
            .map_err(|error| failed("write", &path, &error))?;
        sync_folder(&self.plan.to.join(STAGING));
        sync_folder(&self.plan.to);
        sync_made(&self.plan.made);
        Ok(())
    }

    fn tell(&self, tell: Tell<'_>) {
        tell(MoveProgress { phase: MovePhase::Placing, done: self.done, total: self.total });
    }
}

impl Placed {
    /// The new place.
    pub(super) fn folder(&self) -> &Path {
        &self.plan.to
    }

    pub(super) fn progress(&self, phase: MovePhase) -> MoveProgress {
        MoveProgress { phase, done: self.total, total: self.total }
    }

    /// Leaves all as it was.
    pub(super) fn undo(self) {
        self.journal.undo();
        std::fs::remove_file(&self.plan.journal_path).ok();
    }

    /// Deletes at the old place what is at the new one.
    pub(super) fn finish(self, tell: Tell<'_>) {
        let items = self.journal.items.len() as u64;
        self.journal.finish(|index| {
            tell(MoveProgress { phase: MovePhase::Deleting, done: index as u64, total: items });
        });
        for item in self.journal.items.iter().filter(|item| item.starts_with(STAGING)) {
            std::fs::remove_file(lock_of(&self.plan.from.join(item))).ok();
        }
        for left in [MARK, STAGING] {
            let path = self.plan.from.join(left);
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).ok();
        }
        tell(MoveProgress { phase: MovePhase::Deleting, done: items, total: items });
        std::fs::remove_file(&self.plan.journal_path).ok();
    }
}

/// Makes the names of the files below `folder` last.
fn sync_below(folder: &Path) {
    let mut pending: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(place) = pending.pop() {
        sync_folder(&place);
        let entries = std::fs::read_dir(&place).into_iter().flatten().flatten();
        pending.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
}
