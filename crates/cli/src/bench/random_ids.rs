use backend::TokenId;

/// Ids below this are frequent tokens in every vocabulary, as other programs measure them.
const MOST_IDS: usize = 1000;

/// What the ids of a text are below.
pub(super) fn bound(vocabulary_size: usize) -> TokenId {
    vocabulary_size.clamp(1, MOST_IDS) as TokenId
}

/// `count` ids below 1,000 and below the vocabulary, the same for the same seed.
///
/// SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
pub(crate) fn random_ids(seed: u64, count: usize, vocabulary_size: usize) -> Vec<TokenId> {
    let bound = u64::from(bound(vocabulary_size));
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound) as TokenId
    };
    (0..count).map(|_| next()).collect()
}
