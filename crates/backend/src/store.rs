//! The models on this machine: those that the user installed and those that the application brings.
//!
//! `manifest` says what an installed model is made of, `verify` whether it still is, `known_files` whether that is
//! enough for a file with several names; `staging` holds what is not whole yet, and `files` writes so that a file is
//! whole or not there.

pub(crate) mod files;
mod known_files;
mod manifest;
pub(crate) mod staging;
pub(crate) mod verify;

use std::path::{Path, PathBuf};

use engine::{ModelConfig, find_graph};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use files::DiskRules;
pub use manifest::{MANIFEST, Manifest, ModelRecord, Origin, RecordedFile};
pub use staging::Unfinished;
pub(crate) use staging::part_path;
pub use verify::{CheckedFile, FileState};

use crate::directories::AppDirs;
use crate::error::{Error, Result};
use crate::hub::is_model_file;

/// A model folder as it crosses the inference boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFolder {
    pub id: String,
    pub path: PathBuf,
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelSource {
    /// The application brings it.
    BuiltIn,
    /// It lies in the user data folder, or was named by its path.
    Installed,
}

/// A model that can be chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstalledModel {
    pub id: String,
    pub name: String,
    pub source: ModelSource,
    pub folder: PathBuf,
    /// Weights, computed from the dimensions in `config.json`; `None` where they do not tell.
    pub parameters: Option<u64>,
    /// Bytes of all files.
    pub size: u64,
    pub context_length: Option<usize>,
    /// One sentence for an empty conversation.
    pub introduction: Option<String>,
    /// Questions to begin with.
    pub suggestions: Vec<String>,
}

impl InstalledModel {
    /// What the inference side is told.
    pub fn model_folder(&self) -> ModelFolder {
        ModelFolder { id: self.id.clone(), path: self.folder.clone() }
    }
}

/// How a model presents itself: `hearth.json` in its folder.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Presentation {
    name: Option<String>,
    introduction: Option<String>,
    suggestions: Vec<String>,
}

const PRESENTATION: &str = "hearth.json";
const LARGEST_PRESENTATION: u64 = 64 << 10;
/// Letters of a name and of one sentence, and sentences: what has room in a window.
const LONGEST_NAME: usize = 80;
const LONGEST_SENTENCE: usize = 300;
const MOST_SUGGESTIONS: usize = 6;

impl Presentation {
    /// What the model in `folder` says, cut to what has room; nothing where it says nothing that can be read.
    fn read(folder: &Path) -> Self {
        let text = files::read_bounded(&folder.join(PRESENTATION), LARGEST_PRESENTATION).ok();
        let said: Self = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let cut = |text: String, letters: usize| text.chars().take(letters).collect::<String>();
        let suggestions = said.suggestions.into_iter().take(MOST_SUGGESTIONS);
        Self {
            name: said.name.map(|name| cut(name, LONGEST_NAME)),
            introduction: said.introduction.map(|sentence| cut(sentence, LONGEST_SENTENCE)),
            suggestions: suggestions.map(|sentence| cut(sentence, LONGEST_SENTENCE)).collect(),
        }
    }
}

/// In a folder that only names another one: `{"folder": PATH}`.
pub(crate) const LINK: &str = "linked.json";
/// More than any path takes.
const LONGEST_LINK: u64 = 64 << 10;

#[derive(Debug, Deserialize)]
struct Link {
    folder: PathBuf,
}

/// Finds models.
#[derive(Debug, Clone)]
pub struct ModelStore {
    installed: PathBuf,
    resources: Vec<PathBuf>,
    /// Whether the user chose the folder: it is never made anew then, for it may lie on a disk that is away.
    is_chosen: bool,
}

impl ModelStore {
    /// The models of these folders.
    pub fn new(directories: &AppDirs) -> Self {
        let resources = directories.resources.clone();
        Self { installed: directories.models(), resources, is_chosen: false }
    }

    /// The same with the user's own in `folder`.
    pub(crate) fn in_folder(directories: &AppDirs, folder: PathBuf) -> Self {
        Self { installed: folder, resources: directories.resources.clone(), is_chosen: true }
    }

    /// Where the models lie that the user installed.
    pub fn folder(&self) -> &Path {
        &self.installed
    }

    /// Whether the folder that the user chose is away: it is not there, or empty, as the place of a disk is that is
    /// not plugged in. A folder that models were moved to is never empty.
    pub fn is_away(&self) -> bool {
        let holds_something =
            || std::fs::read_dir(&self.installed).is_ok_and(|mut entries| entries.next().is_some());
        self.is_chosen && !holds_something()
    }

