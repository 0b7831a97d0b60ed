//! Rows of messages: how turns are written, and how a branch is read.

use engine::{Failure, FinishReason, ReuseLimit, TokenId, Usage};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;

use super::conversations::{self, Header, time};
use super::database::Attempt;
use super::lenient;
use super::replies;
use super::tree::{Node, Number, Tree};
use crate::conversation::{Conversation, Entry, Question, Reply, ReplyPiece, ReplyStatus, ReplyUsage};
use crate::error::Error;

/// The message that a new one stands under.
#[derive(Debug, Clone, Copy)]
pub(super) enum Under {
    /// The last of the current branch.
    Branch,
    /// The one that this message stands under, so that the new one is another version of it.
    Beside(Uuid),
}

/// Who makes a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker<'m> {
    /// The id of the model, which the conversation remembers.
    pub(super) model: Option<&'m str>,
    pub(super) run: Option<Uuid>,
}

/// Adds a question and the beginning of its reply. Returns every version of the question.
pub(super) fn ask(
    change: &Transaction<'_>,
    conversation: Uuid,
    under: Under,
    question: &Question,
    reply: &Reply,
    maker: Maker<'_>,
) -> Attempt<Vec<Uuid>> {
    let number = conversations::number(change, conversation)?;
    let parent = parent(change, number, under)?;
    let asked = insert(change, number, parent, &MessageRow::question(question))?;
    insert(change, number, Some(asked), &MessageRow::reply(reply, maker.run))?;
    conversations::name_by_rule(change, number, &question.text)?;
    conversations::touch(change, number, question.at)?;
    // What was sent no longer stands in the composer.
    change.execute("UPDATE conversation SET draft = '' WHERE number = ?1 AND draft <> ''", [number])?;
    note_model(change, number, maker)?;
    Ok(versions(change, number, parent)?)
}

pub(super) fn note_model(
    change: &Transaction<'_>,
    conversation: Number,
    maker: Maker<'_>,
) -> rusqlite::Result<()> {
    change.execute(
        "UPDATE conversation SET model = ?2 WHERE number = ?1 AND ?2 IS NOT NULL AND model IS NOT ?2",
        params![conversation, maker.model],
    )?;
    Ok(())
}

/// Every version of the message below `parent`, the oldest first.
fn versions(
    connection: &Connection,
    conversation: Number,
    parent: Option<Number>,
) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = connection
        .prepare_cached("SELECT id FROM message WHERE conversation = ?1 AND parent IS ?2 ORDER BY number")?;
    let ids = statement.query_map(params![conversation, parent], |row| Ok(lenient::id(row, 0)))?;
    Ok(ids.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Adds another version of a reply. An old one that says nothing goes: nothing of it could be lost. Returns every
/// version.
pub(super) fn answer_again(
    change: &Transaction<'_>,
    conversation: Uuid,
    old: &Reply,
    reply: &Reply,
    maker: Maker<'_>,
    is_elsewhere: &dyn Fn(Uuid) -> bool,
) -> Attempt<Vec<Uuid>> {
    let number = conversations::number(change, conversation)?;
    replies::leave_to_others(change, old.id, is_elsewhere)?;
    let parent = parent(change, number, Under::Beside(old.id))?;
    if old.is_empty() {
        change.execute(
            "DELETE FROM message WHERE id = ?1 AND text = '' AND thinking = ''
                 AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.message = message.number)
                 AND NOT EXISTS (SELECT 1 FROM message AS below WHERE below.parent = message.number)
                 AND NOT EXISTS (SELECT 1 FROM mark WHERE mark.after = message.number)",
            [old.id],
        )?;
    }
    insert(change, number, parent, &MessageRow::reply(reply, maker.run))?;
    conversations::touch(change, number, reply.at)?;
    note_model(change, number, maker)?;
    Ok(versions(change, number, parent)?)
}

/// Pins a message, or no longer.
pub(super) fn pin(change: &Transaction<'_>, conversation: Uuid, id: Uuid, pinned: bool) -> Attempt<()> {
    let number = conversations::number(change, conversation)?;
    let changed = change.execute(
        "UPDATE message SET pinned = ?3 WHERE id = ?1 AND conversation = ?2",
        params![id, number, pinned],
    )?;
    if changed == 0 {
        return Err(Error::MessageUnknown { id: id.to_string(), what: "be pinned" }.into());
    }
    Ok(())
}

