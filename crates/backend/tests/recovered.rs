//! Replies that a crash cut off: they are there with their text and its ids, and go on from them.

#[path = "support/first_schema.rs"]
mod first_schema;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::{AppDirs, Backend, ChatEvent, Entry, Reply, ReplyOptions, ReplyStatus};
use engine::scripted::Scripted;
use rusqlite::Connection;
use support::{Transport, World, ember_text, run};
use tempfile::TempDir;

const SENTENCE: &str = "Hearth runs a model on this computer and keeps what was said. ";

fn answer() -> String {
    SENTENCE.repeat(30)
}

fn options(most: usize) -> ReplyOptions {
    ReplyOptions { max_tokens: Some(most), temperature: Some(0.0), ..ReplyOptions::default() }
}

fn database(conversations: &Path) -> Connection {
    Connection::open(conversations.join("conversations.sqlite")).expect("opens")
}

/// What a cut leaves behind is what the files say now.
fn copy_as_cut_off(conversations: &Path, data: &Path) {
    let kept = data.join("conversations");
    std::fs::create_dir_all(kept.join("runs")).expect("made");
    for ending in ["", "-wal"] {
        let name = format!("conversations.sqlite{ending}");
        std::fs::copy(conversations.join(&name), kept.join(&name)).expect("copied");
    }
}

/// Waits until the reply under way has said `count` tokens of `answer` and they are on the disk, keeps a copy of
/// the disk, and stops the reply.
async fn cut(world: &World, answer: &str, count: usize, data: &Path) {
    world.reached().await;
    let conversations = world.directories.conversations();
    let connection = database(&conversations);
    let said = world.beginning(answer, count);
    loop {
        let saved: String = connection
            .query_row(
                "SELECT text || coalesce((SELECT group_concat(chunk.text, '' ORDER BY place) FROM chunk
                     WHERE chunk.message = message.number), '')
                 FROM message WHERE role = 'assistant' ORDER BY number DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .expect("read");
        assert!(said.starts_with(&saved), "{saved}");
        // The last word may still be held back for the next token.
        if saved.len() + 16 >= said.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    copy_as_cut_off(&conversations, data);
    world.chat().stop();
}

/// The application as it starts after the cut.
fn start_over(copy: &TempDir, answer: &str) -> World {
    World::with(Transport::Channel, &[answer], 1024, |directories| directories.data = copy.path().into())
}

fn last_reply(entries: &[Entry]) -> Reply {
    let replies = entries.iter().rev().find_map(|entry| match entry {
        Entry::Reply(reply) => Some(reply),
        _ => None,
    });
    replies.expect("a reply").clone()
}

/// The half reply, after a look at what it consists of.
fn half(world: &World, answer: &str) -> Reply {
    let half = last_reply(&world.entries());
    assert_eq!(half.status, ReplyStatus::Interrupted);
    assert!(answer.starts_with(&half.text) && half.text.len() > 200, "{:?}", half.text);
    let ids = ember_text().tokenizer.encode_content(answer).expect("encodes");
    assert_eq!(half.tokens, ids[..half.tokens.len()], "the ids as they were generated");
    let text = ember_text().tokenizer.decode(&half.tokens).expect("decodes");
    assert_eq!(text, half.text, "all of them and no others");
    half
}

#[test]
fn a_reply_under_way_is_saved_while_it_is_made_and_goes_on_after_a_cut() {
    run(async {
        let answer = answer();
        let world = World::new(Transport::Channel, &[&answer]);
        world.breaks(0, 70, Scripted::UntilCancelled);
        let copy = tempfile::tempdir().expect("a folder");
        tokio::join!(world.ask("What is Hearth?"), cut(&world, &answer, 70, copy.path()));
        let after = start_over(&copy, &answer);
        let half = half(&after, &answer);
        let whole =
            after.chat().go_on(after.chat().current(), options(20), |_| {}).await.expect("it goes on");
        assert_eq!(whole.tokens.len(), half.tokens.len() + 20);
        assert!(whole.text.starts_with(&half.text) && answer.starts_with(&whole.text), "{:?}", whole.text);
        assert_eq!(after.entries().len(), 2);
    });
}

