//! The models that Hearth recommends: `models/catalog.json`, compiled in.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use engine::SuggestedSampling;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hub::{Commit, Digest, RepositoryFile, RepositoryId};
use crate::store::{Manifest, ModelRecord, Origin, RecordedFile};
use crate::system::Memory;

/// What `models/catalog.json` holds.
const CATALOG: &str = include_str!("../../../models/catalog.json");
const FORMAT: u32 = 1;
/// The conversation whose KV cache counts as part of the memory need.
const USUAL_CONTEXT: u64 = 4096;
/// Of the runtime, its buffers and the tokenizer.
const OVERHEAD: u64 = 300_000_000;

/// The models that Hearth recommends, the first ones first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    format: u32,
    models: Vec<CatalogEntry>,
}

/// A recommended model at one commit of its repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogEntry {
    pub id: String,
    pub title: String,
    pub repository: RepositoryId,
    pub commit: Commit,
    /// The folder of the repository that becomes the model folder; empty for the whole of it.
    pub folder: String,
    pub parameters: String,
    /// Tokens: the most that a conversation with it takes, unless the user says more.
    pub context: u64,
    /// The licence that the repository names, if any.
    pub licence: Option<String>,
    pub base_model: String,
    pub base_licence: String,
    /// Whether the licence has terms that should be read before.
    pub has_terms: bool,
    /// What the makers recommend, where the model's own files do not say it. A reply takes it.
    pub sampling: Option<SuggestedSampling>,
    /// Of one token in the KV cache, where it is known.
    pub kv_bytes_per_token: Option<u64>,
    /// What others report of weights whose single sizes are not known.
    pub reported_weight_bytes: Option<u64>,
    /// What was learnt of the template, the end tokens and the graph.
    pub notes: Vec<String>,
    pub files: Vec<CatalogFile>,
}

/// A file of a recommended model, within its repository. What is `None` is taken from the hub's listing of the
/// commit before the download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogFile {
    pub path: String,
    pub size: Option<u64>,
    pub sha256: Option<String>,
    /// Of a small file, of which a hub tells no other digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_sha1: Option<String>,
}

/// How much memory a model takes while it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryNeed {
    /// Computed from sizes, never measured: weights, a KV cache of 4,096 tokens, and 300 MB.
    pub bytes: u64,
    /// Whether the KV cache is in it; its size is not known of every model, and whoever shows `bytes` says so.
    pub includes_kv_cache: bool,
}

/// Whether a model goes into this machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fit {
    Fits,
    /// It runs, and little is left for anything else.
    Tight,
    TooLarge,
}

/// Where catalogue and hub say different things of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinDifference {
    pub path: String,
    pub catalog: String,
    pub hub: String,
}

impl MemoryNeed {
    /// Of a model with `weights` bytes. Without the bytes of a token the KV cache is left out.
    pub fn of(weights: u64, kv_bytes_per_token: Option<u64>, context: u64) -> Self {
        let kv = kv_bytes_per_token.map_or(0, |bytes| bytes.saturating_mul(context.min(USUAL_CONTEXT)));
        let bytes = weights.saturating_add(kv).saturating_add(OVERHEAD);
        Self { bytes, includes_kv_cache: kv_bytes_per_token.is_some() }
    }

    /// Up to how many bytes a model fits the machine, and up to how many it is tight: 60 % and 85 % of its memory.
    /// The rest belongs to the system, a browser and this window. A system that does not tell its memory is no
    /// reason to warn.
    pub fn limits(memory: &Memory) -> (u64, u64) {
        match memory.total {
            0 => (u64::MAX, u64::MAX),
            total => (total / 100 * 60, total / 100 * 85),
        }
    }

    /// Whether it goes into the machine's memory; see [`MemoryNeed::limits`].
    pub fn fit(&self, memory: &Memory) -> Fit {
        Self::fit_within(self.bytes, Self::limits(memory))
    }

