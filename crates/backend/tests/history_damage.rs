//! Files that were damaged, disks that take nothing: the application starts, and what can be read is back.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/first_schema.rs"]
mod first_schema;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::Backend;
use bare::{Numbers, count, open, run_shortly};
use rusqlite::Connection;
use support::{Transport, World, run, texts};
use tempfile::TempDir;

const CONVERSATIONS: usize = 12;

/// A data folder with conversations and a backup of them, whose last run was cut off.
fn kept() -> TempDir {
    let folder = run(async {
        let world = World::new(
            Transport::Channel,
            &["Hearth runs a model on this computer.", "The button clears its memory."],
        );
        for number in 0..CONVERSATIONS {
            world.backend.history().begin(false).expect("begun");
            world.ask(&format!("Question {number} of the first turn")).await;
            world
                .ask(&format!("Question {number} of the second turn, with {}", "more words ".repeat(20)))
                .await;
        }
        let data = world.directories.data.clone();
        world.backend.close(Duration::ZERO).await.expect("closed");
        // A short run waits for the copy that it makes.
        run_shortly(&data).await;
        let copy = backup(&data).expect("the run made a copy");
        assert_eq!(said_in(&copy), 4 * CONVERSATIONS as i64);
        let folder = tempfile::tempdir().expect("a folder");
        world.end(|| copy_folder(&data, folder.path()));
        folder
    });
    let marker = folder.path().join("conversations/runs/11111111-1111-4111-8111-111111111111.run");
    std::fs::write(marker, "").expect("written");
    folder
}

fn backup(data: &Path) -> Option<PathBuf> {
    let copies = std::fs::read_dir(data.join("conversations/backups")).expect("read").flatten();
    copies.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ending| ending == "sqlite"))
}

fn said_in(database: &Path) -> i64 {
    let connection = Connection::open(database).expect("opens");
    connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).expect("counted")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to)
        } else {
            std::fs::copy(entry.path(), to).map(|_| ()).expect("copied")
        }
    }
}

/// What is said in each conversation.
fn said(backend: &Backend) -> BTreeSet<Vec<String>> {
    let listed = backend.history().conversations(0, 1000).expect("listed");
    listed
        .iter()
        .map(|about| texts(&backend.history().conversation(about.id, usize::MAX).expect("read").entries))
        .collect()
}

/// Damages a copy of `kept` and says how many conversations are back as they were.
fn back_after(
    kept: &Path,
    before: &BTreeSet<Vec<String>>,
    damage: impl FnOnce(&mut Vec<u8>),
) -> (usize, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(kept, folder.path());
    let path = folder.path().join("conversations/conversations.sqlite");
    let mut bytes = std::fs::read(&path).expect("read");
    damage(&mut bytes);
    std::fs::write(&path, &bytes).expect("written");
    let backend = open(folder.path());
    let back = said(&backend).intersection(before).count();
    let asides = folder.path().join("conversations/damaged");
    let is_aside = asides.exists();
    if is_aside {
        let aside = std::fs::read_dir(&asides).expect("read").flatten().next().expect("one").path();
        assert_eq!(
            std::fs::read(aside.join("conversations.sqlite")).expect("kept"),
            bytes,
            "kept byte for byte"
        );
        assert!(backend.notices().iter().any(|notice| notice.code == "historyDamaged"), "it is told");
    }
    drop(backend);
    let connection = Connection::open(&path).expect("opens");
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).expect("checked");
    assert!(verdict == "ok" || !is_aside, "what was made anew is whole: {verdict}");
    (back, is_aside)
}

#[test]
fn a_flipped_bit_costs_one_conversation_at_most() {
    let kept = kept();
    let before = said(&open(kept.path()));
    assert_eq!(before.len(), CONVERSATIONS);
    std::fs::write(kept.path().join("conversations/runs/11111111-1111-4111-8111-111111111111.run"), "")
        .expect("written");
    let (mut numbers, mut salvaged, mut hurt) = (Numbers(1), 0, 0);
    let flips = count("HEARTH_FLIPS", 150);
    for flip in 0..flips {
        let mut place = 0;
        let (back, is_aside) = back_after(kept.path(), &before, |bytes| {
            place = numbers.below(bytes.len());
            bytes[place] ^= 1 << numbers.below(8);
        });
        assert!(back + 1 >= CONVERSATIONS, "flip {flip} at {place}: {back} of {CONVERSATIONS} are back");
        salvaged += usize::from(is_aside);
        hurt += usize::from(back < CONVERSATIONS);
    }
    println!("{flips} flips: {salvaged} salvaged, {hurt} changed one conversation");
    assert!(salvaged > 0, "some of them are found");
}

