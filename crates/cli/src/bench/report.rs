//! What was measured, as JSON and in words.

use backend::Memory;
use serde::Serialize;

use crate::models::bytes;
use crate::print::Printer;

/// What was measured, with the settings that it holds for.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "bench")]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) graph: String,
    pub(super) kv_backend: String,
    pub(super) provider: String,
    pub(super) runtime_version: Option<String>,
    pub(super) threads: usize,
    pub(super) prompt: usize,
    pub(super) new: usize,
    pub(super) seed: u64,
    pub(super) depths: Vec<AtDepth>,
    pub(super) chat: Option<Chat>,
    pub(super) load_seconds: f64,
    pub(super) memory: Vec<MemoryAfter>,
    /// The most resident memory of the process until the end of the last run.
    pub(super) peak_memory_bytes: u64,
    /// The CPU time of a second in which nothing was asked, as a share of one core.
    pub(super) idle_cpu_share: f64,
}

/// Medians of the runs behind one depth, and the runs.
#[derive(Debug, Serialize)]
pub(super) struct AtDepth {
    /// The tokens in the KV cache before each run.
    pub(super) depth: usize,
    pub(super) prefill_tokens_per_second: f64,
    pub(super) decode_tokens_per_second: f64,
    pub(super) runs: Vec<Measured>,
}

/// One measured run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Measured {
    pub(super) prefill_seconds: f64,
    pub(super) decode_seconds: f64,
    pub(super) prefill_tokens_per_second: f64,
    pub(super) decode_tokens_per_second: f64,
    pub(super) drafted_tokens: usize,
    pub(super) accepted_tokens: usize,
}

/// A chat whose every turn reads `read` tokens and writes `new`.
#[derive(Debug, Serialize)]
pub(super) struct Chat {
    pub(super) read: usize,
    pub(super) new: usize,
    pub(super) turns: Vec<Turn>,
}

/// One turn: the median of as many chats as there are runs.
#[derive(Debug, Serialize)]
pub(super) struct Turn {
    pub(super) turn: usize,
    /// The tokens in the KV cache before it.
    pub(super) history: usize,
    pub(super) first_token_seconds: f64,
}

/// Memory of the process after one part of the measurement, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct MemoryAfter {
    pub(super) after: String,
    pub(super) resident: u64,
    /// The most until then.
    pub(super) peak: u64,
}

impl MemoryAfter {
    pub(super) fn now(after: &str) -> Self {
        let Memory { resident, peak_resident, .. } = Memory::now();
        Self { after: after.to_owned(), resident, peak: peak_resident }
    }
}

impl Measured {
    pub(super) fn tell(&self, number: usize, depth: usize, printer: &mut Printer) {
        if printer.is_json() {
            #[derive(Serialize)]
            #[serde(tag = "type", rename = "run")]
            struct Line {
                number: usize,
                depth: usize,
                #[serde(flatten)]
                measured: Measured,
            }
            return printer.json_line(&Line { number, depth, measured: *self });
        }
        let Self { prefill_tokens_per_second, decode_tokens_per_second, .. } = self;
        let mut line = format!(
            "run {number} at depth {depth}: prefill {prefill_tokens_per_second:.1} tokens/s, \
             decode {decode_tokens_per_second:.1} tokens/s"
        );
        if self.drafted_tokens > 0 {
            line += &format!(", {} of {} drafted tokens accepted", self.accepted_tokens, self.drafted_tokens);
        }
        printer.line(&line);
    }
}

impl Chat {
    pub(super) fn tell(&self, printer: &mut Printer) {
        if printer.is_json() {
            return;
        }
        if let [first, .., last] = self.turns.as_slice() {
            printer.line(&format!(
                "chat: first token after {:.0} ms in turn {}, {:.0} ms in turn {} behind {} tokens",
                first.first_token_seconds * 1e3,
                first.turn,
                last.first_token_seconds * 1e3,
                last.turn,
                last.history
            ));
        }
    }
}

impl Report {
    pub(super) fn tell(&self, printer: &mut Printer) {
        if printer.is_json() {
            return printer.json_line(self);
        }
        let Self { model, graph, prompt, new, threads, kv_backend, .. } = self;
        printer.line(&format!(
            "{model} ({graph}): prompt {prompt}, new {new}, threads {threads}, KV {kv_backend}"
        ));
        for at in &self.depths {
            let AtDepth { depth, prefill_tokens_per_second, decode_tokens_per_second, .. } = at;
            printer.line(&format!(
                "median at depth {depth}: prefill {prefill_tokens_per_second:.1} tokens/s, \
                 decode {decode_tokens_per_second:.1} tokens/s"
            ));
        }
        printer.line(&format!(
            "load {:.2} s, peak memory {}, CPU at rest {:.1} %",
            self.load_seconds,
            bytes(self.peak_memory_bytes),
            self.idle_cpu_share * 100.0
        ));
    }
}

/// The value in the middle, the upper one of two.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
