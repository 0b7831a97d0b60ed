//! Conversations as files: whole when they leave, and believed only as far as a stranger's file may be.

mod support;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use backend::{Entry, Error, ExportFormat, ImportReport, Reply, ReplyOptions};
use engine::scripted::Scripted;
use serde_json::{Value, json};
use support::{Transport, World, run, texts};
use tempfile::TempDir;
use uuid::Uuid;

const FIRST: &str = "Hearth runs a model on this computer.";
const SECOND: &str = "The reset button clears its memory.";

fn world(answers: &[&str]) -> World {
    World::new(Transport::Channel, answers)
}

fn reply(entry: Option<&Entry>) -> Reply {
    match entry {
        Some(Entry::Reply(reply)) => reply.clone(),
        other => panic!("{other:?}"),
    }
}

/// A file with this text.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.json");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

fn import(world: &World, text: &str) -> ImportReport {
    let (_folder, path) = file(text);
    world.backend.history().import(&path).expect("read")
}

/// A conversation in which one thing is said.
fn record(title: &str, text: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!({
        "id": Uuid::new_v4(), "title": title, "created": at, "updated": at,
        "messages": [{"id": Uuid::new_v4(), "chosen": true, "role": "user", "text": text, "created": at}],
    })
}

/// In the order in which Hearth writes it.
fn of_hearth(conversations: &[Value]) -> String {
    let list = json!(conversations);
    format!(r#"{{"format":"hearth conversations","version":1,"conversations":{list}}}"#)
}

fn titles(world: &World) -> Vec<String> {
    let listed = world.backend.history().conversations(0, 100).expect("listed");
    let mut titles: Vec<String> = listed.into_iter().map(|about| about.title).collect();
    titles.sort();
    titles
}

#[test]
fn an_export_comes_back_as_it_was_and_once() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        let (first, _) = world.ask("What is Hearth?").await;
        let id = world.chat().current();
        world.chat().regenerate(id, first.id, ReplyOptions::default(), |_| {}).await.expect("made");
        world.chat().reset(id).await.expect("reset");
        world.ask("And the button?").await;
        let entries = world.entries();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("all.json");
        let history = world.backend.history();
        history.export(None, ExportFormat::Json, &path).expect("written");
        let report = history.import(&path).expect("read");
        assert_eq!((report.imported, report.unchanged, report.refused), (0, 1, 0), "all of it is here");

        let other = self::world(&[FIRST]);
        let report = other.backend.history().import(&path).expect("read");
        assert_eq!((report.imported, report.unchanged, report.refused), (1, 0, 0));
        other.backend.open_conversation(id, 100).await.expect("it is here");
        assert_eq!(texts(&other.entries()), texts(&entries));
        let kinds = |entries: &[Entry]| entries.iter().map(std::mem::discriminant).collect::<Vec<_>>();
        assert_eq!(kinds(&other.entries()), kinds(&entries), "the reset too");
        assert_eq!(reply(other.entries().get(1)).versions.len(), 2, "and the branches");

        let markdown = history.export_text(id, ExportFormat::Markdown).expect("written");
        assert!(
            markdown.starts_with("# What is Hearth?\n\n## You\n\nWhat is Hearth?\n\n## Model alpha\n\n"),
            "{markdown}"
        );
    });
}

#[test]
fn files_that_are_no_conversations_are_refused_with_a_reason() {
    run(async {
        let world = world(&[]);
        let folder = tempfile::tempdir().expect("a folder");
        for (text, reason) in [
            ("", "no JSON"),
            ("{", "no JSON"),
            ("{}", "neither"),
            ("{\"format\":\"hearth conversations\",\"version\":9,\"conversations\":[]}", "update Hearth"),
            ("{\"format\":\"hearth conversations\",\"version\":1}", "no list"),
        ] {
            let path = folder.path().join("file.json");
            std::fs::write(&path, text).expect("written");
            let error = world.backend.history().import(&path).expect_err("it is none");
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert!(error.to_string().contains("file.json"), "{error}");
        }
        let path = folder.path().join("file.json");
        std::fs::write(&path, "[{}, 3, {\"mapping\": {}}]").expect("written");
        let report = world.backend.history().import(&path).expect("a list of nothing readable");
        assert_eq!((report.imported, report.refused), (0, 3));
        assert!(world.backend.history().conversations(0, 9).expect("listed").is_empty());
    });
}

