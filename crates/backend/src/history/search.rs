//! Full-text search over titles and messages: by an index of words, and, for scripts that put no blanks between
//! them, by looking through the newest texts.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{Connection, Row, Rows, params};
use uuid::Uuid;

use super::lenient;

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

/// How many messages are looked through for words that no index knows, the newest first.
const MOST_SCANNED: i64 = 20_000;

/// Around the first of the words, so many characters make a snippet.
const BEFORE: usize = 24;
const AFTER: usize = 72;

/// What is searched for.
pub(super) struct Query {
    /// As a query of FTS5: each word as a string, so that nothing in it is an operator.
    indexed: String,
    /// The words, where one of them is of a script without blanks: to the index a sentence is one word there.
    scanned: Vec<String>,
}

/// What is typed, as a query. `None` where no word is in it.
pub(super) fn query(words: &str) -> Option<Query> {
    let words: Vec<&str> = words
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(16)
        .collect();
    if words.is_empty() {
        return None;
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    let is_unknown = words.iter().any(|word| word.chars().any(has_no_blanks));
    let scanned = words.iter().filter(|_| is_unknown).map(|word| word.to_lowercase()).collect();
    // The last word is still being typed. A single letter begins too many words to look through them all.
    let is_letter = words.last().is_some_and(|word| word.len() == 1);
    Some(Query { indexed: format!("{}{}", quoted.join(" "), if is_letter { "" } else { "*" }), scanned })
}

/// Whether a character is of a script that puts no blanks between words: Thai, Lao, Myanmar, Khmer, kana, Han.
fn has_no_blanks(character: char) -> bool {
    matches!(
        character,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
            | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}'
    )
}

/// Titles first, then messages, the newest of both first.
pub(super) fn find(connection: &Connection, query: &Query, most: usize) -> rusqlite::Result<Vec<SearchHit>> {
    let mut hits =
        if query.scanned.is_empty() { Vec::new() } else { scan(connection, &query.scanned, most)? };
    let known: HashSet<(Uuid, Option<Uuid>)> =
        hits.iter().map(|hit| (hit.conversation, hit.message)).collect();
    let indexed = look_up(connection, &query.indexed, most)?;
    hits.extend(indexed.into_iter().filter(|hit| !known.contains(&(hit.conversation, hit.message))));
    hits.truncate(most);
    Ok(hits)
}

/// Looks through the titles and the newest messages for text in which all `words` are.
fn scan(connection: &Connection, words: &[String], most: usize) -> rusqlite::Result<Vec<SearchHit>> {
    // What has no upper case is looked for first, so that SQLite can compare it as it is.
    let parts = words.iter().flat_map(|word| word.split(|character| !has_no_blanks(character)));
    let rarest = parts.max_by_key(|part| part.len()).unwrap_or_default();
    let mut hits = Vec::new();
    for sql in [
        "SELECT id, title, NULL, title, updated FROM conversation
         WHERE deleted IS NULL AND instr(title, ?1) > 0 AND ?2 > 0 ORDER BY number DESC",
        "SELECT conversation.id, conversation.title, message.id, message.text, message.created
         FROM (SELECT number, id, conversation, text, created FROM message ORDER BY number DESC LIMIT ?2)
                 AS message
             JOIN conversation ON conversation.number = message.conversation
         WHERE deleted IS NULL AND instr(message.text, ?1) > 0 ORDER BY message.number DESC",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![rarest, MOST_SCANNED])?;
        while let Some(row) = rows.next()?
            && hits.len() < most
        {
            let (text, id) = (lenient::text(row, 3), lenient::id(row, 0));
            let Some(conversation) = id.filter(|_| is_in(&text, words)) else { continue };
            hits.push(SearchHit {
                conversation,
                title: lenient::text(row, 1),
                message: lenient::id(row, 2),
                snippet: excerpt(&text, rarest),
                at: lenient::time(row, 4),
            });
        }
    }
    Ok(hits)
}

fn is_in(text: &str, words: &[String]) -> bool {
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word))
}

/// `text` around the first time that `word` is in it.
fn excerpt(text: &str, word: &str) -> Vec<SnippetPart> {
    let place = text.find(word).unwrap_or_default();
    let begin = text[..place].char_indices().rev().take(BEFORE).last().map_or(place, |(begin, _)| begin);
    let end = text[place..].char_indices().nth(AFTER).map_or(text.len(), |(after, _)| place + after);
    let mut marked = text[begin..end].replace(word, &format!("{BEGIN}{word}{END}"));
    if begin > 0 {
        marked.insert(0, '…');
    }
    if end < text.len() {
        marked.push('…');
    }
    parts(&marked)
}

/// What the index finds.
fn look_up(connection: &Connection, query: &str, most: usize) -> rusqlite::Result<Vec<SearchHit>> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let (begin, end) = (BEGIN.to_string(), END.to_string());
    let mut statement = connection.prepare_cached(
        "SELECT conversation.id, conversation.title, NULL, highlight(title_words, 0, ?2, ?3), updated
         FROM title_words JOIN conversation ON conversation.number = title_words.rowid
         WHERE title_words MATCH ?1 AND deleted IS NULL ORDER BY title_words.rowid DESC LIMIT ?4",
    )?;
    let mut hits = all(statement.query(params![query, begin, end, limit])?)?;
    let mut statement = connection.prepare_cached(
        "SELECT conversation.id, conversation.title, message.id,
             snippet(message_words, 0, ?2, ?3, '…', 16), message.created
         FROM message_words JOIN message ON message.number = message_words.rowid
             JOIN conversation ON conversation.number = message.conversation
         WHERE message_words MATCH ?1 AND deleted IS NULL ORDER BY message_words.rowid DESC LIMIT ?4",
    )?;
    hits.extend(all(statement.query(params![query, begin, end, limit])?)?);
    Ok(hits)
}

fn all(rows: Rows<'_>) -> rusqlite::Result<Vec<SearchHit>> {
    rows.mapped(|row| Ok(hit(row))).filter_map(Result::transpose).collect()
}

/// A hit, where its conversation can be opened.
fn hit(row: &Row<'_>) -> Option<SearchHit> {
    Some(SearchHit {
        conversation: lenient::id(row, 0)?,
        title: lenient::text(row, 1),
        message: lenient::id(row, 2),
        snippet: parts(&lenient::text(row, 3)),
        at: lenient::time(row, 4),
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
