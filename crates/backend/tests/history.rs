//! Conversations that last: kept, listed, branched, searched, and found again by the next start.

mod support;

use backend::{Entry, Error, FinishReason, Reply, ReplyOptions, ReplyStatus};
use engine::scripted::Scripted;
use support::{Transport, World, run, texts};

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

fn words(hits: &[backend::SearchHit]) -> Vec<String> {
    hits.iter()
        .map(|hit| hit.snippet.iter().filter(|part| part.matched).map(|part| part.text.as_str()).collect())
        .collect()
}

#[test]
fn the_last_conversation_is_open_again_as_it_was_left() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("What is Hearth?").await;
        world.backend.history().set_draft(world.chat().current(), "half a thou").expect("kept");
        let (id, entries) = (world.chat().current(), world.entries());
        let world = world.restarted(&[FIRST, SECOND]);
        assert_eq!(world.chat().current(), id);
        assert_eq!(world.entries(), entries, "every fact of every message");
        assert_eq!(world.conversation().draft, "half a thou");
        assert_eq!(world.conversation().about.title, "What is Hearth?");
        let (next, _) = world.ask("And the button?").await;
        assert_eq!(next.text, SECOND, "the model sees what was said before the restart");
        assert_eq!(world.conversation().draft, "", "what was sent no longer is a draft");
    });
}

#[test]
fn a_conversation_is_listed_from_its_first_message_on_pinned_ones_first() {
    run(async {
        let world = world(&[FIRST]);
        let history = world.backend.history();
        history.set_draft(world.chat().current(), "One, perhaps").expect("kept");
        assert_eq!(history.conversations(0, 10).expect("listed"), [], "a draft alone is no conversation yet");
        world.ask("One").await;
        let one = world.chat().current();
        let two = history.begin(false).expect("begun");
        assert!(world.entries().is_empty(), "the new one is shown");
        world.ask("Two").await;
        history.begin(false).expect("begun");
        let titles = || -> Vec<String> {
            history.conversations(0, 10).expect("listed").into_iter().map(|about| about.title).collect()
        };
        assert_eq!(titles(), ["Two", "One"]);
        history.pin(one, true).expect("pinned");
        assert_eq!(titles(), ["One", "Two"]);
        assert_eq!(history.conversations(1, 1).expect("listed")[0].id, two, "page by page");
        history.rename(two, "  A better\nname ").expect("named");
        assert_eq!(titles(), ["One", "A better name"]);
        history.rename(two, "").expect("named");
        assert_eq!(titles(), ["One", "Two"], "an empty name is the one by rule");
    });
}

#[test]
fn titles_are_clean_short_and_end_with_a_word() {
    run(async {
        let world = world(&[]);
        for (message, title) in [
            ("# **Plan** the garden\nwith beans", "Plan** the garden"),
            ("\n\n  - milk, eggs  \n- bread", "milk, eggs"),
            ("a\u{202e}b\tc", "ab c"),
            (
                "Explain how a suspension bridge carries its load, and why the towers do not bend inwards",
                "Explain how a suspension bridge carries its load, and why…",
            ),
            ("?!", "?!"),
        ] {
            world.backend.history().begin(false).expect("begun");
            world.ask(message).await;
            let given = world.conversation().about.title;
            assert_eq!(given, title);
            assert!(given.chars().count() <= 60);
        }
    });
}

#[test]
fn a_deleted_conversation_is_gone_and_can_be_restored() {
    run(async {
        let world = world(&[FIRST]);
        world.ask("What is Hearth?").await;
        let id = world.chat().current();
        let deletion = world.backend.delete_conversation(id, 100).await.expect("deleted");
        assert_ne!(deletion.shown.id(), id, "another one is shown");
        assert!(world.backend.history().conversations(0, 10).expect("listed").is_empty());
        assert!(world.backend.history().search("Hearth", 10).expect("searched").is_empty());
        let error = world.backend.history().conversation(id, 10).expect_err("it is gone");
        assert!(matches!(error, Error::ConversationUnknown { .. }));
        world.backend.history().restore(id).expect("restored");
        world.backend.open_conversation(id, 100).await.expect("it is back");
        assert_eq!(world.texts(), ["What is Hearth?", FIRST]);
    });
}