    pub(crate) fn fit_within(bytes: u64, (fits_to, tight_to): (u64, u64)) -> Fit {
        match bytes {
            bytes if bytes <= fits_to => Fit::Fits,
            bytes if bytes <= tight_to => Fit::Tight,
            _ => Fit::TooLarge,
        }
    }
}

impl Catalog {
    /// The catalogue of this build.
    pub fn built_in() -> Self {
        Self::read(CATALOG).expect("a test reads the same file")
    }

    /// Reads a catalogue and checks every name and digest in it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Name`].
    pub fn read(text: &str) -> Result<Self> {
        let refused = |reason: String| Error::Unsupported { what: "the catalogue".into(), reason };
        let catalog: Self = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        catalog.check()?;
        Ok(catalog)
    }

    /// Checks every name and digest.
    ///
    /// # Errors
    /// As [`Catalog::read`].
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |reason: String| Error::Unsupported { what: "the catalogue".into(), reason };
        if self.format != FORMAT {
            return Err(refused(format!("its format {} is of another version of Hearth", self.format)));
        }
        let mut ids = HashSet::new();
        for entry in &self.models {
            if !ids.insert(entry.id.to_ascii_lowercase()) {
                return Err(refused(format!("it has two models `{}`", entry.id)));
            }
            entry.with_files(|file| {
                Ok((file.size.unwrap_or_default(), file.digest()?.unwrap_or(Digest::Sha256([0; 32]))))
            })?;
        }
        Ok(())
    }

    pub fn entries(&self) -> &[CatalogEntry] {
        &self.models
    }

    pub fn find(&self, id: &str) -> Option<&CatalogEntry> {
        self.models.iter().find(|entry| entry.id == id)
    }

    /// The entry of this build by which the model in `folder` was fetched: its manifest has the same name,
    /// repository and commit.
    pub(crate) fn entry_in(folder: &Path) -> Option<CatalogEntry> {
        let ModelRecord { id, origin, .. } = Manifest::read(folder).ok()??.record;
        let Origin::Hub { repository, commit } = origin else { return None };
        let is_that =
            |entry: &CatalogEntry| entry.id == id && entry.repository == repository && entry.commit == commit;
        Self::built_in().models.into_iter().find(is_that)
    }

    /// Writes in what `listings` say of files whose size or digest is not known yet, by entry id.
    #[must_use]
    pub fn filled(mut self, listings: &BTreeMap<String, Vec<RepositoryFile>>) -> Self {
        for entry in &mut self.models {
            let Some(listing) = listings.get(&entry.id) else { continue };
            for file in &mut entry.files {
                let Some(listed) = listing.iter().find(|listed| listed.path == file.path) else { continue };
                file.size = file.size.or(Some(listed.size));
                if file.sha256.is_none() && file.git_sha1.is_none() {
                    let digest = listed.digest.to_string();
                    let (_kind, digits) = digest.split_once(':').unwrap_or_default();
                    match listed.digest {
                        Digest::Sha256(_) => file.sha256 = Some(digits.to_owned()),
                        Digest::GitSha1(_) => file.git_sha1 = Some(digits.to_owned()),
                    }
                }
            }
        }
        self
    }

    /// The text of `models/catalog.json`.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("plain data with text keys becomes JSON");
        text + "\n"
    }
}

impl CatalogEntry {
    /// The id that it has when it is installed.
    pub fn installed_id(&self) -> String {
        format!("{}@{}", self.id, self.commit.short())
    }