/// Lets the current branch go through the message `id`.
pub(super) fn choose(change: &Transaction<'_>, conversation: Uuid, id: Uuid) -> Attempt<()> {
    let number = conversations::number(change, conversation)?;
    let tree = Tree::read(change, number)?;
    let node = tree.find(id).ok_or_else(|| Error::MessageUnknown { id: id.to_string(), what: "be shown" })?;
    for node in tree.ancestors(node) {
        choose_child(change, number, node.parent, node.number)?;
    }
    Ok(())
}

fn choose_child(
    change: &Transaction<'_>,
    conversation: Number,
    parent: Option<Number>,
    child: Number,
) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "UPDATE message SET chosen = (number = ?3)
             WHERE conversation = ?1 AND parent IS ?2 AND chosen <> (number = ?3)",
        )?
        .execute(params![conversation, parent, child])?;
    Ok(())
}

fn parent(connection: &Connection, conversation: Number, under: Under) -> Attempt<Option<Number>> {
    let tree = Tree::read(connection, conversation)?;
    match under {
        Under::Branch => Ok(tree.branch().last().map(|node| node.number)),
        Under::Beside(id) => match tree.find(id) {
            Some(node) => Ok(node.parent),
            None => Err(Error::MessageUnknown { id: id.to_string(), what: "be changed" }.into()),
        },
    }
}

/// Draws a line below the last message of the current branch.
pub(super) fn reset(change: &Transaction<'_>, conversation: Uuid, id: Uuid, at: Timestamp) -> Attempt<()> {
    let number = conversations::number(change, conversation)?;
    let after = parent(change, number, Under::Branch)?;
    insert_mark(change, number, id, after, at.as_microsecond())?;
    Ok(())
}

/// Draws a line below the message in row `after`.
pub(super) fn insert_mark(
    change: &Transaction<'_>,
    conversation: Number,
    id: Uuid,
    after: Option<Number>,
    created: i64,
) -> rusqlite::Result<()> {
    change.execute(
        "INSERT INTO mark (id, conversation, after, kind, created) VALUES (?1, ?2, ?3, 'reset', ?4)
         ON CONFLICT (id) DO NOTHING",
        params![id, conversation, after, created],
    )?;
    Ok(())
}

/// Takes a line away.
pub(super) fn undo_reset(change: &Transaction<'_>, conversation: Uuid, id: Uuid) -> Attempt<()> {
    let number = conversations::number(change, conversation)?;
    let gone = change.execute("DELETE FROM mark WHERE id = ?1 AND conversation = ?2", params![id, number])?;
    if gone == 0 {
        return Err(Error::MessageUnknown { id: id.to_string(), what: "be undone" }.into());
    }
    Ok(())
}

/// Reads the last `most` messages of the current branch, with the lines between them.
pub(super) fn read(connection: &Connection, header: Header, most: usize) -> rusqlite::Result<Conversation> {
    let tree = Tree::read(connection, header.number)?;
    let branch = tree.branch();
    let earlier = branch.len().saturating_sub(most);
    let marks = marks(connection, header.number)?;
    let lines_after = |number: Option<Number>| {
        marks
            .iter()
            .filter(move |(_, after, _)| *after == number)
            .map(|&(id, _, created)| Entry::MemoryReset { id, at: time(created) })
    };
    let mut entries = Vec::with_capacity(branch.len() - earlier);
    // Also where it stands right above the first message that is read.
    entries.extend(lines_after(earlier.checked_sub(1).map(|above| branch[above].number)));
    for node in &branch[earlier..] {
        entries.push(entry(connection, node, tree.versions(node))?);
        entries.extend(lines_after(Some(node.number)));
    }
    let Header { about, system_prompt, draft, clock, .. } = header;
    Ok(Conversation { about, system_prompt, draft, entries, earlier, clock })
}

type Mark = (Uuid, Option<Number>, i64);

pub(super) fn marks(connection: &Connection, conversation: Number) -> rusqlite::Result<Vec<Mark>> {
    let mut statement = connection.prepare_cached(
        "SELECT number, id, after, created FROM mark WHERE conversation = ?1 ORDER BY number",
    )?;
    let marks = statement.query_map([conversation], |row| {
        let id = lenient::id_or_number(row, 1, row.get(0)?);
        Ok((id, lenient::whole(row, 2), lenient::whole(row, 3).unwrap_or_default()))
    })?;
    marks.collect()
}

