//! What is done with a damaged file: a new one is made of the newest good copy and of every row that can still be
//! read, and the damaged one is set aside as it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine::Clock;
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::database::{self, Attempt, BUSY_TIMEOUT, Fault};
use super::files::{self, Files};
use super::lenient;
use super::record::{self, ConversationRecord, Existing, MessageRecord, ResetRecord};
use super::tree::Number;
use super::{backups, conversations, migrations, title};
use crate::error::{Error, Result};

/// The most row numbers that are tried one by one in a damaged stretch.
const MOST_TRIES: i64 = 300_000;

/// What came of it.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) conversations: usize,
    pub(super) messages: usize,
    /// Where the damaged file is kept.
    pub(super) kept: PathBuf,
}

/// The folder in which a new database is made.
const SCRATCH: &str = "repair-";
/// How the name of a new database begins that is whole and not in its place yet. The rest says where the damaged
/// one goes.
const REBUILT: &str = "rebuilt-";

/// Sets the database aside and puts a new one in its place, which is made beside it before: however this ends,
/// the damaged one or the whole new one is there. Nobody may have it open.
///
/// # Errors
/// [`Error::History`] says what kept the new one from being made. The damaged one is still there then.
pub(super) fn repair(files: &Files) -> Result<Salvaged> {
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&files.folder).map_err(failed)?;
    let records = read_what_is_left(files, scratch.path()).map_err(failed)?;
    let rebuilt = scratch.path().join("rebuilt.sqlite");
    let (conversations, messages) = rebuild(files, &rebuilt, &records)?;
    files::keep_for_the_user(&rebuilt).map_err(failed)?;
    let name = format!("{}-{}", Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S"), Uuid::new_v4().simple());
    let ready = files.folder.join(format!("{REBUILT}{name}.sqlite"));
    std::fs::rename(&rebuilt, &ready).map_err(failed)?;
    let kept = exchange(files, &ready, &name).map_err(failed)?;
    Ok(Salvaged { conversations, messages, kept })
}

fn failed(error: std::io::Error) -> Error {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    Error::History { doing: "put together what can be read", reason: error.to_string(), full }
}

/// Finishes a repair that was cut off when the new database was whole. Nobody may have the file open.
///
/// # Errors
/// What kept the files from being moved; the next call goes on.
pub(super) fn finish(files: &Files) -> std::io::Result<Option<Salvaged>> {
    for entry in std::fs::read_dir(&files.folder)? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(REBUILT));
        let Some(name) = name.and_then(|name| name.strip_suffix(".sqlite")) else { continue };
        let (conversations, messages) = count(&path).unwrap_or_default();
        let kept = exchange(files, &path, name)?;
        return Ok(Some(Salvaged { conversations, messages, kept }));
    }
    Ok(None)
}

fn count(path: &Path) -> rusqlite::Result<(usize, usize)> {
    let connection = database::open_unchanging(path)?;
    connection.query_row(
        "SELECT (SELECT count(*) FROM conversation), (SELECT count(*) FROM message)",
        [],
        |row| Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as usize)),
    )
}

