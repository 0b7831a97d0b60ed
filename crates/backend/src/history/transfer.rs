//! Conversations as files: written as Markdown or JSON. `import` reads them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::Path;

use rusqlite::Connection;
use uuid::Uuid;

use super::conversations;
use super::messages;
use super::record;
use crate::conversation::{Conversation, Entry};
use crate::error::{Error, Result};

/// What conversations are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The current branch, for people.
    Markdown,
    /// Everything, for Hearth and other programs.
    Json,
}

impl ExportFormat {
    fn ending(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Json => "json",
        }
    }
}

/// What came of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportReport {
    pub written: usize,
    /// Conversations that could not be read; the others were written all the same.
    pub refused: usize,
}

/// What came of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Conversations that are new here, or have messages that were not.
    pub imported: usize,
    /// Conversations of which everything was here.
    pub unchanged: usize,
    /// Conversations that could not be read; the others were imported all the same.
    pub refused: usize,
}

/// Says what a JSON file holds.
pub(super) const FORMAT: &str = "hearth conversations";
pub(super) const VERSION: u32 = 1;

/// The most bytes of a name without its ending, so that every file system takes it.
const LONGEST_NAME: usize = 100;

/// What a file with conversations is called.
pub(super) fn file_name(title: Option<&str>, format: ExportFormat) -> String {
    let allowed = |character: char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
    let name: String = title.unwrap_or_default().chars().filter(|&character| allowed(character)).collect();
    let name = name.trim();
    let name = name[..name.floor_char_boundary(LONGEST_NAME)].trim_end();
    let name = if name.is_empty() { "Hearth conversations" } else { name };
    let mark = if is_device(name) { "_" } else { "" };
    format!("{mark}{name}.{}", format.ending())
}

/// Whether Windows gives this name to a device, whatever ending follows.
fn is_device(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let port = ["COM", "LPT"].iter().find_map(|port| name.strip_prefix(port));
    let is_port = port.is_some_and(|number| number.chars().count() == 1);
    is_port || matches!(name.as_str(), "CON" | "PRN" | "AUX" | "NUL")
}

/// One conversation as text; JSON on one line.
pub(super) fn text(
    connection: &Connection,
    id: Uuid,
    format: ExportFormat,
) -> rusqlite::Result<Option<String>> {
    let header = conversations::find(connection, id)?.filter(|header| header.deleted.is_none());
    let Some(header) = header else { return Ok(None) };
    match format {
        ExportFormat::Markdown => Ok(Some(markdown(&messages::read(connection, header, usize::MAX)?))),
        ExportFormat::Json => {
            let record = record::read(connection, id)?;
            Ok(record.and_then(|record| serde_json::to_string(&record).ok()))
        }
    }
}

fn markdown(conversation: &Conversation) -> String {
    let mut text = String::new();
    let title = one_line(&conversation.about.title);
    // Writing into a string does not fail.
    writeln!(text, "# {}\n", if title.is_empty() { "Untitled" } else { &title }).ok();
    if let Some(system) = &conversation.system_prompt {
        writeln!(text, "*System prompt:* {}\n", closed(system)).ok();
    }
    for entry in &conversation.entries {
        match entry {
            Entry::Question(question) => writeln!(text, "## You\n\n{}\n", closed(&question.text)),
            Entry::Reply(reply) => {
                writeln!(text, "## {}\n\n{}\n", one_line(&reply.model), closed(&reply.text))
            }
            Entry::MemoryReset { .. } => writeln!(text, "---\n\n*Memory reset*\n"),
            Entry::ContextLine { .. } | Entry::ModelSwitched { .. } => Ok(()),
        }
        .ok();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with its last code block or comment closed, where it ends in the middle of one: otherwise that would go on
/// over all that follows.
fn closed(text: &str) -> Cow<'_, str> {
    let mut open: Option<Block> = None;
    for line in text.lines() {
        open = match open {
            Some(block) => Some(block).filter(|block| !block.ends_with(line)),
            None => Block::that_begins(line),
        };
    }
    match open {
        Some(Block { indent, end }) => format!("{}\n{indent}{end}", text.trim_end_matches('\n')).into(),
        None => text.into(),
    }
}

/// A part of Markdown that goes on until its end stands on a line.
struct Block {
    /// That of its first line, so that its end belongs to the same item of a list.
    indent: String,
    end: String,
}

impl Block {
    const COMMENT_END: &str = "-->";

    fn that_begins(line: &str) -> Option<Self> {
        let rest = line.trim_start_matches(' ');
        let indent = &line[..line.len() - rest.len()];
        // Further in it is text, or part of a list's item and ends with that.
        if indent.len() > 3 {
            return None;
        }
        let block = |end: &str| Some(Self { indent: indent.into(), end: end.into() });
        if let Some(comment) = rest.strip_prefix("<!--") {
            return if comment.contains(Self::COMMENT_END) { None } else { block(Self::COMMENT_END) };
        }
        let mark = rest.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let behind = rest.trim_start_matches(mark);
        let fence = &rest[..rest.len() - behind.len()];
        let is_fence = fence.len() >= 3 && (mark == '~' || !behind.contains(mark));
        if is_fence { block(fence) } else { None }
    }

    fn ends_with(&self, line: &str) -> bool {
        if self.end == Self::COMMENT_END {
            return line.contains(Self::COMMENT_END);
        }
        let line = line.trim();
        line.starts_with(&self.end) && line.chars().all(|mark| self.end.starts_with(mark))
    }
}

/// Writes a file, whole and renamed into place or not at all. `next` gives one conversation after the other.
pub(super) fn write_file(
    path: &Path,
    format: ExportFormat,
    mut next: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::Export {
        path: path.to_path_buf(),
        full: error.kind() == std::io::ErrorKind::StorageFull,
        reason: error.to_string(),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    {
        let mut out = BufWriter::new(file.as_file_mut());
        if format == ExportFormat::Json {
            write!(out, "{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\"conversations\":[")
                .map_err(failed)?;
        }
        let mut is_first = true;
        while let Some(text) = next()? {
            let between = match (format, is_first) {
                (_, true) => "\n",
                (ExportFormat::Json, false) => ",\n",
                (ExportFormat::Markdown, false) => "\n***\n\n",
            };
            if !(is_first && format == ExportFormat::Markdown) {
                out.write_all(between.as_bytes()).map_err(failed)?;
            }
            out.write_all(text.as_bytes()).map_err(failed)?;
            is_first = false;
        }
        if format == ExportFormat::Json {
            out.write_all(b"]}\n").map_err(failed)?;
        }
        out.flush().map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
