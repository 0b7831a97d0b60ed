//! A whole conversation as data: how it moves between files, and what an export holds of it.

use std::collections::{HashMap, HashSet};

use engine::Clock;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::conversations::{self, clock_text, time};
use super::lenient;
use super::messages;
use super::replies;
use super::tree::Number;
use crate::conversation::ReplyPiece;

/// A conversation with every branch of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConversationRecord {
    pub(super) id: Uuid,
    #[serde(default)]
    pub(super) title: String,
    /// Who named it: nobody yet, the rule, the user, or a file it came from.
    #[serde(default = "imported")]
    pub(super) title_origin: String,
    #[serde(default)]
    pub(super) pinned: bool,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    #[serde(default)]
    pub(super) system_prompt: Option<String>,
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) draft: String,
    #[serde(default = "Clock::now")]
    pub(super) clock: Clock,
    /// Parents come before their children.
    pub(super) messages: Vec<MessageRecord>,
    #[serde(default)]
    pub(super) resets: Vec<ResetRecord>,
}

fn imported() -> String {
    "import".into()
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageRecord {
    pub(super) id: Uuid,
    #[serde(default)]
    pub(super) parent: Option<Uuid>,
    /// Whether the current branch goes through it and not through another version.
    #[serde(default)]
    pub(super) chosen: bool,
    /// `user` or `assistant`.
    pub(super) role: String,
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) thinking: String,
    #[serde(default = "complete")]
    pub(super) status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) finish: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tokens: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory_begins: Option<Uuid>,
    /// The run that writes it. Nobody else's file has use for it.
    #[serde(skip)]
    pub(super) run: Option<Uuid>,
    pub(super) created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Timestamp>,
    /// Whether the model is given it also after its turn has left.
    #[serde(default)]
    pub(super) pinned: bool,
}

fn complete() -> String {
    "complete".into()
}

/// The work of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageRecord {
    pub(super) prompt_tokens: i64,
    pub(super) reused_tokens: i64,
    #[serde(default)]
    pub(super) restored_tokens: Option<i64>,
    #[serde(default)]
    pub(super) reuse_limit: Option<Value>,
    pub(super) new_tokens: i64,
    #[serde(default)]
    pub(super) prefill_seconds: Option<f64>,
    #[serde(default)]
    pub(super) decode_seconds: Option<f64>,
    #[serde(default)]
    pub(super) time_to_first_token_seconds: Option<f64>,
}

/// A line below which the model sees nothing of what stands above.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ResetRecord {
    pub(super) id: Uuid,
    #[serde(default)]
    pub(super) after: Option<Uuid>,
    pub(super) created: Timestamp,
}

/// What happens to rows that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// They become what the record says.
    Replace,
    /// They stay as they are.
    Keep,
}

