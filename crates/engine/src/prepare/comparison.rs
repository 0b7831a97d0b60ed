//! Runs a graph over the same few tokens as another, and compares what both compute.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::passes::Numbers;
use crate::{Cancel, Decoder, Error, Forward, Result, Session, TokenId};

/// The tokens are the same on every machine and in every run.
const SEED: u64 = 0x4845_4152_5448;
/// The tokens of the first two chunks, of the single steps, and how far back the rewind goes.
const CHUNKS: [usize; 2] = [11, 9];
const STEPS: usize = 12;
const REWOUND_TO: usize = 16;
const AGAIN: usize = 8;
/// How far logits that should be the same may be apart, as a share of their range.
const SAME: f64 = 1e-3;
/// How far those may be apart that are rounded in another way: far more than rounding costs, and far less
/// than a wrong product.
const ROUNDED: f64 = 0.15;
/// However much a graph differs from itself, a pass may not hide behind more than this.
const MOST_OWN: f64 = 0.05;
/// The share of the steps that must choose the same token.
const SAME_CHOICES: f64 = 0.95;
/// Two tokens whose logits are within this share of the range are as good as equal: after random tokens the
/// best two often are, and rounding decides between them.
const NEAR_TIE: f64 = 0.02;

/// What is run: two chunks and single steps, a rewind into the second chunk, and again.
pub(super) struct Schedule {
    tokens: Vec<TokenId>,
    others: Vec<TokenId>,
}

/// The logits after each pass of a schedule.
#[derive(Clone)]
pub(super) struct Outputs {
    rows: Vec<Vec<f32>>,
    /// How far the graph is from itself when it reads the same tokens in other chunks: kernels for one row
    /// differ from those for many, and some graphs round by the largest number of a whole chunk.
    own_difference: f64,
}

/// How a candidate's logits compare with those of the graph that it would replace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Rows of logits that were compared.
    pub steps: usize,
    /// The largest difference, as a share of the range of the logits.
    pub max_difference: f64,
    /// The most that it may be.
    pub limit: f64,
    /// Rows whose best token is the same, near ties included.
    pub same_choices: usize,
    /// Those of them that are near ties.
    pub near_ties: usize,
}

impl Comparison {
    /// Whether the candidate may take the place of the other.
    pub fn is_passed(&self) -> bool {
        self.max_difference <= self.limit && self.same_choices as f64 >= self.steps as f64 * SAME_CHOICES
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { steps, max_difference, limit, same_choices, near_ties } = self;
        write!(
            formatter,
            "logits differ by {max_difference:.1e} of their range (at most {limit:.1e}), {same_choices} of {steps} choices are the same"
        )?;
        if *near_ties > 0 {
            write!(formatter, ", {near_ties} as near ties")?;
        }
        Ok(())
    }
}

impl Schedule {
    pub(super) fn new<D: Decoder>(decoder: &D) -> Self {
        let mut generator = Pcg64Mcg::seed_from_u64(SEED);
        let vocabulary = decoder.spec().vocabulary_size as TokenId;
        let mut draw = |count: usize| (0..count).map(|_| generator.random_range(0..vocabulary)).collect();
        Self { tokens: draw(CHUNKS[0] + CHUNKS[1] + STEPS), others: draw(AGAIN * 2) }
    }

