//! A list of models that the user had fetched, used beside the one that is compiled in.

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, CatalogEntry};
use crate::error::{Error, Result};
use crate::hub::{Endpoint, Hub, Purpose};
use crate::settings::write_json;
use crate::store::files::read_bounded;

/// Bytes of a list; the one that is compiled in has about 30,000.
const LARGEST: usize = 1 << 20;
/// With what is noted beside it, and spaces that its server did not send.
const LARGEST_FILE: u64 = 4 << 20;
const FORMAT: u32 = 1;

/// A list of models from a server of the user's choice, and when it came. Nobody tried its models with Hearth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshedCatalog {
    format: u32,
    /// The address that it came from.
    pub source: String,
    pub refreshed: Timestamp,
    pub(crate) catalog: Catalog,
}

impl RefreshedCatalog {
    /// Fetches the list at `address` and keeps it at `path`, in the place of an earlier one. Asked for by the user
    /// each time.
    ///
    /// # Errors
    /// [`Error::Hub`], [`Error::CatalogRefused`], [`Error::DataFolder`]; the earlier one stays.
    pub(crate) async fn fetch(hub: &Hub, address: &str, path: &Path) -> Result<Self> {
        let endpoint = Endpoint::of_catalog(address)?;
        let doing = format!("fetch the list of models from `{}`", host_of(&endpoint));
        let text = hub.transport().text(&doing, &endpoint, Purpose::Catalog, LARGEST).await?;
        let refused = |reason: String| Error::CatalogRefused {
            address: endpoint.url().as_str().into(),
            reason: reason.into(),
        };
        let text = std::str::from_utf8(&text).map_err(|_| refused("it is no UTF-8 text".into()))?;
        let catalog = Catalog::read(text).map_err(|error| refused(error.to_string()))?;
        let refreshed = Self {
            format: FORMAT,
            source: endpoint.url().as_str().to_owned(),
            refreshed: Timestamp::now(),
            catalog,
        };
        refreshed.check().map_err(refused)?;
        write_json(path, &refreshed)?;
        Ok(refreshed)
    }

    /// The list at `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Library`] for one that cannot be read or is no longer what was written.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let failed = |reason: String| Error::Library {
            doing: "use the refreshed list of models in",
            path: path.into(),
            reason: reason.into(),
        };
        let text = match read_bounded(path, LARGEST_FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let refreshed: Self = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if refreshed.format != FORMAT {
            return Err(failed(format!("its format {} is of another version of Hearth", refreshed.format)));
        }
        refreshed.catalog.check().map_err(|error| failed(error.to_string()))?;
        refreshed.check().map_err(failed)?;
        Ok(Some(refreshed))
    }

    /// Removes the list at `path`; the one that is compiled in is left.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub(crate) fn remove(path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::Library {
                doing: "remove the refreshed list of models in",
                path: path.into(),
                reason: error.to_string().into(),
            }),
            _ => Ok(()),
        }
    }

    /// The server that it came from.
    pub fn host(&self) -> String {
        Endpoint::of_catalog(&self.source).map_or_else(|_| self.source.clone(), |source| host_of(&source))
    }

    /// How many models it has.
    pub fn len(&self) -> usize {
        self.catalog.entries().len()
    }

    /// Whether it has none, which no list is kept for.
    pub fn is_empty(&self) -> bool {
        self.catalog.entries().is_empty()
    }

    /// The entries that the catalogue of this build has not. What it knows of a commit stands.
    pub(crate) fn beyond<'l>(&'l self, built_in: &'l Catalog) -> impl Iterator<Item = &'l CatalogEntry> {
        let is_new = |entry: &&CatalogEntry| {
            !built_in
                .entries()
                .iter()
                .any(|known| known.installed_id().eq_ignore_ascii_case(&entry.installed_id()))
        };
        self.catalog.entries().iter().filter(is_new)
    }

    /// What is asked of a list from outside beyond the checks of every catalogue.
    fn check(&self) -> Result<(), String> {
        if self.is_empty() {
            return Err("it has no models".into());
        }
        for entry in self.catalog.entries() {
            let CatalogEntry { id, title, parameters, licence, base_model, base_licence, notes, .. } = entry;
            let texts =
                [id, title, parameters, base_model, base_licence].into_iter().chain(licence).chain(notes);
            for text in texts {
                // They are shown, in a terminal too.
                if text.chars().any(char::is_control) {
                    return Err(format!(
                        "a text of its model `{}` has control characters",
                        entry.id.escape_debug()
                    ));
                }
            }
        }
        Ok(())
    }
}

fn host_of(endpoint: &Endpoint) -> String {
    endpoint.url().host_str().unwrap_or_default().to_owned()
}
