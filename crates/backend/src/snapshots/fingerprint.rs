//! What two models must have in common for one to go on from rows of the other.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use engine::{KvLayout, LoadedModel};

use super::block_file::FORMAT_VERSION;

/// Up to this size a file is read whole.
const READ_WHOLE: u64 = 64 << 20;
/// What is read of larger ones, at both ends.
const READ_OF_LARGER: u64 = 1 << 20;

/// A digest over all that decides which numbers a model computes: its files, the runtime's release, the
/// provider, how rows are kept, and this program's release, which feeds it.
///
/// The number of threads is not part of it. It may change how a sum is rounded, as the lengths of passes do,
/// and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of the model in `folder` as it was loaded.
    ///
    /// # Errors
    /// A file of the model that cannot be read any longer.
    pub fn of(folder: &Path, loaded: &LoadedModel, layout: &KvLayout) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            // With its length, so that no two lists of parts run together to the same bytes.
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        };
        add(&FORMAT_VERSION.to_le_bytes());
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(std::env::consts::ARCH.as_bytes());
        add(loaded.runtime_version.as_deref().unwrap_or_default().as_bytes());
        add(format!("{}, {}", loaded.spec.execution_provider, loaded.spec.kv_backend).as_bytes());
        add(&serde_json::to_vec(layout)?);
        let graph = folder.join(&loaded.graph);
        add(&file_digest(&graph)?);
        for name in &loaded.weight_files {
            add(name.as_bytes());
            add(&file_digest(&graph.with_file_name(name))?);
        }
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// A fingerprint of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint that [`std::fmt::Display`] wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// A digest of a file: of all its bytes, or where that would take long of its size, the time of its last
/// change and both of its ends.
fn file_digest(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut hasher = blake3::Hasher::new();
    if metadata.len() <= READ_WHOLE {
        hasher.update_reader(&mut file)?;
    } else {
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        hasher.update(&metadata.len().to_le_bytes()).update(&changed.as_nanos().to_le_bytes());
        hasher.update_reader(Read::by_ref(&mut file).take(READ_OF_LARGER))?;
        file.seek(SeekFrom::Start(metadata.len() - READ_OF_LARGER))?;
        hasher.update_reader(file.take(READ_OF_LARGER))?;
    }
    Ok(*hasher.finalize().as_bytes())
}
