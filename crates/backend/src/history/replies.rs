//! Rows of replies while they are made: saved piece by piece, and ended however they end.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::conversations;
use super::database::Attempt;
use super::lenient;
use super::messages::{Maker, MessageRow, bytes_if_any, bytes_of, note_model, reuse_limit_name, tokens_of};
use super::tree::Number;
use crate::conversation::{Reply, ReplyPiece, now};
use crate::error::Error;

/// Refuses to touch a reply that a run makes of which `is_elsewhere` says that it is another one.
pub(super) fn leave_to_others(
    change: &Transaction<'_>,
    reply: Uuid,
    is_elsewhere: &dyn Fn(Uuid) -> bool,
) -> Attempt<()> {
    let run = change
        .query_row("SELECT run FROM message WHERE id = ?1 AND status = 'generating'", [reply], |row| {
            Ok(lenient::id(row, 0))
        })
        .optional()?;
    if run.flatten().is_some_and(is_elsewhere) { Err(Error::Busy.into()) } else { Ok(()) }
}

/// Lets a reply go on.
pub(super) fn go_on(
    change: &Transaction<'_>,
    conversation: Uuid,
    reply: Uuid,
    maker: Maker<'_>,
    is_elsewhere: &dyn Fn(Uuid) -> bool,
) -> Attempt<()> {
    let number = conversations::number(change, conversation)?;
    leave_to_others(change, reply, is_elsewhere)?;
    if let Some(number) = number_of(change, reply)? {
        fold(change, number)?;
    }
    change.execute(
        "UPDATE message SET status = 'generating', run = ?2 WHERE id = ?1",
        params![reply, maker.run],
    )?;
    note_model(change, number, maker)?;
    conversations::touch(change, number, now())?;
    Ok(())
}

/// Writes what a reply under way goes on from.
pub(super) fn note_beginning(change: &Transaction<'_>, reply: &Reply) -> Attempt<()> {
    change.execute(
        "UPDATE message SET model = ?2, tokens = ?3, memory_begins = ?4
         WHERE id = ?1 AND status = 'generating'",
        params![reply.id, reply.model, bytes_if_any(&reply.tokens), reply.memory_begins],
    )?;
    Ok(())
}

/// Saves more of a reply under way.
pub(super) fn append(change: &Transaction<'_>, reply: Uuid, more: &ReplyPiece) -> Attempt<()> {
    // One that has ended meanwhile has its whole text.
    change
        .prepare_cached(
            "INSERT INTO chunk (message, place, text, thinking, tokens)
             SELECT number, (SELECT coalesce(max(place), 0) + 1 FROM chunk WHERE message = number), ?2, ?3, ?4
             FROM message WHERE id = ?1 AND status = 'generating'",
        )?
        .execute(params![reply, more.text, more.thinking, bytes_of(&more.tokens)])?;
    Ok(())
}

/// Writes a reply as it ended. Returns whether it was pinned meanwhile.
pub(super) fn finish(
    change: &Transaction<'_>,
    conversation: Uuid,
    reply: &Reply,
    settings: Option<&str>,
) -> Attempt<bool> {
    let number = conversations::number_of_any(change, conversation)?;
    let row = MessageRow::reply(reply, None);
    let finished = change.query_row(
        "UPDATE message SET text = ?2, thinking = ?3, status = ?4, finish = ?5, failure = ?6, tokens = ?7,
             model = ?8, seed = ?9, prompt_tokens = ?10, reused_tokens = ?11, new_tokens = ?12,
             prefill_seconds = ?13, decode_seconds = ?14, first_token_seconds = ?15, memory_begins = ?16,
             settings = coalesce(?17, settings), run = NULL, ended = ?18, restored_tokens = ?19,
             reuse_limit = ?20
         WHERE id = ?1 RETURNING pinned",
        params![
            row.id,
            row.text,
            row.thinking,
            row.status,
            row.finish,
            row.failure,
            row.tokens,
            row.model,
            row.seed,
            row.usage.map(|usage| usage.usage.prompt_tokens as i64),
            row.usage.map(|usage| usage.usage.reused_tokens as i64),
            row.usage.map(|usage| usage.usage.new_tokens as i64),
            row.usage.map(|usage| usage.usage.prefill_seconds),
            row.usage.map(|usage| usage.usage.decode_seconds),
            row.usage.map(|usage| usage.time_to_first_token_seconds),
            row.memory_begins,
            settings,
            now().as_microsecond(),
            row.usage.map(|usage| usage.usage.restored_tokens as i64),
            row.usage.and_then(|usage| reuse_limit_name(usage.usage.reuse_limit)),
        ],
        |row| Ok(lenient::is_set(row, 0)),
    );
    let Some(pinned) = finished.optional()? else {
        return Err(Error::MessageUnknown { id: reply.id.to_string(), what: "end" }.into());
    };
    change.execute(
        "DELETE FROM chunk WHERE message = (SELECT number FROM message WHERE id = ?1)",
        [reply.id],
    )?;
    conversations::touch(change, number, now())?;
    Ok(pinned)
}

