//! How long to wait for a server, and how often to ask again.

use std::time::Duration;

/// The patience of a connection. Tests bring a shorter one.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the head of an answer came.
    pub answer: Duration,
    /// A body has stalled when fewer than `stall_bytes` came within this time.
    pub stall: Duration,
    pub stall_bytes: u64,
    /// Between the first two tries; doubled each time.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// The longest wait that a server may ask for. What asks for more is an error that says so.
    pub longest_wait: Duration,
    /// Tries without progress.
    pub tries: u32,
    /// Bytes of progress that make the tries count anew.
    pub progress: u64,
    /// After the tries are used up and the connection was lost in the middle of a file: ask again this often, for
    /// ever. `None` gives up.
    pub probe: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            stall_bytes: 1024,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            longest_wait: Duration::from_secs(600),
            tries: 8,
            progress: 1 << 20,
            probe: Some(Duration::from_secs(30)),
        }
    }
}

impl Timing {
    /// The pause before try number `tried` + 1, shortened or lengthened by up to a half: many programs that
    /// lost the same server must not come back at the same moment.
    pub(crate) fn pause(&self, tried: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << tried.saturating_sub(1).min(16));
        let spread = uuid::Uuid::new_v4().as_u128() % 1000;
        doubled.min(self.longest_pause).mul_f64(0.5 + spread as f64 / 1000.0)
    }
}
