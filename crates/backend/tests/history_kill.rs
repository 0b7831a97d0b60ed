//! A process that is killed at any moment loses nothing that it has acknowledged.
//!
//! The kills are fewer than a release wants; `HEARTH_KILLS` asks for more.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use backend::{ChatEvent, Entry, ReplyOptions, ReplyStatus};
use bare::{Numbers, count, open};
use engine::scripted::Scripted;
use rusqlite::Connection;
use support::{Transport, World, run};

/// Names the data folder to the process that is to be killed.
const FOLDER: &str = "HEARTH_KILL_FOLDER";
const SEED: &str = "HEARTH_KILL_SEED";

/// Long enough that a kill comes in its middle.
fn answer() -> String {
    "Hearth runs a model on this computer and keeps what was said. ".repeat(30)
}

/// Says on stdout that a message was acknowledged.
fn acknowledge(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "acknowledged {text}").and_then(|()| stdout.flush()).expect("somebody reads");
}

#[test]
fn the_process_that_is_killed() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else { return };
    let seed: u64 = seed.parse().expect("a number");
    run(async {
        let answer = answer();
        let answers: Vec<&str> = vec![&answer; 40];
        let world = World::with(Transport::Channel, &answers, 4096, |directories| {
            directories.data = folder.clone().into()
        });
        let (mut numbers, history) = (Numbers(seed), world.backend.history());
        for step in 0.. {
            let text = format!("message-{seed}-{step}");
            let tell = |event: ChatEvent| {
                if let ChatEvent::Started { question: Some(question), .. } = event {
                    acknowledge(&question.text);
                }
            };
            let id = world.chat().current();
            let options =
                ReplyOptions { max_tokens: Some(1 + numbers.below(300)), ..ReplyOptions::default() };
            let entries = world.entries();
            let question = entries.iter().find(|entry| matches!(entry, Entry::Question(_))).map(Entry::id);
            match (numbers.below(6), question) {
                (0, _) => drop(history.begin(false)),
                (1, Some(question)) => drop(world.chat().edit(id, question, text, options, tell).await),
                (2, Some(_)) => drop(world.chat().retry(id, options, |_| {}).await),
                (3, Some(question)) => drop(history.select_branch(id, question)),
                (_, _) => drop(world.chat().send(id, text, options, tell).await),
            }
        }
    });
}

/// Runs a process in `folder`, kills it at a moment by chance, and returns what it acknowledged.
fn run_and_kill(folder: &Path, seed: u64, after: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(text) = line.strip_prefix("acknowledged ") {
                sender.send(text.to_owned()).ok();
            }
        }
    });
    // It has begun to work with its first word; then the kill comes at any moment.
    let first = receiver.recv_timeout(Duration::from_secs(60));
    let never = mpsc::channel::<()>().1;
    never.recv_timeout(after).ok();
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    reader.join().expect("all was read");
    first.into_iter().chain(receiver.try_iter()).collect()
}

#[test]
fn no_kill_loses_or_doubles_an_acknowledged_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut numbers, mut acknowledged, mut halves) = (Numbers(7), Vec::new(), 0);
    let kills = count("HEARTH_KILLS", 40);
    for kill in 0..kills {
        let after = Duration::from_millis(numbers.below(400) as u64);
        acknowledged.extend(run_and_kill(folder.path(), kill as u64, after));
        let backend = open(folder.path());
        // Opening ends what the kill left behind.
        for about in backend.history().conversations(0, usize::MAX).expect("listed") {
            let conversation = backend.history().conversation(about.id, usize::MAX).expect("read");
            for entry in &conversation.entries {
                if let Entry::Reply(reply) = entry {
                    assert_ne!(reply.status, ReplyStatus::Generating, "nobody makes it any longer");
                    assert!(answer().starts_with(reply.text.as_str()), "{:?}", reply.text);
                    halves += usize::from(reply.status == ReplyStatus::Interrupted);
                }
            }
        }
        drop(backend);
        let path = folder.path().join("conversations/conversations.sqlite");
        let connection = Connection::open(path).expect("opens");
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(verdict, "ok", "after kill {kill}");
        let mut found: HashMap<String, usize> = HashMap::new();
        let mut statement =
            connection.prepare("SELECT text FROM message WHERE role = 'user'").expect("asked");
        for text in statement.query_map([], |row| row.get::<_, String>(0)).expect("read") {
            *found.entry(text.expect("text")).or_default() += 1;
        }
        for text in &acknowledged {
            assert_eq!(found.get(text), Some(&1), "{text} after kill {kill}");
        }
    }
    println!(
        "{kills} kills, {} acknowledged messages, {halves} sightings of half replies",
        acknowledged.len()
    );
    assert!(acknowledged.len() > kills / 2, "the processes worked: {}", acknowledged.len());
    assert!(!folder.path().join("conversations/damaged").exists(), "nothing was taken for damaged");
}

#[test]
fn a_reply_under_way_is_saved_while_it_is_made_and_goes_on_after_a_cut() {
    run(async {
        let answer = answer();
        let world = World::new(Transport::Channel, &[&answer]);
        world.breaks(0, 70, Scripted::UntilCancelled);
        let file = world.directories.conversations().join("conversations.sqlite");
        let copy = tempfile::tempdir().expect("a folder");
        let kept = copy.path().join("conversations");
        let look = async {
            world.reached().await;
            let connection = Connection::open(&file).expect("opens");
            // All that was said comes to the disk while the reply still is under way.
            let said = world.beginning(&answer, 70);
            loop {
                let saved: String = connection
                    .query_row(
                        "SELECT coalesce(group_concat(text, '' ORDER BY place), '') FROM chunk",
                        [],
                        |row| row.get(0),
                    )
                    .expect("read");
                assert!(said.starts_with(&saved));
                // The last word may still be held back for the next token.
                if saved.len() + 16 >= said.len() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // What a cut leaves behind is what the files say now.
            std::fs::create_dir_all(kept.join("runs")).expect("made");
            for ending in ["", "-wal"] {
                let name = format!("conversations.sqlite{ending}");
                std::fs::copy(world.directories.conversations().join(&name), kept.join(&name))
                    .expect("copied");
            }
            world.chat().stop();
        };
        tokio::join!(world.ask("What is Hearth?"), look);
        let after = World::with(Transport::Channel, &[&answer], 1024, |directories| {
            directories.data = copy.path().into()
        });
        let id = after.chat().current();
        let entries = after.entries();
        let Some(Entry::Reply(half)) = entries.last() else { panic!("{entries:?}") };
        assert_eq!(half.status, ReplyStatus::Interrupted);
        assert!(answer.starts_with(&half.text) && half.text.len() > 200, "{:?}", half.text);
        let options = ReplyOptions { max_tokens: Some(20), ..ReplyOptions::default() };
        let whole = after.chat().go_on(id, options, |_| {}).await.expect("it goes on");
        assert!(whole.text.starts_with(&half.text) && whole.text.len() > half.text.len(), "{:?}", whole.text);
        assert_eq!(after.entries().len(), 2);
    });
}
