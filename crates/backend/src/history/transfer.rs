//! Conversations as files: written as Markdown or JSON, read from that JSON or from a ChatGPT export.

use std::fmt::Write as _;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;
use uuid::Uuid;

use super::chat_gpt;
use super::conversations;
use super::messages;
use super::record::{self, ConversationRecord};
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
const FORMAT: &str = "hearth conversations";
const VERSION: u32 = 1;

/// A larger file is no file of conversations.
const LARGEST_FILE: u64 = 1 << 30;

/// What a file with conversations is called.
pub(super) fn file_name(title: Option<&str>, format: ExportFormat) -> String {
    let allowed = |character: char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
    let name: String = title.unwrap_or_default().chars().filter(|&character| allowed(character)).collect();
    let name = name.trim();
    let name = if name.is_empty() { "Hearth conversations" } else { name };
    format!("{name}.{}", format.ending())
}

/// One conversation as text.
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
            Ok(record.and_then(|record| serde_json::to_string_pretty(&record).ok()))
        }
    }
}

fn markdown(conversation: &Conversation) -> String {
    let mut text = String::new();
    let title = &conversation.about.title;
    // Writing into a string does not fail.
    writeln!(text, "# {}\n", if title.is_empty() { "Untitled" } else { title }).ok();
    if let Some(system) = &conversation.system_prompt {
        writeln!(text, "*System prompt:* {system}\n").ok();
    }
    for entry in &conversation.entries {
        match entry {
            Entry::Question(question) => writeln!(text, "## You\n\n{}\n", question.text),
            Entry::Reply(reply) => writeln!(text, "## {}\n\n{}\n", reply.model, reply.text),
            Entry::MemoryReset { .. } => writeln!(text, "---\n\n*Memory reset*\n"),
            Entry::ContextLine { .. } | Entry::ModelSwitched { .. } => Ok(()),
        }
        .ok();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
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

/// Reads a file of conversations. Those that make no sense are counted and left out.
pub(super) fn read_file(path: &Path) -> Result<(Vec<ConversationRecord>, usize)> {
    let failed = |reason: String| Error::Import { path: path.to_path_buf(), reason };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let size = file.metadata().map_err(|error| failed(error.to_string()))?.len();
    if size > LARGEST_FILE {
        return Err(failed(format!(
            "it has {size} bytes, and a file of conversations has at most {LARGEST_FILE}"
        )));
    }
    let value: Value = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| failed(format!("it is no JSON file of conversations: {error}")))?;
    records(value).map_err(failed)
}

/// What an imported message is believed: its text, and not the ids of a file that anybody may have written.
fn without_ids(mut record: ConversationRecord) -> ConversationRecord {
    for message in &mut record.messages {
        message.tokens.clear();
        if message.status == "generating" {
            message.status = "interrupted".into();
        }
    }
    record
}

fn records(value: Value) -> std::result::Result<(Vec<ConversationRecord>, usize), String> {
    let (read, total): (Vec<ConversationRecord>, usize) = match value {
        Value::Array(conversations) => {
            let total = conversations.len();
            (conversations.iter().filter_map(chat_gpt::conversation).collect(), total)
        }
        Value::Object(mut file) if file.get("format").and_then(Value::as_str) == Some(FORMAT) => {
            let version = file.get("version").and_then(Value::as_u64).unwrap_or(u64::MAX);
            if version > u64::from(VERSION) {
                return Err(format!(
                    "it is of version {version}, and this Hearth knows {VERSION}; update Hearth"
                ));
            }
            let Some(Value::Array(conversations)) = file.remove("conversations") else {
                return Err("it has no list of conversations".into());
            };
            let total = conversations.len();
            let read = conversations.into_iter().filter_map(|value| serde_json::from_value(value).ok());
            (read.filter(is_sound).map(without_ids).collect(), total)
        }
        // One conversation alone, as the terminal writes it.
        value => match serde_json::from_value(value) {
            Ok(record) if is_sound(&record) => (vec![without_ids(record)], 1),
            _ => {
                return Err("it is neither a file of Hearth's conversations nor `conversations.json` of a \
                            ChatGPT export"
                    .into());
            }
        },
    };
    let refused = total - read.len();
    Ok((read, refused))
}

/// Whether the parts of a record fit together.
fn is_sound(record: &ConversationRecord) -> bool {
    let mut known = std::collections::HashSet::new();
    record.messages.iter().all(|message| {
        let is_known_role = matches!(message.role.as_str(), "user" | "assistant");
        let has_parent = message.parent.is_none_or(|parent| known.contains(&parent));
        is_known_role && has_parent && known.insert(message.id)
    })
}
