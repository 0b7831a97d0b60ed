//! How the file of conversations is opened, repaired and let go: whatever is in the way, nothing of it is lost.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/first_schema.rs"]
mod first_schema;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use backend::{Backend, ExportFormat};
use bare::{Numbers, count, open, run_shortly};
use rusqlite::Connection;
use serde_json::{Value, json};
use support::{run, texts};
use tempfile::TempDir;
use uuid::Uuid;

fn conversations(data: &Path) -> PathBuf {
    data.join("conversations")
}

fn database(data: &Path) -> PathBuf {
    conversations(data).join("conversations.sqlite")
}

/// Names of what lies in a folder, of which there may be none.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A conversation of so many messages, each under the one before.
fn record(id: Uuid, title: &str, messages: usize) -> Value {
    let ids: Vec<Uuid> = (0..messages).map(|_| Uuid::new_v4()).collect();
    let messages: Vec<Value> = (0..messages)
        .map(|place| {
            json!({
                "id": ids[place],
                "parent": place.checked_sub(1).map(|above| ids[above]),
                "chosen": true,
                "role": if place % 2 == 0 { "user" } else { "assistant" },
                "text": format!("{title}, message {place}"),
                "created": "2026-01-01T00:00:00Z",
            })
        })
        .collect();
    json!({
        "id": id, "title": title, "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z",
        "messages": messages,
    })
}

/// Imports conversations of so many messages and returns their ids.
fn import(backend: &Backend, messages: &[usize]) -> Vec<Uuid> {
    let ids: Vec<Uuid> = messages.iter().map(|_| Uuid::new_v4()).collect();
    let records: Vec<Value> = ids
        .iter()
        .zip(messages)
        .enumerate()
        .map(|(place, (&id, &messages))| record(id, &format!("Conversation {place}"), messages))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("conversations.json");
    let text = json!({"format": "hearth conversations", "version": 1, "conversations": records});
    std::fs::write(&file, text.to_string()).expect("written");
    assert_eq!(backend.history().import(&file).expect("read").imported, messages.len());
    ids
}

/// The titles and the number of messages of what is listed.
fn listed(backend: &Backend) -> Vec<(String, usize)> {
    let history = backend.history();
    let mut listed: Vec<(String, usize)> = history
        .conversations(0, 1000)
        .expect("listed")
        .into_iter()
        .map(|about| {
            let read = history.conversation(about.id, usize::MAX).expect("read");
            (about.title, texts(&read.entries).len())
        })
        .collect();
    listed.sort();
    listed
}

fn notice(backend: &Backend) -> Option<String> {
    backend.notices().into_iter().find(|notice| notice.code == "history").map(|notice| notice.message)
}

#[test]
fn a_long_conversation_that_was_deleted_is_gone_a_day_later_and_the_others_stay() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    let ids = import(&backend, &[1200, 3]);
    backend.history().delete(ids[0]).expect("deleted");
    drop(backend);
    let connection = Connection::open(database(data.path())).expect("opens");
    let two_days = 2 * 24 * 60 * 60 * 1_000_000_i64;
    connection
        .execute("UPDATE conversation SET deleted = deleted - ?1 WHERE deleted IS NOT NULL", [two_days])
        .expect("written");
    drop(connection);
    let backend = open(data.path());
    assert_eq!(listed(&backend), [("Conversation 1".to_owned(), 3)]);
    assert_eq!(notice(&backend), None);
    drop(backend);
    let connection = Connection::open(database(data.path())).expect("opens");
    let left: i64 = connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).expect("read");
    assert_eq!(left, 3, "its messages are gone from the file");
}

/// A data folder with one conversation, as the first version of the schema left it.
fn of_schema_1() -> TempDir {
    let data = tempfile::tempdir().expect("a folder");
    let file = first_schema::make(data.path());
    let conversation = first_schema::add_conversation(&file, "An old one", 1);
    first_schema::add_message(&file, conversation, None, "What is Hearth?");
    file.pragma_update(None, "journal_mode", "WAL").expect("as it was kept");
    data
}

#[test]
fn a_file_of_the_first_version_is_copied_and_brought_up_to_date() {
    let data = of_schema_1();
    let backend = open(data.path());
    assert_eq!(listed(&backend), [("An old one".to_owned(), 1)]);
    assert_eq!(notice(&backend), None);
    let copies = names(&conversations(data.path()).join("backups"));
    assert!(copies.iter().any(|name| name.starts_with("before-schema-2-")), "{copies:?}");
    let connection = Connection::open(database(data.path())).expect("opens");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("asked");
    assert!(version > 1);
}

