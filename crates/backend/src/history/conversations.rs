//! Rows of conversations.

use engine::Clock;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::database::Attempt;
use super::lenient;
use super::title;
use super::tree::Number;
use crate::conversation::{ConversationSummary, now};
use crate::error::Error;

/// A conversation without its messages.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) number: Number,
    pub(super) about: ConversationSummary,
    pub(super) title_origin: String,
    pub(super) deleted: Option<Timestamp>,
    pub(super) system_prompt: Option<String>,
    pub(super) draft: String,
    pub(super) clock: Clock,
}

const COLUMNS: &str =
    "number, id, title, pinned, created, updated, model, title_origin, deleted, system_prompt, draft, clock";

fn header(row: &Row<'_>, id: Uuid) -> rusqlite::Result<Header> {
    Ok(Header {
        number: row.get(0)?,
        about: summary(row, id),
        title_origin: lenient::text(row, 7),
        deleted: lenient::whole(row, 8).map(time),
        system_prompt: lenient::text_if_any(row, 9),
        draft: lenient::text(row, 10),
        clock: clock(&lenient::text(row, 11)),
    })
}

fn summary(row: &Row<'_>, id: Uuid) -> ConversationSummary {
    ConversationSummary {
        id,
        title: lenient::text(row, 2),
        pinned: lenient::is_set(row, 3),
        private: false,
        saved: true,
        created: lenient::time(row, 4),
        updated: lenient::time(row, 5),
        model: lenient::text_if_any(row, 6),
    }
}

/// A time as it is kept. One that no calendar has becomes the earliest, so that a bad row still shows.
pub(super) fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn clock_text(clock: &Clock) -> String {
    serde_json::to_string(clock).unwrap_or_default()
}

pub(super) fn clock(text: &str) -> Clock {
    serde_json::from_str(text).unwrap_or_else(|_| Clock::now())
}

/// A conversation that nobody has written in yet.
pub(super) fn begin(connection: &Connection, id: Uuid) -> rusqlite::Result<()> {
    let at = now().as_microsecond();
    connection.execute(
        "INSERT INTO conversation (id, created, updated, clock) VALUES (?1, ?2, ?2, ?3)",
        params![id, at, clock_text(&Clock::now())],
    )?;
    Ok(())
}

/// The conversation `id`, a deleted one too.
pub(super) fn find(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<Header>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM conversation WHERE id = ?1"))?
        .query_row([id], |row| header(row, id))
        .optional()
}

/// The row of the conversation `id`, where it is there and not deleted.
pub(super) fn number(connection: &Connection, id: Uuid) -> Attempt<Number> {
    let number = connection
        .prepare_cached("SELECT number FROM conversation WHERE id = ?1 AND deleted IS NULL")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    number.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() }.into())
}

/// The row of the conversation `id`, a deleted one too: its reply may still be ending.
pub(super) fn number_of_any(connection: &Connection, id: Uuid) -> Attempt<Number> {
    let number = connection
        .prepare_cached("SELECT number FROM conversation WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    number.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() }.into())
}

/// Conversations in which something was said or that somebody named or pinned: the pinned ones first, then
/// those in which something was said last.
pub(super) fn list(
    connection: &Connection,
    skip: usize,
    most: usize,
) -> rusqlite::Result<Vec<ConversationSummary>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM conversation WHERE deleted IS NULL AND (title <> '' OR pinned
             OR EXISTS (SELECT 1 FROM message WHERE message.conversation = conversation.number))
         ORDER BY pinned DESC, updated DESC, number DESC LIMIT ?1 OFFSET ?2"
    ))?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let offset = i64::try_from(skip).unwrap_or(i64::MAX);
    // One without an id cannot be opened, and must not hide the others.
    let listed = statement
        .query_map(params![limit, offset], |row| Ok(lenient::id(row, 1).map(|id| summary(row, id))))?;
    listed.filter_map(Result::transpose).collect()
}

