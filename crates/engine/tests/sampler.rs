//! Sampling against plain references: whole sorts, formulas, and counts.

use std::collections::HashMap;

use engine::{Sampler, Sampling, TokenId};
use proptest::prelude::*;

fn greedy() -> Sampling {
    Sampling::default()
}

fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() }
}

fn draw(sampling: &Sampling, logits: &[f32]) -> Option<TokenId> {
    Sampler::new(sampling, &[]).sample(&mut logits.to_vec())
}

/// How often each token comes in `count` draws with one seed each.
fn draws(sampling: &Sampling, logits: &[f32], count: u64) -> HashMap<TokenId, u64> {
    let mut counts = HashMap::new();
    for seed in 0..count {
        let sampling = Sampling { seed: Some(seed), ..sampling.clone() };
        *counts.entry(draw(&sampling, logits).expect("a token")).or_default() += 1;
    }
    counts
}

/// The probabilities of the tokens that may be drawn, by sorting everything: the `transformers` order of
/// temperature, top-k, top-p and min-p.
fn reference(sampling: &Sampling, logits: &[f32]) -> Vec<(TokenId, f64)> {
    let mut tokens: Vec<(TokenId, f64)> = logits
        .iter()
        .enumerate()
        .map(|(token, &logit)| (token as TokenId, f64::from(logit) / f64::from(sampling.temperature)))
        .collect();
    tokens.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    if sampling.top_k > 0 {
        tokens.truncate(sampling.top_k);
    }
    let largest = tokens[0].1;
    for (_, weight) in &mut tokens {
        *weight = (*weight - largest).exp();
    }
    let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    if sampling.top_p < 1.0 {
        let mut sum = 0.0;
        let mut kept = 0;
        for (_, weight) in &tokens {
            kept += 1;
            sum += weight / total;
            if sum >= f64::from(sampling.top_p) {
                break;
            }
        }
        tokens.truncate(kept);
    }
    tokens.retain(|(_, weight)| *weight >= f64::from(sampling.min_p) && *weight > 0.0);
    let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    tokens.into_iter().map(|(token, weight)| (token, weight / total)).collect()
}

#[test]
fn temperature_zero_takes_the_largest_logit_and_the_first_of_equals() {
    assert_eq!(draw(&greedy(), &[1.0, 3.0, 2.0]), Some(1));
    assert_eq!(draw(&greedy(), &[1.0, 3.0, 3.0, 3.0]), Some(1));
    assert_eq!(draw(&greedy(), &[-5.0]), Some(0));
    let strict = Sampling { top_k: 1, top_p: 0.1, min_p: 1.0, seed: Some(7), ..greedy() };
    assert_eq!(draw(&strict, &[f32::NEG_INFINITY, -2.0, -1.0]), Some(2));
}

#[test]
fn equal_logits_at_the_edge_of_top_k_keep_the_smaller_tokens() {
    let sampling = Sampling { top_k: 2, ..warm(0) };
    let counts = draws(&sampling, &[1.0, 5.0, 1.0, 1.0], 400);
    assert!(counts.keys().all(|&token| token == 1 || token == 0), "{counts:?}");
    assert_eq!(counts.len(), 2, "the second place is drawn too");
}

#[test]
fn logits_that_are_no_numbers_or_leave_nothing_give_no_token() {
    for sampling in [greedy(), warm(1), Sampling { top_k: 2, top_p: 0.9, min_p: 0.1, ..warm(1) }] {
        for bad in [
            vec![1.0, f32::NAN],
            vec![f32::NAN; 3],
            vec![f32::INFINITY, 1.0],
            vec![f32::NEG_INFINITY; 4],
            vec![f32::NEG_INFINITY, f32::NAN],
            Vec::new(),
        ] {
            assert_eq!(draw(&sampling, &bad), None, "{bad:?}");
        }
        let only = [f32::NEG_INFINITY, f32::NEG_INFINITY, -80.0];
        assert_eq!(draw(&sampling, &only), Some(2), "minus infinity forbids a token and is no fault");
    }
}