#[test]
fn editing_a_question_makes_a_branch_and_loses_nothing() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("What is Hearth?").await;
        world.ask("And the button?").await;
        let id = world.chat().current();
        let before = world.entries();
        let Entry::Question(question) = &before[2] else { panic!("{before:?}") };
        let edited =
            world.chat().edit(id, question.id, "And the window?".into(), ReplyOptions::default(), |_| {});
        edited.await.expect("answered");
        assert_eq!(world.texts(), ["What is Hearth?", FIRST, "And the window?", SECOND]);
        assert!(!world.seen().contains("And the button?"), "the other branch is not the model's");
        let Entry::Question(now) = &world.entries()[2] else { panic!() };
        assert_eq!(now.versions, [question.id, now.id]);
        world.backend.history().select_branch(id, question.id).expect("switched");
        assert_eq!(texts(&world.entries()), texts(&before));
        world.backend.history().select_branch(id, now.id).expect("switched");
        assert_eq!(world.texts()[2], "And the window?");
    });
}

#[test]
fn a_reply_made_again_is_another_version_and_its_branch_keeps_what_follows() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        let (first, _) = world
            .ask_with("What is Hearth?", ReplyOptions { max_tokens: Some(3), ..ReplyOptions::default() })
            .await;
        world.ask("And the button?").await;
        let id = world.chat().current();
        let again =
            world.chat().regenerate(id, first.id, ReplyOptions::default(), |_| {}).await.expect("made");
        assert_eq!(again.versions, [first.id, again.id]);
        assert_eq!(world.texts(), ["What is Hearth?", FIRST]);
        world.backend.history().select_branch(id, first.id).expect("switched");
        assert_eq!(world.texts().len(), 4, "what followed the first version is still under it");
        let restarted = world.restarted(&[]);
        assert_eq!(restarted.texts().len(), 4, "the branch is remembered");
    });
}

#[test]
fn a_failed_reply_that_says_nothing_is_replaced() {
    run(async {
        let world = world(&[FIRST]);
        world.breaks(0, 0, Scripted::Error("computing".into()));
        world.ask("What is Hearth?").await;
        world.mend();
        let id = world.chat().current();
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await.expect("made");
        assert_eq!(again.versions, [again.id], "an empty version is nobody's");
    });
}

#[test]
fn a_private_conversation_leaves_nothing_in_any_file() {
    run(async {
        let world = world(&[FIRST, "The secret answer is Zanzibarium."]);
        world.ask("Begin a kept one").await;
        world.backend.history().begin(true).expect("begun");
        world.ask("The word is Quixotryl").await;
        assert!(world.ask("And the answer?").await.0.text.contains("Zanzibarium"));
        assert!(world.conversation().about.private);
        assert!(!world.conversation().about.saved);
        world.backend.history().set_draft(world.chat().current(), "Quixotryl again").expect("kept");
        assert_eq!(
            world.backend.history().search("Quixotryl", 10).expect("searched").len(),
            2,
            "it is there for now"
        );
        let data = world.directories.data.clone();
        let world = world.restarted(&[]);
        assert_eq!(world.texts()[0], "Begin a kept one");
        assert!(world.backend.history().search("Quixotryl", 10).expect("searched").is_empty());
        let mut files = vec![data];
        let mut looked = 0;
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files
                    .extend(std::fs::read_dir(&path).expect("read").map(|entry| entry.expect("read").path()));
                continue;
            }
            let bytes = std::fs::read(&path).expect("read");
            looked += bytes.len();
            for word in ["Quixotryl", "quixotryl", "Zanzibarium"] {
                assert!(
                    !bytes.windows(word.len()).any(|window| window == word.as_bytes()),
                    "{}",
                    path.display()
                );
            }
        }
        assert!(looked > 4096, "the kept one is in some file");
    });
}

