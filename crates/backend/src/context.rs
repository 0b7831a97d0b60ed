//! Which turns of a conversation the model is given.
//!
//! While everything fits, that is all since the last reset. When it no longer does, whole turns leave at once
//! until a good part of the window is free, so that the next replies build on the same beginning: a window
//! that moved with every turn would have to be read again with every turn. What is pinned stays, in its order
//! before the turns that are left.

use engine::{Message, RenderOptions, TokenId};
use uuid::Uuid;

use crate::conversation::{self, Conversation, Entry};
use crate::error::{Error, Result};
use crate::inference::Inference;

/// How much of the window the prompt may take after turns had to leave.
const KEPT_SHARE: f64 = 0.6;

/// A text of more bytes than this for each token of the window hardly fits: most languages have half as many in one.
const FAR_TOO_LONG: usize = 8;

/// The part of the window that is kept free for the reply, at most.
const RESERVED_PART: usize = 4;

/// How full a window may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) window: usize,
    /// What the reply may take.
    pub(crate) reserved: usize,
}

impl Room {
    pub(crate) fn new(window: usize, most_new_tokens: usize) -> Self {
        Self { window, reserved: most_new_tokens.min(window / RESERVED_PART) }
    }

    /// Whether a prompt of so many tokens leaves the reply its room within `limit`.
    fn has(self, tokens: usize, limit: usize) -> bool {
        tokens + self.reserved <= limit
    }
}

/// A prompt, and what it leaves out.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<TokenId>,
    /// The first message in it besides pinned ones, where not all since the last reset are.
    pub(crate) begins: Option<Uuid>,
}

/// What a prompt is made of.
pub(crate) struct Wanted<'c> {
    pub(crate) conversation: &'c Conversation,
    /// The reply stands here; what it answers stands above.
    pub(crate) end: usize,
    pub(crate) system: Option<&'c str>,
    pub(crate) options: RenderOptions,
    /// Tokens that follow the prompt: what the reply has said already.
    pub(crate) said: usize,
    /// Where the prompt of the reply before began, if it left something out.
    pub(crate) began: Option<Uuid>,
}

/// Makes the prompt that fits. Where not even the last turn does, the prompt has everything, and the engine
/// says by how much it is too long.
///
/// # Errors
/// [`Error::PinnedTooLong`] where only what is pinned keeps the last turn from fitting; those of the template
/// and the tokenizer.
pub(crate) async fn fit(inference: &Inference, room: Room, wanted: Wanted<'_>) -> Result<Prompt> {
    let turns = turns(wanted.conversation, wanted.end);
    let first = wanted
        .began
        .and_then(|id| turns.iter().position(|&place| wanted.conversation.entries[place].id() == id))
        .unwrap_or(0);
    let last = turns.len().saturating_sub(1);
    let whole = async || -> Result<Prompt> {
        let tokens = render(inference, &wanted, &turns, first).await?;
        Ok(Prompt { tokens, begins: begins(&wanted, &turns, first) })
    };
    let mut leaving = Leaving { inference, room, wanted: &wanted, turns: &turns, low: first + 1, best: None };
    if !is_far_too_long(&wanted, &turns, first, room) || !leaving.look_from_the_end().await? {
        let prompt = whole().await?;
        if room.has(prompt.tokens.len() + wanted.said, room.window) {
            return Ok(prompt);
        }
        if first >= last {
            refuse_pinned(inference, room, &wanted, &turns, prompt.tokens.len()).await?;
            return Ok(prompt);
        }
    }
    let (turn, tokens) = leaving.fewest().await?;
    if tokens.len() + wanted.said >= room.window {
        refuse_pinned(inference, room, &wanted, &turns, tokens.len()).await?;
        return whole().await;
    }
    Ok(Prompt { tokens, begins: begins(&wanted, &turns, turn) })
}

/// Whether there is so much text that looking at it from its end costs less than making a prompt of all of it.
fn is_far_too_long(wanted: &Wanted<'_>, turns: &[usize], first: usize, room: Room) -> bool {
    let entries = &wanted.conversation.entries[place(wanted, turns, first)..wanted.end];
    let bytes = |entry: &Entry| match entry {
        Entry::Question(question) => question.text.len(),
        Entry::Reply(reply) => reply.text.len(),
        _ => 0,
    };
    entries.iter().map(bytes).sum::<usize>() / FAR_TOO_LONG > room.window
}

/// The search for the fewest turns that must leave. With every turn that leaves a prompt has fewer tokens.
struct Leaving<'w> {
    inference: &'w Inference,
    room: Room,
    wanted: &'w Wanted<'w>,
    turns: &'w [usize],
    /// So many turns must leave at least.
    low: usize,
    /// So many are enough, and the prompt without them; where not even all but the last are, those.
    best: Option<(usize, Vec<TokenId>)>,
}