#[test]
fn penalties_follow_their_formulas() {
    // Greedily, so that the largest logit after the penalties shows them: token 9 is the measure.
    let chosen = |sampling: &Sampling, prompt: &[TokenId], reply: &[TokenId], logit: f32, measure: f32| {
        let mut sampler = Sampler::new(sampling, prompt);
        reply.iter().for_each(|&token| sampler.remember(token));
        let mut logits = vec![-100.0; 10];
        (logits[3], logits[9]) = (logit, measure);
        sampler.sample(&mut logits).expect("a token") == 3
    };
    let check = |sampling: Sampling, prompt: &[TokenId], reply: &[TokenId], logit: f32, expected: f32| {
        assert!(chosen(&sampling, prompt, reply, logit, expected - 0.01), "{sampling:?}");
        assert!(!chosen(&sampling, prompt, reply, logit, expected + 0.01), "{sampling:?}");
    };
    let repetition = Sampling { repetition_penalty: 1.5, ..greedy() };
    check(repetition.clone(), &[3], &[], 6.0, 4.0);
    check(repetition.clone(), &[3, 3, 3], &[3], 6.0, 4.0);
    check(repetition.clone(), &[], &[3], -2.0, -3.0);
    check(repetition, &[4], &[], 6.0, 6.0);
    let presence = Sampling { presence_penalty: 1.25, ..greedy() };
    check(presence.clone(), &[3, 3], &[], 6.0, 6.0);
    check(presence.clone(), &[], &[3], 6.0, 4.75);
    check(presence, &[], &[3, 3, 3], 6.0, 4.75);
    let frequency = Sampling { frequency_penalty: 0.5, ..greedy() };
    check(frequency.clone(), &[3, 3], &[], 6.0, 6.0);
    check(frequency, &[3], &[3, 3, 3], 6.0, 4.5);
    let all =
        Sampling { repetition_penalty: 2.0, presence_penalty: 0.25, frequency_penalty: 0.5, ..greedy() };
    check(all, &[3], &[3, 3], 6.0, 1.75);
    let reward = Sampling { presence_penalty: -1.0, ..greedy() };
    check(reward, &[], &[3], 6.0, 7.0);
}

#[test]
fn what_was_sampled_counts_for_the_next_penalty() {
    let sampling = Sampling { presence_penalty: 2.0, ..greedy() };
    let mut sampler = Sampler::new(&sampling, &[]);
    let tokens: Vec<_> = (0..3).map(|_| sampler.sample(&mut [3.0, 2.0, 1.5]).expect("a token")).collect();
    assert_eq!(tokens, [0, 1, 2]);
}

#[test]
fn ids_beyond_the_logits_are_remembered_without_harm() {
    let sampling = Sampling { repetition_penalty: 1.3, ..greedy() };
    let mut sampler = Sampler::new(&sampling, &[900, 1]);
    assert_eq!(sampler.sample(&mut [1.0, 1.2]), Some(0));
}

#[test]
fn one_seed_gives_one_sequence_and_is_told() {
    let logits: Vec<f32> = (0..1000).map(|index| (index as f32 * 0.37).sin() * 4.0).collect();
    let sequence = |seed| {
        let mut sampler = Sampler::new(&warm(seed), &[]);
        assert_eq!(sampler.seed(), seed);
        (0..50).map(|_| sampler.sample(&mut logits.clone()).expect("a token")).collect::<Vec<_>>()
    };
    assert_eq!(sequence(42), sequence(42));
    assert_ne!(sequence(42), sequence(43));
    let drawn = Sampler::new(&Sampling { temperature: 1.0, ..Sampling::default() }, &[]).seed();
    assert_eq!(sequence(drawn), sequence(drawn), "a seed that was drawn repeats its sequence");
}