#[test]
fn a_file_that_was_cut_comes_back_whole() {
    let kept = kept();
    let before = said(&open(kept.path()));
    std::fs::write(kept.path().join("conversations/runs/11111111-1111-4111-8111-111111111111.run"), "")
        .expect("written");
    let mut numbers = Numbers(2);
    for cut in 0..count("HEARTH_CUTS", 40) {
        let mut left = 0;
        let (back, _) = back_after(kept.path(), &before, |bytes| {
            left = if cut == 0 { 0 } else { numbers.below(bytes.len()) };
            bytes.truncate(left);
        });
        assert_eq!(back, CONVERSATIONS, "cut {cut} after {left} bytes");
    }
}

#[test]
fn what_the_disk_refuses_goes_on_in_memory_and_is_saved_when_it_takes_it_again() {
    run(async {
        let world = World::new(Transport::Channel, &["Hearth runs a model on this computer."]);
        world.ask("What is Hearth?").await;
        let (id, history) = (world.chat().current(), world.backend.history());
        // Another process that holds the file is the refusal that a test can make anywhere.
        let file = world.directories.conversations().join("conversations.sqlite");
        let other = Connection::open(&file).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("held");
        history.rename(id, "Another name").expect("it goes on");
        let conversation = history.conversation(id, 10).expect("read");
        assert_eq!(conversation.about.title, "Another name");
        assert!(!conversation.about.saved);
        assert_eq!(texts(&conversation.entries).len(), 2, "everything is there");
        assert_eq!(history.conversations(0, 10).expect("listed").len(), 1, "and once");
        let notice =
            world.backend.notices().into_iter().find(|notice| notice.code == "history").expect("told");
        assert!(notice.message.contains("not saved"), "{}", notice.message);
        other.execute_batch("ROLLBACK").expect("let go");
        history.set_draft(id, "more").expect("kept");
        assert!(history.conversation(id, 10).expect("read").about.saved);
        assert!(!world.backend.notices().iter().any(|notice| notice.code == "history"), "it is over");
        let title: String =
            other.query_row("SELECT title FROM conversation", [], |row| row.get(0)).expect("read");
        assert_eq!(title, "Another name", "it is on the disk");
    });
}

#[test]
fn what_is_left_of_a_damaged_file_of_the_first_schema_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = first_schema::make(folder.path());
    for conversation in 0..60 {
        let number = first_schema::add_conversation(&old, &format!("old {conversation}"), conversation);
        let text = format!("Question {conversation}: {}", "with some words behind it ".repeat(40));
        let question = first_schema::add_message(&old, number, None, &text);
        first_schema::add_message(&old, number, Some(question), &text);
    }
    drop(old);
    let path = folder.path().join("conversations/conversations.sqlite");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.truncate(bytes.len() / 8 * 7);
    std::fs::write(&path, &bytes).expect("written");
    let backend = open(folder.path());
    let back = said(&backend).into_iter().filter(|said| said.len() == 2 && said[0] == said[1]).count();
    assert!(back > 30, "{back} of 60 conversations are back");
    assert!(backend.notices().iter().any(|notice| notice.code == "historyDamaged"), "it is told");
}

#[test]
fn the_database_is_opened_with_the_promised_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = open(folder.path());
    backend.history().conversations(0, 1).expect("listed");
    let version: Vec<u32> =
        rusqlite::version().split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(version >= vec![3, 51, 3], "older ones have the race that resets the log: {version:?}");
    let connection =
        Connection::open(folder.path().join("conversations/conversations.sqlite")).expect("opens");
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("asked");
    assert_eq!(mode, "wal");
    let shrinks: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).expect("asked");
    assert_eq!(shrinks, 2, "what is deleted leaves the file");
}

#[test]
fn conversations_of_a_newer_version_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()).history().conversations(0, 1));
    let path = folder.path().join("conversations/conversations.sqlite");
    let connection = Connection::open(&path).expect("opens");
    connection
        .execute_batch("PRAGMA user_version = 99; UPDATE fact SET value = '99' WHERE name = 'schema'")
        .expect("written");
    drop(connection);
    let backend = open(folder.path());
    assert_eq!(backend.history().conversations(0, 10).expect("listed"), []);
    let notice = backend.notices().into_iter().find(|notice| notice.code == "history").expect("told");
    assert!(notice.message.contains("update Hearth"), "{}", notice.message);
    drop(backend);
    let connection = Connection::open(&path).expect("opens");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("asked");
    assert_eq!(version, 99);
}

#[test]
fn two_processes_may_have_the_conversations_open_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (open(folder.path()), open(folder.path()));
    let first = one.history().begin(false).expect("begun");
    one.history().rename(first, "From the one").expect("named");
    let second = other.history().begin(false).expect("begun");
    other.history().rename(second, "From the other").expect("named");
    one.history().set_draft(second, "a draft").expect("kept");
    other.history().pin(first, true).expect("pinned");
    for backend in [&one, &other] {
        let listed = backend.history().conversations(0, 10).expect("listed");
        let titles: Vec<&str> = listed.iter().map(|about| about.title.as_str()).collect();
        assert_eq!(titles, ["From the one", "From the other"]);
    }
    assert_eq!(other.history().conversation(second, 1).expect("read").draft, "a draft");
}

