//! The only printer: what was asked for goes to stdout, all else to stderr.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use backend::FinishReason;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::lines::{FinishedReply, Line};

/// A prompt with at least this many tokens to read shows how far it is.
const LONG_PROMPT: usize = 512;

/// A longer line of progress would wrap and leave its beginning behind.
const PROGRESS_WIDTH: usize = 78;

/// Prints replies and facts, as text or as JSON lines.
pub(crate) struct Printer {
    json: bool,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    colours: bool,
    /// The first failure of stdout. What comes after it is not printed.
    failure: Option<std::io::Error>,
    reply: ReplyState,
}

/// What of a reply stands on the terminal already.
#[derive(Default)]
struct ReplyState {
    thinking: bool,
    /// The characters of the progress line that must be taken away again.
    progress_width: usize,
    /// The last character printed, or `None` before the first.
    last: Option<char>,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let stderr_is_terminal = std::io::stderr().is_terminal();
        // https://no-color.org: any value but an empty one.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self {
            json,
            stdout_is_terminal,
            stderr_is_terminal,
            colours,
            failure: None,
            reply: ReplyState::default(),
        }
    }

    /// Whether JSON lines were asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stderr is a terminal that may show colours.
    pub(crate) fn colours_stderr(&self) -> bool {
        self.colours && self.stderr_is_terminal
    }

    /// Whether stdout takes nothing any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.failure.is_some()
    }

    /// What kept stdout from taking everything.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn check(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), |error| Err(Error::Output(error)))
    }

    /// How far the prompt is read.
    pub(crate) fn prefill(&mut self, done: usize, total: usize, reused: usize) {
        if self.json {
            self.json_line(&Line::Prefill { done, total, reused });
        } else if self.stderr_is_terminal && total - reused >= LONG_PROMPT {
            if done < total {
                let text = format!("reading the prompt: {done} of {total} tokens");
                let muted = self.muted(&text);
                self.stderr(&format!("\r{muted}"));
                self.reply.progress_width = text.len();
            } else {
                self.clear_progress();
            }
        }
    }

    /// What is being done, on a terminal, until something else is printed.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.stderr_is_terminal && !self.json {
            let shown: String =
                harmless(text).chars().filter(|letter| *letter != '\n').take(PROGRESS_WIDTH).collect();
            let width = shown.chars().count();
            // Written over the line before: a line that is taken away first flickers.
            let over = " ".repeat(self.reply.progress_width.saturating_sub(width));
            let line = self.muted(&shown).into_owned();
            self.stderr(&format!("\r{line}{over}"));
            self.reply.progress_width = width;
        }
    }

    /// More of the reply.
    pub(crate) fn text(&mut self, text: &str) {
        if self.json {
            return self.json_line(&Line::Text { text });
        }
        self.clear_progress();
        if std::mem::take(&mut self.reply.thinking) {
            let end = if self.colours { "\u{1b}[0m\n\n" } else { "\n\n" };
            self.stdout(end);
        }
        self.reply.last = text.chars().last().or(self.reply.last);
        let text = if self.stdout_is_terminal { harmless(text) } else { text.into() };
        self.stdout(&text);
    }

    /// More of what the model thinks. It is no part of the reply, so a pipe does not get it.
    pub(crate) fn thinking(&mut self, text: &str) {
        if self.json {
            return self.json_line(&Line::Thinking { text });
        }
        if !self.stdout_is_terminal {
            return;
        }
        self.clear_progress();
        if !std::mem::replace(&mut self.reply.thinking, true) {
            let begin = if self.colours { "\u{1b}[2mThinking: " } else { "Thinking: " };
            self.stdout(begin);
        }
        self.reply.last = text.chars().last().or(self.reply.last);
        self.stdout(&harmless(text));
    }

    /// The end of a reply.
    pub(crate) fn finish(&mut self, reply: &FinishedReply) {
        if self.json {
            return self.json_line(&reply.line());
        }
        self.end_reply();
        if self.stderr_is_terminal {
            let statistics = self.muted(&statistics(reply)).into_owned();
            self.stderr(&format!("{statistics}\n"));
        }
    }

    /// The model's memory of the conversation was cleared.
    pub(crate) fn reset(&mut self) {
        if self.json {
            return self.json_line(&Line::Reset);
        }
        self.aside("The model has forgotten what was said before.");
    }

    /// A fact that the user should know.
    pub(crate) fn notice(&mut self, code: &str, message: &str) {
        if self.json {
            return self.json_line(&Line::Notice { code, message });
        }
        self.end_reply();
        self.stderr(&format!("notice: {}\n", harmless(message)));
    }

    /// A failure, and what to do about it.
    pub(crate) fn error(&mut self, error: &Error) {
        let message = error.message();
        if self.json {
            return self.json_line(&Line::Error { code: error.code(), message: &message });
        }
        self.end_reply();
        let hint = error.hint().map(|hint| format!("  {hint}\n")).unwrap_or_default();
        self.stderr(&format!("error: {}\n{hint}", harmless(&message)));
    }

    /// Takes the line of progress away.
    pub(crate) fn end_progress(&mut self) {
        self.clear_progress();
    }

    /// A line that belongs to the conversation with the user and not to the output.
    pub(crate) fn aside(&mut self, text: &str) {
        self.clear_progress();
        let text = harmless(text);
        let text = self.muted(&text).into_owned();
        self.stderr(&format!("{text}\n"));
    }

    /// A line of plain output.
    pub(crate) fn line(&mut self, text: &str) {
        self.clear_progress();
        let text = harmless(text);
        self.stdout(&format!("{text}\n"));
    }

    /// A whole document, as it is, unless a terminal would obey what is in it.
    pub(crate) fn document(&mut self, text: &str) {
        self.clear_progress();
        let text = match (self.json, self.stdout_is_terminal) {
            (true, _) => escape_controls(text),
            (false, true) => harmless(text),
            (false, false) => text.into(),
        };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.stdout(&format!("{text}{end}"));
    }

    /// An object on a line of its own.
    pub(crate) fn json_line(&mut self, object: &impl Serialize) {
        let text = serde_json::to_string(object).expect("plain data with text keys becomes JSON");
        self.stdout(&format!("{}\n", escape_controls(&text)));
    }

    /// Says how the run went, and gives its exit code.
    pub(crate) fn conclude(&mut self, result: Result<()>) -> ExitCode {
        let result = self.check().and(result);
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
            Err(error) => {
                self.error(&error);
                ExitCode::from(error.exit_code())
            }
        }
    }

    /// Ends the reply's last line, so that what follows has one of its own.
    fn end_reply(&mut self) {
        self.clear_progress();
        let reply = std::mem::take(&mut self.reply);
        if reply.thinking && self.colours {
            self.stdout("\u{1b}[0m");
        }
        if reply.last.is_some_and(|last| last != '\n') {
            self.stdout("\n");
        }
    }

    fn clear_progress(&mut self) {
        let width = std::mem::take(&mut self.reply.progress_width);
        if width > 0 {
            self.stderr(&format!("\r{}\r", " ".repeat(width)));
        }
    }

    fn muted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.colours_stderr() {
            Cow::Owned(format!("\u{1b}[2m{text}\u{1b}[0m"))
        } else {
            Cow::Borrowed(text)
        }
    }

    fn stdout(&mut self, text: &str) {
        if self.failure.is_some() {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        // Flushed at once: whoever reads sees the reply as it is made.
        if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            self.failure = Some(error);
        }
    }

    fn stderr(&self, text: &str) {
        // There is no third place to say that stderr is closed.
        std::io::stderr().lock().write_all(text.as_bytes()).ok();
    }
}

