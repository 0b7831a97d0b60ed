//! Pinned messages: they stay with the model when a full window lets their turns leave.

#[path = "support/first_schema.rs"]
mod first_schema;
mod support;

use backend::{Entry, Error, FailureKind, FinishReason, ReplyOptions, ReplyStatus};
use support::{Transport, World, run};
use uuid::Uuid;

const ANSWER: &str = "Hearth runs a model on this computer.";
/// As many tokens as fill up after a few turns.
const WINDOW: usize = 150;

fn world() -> World {
    World::with(Transport::Channel, &[ANSWER; 20], WINDOW, |_| {})
}

/// Asks questions with numbers from `from` on.
async fn fill(world: &World, from: usize) {
    for turn in from..10 {
        let (reply, _) = world.ask(&format!("Question number {turn}?")).await;
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::EndOfTurn), "turn {turn}");
    }
    assert!(
        world.entries().iter().any(|entry| matches!(entry, Entry::ContextLine { .. })),
        "the window was full"
    );
}

/// The numbers of the questions that the model was given last.
fn given(world: &World) -> Vec<usize> {
    let seen = world.seen();
    (0..10).filter(|number| seen.contains(&format!("number {number}?"))).collect()
}

fn pinned(world: &World) -> Vec<Uuid> {
    let is_pinned = |entry: &&Entry| match entry {
        Entry::Question(question) => question.pinned,
        Entry::Reply(reply) => reply.pinned,
        _ => false,
    };
    world.entries().iter().filter(is_pinned).map(Entry::id).collect()
}

#[test]
fn a_pinned_question_stays_when_the_turns_around_it_leave() {
    run(async {
        let world = world();
        world.ask("My name is Vesta.").await;
        let (id, question) = (world.chat().current(), world.entries()[0].id());
        world.backend.history().pin_message(id, question, true).expect("pinned");
        assert_eq!(pinned(&world), [question]);
        fill(&world, 1).await;
        assert!(world.seen().contains("Vesta"), "{}", world.seen());
        assert!(!given(&world).contains(&1), "the turn behind it has left: {}", world.seen());
        assert!(given(&world).contains(&9));
        world.backend.history().pin_message(id, question, false).expect("let go");
        world.ask("And now?").await;
        assert!(!world.seen().contains("Vesta"), "it leaves as the others did: {}", world.seen());
    });
}

#[test]
fn a_pinned_reply_stays_with_the_question_that_it_answers() {
    run(async {
        let world = world();
        world.ask("Question number 0?").await;
        let (reply, _) = world.ask("Question number 1?").await;
        let id = world.chat().current();
        world.backend.history().pin_message(id, reply.id, true).expect("pinned");
        fill(&world, 2).await;
        let given = given(&world);
        assert!(given.contains(&1) && !given.contains(&0) && !given.contains(&2), "{}", world.seen());
        let seen = world.seen();
        let (_, after) = seen.split_once("number 1?").expect("the question");
        let answered = after.split("number").next().expect("up to the next question");
        assert!(answered.contains(ANSWER), "the reply follows its question: {seen}");
    });
}

#[test]
fn a_reset_and_another_branch_leave_what_is_pinned_behind() {
    run(async {
        let world = world();
        world.ask("My name is Vesta.").await;
        let (id, question) = (world.chat().current(), world.entries()[0].id());
        world.backend.history().pin_message(id, question, true).expect("pinned");
        world
            .chat()
            .edit(id, question, "Hello.".into(), ReplyOptions::default(), |_| {})
            .await
            .expect("sent");
        assert!(pinned(&world).is_empty(), "another version is another message");
        fill(&world, 0).await;
        assert!(!world.seen().contains("Vesta"), "{}", world.seen());
        world.backend.history().select_branch(id, question).expect("switched");
        assert_eq!(pinned(&world), [question]);
        world.chat().reset(id).await.expect("reset");
        world.ask("What is my name?").await;
        assert!(!world.seen().contains("Vesta"), "a reset forgets it too: {}", world.seen());
    });
}