impl Leaving<'_> {
    /// Tries ever more turns from the end. Says whether some were found that do not fit, so that all do not either.
    async fn look_from_the_end(&mut self) -> Result<bool> {
        let (mut count, begin) = (1, self.low);
        while let Some(turn) = self.turns.len().checked_sub(count).filter(|&turn| turn >= begin) {
            let tokens = self.look(turn).await?;
            if !self.room.has(tokens + self.wanted.said, self.room.window) {
                return Ok(true);
            }
            count *= 2;
        }
        Ok(false)
    }

    /// Finds the fewest, and the prompt without them.
    async fn fewest(mut self) -> Result<(usize, Vec<TokenId>)> {
        loop {
            match self.best {
                None => self.look(self.turns.len() - 1).await?,
                Some((high, _)) if self.low < high => self.look(self.low.midpoint(high)).await?,
                Some(best) => return Ok(best),
            };
        }
    }

    /// Makes the prompt without the turns before `turn`; returns its tokens.
    async fn look(&mut self, turn: usize) -> Result<usize> {
        let Self { inference, room, wanted, turns, .. } = *self;
        let tokens = render(inference, wanted, turns, turn).await?;
        let count = tokens.len();
        let is_enough = room.has(count + wanted.said, (room.window as f64 * KEPT_SHARE) as usize);
        if !is_enough {
            self.low = self.low.max((turn + 1).min(turns.len() - 1));
        }
        if is_enough || self.best.is_none() {
            self.best = Some((turn, tokens));
        }
        Ok(count)
    }
}

/// Refuses a prompt of `prompt` tokens that ends with the last turn, where the turn fits without what is pinned
/// above it.
async fn refuse_pinned(
    inference: &Inference,
    room: Room,
    wanted: &Wanted<'_>,
    turns: &[usize],
    prompt: usize,
) -> Result<()> {
    let begin = place(wanted, turns, turns.len().saturating_sub(1));
    let fits = |tokens: usize| tokens + wanted.said < room.window;
    if fits(prompt) || wanted.conversation.pinned_above(begin).is_empty() {
        return Ok(());
    }
    let bare = render_with(inference, wanted, Vec::new(), begin).await?.len();
    if !fits(bare) {
        return Ok(());
    }
    Err(Error::PinnedTooLong { pinned: prompt.saturating_sub(bare), prompt, window: room.window })
}

/// What stands before the question of the next turn, as long as no further turn has to leave for it.
/// `wanted` ends with the last reply.
pub(crate) fn before_next_turn(wanted: &Wanted<'_>) -> Vec<Message> {
    let begin = wanted.began.and_then(|id| wanted.conversation.place_of(id));
    let begin = begin.unwrap_or_else(|| wanted.conversation.memory_start(wanted.end));
    messages_from(wanted, wanted.conversation.pinned_above(begin), begin)
}

/// The places where turns begin: at a question that follows no other one.
fn turns(conversation: &Conversation, end: usize) -> Vec<usize> {
    let start = conversation.memory_start(end);
    let mut turns = Vec::new();
    let mut follows_question = false;
    for (place, entry) in conversation.entries[..end].iter().enumerate().skip(start) {
        match entry {
            Entry::Question(_) => {
                if !follows_question {
                    turns.push(place);
                }
                follows_question = true;
            }
            // Only a reply that says something parts two questions.
            Entry::Reply(reply) if !reply.is_empty() => follows_question = false,
            _ => {}
        }
    }
    turns
}

fn begins(wanted: &Wanted<'_>, turns: &[usize], first: usize) -> Option<Uuid> {
    (first > 0).then(|| wanted.conversation.entries[turns[first]].id())
}

/// Where the prompt begins that leaves out the turns before `turns[first]`.
fn place(wanted: &Wanted<'_>, turns: &[usize], first: usize) -> usize {
    let whole = wanted.conversation.memory_start(wanted.end);
    turns.get(first).copied().filter(|_| first > 0).unwrap_or(whole)
}

async fn render(
    inference: &Inference,
    wanted: &Wanted<'_>,
    turns: &[usize],
    first: usize,
) -> Result<Vec<TokenId>> {
    let begin = place(wanted, turns, first);
    render_with(inference, wanted, wanted.conversation.pinned_above(begin), begin).await
}

/// The prompt of `above` and of all from `begin` on.
async fn render_with(
    inference: &Inference,
    wanted: &Wanted<'_>,
    above: Vec<&Entry>,
    begin: usize,
) -> Result<Vec<TokenId>> {
    inference.prompt(messages_from(wanted, above, begin), wanted.options.clone()).await
}

/// The messages of `above` and of all from `begin` on.
fn messages_from(wanted: &Wanted<'_>, above: Vec<&Entry>, begin: usize) -> Vec<Message> {
    let entries = above.into_iter().chain(&wanted.conversation.entries[begin..wanted.end]);
    conversation::messages(entries, wanted.system)
}
