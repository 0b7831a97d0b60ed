//! `hearth conversations`: what was said is kept, found, exported and taken over.

mod support;

use serde_json::{Value, json};

use crate::support::Hearth;

#[test]
fn what_is_said_is_kept_found_and_gone_on_with_unless_it_is_private() {
    let hearth = Hearth::new();
    let chat = ["chat", "--json", "--temperature", "0", "--max-tokens", "8", "--prompt"];
    let say = |more: &[&str]| hearth.run(chat.iter().chain(more)).succeeded();
    say(&["My name is Zephyrine."]);
    say(&["Nobody keeps Quixotry.", "--private"]);
    let listed = hearth.run(["conversations", "list", "--json"]).succeeded().lines();
    assert_eq!(listed.len(), 1, "the private one is not there: {listed:?}");
    assert_eq!(listed[0]["title"], "My name is Zephyrine.");
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let before = say(&["And who am I?", "--conversation", &id]).finish();
    assert_ne!(before["usage"]["prompt_tokens"], 0);
    let shown = hearth.run(["conversations", "show", &id, "--json"]).succeeded().lines();
    let texts: Vec<&Value> =
        shown.iter().filter(|line| line["type"] == "question").map(|line| &line["text"]).collect();
    assert_eq!(texts, ["My name is Zephyrine.", "And who am I?"]);
    let hits = hearth.run(["conversations", "search", "zephyr", "--json"]).succeeded().lines();
    assert!(hits.iter().any(|hit| hit["message"].is_string() && hit["id"] == id.as_str()), "{hits:?}");
    let export = hearth.run(["conversations", "export", &id]).succeeded();
    assert!(export.stdout.starts_with("# My name is Zephyrine.\n"), "{}", export.stdout);
    let missing = hearth.run(["conversations", "show", "00000000-0000-4000-8000-000000000000"]);
    assert_eq!(missing.code, Some(1), "{}", missing.stderr);
    assert!(missing.stderr.contains("hearth conversations list"), "{}", missing.stderr);
}

#[test]
fn conversations_that_cannot_be_read_are_no_empty_list_and_no_empty_export() {
    let hearth = Hearth::new();
    let file = hearth.data.path().join("backup.json");
    std::fs::write(&file, "the last export").expect("written");
    std::fs::write(hearth.data.path().join("conversations"), "no folder").expect("written");
    let listed = hearth.run(["conversations", "list"]);
    assert_eq!(listed.code, Some(1), "{}", listed.stderr);
    assert!(!listed.stdout.contains("no conversations yet"), "{}", listed.stdout);
    let to = file.to_str().expect("Unicode");
    let exported = hearth.run(["conversations", "export", "--all", "--json", "--output", to]);
    assert_eq!(exported.code, Some(1), "{}", exported.stderr);
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "the last export");
}

/// Imports one conversation, with a half reply in it; returns its id.
fn import(hearth: &Hearth, question: &str, reply: &str) -> &'static str {
    let id = "11111111-1111-4111-8111-111111111111";
    let [asked, answered] = ["22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"];
    let at = "2026-01-01T00:00:00Z";
    let record = json!({
        "id": id, "title": "A talk", "created": at, "updated": at,
        "messages": [
            {"id": asked, "chosen": true, "role": "user", "text": question, "created": at},
            {"id": answered, "parent": asked, "chosen": true, "role": "assistant", "text": reply,
             "model": "Ember", "status": "interrupted", "created": at},
        ],
    });
    let file = hearth.data.path().join("one.json");
    std::fs::write(&file, record.to_string()).expect("written");
    let imported =
        hearth.run(["conversations", "import", file.to_str().expect("Unicode"), "--json"]).succeeded();
    assert_eq!(imported.lines()[0]["imported"], 1);
    id
}

#[test]
fn what_is_exported_into_a_pipe_is_the_text_itself() {
    let hearth = Hearth::new();
    let question = "one\r\ntwo\u{7f}\u{9b}three";
    let id = import(&hearth, question, "Answer");
    let markdown = hearth.run(["conversations", "export", id]).succeeded().stdout;
    assert!(markdown.contains(question), "{markdown:?}");
    let json = hearth.run(["conversations", "export", id, "--json"]).succeeded().stdout;
    assert_eq!(json.lines().count(), 1, "one object on one line");
    let record: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(record["messages"][0]["text"], question);
    let file = hearth.data.path().join("again.json");
    std::fs::write(&file, json).expect("written");
    let other = Hearth::new();
    let again = other.run(["conversations", "import", file.to_str().expect("Unicode"), "--json"]).succeeded();
    assert_eq!(again.lines()[0]["imported"], 1, "it comes back");
}

#[test]
fn a_half_reply_is_told_from_a_whole_one() {
    let hearth = Hearth::new();
    let id = import(&hearth, "Question", "Half an ans");
    let shown = hearth.run(["conversations", "show", id]).succeeded().stdout;
    assert!(shown.contains("Half an ans\n\n--- cut off when the application ended ---\n"), "{shown}");
    let lines = hearth.run(["conversations", "show", id, "--json"]).succeeded().lines();
    let reply = lines.iter().find(|line| line["type"] == "reply").expect("a reply");
    assert_eq!(reply["status"], "interrupted");
}

#[test]
fn an_import_of_which_nothing_could_be_read_has_failed() {
    let hearth = Hearth::new();
    let file = hearth.data.path().join("strange.json");
    for (text, code) in [("[1, 2]", "import_refused"), ("Dear Brindlo,", "import_refused")] {
        std::fs::write(&file, text).expect("written");
        let refused = hearth.run(["conversations", "import", file.to_str().expect("Unicode"), "--json"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        let last = refused.lines().pop().expect("a line");
        assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!(code)));
        assert!(last["message"].as_str().expect("a text").contains("strange.json"), "{last}");
    }
}
