//! What an installed model is made of: `manifest.json`, the last file that is written.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::files::{read_bounded, write_whole};
use crate::catalog::is_weights;
use crate::error::{Error, Result};
use crate::hub::{Commit, Digest, RepositoryId, check_paths, is_model_file};

/// The file that makes a folder a whole model.
pub const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;
const LARGEST_MANIFEST: u64 = 4 << 20;

/// Where a model's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Origin {
    Hub {
        repository: RepositoryId,
        commit: Commit,
    },
    /// A folder of this machine.
    Folder {
        path: PathBuf,
    },
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Within the model folder, with `/` between its parts.
    pub path: String,
    /// Within its repository.
    pub source: String,
    /// Bytes.
    pub size: u64,
    pub digest: Digest,
}

/// A model's files, and where they come from: what is to be fetched, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The name that the model is chosen by; the folder has it too.
    pub id: String,
    pub title: String,
    pub origin: Origin,
    /// The licence of the model, as far as it is known.
    pub licence: Option<String>,
    /// Whether the catalogue of this application knows every size and digest of it.
    pub curated: bool,
    pub files: Vec<RecordedFile>,
}

impl ModelRecord {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Bytes of its graph and of the weights beside it.
    pub fn weights(&self) -> u64 {
        self.files.iter().filter(|file| is_weights(&file.path)).map(|file| file.size).sum()
    }

    /// The name of its folder: another commit is another folder.
    pub fn folder_name(&self) -> String {
        match &self.origin {
            Origin::Hub { commit, .. } => format!("{}@{}", self.id, commit.short()),
            Origin::Folder { .. } => self.id.clone(),
        }
    }

    /// Refuses names that could lead out of the model folder, that lie on each other, or that no file of a model
    /// may have.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn check(&self) -> Result<()> {
        if !engine::is_plain_file_name(&self.id) || self.id.starts_with('.') {
            return Err(Error::Name { name: self.id.clone(), reason: "it is no plain name".into() });
        }
        if self.files.is_empty() {
            return Err(Error::Unsupported {
                what: format!("`{}`", self.id),
                reason: "it has no files".into(),
            });
        }
        check_paths(self.files.iter().map(|file| file.path.as_str()))?;
        // A file that came twice under two names would be checked once: refuse it.
        check_paths(self.files.iter().map(|file| file.source.as_str()))?;
        // Asked of every record: one may come from a plan on the disk, and not from a listing just read.
        let mut names = self.files.iter().flat_map(|file| [&file.path, &file.source]);
        match names.find(|name| !is_model_file(name)) {
            Some(name) => Err(Error::Name { name: name.clone(), reason: "it is no file of a model".into() }),
            None => Ok(()),
        }
    }
}

/// The record of a model whose files all were right when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub installed: Timestamp,
    #[serde(flatten)]
    pub record: ModelRecord,
}

impl Manifest {
    pub(crate) fn of(record: ModelRecord) -> Self {
        Self { format: FORMAT, installed: Timestamp::now(), record }
    }

    /// The manifest of a model folder; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::Library`] for one that cannot be read or is of a later version.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let failed = |reason: String| Error::Library {
            doing: "read",
            path: path.clone().into(),
            reason: reason.into(),
        };
        let text = match read_bounded(&path, LARGEST_MANIFEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(failed(format!("its format {} is of another version of Hearth", manifest.format)));
        }
        manifest.record.check()?;
        Ok(Some(manifest))
    }

    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<()> {
        write_whole(&folder.join(MANIFEST), &serde_json::to_vec_pretty(self)?)
    }
}
