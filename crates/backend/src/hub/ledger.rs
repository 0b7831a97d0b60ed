//! The network ledger: every request that left this machine, readable by its user.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The newer of the two files is put in the place of the older one at this size.
const LARGEST_FILE: u64 = 1 << 20;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// Repositories were sought by name.
    Search,
    /// A repository's commit, licence and conditions.
    Repository,
    /// The files of a repository.
    FileList,
    /// A file of a model.
    ModelFile,
    /// A list of models, which the user had refreshed.
    Catalog,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub id: Uuid,
    pub time: Timestamp,
    pub host: String,
    pub purpose: Purpose,
    /// Bytes of the answer's body; `None` where the program ended before it did.
    pub bytes: Option<u64>,
}

/// A line of the file: a request that left, or what came of one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Sent { id: Uuid, time: Timestamp, host: String, purpose: Purpose },
    Ended { id: Uuid, bytes: u64 },
}

/// The list of requests, in two files of bounded size in the user data folder.
#[derive(Debug, Clone)]
pub struct NetworkLedger {
    newer: PathBuf,
    older: PathBuf,
    lock: PathBuf,
}

impl NetworkLedger {
    /// The ledger in the folder `data`.
    pub fn new(data: &Path) -> Self {
        Self {
            newer: data.join("network.jsonl"),
            older: data.join("network.older.jsonl"),
            lock: data.join("network.lock"),
        }
    }

    /// The requests that are remembered, the oldest first. Lines that cannot be read are left out.
    pub fn entries(&self) -> Vec<LedgerEntry> {
        let mut entries: Vec<LedgerEntry> = Vec::new();
        for path in [&self.older, &self.newer] {
            let Ok(file) = File::open(path) else { continue };
            // Bytes and not texts: one line that is none must not hide those after it.
            let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
            for line in lines.filter_map(|line| serde_json::from_slice(&line).ok()) {
                match line {
                    Line::Sent { id, time, host, purpose } => {
                        entries.push(LedgerEntry { id, time, host, purpose, bytes: None });
                    }
                    Line::Ended { id, bytes } => {
                        // The end of a request stands close behind its beginning.
                        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.id == id) {
                            entry.bytes = Some(bytes);
                        }
                    }
                }
            }
        }
        entries
    }

    /// Notes that a request leaves now. What is dropped notes its end.
    pub(crate) fn begin(&self, host: &str, purpose: Purpose) -> OpenEntry {
        let id = Uuid::new_v4();
        self.append(&Line::Sent { id, time: Timestamp::now(), host: host.to_owned(), purpose });
        OpenEntry { ledger: self.clone(), id, bytes: 0 }
    }

    fn append(&self, line: &Line) {
        if let Err(error) = self.try_append(line) {
            // Without room for the ledger a download goes on: the part that it has must not be lost.
            tracing::warn!(%error, "the network ledger cannot be written");
        }
    }

    fn try_append(&self, line: &Line) -> std::io::Result<()> {
        if let Some(folder) = self.newer.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Several programs may share the folder.
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&self.lock)?;
        // Some network file systems know no locks: a line is one write, and is appended all the same.
        lock.lock().ok();
        if std::fs::metadata(&self.newer).is_ok_and(|newer| newer.len() >= LARGEST_FILE) {
            // Where somebody reads the older one it cannot be replaced now: a larger file is better than a lost line.
            std::fs::rename(&self.newer, &self.older).ok();
        }
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&self.newer)?;
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        if ends_within_a_line(&mut file) {
            text.insert(0, '\n');
        }
        file.write_all(text.as_bytes())
    }
}

/// Whether a program ended, or the disk filled, in the middle of the last line.
fn ends_within_a_line(file: &mut File) -> bool {
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).is_ok() && file.read_exact(&mut last).is_ok() && last != [b'\n']
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    ledger: NetworkLedger,
    id: Uuid,
    bytes: u64,
}

impl OpenEntry {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        self.ledger.append(&Line::Ended { id: self.id, bytes: self.bytes });
    }
}
