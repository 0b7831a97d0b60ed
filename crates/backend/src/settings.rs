//! The user's settings: one JSON file.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use engine::onnx::ExecutionProviderChoice;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hub::NetworkSettings;
use crate::model_defaults::ModelDefaults;
use crate::token::TokenKeeping;

/// What the user chose. Every field has a default, so that files of other versions can be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// The model that answers; `None` takes the built-in one.
    pub model: Option<String>,
    pub execution_provider: ExecutionProviderChoice,
    /// Threads inside one operator; `None` takes the machine's performance cores.
    pub threads: Option<usize>,
    /// The most KV rows of a session; `None` takes the model's context.
    pub cache_window: Option<usize>,
    /// The most memory of the KV caches of several conversations, in bytes; `None` takes a quarter of what is
    /// free, at most 4 GiB.
    pub kv_memory_bytes: Option<u64>,
    /// The most disk that KV snapshots take, in bytes; `None` takes the smaller of 2 GB and 5 % of what is
    /// free, and 0 keeps none.
    pub kv_disk_bytes: Option<u64>,
    /// How requests leave, where any do.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkSettings,
    /// Where the hub's access token was put, which is never here.
    #[serde(skip_serializing_if = "is_default")]
    pub access_token: Option<TokenKeeping>,
    /// Whether the user was told what it means to take a model from outside of the catalogue.
    #[serde(skip_serializing_if = "is_default")]
    pub knows_other_sources: bool,
    /// What the user wants of single models, by their ids.
    #[serde(skip_serializing_if = "is_default")]
    pub models: BTreeMap<String, ModelDefaults>,
    /// Where models are kept, an absolute path; `None` takes the data folder's own place for them.
    #[serde(skip_serializing_if = "is_default")]
    pub library: Option<PathBuf>,
    /// What this version does not know, kept for the one that wrote it.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What one run of the program asks for in the place of the settings. None of it is ever saved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// The id of a model, or the path of its folder.
    pub model: Option<String>,
    pub execution_provider: Option<ExecutionProviderChoice>,
    pub threads: Option<usize>,
    pub cache_window: Option<usize>,
}

impl Settings {
    /// Reads the settings. A missing file gives the defaults; a damaged one too, with a sentence that
    /// says so, and stays beside under another name. Of a file with single values that make no sense the others
    /// are used.
    pub fn open(path: &Path) -> (Self, Option<String>) {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            // A folder that is no folder is told of by whoever checks it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return (Self::default(), None);
            }
            Err(error) => {
                let notice = format!(
                    "The settings in `{}` cannot be read: {error}. Defaults are in use.",
                    path.display()
                );
                return (Self::default(), Some(notice));
            }
        };
        let (settings, wrong) = match Self::parse(&text) {
            Ok((settings, wrong)) if wrong.is_empty() => return (settings, None),
            Ok((settings, wrong)) => {
                let wrong: Vec<String> = wrong.iter().map(|name| format!("`{name}`")).collect();
                (settings, format!("Defaults are in use for {}", wrong.join(", ")))
            }
            Err(error) => (Self::default(), format!("({error}) Defaults are in use")),
        };
        let kept = set_aside(path);
        let network = if settings.network.offline { ", and nothing goes to the network" } else { "" };
        let notice = format!(
            "The settings were damaged and are kept in `{}`. {wrong}{network}.",
            kept.as_deref().unwrap_or(path).display()
        );
        // What made sense stays; it is read again at the next start.
        if kept.is_ok() && settings != Self::default() {
            settings.save(path).ok();
        }
        (settings, Some(notice))
    }

    /// Takes settings as far as they make sense, and names the values that do not. Where that is what is said of
    /// the network, nothing is asked of it.
    fn parse(text: &[u8]) -> serde_json::Result<(Self, Vec<String>)> {
        let mut values: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)?;
        let is_wrong = |name: &String, value: &serde_json::Value| {
            let alone = serde_json::Map::from_iter([(name.clone(), value.clone())]);
            serde_json::from_value::<Self>(alone.into()).is_err()
        };
        let wrong: Vec<String> = values
            .iter()
            .filter(|(name, value)| is_wrong(name, value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &wrong {
            values.remove(name);
        }
        let mut settings: Self = serde_json::from_value(values.into())?;
        settings.network.offline |= wrong.iter().any(|name| name == "network");
        Ok((settings, wrong))
    }

    /// Changes the settings as they are on the disk now: what was written there meanwhile stays.
    ///
    /// # Errors
    /// [`Error::DataFolder`], also where they are there and cannot be read: nothing replaces them then.
    pub fn update(path: &Path, change: impl FnOnce(&mut Self)) -> Result<()> {
        let failed = |reason: String| Error::DataFolder { path: path.to_path_buf(), full: false, reason };
        let mut settings = match std::fs::read(path) {
            Ok(text) => Self::parse(&text).map_err(|error| failed(error.to_string()))?.0,
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        change(&mut settings);
        settings.save(path)
    }

    /// Writes the settings: whole and renamed into place, or not at all.
    ///
    /// # Errors
    /// [`Error::DataFolder`].
    pub fn save(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }
}

/// Renames a damaged file to a name that none had before it.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let mut aside = path.with_extension("damaged.json");
    if aside.exists() {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S%.f").to_string();
        aside = path.with_extension(format!("damaged-{time}.json"));
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Writes a file of the data folder: whole and renamed into place, or not at all.
///
/// # Errors
/// [`Error::DataFolder`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let failed = |error: std::io::Error| Error::DataFolder {
        path: folder.to_path_buf(),
        full: error.kind() == std::io::ErrorKind::StorageFull,
        reason: error.to_string(),
    };
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Makes the data folder and finds out whether it can be written, before anything depends on it.
///
/// # Errors
/// [`Error::DataFolder`] says why not.
pub(crate) fn check_data_folder(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::DataFolder {
        path: PathBuf::from(folder),
        full: error.kind() == std::io::ErrorKind::StorageFull,
        reason: error.to_string(),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    Ok(())
}