    /// Refuses to write where the folder is away.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub(crate) fn require_folder(&self) -> Result<()> {
        if !self.is_away() {
            return Ok(());
        }
        let reason = "it is not there, or empty; plug its disk in and look again, or use the default folder";
        Err(Error::Library {
            doing: "use the folder of models",
            path: self.installed.as_path().into(),
            reason: reason.into(),
        })
    }

    /// Every model, the built-in ones first. Damaged ones are listed too: they fail by name when chosen.
    pub fn models(&self) -> Vec<InstalledModel> {
        let mut models: Vec<InstalledModel> = Vec::new();
        for folder in &self.resources {
            // A build finds its own resources and those of its checkout: the first of a name counts.
            let found = folders(folder).into_iter().filter_map(|path| read(&path, ModelSource::BuiltIn));
            for model in found {
                if !models.iter().any(|known| known.id == model.id) {
                    models.push(model);
                }
            }
        }
        for path in folders(&self.installed) {
            if let Some(mut model) = read(&path, ModelSource::Installed) {
                if models.iter().any(|known| known.id == model.id) {
                    model.id = format!("installed/{}", model.id);
                }
                models.push(model);
            }
        }
        models
    }

    /// The model called `id`, or the one in the folder of that path.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`] names those that there are.
    pub fn find(&self, id: &str) -> Result<InstalledModel> {
        let mut models = self.models();
        if let Some(index) = models.iter().position(|model| model.id == id) {
            return Ok(models.swap_remove(index));
        }
        // The commit may be left out where there is one only.
        let is_called =
            |model: &&InstalledModel| model.id.split_once('@').is_some_and(|(name, _)| name == id);
        if let [only] = models.iter().filter(is_called).collect::<Vec<_>>()[..] {
            return Ok(only.clone());
        }
        let path = Path::new(id);
        if path.is_dir()
            && let Ok(path) = std::path::absolute(path)
        {
            if let Some(index) = models.iter().position(|model| same_folder(&model.folder, &path)) {
                return Ok(models.swap_remove(index));
            }
            let mut model =
                read(&path, ModelSource::Installed).unwrap_or_else(|| bare(&path, file_name(&path)));
            // Its name may be that of another model; its path names it alone, and finds it the next time.
            model.id = path.display().to_string();
            return Ok(model);
        }
        let known = models.iter().map(|model| format!("`{}`", model.id)).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none is installed".into() } else { format!("there are {known}") };
        Err(Error::ModelUnknown { id: id.to_owned(), known })
    }

    /// The folders of the models that the user installed, within the folder of models.
    pub(crate) fn own_folders(&self) -> Vec<PathBuf> {
        let is_model = |path: &PathBuf| read(path, ModelSource::Installed).is_some();
        folders(&self.installed)
            .iter()
            .filter(|path| is_model(path))
            .map(|path| file_name(path).into())
            .collect()
    }

    /// The downloads that were begun and not ended.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        staging::unfinished(&self.installed)
    }

    /// Deletes an installed model: at once as far as anybody sees.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model that the user did not install; [`Error::Library`].
    pub fn remove(&self, model: &InstalledModel) -> Result<()> {
        staging::remove(&self.installed, &self.own_folder(model)?)
    }

    /// Takes an installed model out of the library, so that it can be put back.
    ///
    /// # Errors
    /// As [`ModelStore::remove`].
    pub(crate) fn set_aside(&self, model: &InstalledModel) -> Result<staging::Aside> {
        staging::Aside::take(&self.installed, &self.own_folder(model)?)
    }

    /// Whether a model is a folder of another place that is only named in this one.
    pub(crate) fn is_linked(&self, model: &InstalledModel) -> bool {
        self.own_folder(model).is_ok_and(|folder| folder != model.folder)
    }

    /// The folder of a model that the user installed.
    fn own_folder(&self, model: &InstalledModel) -> Result<PathBuf> {
        let name = model.id.strip_prefix("installed/").unwrap_or(&model.id);
        let folder = self.installed.join(name);
        // Whoever puts a folder there by hand calls it as he likes.
        let is_own =
            folder.parent() == Some(self.installed.as_path()) && folder.file_name() == Some(name.as_ref());
        if model.source != ModelSource::Installed || !is_own || name.starts_with('.') || !folder.is_dir() {
            let reason = "it does not lie in the folder of installed models; delete it where it lies";
            return Err(Error::Unsupported { what: format!("`{}`", model.id), reason: reason.into() });
        }
        Ok(folder)
    }

    /// Whether the user can remove the model here.
    pub(crate) fn can_remove(&self, model: &InstalledModel) -> bool {
        self.own_folder(model).is_ok()
    }

    /// Reads every byte of a model and compares it with its manifest; `None` where `stop` came first.
    /// `on_bytes` is told how many more were read.
    ///
    /// # Errors
    /// [`Error::Library`] where the model has no manifest, so that nobody knows what is right.
    pub fn verify(
        &self,
        model: &InstalledModel,
        stop: &CancellationToken,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Option<Vec<CheckedFile>>> {
        match Manifest::read(&model.folder)? {
            Some(manifest) => Ok(verify::verify(&model.folder, &manifest.record, stop, on_bytes)),
            None => Err(Error::Library {
                doing: "verify",
                path: model.folder.clone().into(),
                reason: "it has no manifest, so nobody knows what is right".into(),
            }),
        }
    }

    /// Looks at the files of a model before it is loaded: sizes, and every byte of those that were written after
    /// its manifest. It reads nothing of a model that is as it was installed, and knows nothing of one that has
    /// no manifest.
    ///
    /// # Errors
    /// [`Error::ModelChanged`] names the first file that is wrong.
    pub fn check_before_load(model: &InstalledModel) -> Result<()> {
        let manifest = match Manifest::read(&model.folder) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(model = model.id, %error, "nobody knows whether the model's files are right");
                return Ok(());
            }
        };
        match verify::look_at(&model.folder, &model.folder.join(MANIFEST), &manifest.record) {
            None => Ok(()),
            Some(CheckedFile { path, state }) => Err(Error::ModelChanged {
                id: model.id.as_str().into(),
                file: path.into(),
                found: state.to_string().into(),
            }),
        }
    }

    /// The model to begin with: what [`ModelStore::find`] knows as `preferred`, else the first.
    ///
    /// # Errors
    /// [`Error::NoModel`].
    pub fn preferred(&self, preferred: Option<&str>) -> Result<InstalledModel> {
        if let Some(model) = preferred.and_then(|id| self.find(id).ok()) {
            return Ok(model);
        }
        let first = self.models().into_iter().next();
        first.ok_or_else(|| Error::NoModel { folder: self.installed.clone() })
    }

    /// Whether it is known what is in the files of a model, so that they may have other names too, as package
    /// managers and deduplication give them: the application brings it, or its manifest lists each such file.
    pub(crate) fn knows_files(&self, model: &InstalledModel) -> bool {
        let is_own = || model.folder.parent() == Some(self.installed.as_path());
        model.source == ModelSource::BuiltIn || is_own() && known_files::are_listed(&model.folder)
    }
}