fn entry(connection: &Connection, node: &Node, versions: Vec<Uuid>) -> rusqlite::Result<Entry> {
    let mut statement = connection.prepare_cached(
        "SELECT role, text, thinking, status, finish, failure, tokens, model, seed, prompt_tokens,
             reused_tokens, new_tokens, prefill_seconds, decode_seconds, first_token_seconds, memory_begins,
             created, restored_tokens, reuse_limit, pinned FROM message WHERE number = ?1",
    )?;
    statement.query_row([node.number], |row| {
        let (text, at) = (lenient::text(row, 1), lenient::time(row, 16));
        let pinned = lenient::is_set(row, 19);
        if lenient::text(row, 0) == "user" {
            return Ok(Entry::Question(Question { id: node.id, text, at, versions, pinned }));
        }
        let mut reply = Reply {
            id: node.id,
            text,
            thinking: lenient::text(row, 2),
            status: status(row),
            model: lenient::text(row, 7),
            usage: usage(row),
            tokens: tokens_of(lenient::bytes(row, 6)),
            seed: lenient::whole(row, 8).map(i64::cast_unsigned),
            at,
            versions,
            memory_begins: lenient::id(row, 15),
            pinned,
        };
        if reply.status == ReplyStatus::Generating {
            let before = ReplyPiece { text: reply.text, thinking: reply.thinking, tokens: reply.tokens };
            let whole = replies::with_chunks(connection, node.number, before)?;
            (reply.text, reply.thinking, reply.tokens) = (whole.text, whole.thinking, whole.tokens);
        }
        Ok(Entry::Reply(reply))
    })
}

fn status(row: &Row<'_>) -> ReplyStatus {
    match lenient::text(row, 3).as_str() {
        "generating" => ReplyStatus::Generating,
        "failed" => ReplyStatus::Failed(failure(lenient::text_if_any(row, 5).as_deref())),
        "complete" | "stopped" => {
            let finish = lenient::text_if_any(row, 4);
            ReplyStatus::Finished(finish_reason(finish.as_deref()).unwrap_or(FinishReason::EndOfTurn))
        }
        // Also what a later version may say.
        _ => ReplyStatus::Interrupted,
    }
}

fn failure(text: Option<&str>) -> Error {
    let known = text.and_then(|text| serde_json::from_str::<Failure>(text).ok());
    Error::Engine(known.unwrap_or_else(|| Failure {
        kind: engine::FailureKind::Internal,
        message: "the reply failed, and why is no longer known".into(),
    }))
}

/// A finish reason by the name that it has in files.
pub(super) fn finish_reason(name: Option<&str>) -> Option<FinishReason> {
    serde_json::from_value(serde_json::Value::String(name?.to_owned())).ok()
}

/// The name of a finish reason in files.
fn finish_name(reason: FinishReason) -> Option<String> {
    serde_json::to_value(reason).ok()?.as_str().map(str::to_owned)
}

fn usage(row: &Row<'_>) -> Option<ReplyUsage> {
    let count = |place| lenient::whole(row, place).and_then(|count| usize::try_from(count).ok());
    let seconds = |place| lenient::real(row, place).unwrap_or_default();
    Some(ReplyUsage {
        usage: Usage {
            prompt_tokens: count(9)?,
            reused_tokens: count(10)?,
            restored_tokens: count(17).unwrap_or_default(),
            reuse_limit: reuse_limit(lenient::text_if_any(row, 18).as_deref()),
            new_tokens: count(11)?,
            prefill_seconds: seconds(12),
            decode_seconds: seconds(13),
        },
        time_to_first_token_seconds: seconds(14),
    })
}

/// Why not more was reused, as it stands in files.
pub(super) fn reuse_limit_name(limit: Option<ReuseLimit>) -> Option<String> {
    serde_json::to_string(&limit?).ok()
}

fn reuse_limit(text: Option<&str>) -> Option<ReuseLimit> {
    serde_json::from_str(text?).ok()
}