#[test]
fn what_was_taken_away_while_the_disk_refused_it_stays_away() {
    run(async {
        let world = World::new(Transport::Channel, &["Hearth runs a model on this computer."]);
        world.ask("What is Hearth?").await;
        let id = world.chat().current();
        let line = world.chat().reset(id).await.expect("reset").line.id();
        let file = world.directories.conversations().join("conversations.sqlite");
        let other = Connection::open(&file).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("held");
        world.chat().undo_reset(id, line).await.expect("it goes on in memory");
        let told = |world: &World| world.backend.notices().into_iter().find(|told| told.code == "history");
        world.backend.dismiss_notice(&told(&world).expect("told").id);
        world.backend.history().set_draft(id, "more").expect("it goes on in memory");
        assert_eq!(told(&world), None, "it is told once");
        other.execute_batch("ROLLBACK").expect("let go");
        world.backend.history().set_draft(id, "and more").expect("kept");
        assert!(world.conversation().about.saved);
        let world = world.restarted(&[]);
        assert_eq!(world.entries().len(), 2, "the line does not come back: {:?}", world.entries());
    });
}

/// Lets values stand in columns that are of another kind, as in a damaged file.
fn with_any_kind(connection: &Connection, change: impl FnOnce()) {
    let rewrite = |from: &str, to: &str| {
        connection
            .execute_batch(&format!(
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE type = 'table';
                 PRAGMA writable_schema = RESET"
            ))
            .expect("rewritten");
    };
    rewrite(") STRICT", ") /*STRICT*/");
    rewrite("/*STRICT*/, WITHOUT", "/*STRICT,*/ WITHOUT");
    change();
    rewrite("/*STRICT,*/ WITHOUT", "/*STRICT*/, WITHOUT");
    rewrite(") /*STRICT*/", ") STRICT");
}

#[test]
fn one_value_that_makes_no_sense_hides_nothing_else() {
    run(async {
        let whole = World::new(Transport::Channel, &["Hearth runs a model on this computer.", "The button."]);
        for number in 0..3 {
            whole.backend.history().begin(false).expect("begun");
            whole.ask(&format!("Question {number}")).await;
            whole.chat().reset(whole.chat().current()).await.expect("reset");
            whole.ask("And the button?").await;
        }
        let data = whole.directories.data.clone();
        let (kept, mut columns) = (tempfile::tempdir().expect("a folder"), Vec::new());
        whole.end(|| {
            let file = data.join("conversations/conversations.sqlite");
            std::fs::copy(&file, kept.path().join("whole.sqlite")).expect("copied");
            let connection = Connection::open(&file).expect("opens");
            for table in ["conversation", "message", "mark"] {
                let sql = format!("SELECT name FROM pragma_table_info('{table}') WHERE name <> 'number'");
                let mut statement = connection.prepare(&sql).expect("asked");
                let names = statement.query_map([], |row| row.get::<_, String>(0)).expect("asked");
                columns.extend(names.map(|name| (table, name.expect("a name"))));
            }
        });
        assert!(columns.len() > 40, "{columns:?}");
        for (table, column) in columns {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("data/conversations/conversations.sqlite");
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::copy(kept.path().join("whole.sqlite"), &file).expect("copied");
            let connection = Connection::open(&file).expect("opens");
            with_any_kind(&connection, || {
                let sql = format!(
                    "PRAGMA foreign_keys = OFF; UPDATE {table} SET {column} = x'00'
                     WHERE number = (SELECT min(number) FROM {table})"
                );
                connection.execute_batch(&sql).expect("overwritten");
            });
            drop(connection);
            let world = World::with(Transport::Channel, &[], 512, |directories| {
                directories.data = folder.path().join("data");
            });
            let (history, what) = (world.backend.history(), format!("{table}.{column}"));
            let listed = history.conversations(0, 10).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut whole = 0;
            for about in &listed {
                let read =
                    history.conversation(about.id, 100).unwrap_or_else(|error| panic!("{what}: {error}"));
                whole += usize::from(texts(&read.entries).len() == 4);
            }
            assert!(whole >= 2, "{what}: {whole} conversations are whole");
            history.search("button", 10).unwrap_or_else(|error| panic!("{what}: {error}"));
            let report = history
                .export(None, backend::ExportFormat::Json, &folder.path().join("all.json"))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!((report.written, report.refused), (listed.len(), 0), "{what}");
        }
    });
}
