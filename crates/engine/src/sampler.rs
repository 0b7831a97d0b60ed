//! From logits to a token.
//!
//! The order is that of the `transformers` library, for which models' recommended settings are written:
//! penalties, temperature, top-k, top-p, min-p, draw. Nothing here sorts or copies a whole vocabulary: one
//! pass finds the largest logit of each run of 64, most runs hold no candidate, and only candidates are
//! selected and ordered.

use std::cmp::Ordering;
use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::TokenId;

/// How to choose the next token. The default chooses greedily and penalises nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit and ignores all that follows but the penalties.
    pub temperature: f32,
    /// Only the `top_k` largest logits may be drawn; 0 leaves all.
    pub top_k: usize,
    /// Only the smallest set of most probable tokens whose probabilities reach `top_p`; 1 leaves all.
    /// Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as probable as the most probable one; 0 leaves all.
    /// Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the prompt or the reply; 1 is none.
    /// Keskar et al., "CTRL", 2019.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token that the reply holds already.
    pub presence_penalty: f32,
    /// Subtracted for each time that the reply holds the token already.
    pub frequency_penalty: f32,
    /// The same seed, prompt and settings give the same tokens. `None` draws a seed.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
        }
    }
}

impl Sampling {
    /// Says which setting is out of its range, and what the range is.
    pub fn check(&self) -> Result<(), String> {
        let in_range = |name: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value}; it must be between {low} and {high}"))
            }
        };
        in_range("temperature", self.temperature, 0.0, 100.0)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        in_range("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
    }
}

/// A candidate: its index in the logits, and its logit.
type Candidate = (TokenId, f32);

/// Chooses tokens for one reply.
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    generator: Pcg64Mcg,
    /// Every token of prompt and reply, with how often the reply holds it.
    counts: HashMap<TokenId, u32>,
    /// The largest logit of each run of [`RUN`].
    maxima: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// The logits that share one maximum: few enough to look through, many enough that most are passed over.
const RUN: usize = 64;
/// Weights below e^-28 of the largest are nothing: all of a vocabulary of a million would not add up to the
/// rounding of one f32.
const LEAST_EXPONENT: f32 = 28.0;

impl Sampler {
    /// A sampler for a reply to `prompt`.
    pub fn new(sampling: &Sampling, prompt: &[TokenId]) -> Self {
        // Drawn seeds have 53 bits, so that every reader of JSON numbers can give them back exactly.
        let seed = sampling.seed.unwrap_or_else(|| rand::random::<u64>() >> 11);
        Self {
            sampling: sampling.clone(),
            seed,
            generator: Pcg64Mcg::seed_from_u64(seed),
            counts: prompt.iter().map(|&token| (token, 0)).collect(),
            maxima: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The seed in use, drawn or given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Chooses the next token and remembers it. `logits` are changed in place.
    ///
    /// Returns `None` where no token can be chosen: a logit is not a number or infinite, or all are
    /// minus infinity.
    pub fn sample(&mut self, logits: &mut [f32]) -> Option<TokenId> {
        self.penalise(logits);
        let largest = survey(logits, &mut self.maxima)?;
        let token = if self.sampling.temperature == 0.0 {
            self.first(logits, largest)?
        } else {
            self.draw(logits, largest)
        };
        *self.counts.entry(token).or_insert(0) += 1;
        Some(token)
    }

    /// Remembers a token of the reply that was chosen before, for a reply that is continued.
    pub fn remember(&mut self, token: TokenId) {
        *self.counts.entry(token).or_insert(0) += 1;
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.sampling;
        if repetition_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
            return;
        }
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if count > 0 {
                *logit -= presence_penalty + frequency_penalty * count as f32;
            }
        }
    }

    /// The first token with this logit.
    fn first(&self, logits: &[f32], largest: f32) -> Option<TokenId> {
        let start = self.maxima.iter().position(|&maximum| maximum == largest)? * RUN;
        let place = logits[start..].iter().position(|&logit| logit == largest)?;
        Some((start + place) as TokenId)
    }

