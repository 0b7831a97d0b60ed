//! The sessions that stay warm: several conversations, or branches of one, each with its KV cache.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kv_block::{Import, KV_BLOCK, KvBlock};
use crate::session::{Session, common_prefix};
use crate::{Decoder, Result, ReuseLimit, TokenId};

/// How many evicted sessions are remembered by their tokens, to tell why a prompt is read again.
const REMEMBERED: usize = 16;

/// Names a warm session for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(u64);

/// A session with its name.
pub(crate) struct Kept<D: Decoder> {
    pub(crate) id: SessionId,
    pub(crate) session: Session<D>,
    rewritten: Option<Rewritten>,
}

/// The beginning that a session is being brought to between two turns.
struct Rewritten {
    /// Where it differs from what the session had read.
    from: usize,
    beginning: Vec<TokenId>,
}

impl<D: Decoder> Kept<D> {
    pub(crate) fn new(id: SessionId, session: Session<D>) -> Self {
        Self { id, session, rewritten: None }
    }

    /// Forgets what is not part of `beginning`, and remembers where that was, for a prompt that comes before the
    /// rest was read. Returns how many tokens of `beginning` the session has.
    pub(crate) fn rewind_to_beginning(&mut self, beginning: &[TokenId]) -> Result<usize> {
        let from = common_prefix(self.session.seen(), beginning);
        if from < self.session.seen().len() {
            self.rewritten = Some(Rewritten { from, beginning: beginning.to_vec() });
        }
        self.session.truncate(from)
    }

    /// Why `prompt` has to be read behind the first `shared` tokens, where it goes on as this session differed.
    fn difference(&self, shared: usize, prompt: &[TokenId]) -> Option<ReuseLimit> {
        let seen = self.session.seen();
        if common_prefix(seen, prompt) < seen.len().min(prompt.len()) {
            return Some(ReuseLimit::DiffersAt { token: shared });
        }
        let rewritten = self.rewritten.as_ref()?;
        let is_awaited = common_prefix(&rewritten.beginning, prompt) > shared;
        is_awaited.then_some(ReuseLimit::DiffersAt { token: rewritten.from })
    }
}

/// A session for a prompt.
pub(crate) struct Taken<D: Decoder> {
    pub(crate) kept: Kept<D>,
    /// Why it has no more of the prompt; `None` where it has all that was ever read of it.
    pub(crate) limit: Option<ReuseLimit>,
}

/// Sessions within a budget of bytes, the one used last at the end.
pub(crate) struct Sessions<D: Decoder> {
    kept: Vec<Kept<D>>,
    budget: usize,
    next: u64,
    evicted: VecDeque<Vec<TokenId>>,
}

impl<D: Decoder> Sessions<D> {
    /// No sessions. A budget of 0 bytes keeps the one used last, as every budget does.
    pub(crate) fn new(budget: usize) -> Self {
        Self { kept: Vec::new(), budget, next: 0, evicted: VecDeque::new() }
    }

