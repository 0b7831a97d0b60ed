//! The rotation of queries and keys, read off what the graph makes of chosen numbers.

use super::Refusal;
use super::layer::{Side, shown};
use super::probe::{Probe, numbers_of};
use crate::rewrite::evaluate::{Evaluation, Tensor};
use crate::rewrite::wiring::Wiring;

/// Differences of this share come of rounding.
const TOLERANCE: f64 = 1e-6;

/// Halves of a head, turned against each other by angles that grow with the position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rotation {
    /// The angle of each pair at position 1.
    frequencies: Vec<f64>,
    /// What every number is multiplied with beside.
    scaling: f64,
}

/// One side of a layer at one position.
struct Turn<'t, 'w, 'g> {
    wiring: &'w Wiring<'g>,
    layer: &'t str,
    side: &'t Side,
    heads: usize,
    size: usize,
}

impl Rotation {
    /// Reads the rotation of one side of a layer, for positions below `rows`.
    pub(super) fn read(
        wiring: &Wiring<'_>,
        layer: &str,
        side: &Side,
        (heads, size): (usize, usize),
        rows: usize,
    ) -> Result<Self, Refusal> {
        let turn = Turn { wiring, layer, side, heads, size };
        let half = size / 2;
        // The first half of ones and the second of zeros become cosines and sines.
        let basis: Vec<f64> = (0..size).map(|place| if place < half { 1.0 } else { 0.0 }).collect();
        let still = turn.at(0, &basis)?;
        let scaling = still[0];
        turn.classify(scaling)?;
        let moved = turn.at(1, &basis)?;
        let frequencies = (0..half).map(|pair| moved[pair + half].atan2(moved[pair])).collect();
        let rotation = Self { frequencies, scaling };
        let doubling = std::iter::successors(Some(0), |position| Some(position * 2 + 1));
        for position in doubling.take_while(|&position| position < rows).chain([rows - 1]) {
            if !rotation.is_right(&turn, position)? {
                let layer = layer.to_owned();
                return Err(Refusal::PositionDependentRotation { layer, node: turn.node() });
            }
        }
        Ok(rotation)
    }

    /// Checks that one side of a layer turns as this does.
    pub(super) fn holds_for(
        &self,
        wiring: &Wiring<'_>,
        layer: &str,
        side: &Side,
        (heads, size): (usize, usize),
        rows: usize,
    ) -> Result<bool, Refusal> {
        let turn = Turn { wiring, layer, side, heads, size };
        for position in [1, rows / 2, rows - 1] {
            if !self.is_right(&turn, position)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_right(&self, turn: &Turn<'_, '_, '_>, position: usize) -> Result<bool, Refusal> {
        let numbers = numbers_of("a head", turn.size);
        let found = turn.at(position, &numbers)?;
        let expected = self.turned(&numbers, position);
        Ok(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= TOLERANCE))
    }

    /// A head at a position.
    pub(super) fn turned(&self, head: &[f64], position: usize) -> Vec<f64> {
        let half = head.len() / 2;
        let mut turned = vec![0.0; head.len()];
        for (pair, frequency) in self.frequencies.iter().enumerate() {
            let (sine, cosine) = (frequency * position as f64).sin_cos();
            turned[pair] = self.scaling * (head[pair] * cosine - head[pair + half] * sine);
            turned[pair + half] = self.scaling * (head[pair + half] * cosine + head[pair] * sine);
        }
        turned
    }

    /// Cosines and sines, `[rows, head size / 2]` each, as f32.
    pub(super) fn tables(&self, rows: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in 0..rows {
            for frequency in &self.frequencies {
                let (sine, cosine) = (frequency * position as f64).sin_cos();
                cosines.extend_from_slice(&((self.scaling * cosine) as f32).to_le_bytes());
                sines.extend_from_slice(&((self.scaling * sine) as f32).to_le_bytes());
            }
        }
        (cosines, sines)
    }

    /// The pairs of a head.
    pub(super) fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Whether the angles are those of a base, as models without scaled positions have them.
    pub(super) fn has_base(&self, theta: f64) -> bool {
        let pairs = self.pairs() as f64;
        let angle = |pair: usize| theta.powf(-(pair as f64) / pairs);
        let is_near = |(pair, frequency): (usize, &f64)| (frequency / angle(pair) - 1.0).abs() <= 1e-3;
        self.frequencies.iter().enumerate().all(is_near)
    }

    /// The base that the angles seem to have.
    pub(super) fn base(&self) -> f64 {
        let pairs = self.pairs() as f64;
        self.frequencies.get(1).map_or(f64::NAN, |frequency| frequency.powf(-pairs))
    }
}

impl Turn<'_, '_, '_> {
    fn no_rotation(&self) -> Refusal {
        none(self.wiring, self.layer, self.side)
    }

