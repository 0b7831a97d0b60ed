//! Full-text search over titles and messages.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::conversations::time;

/// A place where the words stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    pub conversation: Uuid,
    pub title: String,
    /// The message; `None` where the title is what was found.
    pub message: Option<Uuid>,
    /// The words in their surroundings, in order.
    pub snippet: Vec<SnippetPart>,
    pub at: Timestamp,
}

/// A part of a snippet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnippetPart {
    pub text: String,
    /// Whether it is one of the words.
    pub matched: bool,
}

/// Where a match begins and ends in what SQLite gives back: characters that no text has a use for.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

/// What is typed, as a query of FTS5: each word as a string, so that nothing in it is an operator. `None`
/// where no word is in it.
pub(super) fn query(words: &str) -> Option<String> {
    let words: Vec<&str> = words
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(16)
        .collect();
    if words.is_empty() {
        return None;
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    // The last word is still being typed.
    Some(format!("{}*", quoted.join(" ")))
}

/// Titles first, then messages, the newest of both first.
pub(super) fn find(connection: &Connection, query: &str, most: usize) -> rusqlite::Result<Vec<SearchHit>> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let (begin, end) = (BEGIN.to_string(), END.to_string());
    let mut statement = connection.prepare_cached(
        "SELECT conversation.id, conversation.title, NULL, highlight(title_words, 0, ?2, ?3), updated
         FROM title_words JOIN conversation ON conversation.number = title_words.rowid
         WHERE title_words MATCH ?1 AND deleted IS NULL ORDER BY title_words.rowid DESC LIMIT ?4",
    )?;
    let mut hits: Vec<SearchHit> =
        statement.query_map(params![query, begin, end, limit], hit)?.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT conversation.id, conversation.title, message.id,
             snippet(message_words, 0, ?2, ?3, '…', 16), message.created
         FROM message_words JOIN message ON message.number = message_words.rowid
             JOIN conversation ON conversation.number = message.conversation
         WHERE message_words MATCH ?1 AND deleted IS NULL ORDER BY message_words.rowid DESC LIMIT ?4",
    )?;
    let messages = statement.query_map(params![query, begin, end, limit], hit)?;
    hits.extend(messages.collect::<rusqlite::Result<Vec<_>>>()?);
    hits.truncate(most);
    Ok(hits)
}

fn hit(row: &rusqlite::Row<'_>) -> rusqlite::Result<SearchHit> {
    Ok(SearchHit {
        conversation: row.get(0)?,
        title: row.get(1)?,
        message: row.get(2)?,
        snippet: parts(&row.get::<_, String>(3)?),
        at: time(row.get(4)?),
    })
}

/// Takes marked text apart.
fn parts(marked: &str) -> Vec<SnippetPart> {
    let mut parts: Vec<SnippetPart> = Vec::new();
    let mut matched = false;
    for piece in marked.split_inclusive([BEGIN, END]) {
        let text = piece.trim_end_matches([BEGIN, END]);
        if !text.is_empty() {
            parts.push(SnippetPart { text: text.to_owned(), matched });
        }
        matched = piece.ends_with(BEGIN);
    }
    parts
}
