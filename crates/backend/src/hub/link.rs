//! Links to repositories, as users paste them.

use super::names::RepositoryId;
use crate::error::{Error, Result};

/// Whose pages a link may lead to, beside those of the mirror that is asked.
const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];
/// What stands before a revision in the address of a page or file.
const BEFORE_REVISION: [&str; 5] = ["tree", "blob", "resolve", "raw", "commit"];
/// What a hub has beside models, under the first part of an address.
const NO_MODELS: [&str; 5] = ["datasets", "spaces", "collections", "papers", "api"];

/// What a user named: a repository, and the commit, branch or tag that a link to it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryLink {
    pub id: RepositoryId,
    pub revision: Option<String>,
}

impl RepositoryLink {
    /// Reads `owner/name`, `hf://owner/name`, or a link to a repository's page or to one of its files. `mirror` is the
    /// host (and port) that is asked in the place of the hub.
    ///
    /// # Errors
    /// [`Error::Name`], also for a link to another host: what lies there under the same name may be anybody's.
    pub fn parse(text: &str, mirror: Option<&str>) -> Result<Self> {
        let refused = |reason: String| Error::Name { name: text.to_owned(), reason };
        let trimmed = text.trim();
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return Ok(Self { id: RepositoryId::parse(trimmed)?, revision: None });
        };
        let path = match scheme {
            "hf" => rest,
            "https" | "http" => {
                let (host, path) =
                    rest.split_once('/').ok_or_else(|| refused("the link names no repository".into()))?;
                let is_host = |known: &str| known.eq_ignore_ascii_case(host);
                if !HOSTS.iter().copied().chain(mirror).any(is_host) {
                    let reason =
                        format!("it leads to `{host}`, and models come from the hub; name one `owner/name`");
                    return Err(refused(reason));
                }
                path
            }
            _ => return Err(refused("it is no link to a web page".into())),
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (Some(owner), Some(name)) = (segments.next(), segments.next()) else {
            return Err(refused("the link names no repository".into()));
        };
        if NO_MODELS.contains(&owner) {
            return Err(refused("it leads to something else than a model".into()));
        }
        let id = RepositoryId::parse(&format!("{owner}/{name}"))?;
        let revision = segments.next().filter(|word| BEFORE_REVISION.contains(word)).and(segments.next());
        match revision {
            // A branch with a slash in its name; its encoding would be encoded again.
            Some(revision) if revision.contains('%') => Err(refused(format!(
                "the revision `{revision}` cannot be read out of a link; name its commit"
            ))),
            revision => Ok(Self { id, revision: revision.map(str::to_owned) }),
        }
    }
}
