//! What it costs to have drafted tokens checked: several of them in one pass, beside as many passes.

use std::time::{Duration, Instant};

use super::cache::OnnxKvCache;
use super::decoder::OnnxDecoder;
use crate::{Cancel, Decoder, DraftCost, Error, Forward, KvCache, MOST_DRAFTED, Result, TokenId};

/// Whether a decoder may be given drafts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drafts {
    /// Where a measurement says that they pay.
    #[default]
    WherePaying,
    /// Whatever they cost, as long as replies are the same.
    Always,
    Never,
}

/// The tokens of the measured pass: as many as the longest draft has, with the one that was chosen before it.
const MEASURED: usize = 1 + MOST_DRAFTED;
/// Kernels choose by the number of rows, and both rounding and the cost of taking rows back change with the depth. So
/// what was measured holds up to this multiple of its depth, which is at least [`LEAST_DEPTH`].
const HOLDS_UP_TO: usize = 4;
const LEAST_DEPTH: usize = 32;
/// How far the logits of one pass may be from those of single passes, as a share of their range. The order
/// in which f32 numbers are added makes 1e-6; activations that are quantised pass by pass make 1e-2, and
/// f16 between the operators 1e-4, which is enough for another reply.
const ROUNDING: f32 = 1e-5;

/// What a measurement came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// The rows before the measured pass.
    depth: usize,
    /// `None` where one pass gave other logits than single ones.
    pub(super) cost: Option<DraftCost>,
}

impl Measured {
    /// Whether it says something of drafts behind `rows` rows. What differed once is not trusted elsewhere.
    pub(super) fn holds_at(&self, rows: usize) -> bool {
        self.cost.is_none() || rows <= self.depth.max(LEAST_DEPTH).saturating_mul(HOLDS_UP_TO)
    }
}

/// Whether a cache of `rows` rows has room for the measurement, at most `most`.
pub(super) fn has_room(rows: usize, most: usize) -> bool {
    rows + MEASURED <= most
}

/// Runs the same few tokens one by one and in one pass behind what `cache` holds, and takes them back. `None` where
/// it was cancelled.
pub(super) fn measure(
    decoder: &mut OnnxDecoder,
    cache: &mut OnnxKvCache,
    cancel: &Cancel,
) -> Result<Option<Measured>> {
    let depth = cache.len();
    let cost = compare(decoder, cache, cancel)?;
    // Where it ended in the middle some are left.
    if cache.truncate(depth)? != depth {
        return Err(Error::Run { doing: "taking measured tokens back".into(), source: None });
    }
    Ok((!cancel.is_cancelled()).then_some(Measured { depth, cost }))
}

fn compare(decoder: &mut OnnxDecoder, cache: &mut OnnxKvCache, cancel: &Cancel) -> Result<Option<DraftCost>> {
    let (depth, vocabulary) = (cache.len(), decoder.spec().vocabulary_size);
    let tokens: Vec<TokenId> = (0..MEASURED).map(|place| (place * 37 % vocabulary) as TokenId).collect();
    let mut one = Duration::MAX;
    let mut expected = Vec::new();
    for &token in &tokens {
        let started = Instant::now();
        let Forward::Logits(logits) = decoder.forward(&[token], cache, cancel)? else { return Ok(None) };
        one = one.min(started.elapsed());
        expected.extend_from_slice(logits);
    }
    if cache.truncate(depth)? != depth {
        return Ok(None);
    }
    let mut several = Duration::MAX;
    // The first pass of a size is slower than those after it.
    for _ in 0..2 {
        let Some(taken) = check(decoder, cache, &tokens, &expected, cancel)? else { return Ok(None) };
        several = several.min(taken);
    }
    let further = several.as_secs_f64() / one.as_secs_f64() - 1.0;
    Ok(Some(DraftCost { per_token: further.max(0.0) / MOST_DRAFTED as f64 }))
}

/// The time of one pass over `tokens` and of taking them back; `None` where its logits are not those expected.
fn check(
    decoder: &mut OnnxDecoder,
    cache: &mut OnnxKvCache,
    tokens: &[TokenId],
    expected: &[f32],
    cancel: &Cancel,
) -> Result<Option<Duration>> {
    let before = cache.len();
    let width = decoder.spec().vocabulary_size;
    let started = Instant::now();
    let Forward::Logits(logits) = decoder.forward_rows(tokens, cache, cancel)? else { return Ok(None) };
    let run = started.elapsed();
    let differs = expected.chunks(width).zip(logits.chunks(width)).any(|(expected, logits)| {
        let low = expected.iter().copied().fold(f32::INFINITY, f32::min);
        let high = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let tolerance = ROUNDING * (high - low);
        // Whatever is not a number differs too.
        !expected.iter().zip(logits).all(|(expected, logit)| (expected - logit).abs() <= tolerance)
    });
    let cutting = Instant::now();
    let cut = cache.truncate(before)? == before;
    Ok((cut && !differs).then(|| run + cutting.elapsed()))
}
