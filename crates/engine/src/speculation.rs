//! Prompt lookup: drafts of the next tokens, copied from where the last ones stood before.
//!
//! A pass over several tokens costs less than as many passes over one, so a draft that the model would have
//! written itself saves time. The model decides all the same: each row of logits gives the token that a
//! pass of its own would have given, up to a rounding that was measured, and the first one that differs from the
//! draft ends it.
//!
//! Source: Saxena, "Prompt Lookup Decoding", 2023.

use crate::{DraftCost, TokenId};

/// The most tokens of one draft. Longer ones are seldom accepted whole.
pub const MOST_DRAFTED: usize = 8;
/// How many last tokens must have stood before in the same order: the longer run is tried first.
const RUNS: [usize; 2] = [4, 3];
/// The chance of a drafted token to be accepted, before anything is known of this reply.
const FIRST_CHANCE: f64 = 0.7;
/// What a draft must promise at least, as a share of the tokens that the same time gives without it.
const LEAST_GAIN: f64 = 1.05;
/// Steps without drafts once they promised too little.
const REST: usize = 16;

/// When to draft in one reply, how much, and from where.
pub(crate) struct Speculation {
    cost: DraftCost,
    /// The chance of the next drafted token, from those before it.
    chance: f64,
    /// Steps to go before the next draft.
    resting: usize,
}

impl Speculation {
    pub(crate) fn new(cost: DraftCost) -> Self {
        Self { cost, chance: FIRST_CHANCE, resting: 0 }
    }

    /// The same where drafts cost something else now.
    pub(crate) fn at(self, cost: DraftCost) -> Self {
        Self { cost, ..self }
    }

    /// How many of at most `most` tokens it pays to draft in this step; 0 is none.
    pub(crate) fn length(&mut self, most: usize) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            if self.resting == 0 {
                self.chance = FIRST_CHANCE;
            }
            return 0;
        }
        let gain = |length: usize| {
            let tokens: f64 = (0..=length).map(|place| self.chance.powi(place as i32)).sum();
            tokens / (1.0 + self.cost.per_token * length as f64)
        };
        let best = (1..=MOST_DRAFTED).max_by(|&left, &right| gain(left).total_cmp(&gain(right))).unwrap_or(1);
        if gain(best) < LEAST_GAIN {
            self.resting = REST;
            return 0;
        }
        best.min(most)
    }

    /// Learns that `accepted` of `drafted` tokens were what the model chose.
    pub(crate) fn learn(&mut self, drafted: usize, accepted: usize) {
        for _ in 0..accepted {
            self.chance += 0.1 * (1.0 - self.chance);
        }
        if accepted < drafted {
            self.chance *= 0.75;
        }
    }
}

/// The tokens, at most `most`, that followed the last occurrence before of how `seen` and `next` end.
pub(crate) fn look_up(seen: &[TokenId], next: TokenId, most: usize) -> &[TokenId] {
    for run in RUNS {
        let Some(before) = seen.len().checked_sub(run - 1) else { continue };
        let ending = &seen[before..];
        // Behind an occurrence stands at least one token.
        let found = (run - 1..seen.len().saturating_sub(1))
            .rev()
            .find(|&place| seen[place] == next && seen[place + 1 - run..place] == *ending);
        if let Some(place) = found {
            let draft = &seen[place + 1..];
            return &draft[..most.min(draft.len())];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_last_time() {
        let seen = [1, 2, 3, 4, 5, 9, 2, 3, 4, 6, 7, 8, 2, 3];
        assert_eq!(look_up(&seen, 4, 8), [6, 7, 8, 2, 3], "the later of two occurrences");
        assert_eq!(look_up(&seen, 4, 2), [6, 7]);
        assert_eq!(look_up(&seen, 5, 8), &[] as &[TokenId], "three tokens must agree");
        assert_eq!(
            look_up(&[1, 2, 3, 4, 7, 9, 2, 3, 4, 8, 1, 2, 3], 4, 1),
            [7],
            "four tokens tell more than three"
        );
    }

    #[test]
    fn short_and_constant_texts_have_drafts_or_none() {
        assert_eq!(look_up(&[], 1, 8), &[] as &[TokenId]);
        assert_eq!(look_up(&[1, 1], 1, 8), &[] as &[TokenId], "nothing stood behind it");
        assert_eq!(look_up(&[1, 1, 1, 1], 1, 8), [1]);
    }

    #[test]
    fn drafts_that_cost_as_much_as_they_give_are_never_made() {
        let mut dear = Speculation::new(DraftCost { per_token: 1.0 });
        assert!((0..100).all(|_| dear.length(8) == 0));
        let mut free = Speculation::new(DraftCost { per_token: 0.0 });
        assert_eq!(free.length(8), MOST_DRAFTED);
        assert_eq!(free.length(3), 3);
    }

    #[test]
    fn misses_shorten_drafts_then_rest_and_hits_lengthen_them() {
        let mut speculation = Speculation::new(DraftCost { per_token: 0.2 });
        let first = speculation.length(8);
        speculation.learn(first, 0);
        let second = speculation.length(8);
        assert!(second < first, "{second} after {first}");
        while speculation.length(8) > 0 {
            speculation.learn(1, 0);
        }
        let rested = (0..100).take_while(|_| speculation.length(8) == 0).count();
        assert_eq!(rested, REST, "then they are tried again");
        for _ in 0..20 {
            speculation.learn(8, 8);
        }
        assert_eq!(speculation.length(8), MOST_DRAFTED);
    }
}