#[test]
fn a_reply_that_another_model_went_on_with_is_cut_off_with_ids_of_its_own() {
    run(async {
        let answer = answer();
        let world = World::new(Transport::Channel, &[&answer]);
        // Up to the end of a sentence, so that another model encodes it alike.
        let two = ember_text().tokenizer.encode_content(SENTENCE.repeat(2).trim_end()).expect("encodes");
        let (first, _) = world.ask_with("What is Hearth?", options(two.len())).await;
        assert_eq!(first.text, SENTENCE.repeat(2).trim_end());
        world.backend.select_model("beta").await.expect("it loads");
        world.breaks(0, 110, Scripted::UntilCancelled);
        let copy = tempfile::tempdir().expect("a folder");
        let going_on = world.chat().go_on(world.chat().current(), options(500), |_| {});
        let (gone_on, ()) = tokio::join!(going_on, cut(&world, &answer, 110, copy.path()));
        assert!(gone_on.expect("it went on").text.starts_with(&first.text));
        let after = start_over(&copy, &answer);
        let half = half(&after, &answer);
        assert_eq!(half.model, "Model beta");
        assert!(half.tokens.len() > first.tokens.len(), "the pieces follow what was there before");
    });
}

#[test]
fn a_half_reply_without_ids_goes_on_from_its_text() {
    run(async {
        let answer = answer();
        let folder = tempfile::tempdir().expect("a folder");
        let old = first_schema::make(&folder.path().join("data"));
        let conversation = first_schema::add_conversation(&old, "Old", 1_700_000_000_000_000);
        let question = first_schema::add_message(&old, conversation, None, "What is Hearth?");
        let reply = first_schema::add_message(&old, conversation, Some(question), "");
        for (place, text) in [(1, "Hearth runs"), (2, " a model")] {
            first_schema::add_piece(&old, reply, place, text);
        }
        drop(old);
        let world = World::over(folder, Transport::Channel, &[&answer], 512, |_| {});
        let id = world.backend.history().conversations(0, 10).expect("listed")[0].id;
        world.backend.open_conversation(id, 10).await.expect("opened");
        let half = last_reply(&world.entries());
        assert_eq!(half.text, "Hearth runs a model");
        assert!(half.tokens.is_empty(), "an older version kept none");
        let whole = world.chat().go_on(id, options(20), |_| {}).await.expect("it goes on");
        assert!(whole.text.starts_with("Hearth runs a model on") && answer.starts_with(&whole.text));
        assert!(whole.tokens.len() > 20, "the ids of its text come first");
    });
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/data/tiny")
}

#[test]
fn a_greedy_reply_that_was_cut_off_ends_in_the_ids_of_one_that_was_not() {
    const TOKENS: usize = 320;
    run(async {
        let library = AppDirs::of_this_program(None).expect("this user has a home").library();
        let (folder, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let directories = AppDirs {
            data: folder.path().into(),
            resources: vec![tiny().parent().expect("a folder").to_path_buf()],
            libraries: vec![library.expect("`cargo xtask setup` installs it")],
        };
        let backend = Backend::open(directories.clone());
        let (id, conversations) = (backend.chat().current(), directories.conversations());
        let mut is_copied = false;
        let copy_once = |event| {
            if is_copied || !matches!(event, ChatEvent::Text { .. }) {
                return;
            }
            let pieces: i64 = database(&conversations)
                .query_row("SELECT count(*) FROM chunk", [], |row| row.get(0))
                .expect("counted");
            if pieces > 0 {
                copy_as_cut_off(&conversations, copy.path());
                is_copied = true;
            }
        };
        let message = "count from 3 to 12 and down again".to_owned();
        let whole = backend.chat().send(id, message, options(TOKENS), copy_once).await.expect("answered");
        assert!(is_copied, "it was saved in its middle: {:?}, {} tokens", whole.status, whole.tokens.len());

        let after = Backend::open(AppDirs { data: copy.path().into(), ..directories });
        let half = last_reply(&after.chat().conversation(id, 10).expect("read").entries);
        assert_eq!(half.status, ReplyStatus::Interrupted);
        assert!((1..whole.tokens.len()).contains(&half.tokens.len()), "{}", half.tokens.len());
        assert_eq!(half.tokens, whole.tokens[..half.tokens.len()]);
        assert!(whole.text.starts_with(&half.text));
        let left = options(TOKENS - half.tokens.len());
        let again = after.chat().go_on(id, left, |_| {}).await.expect("it goes on");
        assert_eq!(again.tokens, whole.tokens);
        assert_eq!(again.text, whole.text);
    });
}