/// Removes what repairs left behind that were cut off before. Nobody may be making one.
pub(super) fn clear_up(files: &Files) {
    for entry in std::fs::read_dir(&files.folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH)) {
            // One that stays costs space and nothing else.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Puts the new database `ready` in its place and the damaged one into the folder `name`, which it returns. The
/// log of the damaged one goes first: it must never stand beside the new one.
fn exchange(files: &Files, ready: &Path, name: &str) -> std::io::Result<PathBuf> {
    let kept = files.damaged().join(name);
    files::make_folder(&files.damaged())?;
    files::make_folder(&kept)?;
    for path in files.all_of_database().into_iter().rev() {
        std::fs::rename(&path, kept.join(path.file_name().unwrap_or_default()))?;
    }
    files::flush_folder(&kept)?;
    files::flush_folder(&files.folder)?;
    std::fs::rename(ready, files.database())?;
    files::flush_folder(&files.folder)?;
    Ok(kept)
}

/// Makes a database of the newest good copy and of `records`. Returns how many conversations with how many
/// messages of them are in it.
fn rebuild(files: &Files, path: &Path, records: &[Found]) -> Result<(usize, usize)> {
    let fault = |fault: Fault| fault.while_doing("put together what can be read");
    let sql = |error: rusqlite::Error| fault(error.into());
    if let Some(copy) = backups::newest_good(files) {
        std::fs::copy(copy, path).map_err(failed)?;
    }
    let mut connection = database::open_file(path, BUSY_TIMEOUT).map_err(sql)?;
    // Nothing depends on it before it is whole, and then it is flushed as a whole.
    connection.pragma_update(None, "synchronous", "OFF").map_err(sql)?;
    migrations::run(&mut connection).map_err(sql)?;
    let (mut conversations, mut messages) = (0, 0);
    for Found { record, deleted, is_nameless } in records {
        let written = database::change(&mut connection, |change| {
            let record = if *is_nameless { named_by_copy(change, record)? } else { record.clone() };
            let copy = record::read(change, record.id)?;
            let record = completed(record, copy);
            record::write(change, &record, Existing::Replace)?;
            if *is_nameless {
                return Ok(());
            }
            conversations::set_deleted(change, record.id, *deleted)
        });
        match written {
            Ok(()) => {
                conversations += 1;
                messages += record.messages.len();
            }
            Err(refused) if refused.is_refusal_of_disk() => return Err(fault(refused)),
            // One that does not go in must not keep out the others.
            Err(refused) => {
                let error = refused.while_doing("put a conversation back");
                tracing::warn!(%error, "a conversation was not salvaged");
            }
        }
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sql)?;
    connection.close().map_err(|(_, error)| sql(error))?;
    Ok((conversations, messages))
}

/// What could be read, with what the good copy has besides. Who answers whom never changes, so the copy knows it
/// also where the message above could not be read.
fn completed(mut record: ConversationRecord, copy: Option<ConversationRecord>) -> ConversationRecord {
    let Some(copy) = copy else { return record };
    let of_copy: HashSet<Uuid> = copy.messages.iter().map(|message| message.id).collect();
    let (both, newer): (Vec<_>, Vec<_>) =
        record.messages.into_iter().partition(|message| of_copy.contains(&message.id));
    let mut both: HashMap<Uuid, MessageRecord> =
        both.into_iter().map(|message| (message.id, message)).collect();
    let messages = copy.messages.into_iter().map(|old| match both.remove(&old.id) {
        Some(read) => MessageRecord { parent: old.parent, ..read },
        None => old,
    });
    record.messages = messages.chain(newer).collect();
    record
}

/// A conversation that could be read.
struct Found {
    record: ConversationRecord,
    deleted: Option<Timestamp>,
    /// Whether its own row is lost, and with it its id, title and settings.
    is_nameless: bool,
}

/// A conversation whose own row is lost, as the good copy names it where that has one of its messages.
fn named_by_copy(copy: &Connection, lost: &ConversationRecord) -> rusqlite::Result<ConversationRecord> {
    let owner_of = |message: Uuid| {
        copy.query_row(
            "SELECT conversation.id FROM message
                 JOIN conversation ON conversation.number = message.conversation WHERE message.id = ?1",
            [message],
            |row| Ok(lenient::id(row, 0)),
        )
        .optional()
    };
    for message in &lost.messages {
        let Some(owner) = owner_of(message.id)?.flatten() else { continue };
        if let Some(named) = record::read(copy, owner)? {
            let ConversationRecord { messages, resets, updated, .. } = lost.clone();
            return Ok(ConversationRecord { messages, resets, updated: updated.max(named.updated), ..named });
        }
    }
    Ok(lost.clone())
}

/// Every conversation that can be read: with the log of late changes, or without where it makes it worse.
/// Reading may write into what is read, so it is done in copies.
fn read_what_is_left(files: &Files, scratch: &Path) -> std::io::Result<Vec<Found>> {
    let database = scratch.join("conversations.sqlite");
    let mut best = Vec::new();
    let is_alone = backups::newest_good(files).is_none();
    for endings in [["", "-wal"].as_slice(), &[""]] {
        for ending in ["", "-wal", "-shm"] {
            std::fs::remove_file(files::with_ending(&database, ending)).ok();
        }
        for ending in endings {
            let from = files::with_ending(&files.database(), ending);
            match std::fs::copy(from, files::with_ending(&database, ending)) {
                // Half a copy would be taken for all that is left.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let found = read_file(&database, is_alone).unwrap_or_default();
        let size = |found: &[Found]| found.iter().map(|found| 1 + found.record.messages.len()).sum::<usize>();
        if size(&found) > size(&best) {
            best = found;
        }
    }
    Ok(best)
}

/// `is_alone`: there is no copy. Only then is one that is shorter than it says, or has tables that make no sense,
/// read as far as it goes: beside a copy, conversations that are torn in two would take the place of whole ones.
fn read_file(path: &Path, is_alone: bool) -> Attempt<Vec<Found>> {
    let connection = Connection::open(path)?;
    // What the file says of itself is not to be trusted.
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    if is_alone {
        connection.pragma_update(None, "writable_schema", "ON")?;
    }
    connection.pragma_update(None, "mmap_size", 0)?;
    let mut found: BTreeMap<Number, Found> = BTreeMap::new();
    let columns =
        "id, title, title_origin, pinned, created, updated, deleted, system_prompt, model, draft, clock";
    scan(&connection, "conversation", columns, |number, row| {
        found.insert(number, conversation(row));
    });
    let mut numbers: HashMap<Number, (Number, Uuid)> = HashMap::new();
    let mut known = HashSet::new();
    let mut last: HashMap<Number, Uuid> = HashMap::new();
    // A file of an older version may lack the column that came last.
    let has_pins = connection.prepare("SELECT pinned FROM message").is_ok();
    let columns = format!("{MESSAGE_COLUMNS}, {}", if has_pins { "pinned" } else { "0" });
    scan(&connection, "message", &columns, |number, row| {
        let owner = lenient::whole(row, 1).unwrap_or_default();
        let mut message = message(row);
        if !known.insert(message.id) {
            message.id = Uuid::new_v4();
        }
        // What stood under a lost message stands under the last one that is left.
        let parent = lenient::whole(row, 2);
        let above = parent.and_then(|parent| numbers.get(&parent)).filter(|(of, _)| *of == owner);
        message.parent = match parent {
            None => None,
            Some(_) => above.map(|(_, id)| *id).or_else(|| last.get(&owner).copied()),
        };
        numbers.insert(number, (owner, message.id));
        last.insert(owner, message.id);
        let owner = found.entry(owner).or_insert_with(|| lost_conversation(&message));
        owner.record.messages.push(message);
    });
    scan(&connection, "mark", "id, conversation, after, created", |_, row| {
        let Some(owner) = lenient::whole(row, 2).and_then(|owner| found.get_mut(&owner)) else { return };
        let after = lenient::whole(row, 3).map(|after| numbers.get(&after).map(|(_, id)| *id));
        // A line whose message is lost has no place any more.
        if after != Some(None) {
            let id = lenient::id(row, 1).unwrap_or_else(Uuid::new_v4);
            let reset = ResetRecord { id, after: after.flatten(), created: lenient::time(row, 4) };
            owner.record.resets.push(reset);
        }
    });
    add_chunks(&connection, &numbers, &mut found);
    Ok(found.into_values().collect())
}

/// Adds what replies under way had said to their texts.
fn add_chunks(
    connection: &Connection,
    numbers: &HashMap<Number, (Number, Uuid)>,
    found: &mut BTreeMap<Number, Found>,
) {
    for (number, (owner, id)) in numbers {
        let Some(owner) = found.get_mut(owner) else { continue };
        let Some(message) = owner.record.messages.iter_mut().find(|message| message.id == *id) else {
            continue;
        };
        if message.status != "generating" {
            continue;
        }
        message.status = "interrupted".into();
        let sql = "SELECT place, text, thinking FROM chunk WHERE message = ?1 ORDER BY place";
        let Ok(mut statement) = connection.prepare(sql) else { continue };
        let Ok(mut rows) = statement.query([number]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            message.text.push_str(&lenient::text(row, 1));
            message.thinking.push_str(&lenient::text(row, 2));
            message.tokens.clear();
        }
    }
}

/// Gives every row that can be read to `take`, in the order of their numbers. Row 0 is the number.
fn scan(connection: &Connection, table: &str, columns: &str, mut take: impl FnMut(Number, &Row<'_>)) {
    let mut rows_from = |begin: Number, end: Number| -> (Number, bool) {
        let sql =
            format!("SELECT number, {columns} FROM {table} WHERE number BETWEEN ?1 AND ?2 ORDER BY number");
        let mut last = begin - 1;
        let Ok(mut statement) = connection.prepare(&sql) else { return (last, false) };
        let Ok(mut rows) = statement.query([begin, end]) else { return (last, false) };
        loop {
            match rows.next() {
                Ok(Some(row)) => match row.get_ref(0) {
                    // A tree that is damaged may lead in circles.
                    Ok(ValueRef::Integer(number)) if number > last && number <= end => {
                        last = number;
                        take(number, row);
                    }
                    _ => return (last, false),
                },
                Ok(None) => return (last, true),
                Err(_) => return (last, false),
            }
        }
    };
    let (mut last, mut is_done) = rows_from(1, Number::MAX);
    let is_known = connection.prepare(&format!("SELECT number, {columns} FROM {table}")).is_ok();
    if is_done || !is_known {
        return;
    }
    // Behind the damage each number is tried; the tree leads to it by another way.
    let newest = newest(connection, table).max(last);
    let mut tries = 0;
    while !is_done && last < newest && tries < MOST_TRIES {
        let next = last + 1;
        rows_from(next, next);
        tries += 1;
        last = next;
        // Behind the damaged stretch the rest can be read at once again.
        if tries % 64 == 0 {
            (last, is_done) = rows_from(last + 1, Number::MAX);
        }
    }
}

/// The highest number that a table ever had.
fn newest(connection: &Connection, table: &str) -> Number {
    let by_sequence =
        connection.query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0));
    let by_row = connection.query_row(
        &format!("SELECT number FROM {table} ORDER BY number DESC LIMIT 1"),
        [],
        |row| row.get(0),
    );
    let highest: Number = by_sequence.unwrap_or(0).max(by_row.unwrap_or(0));
    highest
}

fn conversation(row: &Row<'_>) -> Found {
    let id = lenient::id(row, 1);
    let record = ConversationRecord {
        id: id.unwrap_or_else(Uuid::new_v4),
        title: lenient::text(row, 2),
        title_origin: lenient::text(row, 3),
        pinned: lenient::is_set(row, 4),
        created: lenient::time(row, 5),
        updated: lenient::time(row, 6),
        system_prompt: lenient::text_if_any(row, 8),
        model: lenient::text_if_any(row, 9),
        draft: lenient::text(row, 10),
        clock: conversations::clock(&lenient::text(row, 11)),
        messages: Vec::new(),
        resets: Vec::new(),
    };
    let deleted = lenient::whole(row, 7).map(|_| lenient::time(row, 7));
    Found { record, deleted, is_nameless: id.is_none() }
}

/// The conversation of a message whose own row is lost.
fn lost_conversation(message: &MessageRecord) -> Found {
    let record = ConversationRecord {
        id: Uuid::new_v4(),
        title: title::of_message(&message.text),
        title_origin: "rule".into(),
        pinned: false,
        created: message.created,
        updated: message.created,
        system_prompt: None,
        model: None,
        draft: String::new(),
        clock: Clock::now(),
        messages: Vec::new(),
        resets: Vec::new(),
    };
    Found { record, deleted: None, is_nameless: true }
}

const MESSAGE_COLUMNS: &str = "conversation, parent, id, chosen, role, text, thinking, status, finish, failure, \
    tokens, model, settings, seed, memory_begins, created, ended";

fn message(row: &Row<'_>) -> MessageRecord {
    let json = |place| lenient::text_if_any(row, place).and_then(|text| serde_json::from_str(&text).ok());
    let role = lenient::text(row, 5);
    MessageRecord {
        id: lenient::id(row, 3).unwrap_or_else(Uuid::new_v4),
        parent: None,
        chosen: lenient::whole(row, 4) != Some(0),
        role: if role == "user" { role } else { "assistant".into() },
        text: lenient::text(row, 6),
        thinking: lenient::text(row, 7),
        status: lenient::text(row, 8),
        finish: lenient::text_if_any(row, 9),
        failure: json(10),
        // The ids of a damaged row may be others than those of its text, which is what the user sees.
        tokens: Vec::new(),
        model: lenient::text_if_any(row, 12),
        settings: json(13),
        seed: lenient::whole(row, 14).map(i64::cast_unsigned),
        usage: None,
        memory_begins: lenient::id(row, 15),
        run: None,
        created: lenient::time(row, 16),
        ended: lenient::whole(row, 17).map(|_| lenient::time(row, 17)),
        pinned: lenient::is_set(row, 18),
    }
}
