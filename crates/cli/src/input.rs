//! Where messages come from: an editor of lines in a terminal, or the lines of stdin.

use std::io::BufRead;

use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;

use crate::error::{Error, Result};

const PROMPT: &str = "> ";
const CONTINUED_PROMPT: &str = "… ";

/// Edits lines in the terminal. What was typed is remembered until the program ends.
pub(crate) struct LineEditor(rustyline::Editor<(), MemHistory>);

impl LineEditor {
    /// # Errors
    /// [`Error::Setup`] where this is no terminal that it can use.
    pub(crate) fn new() -> Result<Self> {
        let config = Config::builder().auto_add_history(true).build();
        let editor = rustyline::Editor::with_history(config, MemHistory::new()).map_err(|error| {
            Error::Setup { doing: "edit lines in this terminal", source: Box::new(error) }
        })?;
        Ok(Self(editor))
    }

    /// The next message; `None` where the user ends the conversation. A line that ends in a backslash goes
    /// on in the next one.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(crate) fn next_message(&mut self) -> Result<Option<String>> {
        let mut message = String::new();
        let mut prompt = PROMPT;
        loop {
            match self.0.readline(prompt) {
                Ok(line) => {
                    message.push_str(line.strip_suffix('\\').unwrap_or(&line));
                    if !line.ends_with('\\') {
                        return Ok(Some(message));
                    }
                    message.push('\n');
                    prompt = CONTINUED_PROMPT;
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
                // The window changed its size; the line is asked for again.
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(Error::Input { reason: error.to_string() }),
            }
        }
    }
}

/// The messages of stdin, one a line. Empty lines are none.
pub(crate) struct StdinMessages {
    lines: u64,
}

impl StdinMessages {
    pub(crate) fn new() -> Self {
        Self { lines: 0 }
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Input`] names the line.
    pub(crate) fn next_message(&mut self) -> Result<Option<String>> {
        loop {
            let mut line = Vec::new();
            self.lines += 1;
            let failed = |reason: String| Error::Input { reason: format!("line {}: {reason}", self.lines) };
            let read = std::io::stdin().lock().read_until(b'\n', &mut line);
            if read.map_err(|error| failed(error.to_string()))? == 0 {
                return Ok(None);
            }
            let line = String::from_utf8(line).map_err(|_| failed("it is no UTF-8 text".into()))?;
            let line = line.strip_suffix('\n').unwrap_or(&line);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if !line.trim().is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }
}
