//! How far a download is, told at most ten times a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Between two tellings of the same phase.
const INTERVAL: Duration = Duration::from_millis(100);
/// The time over which the speed is averaged.
const SPEED_SECONDS: f64 = 3.0;

/// What a download does now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum DownloadPhase {
    /// What is there from before is read again.
    Checking,
    Downloading,
    /// Nothing comes; the next try is in so many seconds.
    Waiting {
        seconds: f64,
        reason: String,
    },
    /// All bytes are there and right; the graph is checked and the model put in its place.
    Installing,
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadProgress {
    #[serde(flatten)]
    pub phase: DownloadPhase,
    /// Bytes of the model that are on the disk.
    pub done: u64,
    /// Bytes of the model.
    pub total: u64,
    pub bytes_per_second: f64,
    /// `None` while nothing comes.
    pub seconds_left: Option<f64>,
}

impl DownloadProgress {
    /// What is there of `total` bytes is read.
    pub(super) fn checking(total: u64) -> Self {
        Self { phase: DownloadPhase::Checking, done: 0, total, bytes_per_second: 0.0, seconds_left: None }
    }
}

/// Adds up what the files of a download have.
pub(super) struct Meter<'t> {
    state: Mutex<State<'t>>,
}

struct State<'t> {
    tell: Box<dyn FnMut(DownloadProgress) + Send + 't>,
    phase: DownloadPhase,
    files: Vec<u64>,
    total: u64,
    speed: f64,
    /// Bytes that came since the speed was last computed.
    fresh: u64,
    told: Instant,
}

impl<'t> Meter<'t> {
    pub(super) fn new(files: usize, total: u64, tell: impl FnMut(DownloadProgress) + Send + 't) -> Self {
        Self {
            state: Mutex::new(State {
                tell: Box::new(tell),
                phase: DownloadPhase::Checking,
                files: vec![0; files],
                total,
                speed: 0.0,
                fresh: 0,
                told: Instant::now(),
            }),
        }
    }

    /// File number `file` has `bytes` on the disk.
    pub(super) fn set(&self, file: usize, bytes: u64) {
        self.state().files[file] = bytes;
    }

    /// `bytes` more of file number `file` came.
    pub(super) fn came(&self, file: usize, bytes: u64) {
        let mut state = self.state();
        state.files[file] += bytes;
        state.fresh += bytes;
        let was_waiting = state.phase != DownloadPhase::Downloading;
        state.phase = DownloadPhase::Downloading;
        state.tell(was_waiting);
    }

    /// Time went by.
    pub(super) fn tick(&self) {
        self.state().tell(false);
    }

    pub(super) fn phase(&self, phase: DownloadPhase) {
        let mut state = self.state();
        let is_new = state.phase != phase;
        state.phase = phase;
        state.tell(is_new);
    }

    fn state(&self) -> MutexGuard<'_, State<'t>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State<'_> {
    fn tell(&mut self, at_once: bool) {
        let elapsed = self.told.elapsed();
        if !at_once && elapsed < INTERVAL {
            return;
        }
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let weight = 1.0 - (-seconds / SPEED_SECONDS).exp();
        self.speed += weight * (self.fresh as f64 / seconds - self.speed);
        self.fresh = 0;
        self.told = Instant::now();
        let done: u64 = self.files.iter().sum();
        let left = self.total.saturating_sub(done);
        let is_coming = self.speed >= 1.0 && self.phase == DownloadPhase::Downloading;
        (self.tell)(DownloadProgress {
            phase: self.phase.clone(),
            done,
            total: self.total,
            bytes_per_second: if is_coming { self.speed } else { 0.0 },
            seconds_left: is_coming.then(|| left as f64 / self.speed),
        });
    }
}