#[test]
fn a_private_conversation_that_is_deleted_is_gone_for_good() {
    run(async {
        let world = world(&["The secret answer is Zanzibarium."]);
        let history = world.backend.history();
        let private = history.begin(true).expect("begun");
        world.ask("The word is Quixotryl").await;
        let deletion = world.backend.delete_conversation(private, 100).await.expect("deleted");
        assert_ne!(deletion.shown.id(), private, "another one is shown");
        assert!(!deletion.shown.about.private);
        let gone = |result| matches!(result, Err(Error::ConversationUnknown { .. }));
        assert!(gone(history.restore(private)), "nothing is left that could be restored");
        assert!(gone(history.conversation(private, 10).map(drop)));
        assert!(gone(history.delete(private)));
        assert!(history.search("Quixotryl", 10).expect("searched").is_empty());
        assert!(history.conversations(0, 10).expect("listed").is_empty());
    });
}

#[test]
fn deleting_and_resetting_say_how_much_of_the_memory_was_destroyed() {
    run(async {
        let world = world(&[FIRST]);
        let id = world.chat().current();
        assert_eq!(world.chat().reset(id).await.expect("reset").freed_bytes, 0, "nothing was read yet");
        world.ask("What is Hearth?").await;
        assert!(world.chat().reset(id).await.expect("reset").freed_bytes > 0);
        world.ask("What is Hearth?").await;
        let deletion = world.backend.delete_conversation(id, 100).await.expect("deleted");
        assert!(deletion.freed_bytes > 0);
        let empty = deletion.shown.id();
        assert_eq!(world.backend.delete_conversation(empty, 100).await.expect("deleted").freed_bytes, 0);
    });
}

#[test]
fn a_reset_can_be_taken_back() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("My name is Vesta.").await;
        let id = world.chat().current();
        let line = world.chat().reset(id).await.expect("reset").line.id();
        assert!(matches!(world.entries().last(), Some(Entry::MemoryReset { .. })));
        world.chat().undo_reset(id, line).await.expect("taken back");
        assert_eq!(world.entries().len(), 2);
        world.ask("What is my name?").await;
        assert!(world.seen().contains("Vesta"));
        let error = world.chat().undo_reset(id, line).await.expect_err("it is gone already");
        assert!(matches!(error, Error::MessageUnknown { .. }));
    });
}

#[test]
fn a_full_window_lets_whole_turns_leave_in_a_block_and_says_so() {
    run(async {
        let answers = [FIRST; 12];
        let world = World::with(Transport::Channel, &answers, 150, |_| {});
        let mut lines = Vec::new();
        for turn in 0..10 {
            let (reply, _) = world.ask(&format!("Question number {turn}?")).await;
            assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::EndOfTurn), "turn {turn}");
            let place = world.entries().iter().position(|entry| matches!(entry, Entry::ContextLine { .. }));
            lines.push(place);
        }
        assert_eq!(lines[0], None, "the first turns fit");
        let moves = lines.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(lines.last().expect("ten").is_some(), "the window is full by now: {lines:?}");
        assert!((1..=4).contains(&moves), "turns leave in blocks and not one by one: {lines:?}");
        assert!(!world.seen().contains("number 0"), "{}", world.seen());
        assert!(world.seen().contains("number 9"));
        assert_eq!(world.texts().len(), 20, "everything stays readable");
    });
}

