//! Where messages come from: an editor of lines in a terminal, or the lines of stdin.

use std::io::BufRead;

use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use serde::Deserialize;

use crate::arguments::InputFormat;
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

/// What a line of stdin asks for.
pub(crate) enum Input {
    Message(String),
    /// The conversation begins anew.
    Reset,
}

/// The lines of stdin. Empty ones ask for nothing.
pub(crate) struct StdinLines {
    format: InputFormat,
    lines: u64,
}

impl StdinLines {
    pub(crate) fn new(format: InputFormat) -> Self {
        Self { format, lines: 0 }
    }

    /// What the next line asks for; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Input`] names the line.
    pub(crate) fn next_input(&mut self) -> Result<Option<Input>> {
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
            if line.trim().is_empty() {
                continue;
            }
            return match self.format {
                InputFormat::Text => Ok(Some(Input::Message(line.to_owned()))),
                InputFormat::Json => JsonLine::read(line).map(Some).map_err(|wrong| {
                    failed(format!(r#"{wrong}; expected {{"message": "TEXT"}} or {{"command": "reset"}}"#))
                }),
            };
        }
    }
}

/// A line of stdin in JSON. It has one of these and not the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    message: Option<String>,
    command: Option<String>,
}

impl JsonLine {
    /// What the line asks for, or what is wrong with it.
    fn read(line: &str) -> Result<Input, String> {
        // Serde would take an array for an object whose names were left out.
        if !line.trim_start().starts_with('{') {
            return Err("it is no JSON object".into());
        }
        let line: Self = serde_json::from_str(line).map_err(|error| in_one_line(&error))?;
        match (line.message, line.command.as_deref()) {
            (Some(text), None) if text.trim().is_empty() => Err("the message is empty".into()),
            (Some(text), None) => Ok(Input::Message(text)),
            (None, Some("reset")) => Ok(Input::Reset),
            (None, Some(command)) => Err(format!("there is no command `{command}`")),
            (Some(_), Some(_)) => Err("it has a message and a command".into()),
            (None, None) => Err("it has neither a message nor a command".into()),
        }
    }
}

/// The error without its line, which is always the first: it would contradict the line of stdin.
fn in_one_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!("{} at column {}", text.strip_suffix(&place).unwrap_or(&text), error.column())
}