/// Every conversation, deleted ones left out, in no particular order.
pub(super) fn ids(connection: &Connection) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement =
        connection.prepare("SELECT id FROM conversation WHERE deleted IS NULL ORDER BY number")?;
    with_ids(statement.query([])?)
}

fn with_ids(rows: rusqlite::Rows<'_>) -> rusqlite::Result<Vec<Uuid>> {
    rows.mapped(|row| Ok(lenient::id(row, 0))).filter_map(Result::transpose).collect()
}

/// Changes one column of a conversation.
pub(super) fn set(
    change: &Transaction<'_>,
    id: Uuid,
    column: &'static str,
    value: &dyn rusqlite::ToSql,
) -> Attempt<()> {
    let number = number(change, id)?;
    let sql = format!("UPDATE conversation SET {column} = ?2 WHERE number = ?1");
    change.prepare_cached(&sql)?.execute(params![number, value])?;
    Ok(())
}

/// Gives a title, or the one by rule again where it is empty.
pub(super) fn rename(change: &Transaction<'_>, id: Uuid, text: &str) -> Attempt<()> {
    let title = title::of_user(text);
    if !title.is_empty() {
        set(change, id, "title", &title)?;
        return set(change, id, "title_origin", &"user");
    }
    set(change, id, "title_origin", &"none")?;
    set(change, id, "title", &"")?;
    let number = number(change, id)?;
    let first: Option<String> = change
        .query_row(
            "SELECT text FROM message WHERE conversation = ?1 AND role = 'user' ORDER BY number LIMIT 1",
            [number],
            |row| row.get(0),
        )
        .optional()?;
    first.map_or(Ok(()), |text| name_by_rule(change, number, &text).map_err(Into::into))
}

/// Names a conversation that has no name yet after a message.
pub(super) fn name_by_rule(change: &Transaction<'_>, number: Number, text: &str) -> rusqlite::Result<()> {
    change.execute(
        "UPDATE conversation SET title = ?2, title_origin = 'rule'
         WHERE number = ?1 AND title_origin = 'none'",
        params![number, title::of_message(text)],
    )?;
    Ok(())
}

/// Moves a conversation to the top of the list.
pub(super) fn touch(change: &Transaction<'_>, number: Number, at: Timestamp) -> rusqlite::Result<()> {
    change
        .prepare_cached("UPDATE conversation SET updated = max(updated, ?2) WHERE number = ?1")?
        .execute(params![number, at.as_microsecond()])?;
    Ok(())
}

/// Marks a conversation as deleted, or takes the mark away.
pub(super) fn set_deleted(change: &Transaction<'_>, id: Uuid, at: Option<Timestamp>) -> Attempt<()> {
    let changed = change.execute(
        "UPDATE conversation SET deleted = ?2 WHERE id = ?1",
        params![id, at.map(Timestamp::as_microsecond)],
    )?;
    if changed == 0 { Err(Error::ConversationUnknown { id: id.to_string() }.into()) } else { Ok(()) }
}

/// Removes a conversation with all its rows.
pub(super) fn remove(change: &Transaction<'_>, id: Uuid) -> rusqlite::Result<()> {
    // Each row would be removed by an action of the one that it hangs on, and SQLite nests a thousand of them.
    change.execute(
        "UPDATE message SET parent = NULL
         WHERE conversation = (SELECT number FROM conversation WHERE id = ?1)",
        [id],
    )?;
    change.execute("DELETE FROM conversation WHERE id = ?1", [id])?;
    Ok(())
}

/// The conversations that were deleted before `time`.
pub(super) fn deleted_before(connection: &Connection, time: Timestamp) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = connection.prepare("SELECT id FROM conversation WHERE deleted < ?1")?;
    with_ids(statement.query([time.as_microsecond()])?)
}

/// A fact about the whole, such as which conversation is open.
pub(super) fn fact(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
}

pub(super) fn set_fact(change: &Transaction<'_>, name: &str, value: &str) -> rusqlite::Result<()> {
    change.execute(
        "INSERT INTO fact (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
        [name, value],
    )?;
    Ok(())
}
