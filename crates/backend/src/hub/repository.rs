//! What a hub tells of a repository: its commit, its terms, its files.

use std::fmt;
use std::marker::PhantomData;

use reqwest::Url;
use reqwest::header::LINK;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::ledger::Purpose;
use super::names::{Commit, RepositoryId};
use super::{Hub, HubFailure};
use crate::error::{Error, Result};

/// A listing that is longer is not that of a model.
const MOST_FILES: usize = 10_000;
const MOST_PAGES: usize = 50;
const MOST_HITS: usize = 50;
/// Bytes of a page of a listing, which has 1,000 files at most.
const LARGEST_PAGE: usize = 4 << 20;
/// Bytes of what is said of a repository, or found by a search.
const LARGEST_ANSWER: usize = 1 << 20;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    pub id: RepositoryId,
    pub commit: Commit,
    /// The licence that its card names.
    pub licence: Option<String>,
    /// The models that it was made from.
    pub base_models: Vec<String>,
    /// Whether a login and accepted conditions are asked for.
    pub gated: bool,
}

/// A file of a repository. Its path is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFile {
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub digest: Digest,
}

/// A repository that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SearchHit {
    pub id: RepositoryId,
    pub licence: Option<String>,
    pub downloads: Option<u64>,
    pub likes: Option<u64>,
    pub gated: bool,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    sha: String,
    gated: Option<AnyForm<Gate>>,
    #[serde(rename = "cardData")]
    card: Option<AnyForm<Card>>,
    #[serde(default)]
    tags: Vec<String>,
}

/// What its owner wrote into the card of a repository.
#[derive(Default, Deserialize)]
struct Card {
    #[serde(rename = "license")]
    licence: Option<AnyForm<Option<String>>>,
    base_model: Option<AnyForm<BaseModel>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BaseModel {
    One(String),
    Several(Vec<String>),
}

impl Default for BaseModel {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Gate {
    Is(bool),
    By(String),
}

impl Default for Gate {
    fn default() -> Self {
        Self::Is(false)
    }
}

/// What anybody may have written in another form, which is no reason to refuse the rest.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyForm<T> {
    Known(T),
    Other(IgnoredAny),
}

/// A list that ends in an error behind its first 10,000 elements, before it takes more memory.
struct Bounded<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Vec<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {MOST_FILES} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    if elements.len() == MOST_FILES {
                        return Err(serde::de::Error::invalid_length(MOST_FILES + 1, &self));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData)).map(Self)
    }
}

#[derive(Deserialize)]
struct TreeAnswer {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct HitAnswer {
    id: String,
    #[serde(default)]
    tags: Vec<String>,
    downloads: Option<u64>,
    likes: Option<u64>,
    gated: Option<AnyForm<Gate>>,
}

impl Hub {
    /// The repository `id` at `revision`, a commit, branch or tag; `None` takes `main`.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub async fn repository(&self, id: &RepositoryId, revision: Option<&str>) -> Result<Repository> {
        let doing = format!("look up the repository `{id}`");
        let revision = revision.unwrap_or("main");
        let parts = ["api", "models", id.owner(), id.name(), "revision", revision];
        let url = self.transport().options()?.endpoint.below(parts);
        let asked = self.transport().json(&doing, url, Purpose::Repository, LARGEST_ANSWER);
        let (_, answer): (_, RepositoryAnswer) = asked.await?;
        let card = known(answer.card);
        let commit =
            Commit::parse(&answer.sha).map_err(|_| broken(&doing, "the answer names no commit".into()))?;
        Ok(Repository {
            id: id.clone(),
            commit,
            licence: tagged(&answer.tags, "license:").or(known(card.licence)),
            base_models: match known(card.base_model) {
                BaseModel::One(model) => vec![model],
                BaseModel::Several(models) => models,
            },
            gated: is_gated(answer.gated),
        })
    }

