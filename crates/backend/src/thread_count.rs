//! How many threads a model gets: measured once per machine, the better of two numbers.
//!
//! Reading is bound by arithmetic and wants every core; writing is bound by memory, which few cores may
//! already fill. No file of the system tells which it is, so the first large model is loaded with as many
//! threads as there are performance cores, then with half of them, and both write a few tokens.

use std::path::Path;

use engine::{LoadOptions, LoadedModel, Request, Sampling, TokenId};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::inference::{Inference, Update};
use crate::settings::write_json;
use crate::store::ModelFolder;
use crate::system;

/// Models whose files have fewer bytes say nothing: their weights stay in the processor's caches.
pub(crate) const LEAST_MODEL_BYTES: u64 = 100_000_000;
const PROMPT_TOKENS: usize = 16;
const NEW_TOKENS: usize = 24;
/// A temperature at which every token is about as likely as any other.
const CHANCE: f32 = 100.0;
/// How much faster more threads must write to be worth their cores.
const LEAST_GAIN: f64 = 1.03;

/// What was measured: `machine.json` in the data folder. Lost, it is measured again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadSpeeds {
    /// The performance cores that the machine had.
    cores: usize,
    speeds: Vec<Speed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Speed {
    threads: usize,
    tokens_per_second: f64,
}

impl ThreadSpeeds {
    /// Reads what was measured on this machine as it is now.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let known: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (known.cores == system::threads() && !known.speeds.is_empty()).then_some(known)
    }

    /// The number of threads that wrote fastest; the smaller of two that are about as fast.
    pub(crate) fn best(&self) -> usize {
        let mut speeds = self.speeds.clone();
        speeds.sort_by_key(|speed| speed.threads);
        let mut best = speeds.first().copied();
        for speed in speeds {
            if best.is_some_and(|best| speed.tokens_per_second > best.tokens_per_second * LEAST_GAIN) {
                best = Some(speed);
            }
        }
        best.map_or_else(system::threads, |best| best.threads)
    }

    /// Loads the model with one number of threads after the other, and leaves it loaded with the best. Where it is
    /// no longer wanted nothing more is measured, and it stays loaded as it is.
    pub(crate) async fn measure(
        inference: &Inference,
        folder: &ModelFolder,
        options: &LoadOptions,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(Option<Self>, LoadedModel)> {
        let cores = system::threads();
        let mut known = Self { cores, speeds: Vec::new() };
        let with = |threads: usize| LoadOptions { threads: Some(threads), ..options.clone() };
        let mut loaded = inference.load(folder.clone(), with(cores)).await?;
        let mut current = cores;
        let mut candidates = vec![cores];
        if cores > 1 {
            candidates.push(cores / 2);
        }
        for threads in candidates {
            if !is_wanted() {
                return Ok((None, loaded));
            }
            if current != threads {
                loaded = inference.load(folder.clone(), with(threads)).await?;
                current = threads;
            }
            let tokens_per_second = writing_speed(inference, loaded.spec.vocabulary_size).await?;
            tracing::info!(threads, tokens_per_second, "measured a number of threads");
            known.speeds.push(Speed { threads, tokens_per_second });
        }
        let best = known.best();
        if current != best {
            loaded = inference.load(folder.clone(), with(best)).await?;
        }
        Ok((Some(known), loaded))
    }

    /// # Errors
    /// [`crate::Error::DataFolder`].
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }
}

/// Tokens per second of one short reply to tokens that mean nothing.
async fn writing_speed(inference: &Inference, vocabulary: usize) -> Result<f64> {
    let prompt = (0..PROMPT_TOKENS).map(|place| (place * 37 % vocabulary.max(1)) as TokenId).collect();
    let mut running = inference.generate(Request {
        prompt,
        continued: 0,
        // A text of chance does not repeat itself, so no draft takes or saves time in one measurement and not in
        // the other.
        sampling: Sampling { temperature: CHANCE, seed: Some(0), ..Sampling::default() },
        max_new_tokens: NEW_TOKENS,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    });
    let finish = loop {
        if let Update::Finished(finish) = running.next().await? {
            break finish;
        }
    };
    inference.forget().await?;
    let seconds = finish.usage.decode_seconds.max(f64::MIN_POSITIVE);
    Ok(finish.usage.new_tokens as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(speeds: &[(usize, f64)]) -> usize {
        let speeds =
            speeds.iter().map(|&(threads, tokens_per_second)| Speed { threads, tokens_per_second }).collect();
        ThreadSpeeds { cores: 8, speeds }.best()
    }

    #[test]
    fn more_threads_must_be_worth_their_cores() {
        assert_eq!(best(&[(8, 60.0), (4, 40.0)]), 8);
        assert_eq!(best(&[(8, 40.0), (4, 60.0)]), 4);
        assert_eq!(best(&[(8, 60.5), (4, 60.0)]), 4, "they are about as fast");
    }
}
