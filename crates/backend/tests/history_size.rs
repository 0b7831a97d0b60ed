//! A long history: starting, listing, searching, opening and saving stay quick.
//!
//! `HEARTH_CONVERSATIONS=10000` makes it as long as it must stay quick, as `cargo xtask bench history` does.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bare::{Numbers, count, open};
use engine::scripted::Scripted;
use rusqlite::Connection;
use support::{Transport, World, run};
use uuid::Uuid;

const MESSAGES_EACH: usize = 20;
const LONG: usize = 2000;
const LONGEST: usize = 10_000;
const RARE: &str = "zanzibarium";

const MOST_TO_START: Duration = Duration::from_secs(1);
const MOST_TO_SEARCH: Duration = Duration::from_millis(100);
const MOST_TO_OPEN: Duration = Duration::from_millis(300);

/// Texts of words as frequent as in a language: a few very often, most of them seldom.
struct Texts {
    numbers: Numbers,
    words: Vec<String>,
}

impl Texts {
    fn new() -> Self {
        let mut numbers = Numbers(11);
        let mut words: Vec<String> =
            ["the", "of", "and", "to", "a", "in", "is", "it", "you", "that"].map(String::from).to_vec();
        while words.len() < 8000 {
            let syllables = 2 + numbers.below(3);
            let syllable = |numbers: &mut Numbers| {
                let consonant = b"bcdfghklmnprstvw"[numbers.below(16)] as char;
                let vowel = b"aeiou"[numbers.below(5)] as char;
                [consonant, vowel].iter().collect::<String>()
            };
            words.push((0..syllables).map(|_| syllable(&mut numbers)).collect());
        }
        Self { numbers, words }
    }

