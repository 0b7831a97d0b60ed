//! The files of the conversations: where they lie, and that only their owner reads them.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The places under the folder of conversations.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
}

impl Files {
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join("conversations.sqlite")
    }

    pub(super) fn backups(&self) -> PathBuf {
        self.folder.join("backups")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.folder.join("damaged")
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// The lock under which the file is opened, checked, brought up to date and repaired, by one process at a
    /// time. Where another one has it, this waits for it or fails, as `waits` says.
    pub(super) fn lock_opening(&self, waits: bool) -> std::io::Result<File> {
        make_folder(&self.folder)?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        only_for_the_user(&mut options);
        let file = options.open(self.folder.join("opening.lock"))?;
        if waits {
            file.lock()?;
        } else {
            file.try_lock()?;
        }
        Ok(file)
    }

    /// Makes the folders and the empty file, readable by their owner only.
    pub(super) fn make(&self) -> std::io::Result<()> {
        make_folder(&self.folder)?;
        make_folder(&self.backups())?;
        // SQLite gives the files beside it the same rights.
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        only_for_the_user(&mut options);
        options.open(self.database())?;
        Ok(())
    }

    /// The database with what SQLite keeps beside it, as far as it is there.
    pub(super) fn all_of_database(&self) -> Vec<PathBuf> {
        let database = self.database();
        ["", "-wal", "-shm"]
            .iter()
            .map(|ending| with_ending(&database, ending))
            .filter(|path| path.exists())
            .collect()
    }
}

pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Makes a folder that only its owner may look into.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Lets a file be made with rights for its owner only.
pub(super) fn only_for_the_user(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    {
        // Elsewhere the folder is the user's own by the system's rules.
        options.truncate(false);
    }
}

/// Takes a file's rights from everybody but its owner.
pub(super) fn keep_for_the_user(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    // What was opened for reading only cannot be flushed everywhere.
    OpenOptions::new().write(true).open(path)?.sync_all()
}

/// Makes what was renamed within a folder last.
pub(super) fn flush_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
