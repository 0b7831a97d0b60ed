//! A session: the tokens that a model has seen, with the KV cache that proves it.

use std::ops::Range;

use crate::{Cancel, Decoder, DraftCost, Forward, Import, KvBlock, KvCache, Result, TokenId};

/// The tokens seen and their KV cache, which always have the same length.
pub struct Session<D: Decoder> {
    seen: Vec<TokenId>,
    cache: D::Cache,
}

impl<D: Decoder> Session<D> {
    /// A session that has seen nothing.
    pub fn new(decoder: &D) -> Result<Self> {
        Ok(Self { seen: Vec::new(), cache: decoder.new_cache()? })
    }

    /// The tokens in the KV cache, in order.
    pub fn seen(&self) -> &[TokenId] {
        &self.seen
    }

    /// The same, without the session.
    pub(crate) fn into_seen(self) -> Vec<TokenId> {
        self.seen
    }

    /// The rows `rows` as a block; `None` where they are not there or the cache cannot be cut.
    pub fn export(&self, decoder: &D, rows: Range<usize>) -> Result<Option<KvBlock>> {
        let Some(tokens) = self.seen.get(rows.clone()) else { return Ok(None) };
        let Some(data) = self.cache.export(rows.clone())? else { return Ok(None) };
        let (tokens, layout) = (tokens.to_vec(), decoder.kv_layout().clone());
        Ok(Some(KvBlock { start: rows.start, tokens, layout, data }))
    }

    /// A session that has seen the tokens of `blocks`, which follow each other from the first token on and
    /// are `rows` at most: all of them, or none where one does not fit.
    pub fn restore(
        decoder: &D,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<Self>> {
        let mut seen = Vec::new();
        let mut blocks = blocks.inspect(|block| seen.extend_from_slice(&block.tokens));
        let import = decoder.import_cache(rows, &mut blocks)?;
        Ok(match import {
            Import::Refused(refusal) => Import::Refused(refusal),
            Import::Whole(cache) => {
                debug_assert_eq!(seen.len(), cache.len(), "a session's tokens and rows go together");
                Import::Whole(Self { seen, cache })
            }
        })
    }

    /// The memory of the KV cache in bytes.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Keeps the longest common prefix of what was seen and `prompt`, and forgets the rest. Returns the
    /// number of tokens kept, always less than the prompt's length: the logits of the last token exist
    /// only after it was run.
    pub fn rewind_to(&mut self, prompt: &[TokenId]) -> Result<usize> {
        self.truncate(common_prefix(&self.seen, prompt).min(prompt.len().saturating_sub(1)))
    }

    /// Forgets what was seen from the token `len` on. Returns the number of tokens kept, which is less where
    /// the cache cannot be cut there.
    pub fn truncate(&mut self, len: usize) -> Result<usize> {
        if len < self.seen.len() {
            let reached = self.cache.truncate(len)?;
            self.seen.truncate(reached);
        }
        Ok(self.seen.len())
    }

    /// The same as [`Session::feed`], and `rows` gets the last hidden state, as
    /// [`Decoder::forward_hidden`] gives it.
    pub fn feed_hidden<'d>(
        &mut self,
        decoder: &'d mut D,
        tokens: &[TokenId],
        cancel: &Cancel,
        rows: &mut Vec<f32>,
    ) -> Result<Forward<'d>> {
        let outcome = decoder.forward_hidden(tokens, &mut self.cache, cancel, rows)?;
        Ok(Self::note(&mut self.seen, &self.cache, tokens, outcome))
    }

    /// Runs `tokens` behind what was seen. After an error the session must be thrown away.
    pub fn feed<'d>(
        &mut self,
        decoder: &'d mut D,
        tokens: &[TokenId],
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        let outcome = decoder.forward(tokens, &mut self.cache, cancel)?;
        Ok(Self::note(&mut self.seen, &self.cache, tokens, outcome))
    }

    /// The same, and the logits are those of every one of `tokens`, row after row.
    pub fn feed_rows<'d>(
        &mut self,
        decoder: &'d mut D,
        tokens: &[TokenId],
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        let outcome = decoder.forward_rows(tokens, &mut self.cache, cancel)?;
        Ok(Self::note(&mut self.seen, &self.cache, tokens, outcome))
    }

    /// What drafted tokens cost behind what was seen, as [`Decoder::draft_cost`] tells.
    pub fn draft_cost(&mut self, decoder: &mut D, cancel: &Cancel) -> Result<Option<DraftCost>> {
        decoder.draft_cost(&mut self.cache, cancel)
    }

    fn note<'d>(
        seen: &mut Vec<TokenId>,
        cache: &D::Cache,
        tokens: &[TokenId],
        outcome: Forward<'d>,
    ) -> Forward<'d> {
        if let Forward::Logits(_) = outcome {
            seen.extend_from_slice(tokens);
        }
        debug_assert_eq!(seen.len(), cache.len(), "a session's tokens and rows go together");
        outcome
    }
}

/// How many tokens two texts share from the first on.
pub fn common_prefix(left: &[TokenId], right: &[TokenId]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}