    pub(crate) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
        self.shrink();
    }

    pub(crate) fn last(&self) -> Option<&Kept<D>> {
        self.kept.last()
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<&Session<D>> {
        self.kept.iter().find(|kept| kept.id == id).map(|kept| &kept.session)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.session.bytes()).sum()
    }

    /// Frees one session; returns its bytes.
    pub(crate) fn remove(&mut self, id: SessionId) -> usize {
        let place = self.kept.iter().position(|kept| kept.id == id);
        place.map_or(0, |place| self.kept.remove(place).session.bytes())
    }

    /// One session, until it is put back.
    pub(crate) fn take_out(&mut self, id: SessionId) -> Option<Kept<D>> {
        let place = self.kept.iter().position(|kept| kept.id == id)?;
        Some(self.kept.remove(place))
    }

    /// Forgets what evicted sessions had read. Why one of their prompts is read again is then not told of them.
    pub(crate) fn forget_evicted(&mut self) {
        self.evicted.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.evicted.clear();
    }

    /// How many tokens of `prompt` the best session holds.
    pub(crate) fn shared_with(&self, prompt: &[TokenId]) -> usize {
        self.kept.iter().map(|kept| common_prefix(kept.session.seen(), prompt)).max().unwrap_or(0)
    }

    /// The session that shares most with `prompt`, rewound to what it shares. Where it would lose more than
    /// a block of rows and there is room, a copy is taken in its place: whoever goes back finds it as it was.
    pub(crate) fn take(&mut self, decoder: &D, prompt: &[TokenId]) -> Result<Taken<D>> {
        // The last of several that are equally good is the one used last.
        let best =
            (0..self.kept.len()).max_by_key(|&place| common_prefix(self.kept[place].session.seen(), prompt));
        let Some(best) = best else {
            let limit = self.limit(prompt, 0, Some(ReuseLimit::NothingKept));
            return Ok(Taken { kept: self.name(Session::new(decoder)?), limit });
        };
        let seen = self.kept[best].session.seen();
        let shared = common_prefix(seen, prompt).min(prompt.len().saturating_sub(1));
        let difference = self.kept[best].difference(shared, prompt);
        let lost = seen.len() - shared;
        let room = decoder.kv_layout().row_bytes().saturating_mul(prompt.len());
        let id = self.kept[best].id;
        let copy =
            if lost > KV_BLOCK && self.make_room(room, id) { self.copy(decoder, id, shared)? } else { None };
        let mut kept = match copy {
            Some(copy) => self.name(copy),
            // Its place may have changed.
            None => match self.kept.iter().position(|kept| kept.id == id) {
                Some(place) => self.kept.remove(place),
                None => self.name(Session::new(decoder)?),
            },
        };
        let reached = kept.session.rewind_to(prompt)?;
        let limit = self.limit(prompt, reached, difference);
        Ok(Taken { kept, limit })
    }

    /// Keeps a session as the one used last, and evicts the oldest ones beyond the budget.
    pub(crate) fn put_back(&mut self, kept: Kept<D>) {
        self.kept.push(kept);
        self.shrink();
    }

    /// Makes a session of at most `rows` rows from `blocks` and keeps it. Returns its rows.
    pub(crate) fn restore(
        &mut self,
        decoder: &D,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<usize>> {
        let bytes = decoder.kv_layout().row_bytes().saturating_mul(rows);
        while !self.kept.is_empty() && self.bytes().saturating_add(bytes) > self.budget {
            self.evict(0);
        }
        match Session::restore(decoder, rows, blocks)? {
            Import::Refused(refusal) => Ok(Import::Refused(refusal)),
            Import::Whole(session) => {
                let rows = session.seen().len();
                if rows > 0 {
                    let kept = self.name(session);
                    self.put_back(kept);
                }
                Ok(Import::Whole(rows))
            }
        }
    }

    fn name(&mut self, session: Session<D>) -> Kept<D> {
        self.next += 1;
        Kept::new(SessionId(self.next), session)
    }

    fn limit(&self, prompt: &[TokenId], reused: usize, otherwise: Option<ReuseLimit>) -> Option<ReuseLimit> {
        if reused + 1 >= prompt.len() {
            return None;
        }
        let lost = self.evicted.iter().any(|tokens| common_prefix(tokens, prompt) > reused);
        if lost { Some(ReuseLimit::Evicted) } else { otherwise }
    }

    /// Evicts the oldest sessions except `spared` until `bytes` more fit. Where they never would, nothing is
    /// evicted.
    fn make_room(&mut self, bytes: usize, spared: SessionId) -> bool {
        let spared_bytes = self.find(spared).map_or(0, Session::bytes);
        if spared_bytes.saturating_add(bytes) > self.budget {
            return false;
        }
        while self.bytes().saturating_add(bytes) > self.budget {
            let Some(place) = self.kept.iter().position(|kept| kept.id != spared) else { return false };
            self.evict(place);
        }
        true
    }

    /// A session of its own with the first `rows` rows of another.
    fn copy(&self, decoder: &D, id: SessionId, rows: usize) -> Result<Option<Session<D>>> {
        let Some(source) = self.find(id) else { return Ok(None) };
        if rows == 0 {
            return Session::new(decoder).map(Some);
        }
        let mut failure = None;
        let parts = (0..rows).step_by(KV_BLOCK).map(|start| start..rows.min(start + KV_BLOCK));
        let mut blocks = parts.map_while(|rows: Range<usize>| {
            source.export(decoder, rows).unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        });
        let copy = Session::restore(decoder, rows, &mut blocks)?;
        if let Some(error) = failure {
            return Err(error);
        }
        Ok(match copy {
            Import::Whole(session) if session.seen().len() == rows => Some(session),
            _ => None,
        })
    }

    fn shrink(&mut self) {
        while self.kept.len() > 1 && self.bytes() > self.budget {
            self.evict(0);
        }
    }

    fn evict(&mut self, place: usize) {
        let evicted = self.kept.remove(place);
        tracing::debug!(tokens = evicted.session.seen().len(), "evicted a warm session");
        self.evicted.push_back(evicted.session.into_seen());
        if self.evicted.len() > REMEMBERED {
            self.evicted.pop_front();
        }
    }
}
