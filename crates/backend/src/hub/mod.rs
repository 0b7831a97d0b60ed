//! A hub of models, as a client that verifies: repositories, their files and digests, and the bytes.
//!
//! Every request leaves through `transport`, which knows the offline switch and the token, follows redirects
//! itself, and writes the [`NetworkLedger`]. `names` and `digest` turn what a server says into values that
//! cannot be misused, `link` what users paste; `repository` reads the answers; `failure` names what was refused.

mod digest;
mod endpoint;
mod failure;
mod ledger;
mod link;
mod names;
mod repository;
mod timing;
mod transport;

use std::sync::Arc;

pub use digest::{Digest, FileHasher};
pub(crate) use endpoint::Endpoint;
pub use endpoint::{NetworkOptions, NetworkSettings};
pub use failure::HubFailure;
pub use ledger::{LedgerEntry, NetworkLedger, Purpose};
pub use link::RepositoryLink;
pub(crate) use names::is_own_file;
pub use names::{Commit, RepositoryId, check_path, check_paths, is_model_file};
pub use repository::{Repository, RepositoryFile, SearchHit};
pub use timing::Timing;
use transport::LONGEST_LOOK;
pub(crate) use transport::{Answer, Transport};

use crate::error::{Error, Result};
use crate::token::AccessToken;

/// Bytes of a file that is read at once.
const LARGEST_TEXT: u64 = 1 << 20;

/// A hub, or a mirror of one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Transport>);

impl Hub {
    /// The hub that `options` name. No request leaves yet.
    pub fn new(options: NetworkOptions, ledger: NetworkLedger, timing: Timing) -> Self {
        Self::settled(Ok(options), ledger, timing, AccessToken::absent())
    }

    /// The same, where the options may name an address that may not be asked: what needs no request goes on, and
    /// every request ends in that error.
    ///
    /// `access` goes along to the hub alone.
    pub(crate) fn settled(
        options: Result<NetworkOptions>,
        ledger: NetworkLedger,
        timing: Timing,
        access: AccessToken,
    ) -> Self {
        Self(Arc::new(Transport::new(options, timing, ledger, access)))
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0
    }

    /// Begins the body of a file at byte `start`. Any status is an answer.
    pub(crate) async fn file(
        &self,
        id: &RepositoryId,
        commit: &Commit,
        path: &str,
        start: u64,
    ) -> Result<Answer> {
        let parts = [id.owner(), id.name(), "resolve", commit.as_str()];
        let url = self.0.options()?.endpoint.below(parts.into_iter().chain(path.split('/')));
        self.0.get(&format!("fetch `{path}` of `{id}`"), url, Purpose::ModelFile, start).await
    }

    /// The whole of a small file, compared with its digest. Somebody waits for it: it comes soon or not at all.
    ///
    /// # Errors
    /// [`Error::Hub`], also for one of more than 1 MiB; [`Error::WrongFile`].
    pub(crate) async fn text(
        &self,
        id: &RepositoryId,
        commit: &Commit,
        file: &RepositoryFile,
    ) -> Result<Vec<u8>> {
        let fetched = async {
            let mut answer = self.file(id, commit, &file.path, 0).await?;
            if !answer.status.is_success() {
                return Err(answer.failure());
            }
            let mut text = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                text.extend_from_slice(chunk.as_ref());
                if text.len() as u64 > file.size.min(LARGEST_TEXT) {
                    return Err(
                        answer.broken("the file is longer than the listing says, or than such files are")
                    );
                }
            }
            Ok(text)
        };
        let text = match tokio::time::timeout(LONGEST_LOOK, fetched).await {
            Ok(text) => text?,
            Err(_) => {
                let doing = format!("fetch `{}` of `{id}`", file.path);
                let reason = "the answer does not end".into();
                return Err(Error::Hub { doing: doing.into(), kind: HubFailure::Unreachable, reason });
            }
        };
        let mut hasher = FileHasher::like(&file.digest, file.size);
        hasher.update(&text);
        let found = hasher.finish();
        if found != file.digest {
            return Err(Error::WrongFile {
                file: file.path.as_str().into(),
                expected: file.digest.to_string().into(),
                found: found.to_string().into(),
            });
        }
        Ok(text)
    }

    /// Reads what a user named: `owner/name`, or a link to a repository at this hub.
    ///
    /// # Errors
    /// As [`RepositoryLink::parse`].
    pub fn link(&self, text: &str) -> Result<RepositoryLink> {
        let options = self.0.options().ok();
        let endpoint = options.and_then(|options| reqwest::Url::parse(options.endpoint()).ok());
        let host = endpoint.as_ref().map(|endpoint| endpoint.authority().to_owned());
        RepositoryLink::parse(text, host.as_deref())
    }
}
