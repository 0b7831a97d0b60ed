//! The engine: one request becomes events and a finish.

use std::ops::Range;
use std::time::Instant;

use crate::embed::Embedder;
use crate::kv_block::{Import, KV_BLOCK, KvBlock};
use crate::request::{Finish, FinishReason, Progress, Request, Usage};
use crate::session::Session;
use crate::sessions::{Kept, SessionId, Sessions, Taken};
use crate::speculation::{MOST_DRAFTED, Speculation, look_up};
use crate::{
    Cancel, Decoder, EmbedRequest, Embedded, Error, Forward, Message, ModelSpec, ModelText, Piece,
    RenderOptions, Result, Sampler, TextStream, TokenId, next_turn_tokens, prompt_tokens, starts_thinking,
};

/// The tokens of one prefill pass. Larger ones are no faster and answer a stop later; full logits of this
/// many rows over 150,000 tokens take 154 MB already.
pub const PREFILL_CHUNK: usize = KV_BLOCK;

/// The tokens of one pass in idle time: few, since a pass that is interrupted is lost.
const AHEAD_CHUNK: usize = 32;

/// A loaded model with the sessions that it keeps. One reply at a time, as `&mut self` says.
pub struct Engine<D: Decoder> {
    decoder: D,
    text: ModelText,
    window: usize,
    sessions: Sessions<D>,
    embedder: Embedder<D>,
}

/// How far a session is that reads on between two turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAhead {
    /// It has what was asked for.
    Whole,
    /// So many tokens are left.
    Left(usize),
    /// The pass was cancelled; what was read before it is kept.
    Cancelled,
    /// The session has gone, or has no room.
    Ended,
}

/// What a pass led to.
enum Step {
    Token(TokenId),
    Cancelled,
    ContextFull,
}

impl<D: Decoder> Engine<D> {
    /// An engine over `decoder` that holds at most `cache_window` KV rows (`None`: as many as the model
    /// can use).
    pub fn new(decoder: D, text: ModelText, cache_window: Option<usize>) -> Self {
        let most = decoder.spec().context_length;
        let window = cache_window.map_or(most, |window| window.clamp(1, most));
        Self { decoder, text, window, sessions: Sessions::new(0), embedder: Embedder::default() }
    }

    /// The prompt of a conversation, ending where the reply begins.
    ///
    /// # Errors
    /// [`Error::Template`] where the chat template refuses the messages; [`Error::Tokenizer`].
    pub fn prompt(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<TokenId>> {
        prompt_tokens(&self.text.template, &self.text.tokenizer, messages, options)
    }

    /// The ids with which the prompt of the next turn begins, whatever is asked in it.
    ///
    /// # Errors
    /// As [`Engine::prompt`].
    pub fn next_turn(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<TokenId>> {
        next_turn_tokens(&self.text.template, &self.text.tokenizer, messages, options)
    }

    /// The ids of plain text, no template around it, for a raw continuation.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        self.text.tokenizer.encode_plain(text)
    }

    /// What the model is and how it runs.
    pub fn spec(&self) -> &ModelSpec {
        self.decoder.spec()
    }

    /// The decoder, for what only it can tell.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// The most KV rows that a session may have.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The tokens in the KV cache of the session used last.
    pub fn seen(&self) -> &[TokenId] {
        self.sessions.last().map_or(&[], |kept| kept.session.seen())
    }

    /// The memory of all KV caches in bytes.
    pub fn kv_bytes(&self) -> usize {
        self.sessions.bytes()
    }

    /// Keeps as many sessions as fit into `bytes`, and always the one used last.
    pub fn set_kv_budget(&mut self, bytes: usize) {
        self.sessions.set_budget(bytes);
    }

    /// Forgets everything that was read. The next prompt is read from its beginning.
    pub fn forget(&mut self) {
        self.sessions.clear();
        self.embedder.reset();
    }

    /// Turns texts into vectors. The conversation's KV cache stays as it is.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn embed(&mut self, request: &EmbedRequest, cancel: &Cancel) -> Result<Embedded> {
        self.embedder.embed(&mut self.decoder, &self.text.tokenizer, self.window, request, cancel)
    }

