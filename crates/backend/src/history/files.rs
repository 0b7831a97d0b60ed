//! The files of the conversations: where they lie, and that only their owner reads them.

use std::fs::OpenOptions;
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
    std::fs::File::open(path)?.sync_all()
}