pub(super) fn tokens_of(bytes: &[u8]) -> Vec<TokenId> {
    bytes.chunks_exact(4).map(|id| TokenId::from_le_bytes([id[0], id[1], id[2], id[3]])).collect()
}

/// Ids as they are kept beside a text; nothing where they are not known.
pub(super) fn bytes_if_any(tokens: &[TokenId]) -> Option<Vec<u8>> {
    (!tokens.is_empty()).then(|| bytes_of(tokens))
}

pub(super) fn bytes_of(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// A message as its row has it.
pub(super) struct MessageRow<'m> {
    pub(super) id: Uuid,
    pub(super) role: &'static str,
    pub(super) text: &'m str,
    pub(super) thinking: &'m str,
    pub(super) status: &'static str,
    pub(super) finish: Option<String>,
    pub(super) failure: Option<String>,
    pub(super) tokens: Option<Vec<u8>>,
    pub(super) model: Option<&'m str>,
    pub(super) seed: Option<i64>,
    pub(super) usage: Option<ReplyUsage>,
    pub(super) memory_begins: Option<Uuid>,
    pub(super) run: Option<Uuid>,
    pub(super) created: i64,
}

impl<'m> MessageRow<'m> {
    fn question(question: &'m Question) -> Self {
        Self {
            id: question.id,
            role: "user",
            text: &question.text,
            thinking: "",
            status: "complete",
            finish: None,
            failure: None,
            tokens: None,
            model: None,
            seed: None,
            usage: None,
            memory_begins: None,
            run: None,
            created: question.at.as_microsecond(),
        }
    }

    pub(super) fn reply(reply: &'m Reply, run: Option<Uuid>) -> Self {
        let (status, finish, failure) = match &reply.status {
            ReplyStatus::Generating => ("generating", None, None),
            ReplyStatus::Finished(reason @ FinishReason::Cancelled) => {
                ("stopped", finish_name(*reason), None)
            }
            ReplyStatus::Finished(reason) => ("complete", finish_name(*reason), None),
            ReplyStatus::Interrupted => ("interrupted", None, None),
            ReplyStatus::Failed(error) => ("failed", None, serde_json::to_string(&error.to_failure()).ok()),
        };
        Self {
            id: reply.id,
            role: "assistant",
            text: &reply.text,
            thinking: &reply.thinking,
            status,
            finish,
            failure,
            tokens: bytes_if_any(&reply.tokens),
            model: Some(&reply.model),
            seed: reply.seed.map(u64::cast_signed),
            usage: reply.usage,
            memory_begins: reply.memory_begins,
            run,
            created: reply.at.as_microsecond(),
        }
    }
}

/// Adds a message that ends the current branch below `parent`.
fn insert(
    change: &Transaction<'_>,
    conversation: Number,
    parent: Option<Number>,
    row: &MessageRow<'_>,
) -> rusqlite::Result<Number> {
    change
        .prepare_cached(
            "INSERT INTO message (id, conversation, parent, role, text, thinking, status, finish, failure,
                 tokens, model, seed, memory_begins, run, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            row.id,
            conversation,
            parent,
            row.role,
            row.text,
            row.thinking,
            row.status,
            row.finish,
            row.failure,
            row.tokens,
            row.model,
            row.seed,
            row.memory_begins,
            row.run,
            row.created,
        ])?;
    let number = change.last_insert_rowid();
    choose_child(change, conversation, parent, number)?;
    Ok(number)
}

/// How fast the model named `model` read lately, in tokens a second: the median of its last replies.
pub(super) fn reading_rate(connection: &Connection, model: &str) -> rusqlite::Result<Option<f64>> {
    // The newest rows only, whatever model they are of: the look stays short in a long history. Replies without ids
    // were imported, and another machine may have read for them.
    let mut statement = connection.prepare_cached(
        "SELECT (prompt_tokens - reused_tokens) / prefill_seconds FROM
             (SELECT * FROM message ORDER BY number DESC LIMIT 400)
         WHERE model = ?1 AND tokens IS NOT NULL AND prompt_tokens - reused_tokens >= 16 AND prefill_seconds > 0
         LIMIT 15",
    )?;
    let mut rates: Vec<f64> =
        statement.query_map([model], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    rates.sort_by(f64::total_cmp);
    Ok(rates.get(rates.len() / 2).copied())
}