    /// How many tokens of `prompt` a session holds.
    pub fn warm_tokens(&self, prompt: &[TokenId]) -> usize {
        self.sessions.shared_with(prompt)
    }

    /// The session used last.
    pub fn last_session(&self) -> Option<SessionId> {
        self.sessions.last().map(|kept| kept.id)
    }

    /// The tokens of a session, while it lives.
    pub fn session_tokens(&self, id: SessionId) -> Option<&[TokenId]> {
        self.sessions.find(id).map(Session::seen)
    }

    /// Frees one session; returns its bytes.
    pub fn forget_session(&mut self, id: SessionId) -> usize {
        self.sessions.remove(id)
    }

    /// Forgets the ids of sessions that gave way to others: nobody knows any longer whose they were.
    pub fn forget_evicted(&mut self) {
        self.sessions.forget_evicted();
    }

    /// Rows of a session as a block; `None` where the session has gone or does not have them.
    ///
    /// # Errors
    /// [`Error::Run`].
    pub fn export_block(&self, id: SessionId, rows: Range<usize>) -> Result<Option<KvBlock>> {
        self.sessions.find(id).map_or(Ok(None), |session| session.export(&self.decoder, rows))
    }

    /// Makes a session of `blocks`, at most `rows` rows from the first token on, as if their tokens had been
    /// read: all that come, or none where one does not fit. Returns its rows.
    ///
    /// # Errors
    /// [`Error::Run`], as where memory runs out.
    pub fn restore(
        &mut self,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<usize>> {
        self.sessions.restore(&self.decoder, rows, blocks)
    }

    /// Makes one small pass towards a session that has read exactly `beginning`, which the prompt of the next
    /// turn is known to begin with. What the session has otherwise is forgotten with the first pass. Meant for
    /// moments when nobody waits.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Invalid`]; the session is gone then.
    pub fn read_ahead(&mut self, id: SessionId, beginning: &[TokenId], cancel: &Cancel) -> Result<ReadAhead> {
        if cancel.is_cancelled() {
            return Ok(ReadAhead::Cancelled);
        }
        if beginning.len() > self.window {
            return Ok(ReadAhead::Ended);
        }
        let Some(mut kept) = self.sessions.take_out(id) else { return Ok(ReadAhead::Ended) };
        let read = kept.rewind_to_beginning(beginning)?;
        let pass = &beginning[read..beginning.len().min(read + AHEAD_CHUNK)];
        let outcome = if pass.is_empty() {
            ReadAhead::Whole
        } else {
            match kept.session.feed(&mut self.decoder, pass, cancel)? {
                Forward::Logits(_) => match beginning.len() - read - pass.len() {
                    0 => ReadAhead::Whole,
                    left => ReadAhead::Left(left),
                },
                Forward::Cancelled => ReadAhead::Cancelled,
                Forward::ContextFull => ReadAhead::Ended,
            }
        };
        self.sessions.put_back(kept);
        Ok(outcome)
    }

    /// Generates one reply: keeps what the KV cache shares with the prompt, reads the rest in chunks, and
    /// samples until an end.
    ///
    /// A stop asked for by `cancel` is an outcome. After it, and after every other finish, the KV cache is
    /// valid and the next prompt builds on it.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::Invalid`] before anything runs; [`Error::Run`] and
    /// [`Error::LogitsNotFinite`] from the model. After the last two the KV cache is thrown away and what
    /// `on_progress` was given is the reply so far.
    pub fn generate(
        &mut self,
        request: &Request,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Finish> {
        self.check(request)?;
        let started = Instant::now();
        let Taken { kept: Kept { id, mut session, .. }, limit } =
            self.sessions.take(&self.decoder, &request.prompt)?;
        let mut reply = Reply::new(self, request, session.seen().len(), started)?;
        reply.usage.reuse_limit = limit;
        // After an error the session is not put back: a cache in doubt costs time, never truth.
        reply.read_prompt(self, &mut session, cancel, on_progress)?;
        while reply.reason.is_none() {
            reply.decode_next(self, &mut session, cancel, on_progress)?;
        }
        self.sessions.put_back(Kept::new(id, session));
        let finish = reply.finish(on_progress);
        let Usage { prompt_tokens, reused_tokens, new_tokens, prefill_seconds, decode_seconds, .. } =
            finish.usage;
        let Finish { drafted_tokens, accepted_tokens, .. } = finish;
        tracing::info!(reason = ?finish.reason, prompt_tokens, reused_tokens, new_tokens, drafted_tokens,
            accepted_tokens, prefill_seconds, decode_seconds, "reply finished");
        Ok(finish)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let invalid = |reason: String| Err(Error::Invalid { reason });
        if request.prompt.is_empty() {
            return invalid("the prompt is empty: a model needs at least one token to go on from".into());
        }
        if request.continued > request.prompt.len() {
            return invalid("a reply cannot be longer than the prompt that holds it".into());
        }
        if let Err(reason) = request.sampling.check() {
            return invalid(reason);
        }
        if request.prompt.len() > self.window {
            return Err(Error::PromptTooLong { tokens: request.prompt.len(), window: self.window });
        }
        Ok(())
    }
}

/// A reply in the making.
struct Reply<'r> {
    request: &'r Request,
    sampler: Sampler,
    stream: TextStream,
    /// How many of the first logits belong to tokens that the tokenizer knows; the rest are padding.
    known_tokens: usize,
    tokens: Vec<TokenId>,
    /// How many of `tokens` were told with their text.
    told: usize,
    text: String,
    thinking: String,
    /// The token chosen last, which the KV cache does not hold yet.
    next: Option<TokenId>,
    reason: Option<FinishReason>,
    /// Once a draft was found: whether and when drafts pay.
    speculation: Option<Option<Speculation>>,
    drafted_tokens: usize,
    accepted_tokens: usize,
    usage: Usage,
    started: Instant,
    first_token: Option<Instant>,
}

impl<'r> Reply<'r> {
    fn new<D: Decoder>(
        engine: &Engine<D>,
        request: &'r Request,
        reused: usize,
        started: Instant,
    ) -> Result<Self> {
        let (before, own) = request.prompt.split_at(request.prompt.len() - request.continued);
        let mut sampler = Sampler::new(&request.sampling, before);
        let starts_thinking = starts_thinking(before, &engine.text.tokenizer);
        let mut stream = TextStream::new(&engine.text.tokenizer, request.stop.clone(), starts_thinking);
        let (mut text, mut thinking) = (String::new(), String::new());
        for &token in own {
            sampler.remember(token);
            let piece = stream.push(token)?;
            text.push_str(&piece.text);
            thinking.push_str(&piece.thinking);
        }
        Ok(Self {
            request,
            sampler,
            stream,
            known_tokens: engine.text.tokenizer.vocabulary_size(),
            tokens: Vec::new(),
            told: 0,
            text,
            thinking,
            next: None,
            reason: None,
            speculation: None,
            drafted_tokens: 0,
            accepted_tokens: 0,
            usage: Usage { prompt_tokens: request.prompt.len(), reused_tokens: reused, ..Usage::default() },
            started,
            first_token: None,
        })
    }

