//! Names that come from a hub: repositories, commits, and paths of files. None is trusted: each part has to
//! be a name that means the same on every system, so that none leads out of a model's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use engine::is_plain_file_name;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most folders and the file in one path.
const DEEPEST_PATH: usize = 4;

/// A repository of a hub: `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryId(String);

impl RepositoryId {
    /// Reads `owner/name`. Links are read by [`super::RepositoryLink`].
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |reason: &str| Error::Name { name: text.to_owned(), reason: reason.to_owned() };
        match text.trim().split('/').collect::<Vec<_>>()[..] {
            [owner, name] if is_plain_file_name(owner) && is_plain_file_name(name) => {
                Ok(Self(format!("{owner}/{name}")))
            }
            [_, _] => {
                Err(refused("a repository is called `owner/name`, of letters, digits, `.`, `_` and `-`"))
            }
            _ => Err(refused("a repository is called `owner/name`")),
        }
    }

    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn owner(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for RepositoryId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let id = Self::parse(&text)?;
        if id.0 == text { Ok(id) } else { Err(Error::Name { name: text, reason: "it is no id".into() }) }
    }
}

impl From<RepositoryId> for String {
    fn from(id: RepositoryId) -> Self {
        id.0
    }
}

/// A commit of a repository: 40 hexadecimal digits, always the same files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commit(String);

impl Commit {
    /// Reads a whole commit hash.
    ///
    /// # Errors
    /// [`Error::Name`] for branches, tags and shortened hashes.
    pub fn parse(text: &str) -> Result<Self> {
        let is_hash =
            text.len() == 40 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if is_hash {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Name { name: text.to_owned(), reason: "a commit has 40 hexadecimal digits".into() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: enough to tell the commits of one repository apart.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Commit {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Commit> for String {
    fn from(commit: Commit) -> Self {
        commit.0
    }
}

/// Refuses a path that could mean another file on some system, or one outside of its folder.
///
/// # Errors
/// [`Error::Name`].
pub fn check_path(path: &str) -> Result<()> {
    let refused = |reason: String| Err(Error::Name { name: path.to_owned(), reason });
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() > DEEPEST_PATH {
        return refused(format!("it lies more than {DEEPEST_PATH} levels deep"));
    }
    match segments.iter().find(|segment| !is_plain_file_name(segment)) {
        Some(segment) => refused(format!("`{segment}` is no plain file name")),
        None => Ok(()),
    }
}

/// Refuses paths that cannot lie in one folder on every system: one that is refused by itself, two that
/// differ by the case of letters only, in a file or in a folder, and a file in the place of a folder.
///
/// # Errors
/// [`Error::Name`].
pub fn check_paths<'p>(paths: impl IntoIterator<Item = &'p str>) -> Result<()> {
    let mut known = BTreeSet::new();
    let mut folders: BTreeMap<String, &str> = BTreeMap::new();
    for path in paths {
        check_path(path)?;
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            if *folders.entry(folder.to_ascii_lowercase()).or_insert(folder) != folder {
                return Err(Error::Name {
                    name: path.to_owned(),
                    reason: "its folder is named in two ways".into(),
                });
            }
        }
        if !known.insert(path.to_ascii_lowercase()) {
            return Err(Error::Name { name: path.to_owned(), reason: "it is named twice".into() });
        }
    }
    for path in &known {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(folder) = folders.into_iter().find(|folder| known.contains(*folder)) {
            let reason = format!("`{folder}` is a file and cannot be its folder");
            return Err(Error::Name { name: path.clone(), reason });
        }
    }
    Ok(())
}

/// Whether a file of this name is written by this application alone: what it says of a model, how it presents one,
/// what it made of a graph, and what lies beside a file on its way.
pub(crate) fn is_own_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    matches!(name.as_str(), "manifest.json" | "plan.json" | "linked.json" | "prepared.json" | "hearth.json")
        || name.contains(".hearth.")
        || name.contains(".hearth-")
        || name.ends_with(".part")
        || name.ends_with(".part.json")
}

/// Whether a model may bring a file of this name: weights, configuration, texts. Never code, pickles or
/// libraries, and never what only this machine may say of a model: what it is made of, where it lies, how its
/// graph was prepared.
pub fn is_model_file(path: &str) -> bool {
    if is_own_file(path) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let data_part = name.rsplit_once(".onnx_data_").is_some_and(|(stem, number)| {
        !stem.is_empty() && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    let endings = [".onnx", ".onnx_data", ".onnx.data", ".json", ".jinja", ".txt", ".md"];
    data_part
        || matches!(name.as_str(), "license" | "notice")
        || endings.iter().any(|end| name.ends_with(end))
}
