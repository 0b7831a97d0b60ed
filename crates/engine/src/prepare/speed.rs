//! Measures the original and the result in turn, on the same tokens.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{Cancel, Decoder, Error, Forward, Result, Session, TokenId};

/// Rounds, in each of which both are measured: what slows the machine down for a while slows both.
pub(super) const ROUNDS: usize = 3;
/// The most tokens that are read at once and the most single steps behind them.
const PROMPT: usize = 64;
const NEW: usize = 24;
/// What a session takes beyond its weights: prepacked copies, buffers, the library itself.
const BESIDE_WEIGHTS: u64 = 512 << 20;

/// Tokens per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Speed {
    pub prefill: f64,
    pub decode: f64,
}

/// How fast the original and the rewritten graph were: medians of a few short runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    pub original: Speed,
    pub rewritten: Speed,
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    pub rounds: usize,
    /// Whether both were in memory at once; else each was loaded anew for every round.
    pub both_in_memory: bool,
}

impl Measurement {
    /// How many times as fast the rewritten graph makes a turn of so many tokens.
    pub fn speedup(&self) -> f64 {
        let seconds =
            |speed: Speed| self.prompt_tokens as f64 / speed.prefill + self.new_tokens as f64 / speed.decode;
        seconds(self.original) / seconds(self.rewritten)
    }
}

/// The memory that one graph needs and the memory that is free, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) needed: u64,
    pub(super) free: Option<u64>,
}

impl Room {
    /// Prepacking copies the weights, and both graphs have them.
    fn holds_both(self) -> bool {
        let needed = self.needed.saturating_mul(4).saturating_add(BESIDE_WEIGHTS);
        self.free.is_some_and(|free| free >= needed)
    }
}

/// Measures the graphs at two paths, the original first; `None` where it was cancelled.
pub(super) fn measure<D: Decoder>(
    paths: [&Path; 2],
    load: impl Fn(&Path) -> Result<D>,
    room: Room,
    cancel: &Cancel,
    on_round: &mut dyn FnMut(),
) -> Result<Option<Measurement>> {
    let both_in_memory = room.holds_both();
    let mut loaded = [None, None];
    let mut seconds: [Vec<[f64; 2]>; 2] = Default::default();
    let mut lengths = (0, 0);
    for _ in 0..ROUNDS {
        on_round();
        for ((path, slot), seconds) in paths.iter().zip(&mut loaded).zip(&mut seconds) {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            let fresh = slot.is_none();
            let decoder = match slot {
                Some(decoder) => decoder,
                None => slot.insert(load(path)?),
            };
            let context = decoder.spec().context_length;
            lengths = (PROMPT.min(context / 2).max(1), NEW.min(context / 4).max(1));
            // The first run takes memory and fills caches.
            if fresh && time(decoder, lengths, cancel)?.is_none() {
                return Ok(None);
            }
            let Some(times) = time(decoder, lengths, cancel)? else { return Ok(None) };
            seconds.push(times);
            if !both_in_memory {
                *slot = None;
            }
        }
    }
    let (prompt_tokens, new_tokens) = lengths;
    let speed = |seconds: &[[f64; 2]]| Speed {
        prefill: prompt_tokens as f64 / median(seconds.iter().map(|times| times[0])),
        decode: new_tokens as f64 / median(seconds.iter().map(|times| times[1])),
    };
    let [original, rewritten] = seconds.map(|seconds| speed(&seconds));
    Ok(Some(Measurement { original, rewritten, prompt_tokens, new_tokens, rounds: ROUNDS, both_in_memory }))
}

/// The seconds of one prefill and of the steps behind it; `None` where it was cancelled.
fn time<D: Decoder>(
    decoder: &mut D,
    (prompt, new): (usize, usize),
    cancel: &Cancel,
) -> Result<Option<[f64; 2]>> {
    let vocabulary = decoder.spec().vocabulary_size;
    let tokens: Vec<TokenId> =
        (0..prompt + new).map(|place| (place * 7919 % vocabulary) as TokenId).collect();
    let mut session = Session::new(decoder)?;
    let (prompt, steps) = tokens.split_at(prompt);
    let mut times = [0.0; 2];
    for (place, passes) in [vec![prompt], steps.chunks(1).collect()].iter().enumerate() {
        let started = Instant::now();
        for tokens in passes {
            match session.feed(decoder, tokens, cancel)? {
                Forward::Logits(_) => {}
                Forward::Cancelled => return Ok(None),
                Forward::ContextFull => {
                    let reason = "its context ends before the measurement does".to_owned();
                    return Err(Error::Invalid { reason });
                }
            }
        }
        // A clock that did not move would make the speed infinite, which JSON has no word for.
        times[place] = started.elapsed().as_secs_f64().max(1e-9);
    }
    Ok(Some(times))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