    /// Bytes of all files, where every one is known.
    pub fn size(&self) -> Option<u64> {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether a download needs the hub's listing first.
    pub fn needs_listing(&self) -> bool {
        let is_pinned =
            |file: &CatalogFile| file.size.is_some() && (file.sha256.is_some() || file.git_sha1.is_some());
        !self.files.iter().all(is_pinned)
    }

    /// How much memory it takes, where its weights are known.
    pub fn memory(&self) -> Option<MemoryNeed> {
        let weights = self.files.iter().filter(|file| is_weights(&file.path)).map(|file| file.size);
        let weights = weights.sum::<Option<u64>>().or(self.reported_weight_bytes)?;
        Some(MemoryNeed::of(weights, self.kv_bytes_per_token, self.context))
    }

    /// What is to be fetched. `listing` is what the hub says of the commit; it is needed where the catalogue
    /// does not know all, and must agree with it where it does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a file is missing or another one than the catalogue knows.
    pub fn record(&self, listing: Option<&[RepositoryFile]>) -> Result<ModelRecord> {
        let refused = |reason: String| Error::Unsupported { what: format!("`{}`", self.id), reason };
        if let Some(difference) = listing.map(|listing| self.compare(listing)).unwrap_or_default().first() {
            let PinDifference { path, catalog, hub } = difference;
            return Err(refused(format!("the catalogue says of `{path}`: {catalog}; the hub says: {hub}")));
        }
        self.with_files(|file| {
            let listed = listing.and_then(|listing| listing.iter().find(|listed| listed.path == file.path));
            let unknown = || refused(format!("the size or digest of `{}` is not known", file.path));
            let size = file.size.or(listed.map(|listed| listed.size)).ok_or_else(unknown)?;
            let digest = file.digest()?.or(listed.map(|listed| listed.digest)).ok_or_else(unknown)?;
            Ok((size, digest))
        })
    }

    /// Where `listing` says something else than the catalogue. What the catalogue does not know is no
    /// difference; a file that the hub has not, is one.
    pub fn compare(&self, listing: &[RepositoryFile]) -> Vec<PinDifference> {
        let mut differences = Vec::new();
        let mut differ = |path: &str, catalog: String, hub: String| {
            differences.push(PinDifference { path: path.to_owned(), catalog, hub });
        };
        for file in &self.files {
            let Some(listed) = listing.iter().find(|listed| listed.path == file.path) else {
                differ(&file.path, "it is part of the model".into(), "there is no such file".into());
                continue;
            };
            if file.size.is_some_and(|size| size != listed.size) {
                let known = file.size.unwrap_or_default();
                differ(&file.path, format!("{known} bytes"), format!("{} bytes", listed.size));
            }
            // Of digests of two kinds the bytes themselves will tell.
            if let Ok(Some(known)) = file.digest()
                && std::mem::discriminant(&known) == std::mem::discriminant(&listed.digest)
                && known != listed.digest
            {
                differ(&file.path, known.to_string(), listed.digest.to_string());
            }
        }
        differences
    }

    fn with_files(&self, of: impl Fn(&CatalogFile) -> Result<(u64, Digest)>) -> Result<ModelRecord> {
        let files = self.files.iter().map(|file| {
            let (size, digest) = of(file)?;
            let path = within(&self.folder, &file.path).ok_or_else(|| Error::Name {
                name: file.path.clone(),
                reason: format!("it does not lie in `{}`", self.folder),
            })?;
            Ok(RecordedFile { path: path.to_owned(), source: file.path.clone(), size, digest })
        });
        let record = ModelRecord {
            id: self.id.clone(),
            title: self.title.clone(),
            origin: Origin::Hub { repository: self.repository.clone(), commit: self.commit.clone() },
            licence: Some(self.licence.clone().unwrap_or_else(|| self.base_licence.clone())),
            // What a listing said was not tried here, and may be a mirror's word.
            curated: !self.needs_listing(),
            files: files.collect::<Result<_>>()?,
        };
        record.check()?;
        Ok(record)
    }
}

impl CatalogFile {
    /// The digest of its content, if it is known.
    ///
    /// # Errors
    /// [`Error::Name`] for a text that is none.
    fn digest(&self) -> Result<Option<Digest>> {
        match (&self.sha256, &self.git_sha1) {
            (Some(digits), _) => Digest::sha256(digits).map(Some),
            (None, Some(digits)) => Digest::git_sha1(digits).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// `path` as seen from `folder`; an empty one is the top.
pub(crate) fn within<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

/// Whether a file holds weights: a graph, or the data beside one.
pub(crate) fn is_weights(path: &str) -> bool {
    path.ends_with(".onnx") || path.contains(".onnx_data") || path.ends_with(".onnx.data")
}
