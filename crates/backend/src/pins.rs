//! Whether the hub still has what the catalogue pins: maintenance, before a release.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, PinDifference};
use crate::error::Error;
use crate::hub::{Hub, RepositoryFile};

/// What a hub says of the models of a catalogue.
#[derive(Debug, Default)]
pub struct Pins {
    /// The files at the pinned commit, by entry.
    pub listings: BTreeMap<String, Vec<RepositoryFile>>,
    /// Where the hub says something else, by entry.
    pub differences: Vec<(String, PinDifference)>,
    /// Entries that could not be looked up.
    pub failures: Vec<(String, Error)>,
}

impl Pins {
    /// Lists the files of every entry at its commit, and compares.
    pub async fn of(catalog: &Catalog, hub: &Hub) -> Self {
        let mut pins = Self::default();
        for entry in catalog.entries() {
            match hub.files(&entry.repository, &entry.commit).await {
                Ok(listing) => {
                    let differences = entry.compare(&listing).into_iter();
                    pins.differences.extend(differences.map(|difference| (entry.id.clone(), difference)));
                    pins.listings.insert(entry.id.clone(), listing);
                }
                Err(error) => pins.failures.push((entry.id.clone(), error)),
            }
        }
        pins
    }

    /// Whether everything was found as it is pinned.
    pub fn are_right(&self) -> bool {
        self.differences.is_empty() && self.failures.is_empty()
    }
}
