//! A long history: starting, listing, searching, opening and saving stay quick.
//!
//! `HEARTH_CONVERSATIONS=10000` makes it as long as it must stay quick, as `cargo xtask bench history` does.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/long_history.rs"]
mod long_history;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bare::{count, open};
use engine::scripted::Scripted;
use long_history::{LONGEST, MESSAGES_EACH, RARE, fill};
use rusqlite::Connection;
use support::{Transport, World, run};
use uuid::Uuid;

const MOST_TO_START: Duration = Duration::from_secs(1);
const MOST_TO_SEARCH: Duration = Duration::from_millis(100);
const MOST_TO_OPEN: Duration = Duration::from_millis(300);

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

/// Starts behind a run that was cut off: all of the file is checked before it is used.
fn start_after_a_cut(data: &Path) {
    let runs = data.join("conversations").join("runs");
    std::fs::create_dir_all(&runs).expect("made");
    std::fs::write(runs.join(format!("{}.run", Uuid::new_v4())), "").expect("written");
    start(data);
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
    // The first start finds nothing of the file in memory.
    start(&data);
    let with = time(|| start(&data));
    row("start, beyond that of an empty history", with.saturating_sub(without), MOST_TO_START);
    let without = time(|| start_after_a_cut(empty.path()));
    let with = time(|| start_after_a_cut(&data));
    // That is rare, and what it takes is the price of finding damage before anything is written.
    let checked = with.saturating_sub(without).as_secs_f64() * 1e3;
    println!("| the same after a run that was cut off | {checked:.1} ms | |");

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
        let taken = time(|| drop(history.conversation(made.long.id, most).expect("read")));
        row(what, taken, MOST_TO_OPEN);
    }
    drop(backend);
    let [short, long] = run(async {
        let world =
            World::over(folder, Transport::Channel, &["Hearth keeps it. ".repeat(40).as_str()], 512, |_| {});
        [bytes_of_a_piece(&world, made.short.id).await, bytes_of_a_piece(&world, made.longest.id).await]
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