#[test]
fn a_file_that_cannot_be_copied_before_an_update_is_not_taken_for_damaged() {
    let data = of_schema_1();
    let before = std::fs::read(database(data.path())).expect("read");
    let now = jiff::Timestamp::now();
    for second in 0..600 {
        // The copy of that second finds its name taken.
        let at = (now + Duration::from_secs(second)).strftime("%Y-%m-%dT%H-%M-%S").to_string();
        let taken = conversations(data.path()).join(format!("backups/before-schema-2-{at}.sqlite/taken"));
        std::fs::create_dir_all(taken).expect("made");
    }
    let backend = open(data.path());
    backend.history().conversations(0, 10).expect("listed");
    let told = notice(&backend).expect("told");
    assert!(told.contains("cannot back up the conversations"), "{told}");
    drop(backend);
    assert!(!conversations(data.path()).join("damaged").exists(), "nothing is wrong with the file");
    let after = std::fs::read(database(data.path())).expect("read");
    assert!(after == before, "and nothing of it changed");
}

#[test]
fn a_first_start_that_was_cut_off_before_it_made_a_table_is_no_damage() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(conversations(data.path())).expect("made");
    let connection = Connection::open(database(data.path())).expect("opens");
    connection
        .execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; VACUUM")
        .expect("written");
    drop(connection);
    assert!(std::fs::metadata(database(data.path())).expect("there").len() > 0);
    let backend = open(data.path());
    import(&backend, &[2]);
    assert_eq!(listed(&backend).len(), 1);
    assert_eq!(backend.notices(), []);
    assert!(!conversations(data.path()).join("damaged").exists());
}

#[test]
fn processes_that_start_at_once_open_one_file() {
    for _ in 0..10 {
        let data = tempfile::tempdir().expect("a folder");
        let start = || {
            let backend = open(data.path());
            let id = backend.history().begin(false).expect("begun");
            backend.history().rename(id, "Kept").expect("named");
            let told = backend.notices();
            (backend, told)
        };
        std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            for start in starts {
                let (_backend, told) = start.join().expect("no panic");
                assert_eq!(told, []);
            }
        });
        assert_eq!(listed(&open(data.path())).len(), 4, "all that was said is in one file");
        assert!(!conversations(data.path()).join("damaged").exists());
    }
}

#[test]
fn what_cannot_be_opened_for_writing_is_read_and_opened_again() {
    let data = tempfile::tempdir().expect("a folder");
    import(&open(data.path()), &[4]);
    // No run can begin where its folder is a file.
    let runs = conversations(data.path()).join("runs");
    std::fs::remove_dir_all(&runs).expect("removed");
    std::fs::write(&runs, "").expect("written");
    let backend = open(data.path());
    assert_eq!(listed(&backend), [("Conversation 0".to_owned(), 4)], "what is there can be read");
    assert!(notice(&backend).expect("told").contains("not saved"));
    let id = backend.history().begin(false).expect("begun");
    backend.history().rename(id, "New").expect("it goes on in memory");
    let known = backend.history().conversations(0, 10).expect("listed");
    let old = known.iter().find(|about| about.title == "Conversation 0").expect("listed").id;
    backend.history().rename(old, "Renamed").expect("it goes on in memory");
    backend.history().set_draft(id, "more").expect("it goes on in memory");
    assert_eq!(backend.notices().iter().filter(|notice| notice.code == "history").count(), 1);
    std::fs::remove_file(&runs).expect("removed");
    let at_last = || backend.history().conversations(0, 10).expect("listed").iter().all(|about| about.saved);
    // Tries are apart by a few times what one takes.
    while !at_last() {
        backend.history().set_draft(id, "and more").expect("kept");
    }
    assert_eq!(notice(&backend), None, "it is over");
    drop(backend);
    assert_eq!(listed(&open(data.path())), [("New".to_owned(), 0), ("Renamed".to_owned(), 4)]);
}

#[test]
fn a_file_that_another_process_holds_over_the_start_takes_the_next_change() {
    let data = tempfile::tempdir().expect("a folder");
    import(&open(data.path()), &[2]);
    let other = Connection::open(database(data.path())).expect("opens");
    other.execute_batch("BEGIN EXCLUSIVE").expect("held");
    let backend = open(data.path());
    assert_eq!(listed(&backend).len(), 1, "it can be read meanwhile");
    assert!(notice(&backend).is_some());
    other.execute_batch("ROLLBACK").expect("let go");
    let id = backend.history().conversations(0, 1).expect("listed")[0].id;
    backend.history().rename(id, "Another name").expect("renamed");
    let title: String =
        other.query_row("SELECT title FROM conversation", [], |row| row.get(0)).expect("read");
    assert_eq!(title, "Another name", "it is on the disk");
    assert_eq!(notice(&backend), None);
}

