//! A session: the tokens that a model has seen, with the KV cache that proves it.

use crate::{Cancel, Decoder, Forward, KvCache, Result, TokenId};

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

    /// The memory of the KV cache in bytes.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Keeps the longest common prefix of what was seen and `prompt`, and forgets the rest. Returns the
    /// number of tokens kept, always less than the prompt's length: the logits of the last token exist
    /// only after it was run.
    pub fn rewind_to(&mut self, prompt: &[TokenId]) -> Result<usize> {
        let common = self.seen.iter().zip(prompt).take_while(|(seen, asked)| seen == asked).count();
        self.truncate(common.min(prompt.len().saturating_sub(1)))
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