    /// Collects the candidates: all logits that weigh anything and may be among the `top_k` largest, which
    /// are no smaller than the `top_k`-th largest maximum.
    fn collect(&self, logits: &[f32], largest: f32, candidates: &mut Vec<Candidate>) {
        let Sampling { temperature, top_k, .. } = self.sampling;
        let mut floor = largest - LEAST_EXPONENT * temperature;
        if (1..self.maxima.len()).contains(&top_k) {
            let mut maxima = self.maxima.clone();
            let (_, &mut threshold, _) =
                maxima.select_nth_unstable_by(top_k - 1, |left, right| right.total_cmp(left));
            floor = floor.max(threshold);
        }
        candidates.clear();
        for (run, (&maximum, values)) in self.maxima.iter().zip(logits.chunks(RUN)).enumerate() {
            if maximum >= floor {
                let ids = (run * RUN) as TokenId..;
                candidates.extend(ids.zip(values.iter().copied()).filter(|&(_, logit)| logit >= floor));
            }
        }
    }

    fn draw(&mut self, logits: &[f32], largest: f32) -> TokenId {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        // Relative to the largest, so that nothing overflows however small the temperature.
        let weight = |logit: f32| ((logit - largest) / temperature).exp();
        let mut candidates = std::mem::take(&mut self.candidates);
        self.collect(logits, largest, &mut candidates);
        if top_k > 0 && top_k < candidates.len() {
            keep_largest(&mut candidates, top_k);
        }
        let mut total: f64 = candidates.iter().map(|&(_, logit)| f64::from(weight(logit))).sum();
        if top_p < 1.0 {
            total = keep_nucleus(&mut candidates, total, f64::from(top_p), weight);
        }
        if min_p > 0.0 {
            // The most probable candidate has weight 1.
            candidates.retain(|&(_, logit)| weight(logit) >= min_p);
            total = candidates.iter().map(|&(_, logit)| f64::from(weight(logit))).sum();
        }
        let mut left = self.generator.random::<f64>() * total;
        let mut chosen = candidates[0].0;
        for &(token, logit) in &candidates {
            chosen = token;
            left -= f64::from(weight(logit));
            if left < 0.0 {
                break;
            }
        }
        self.candidates = candidates;
        chosen
    }
}

/// Writes the largest logit of each run into `maxima` and returns the largest of all. `None` where one is not
/// a number or plus infinity, or where there is nothing above minus infinity.
fn survey(logits: &[f32], maxima: &mut Vec<f32>) -> Option<f32> {
    // Several at once, which the processor compares in one instruction.
    const LANES: usize = 8;
    let mut sound = [true; LANES];
    maxima.clear();
    maxima.extend(logits.chunks(RUN).map(|run| {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (wide, rest) = run.as_chunks::<LANES>();
        let mut see = |lane: usize, logit: f32| {
            sound[lane] &= logit < f32::INFINITY;
            largest[lane] = if logit > largest[lane] { logit } else { largest[lane] };
        };
        for values in wide {
            (0..LANES).for_each(|lane| see(lane, values[lane]));
        }
        rest.iter().enumerate().for_each(|(lane, &logit)| see(lane, logit));
        largest.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }));
    let largest = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (sound == [true; LANES] && largest > f32::NEG_INFINITY).then_some(largest)
}

/// Larger logits first; among equals the smaller token, so that the order never depends on the selection.
fn by_logit(left: &Candidate, right: &Candidate) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// Keeps the `count` largest, in no order but one that depends on the candidates alone.
fn keep_largest(candidates: &mut Vec<Candidate>, count: usize) {
    candidates.select_nth_unstable_by(count - 1, by_logit);
    candidates.truncate(count);
    candidates.sort_unstable_by_key(|&(token, _)| token);
}

/// Keeps the most probable candidates until their weights reach `share` of `total`; returns their weight.
/// Selects and sorts ever larger heads, since the nucleus is nearly always a few tokens.
fn keep_nucleus(candidates: &mut Vec<Candidate>, total: f64, share: f64, weight: impl Fn(f32) -> f32) -> f64 {
    let mut head = 128;
    loop {
        head = head.min(candidates.len());
        if head < candidates.len() {
            candidates.select_nth_unstable_by(head - 1, by_logit);
        }
        candidates[..head].sort_unstable_by(by_logit);
        let mut sum = 0.0;
        for (index, &(_, logit)) in candidates[..head].iter().enumerate() {
            sum += f64::from(weight(logit));
            if sum >= share * total {
                candidates.truncate(index + 1);
                return sum;
            }
        }
        if head == candidates.len() {
            return sum;
        }
        head *= 8;
    }
}
