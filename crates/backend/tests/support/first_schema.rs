//! Data folders as the first schema left them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use rusqlite::Connection;

/// A new file of conversations in `data`, of the first schema.
pub(crate) fn make(data: &Path) -> Connection {
    let kept = data.join("conversations");
    std::fs::create_dir_all(kept.join("runs")).expect("made");
    let file = Connection::open(kept.join("conversations.sqlite")).expect("opens");
    file.execute_batch(include_str!("../../src/history/schema_1.sql"))
        .expect("the schema as it was released");
    file.execute_batch("PRAGMA user_version = 1; INSERT INTO fact (name, value) VALUES ('schema', '1')")
        .expect("written");
    file
}

/// Adds a conversation with this title; returns its number.
pub(crate) fn add_conversation(file: &Connection, title: &str, at: i64) -> i64 {
    let sql = "INSERT INTO conversation (id, title, created, updated, clock)
               VALUES (randomblob(16), ?1, ?2, ?2, '')";
    file.execute(sql, (title, at)).expect("written");
    file.last_insert_rowid()
}

/// Adds a message below `parent`; returns its number. A reply without a text is one under way.
pub(crate) fn add_message(file: &Connection, conversation: i64, parent: Option<i64>, text: &str) -> i64 {
    let is_reply = parent.is_some_and(|parent| {
        let role: String = file
            .query_row("SELECT role FROM message WHERE number = ?1", [parent], |row| row.get(0))
            .expect("read");
        role == "user"
    });
    let sql = "INSERT INTO message (id, conversation, parent, role, text, status, model, run, created)
               VALUES (randomblob(16), ?1, ?2, ?3, ?4, ?5, 'Model alpha', randomblob(16), 1700000000000000)";
    let role = if is_reply { "assistant" } else { "user" };
    let status = if is_reply && text.is_empty() { "generating" } else { "complete" };
    file.execute(sql, (conversation, parent, role, text, status)).expect("written");
    file.last_insert_rowid()
}

/// Adds a piece to a reply under way. The first schema kept no ids of it.
pub(crate) fn add_piece(file: &Connection, message: i64, place: i64, text: &str) {
    let sql = "INSERT INTO chunk (message, place, text, thinking) VALUES (?1, ?2, ?3, '')";
    file.execute(sql, (message, place, text)).expect("written");
}
