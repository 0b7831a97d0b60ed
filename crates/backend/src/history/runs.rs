//! Which processes have the conversations open, and which ended without saying so.
//!
//! Each run holds the lock of a file of its own. The system takes the lock when the process ends, however it
//! ends; a file that is still there and that nobody holds is of a run that was cut off.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use uuid::Uuid;

const EXTENSION: &str = "run";

/// This run.
#[derive(Debug)]
pub(super) struct RunLock {
    pub(super) id: Uuid,
    folder: PathBuf,
    /// Held for its lock.
    _file: File,
}

/// What the folder says of other runs.
#[derive(Debug, Default)]
pub(super) struct OtherRuns {
    /// Those that were cut off.
    pub(super) cut_off: Vec<Uuid>,
    pub(super) alive: Vec<Uuid>,
}

impl RunLock {
    /// Begins a run.
    pub(super) fn begin(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let id = Uuid::new_v4();
        let file = open(&path(folder, id), true)?;
        file.lock()?;
        Ok(Self { id, folder: folder.to_path_buf(), _file: file })
    }

    /// The runs besides this one.
    pub(super) fn others(&self) -> OtherRuns {
        let mut others = OtherRuns::default();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let id = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(id) = id.filter(|&id| id != self.id) else { continue };
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            if is_held(&path) { others.alive.push(id) } else { others.cut_off.push(id) }
        }
        others
    }

    /// Whether the run `id` is under way. Of a run without a file nothing is.
    pub(super) fn is_alive(&self, id: Uuid) -> bool {
        id == self.id || is_held(&path(&self.folder, id))
    }

    /// Forgets runs that were cut off, once what they left behind is in order.
    pub(super) fn forget(&self, cut_off: &[Uuid]) {
        for &id in cut_off {
            // One that stays is looked at again, which costs a check and nothing else.
            std::fs::remove_file(path(&self.folder, id)).ok();
        }
    }

    /// Ends this run in order.
    pub(super) fn end(&self) {
        // A file that cannot be removed makes the next start check more than it had to.
        std::fs::remove_file(path(&self.folder, self.id)).ok();
    }
}

fn path(folder: &Path, id: Uuid) -> PathBuf {
    folder.join(format!("{id}.{EXTENSION}"))
}

fn is_held(path: &Path) -> bool {
    match open(path, false) {
        Ok(file) => file.try_lock().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn open(path: &Path, new: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(new);
    super::files::only_for_the_user(&mut options);
    options.open(path)
}