#[test]
fn an_import_adds_versions_and_leaves_the_branch_that_is_shown() {
    run(async {
        let here = world(&[FIRST, SECOND]);
        let (first, _) = here.ask("What is Hearth?").await;
        let id = here.chat().current();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one.json");
        here.backend.history().export(Some(id), ExportFormat::Json, &path).expect("written");
        let there = world(&[SECOND]);
        there.backend.history().import(&path).expect("read");
        there.chat().regenerate(id, first.id, ReplyOptions::default(), |_| {}).await.expect("made");
        there.backend.history().export(Some(id), ExportFormat::Json, &path).expect("written");
        assert_eq!(here.backend.history().import(&path).expect("read").imported, 1);
        assert_eq!(here.texts(), ["What is Hearth?", FIRST], "what is shown here stays");
        assert_eq!(reply(here.entries().last()).versions.len(), 2, "and the other one is beside it");
    });
}

#[test]
fn what_is_deleted_is_neither_exported_nor_copied() {
    run(async {
        let world = world(&[FIRST]);
        world.ask("What is Hearth?").await;
        let id = world.chat().current();
        world.backend.delete_conversation(id, 1).await.expect("deleted");
        for format in [ExportFormat::Json, ExportFormat::Markdown] {
            let error = world.backend.history().export_text(id, format).expect_err("it is gone");
            assert!(matches!(error, Error::ConversationUnknown { .. }), "{error}");
        }
        let error = world.backend.history().duplicate(id).expect_err("it is gone");
        assert!(matches!(error, Error::ConversationUnknown { .. }), "{error}");
    });
}

#[test]
fn a_file_that_is_cut_is_refused_as_a_whole() {
    run(async {
        let world = world(&[]);
        let whole = of_hearth(&[record("One", "one"), record("Two", "two")]);
        for left in [whole.len() - 1, whole.len() - 10, whole.len() / 2] {
            let (_folder, path) = file(&whole[..left]);
            let error = world.backend.history().import(&path).expect_err("it is cut");
            assert!(error.to_string().contains("no JSON file of conversations"), "{error}");
            assert_eq!(titles(&world), Vec::<String>::new(), "nothing of it is here");
        }
    });
}