#[test]
fn what_is_pinned_and_does_not_fit_is_an_error_that_says_what_to_do() {
    run(async {
        let world = world();
        let (id, history) = (world.chat().current(), world.backend.history());
        history.set_system_prompt(id, Some("Speak like a lighthouse.")).expect("set");
        let failed = loop {
            let turn = pinned(&world).len();
            assert!(turn < 20, "the window has an end");
            let (reply, _) = world.ask(&format!("This is fact {turn}, and it must not be forgotten.")).await;
            if let ReplyStatus::Failed(_) = reply.status {
                break reply;
            }
            let asked =
                world.entries().iter().rev().find(|entry| matches!(entry, Entry::Question(_))).cloned();
            history.pin_message(id, asked.expect("asked").id(), true).expect("pinned");
        };
        let ReplyStatus::Failed(Error::PinnedTooLong { pinned: taken, prompt, window }) = failed.status
        else {
            panic!("{:?}", failed.status);
        };
        assert_eq!(window, WINDOW);
        assert!(taken > WINDOW / 2 && taken < prompt && prompt >= WINDOW, "{taken} of {prompt}");

        let entries = world.entries();
        let Some(Entry::Reply(reply)) = entries.last() else { panic!("{entries:?}") };
        let ReplyStatus::Failed(error) = &reply.status else { panic!("{:?}", reply.status) };
        assert_eq!(error.engine_kind(), Some(FailureKind::PromptTooLong), "it is kept as what it is");
        assert!(error.to_string().contains("unpin"), "{error}");

        for message in pinned(&world).into_iter().skip(1) {
            history.pin_message(id, message, false).expect("let go");
        }
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await.expect("made again");
        assert_eq!(again.status, ReplyStatus::Finished(FinishReason::EndOfTurn));
        assert!(world.seen().contains("fact 0"), "{}", world.seen());
    });
}

#[test]
fn a_pin_outlives_restarts_copies_and_exports() {
    run(async {
        let world = world();
        let (reply, _) = world.ask("My name is Vesta.").await;
        let (id, question) = (world.chat().current(), world.entries()[0].id());
        let history = world.backend.history();
        for message in [question, reply.id] {
            history.pin_message(id, message, true).expect("pinned");
        }
        let unknown = history.pin_message(id, Uuid::new_v4(), true).expect_err("there is none");
        assert!(matches!(unknown, Error::MessageUnknown { .. }), "{unknown}");
        let copy = history.duplicate(id).expect("copied");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one.json");
        history.export(Some(id), backend::ExportFormat::Json, &path).expect("written");

        let world = world.restarted(&[]);
        assert_eq!(pinned(&world), [question, reply.id]);
        world.backend.open_conversation(copy, 100).await.expect("opened");
        assert_eq!(pinned(&world).len(), 2, "the copy has pins of its own");
        let other = self::world();
        other.backend.history().import(&path).expect("read");
        other.backend.open_conversation(id, 100).await.expect("opened");
        assert_eq!(pinned(&other), [question, reply.id]);
    });
}

#[test]
fn conversations_of_the_first_schema_can_be_pinned_after_their_step() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let old = first_schema::make(&folder.path().join("data"));
        let conversation = first_schema::add_conversation(&old, "Old", 1_700_000_000_000_000);
        first_schema::add_message(&old, conversation, None, "My name is Vesta.");
        drop(old);
        let world = World::over(folder, Transport::Channel, &[ANSWER], 512, |_| {});
        let id = world.backend.history().conversations(0, 10).expect("listed")[0].id;
        world.backend.open_conversation(id, 10).await.expect("opened");
        assert_eq!(world.texts(), ["My name is Vesta."]);
        assert!(pinned(&world).is_empty());
        let question = world.entries()[0].id();
        world.backend.history().pin_message(id, question, true).expect("pinned");
        assert_eq!(pinned(&world), [question]);
        assert!(!world.directories.conversations().join("damaged").exists());
        let backups = std::fs::read_dir(world.directories.conversations().join("backups")).expect("read");
        let names: Vec<String> =
            backups.map(|entry| entry.expect("read").file_name().to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|name| name.starts_with("before-schema-2-")), "{names:?}");
    });
}