/// Ends the replies of runs that have ended: what was saved of them is kept.
pub(super) fn interrupt(change: &Transaction<'_>, is_over: &dyn Fn(Option<Uuid>) -> bool) -> Attempt<usize> {
    let mut statement = change.prepare("SELECT number, run FROM message WHERE status = 'generating'")?;
    let under_way: Vec<(Number, Option<Uuid>)> = statement
        .query_map([], |row| Ok((row.get(0)?, lenient::id(row, 1))))?
        .collect::<rusqlite::Result<_>>()?;
    let over: Vec<Number> =
        under_way.into_iter().filter(|(_, run)| is_over(*run)).map(|(reply, _)| reply).collect();
    for &reply in &over {
        end_with_chunks(change, reply)?;
    }
    Ok(over.len())
}

fn end_with_chunks(change: &Transaction<'_>, reply: Number) -> rusqlite::Result<()> {
    fold(change, reply)?;
    change.execute(
        "UPDATE message SET status = 'interrupted', run = NULL, ended = ?2
         WHERE number = ?1 AND status = 'generating'",
        params![reply, now().as_microsecond()],
    )?;
    Ok(())
}

/// The row of the message `id`.
fn number_of(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<Number>> {
    connection.query_row("SELECT number FROM message WHERE id = ?1", [id], |row| row.get(0)).optional()
}

/// Ends a reply with what was saved of it.
pub(super) fn give_up(change: &Transaction<'_>, reply: Uuid) -> Attempt<()> {
    if let Some(number) = number_of(change, reply)? {
        end_with_chunks(change, number)?;
    }
    Ok(())
}

/// Makes the saved pieces of a reply part of it.
fn fold(change: &Transaction<'_>, reply: Number) -> rusqlite::Result<()> {
    let found =
        change.query_row("SELECT text, thinking, tokens FROM message WHERE number = ?1", [reply], |row| {
            Ok(ReplyPiece {
                text: lenient::text(row, 0),
                thinking: lenient::text(row, 1),
                tokens: tokens_of(lenient::bytes(row, 2)),
            })
        });
    let Some(before) = found.optional()? else { return Ok(()) };
    let whole = with_chunks(change, reply, before)?;
    change.execute(
        "UPDATE message SET text = ?2, thinking = ?3, tokens = ?4 WHERE number = ?1",
        params![reply, whole.text, whole.thinking, bytes_if_any(&whole.tokens)],
    )?;
    change.execute("DELETE FROM chunk WHERE message = ?1", [reply])?;
    Ok(())
}

/// What a reply under way had said in `before`, with the pieces that were saved since. It has ids where those
/// of all of it are known.
pub(super) fn with_chunks(
    connection: &Connection,
    message: Number,
    before: ReplyPiece,
) -> rusqlite::Result<ReplyPiece> {
    let mut whole = before;
    let says_nothing = whole.text.is_empty() && whole.thinking.is_empty();
    let mut are_known = says_nothing || !whole.tokens.is_empty();
    let mut statement = connection
        .prepare_cached("SELECT text, thinking, tokens FROM chunk WHERE message = ?1 ORDER BY place")?;
    let mut rows = statement.query([message])?;
    while let Some(row) = rows.next()? {
        whole.text.push_str(&lenient::text(row, 0));
        whole.thinking.push_str(&lenient::text(row, 1));
        // Older versions kept none.
        are_known &= matches!(row.get_ref(2)?, ValueRef::Blob(_));
        whole.tokens.extend(tokens_of(lenient::bytes(row, 2)));
    }
    if !are_known {
        whole.tokens.clear();
    }
    Ok(whole)
}