    /// Runs what the KV cache lacks of the prompt, and chooses the first token.
    fn read_prompt<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        session: &mut Session<D>,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let request = self.request;
        let (total, reused) = (request.prompt.len(), self.usage.reused_tokens);
        on_progress(Progress::Prefill { done: reused, total, reused });
        if request.max_new_tokens == 0 {
            self.reason = Some(FinishReason::MaxTokens);
            return Ok(());
        }
        for chunk in request.prompt[reused..].chunks(PREFILL_CHUNK) {
            let last = session.seen().len() + chunk.len() == total;
            match self.step(engine, session, chunk, last, cancel)? {
                Some(Step::Token(token)) => self.accept(engine, token, on_progress)?,
                Some(Step::Cancelled) => self.reason = Some(FinishReason::Cancelled),
                Some(Step::ContextFull) => self.reason = Some(FinishReason::ContextFull),
                None => {}
            }
            on_progress(Progress::Prefill { done: session.seen().len(), total, reused });
            if self.reason.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Runs the token chosen last and chooses the one behind it.
    fn decode_next<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        session: &mut Session<D>,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let Some(token) = self.next else {
            self.reason = Some(FinishReason::Cancelled);
            return Ok(());
        };
        if session.seen().len() >= engine.window {
            self.reason = Some(FinishReason::ContextFull);
            return Ok(());
        }
        let draft = self.draft(engine, session, token, cancel)?;
        let checked = &[token][..];
        if !draft.is_empty()
            && self.check_draft(engine, session, &[checked, &draft].concat(), cancel, on_progress)?
        {
            return Ok(());
        }
        match self.step(engine, session, checked, true, cancel)? {
            Some(Step::Token(token)) => self.accept(engine, token, on_progress)?,
            Some(Step::ContextFull) => self.reason = Some(FinishReason::ContextFull),
            Some(Step::Cancelled) | None => self.reason = Some(FinishReason::Cancelled),
        }
        Ok(())
    }