#[test]
fn an_export_of_what_cannot_be_read_fails_and_leaves_the_last_one() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(conversations(data.path()), "no folder").expect("written");
    let backend = open(data.path());
    let file = data.path().join("backup.json");
    std::fs::write(&file, "the last export").expect("written");
    backend.history().export(None, ExportFormat::Json, &file).expect_err("nothing can be read");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "the last export");
    assert!(backend.history().trouble().is_some());
    assert_eq!(backend.history().conversations(0, 10).expect("listed"), []);
}

#[test]
fn copies_that_were_cut_off_are_cleared_up() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    import(&backend, &[200, 200, 200]);
    drop(backend);
    let backups = conversations(data.path()).join("backups");
    std::fs::write(backups.join("copy-1.unfinished"), "half").expect("written");
    drop(open(data.path()).history().conversations(0, 1).expect("listed"));
    assert_eq!(names(&backups), [""; 0]);
}

#[test]
fn a_run_that_ends_with_its_start_makes_no_copy_and_a_command_waits_for_its_own() {
    run(async {
        let data = tempfile::tempdir().expect("a folder");
        let backend = open(data.path());
        import(&backend, &[2]);
        backend.close(Duration::ZERO).await.expect("closed");
        let backups = conversations(data.path()).join("backups");
        assert_eq!(names(&backups), [""; 0]);
        for _ in 0..2 {
            run_shortly(data.path()).await;
            let made = names(&backups);
            assert_eq!(made.len(), 1, "one a week: {made:?}");
            assert!(made[0].starts_with("day-") && made[0].ends_with(".sqlite"), "{made:?}");
        }
    });
}

#[test]
fn what_is_closed_has_ended_in_order_also_where_it_is_never_dropped() {
    run(async {
        let data = tempfile::tempdir().expect("a folder");
        let backend = open(data.path());
        import(&backend, &[2]);
        let runs = conversations(data.path()).join("runs");
        assert_eq!(names(&runs).len(), 1);
        backend.close(Duration::from_secs(1)).await.ok();
        std::mem::forget(backend);
        assert_eq!(names(&runs), Vec::<String>::new(), "the next start checks nothing");
        let files = names(&conversations(data.path()));
        assert!(!files.iter().any(|name| name.ends_with("-wal")), "the log is written back: {files:?}");
    });
}

/// Overwrites a part of the file, so that the next start repairs it.
fn damage(data: &Path) {
    let connection = Connection::open(database(data)).expect("opens");
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("written back");
    let root: i64 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'message_tree'", [], |row| row.get(0))
        .expect("read");
    let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("asked");
    drop(connection);
    let mut bytes = std::fs::read(database(data)).expect("read");
    bytes[((root - 1) * size) as usize] ^= 0xff;
    std::fs::write(database(data), bytes).expect("written");
    let runs = conversations(data).join("runs");
    std::fs::create_dir_all(&runs).expect("made");
    std::fs::write(runs.join("11111111-1111-4111-8111-111111111111.run"), "").expect("written");
}

#[test]
fn a_repair_that_was_cut_off_is_finished_by_the_next_start() {
    let data = tempfile::tempdir().expect("a folder");
    import(&open(data.path()), &[4, 2]);
    let folder = conversations(data.path());
    // As it is when the new file is whole and the damaged one still in its place.
    std::fs::copy(database(data.path()), folder.join("rebuilt-some-name.sqlite")).expect("copied");
    std::fs::create_dir_all(folder.join("repair-left")).expect("made");
    damage(data.path());
    std::fs::write(folder.join("conversations.sqlite-wal"), "a log of the damaged file").expect("written");
    let damaged = std::fs::read(database(data.path())).expect("read");
    let backend = open(data.path());
    let expected = [("Conversation 0".to_owned(), 4), ("Conversation 1".to_owned(), 2)];
    assert_eq!(listed(&backend), expected);
    assert!(backend.notices().iter().any(|notice| notice.code == "historyDamaged"), "it is told");
    let kept = folder.join("damaged/some-name");
    assert_eq!(std::fs::read(kept.join("conversations.sqlite")).expect("kept"), damaged);
    assert!(kept.join("conversations.sqlite-wal").exists(), "its log stands beside it and nowhere else");
    let left = names(&folder);
    assert!(!left.iter().any(|name| name.starts_with("rebuilt-") || name.starts_with("repair-")), "{left:?}");
}