/// The folders in `folder`, by name. Hidden ones hold what is not finished.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !file_name(path).starts_with('.'))
        .collect();
    found.sort();
    found
}

/// The model in `path`, or in the folder that it names.
fn read(path: &Path, source: ModelSource) -> Option<InstalledModel> {
    let Some(target) = link(path) else { return read_folder(path, source) };
    let id = file_name(path);
    // The folder may be away, on a disk that is not plugged in: the model is shown, and fails by name.
    let model = read_folder(&target, source).unwrap_or_else(|| bare(&target, id.clone()));
    Some(InstalledModel { name: id.clone(), id, ..model })
}

/// The folder that `path` only names. A link is followed once, and only from a folder that has nothing of a model
/// in it: where a model brought it, it would make another model of a checked one.
fn link(path: &Path) -> Option<PathBuf> {
    let text = files::read_bounded(&path.join(LINK), LONGEST_LINK).ok()?;
    let Link { folder } = serde_json::from_slice(&text).ok()?;
    // Systems put files of their own into any folder; those say nothing.
    let is_of_a_model = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name == MANIFEST || is_model_file(&name) || entry.path().is_dir()
    };
    let holds_a_model = std::fs::read_dir(path).ok()?.flatten().any(is_of_a_model);
    (!holds_a_model && folder.is_absolute()).then_some(folder)
}

/// A folder is a model if anything in it says so: a graph, a configuration, a tokenizer. One that lost its
/// graph is shown, so that its error can be.
fn read_folder(path: &Path, source: ModelSource) -> Option<InstalledModel> {
    let id = file_name(path);
    let config = ModelConfig::read(path).unwrap_or_default();
    let marks = ["config.json", "genai_config.json", "tokenizer.json"];
    if find_graph(path, &config).is_err() && !marks.iter().any(|mark| path.join(mark).is_file()) {
        return None;
    }
    let presentation = Presentation::read(path);
    let title = Manifest::read(path).ok().flatten().map(|manifest| manifest.record.title);
    Some(InstalledModel {
        // What came from outside is called as it was when it came, whatever it calls itself.
        name: title.or(presentation.name).unwrap_or_else(|| id.clone()),
        source,
        parameters: config.parameters(),
        size: size(path, 0),
        context_length: config.context_length,
        introduction: presentation.introduction,
        suggestions: presentation.suggestions,
        folder: path.to_path_buf(),
        id,
    })
}

fn bare(path: &Path, name: String) -> InstalledModel {
    InstalledModel {
        id: name.clone(),
        name,
        source: ModelSource::Installed,
        folder: path.to_path_buf(),
        parameters: None,
        size: size(path, 0),
        context_length: None,
        introduction: None,
        suggestions: Vec::new(),
    }
}

fn size(folder: &Path, depth: usize) -> u64 {
    const DEEPEST: usize = 4;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(metadata) if metadata.is_dir() && depth < DEEPEST => size(&entry.path(), depth + 1),
            _ => 0,
        })
        .sum()
}

fn same_folder(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