    /// Runs the schedule; `None` where it was cancelled.
    ///
    /// # Errors
    /// Those of the passes, and a context that is too short for so few tokens.
    pub(super) fn run<D: Decoder>(&self, decoder: &mut D, cancel: &Cancel) -> Result<Option<Outputs>> {
        let [first, second] = CHUNKS;
        let single = |tokens: &[TokenId]| tokens.iter().map(|&token| vec![token]).collect::<Vec<_>>();
        let (prompt, steps) = self.tokens.split_at(first + second);
        let mut passes = vec![prompt[..first].to_vec(), prompt[first..].to_vec()];
        passes.extend(single(steps));
        let (chunk, more) = self.others.split_at(AGAIN);
        let mut again = vec![chunk.to_vec()];
        again.extend(single(more));

        let mut session = Session::new(decoder)?;
        let Some(mut rows) = feed(&mut session, decoder, &passes, cancel)? else { return Ok(None) };
        let beginning = [&self.tokens[..REWOUND_TO], chunk].concat();
        let kept = session.rewind_to(&beginning)?;
        // A cache that went back further reads what it lost in the same pass.
        again[0] = beginning[kept..].to_vec();
        let Some(rewound) = feed(&mut session, decoder, &again, cancel)? else { return Ok(None) };
        drop(session);

        // The prompt once more, token by token, and the first steps behind it.
        const COMPARED: usize = 4;
        let mut session = Session::new(decoder)?;
        let slowly = single(&self.tokens[..first + second + COMPARED]);
        let Some(slow) = feed(&mut session, decoder, &slowly, cancel)? else { return Ok(None) };
        let own_difference = slow[first + second - 1..]
            .iter()
            .zip(&rows[CHUNKS.len() - 1..])
            .map(|(slow, row)| difference(row, slow))
            .fold(0.0, f64::max);
        rows.extend(rewound);
        let all = rows.iter().chain(&slow);
        if let Some(position) = all.map(|row| row.iter().all(|logit| logit.is_finite())).position(|all| !all)
        {
            return Err(Error::LogitsNotFinite { position });
        }
        Ok(Some(Outputs { rows, own_difference }))
    }
}

/// The logits after each pass; `None` where it was cancelled.
fn feed<D: Decoder>(
    session: &mut Session<D>,
    decoder: &mut D,
    passes: &[Vec<TokenId>],
    cancel: &Cancel,
) -> Result<Option<Vec<Vec<f32>>>> {
    let mut rows = Vec::with_capacity(passes.len());
    for tokens in passes {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        match session.feed(decoder, tokens, cancel)? {
            Forward::Logits(logits) => rows.push(logits.to_vec()),
            Forward::Cancelled => return Ok(None),
            Forward::ContextFull => {
                let reason = "its context has no room for the few tokens of the comparison".to_owned();
                return Err(Error::Invalid { reason });
            }
        }
    }
    Ok(Some(rows))
}

/// Compares a candidate with the graph that it would replace. Rows of another length are as far apart as can be.
pub(super) fn compare(reference: &Outputs, candidate: &Outputs, numbers: Numbers) -> Comparison {
    let limit = match numbers {
        Numbers::Same => SAME.max(reference.own_difference.min(MOST_OWN)),
        Numbers::Rounded => ROUNDED,
    };
    let mut comparison =
        Comparison { steps: reference.rows.len(), max_difference: 0.0, limit, same_choices: 0, near_ties: 0 };
    for (row, other) in reference.rows.iter().zip(&candidate.rows) {
        if row.len() != other.len() {
            comparison.max_difference = f64::MAX;
            continue;
        }
        comparison.max_difference = comparison.max_difference.max(difference(row, other));
        let (best, chosen) = (best(row), best(other));
        let is_near = f64::from(row[best] - row[chosen]) <= NEAR_TIE * range(row);
        if best == chosen {
            comparison.same_choices += 1;
        } else if is_near {
            comparison.same_choices += 1;
            comparison.near_ties += 1;
        }
    }
    comparison
}

fn best(row: &[f32]) -> usize {
    let later_wins = |best: usize, place: usize| if row[place] > row[best] { place } else { best };
    (0..row.len()).fold(0, later_wins)
}

fn range(row: &[f32]) -> f64 {
    let low = row.iter().copied().fold(f32::INFINITY, f32::min);
    let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(high - low)
}

/// The largest difference between two rows, as a share of the first one's range.
fn difference(row: &[f32], other: &[f32]) -> f64 {
    let most = row.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    if most == 0.0 { 0.0 } else { f64::from(most) / range(row).max(f64::from(f32::MIN_POSITIVE)) }
}