#[test]
fn each_conversation_has_its_system_prompt() {
    run(async {
        let world = world(&[FIRST]);
        let id = world.chat().current();
        world.backend.history().set_system_prompt(id, Some("Speak like a lighthouse.")).expect("set");
        world.ask("What is Hearth?").await;
        assert!(world.seen().contains("lighthouse"), "{}", world.seen());
        world.backend.history().begin(false).expect("begun");
        world.ask("What is Hearth?").await;
        assert!(!world.seen().contains("lighthouse"), "it belongs to the other one");
        let world = world.restarted(&[FIRST]);
        world.backend.open_conversation(id, 10).await.expect("opened");
        assert_eq!(world.conversation().system_prompt.as_deref(), Some("Speak like a lighthouse."));
    });
}

#[test]
fn the_model_of_a_conversation_answers_in_it_again() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("What is Hearth?").await;
        let one = world.chat().current();
        world.backend.history().begin(false).expect("begun");
        world.backend.select_model("beta").await.expect("it loads");
        world.ask("Hello").await;
        world.backend.open_conversation(one, 10).await.expect("opened");
        assert_eq!(world.backend.models().selected().as_deref(), Some("alpha"));
        let (reply, _) = world.ask("And the button?").await;
        assert_eq!((reply.model.as_str(), reply.text.as_str()), ("Model alpha", SECOND));
    });
}

#[test]
fn search_finds_words_in_titles_and_messages_and_survives_any_query() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("Where does the Ångström unit come from?").await;
        world.ask("And \"NEAR\" the end?").await;
        let history = world.backend.history();
        let find = |words: &str| history.search(words, 20).expect("searched");
        let hits = find("angstrom");
        assert_eq!(words(&hits), ["Ångström", "Ångström"], "title and message, accents aside");
        assert_eq!(hits[0].message, None);
        assert!(hits[1].message.is_some());
        assert_eq!(words(&find("compu")), ["computer"], "the last word may be a beginning");
        assert_eq!(words(&find("butt")), ["button"]);
        assert!(find("utton").is_empty());
        assert!(!find("near end").is_empty(), "operators are words");
        for hostile in [
            "\"",
            "*",
            "a AND",
            "NOT",
            "(",
            "text:x",
            "^a",
            "a*b",
            "{a b}",
            "-x",
            "NEAR(a b, 2)",
            "\u{0}a",
            "",
            "   ",
        ] {
            find(hostile);
        }
    });
}

#[test]
fn a_copy_is_whole_and_goes_its_own_way() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        let (first, _) = world.ask("What is Hearth?").await;
        let id = world.chat().current();
        world.chat().regenerate(id, first.id, ReplyOptions::default(), |_| {}).await.expect("made");
        let copy = world.backend.history().duplicate(id).expect("copied");
        world.backend.open_conversation(copy, 100).await.expect("opened");
        assert_eq!(world.texts(), ["What is Hearth?", FIRST]);
        assert_eq!(reply(world.entries().last()).versions.len(), 2, "with its branches");
        let (next, _) = world.ask("And the button?").await;
        assert!(
            next.usage.expect("counted").usage.reused_tokens > 20,
            "the same beginning is not read again"
        );
        let original = world.backend.history().conversation(id, 100).expect("read");
        assert_eq!(texts(&original.entries).len(), 2, "the original stays as it is");
    });
}

#[test]
fn only_the_user_may_read_the_files() {
    run(async {
        let world = world(&[FIRST]);
        world.ask("What is Hearth?").await;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode =
                |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
            let folder = world.directories.conversations();
            assert_eq!(mode(&folder), 0o700);
            let mut files = 0;
            for entry in std::fs::read_dir(&folder).expect("read") {
                let path = entry.expect("read").path();
                if path.is_file() {
                    assert_eq!(mode(&path), 0o600, "{}", path.display());
                    files += 1;
                }
            }
            assert!(files >= 2, "the database and its log");
        }
    });
}

