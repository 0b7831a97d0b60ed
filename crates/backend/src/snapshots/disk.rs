//! How much of the disk blocks may take.

use std::io;
use std::path::Path;

/// The most that blocks take where nobody says otherwise: this many bytes, or this share of the free disk.
const MOST_BYTES: u64 = 2_000_000_000;
const SHARE_OF_FREE_DISK: u64 = 20;
/// Free bytes that blocks never take: conversations need them, and blocks are only read again.
const RESERVE: u64 = 500 << 20;

/// Tells the free bytes of a folder's file system.
type Probe = dyn Fn(&Path) -> io::Result<u64> + Send;

/// The disk that blocks lie on.
pub struct Disk(Box<Probe>);

impl Default for Disk {
    /// The disk as the system tells of it.
    fn default() -> Self {
        Self::with_free(|folder| fs4::available_space(folder))
    }
}

impl Disk {
    /// A disk of which `free` tells the free bytes around a folder.
    pub fn with_free(free: impl Fn(&Path) -> io::Result<u64> + Send + 'static) -> Self {
        Self(Box::new(free))
    }

    /// The budget of blocks in `folder` that take `bytes` already: those are not lost to them.
    pub(super) fn default_budget(&self, folder: &Path, bytes: u64) -> u64 {
        // Where the system does not tell, the reserve does not hold either, and a full disk says so itself.
        (self.0)(folder)
            .map_or(MOST_BYTES, |free| MOST_BYTES.min(free.saturating_add(bytes) / SHARE_OF_FREE_DISK))
    }

    /// Whether `bytes` more leave the reserve alone.
    pub(super) fn has_room(&self, folder: &Path, bytes: u64) -> bool {
        (self.0)(folder).map_or(true, |free| free >= bytes.saturating_add(RESERVE))
    }
}