/// The work of a reply in one line.
fn statistics(reply: &FinishedReply) -> String {
    let usage = &reply.usage;
    let mut parts = Vec::new();
    let decoded = usage.new_tokens.saturating_sub(1);
    parts.push(format!("{} tokens", usage.new_tokens));
    if decoded > 0 && usage.decode_seconds > 0.0 {
        parts.push(format!("{:.1} tokens/s", decoded as f64 / usage.decode_seconds));
    }
    let read = usage.prompt_tokens - usage.reused_tokens;
    let mut reading =
        format!("read {read} in {:.2} s, reused {}", usage.prefill_seconds, usage.reused_tokens);
    if usage.restored_tokens > 0 {
        reading.push_str(&format!(", {} of them from disk", usage.restored_tokens));
    }
    parts.push(reading);
    match reply.reason {
        Some(FinishReason::MaxTokens) => parts.push("ended at the most tokens asked for".into()),
        Some(FinishReason::ContextFull) => parts.push("ended because the context is full".into()),
        Some(FinishReason::Cancelled) | None => parts.push("stopped".into()),
        Some(FinishReason::StopString) => parts.push("ended at a stop text".into()),
        Some(FinishReason::EndOfTurn) => {}
    }
    parts.join(" · ")
}

/// `text` with every control character but tab and newline made visible, so that foreign text cannot drive
/// the terminal: no colours, no title, no clipboard (OSC 52).
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |character: char| character.is_control() && !matches!(character, '\t' | '\n');
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let shown = |character: char| match character {
        '\t' | '\n' => character,
        // The Control Pictures of Unicode stand in the order of the characters that they show.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        other => other,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// JSON escapes C0 by itself. Delete and C1 may stand in it as they are, and a terminal obeys some of them.
fn escape_controls(json: &str) -> Cow<'_, str> {
    let is_harmful = |character: char| matches!(character, '\u{7f}'..='\u{9f}');
    if !json.contains(is_harmful) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_harmful(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::{escape_controls, harmless};

    #[test]
    fn no_control_sequence_of_a_model_reaches_the_terminal() {
        let attacks = [
            "\u{1b}[31mred",
            "\u{1b}]0;title\u{7}",
            "\u{1b}]52;c;cm0gLXJm\u{7}",
            "\u{1b}[2J",
            "\u{1b}c",
            "\u{9b}31m",
            "\u{9d}0;title\u{9c}",
            "\u{1b}P1$r\u{1b}\\",
            "\u{8}\u{8}\u{8}",
            "\rover",
            "\u{7f}",
            "\0",
        ];
        for attack in attacks {
            let shown = harmless(attack);
            assert!(!shown.chars().any(char::is_control), "{attack:?} became {shown:?}");
        }
        assert_eq!(harmless("\u{1b}[31m"), "␛[31m", "what was there can still be seen");
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        let text = "a\tb\nÄ 🔥 \u{200d} ﷽";
        assert_eq!(harmless(text), text);
    }

    #[test]
    fn json_with_c1_controls_holds_the_same_text() {
        let text = "\u{9b}31m\u{7f}\u{1b}\u{85}ä";
        let json = serde_json::to_string(text).unwrap();
        let escaped = escape_controls(&json);
        assert!(!escaped.chars().any(char::is_control), "{escaped:?}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