#[test]
fn one_conversation_that_makes_no_sense_keeps_out_no_other() {
    run(async {
        let world = world(&[]);
        let mut strange = record("Strange", "text");
        strange["messages"][0]["parent"] = json!(Uuid::new_v4());
        let mut other = record("Of another role", "text");
        other["messages"][0]["role"] = json!("system");
        let report =
            import(&world, &of_hearth(&[record("One", "1"), strange, json!(7), other, record("Two", "2")]));
        assert_eq!((report.imported, report.refused), (2, 3));
        assert_eq!(titles(&world), ["One", "Two"]);
        // The order of its parts means nothing.
        let parts = r#""format":"hearth conversations","version":1"#;
        import(&world, &format!(r#"{{"conversations":[{}],{parts}}}"#, record("Three", "3")));
        assert_eq!(titles(&world), ["One", "Three", "Two"]);
    });
}

#[test]
fn what_a_file_says_of_itself_is_believed_only_as_far_as_it_can_do_no_harm() {
    run(async {
        let world = world(&[FIRST]);
        world.ask("What is Hearth?").await;
        let mut hostile = record("A\u{202e}\nB\u{1b}[2J", "text");
        hostile["updated"] = json!("9999-01-01T00:00:00Z");
        let reply = json!({
            "id": Uuid::new_v4(), "parent": hostile["messages"][0]["id"], "chosen": true, "role": "assistant",
            "text": "t", "model": "Model alpha\n# Heading", "status": "generating", "tokens": [1, 2, 3],
            "created": "2026-01-01T00:00:00Z",
            "usage": {"promptTokens": 1_000_000, "reusedTokens": 0, "newTokens": 1, "prefillSeconds": 0.001},
        });
        hostile["messages"].as_array_mut().expect("a list").push(reply);
        import(&world, &of_hearth(&[hostile]));
        world.ask("And now?").await;
        let listed = world.backend.history().conversations(0, 10).expect("listed");
        assert_eq!(listed[0].title, "What is Hearth?", "what was said last stands first");
        assert_eq!(listed[1].title, "A B [2J", "on one line, and nothing that hides");
        let read = world.backend.history().conversation(listed[1].id, 10).expect("read");
        let reply = self::reply(read.entries.last());
        assert_eq!(reply.model, "Model alpha # Heading");
        assert_eq!(reply.tokens, [0; 0], "ids are not taken from strangers");
        let draft = world.chat().measure(world.chat().current(), "So?".into()).await.expect("measured");
        let rate = draft.reading_seconds.map(|seconds| draft.new_tokens as f64 / seconds);
        assert!(rate.is_none_or(|rate| rate < 1e8), "its speed says nothing of this machine: {rate:?}");
    });
}

#[test]
fn a_child_that_only_names_its_parent_is_imported_too() {
    run(async {
        let world = world(&[]);
        let node = |parent: Value, role: &str, text: &str| {
            json!({"parent": parent, "children": [], "message": {
                "author": {"role": role}, "content": {"content_type": "text", "parts": [text]}}})
        };
        let conversation = json!({
            "title": "A talk", "conversation_id": "talk", "current_node": "c",
            "mapping": {
                "a": node(Value::Null, "user", "Question"),
                "b": node("a".into(), "assistant", "First"),
                "c": node("a".into(), "assistant", "Second"),
            }
        });
        assert_eq!(import(&world, &json!([conversation]).to_string()).imported, 1);
        let id = world.backend.history().conversations(0, 1).expect("listed")[0].id;
        let read = world.backend.history().conversation(id, 10).expect("read");
        assert_eq!(texts(&read.entries), ["Question", "Second"]);
        assert_eq!(reply(read.entries.last()).versions.len(), 2);
    });
}

#[test]
fn a_conversation_too_large_for_memory_is_refused() {
    run(async {
        let world = world(&[]);
        let text = of_hearth(&[record("One", "1"), record("Large", &" ".repeat(65 << 20))]);
        let (_folder, path) = file(&text);
        let error = world.backend.history().import(&path).expect_err("it is too large");
        assert!(error.to_string().contains("more than 67108864 bytes"), "{error}");
        assert_eq!(titles(&world), Vec::<String>::new());
    });
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it starts");
    assert!(made.success());
    // Whoever opens it would wait for ever, so another thread does.
    let (told, tells) = mpsc::channel();
    std::thread::spawn(move || {
        run(async {
            let world = world(&[]);
            for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/")] {
                told.send(world.backend.history().import(path).map_err(|error| error.to_string())).ok();
            }
        });
    });
    for _ in 0..3 {
        let error = tells.recv_timeout(Duration::from_secs(60)).expect("it does not wait");
        assert!(error.expect_err("it is refused").contains("no file"));
    }
}

#[test]
fn an_import_that_the_disk_ends_keeps_what_came_and_goes_on_another_time() {
    run(async {
        let world = world(&[]);
        world.backend.history().conversations(0, 1).expect("opened");
        let database = world.directories.conversations().join("conversations.sqlite");
        let other = rusqlite::Connection::open(database).expect("opens");
        other
            .execute_batch(
                "CREATE TRIGGER refusal BEFORE INSERT ON conversation WHEN new.title = 'Three'
                 BEGIN SELECT raise(ABORT, 'refused'); END",
            )
            .expect("made");
        let all = of_hearth(&["One", "Two", "Three", "Four"].map(|title| record(title, title)));
        let (_folder, path) = file(&all);
        let error = world.backend.history().import(&path).expect_err("it is refused");
        assert!(matches!(error, Error::History { .. }), "{error}");
        assert_eq!(titles(&world), ["One", "Two"]);
        other.execute_batch("DROP TRIGGER refusal").expect("dropped");
        let report = world.backend.history().import(&path).expect("read");
        assert_eq!((report.imported, report.unchanged), (2, 2));
        assert_eq!(titles(&world), ["Four", "One", "Three", "Two"]);
    });
}

#[test]
fn an_export_that_cannot_be_written_leaves_the_last_one() {
    run(async {
        let world = world(&[FIRST]);
        world.ask("What is Hearth?").await;
        let (folder, path) = file("the last export");
        for unwritable in [folder.path().join("none/all.json"), path.join("all.json")] {
            let failed = world.backend.history().export(None, ExportFormat::Json, &unwritable);
            assert!(matches!(failed, Err(Error::Export { .. })), "{failed:?}");
        }
        std::fs::create_dir(folder.path().join("taken")).expect("made");
        let taken = folder.path().join("taken");
        let failed = world.backend.history().export(None, ExportFormat::Json, &taken);
        assert!(matches!(failed, Err(Error::Export { .. })), "{failed:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "the last export");
        let left = std::fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(left, 2, "no half files lie about");
    });
}

#[test]
fn what_a_message_leaves_open_ends_with_it_in_markdown() {
    run(async {
        let answer = "Like this:\n\n```rust\nfn main() {";
        let world = world(&[answer, SECOND]);
        world.ask("<!-- a comment\nwithout an end").await;
        world.ask("~~~~\n~~~\ntext").await;
        let id = world.chat().current();
        let text = world.backend.history().export_text(id, ExportFormat::Markdown).expect("written");
        let said = text.split_once("## You").expect("a question").1;
        assert_eq!(
            said,
            format!(
                "\n\n<!-- a comment\nwithout an end\n-->\n\n## Model alpha\n\n{answer}\n```\n\n## You\n\n\
                 ~~~~\n~~~\ntext\n~~~~\n\n## Model alpha\n\n{SECOND}\n"
            )
        );
    });
}

#[test]
fn what_is_closed_already_stays_as_it_is_in_markdown() {
    run(async {
        for whole in [
            "```\ncode\n```",
            "``` not a `fence` ```",
            "    ```\n    indented",
            "~~~ words\n```\n~~~",
            "<!-- one line -->",
            "1. item\n\n   ```\n   code\n   ```",
        ] {
            let world = world(&[FIRST]);
            world.ask(whole).await;
            let id = world.chat().current();
            let text = world.backend.history().export_text(id, ExportFormat::Markdown).expect("written");
            assert!(text.contains(&format!("## You\n\n{whole}\n\n## Model alpha\n")), "{text}");
        }
    });
}

#[test]
fn a_file_may_be_called_as_the_conversation_everywhere() {
    run(async {
        let world = world(&[]);
        let history = world.backend.history();
        let id = history.begin(false).expect("begun");
        for (title, name) in [
            ("Plans: a/b?", "Plans ab.md".to_owned()),
            ("con", "_con.md".into()),
            ("LPT1", "_LPT1.md".into()),
            ("COM10", "COM10.md".into()),
            ("...", "Hearth conversations.md".into()),
            (&"天".repeat(60), format!("{}.md", "天".repeat(33))),
        ] {
            history.rename(id, title).expect("named");
            assert_eq!(history.export_name(Some(id), ExportFormat::Markdown).expect("named"), name);
        }
    });
}

#[test]
fn replies_are_saved_and_conversations_open_while_all_are_exported() {
    run(async {
        let answer = format!("{FIRST} {SECOND} ").repeat(12);
        let world = world(&[&answer]);
        import(
            &world,
            &of_hearth(&(0..200).map(|number| record(&format!("{number}"), &answer)).collect::<Vec<_>>()),
        );
        world.breaks(0, 40, Scripted::UntilCancelled);
        let folder = tempfile::tempdir().expect("a folder");
        let other = async {
            world.reached().await;
            let id = world.chat().current();
            for round in 0..3 {
                let path = folder.path().join(format!("{round}.json"));
                let report =
                    world.backend.history().export(None, ExportFormat::Json, &path).expect("written");
                assert_eq!(report.written, 201);
                let text = std::fs::read_to_string(&path).expect("read");
                let all: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(all["conversations"].as_array().map(Vec::len), Some(201));
                assert_eq!(
                    texts(&world.backend.history().conversation(id, 9).expect("read").entries).len(),
                    2
                );
            }
            world.chat().stop();
        };
        let ((made, _), ()) = tokio::join!(world.ask("What is Hearth?"), other);
        assert_eq!(reply(world.entries().last()), made);
    });
}