    /// Every file of the repository at `commit`.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub async fn files(&self, id: &RepositoryId, commit: &Commit) -> Result<Vec<RepositoryFile>> {
        let doing = format!("list the files of `{id}`");
        let parts = ["api", "models", id.owner(), id.name(), "tree", commit.as_str()];
        let mut url = self.transport().options()?.endpoint.below(parts);
        url.query_pairs_mut().append_pair("recursive", "true");
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let asked = self.transport().json(&doing, url.clone(), Purpose::FileList, LARGEST_PAGE);
            let (headers, entries): (_, Bounded<TreeAnswer>) = asked.await?;
            for entry in entries.0.into_iter().filter(|entry| entry.kind == "file") {
                files.push(file(&doing, entry)?);
            }
            if files.len() > MOST_FILES {
                return Err(broken(&doing, format!("it has more than {MOST_FILES} files")));
            }
            let link = headers.get(LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
            let Some(next) = link else { return Ok(files) };
            // Mirrors pass on the hub's own address: who was asked for the first page is asked for the next.
            let next = url.join(next).ok();
            let place = next.as_ref().and_then(Url::query);
            let place = place.ok_or_else(|| broken(&doing, "the next page has no address".into()))?;
            url.set_query(Some(place));
        }
        Err(broken(&doing, format!("the listing has more than {MOST_PAGES} pages")))
    }

    /// Chat models with ONNX files whose name has `words`, the most fetched first.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub async fn search(&self, words: &str, most: usize) -> Result<Vec<SearchHit>> {
        let doing = format!("search for `{words}`");
        let mut url: Url = self.transport().options()?.endpoint.below(["api", "models"]);
        url.query_pairs_mut()
            .append_pair("search", words)
            .append_pair("filter", "onnx")
            .append_pair("pipeline_tag", "text-generation")
            .append_pair("sort", "downloads")
            .append_pair("limit", &most.min(MOST_HITS).to_string());
        let asked = self.transport().json(&doing, url, Purpose::Search, LARGEST_ANSWER);
        let (_, hits): (_, Bounded<HitAnswer>) = asked.await?;
        // An id that is none could only mislead.
        let readable = hits.0.into_iter().filter_map(|hit| Some((RepositoryId::parse(&hit.id).ok()?, hit)));
        let hits = readable.map(|(id, hit)| SearchHit {
            id,
            licence: tagged(&hit.tags, "license:"),
            downloads: hit.downloads,
            likes: hit.likes,
            gated: is_gated(hit.gated),
        });
        Ok(hits.take(most.min(MOST_HITS)).collect())
    }
}

fn file(doing: &str, entry: TreeAnswer) -> Result<RepositoryFile> {
    let digest = match &entry.lfs {
        // For a large file `oid` is that of a pointer to it.
        Some(large) => Digest::sha256(&large.oid),
        None => Digest::git_sha1(&entry.oid),
    };
    let size = entry.lfs.map_or(entry.size, |large| large.size);
    match digest {
        Ok(digest) => Ok(RepositoryFile { path: entry.path, size, digest }),
        Err(_) => Err(broken(doing, format!("the listing has no digest of `{}`", entry.path))),
    }
}

fn tagged(tags: &[String], name: &str) -> Option<String> {
    tags.iter().find_map(|tag| tag.strip_prefix(name)).map(str::to_owned)
}

/// What is known of a part that may have any form; nothing where it has another.
fn known<T: Default>(part: Option<AnyForm<T>>) -> T {
    match part {
        Some(AnyForm::Known(value)) => value,
        Some(AnyForm::Other(_)) | None => T::default(),
    }
}

/// `false`, or `"auto"` and `"manual"`.
fn is_gated(gated: Option<AnyForm<Gate>>) -> bool {
    match known(gated) {
        Gate::Is(gated) => gated,
        Gate::By(whom) => !whom.is_empty(),
    }
}

/// The address behind `<…>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        parameters.contains("rel=\"next\"").then_some(address)
    })
}

fn broken(doing: &str, reason: String) -> Error {
    Error::Hub { doing: doing.into(), kind: HubFailure::Protocol, reason: reason.into() }
}