    /// What may follow `token`, from where the same tokens stood before; empty where no draft pays. It has
    /// room in the window, and in what was asked for.
    fn draft<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        session: &mut Session<D>,
        token: TokenId,
        cancel: &Cancel,
    ) -> Result<Vec<TokenId>> {
        let left = self.request.max_new_tokens - self.usage.new_tokens;
        let most = MOST_DRAFTED.min(left - 1).min(engine.window - session.seen().len() - 1);
        if most == 0 || matches!(self.speculation, Some(None)) {
            return Ok(Vec::new());
        }
        let found = look_up(session.seen(), token, most);
        let is_end = |token: &TokenId| engine.text.stop_ids.contains(token);
        let found = &found[..found.iter().position(is_end).unwrap_or(found.len())];
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = found.to_vec();
        // Nothing is measured before there is a use for it, and what was measured holds up to a depth that a reply
        // may outgrow.
        let cost = session.draft_cost(&mut engine.decoder, cancel)?;
        let known = self.speculation.take().flatten();
        let mut speculation = cost.map(|cost| match known {
            Some(known) => known.at(cost),
            None => Speculation::new(cost),
        });
        found.truncate(speculation.as_mut().map_or(0, |speculation| speculation.length(found.len())));
        self.speculation = Some(speculation);
        Ok(found)
    }

    /// One pass over the token chosen last and the draft behind it. Chooses tokens from row after row until
    /// one is not that of the draft; whatever the draft, they are those that passes of single tokens would
    /// have led to, as far as the measurement of drafts can tell. Returns whether there was room for the pass.
    fn check_draft<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        session: &mut Session<D>,
        tokens: &[TokenId],
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<bool> {
        if cancel.is_cancelled() {
            return Ok(false);
        }
        let (width, before) = (engine.spec().vocabulary_size, session.seen().len());
        let logits = match session.feed_rows(&mut engine.decoder, tokens, cancel)? {
            Forward::Logits(logits) => logits,
            Forward::Cancelled | Forward::ContextFull => return Ok(false),
        };
        let draft = &tokens[1..];
        let mut chosen = Vec::with_capacity(tokens.len());
        for (row, logits) in logits.chunks_exact_mut(width).enumerate() {
            let position = before + row + 1;
            let known = self.known_tokens.min(width);
            let token =
                self.sampler.sample(&mut logits[..known]).ok_or(Error::LogitsNotFinite { position })?;
            chosen.push(token);
            if draft.get(row) != Some(&token) {
                break;
            }
        }
        let accepted = chosen.len() - 1;
        self.drafted_tokens += draft.len();
        self.accepted_tokens += accepted;
        if let Some(Some(speculation)) = &mut self.speculation {
            speculation.learn(draft.len(), accepted);
        }
        let mut kept = before;
        for token in chosen {
            self.accept(engine, token, on_progress)?;
            kept += 1;
            if self.reason.is_some() {
                break;
            }
        }
        // The token chosen last has no row yet, as after a pass of one token.
        if session.truncate(kept)? != kept {
            return Err(Error::Run { doing: "taking drafted tokens back".into(), source: None });
        }
        Ok(true)
    }

