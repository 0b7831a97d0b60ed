//! Random digits that stand for foreign text while a template runs.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;

use crate::{Message, TokenId};

const KEY_DIGITS: usize = 20;
const INDEX_DIGITS: usize = 6;
/// Digits of the key that, seen alone, tell that a placeholder was cut.
const REMNANT_DIGITS: usize = 8;

/// Foreign text behind a placeholder.
#[derive(Debug, Default)]
pub(super) struct Literal {
    pub(super) text: String,
    /// Ids that stand for exactly `text`.
    pub(super) tokens: Option<Vec<TokenId>>,
    /// The text before `text` with NUL for the reasoning, and the ids of all of it.
    pub(super) tokens_with_thinking: Option<(String, Vec<TokenId>)>,
    /// Templates may leave it out.
    optional: bool,
}

impl Literal {
    pub(super) fn content(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    pub(super) fn aside(text: &str) -> Self {
        Self { optional: true, ..Self::content(text) }
    }
}

/// The placeholders of one rendering.
pub(super) struct Placeholders {
    key: String,
    literals: Vec<Literal>,
}

impl Placeholders {
    /// A key that occurs in nothing that is rendered and that nobody could have guessed.
    pub(super) fn new(template: &str, messages: &[Message]) -> Self {
        let key = loop {
            let random = || RandomState::new().hash_one(0_u8);
            let digits = format!("{:020}{:020}", random(), random());
            // The leading digits of a 64-bit number are not evenly spread; the last ones are.
            let key = format!("{}{}", &digits[10..20], &digits[30..]);
            let remnant = &key[..REMNANT_DIGITS];
            let occurs = |text: &str| text.contains(remnant);
            let in_messages = messages
                .iter()
                .any(|message| occurs(&message.content) || message.reasoning.as_deref().is_some_and(occurs));
            if !occurs(template) && !in_messages {
                break key;
            }
        };
        debug_assert_eq!(key.len(), KEY_DIGITS);
        Self { key, literals: Vec::new() }
    }

    pub(super) fn get(&self, index: usize) -> &Literal {
        &self.literals[index]
    }

    /// The placeholder that stands for `literal` from now on.
    pub(super) fn hide(&mut self, literal: Literal) -> String {
        self.literals.push(literal);
        self.name(self.literals.len() - 1)
    }

    /// The digits of the placeholder with this index.
    pub(super) fn name(&self, index: usize) -> String {
        format!("{}{index:0INDEX_DIGITS$}", self.key)
    }

    /// `text` with placeholders for every one of `strings`, which come longest first.
    pub(super) fn hide_strings<'a>(&mut self, text: &str, strings: impl Iterator<Item = &'a str>) -> String {
        let present: Vec<&str> = strings.filter(|string| text.contains(string)).collect();
        if present.is_empty() {
            return text.to_owned();
        }
        let mut hidden = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match present.iter().find(|string| rest.starts_with(**string)) {
                Some(string) => {
                    hidden.push_str(&self.hide(Literal::content(string)));
                    rest = &rest[string.len()..];
                }
                None => {
                    hidden.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        hidden
    }

    /// Where placeholders stand in `text`, and which.
    pub(super) fn find(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        for (start, _) in text.match_indices(self.key.as_str()) {
            let end = start + KEY_DIGITS + INDEX_DIGITS;
            let index = text.get(start + KEY_DIGITS..end).and_then(|digits| digits.parse().ok());
            if let Some(index) = index.filter(|index| *index < self.literals.len()) {
                found.push((start..end, index));
            }
        }
        found
    }

    /// Whether every placeholder that templates must print was found exactly once.
    pub(super) fn all_once(&self, found: &[(Range<usize>, usize)]) -> bool {
        let mut counts = vec![0_usize; self.literals.len()];
        for (_, index) in found {
            counts[*index] += 1;
        }
        self.literals
            .iter()
            .zip(counts)
            .all(|(literal, count)| count == 1 || (literal.optional && count == 0))
    }

    /// Whether digits of a key stand in `text` outside of whole placeholders.
    pub(super) fn leaves_remnants(&self, text: &str, found: &[(Range<usize>, usize)]) -> bool {
        text.matches(&self.key[..REMNANT_DIGITS]).count() != found.len()
    }
}