    fn next(&mut self) -> String {
        let length = 10 + self.numbers.below(50);
        let words = (0..length).map(|_| {
            let most = 1 + self.numbers.below(self.words.len());
            let most = 1 + self.numbers.below(most);
            self.words[self.numbers.below(most)].as_str()
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// What was made: the conversations of `LONG` and of `LONGEST` messages, and a short one.
struct Made {
    long: Uuid,
    longest: Uuid,
    short: Uuid,
    messages: usize,
}

/// Fills a data folder, at once and past the application, which would take hours.
fn fill(data: &Path, conversations: usize) -> Made {
    open(data).history().conversations(0, 1).expect("listed");
    let mut connection = Connection::open(data.join("conversations/conversations.sqlite")).expect("opens");
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").expect("set");
    let mut texts = Texts::new();
    let change = connection.transaction().expect("begun");
    let mut ids = Vec::new();
    let mut messages = 0;
    for conversation in 0..conversations + 2 {
        let length = match conversation {
            0 => LONGEST,
            1 => LONG,
            _ => MESSAGES_EACH,
        };
        let id = Uuid::new_v4();
        ids.push(id);
        let at = 1_700_000_000_000_000 + conversation as i64 * 1_000_000;
        change
            .prepare_cached(
                "INSERT INTO conversation (id, title, created, updated, clock, pinned)
                 VALUES (?1, ?2, ?3, ?3, '', ?4)",
            )
            .and_then(|mut insert| insert.execute((id, texts.next(), at, conversation % 1000 == 999)))
            .expect("written");
        let number = change.last_insert_rowid();
        let mut parent: Option<i64> = None;
        for message in 0..length {
            let mut text = texts.next();
            if message == 3 && conversation % (conversations / 3).max(1) == 2 {
                text.push_str(&format!(" {RARE}"));
            }
            let role = if message % 2 == 0 { "user" } else { "assistant" };
            change
                .prepare_cached(
                    "INSERT INTO message (id, conversation, parent, role, text, status, created)
                     VALUES (?1, ?2, ?3, ?4, ?5, 'complete', ?6)",
                )
                .and_then(|mut insert| insert.execute((Uuid::new_v4(), number, parent, role, text, at)))
                .expect("written");
            parent = Some(change.last_insert_rowid());
            messages += 1;
        }
    }
    change.commit().expect("written");
    Made { longest: ids[0], long: ids[1], short: ids[2], messages }
}

/// The median of five.
fn time(mut work: impl FnMut()) -> Duration {
    let mut taken: Vec<Duration> = (0..5)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    taken.sort();
    taken[2]
}

fn start(data: &Path) {
    let backend = open(data);
    let id = backend.chat().current();
    backend.chat().conversation(id, 60).expect("read");
    backend.history().conversations(0, 100).expect("listed");
}

#[expect(clippy::print_stdout, reason = "the rows are what it is run for")]
fn row(what: &str, taken: Duration, most: Duration) {
    println!("| {what} | {:.1} ms | {} ms |", taken.as_secs_f64() * 1e3, most.as_millis());
    assert!(taken <= most, "{what}: {taken:?}");
}

#[test]
fn a_long_history_stays_quick() {
    let conversations = count("HEARTH_CONVERSATIONS", 500);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let began = Instant::now();
    let made = fill(&data, conversations);
    println!(
        "{} conversations with {} messages, made in {:.0} s\n",
        conversations + 2,
        made.messages,
        began.elapsed().as_secs_f64()
    );
    println!("| what | taken | at most |\n| --- | ---: | ---: |");

    let empty = tempfile::tempdir().expect("a folder");
    let without = time(|| start(empty.path()));
    // The first start makes the copy of the day beside it.
    start(&data);
    let with = time(|| start(&data));
    row("start, beyond that of an empty history", with.saturating_sub(without), MOST_TO_START);

    let backend = open(&data);
    let history = backend.history();
    for (what, words) in [
        ("search for a common word", "the"),
        ("search for two common words", "and the"),
        ("search for a rare word", RARE),
        ("search for what no message has", "quuxquux"),
        ("search for the first letter of a word", "t"),
        ("search for the beginning of many words", "to"),
        ("search for the beginning of a rare word", "zanzi"),
        ("search for a rare and the beginning of a common word", "zanzibarium th"),
    ] {
        let taken = time(|| drop(history.search(words, 50).expect("searched")));
        row(what, taken, MOST_TO_SEARCH);
    }
    assert!(history.search(RARE, 50).expect("searched").len() >= 3);
    for (what, skip) in
        [("the first page of the list", 0), ("its last page", conversations.saturating_sub(100))]
    {
        row(what, time(|| drop(history.conversations(skip, 100).expect("listed"))), MOST_TO_SEARCH);
    }
    for (what, most) in [("open 2,000 messages, all of them", usize::MAX), ("the last 60 of them", 60)] {
        let taken = time(|| drop(history.conversation(made.long, most).expect("read")));
        row(what, taken, MOST_TO_OPEN);
    }
    drop(backend);
    let [short, long] = run(async {
        let world =
            World::over(folder, Transport::Channel, &["Hearth keeps it. ".repeat(40).as_str()], 512, |_| {});
        [bytes_of_a_piece(&world, made.short).await, bytes_of_a_piece(&world, made.longest).await]
    });
    println!(
        "\nsaving a piece of a reply behind {MESSAGES_EACH} messages writes {short} bytes, behind {LONGEST} {long}"
    );
    assert!(long <= short + 2 * 4120, "it does not grow by more than a page or two of the trees");
}

/// How much a piece of a running reply adds to the log.
async fn bytes_of_a_piece(world: &World, conversation: Uuid) -> u64 {
    world.backend.open_conversation(conversation, 10).await.expect("opened");
    // What is above is not what this is about.
    world.chat().reset(conversation).await.expect("reset");
    world.breaks(0, 60, Scripted::UntilCancelled);
    let look = async {
        world.reached().await;
        let file = world.directories.conversations().join("conversations.sqlite");
        let connection = Connection::open(&file).expect("opens");
        let size = || std::fs::metadata(file.with_extension("sqlite-wal")).expect("it is there").len();
        let count = || -> i64 {
            connection.query_row("SELECT count(*) FROM chunk", [], |row| row.get(0)).expect("counted")
        };
        // The first piece comes for its length, the second one for its age.
        let mut before = None;
        loop {
            match before {
                Some(pieces) if count() > pieces => {
                    world.chat().stop();
                    return size();
                }
                None if count() > 0 => {
                    let emptied: rusqlite::Result<i64> =
                        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
                    let pieces = count();
                    before = (emptied == Ok(0) && size() == 0).then_some(pieces);
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (_, bytes) = tokio::join!(world.ask("What is Hearth?"), look);
    world.mend();
    bytes
}
