//! What is read of conversations while they change: it waits for no change, and it is of one moment.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backend::{Entry, History, ReplyStatus};
use bare::open;
use rusqlite::Connection;
use support::{Transport, World, run};
use uuid::Uuid;

fn two_conversations(history: &History) -> [Uuid; 2] {
    ["One", "Other"].map(|title| {
        let id = history.begin(false).expect("begun");
        history.rename(id, title).expect("named");
        id
    })
}

#[test]
fn lists_searches_and_conversations_wait_for_no_change() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    let history = backend.history();
    let [one, other] = two_conversations(history);
    let file = Connection::open(data.path().join("conversations/conversations.sqlite")).expect("opens");
    // Another process that writes: a change waits for it, for up to five seconds.
    file.execute_batch("BEGIN IMMEDIATE").expect("held");
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            history.rename(one, "Another name").expect("renamed");
            has_ended.store(true, Ordering::SeqCst);
        });
        for _ in 0..100 {
            assert_eq!(history.conversations(0, 10).expect("listed").len(), 2);
            assert_eq!(history.search("other", 10).expect("searched").len(), 1);
            assert_eq!(history.conversation(other, 10).expect("read").about.title, "Other");
            history.show(other).expect("shown");
            history.show(one).expect("shown");
            let text = history.export_text(other, backend::ExportFormat::Json).expect("exported");
            assert!(text.contains("Other"));
        }
        assert!(!has_ended.load(Ordering::SeqCst), "the change still waits");
        file.execute_batch("ROLLBACK").expect("let go");
    });
    assert!(has_ended.load(Ordering::SeqCst));
    let about = history.conversation(one, 1).expect("read").about;
    assert_eq!((about.title.as_str(), about.saved), ("Another name", true));
}

#[test]
fn what_is_shown_is_remembered_also_where_it_was_chosen_during_a_change() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    let history = backend.history();
    let [one, other] = two_conversations(history);
    let file = Connection::open(data.path().join("conversations/conversations.sqlite")).expect("opens");
    file.execute_batch("BEGIN IMMEDIATE").expect("held");
    history.show(one).expect("it waits for nobody");
    file.execute_batch("ROLLBACK").expect("let go");
    drop(backend);
    let backend = open(data.path());
    assert_eq!(backend.chat().current(), one);
    backend.history().show(other).expect("shown");
    let now: String = file
        .query_row("SELECT value FROM fact WHERE name = 'shown conversation'", [], |row| row.get(0))
        .expect("noted");
    assert_eq!(now, other.to_string(), "at once where nobody writes");
}

#[test]
fn whoever_changed_something_reads_it_at_once() {
    let data = tempfile::tempdir().expect("a folder");
    let backend = open(data.path());
    let history = backend.history();
    let written: Vec<Uuid> = (0..4)
        .map(|_| {
            let id = history.begin(false).expect("begun");
            history.rename(id, "Begun").expect("named");
            id
        })
        .collect();
    std::thread::scope(|scope| {
        for (writer, id) in written.into_iter().enumerate() {
            scope.spawn(move || {
                for step in 0..50 {
                    let text = format!("step {step} of writer{writer}");
                    history.rename(id, &text).expect("named");
                    history.set_draft(id, &text).expect("kept");
                    let read = history.conversation(id, 10).expect("read");
                    assert_eq!((&read.about.title, &read.draft), (&text, &text));
                    let listed = history.conversations(0, 10).expect("listed");
                    let own: Vec<&str> = listed
                        .iter()
                        .filter(|about| about.id == id)
                        .map(|about| about.title.as_str())
                        .collect();
                    assert_eq!(own, [text.as_str()], "once");
                    let found = history.search(&format!("writer{writer}"), 10).expect("searched");
                    assert_eq!(found.iter().filter(|hit| hit.conversation == id).count(), 1);
                }
            });
        }
    });
}

#[test]
fn a_reply_under_way_only_grows_for_those_who_read_it() {
    run(async {
        let answer = "Hearth runs a model on this computer and keeps what was said. ".repeat(20);
        let world = World::with(Transport::Channel, &[answer.as_str()], 2048, |_| {});
        // Slow enough that it is saved in pieces.
        world.takes(Duration::from_millis(4));
        let (history, id) = (world.backend.history().clone(), world.chat().current());
        let has_ended = Arc::new(AtomicBool::new(false));
        let (ended, whole) = (Arc::clone(&has_ended), answer.clone());
        let reader = std::thread::spawn(move || {
            let (mut lengths, mut longest) = (BTreeSet::new(), 0);
            while !ended.load(Ordering::SeqCst) {
                // Nothing was said yet.
                let Ok(read) = history.conversation(id, 10) else { continue };
                let Some(Entry::Reply(reply)) = read.entries.last() else { continue };
                assert!(whole.starts_with(&reply.text), "{:?}", reply.text);
                assert!(reply.text.len() >= longest, "{longest} became {}", reply.text.len());
                assert_ne!(reply.status, ReplyStatus::Interrupted);
                longest = reply.text.len();
                lengths.insert(longest);
            }
            lengths
        });
        world.ask("What is Hearth?").await;
        has_ended.store(true, Ordering::SeqCst);
        let lengths = reader.join().expect("all that was read fits together");
        assert!(lengths.len() > 2, "it was read in its middle: {lengths:?}");
    });
}
