//! A hub of models, as a client that verifies: repositories, their files and digests, and the bytes.
//!
//! Every request leaves through `transport`, which knows the offline switch and the token, follows redirects
//! itself, and writes the [`NetworkLedger`]. `names` and `digest` turn what a server says into values that
//! cannot be misused; `repository` reads the answers; `failure` names what was refused.

mod digest;
mod endpoint;
mod failure;
mod ledger;
mod names;
mod repository;
mod timing;
mod transport;

use std::sync::Arc;

pub use digest::{Digest, FileHasher};
pub use endpoint::{NetworkOptions, NetworkSettings};
pub use failure::HubFailure;
pub use ledger::{LedgerEntry, NetworkLedger, Purpose};
pub(crate) use names::is_own_file;
pub use names::{Commit, RepositoryId, check_path, check_paths, is_model_file};
pub use repository::{Repository, RepositoryFile, SearchHit};
pub use timing::Timing;
pub(crate) use transport::{Answer, Transport};

use crate::error::Result;

/// A hub, or a mirror of one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Transport>);

impl Hub {
    /// The hub that `options` name. No request leaves yet.
    pub fn new(options: NetworkOptions, ledger: NetworkLedger, timing: Timing) -> Self {
        Self::settled(Ok(options), ledger, timing)
    }

    /// The same, where the options may name an address that may not be asked: what needs no request goes on, and
    /// every request ends in that error.
    pub(crate) fn settled(options: Result<NetworkOptions>, ledger: NetworkLedger, timing: Timing) -> Self {
        Self(Arc::new(Transport::new(options, timing, ledger)))
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
}