/// Reads the conversation `id`, a deleted one too.
pub(super) fn read(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<ConversationRecord>> {
    let Some(header) = conversations::find(connection, id)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT id, parent, chosen, role, text, thinking, status, finish, failure, tokens, model, settings, seed,
             prompt_tokens, reused_tokens, new_tokens, prefill_seconds, decode_seconds, first_token_seconds,
             memory_begins, run, created, ended, number, restored_tokens, reuse_limit, pinned
         FROM message WHERE conversation = ?1 ORDER BY number",
    )?;
    let mut ids: HashMap<Number, Uuid> = HashMap::new();
    let messages = statement
        .query_map([header.number], |row| {
            let message = message(connection, row, &ids)?;
            ids.insert(row.get(23)?, message.id);
            Ok(message)
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT number, id, after, created FROM mark WHERE conversation = ?1 AND kind = 'reset' ORDER BY number",
    )?;
    let resets = statement
        .query_map([header.number], |row| {
            let id = lenient::id_or_number(row, 1, row.get(0)?);
            let after = lenient::whole(row, 2).and_then(|after| ids.get(&after).copied());
            Ok(ResetRecord { id, after, created: lenient::time(row, 3) })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(ConversationRecord {
        id,
        title: header.about.title,
        title_origin: header.title_origin,
        pinned: header.about.pinned,
        created: header.about.created,
        updated: header.about.updated,
        system_prompt: header.system_prompt,
        model: header.about.model,
        draft: header.draft,
        clock: header.clock,
        messages,
        resets,
    }))
}

/// One message; `ids` are those of the messages before it.
fn message(
    connection: &Connection,
    row: &Row<'_>,
    ids: &HashMap<Number, Uuid>,
) -> rusqlite::Result<MessageRecord> {
    let json = |place| lenient::text_if_any(row, place).and_then(|text| serde_json::from_str(&text).ok());
    let whole = |place| lenient::whole(row, place);
    let mut message = MessageRecord {
        id: lenient::id_or_number(row, 0, row.get(23)?),
        parent: whole(1).and_then(|parent| ids.get(&parent).copied()),
        chosen: whole(2) != Some(0),
        role: lenient::text(row, 3),
        text: lenient::text(row, 4),
        thinking: lenient::text(row, 5),
        status: lenient::text(row, 6),
        finish: lenient::text_if_any(row, 7),
        failure: json(8),
        tokens: messages::tokens_of(lenient::bytes(row, 9)),
        model: lenient::text_if_any(row, 10),
        settings: json(11),
        seed: whole(12).map(i64::cast_unsigned),
        usage: match (whole(13), whole(14), whole(15)) {
            (Some(prompt_tokens), Some(reused_tokens), Some(new_tokens)) => Some(UsageRecord {
                prompt_tokens,
                reused_tokens,
                restored_tokens: whole(24),
                reuse_limit: json(25),
                new_tokens,
                prefill_seconds: lenient::real(row, 16),
                decode_seconds: lenient::real(row, 17),
                time_to_first_token_seconds: lenient::real(row, 18),
            }),
            _ => None,
        },
        memory_begins: lenient::id(row, 19),
        run: lenient::id(row, 20),
        created: lenient::time(row, 21),
        ended: whole(22).map(time),
        pinned: lenient::is_set(row, 26),
    };
    if message.status == "generating" {
        let before = ReplyPiece { text: message.text, thinking: message.thinking, tokens: message.tokens };
        let whole = replies::with_chunks(connection, row.get(23)?, before)?;
        (message.text, message.thinking, message.tokens) = (whole.text, whole.thinking, whole.tokens);
    }
    Ok(message)
}

/// Writes a conversation: rows that are not there are added, and the others as `existing` says. Returns how
/// many messages were added.
pub(super) fn write(
    change: &Transaction<'_>,
    record: &ConversationRecord,
    existing: Existing,
) -> rusqlite::Result<usize> {
    let number = write_conversation(change, record, existing)?;
    let mut numbers: HashMap<Uuid, Number> = HashMap::new();
    let mut added = 0;
    for message in &record.messages {
        let parent = message.parent.and_then(|parent| numbers.get(&parent).copied());
        added += write_message(change, number, parent, message, existing)?;
        // An id that another conversation has already names nothing here.
        let own = change
            .prepare_cached("SELECT number FROM message WHERE id = ?1 AND conversation = ?2")?
            .query_row(params![message.id, number], |row| row.get(0));
        if let Ok(own) = own {
            numbers.insert(message.id, own);
        }
    }
    for reset in &record.resets {
        let after = reset.after.and_then(|after| numbers.get(&after).copied());
        if reset.after.is_none() || after.is_some() {
            messages::insert_mark(change, number, reset.id, after, reset.created.as_microsecond())?;
        }
    }
    Ok(added)
}

fn write_conversation(
    change: &Transaction<'_>,
    record: &ConversationRecord,
    existing: Existing,
) -> rusqlite::Result<Number> {
    let on_conflict = match existing {
        Existing::Replace => {
            "title = excluded.title, title_origin = excluded.title_origin, pinned = excluded.pinned,
             updated = max(updated, excluded.updated), system_prompt = excluded.system_prompt,
             model = excluded.model, draft = excluded.draft"
        }
        // What was deleted here and is imported again is wanted again.
        Existing::Keep => "deleted = NULL",
    };
    change.execute(
        &format!(
            "INSERT INTO conversation
                 (id, title, title_origin, pinned, created, updated, system_prompt, model, draft, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET {on_conflict}"
        ),
        params![
            record.id,
            record.title,
            record.title_origin,
            record.pinned,
            record.created.as_microsecond(),
            record.updated.as_microsecond(),
            record.system_prompt,
            record.model,
            record.draft,
            clock_text(&record.clock),
        ],
    )?;
    change.query_row("SELECT number FROM conversation WHERE id = ?1", [record.id], |row| row.get(0))
}

/// What becomes of the row of a message that is there, in its own conversation only.
const REPLACE_MESSAGE: &str = "UPDATE SET chosen = excluded.chosen, text = excluded.text,
    thinking = excluded.thinking, status = excluded.status, finish = excluded.finish,
    failure = excluded.failure, tokens = excluded.tokens, model = excluded.model,
    settings = excluded.settings, seed = excluded.seed, prompt_tokens = excluded.prompt_tokens,
    reused_tokens = excluded.reused_tokens, restored_tokens = excluded.restored_tokens,
    reuse_limit = excluded.reuse_limit, new_tokens = excluded.new_tokens,
    prefill_seconds = excluded.prefill_seconds, decode_seconds = excluded.decode_seconds,
    first_token_seconds = excluded.first_token_seconds, memory_begins = excluded.memory_begins,
    run = excluded.run, ended = excluded.ended, pinned = excluded.pinned
    WHERE conversation = excluded.conversation";

/// Returns how many rows were added or changed: one or none.
fn write_message(
    change: &Transaction<'_>,
    conversation: Number,
    parent: Option<Number>,
    message: &MessageRecord,
    existing: Existing,
) -> rusqlite::Result<usize> {
    let on_conflict = match existing {
        Existing::Replace => REPLACE_MESSAGE,
        Existing::Keep => "NOTHING",
    };
    let usage = message.usage.as_ref();
    let written = change
        .prepare_cached(&format!(
            "INSERT INTO message (id, conversation, parent, chosen, role, text, thinking, status, finish,
                 failure, tokens, model, settings, seed, prompt_tokens, reused_tokens, new_tokens,
                 prefill_seconds, decode_seconds, first_token_seconds, memory_begins, run, created, ended,
                 restored_tokens, reuse_limit, pinned)
             VALUES (?1, ?2, ?3,
                 ?4 AND NOT (?28 AND EXISTS (
                     SELECT 1 FROM message WHERE conversation = ?2 AND parent IS ?3 AND chosen)),
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
                 ?24, ?25, ?26, ?27) ON CONFLICT (id) DO {on_conflict}"
        ))?
        .execute(params![
            message.id,
            conversation,
            parent,
            message.chosen,
            message.role,
            message.text,
            message.thinking,
            message.status,
            message.finish,
            message.failure.as_ref().map(Value::to_string),
            messages::bytes_if_any(&message.tokens),
            message.model,
            message.settings.as_ref().map(Value::to_string),
            message.seed.map(u64::cast_signed),
            usage.map(|usage| usage.prompt_tokens),
            usage.map(|usage| usage.reused_tokens),
            usage.map(|usage| usage.new_tokens),
            usage.and_then(|usage| usage.prefill_seconds),
            usage.and_then(|usage| usage.decode_seconds),
            usage.and_then(|usage| usage.time_to_first_token_seconds),
            message.memory_begins,
            message.run,
            message.created.as_microsecond(),
            message.ended.map(Timestamp::as_microsecond),
            usage.and_then(|usage| usage.restored_tokens),
            usage.and_then(|usage| usage.reuse_limit.as_ref()).map(Value::to_string),
            message.pinned,
            // The branch that is shown here stays shown.
            existing == Existing::Keep,
        ])?;
    if existing == Existing::Replace {
        // What was saved in pieces is in the text now.
        change.execute(
            "DELETE FROM chunk WHERE message = (SELECT number FROM message WHERE id = ?1)",
            [message.id],
        )?;
    }
    Ok(written)
}

/// Removes messages and lines of a conversation. A message under which something stands stays.
pub(super) fn remove_parts<'p>(
    change: &Transaction<'_>,
    conversation: Uuid,
    parts: impl Iterator<Item = &'p Uuid>,
) -> rusqlite::Result<()> {
    for part in parts {
        change.execute(
            "DELETE FROM mark WHERE id = ?1
                 AND conversation = (SELECT number FROM conversation WHERE id = ?2)",
            [part, &conversation],
        )?;
        change.execute(
            "DELETE FROM message WHERE id = ?1
                 AND conversation = (SELECT number FROM conversation WHERE id = ?2)
                 AND NOT EXISTS (SELECT 1 FROM message AS below WHERE below.parent = message.number)
                 AND NOT EXISTS (SELECT 1 FROM mark WHERE mark.after = message.number)",
            [part, &conversation],
        )?;
    }
    Ok(())
}

impl ConversationRecord {
    /// The ids of its messages and lines.
    pub(super) fn parts(&self) -> HashSet<Uuid> {
        let messages = self.messages.iter().map(|message| message.id);
        messages.chain(self.resets.iter().map(|reset| reset.id)).collect()
    }

    /// The same conversation under new ids, all of it.
    pub(super) fn renewed(mut self) -> Self {
        let new: HashMap<Uuid, Uuid> =
            self.messages.iter().map(|message| (message.id, Uuid::new_v4())).collect();
        let renew = |id: Uuid| new.get(&id).copied();
        self.id = Uuid::new_v4();
        for message in &mut self.messages {
            message.id = new[&message.id];
            message.parent = message.parent.and_then(renew);
            message.memory_begins = message.memory_begins.and_then(renew);
            message.run = None;
            if message.status == "generating" {
                message.status = "interrupted".into();
            }
        }
        for reset in &mut self.resets {
            reset.id = Uuid::new_v4();
            reset.after = reset.after.and_then(renew);
        }
        self
    }
}
