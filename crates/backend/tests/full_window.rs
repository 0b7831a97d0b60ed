//! What leaves when a conversation is longer than the window, whatever its length.

mod support;

use backend::{Entry, FinishReason, ReplyStatus};
use serde_json::{Value, json};
use support::{Transport, World, run};
use uuid::Uuid;

const ANSWER: &str = "Hearth runs a model on this computer.";
const WINDOW: usize = 512;

/// What is said in the turn that has so many behind it: now little, now much.
fn turn(from_the_end: usize) -> [String; 2] {
    let many = "and many more words ".repeat(from_the_end * 7 % 5);
    [format!("Question {from_the_end} from the end?"), format!("Answer {from_the_end}, {many}and no more.")]
}

/// A conversation of so many turns, in the form in which Hearth exports one.
fn conversation(turns: usize) -> Value {
    let at = "2026-01-01T00:00:00Z";
    let mut parent = None;
    let mut messages = Vec::new();
    for place in (0..turns).rev() {
        for (role, text) in ["user", "assistant"].into_iter().zip(turn(place)) {
            let id = Uuid::new_v4();
            messages.push(json!({
                "id": id, "parent": parent, "chosen": true, "role": role, "text": text,
                "status": "complete", "created": at,
            }));
            parent = Some(id);
        }
    }
    json!({"id": Uuid::new_v4(), "title": "Long", "created": at, "updated": at, "messages": messages})
}

/// What the model is given of a conversation of so many turns with one more question, and the number of messages
/// above the line.
async fn given(turns: usize, question: &str) -> (String, usize) {
    let world = World::with(Transport::Channel, &[ANSWER; 500], WINDOW, |_| {});
    let folder = tempfile::tempdir().expect("a folder");
    let (file, conversation) = (folder.path().join("long.json"), conversation(turns));
    let text = json!({"format": "hearth conversations", "version": 1, "conversations": [conversation]});
    std::fs::write(&file, text.to_string()).expect("written");
    let history = world.backend.history();
    assert_eq!(history.import(&file).expect("read").imported, 1);
    let id = history.conversations(0, 1).expect("listed")[0].id;
    world.backend.open_conversation(id, 10).await.expect("opened");
    world.backend.select_model("alpha").await.expect("it loads");
    let counted = world.chat().measure(id, question.into()).await.expect("counted").prompt_tokens;
    let (reply, _) = world.ask(question).await;
    assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::EndOfTurn), "{turns} turns");
    assert_eq!(reply.usage.expect("it was made").usage.prompt_tokens, counted, "{turns} turns");
    let entries = world.entries();
    let line = entries.iter().position(|entry| matches!(entry, Entry::ContextLine { .. }));
    (world.seen(), line.expect("turns have left"))
}

#[test]
fn the_same_turns_stay_however_many_were_before_them() {
    run(async {
        for question in ["And now?".to_owned(), "And now, after all of that? ".repeat(25)] {
            let (seen, line) = given(40, &question).await;
            for turns in [41, 64, 100, 333] {
                let (of_more, above) = given(turns, &question).await;
                assert_eq!(of_more, seen, "{turns} turns");
                assert_eq!(above - line, 2 * (turns - 40), "{turns} turns");
            }
        }
    });
}