    /// One forward pass; chooses a token from its logits if `choose`.
    fn step<D: Decoder>(
        &mut self,
        engine: &mut Engine<D>,
        session: &mut Session<D>,
        tokens: &[TokenId],
        choose: bool,
        cancel: &Cancel,
    ) -> Result<Option<Step>> {
        if cancel.is_cancelled() {
            return Ok(Some(Step::Cancelled));
        }
        let position = session.seen().len() + tokens.len();
        match session.feed(&mut engine.decoder, tokens, cancel)? {
            Forward::Logits(logits) if choose => {
                let known = self.known_tokens.min(logits.len());
                let token = self.sampler.sample(&mut logits[..known]);
                Ok(Some(Step::Token(token.ok_or(Error::LogitsNotFinite { position })?)))
            }
            Forward::Logits(_) => Ok(None),
            Forward::Cancelled => Ok(Some(Step::Cancelled)),
            Forward::ContextFull => Ok(Some(Step::ContextFull)),
        }
    }

    /// Takes a chosen token into the reply, and sees whether the reply ends with it.
    fn accept<D: Decoder>(
        &mut self,
        engine: &Engine<D>,
        token: TokenId,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        self.first_token.get_or_insert_with(Instant::now);
        self.usage.new_tokens += 1;
        if engine.text.stop_ids.contains(&token) && !self.request.ignore_end_of_turn {
            self.reason = Some(FinishReason::EndOfTurn);
            return Ok(());
        }
        self.tokens.push(token);
        self.next = Some(token);
        let piece = self.stream.push(token)?;
        let stopped = piece.stopped;
        self.emit(piece, on_progress);
        if stopped {
            self.reason = Some(FinishReason::StopString);
        } else if self.usage.new_tokens >= self.request.max_new_tokens {
            self.reason = Some(FinishReason::MaxTokens);
        }
        Ok(())
    }

    fn emit(&mut self, piece: Piece, on_progress: &mut dyn FnMut(Progress)) {
        if !piece.thinking.is_empty() {
            self.thinking.push_str(&piece.thinking);
            on_progress(Progress::Thinking { text: piece.thinking, tokens: self.untold() });
        }
        if !piece.text.is_empty() {
            self.text.push_str(&piece.text);
            on_progress(Progress::Text { text: piece.text, tokens: self.untold() });
        }
    }

    /// The ids generated since the last were told.
    fn untold(&mut self) -> Vec<TokenId> {
        let tokens = self.tokens[self.told..].to_vec();
        self.told = self.tokens.len();
        tokens
    }

    fn finish(mut self, on_progress: &mut dyn FnMut(Progress)) -> Finish {
        let rest = self.stream.finish();
        self.emit(rest, on_progress);
        let ended = Instant::now();
        let first = self.first_token.unwrap_or(ended);
        self.usage.prefill_seconds = first.duration_since(self.started).as_secs_f64();
        self.usage.decode_seconds = ended.duration_since(first).as_secs_f64();
        Finish {
            reason: self.reason.unwrap_or(FinishReason::Cancelled),
            text: self.text,
            thinking: self.thinking,
            tokens: self.tokens,
            usage: self.usage,
            drafted_tokens: self.drafted_tokens,
            accepted_tokens: self.accepted_tokens,
            seed: self.sampler.seed(),
        }
    }
}
