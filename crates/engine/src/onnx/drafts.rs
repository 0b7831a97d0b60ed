//! What it costs to have drafted tokens checked: several of them in one pass, beside as many passes.

use std::time::{Duration, Instant};

use super::cache::OnnxKvCache;
use super::decoder::OnnxDecoder;
use crate::{Cancel, Decoder, DraftCost, Forward, KvCache, Result, TokenId};

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

/// The tokens drafted in the measurement.
const DRAFTED: usize = 4;
/// How far the logits of one pass may be from those of single passes, as a share of their range. The order
/// in which f32 numbers are added makes 1e-6; activations that are quantised pass by pass make 1e-2, and
/// f16 between the operators 1e-4, which is enough for another reply.
const ROUNDING: f32 = 1e-5;

/// Runs the same few tokens one by one and in one pass. `None` where the two differ, or where the
/// measurement was cancelled.
pub(super) fn measure(decoder: &mut OnnxDecoder, cancel: &Cancel) -> Result<Option<DraftCost>> {
    let mut cache = decoder.new_cache()?;
    let vocabulary = decoder.spec().vocabulary_size;
    let tokens: Vec<TokenId> = (0..DRAFTED + 2).map(|place| (place * 37 % vocabulary) as TokenId).collect();
    let (first, tokens) = tokens.split_at(1);
    if let Forward::Cancelled = decoder.forward(first, &mut cache, cancel)? {
        return Ok(None);
    }
    let mut one = Duration::MAX;
    let mut expected = Vec::new();
    for token in tokens {
        let started = Instant::now();
        let Forward::Logits(logits) = decoder.forward(&[*token], &mut cache, cancel)? else {
            return Ok(None);
        };
        one = one.min(started.elapsed());
        expected.extend_from_slice(logits);
    }
    cache.truncate(first.len())?;
    let mut several = Duration::MAX;
    // The first pass of a size is slower than those after it.
    for _ in 0..2 {
        let Some(taken) = check(decoder, &mut cache, tokens, &expected, cancel)? else { return Ok(None) };
        several = several.min(taken);
    }
    let further = several.as_secs_f64() / one.as_secs_f64() - 1.0;
    Ok(Some(DraftCost { per_token: further.max(0.0) / DRAFTED as f64 }))
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