    fn node(&self) -> String {
        maker(self.wiring, self.side)
    }

    /// What every head with `numbers` becomes at a position.
    fn at(&self, position: usize, numbers: &[f64]) -> Result<Vec<f64>, Refusal> {
        let mut evaluation = Evaluation::new(self.wiring);
        Probe { past: position, tokens: 1 }.set_inputs(self.wiring, &mut evaluation);
        let heads = numbers.repeat(self.heads);
        evaluation.set(&self.side.heads, Tensor::real(&[1, self.heads, 1, self.size], heads));
        let turned = evaluation.numbers(&self.side.rotated);
        let turned = turned.ok_or_else(|| unknown(self.layer, &evaluation, &self.side.rotated))?;
        let first = turned.get(..self.size).ok_or_else(|| self.no_rotation())?;
        // Every head turns alike.
        let is_even = turned.chunks(self.size).all(|head| head == first);
        if is_even { Ok(first.to_vec()) } else { Err(self.no_rotation()) }
    }

    /// Names the rotations that the kernel is not asked for.
    fn classify(&self, scaling: f64) -> Result<(), Refusal> {
        let size = self.size;
        let numbers = numbers_of("a head", size);
        let found = self.at(1, &numbers)?;
        let same = found.iter().zip(&numbers).rev().take_while(|(found, number)| found == number).count();
        let (layer, node) = (self.layer.to_owned(), self.node());
        if same == size {
            return Err(Refusal::NoRotation { layer, node });
        }
        if same >= 2 {
            return Err(Refusal::PartialRotation { layer, node, rotated: size - same, size });
        }
        let keeps = |pair: &dyn Fn(usize) -> (usize, usize)| {
            (0..size / 2).map(pair).all(|(one, other)| {
                let length = |numbers: &[f64]| numbers[one].hypot(numbers[other]);
                (length(&found) - scaling.abs() * length(&numbers)).abs() <= TOLERANCE
            })
        };
        if keeps(&|pair| (pair, pair + size / 2)) {
            Ok(())
        } else if keeps(&|pair| (2 * pair, 2 * pair + 1)) {
            Err(Refusal::InterleavedRotation { layer, node })
        } else {
            Err(Refusal::NoRotation { layer, node })
        }
    }
}

fn maker(wiring: &Wiring<'_>, side: &Side) -> String {
    let maker = wiring.maker(&side.rotated);
    maker.map_or_else(|| side.rotated.clone(), |index| shown(wiring.node(index)))
}

/// One side of a layer has no rotation.
pub(super) fn none(wiring: &Wiring<'_>, layer: &str, side: &Side) -> Refusal {
    Refusal::NoRotation { layer: layer.to_owned(), node: maker(wiring, side) }
}

/// The node at which an evaluation of `value` ended.
pub(super) fn unknown(layer: &str, evaluation: &Evaluation<'_, '_>, value: &str) -> Refusal {
    let (node, operator) = match evaluation.stopped_at() {
        Some(node) => (shown(node), node.op_type().to_owned()),
        None => (value.to_owned(), "a value".to_owned()),
    };
    Refusal::Unknown { layer: layer.to_owned(), node, operator }
}
