//! From token ids to text while they are generated.

use crate::{Result, TokenId, Tokenizer};

/// What one token added: whole characters only, and often nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Text between the model's thinking marks.
    pub thinking: String,
    /// Text for the user.
    pub text: String,
    /// A stop string was reached: generation should end, later tokens are ignored.
    pub stopped: bool,
}

impl Piece {
    /// Nothing to show and nothing to do.
    pub fn is_empty(&self) -> bool {
        self.thinking.is_empty() && self.text.is_empty() && !self.stopped
    }
}

/// Turns the ids of one reply into text. Text waits inside while it may be half a character or the beginning
/// of a stop string; [`TextStream::finish`] gives out the rest.
pub struct TextStream {
    tokenizer: Tokenizer,
    stop_strings: Vec<String>,
    thinking: bool,
    /// Blank lines after a thinking mark belong to the mark.
    trim_start: bool,
    section: Section,
    /// Visible text that begins a stop string.
    held: String,
    stopped: bool,
}

impl TextStream {
    /// `starts_thinking`: the prompt ended inside the thinking marks (see [`crate::starts_thinking`]).
    pub fn new(tokenizer: &Tokenizer, stop_strings: Vec<String>, starts_thinking: bool) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            stop_strings: stop_strings.into_iter().filter(|stop| !stop.is_empty()).collect(),
            thinking: starts_thinking,
            trim_start: starts_thinking,
            section: Section::default(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes the next generated id.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`] where the id cannot be decoded.
    pub fn push(&mut self, id: TokenId) -> Result<Piece> {
        let mut piece = Piece { stopped: self.stopped, ..Piece::default() };
        if self.stopped {
            return Ok(piece);
        }
        if let Some((open, close)) = self.tokenizer.thinking_marks()
            && (id == open || id == close)
        {
            let rest = self.section.finish(&self.tokenizer);
            self.show(rest, &mut piece);
            // A stop string never reaches across a mark.
            piece.text.push_str(&std::mem::take(&mut self.held));
            self.thinking = id == open;
            self.trim_start = true;
            return Ok(piece);
        }
        if self.tokenizer.is_special(id) {
            return Ok(piece);
        }
        let text = self.section.push(&self.tokenizer, id)?;
        self.show(text, &mut piece);
        Ok(piece)
    }

    /// Gives out everything that still waits; half a character becomes U+FFFD.
    pub fn finish(&mut self) -> Piece {
        let mut piece = Piece { stopped: self.stopped, ..Piece::default() };
        if self.stopped {
            return piece;
        }
        let rest = self.section.finish(&self.tokenizer);
        self.show(rest, &mut piece);
        piece.text.push_str(&std::mem::take(&mut self.held));
        piece
    }

    fn show(&mut self, mut text: String, piece: &mut Piece) {
        if self.trim_start {
            text.drain(..text.len() - text.trim_start().len());
            self.trim_start = text.is_empty();
        }
        if text.is_empty() {
            return;
        }
        if self.thinking {
            piece.thinking.push_str(&text);
            return;
        }
        self.held.push_str(&text);
        let first = self.stop_strings.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(end) = first {
            self.held.truncate(end);
            self.stopped = true;
            piece.stopped = true;
            piece.text.push_str(&std::mem::take(&mut self.held));
            return;
        }
        let keep = self.stop_strings.iter().map(|stop| beginning_at_end(&self.held, stop)).max().unwrap_or(0);
        piece.text.extend(self.held.drain(..self.held.len() - keep));
    }
}

/// Bytes of the longest end of `text` that begins `stop`.
fn beginning_at_end(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(index, _)| index)
        .rev()
        .find(|&length| text.ends_with(&stop[..length]))
        .unwrap_or(0)
}

/// The ids between two thinking marks, decoded as one text.
#[derive(Default)]
struct Section {
    /// All ids, for the rare decoder that changes text it has already given.
    all: Vec<TokenId>,
    /// Bytes of the text given out.
    given: usize,
    /// The last ids: some whose text was given out, then those that wait.
    window: Vec<TokenId>,
    /// How many of `window` were given out, and their text when decoded alone.
    shown: usize,
    prefix: String,
}

impl Section {
    fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> Result<String> {
        self.all.push(id);
        self.window.push(id);
        // The next byte may join this one in a character, or make the whole run invalid.
        if tokenizer.is_byte(id) {
            return Ok(String::new());
        }
        self.decode(tokenizer, false)
    }

    fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        // Every id was decoded before, alone or not, so this cannot fail for a reason of its own.
        let rest = self.decode(tokenizer, true).unwrap_or_default();
        *self = Self::default();
        rest
    }

    fn decode(&mut self, tokenizer: &Tokenizer, last: bool) -> Result<String> {
        let whole = tokenizer.decode_visible(&self.window)?;
        if whole.ends_with('\u{fffd}') && !last {
            return Ok(String::new());
        }
        let fresh = match whole.strip_prefix(self.prefix.as_str()) {
            Some(fresh) => fresh.to_owned(),
            None => tokenizer.decode_visible(&self.all)?.get(self.given..).unwrap_or_default().to_owned(),
        };
        if fresh.is_empty() {
            return Ok(fresh);
        }
        self.given += fresh.len();
        self.window.drain(..self.shown);
        self.shown = self.window.len();
        self.prefix = tokenizer.decode_visible(&self.window)?;
        Ok(fresh)
    }
}