#[test]
fn a_draft_says_what_it_would_take() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("What is Hearth?").await;
        let id = world.chat().current();
        let draft = world.chat().measure(id, "And the button?".into()).await.expect("measured");
        assert!(draft.draft_tokens > 0 && draft.new_tokens < draft.prompt_tokens, "{draft:?}");
        assert!(draft.new_tokens >= draft.draft_tokens, "{draft:?}");
        assert!(draft.prompt_tokens + draft.reserved_tokens <= draft.window, "{draft:?}");
        let (next, _) = world.ask("And the button?").await;
        let usage = next.usage.expect("counted").usage;
        assert_eq!(draft.new_tokens, usage.prompt_tokens - usage.reused_tokens, "it came as it was said");
    });
}

#[test]
fn a_message_that_is_refused_leaves_nothing_behind() {
    run(async {
        let world = world(&[FIRST, SECOND]);
        world.ask("What is Hearth?").await;
        let file = world.directories.conversations().join("conversations.sqlite");
        let other = rusqlite::Connection::open(&file).expect("opens");
        other
            .execute_batch(
                "CREATE TRIGGER refusal BEFORE UPDATE OF model ON conversation
                 BEGIN SELECT raise(ABORT, 'refused'); END",
            )
            .expect("made");
        world.backend.models().select("beta").await.expect("it loads");
        let (id, before) = (world.chat().current(), world.texts());
        let sent = world.chat().send(id, "And the button?".into(), ReplyOptions::default(), |_| {}).await;
        assert!(matches!(sent, Err(Error::History { .. })), "{sent:?}");
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await;
        assert!(matches!(again, Err(Error::History { .. })), "{again:?}");
        assert_eq!(world.texts(), before, "what the sender takes for not sent is not kept");
        other.execute_batch("DROP TRIGGER refusal").expect("dropped");
        let sent = world.chat().send(id, "And the button?".into(), ReplyOptions::default(), |_| {}).await;
        assert_eq!(sent.expect("sent").text, SECOND);
        assert_eq!(world.texts().len(), 4);
        assert_eq!(world.conversation().about.model.as_deref(), Some("beta"));
    });
}

#[test]
fn a_reply_that_another_process_makes_is_left_to_it() {
    run(async {
        let one = world(&[FIRST]);
        one.breaks(0, 2, Scripted::UntilCancelled);
        let id = one.chat().current();
        let other = async {
            one.reached().await;
            let other = World::with(Transport::Channel, &[SECOND], 512, |directories| {
                directories.data.clone_from(&one.directories.data);
            });
            let options = ReplyOptions::default;
            assert_eq!(other.chat().retry(id, options(), |_| {}).await, Err(Error::Busy));
            assert_eq!(other.chat().go_on(id, options(), |_| {}).await, Err(Error::Busy));
            one.chat().stop();
        };
        let ((made, _), ()) = tokio::join!(one.ask("What is Hearth?"), other);
        assert_eq!(one.entries().len(), 2);
        assert_eq!(reply(one.entries().last()), made, "and it is as it was made");
    });
}

#[test]
fn search_finds_words_inside_of_scripts_without_blanks() {
    run(async {
        let world = world(&["明日の天気は晴れです。Hearth が答えます。", "วันนี้อากาศดีมาก"]);
        world.ask("今日の天気はどうですか").await;
        world.ask("ภาษาไทยเขียนติดกัน").await;
        let history = world.backend.history();
        let find = |words: &str| history.search(words, 20).expect("searched");
        let hits = find("天気");
        assert_eq!(words(&hits), ["天気", "天気", "天気"], "title, answer and question");
        assert_eq!(hits[0].message, None);
        let whole: String = hits[2].snippet.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(whole, "今日の天気はどうですか");
        assert_eq!(words(&find("อากาศ")), ["อากาศ"]);
        assert_eq!(find("天気 hearth").len(), 1, "all of the words are there");
        assert!(find("天気 nowhere").is_empty());
        assert_eq!(find("今日の天気").len(), 2, "what the index knows too comes once");
        world.backend.delete_conversation(world.chat().current(), 1).await.expect("deleted");
        assert!(find("天気").is_empty());
    });
}