#[test]
fn tokens_come_as_often_as_their_probabilities_say() {
    let logits = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0];
    let settings = [
        warm(0),
        Sampling { temperature: 0.6, ..warm(0) },
        Sampling { temperature: 2.0, top_k: 4, ..warm(0) },
        Sampling { top_p: 0.8, ..warm(0) },
        Sampling { temperature: 1.5, min_p: 0.2, ..warm(0) },
    ];
    for sampling in settings {
        const DRAWS: u64 = 20_000;
        let counts = draws(&sampling, &logits, DRAWS);
        let expected = reference(&sampling, &logits);
        assert_eq!(counts.values().sum::<u64>(), DRAWS);
        assert!(counts.keys().all(|token| expected.iter().any(|(known, _)| known == token)), "{counts:?}");
        // Pearson's statistic; 30 is passed by chance once in 60,000 tables of six cells.
        let statistic: f64 = expected
            .iter()
            .map(|(token, probability)| {
                let expected = probability * DRAWS as f64;
                (counts.get(token).copied().unwrap_or(0) as f64 - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 30.0, "{sampling:?}: {statistic}, {counts:?}");
    }
}

#[test]
fn a_vocabulary_of_151_936_tokens_is_drawn_from_without_losing_any() {
    const WIDTH: usize = 151_936;
    let flat = vec![0.0; WIDTH];
    let far = draws(&warm(0), &flat, 64).into_keys().filter(|&token| token as usize > WIDTH / 2).count();
    assert!(far > 10, "the second half is drawn as well as the first: {far}");
    // All are equally probable, so the nucleus is the first half and larger than any first guess of it.
    let nucleus = draws(&Sampling { top_p: 0.5, ..warm(0) }, &flat, 32);
    assert!(nucleus.keys().all(|&token| (token as usize) < WIDTH / 2 + 1), "{nucleus:?}");
    let mut peaked = flat;
    peaked[WIDTH - 1] = 30.0;
    let sampling = Sampling { top_k: 50, top_p: 0.95, min_p: 0.05, ..warm(5) };
    assert_eq!(draw(&sampling, &peaked), Some(WIDTH as TokenId - 1));
}

#[test]
fn no_temperature_is_too_small_or_too_large() {
    for temperature in [f32::MIN_POSITIVE, 1e-30, 1e-6, 100.0] {
        let sampling = Sampling { temperature, ..warm(1) };
        let token = draw(&sampling, &[3e38, -3e38, 1.0]);
        assert_eq!(token, Some(0), "{temperature}");
    }
}

#[test]
fn settings_out_of_range_are_named_with_the_range() {
    type Change = fn(&mut Sampling, f32);
    let fields: [(&str, Change, &[f32]); 6] = [
        ("temperature", |sampling, value| sampling.temperature = value, &[-0.1, 101.0]),
        ("top_p", |sampling, value| sampling.top_p = value, &[-0.1, 1.1]),
        ("min_p", |sampling, value| sampling.min_p = value, &[-0.1, 1.1]),
        ("repetition_penalty", |sampling, value| sampling.repetition_penalty = value, &[0.0, -1.0, 101.0]),
        ("presence_penalty", |sampling, value| sampling.presence_penalty = value, &[-101.0, 101.0]),
        ("frequency_penalty", |sampling, value| sampling.frequency_penalty = value, &[-101.0, 101.0]),
    ];
    assert_eq!(Sampling::default().check(), Ok(()));
    for (name, change, values) in fields {
        for &value in values.iter().chain(&[f32::NAN, f32::INFINITY]) {
            let mut sampling = Sampling::default();
            change(&mut sampling, value);
            let error = sampling.check().expect_err(name);
            assert!(error.starts_with(name) && error.contains("between"), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_drawn_is_what_a_whole_sort_allows(
        logits in prop::collection::vec((-80i32..80).prop_map(|value| value as f32 / 8.0), 1..700),
        temperature in 0.2f32..3.0,
        top_k in 0usize..40,
        top_p in 0.05f32..1.0,
        min_p in 0.0f32..0.5,
        seed in any::<u64>(),
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed: Some(seed), ..Sampling::default() };
        let allowed = reference(&sampling, &logits);
        // The edge of a nucleus and of min-p may round to the other side, so their neighbours count too.
        let wider = Sampling { top_p: (top_p + 1e-4).min(1.0), min_p: (min_p - 1e-4).max(0.0), ..sampling.clone() };
        let tolerated = reference(&wider, &logits);
        let mut sampler = Sampler::new(&sampling, &[]);
        for _ in 0..8 {
            let token = sampler.sample(&mut logits.clone()).expect("a token");
            prop_assert!(
                allowed.iter().chain(&tolerated).any(|&(known, _)| known == token),
                "{token} of {allowed:?}"
            );
        }
    }
}
