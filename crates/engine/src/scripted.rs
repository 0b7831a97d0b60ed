//! A decoder whose replies are written in the test: the second implementation of the seam.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Cancel, Decoder, DraftCost, Error, ExecutionProvider, Forward, Import, KvBackend, KvBlock, KvCache,
    KvElement, KvLayout, KvRefusal, KvTensor, ModelSpec, Result, TokenId,
};

/// What the script says of the token behind those seen so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scripted {
    /// The logits prefer this token.
    Token(TokenId),
    /// The pass fails.
    Error(String),
    /// The logits are not numbers.
    NotFinite,
    /// The pass goes on until it is cancelled.
    UntilCancelled,
    /// The pass panics.
    Panic,
}

type Script = Arc<dyn Fn(&[TokenId]) -> Scripted + Send + Sync>;
/// What drafts cost behind so many rows.
type Costs = Arc<dyn Fn(usize) -> Option<DraftCost> + Send + Sync>;

/// A decoder that follows a script and counts its work.
pub struct ScriptedDecoder {
    spec: ModelSpec,
    kv_layout: KvLayout,
    script: Script,
    passes: Arc<Mutex<Vec<usize>>>,
    logits: Vec<f32>,
    draft_costs: Costs,
}

impl ScriptedDecoder {
    /// A decoder over `vocabulary_size` tokens and `context_length` rows. `script` is asked after every
    /// pass, with all tokens seen.
    pub fn new(
        vocabulary_size: usize,
        context_length: usize,
        script: impl Fn(&[TokenId]) -> Scripted + Send + Sync + 'static,
    ) -> Self {
        let spec = ModelSpec {
            vocabulary_size,
            context_length,
            layers: 1,
            kv_bytes_per_token: size_of::<TokenId>(),
            kv_backend: KvBackend::HandOver,
            kv_backend_reason: Some("scripted".into()),
            execution_provider: ExecutionProvider::Cpu,
            threads: 1,
        };
        // The bits of a token take the place of one number.
        let row = KvTensor { heads: 1, head_size: 1, element: KvElement::F32 };
        Self {
            spec,
            kv_layout: KvLayout { tensors: vec![row] },
            script: Arc::new(script),
            passes: Arc::default(),
            logits: Vec::new(),
            draft_costs: Arc::new(|_| None),
        }
    }

    /// The same decoder, which also gives the logits of several tokens for this cost.
    pub fn with_draft_cost(self, cost: DraftCost) -> Self {
        self.with_draft_costs(move |_| Some(cost))
    }

    /// The same where the cost depends on the rows before the draft.
    pub fn with_draft_costs(
        self,
        costs: impl Fn(usize) -> Option<DraftCost> + Send + Sync + 'static,
    ) -> Self {
        Self { draft_costs: Arc::new(costs), ..self }
    }

    /// Follows the script for the tokens behind `seen`; gives nothing where the logits are written.
    fn follow(&mut self, seen: &[TokenId], row: usize, cancel: &Cancel) -> Result<Option<Forward<'static>>> {
        let width = self.spec.vocabulary_size;
        let logits = &mut self.logits[row * width..][..width];
        match (self.script)(seen) {
            Scripted::Token(token) => {
                logits.fill(0.0);
                logits[token as usize] = 10.0;
                Ok(None)
            }
            Scripted::NotFinite => {
                logits.fill(f32::NAN);
                Ok(None)
            }
            Scripted::Error(what) => Err(Error::Run { doing: what, source: None }),
            Scripted::Panic => panic!("the script says so"),
            Scripted::UntilCancelled => {
                let (stop, stopped) = std::sync::mpsc::channel();
                let stop = Mutex::new(stop);
                let interrupt = move || {
                    // A second stop finds nobody waiting, which is as well.
                    stop.lock().unwrap_or_else(PoisonError::into_inner).send(()).ok();
                };
                match cancel.interrupting(interrupt, || stopped.recv()) {
                    Ok(()) => Ok(Some(Forward::Cancelled)),
                    Err(_) => Err(Error::Run { doing: "waiting for a stop".into(), source: None }),
                }
            }
        }
    }

    /// One pass that gives the logits of the last `rows` of `tokens`.
    fn pass<'d>(
        &'d mut self,
        tokens: &[TokenId],
        rows: usize,
        cache: &mut ScriptedCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).push(tokens.len());
        if cache.len() + tokens.len() > self.spec.context_length {
            return Ok(Forward::ContextFull);
        }
        let seen = [cache.0.as_slice(), tokens].concat();
        self.logits.resize(rows * self.spec.vocabulary_size, 0.0);
        for row in 0..rows {
            let end = seen.len() - rows + row + 1;
            if let Some(ended) = self.follow(&seen[..end], row, cancel)? {
                return Ok(ended);
            }
        }
        cache.0 = seen;
        Ok(Forward::Logits(&mut self.logits))
    }

    /// The number of tokens of every pass so far, to be read while an engine owns the decoder.
    pub fn passes(&self) -> Passes {
        Passes(Arc::clone(&self.passes))
    }
}

/// The sizes of the passes that a scripted decoder made.
#[derive(Clone)]
pub struct Passes(Arc<Mutex<Vec<usize>>>);

impl Passes {
    /// Takes what was counted since the last call.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tokens themselves are the memory.
#[derive(Debug, Default)]
pub struct ScriptedCache(Vec<TokenId>);

impl KvCache for ScriptedCache {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, len: usize) -> Result<usize> {
        self.0.truncate(len);
        Ok(self.0.len())
    }

    fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    fn export(&self, rows: Range<usize>) -> Result<Option<Vec<u8>>> {
        let rows = self.0.get(rows).filter(|rows| !rows.is_empty());
        Ok(rows.map(|rows| rows.iter().flat_map(|token| token.to_le_bytes()).collect()))
    }
}

impl Decoder for ScriptedDecoder {
    type Cache = ScriptedCache;

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn new_cache(&self) -> Result<ScriptedCache> {
        Ok(ScriptedCache::default())
    }

    fn kv_layout(&self) -> &KvLayout {
        &self.kv_layout
    }

    /// The cache holds what the data says, whatever tokens the block names: a script that is given wrong
    /// rows answers wrongly, as a model would.
    fn import_cache(
        &self,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<ScriptedCache>> {
        let most = self.spec.context_length;
        if rows > most {
            return Ok(Import::Refused(KvRefusal::NoRoom { rows: most }));
        }
        let mut seen = Vec::new();
        for block in blocks {
            if let Err(refusal) = block.check(seen.len(), &self.kv_layout, rows) {
                return Ok(Import::Refused(refusal));
            }
            seen.extend(block.data.as_chunks().0.iter().map(|&bytes| TokenId::from_le_bytes(bytes)));
        }
        Ok(Import::Whole(ScriptedCache(seen)))
    }

    fn forward<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut ScriptedCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.pass(tokens, 1, cache, cancel)
    }

    fn forward_rows<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut ScriptedCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.pass(tokens, tokens.len(), cache, cancel)
    }

    fn draft_cost(&mut self, cache: &mut ScriptedCache, _: &Cancel) -> Result<Option<DraftCost>> {
        Ok((self.draft_costs)(cache.len()))
    }
}
