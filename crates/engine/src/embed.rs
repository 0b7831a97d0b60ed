//! Texts as vectors that lie close together where the texts mean something close.
//!
//! A vector is the mean of the last hidden state over the tokens of the text where the graph gives that, and
//! otherwise the first logits behind the text, which tell less. Both are normalised, so a product of two of
//! one source is their cosine.

use serde::{Deserialize, Serialize};

use crate::{Cancel, Decoder, Error, Forward, PREFILL_CHUNK, Result, Session, TokenId, Tokenizer};

/// How many logits make a vector, where the graph gives no hidden state.
const LOGITS: usize = 512;

/// Texts to embed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbedRequest {
    pub texts: Vec<String>,
    pub context: EmbedContext,
}

/// What a text is read behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmbedContext {
    /// Nothing: the same text has the same vector always. What is carried stays as it is.
    Alone,
    /// All texts that were carried before, of this request and of earlier ones.
    Carried,
    /// The texts of this request only: what was carried before is forgotten.
    Restarted,
}

/// A text as a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Embedding {
    /// Of length 1.
    pub values: Vec<f32>,
    pub source: EmbeddingSource,
    /// The tokens of the text.
    pub tokens: usize,
    /// The tokens that were read when the text was, its own included.
    pub context_length: usize,
}

impl Embedding {
    /// The cosine of the angle between two vectors of one source, from −1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        let products = self.values.iter().zip(&other.values);
        let sum: f64 = products.map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
        sum.clamp(-1.0, 1.0) as f32
    }
}

/// What a vector is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmbeddingSource {
    /// The mean of the last hidden state.
    HiddenState,
    /// The first 512 logits of the last position.
    Logits,
}

/// How embedding ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedded {
    /// One vector for each text.
    Embeddings(Vec<Embedding>),
    /// Stopped. What is carried is what was before.
    Cancelled,
}

/// Embeds texts by a decoder, in sessions of its own: a conversation is not disturbed.
pub struct Embedder<D: Decoder> {
    carried: Option<Session<D>>,
}

impl<D: Decoder> Default for Embedder<D> {
    fn default() -> Self {
        Self { carried: None }
    }
}

impl<D: Decoder> Embedder<D> {
    /// The tokens that are carried.
    pub fn context_length(&self) -> usize {
        self.carried.as_ref().map_or(0, |session| session.seen().len())
    }

    /// Forgets what is carried.
    pub fn reset(&mut self) {
        self.carried = None;
    }

    /// Embeds every text of `request` by at most `window` KV rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text without tokens and [`Error::PromptTooLong`], before anything runs;
    /// [`Error::Tokenizer`]; [`Error::Run`] and [`Error::LogitsNotFinite`] from the model, after which
    /// nothing is carried.
    pub fn embed(
        &mut self,
        decoder: &mut D,
        tokenizer: &Tokenizer,
        window: usize,
        request: &EmbedRequest,
        cancel: &Cancel,
    ) -> Result<Embedded> {
        let is_alone = request.context == EmbedContext::Alone;
        let before = if request.context == EmbedContext::Carried { self.context_length() } else { 0 };
        let texts = encode(tokenizer, &request.texts, before, is_alone)?;
        let longest = match is_alone {
            true => texts.iter().map(Vec::len).max().unwrap_or(0),
            false => before + texts.iter().map(Vec::len).sum::<usize>(),
        };
        if longest > window {
            return Err(Error::PromptTooLong { tokens: longest, window });
        }
        let kept = if is_alone { None } else { self.carried.take() };
        let mut session = match kept {
            Some(session) => session,
            None => Session::new(decoder)?,
        };
        if session.truncate(before)? < before {
            let reason = "the texts that were carried could not be kept; reset them and begin anew".into();
            return Err(Error::Invalid { reason });
        }
        let mut embeddings = Vec::new();
        for tokens in &texts {
            if is_alone {
                session.truncate(0)?;
            }
            // An error drops the session: what it holds is in doubt.
            let Some(embedding) = embed(decoder, &mut session, tokens, cancel)? else {
                session.truncate(before)?;
                self.keep(session, is_alone);
                return Ok(Embedded::Cancelled);
            };
            embeddings.push(embedding);
        }
        self.keep(session, is_alone);
        Ok(Embedded::Embeddings(embeddings))
    }

    fn keep(&mut self, session: Session<D>, is_alone: bool) {
        if !is_alone {
            self.carried = Some(session);
        }
    }
}

/// The ids of every text, as each is read behind the others or alone.
fn encode(
    tokenizer: &Tokenizer,
    texts: &[String],
    before: usize,
    is_alone: bool,
) -> Result<Vec<Vec<TokenId>>> {
    let mut is_first = before == 0;
    let mut encoded = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let tokens = match is_first || is_alone {
            true => tokenizer.encode_plain(text)?,
            false => tokenizer.encode_content(text)?,
        };
        if text.is_empty() || tokens.is_empty() {
            let reason = format!("text {} is empty: there is nothing to embed", index + 1);
            return Err(Error::Invalid { reason });
        }
        is_first = false;
        encoded.push(tokens);
    }
    Ok(encoded)
}

/// Reads `tokens` behind what `session` has seen; `None` where that was stopped.
fn embed<D: Decoder>(
    decoder: &mut D,
    session: &mut Session<D>,
    tokens: &[TokenId],
    cancel: &Cancel,
) -> Result<Option<Embedding>> {
    let hidden_size = decoder.hidden_size();
    let mut sum = vec![0.0_f64; hidden_size.unwrap_or(0)];
    let (mut rows, mut last) = (Vec::new(), Vec::new());
    for chunk in tokens.chunks(PREFILL_CHUNK) {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        rows.clear();
        match session.feed_hidden(decoder, chunk, cancel, &mut rows)? {
            Forward::Logits(logits) => {
                last.clear();
                last.extend(logits.iter().take(LOGITS).map(|&logit| f64::from(logit)));
            }
            Forward::Cancelled => return Ok(None),
            Forward::ContextFull => {
                let tokens = session.seen().len() + tokens.len();
                return Err(Error::PromptTooLong { tokens, window: session.seen().len() });
            }
        }
        for row in rows.chunks_exact(sum.len().max(1)) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }
    let (values, source) = match hidden_size {
        Some(_) => (sum, EmbeddingSource::HiddenState),
        None => (last, EmbeddingSource::Logits),
    };
    let context_length = session.seen().len();
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(Error::LogitsNotFinite { position: context_length });
    }
    // The mean and the sum have one direction.
    let values = values.iter().map(|value| (value / length) as f32).collect();
    Ok(Some(Embedding { values, source, tokens: tokens.len(), context_length }))
}
