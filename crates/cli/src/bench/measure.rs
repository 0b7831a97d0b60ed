//! The runs: prefill and decode behind a depth, and the first tokens of a growing chat.

use backend::{Finish, FinishReason, LoadedModel, Request, Sampling, TokenId, Update};

use super::random_ids::{bound, random_ids};
use super::report::{AtDepth, Chat, Measured, Turn, median};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::run::Run;

const MEASURED_RUNS: usize = 3;
const TURNS: usize = 10;
/// What each turn of the chat reads and writes.
const TURN_TOKENS: usize = 64;
const TURN_REPLY: usize = 32;

/// The lengths of every run, in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) prompt: usize,
    pub(super) new: usize,
}

/// The model under measurement, and how it is asked.
pub(super) struct Measurement<'r> {
    run: &'r Run,
    about: &'r LoadedModel,
    sampling: Sampling,
    seed: u64,
}

impl<'r> Measurement<'r> {
    pub(super) fn new(run: &'r Run, about: &'r LoadedModel, sampling: Sampling, seed: u64) -> Self {
        Self { run, about, sampling, seed }
    }

    /// Reads `depth` tokens once, then measures prompts behind them and what is generated.
    pub(super) fn at_depth(&self, lengths: Lengths, depth: usize, printer: &mut Printer) -> Result<AtDepth> {
        let mut runs = Vec::new();
        for number in 0..=MEASURED_RUNS {
            let measured = self.measure(lengths, depth, number)?;
            // The first run warms up: kernels are chosen, buffers grow.
            if number > 0 {
                measured.tell(number, depth, printer);
                runs.push(measured);
            }
        }
        Ok(AtDepth {
            depth,
            prefill_tokens_per_second: median(runs.iter().map(|run| run.prefill_tokens_per_second)),
            decode_tokens_per_second: median(runs.iter().map(|run| run.decode_tokens_per_second)),
            runs,
        })
    }

    fn measure(&self, lengths: Lengths, depth: usize, number: usize) -> Result<Measured> {
        let Lengths { prompt, new } = lengths;
        // The depth is the same in every run, and the first token behind it another one.
        let mut tokens = self.ids(0, depth);
        let mut fresh = self.ids(1, prompt);
        fresh[0] = (fresh[0] + number as TokenId) % bound(self.about.spec.vocabulary_size);
        tokens.extend(fresh);
        if depth == 0 {
            self.run.wait(self.run.inference().forget())?;
        } else if number == 0 {
            self.generate(&tokens[..depth], 1)?;
        }
        // A reply of no tokens only takes back what the run before left behind the depth.
        self.generate(&tokens[..=depth], 0)?;
        let finish = self.generate(&tokens, new)?;
        let usage = finish.usage;
        let void = |reason: String| Err(Error::Measurement { reason });
        if usage.reused_tokens != depth {
            return void(format!("{} tokens were reused and not {depth}", usage.reused_tokens));
        }
        if finish.reason != FinishReason::MaxTokens || usage.new_tokens != new {
            return void(format!("the run ended after {} of {new} tokens", usage.new_tokens));
        }
        Ok(Measured {
            prefill_seconds: usage.prefill_seconds,
            decode_seconds: usage.decode_seconds,
            prefill_tokens_per_second: prompt as f64 / usage.prefill_seconds,
            // The first token comes with the prefill.
            decode_tokens_per_second: (new - 1) as f64 / usage.decode_seconds,
            drafted_tokens: finish.drafted_tokens,
            accepted_tokens: finish.accepted_tokens,
        })
    }

    /// A chat whose every turn has the same number of unread tokens behind a history that grows. `None` where
    /// the context has no room for it.
    pub(super) fn growing_chat(&self, printer: &mut Printer) -> Result<Option<Chat>> {
        if TURNS * (TURN_TOKENS + TURN_REPLY) > self.about.window {
            return Ok(None);
        }
        let mut chats = Vec::new();
        for _ in 0..MEASURED_RUNS {
            chats.push(self.chat()?);
        }
        let at = |turn: usize| Turn {
            turn: turn + 1,
            history: chats[0][turn].0,
            first_token_seconds: median(chats.iter().map(|chat| chat[turn].1)),
        };
        let chat = Chat { read: TURN_TOKENS, new: TURN_REPLY, turns: (0..TURNS).map(at).collect() };
        chat.tell(printer);
        Ok(Some(chat))
    }

    /// The tokens in the KV cache before each turn, and the seconds to its first token.
    fn chat(&self) -> Result<Vec<(usize, f64)>> {
        self.run.wait(self.run.inference().forget())?;
        let mut tokens = Vec::new();
        let mut turns = Vec::new();
        for turn in 0..TURNS {
            // The last token of a reply was chosen and not yet read.
            let unread = usize::from(turn > 0);
            tokens.extend(self.ids(2 + turn as u64, TURN_TOKENS - unread));
            let finish = self.generate(&tokens, TURN_REPLY)?;
            let usage = finish.usage;
            if usage.prompt_tokens - usage.reused_tokens != TURN_TOKENS {
                let read = usage.prompt_tokens - usage.reused_tokens;
                let reason = format!("turn {} read {read} tokens and not {TURN_TOKENS}", turn + 1);
                return Err(Error::Measurement { reason });
            }
            turns.push((usage.reused_tokens, usage.prefill_seconds));
            tokens.extend(finish.tokens);
        }
        Ok(turns)
    }

    fn generate(&self, prompt: &[TokenId], new: usize) -> Result<Finish> {
        let mut running = self.run.inference().generate(Request {
            prompt: prompt.to_vec(),
            continued: 0,
            sampling: self.sampling.clone(),
            max_new_tokens: new,
            stop: Vec::new(),
            ignore_end_of_turn: true,
        });
        self.run.wait(async {
            loop {
                if let Update::Finished(finish) = running.next().await? {
                    return Ok(*finish);
                }
            }
        })
    }

    /// Ids as a text has them, the same for the same seed and `part`.
    fn ids(&self, part: u64, count: usize) -> Vec<TokenId> {
        random_ids(self.seed ^ part.rotate_right(16), count, self.about.spec.vocabulary_size)
    }
}