#[test]
fn a_conversation_whose_own_row_is_lost_comes_back_under_a_title_by_rule() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    let ids = import(&backend, &[4, 2]);
    backend.history().rename(ids[0], "A name of its own").expect("named");
    drop(backend);
    std::fs::remove_dir_all(conversations(data.path()).join("backups")).expect("removed");
    lose_row(data.path(), ids[0]);
    let backend = open(data.path());
    let by_rule = "Conversation 0, message 0".to_owned();
    assert_eq!(listed(&backend), [(by_rule, 4), ("Conversation 1".to_owned(), 2)]);
}

#[test]
fn a_conversation_whose_own_row_is_lost_is_named_by_the_copy_and_comes_once() {
    let data = tempfile::tempdir().expect("a folder");
    let ids = {
        let backend = open(data.path());
        let ids = import(&backend, &[4, 2]);
        backend.history().rename(ids[0], "A name of its own").expect("named");
        backend.history().pin(ids[0], true).expect("pinned");
        ids
    };
    let connection = Connection::open(database(data.path())).expect("opens");
    let copy = conversations(data.path()).join("backups/day-2026-01-01T00-00-00.sqlite");
    connection.execute("VACUUM INTO ?1", [copy.to_str().expect("Unicode")]).expect("copied");
    // Then more is said.
    connection
        .execute(
            "INSERT INTO message (id, conversation, parent, role, text, status, created)
             SELECT ?2, conversation.number, (SELECT max(number) FROM message
                 WHERE message.conversation = conversation.number), 'user', 'after the copy', 'complete', 1
             FROM conversation WHERE id = ?1",
            (ids[0], Uuid::new_v4()),
        )
        .expect("written");
    drop(connection);
    lose_row(data.path(), ids[0]);
    let backend = open(data.path());
    assert_eq!(listed(&backend), [("A name of its own".to_owned(), 5), ("Conversation 1".to_owned(), 2)]);
    let about = backend.history().conversations(0, 1).expect("listed").remove(0);
    assert_eq!((about.id, about.pinned), (ids[0], true), "it is the same one");
    let read = backend.history().conversation(ids[0], 1).expect("read");
    assert_eq!(texts(&read.entries), ["after the copy"], "what is newer than the copy stands at its end");
}

/// Removes the row of a conversation and nothing else, and damages the file so that the next start repairs it.
fn lose_row(data: &Path, id: Uuid) {
    let connection = Connection::open(database(data)).expect("opens");
    connection.execute_batch("PRAGMA foreign_keys = OFF").expect("set");
    assert_eq!(connection.execute("DELETE FROM conversation WHERE id = ?1", [id]).expect("removed"), 1);
    drop(connection);
    damage(data);
}

/// Names the data folder to the process that is to be killed.
const FOLDER: &str = "HEARTH_REPAIR_FOLDER";

#[test]
fn the_process_whose_repair_is_cut() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    println!("ready");
    drop(open(Path::new(&folder)).history().conversations(0, 1).expect("listed"));
}

#[test]
fn a_repair_that_is_killed_loses_nothing() {
    let whole = tempfile::tempdir().expect("a folder");
    let backend = open(whole.path());
    let messages = [300; 12];
    import(&backend, &messages);
    drop(backend);
    // Nothing but the file itself says what was in it.
    for copy in names(&conversations(whole.path()).join("backups")) {
        std::fs::remove_file(conversations(whole.path()).join("backups").join(copy)).expect("removed");
    }
    damage(whole.path());
    let (mut numbers, mut cut, mut finished) = (Numbers(11), 0, 0);
    // One takes as long as many of those in the middle of a chat.
    for kill in 0..count("HEARTH_KILLS", 240).div_ceil(20) {
        let data = tempfile::tempdir().expect("a folder");
        copy_folder(whole.path(), data.path());
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_process_whose_repair_is_cut", "--nocapture"])
            .env(FOLDER, data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let never = mpsc::channel::<()>().1;
        never.recv_timeout(Duration::from_millis(numbers.below(1500) as u64)).ok();
        child.kill().expect("it is killed");
        child.wait().expect("it has ended");
        let backend = open(data.path());
        let said: usize = listed(&backend).iter().map(|(_, messages)| messages).sum();
        assert_eq!(said, messages.iter().sum::<usize>(), "after kill {kill}");
        let is_told = backend.notices().iter().any(|notice| notice.code == "historyDamaged");
        cut += usize::from(is_told);
        finished += usize::from(!is_told);
    }
    println!("{cut} repairs were cut off, {finished} were finished before");
    assert!(cut > 0, "some of them are cut off");
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
