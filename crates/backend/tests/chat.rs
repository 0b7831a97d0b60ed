//! Turns of a conversation, each over a channel and over a transport that encodes every message.

mod support;

use backend::{ChatEvent, Entry, Error, FailureKind, FinishReason, ModelState, ReplyOptions, ReplyStatus};
use engine::scripted::Scripted;
use support::{World, over_each_transport, told_text};

const FIRST: &str = "Hearth runs a model on this computer.";
const SECOND: &str = "The reset button clears its memory.";

#[test]
fn a_turn_is_told_while_it_is_made_and_saved_when_it_is_done() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let (reply, told) = world.ask("What is Hearth?").await;
        assert_eq!(reply.text, FIRST);
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::EndOfTurn));
        assert_eq!(reply.model, "Model alpha");
        assert!(matches!(&told[0], ChatEvent::Started { question: Some(question), reply: begun }
            if question.text == "What is Hearth?" && begun.status == ReplyStatus::Generating
                && begun.id == reply.id));
        assert_eq!(told_text(&told), FIRST, "the preview adds up to the reply");
        let usage = reply.usage.expect("the work is counted").usage;
        assert_eq!(usage.new_tokens, reply.tokens.len() + 1);
        match world.entries().as_slice() {
            [Entry::Question(question), Entry::Reply(saved)] => {
                assert_eq!(question.text, "What is Hearth?");
                assert_eq!(*saved, reply, "the result is what the conversation holds");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn who_reads_the_conversation_meanwhile_sees_what_the_reply_has_said() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let (mut told, mut looks) = (String::new(), 0);
        let on_event = |event| {
            if let ChatEvent::Text { text, .. } = event {
                told.push_str(&text);
            }
            match world.entries().last() {
                Some(Entry::Reply(reply)) if reply.status == ReplyStatus::Generating => {
                    assert_eq!(reply.text, told, "it has all that was told, once");
                    looks += usize::from(!told.is_empty());
                }
                other => panic!("{other:?}"),
            }
        };
        let conversation = world.chat().current();
        let options = ReplyOptions::default();
        let reply = world.chat().send(conversation, "What is Hearth?".into(), options, on_event).await;
        assert_eq!(reply.expect("it is answered").text, FIRST);
        assert!(looks > 0, "there was text before the end");
        assert!(
            matches!(world.entries().last(), Some(Entry::Reply(reply)) if reply.text == FIRST),
            "the end adds nothing twice"
        );
    });
}

#[test]
fn a_second_turn_reuses_the_first() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        let (first, _) = world.ask("What is Hearth?").await;
        world.take_passes();
        let (second, _) = world.ask("What does the reset button do?").await;
        assert_eq!(second.text, SECOND);
        let [before, after] = [&first, &second].map(|reply| reply.usage.expect("counted").usage);
        assert_eq!(after.reused_tokens, before.prompt_tokens + first.tokens.len());
        assert_eq!(world.take_passes()[0], after.prompt_tokens - after.reused_tokens);
        assert_eq!(world.loads(), ["alpha"], "the model is loaded once");
    });
}

#[test]
fn stopping_keeps_what_was_said_and_the_next_turn_builds_on_it() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        world.breaks(0, 4, Scripted::UntilCancelled);
        let reply = world.ask_and_stop("What is Hearth?").await;
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::Cancelled));
        assert_eq!(reply.text, world.beginning(FIRST, 4));
        assert_eq!(reply.tokens.len(), 4);
        world.mend();
        let (next, _) = world.ask("Go on?").await;
        assert_eq!(next.text, SECOND);
        assert!(world.seen().contains(&reply.text), "the model knows what it said");
        assert!(next.usage.expect("counted").usage.reused_tokens > 0);
    });
}

#[test]
fn stopping_where_nothing_is_made_does_nothing() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.chat().stop();
        world.chat().settle().await;
        assert_eq!(world.ask("What is Hearth?").await.0.text, FIRST);
        world.chat().stop();
        assert_eq!(world.entries().len(), 2);
    });
}

#[test]
fn a_failure_keeps_the_question_and_what_was_said() {
    over_each_transport(async |transport| {
        for (how, kind) in [
            (Scripted::Error("computing".into()), FailureKind::Internal),
            (Scripted::NotFinite, FailureKind::ModelBroken),
        ] {
            let world = World::new(transport, &[FIRST]);
            world.breaks(0, 3, how);
            let (reply, _) = world.ask("What is Hearth?").await;
            let ReplyStatus::Failed(error) = &reply.status else { panic!("{:?}", reply.status) };
            assert_eq!(error.engine_kind(), Some(kind));
            assert_eq!(reply.text, world.beginning(FIRST, 3));
            assert_eq!(world.entries().len(), 2);
            assert_eq!(world.loads(), ["alpha"]);
            world.mend();
            let (next, _) = world.ask("Again?").await;
            assert_eq!(next.status, ReplyStatus::Finished(FinishReason::EndOfTurn));
            assert_eq!(next.usage.expect("counted").usage.reused_tokens, 0, "the cache was in doubt");
        }
    });
}

#[test]
fn a_crash_unloads_the_model_and_the_next_message_loads_it_again() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        world.breaks(0, 3, Scripted::Panic);
        let (reply, _) = world.ask("What is Hearth?").await;
        let ReplyStatus::Failed(error) = &reply.status else { panic!("{:?}", reply.status) };
        assert_eq!(error.engine_kind(), Some(FailureKind::Crashed));
        assert_eq!(reply.text, world.beginning(FIRST, 3));
        let (_, state) = &world.backend.models().all()[0];
        assert!(matches!(state, ModelState::Failed(failed) if failed == error), "{state:?}");
        assert!(world.backend.models().loaded().is_none());
        world.mend();
        let (next, _) = world.ask("Are you there?").await;
        assert_eq!(next.status, ReplyStatus::Finished(FinishReason::EndOfTurn));
        assert_eq!(world.loads(), ["alpha", "alpha"]);
        assert_eq!(world.entries().len(), 4, "nothing of the conversation is lost");
    });
}

#[test]
fn a_full_context_ends_a_reply_and_a_prompt_beyond_it_fails_without_loss() {
    over_each_transport(async |transport| {
        let answer = [FIRST; 5].join(" ");
        let world = World::with(transport, &[&answer], 24, |_| {});
        let (reply, _) = world.ask("What is it?").await;
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::ContextFull), "{}", reply.text);
        assert!(answer.starts_with(&reply.text) && !reply.text.is_empty());
        let (long, _) = world.ask("And what else is there to say of it, and of all the rest?").await;
        let ReplyStatus::Failed(error) = &long.status else { panic!("{:?}", long.status) };
        assert_eq!(error.engine_kind(), Some(FailureKind::PromptTooLong));
        assert_eq!(world.entries().len(), 4);
    });
}

#[test]
fn a_reset_excludes_what_was_said_before_and_frees_the_cache() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.ask("My name is Vesta.").await;
        assert!(world.seen().contains("Vesta"));
        let id = world.chat().current();
        let entry = world.chat().reset(id).await.expect("reset").line;
        assert!(matches!(entry, Entry::MemoryReset { .. }));
        assert_eq!(world.entries().last(), Some(&entry));
        let (reply, _) = world.ask("What is my name?").await;
        assert_eq!(reply.usage.expect("counted").usage.reused_tokens, 0, "the cache was freed");
        assert!(!world.seen().contains("Vesta"), "{}", world.seen());
        assert_eq!(world.entries().len(), 5, "everything stays readable");
    });
}

#[test]
fn a_reset_stops_the_reply_under_way_and_stands_behind_it() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.breaks(0, 2, Scripted::UntilCancelled);
        let id = world.chat().current();
        let reset = async {
            world.reached().await;
            world.chat().reset(id).await.expect("reset").line
        };
        let ((reply, _), entry) = tokio::join!(world.ask("What is Hearth?"), reset);
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::Cancelled));
        assert_eq!(world.entries()[1..], [Entry::Reply(reply), entry]);
        let error = world.chat().retry(id, ReplyOptions::default(), |_| {}).await;
        assert!(matches!(error, Err(Error::NoReply { .. })), "what is forgotten is not made again");
    });
}

#[test]
fn while_a_reply_is_made_another_message_is_refused() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.breaks(0, 2, Scripted::UntilCancelled);
        let id = world.chat().current();
        let second = async {
            world.reached().await;
            let refused = world.chat().send(id, "And?".into(), ReplyOptions::default(), |_| {}).await;
            assert_eq!(refused, Err(Error::Busy));
            let refused = world.chat().measure(id, "And?".into()).await;
            assert_eq!(refused, Err(Error::Busy));
            world.chat().stop();
        };
        tokio::join!(world.ask("What is Hearth?"), second);
        assert_eq!(world.entries().len(), 2, "what was refused is no part of the conversation");
    });
}

#[test]
fn a_draft_is_not_worth_loading_a_model() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let id = world.chat().current();
        let measured = async || world.chat().measure(id, "And?".into()).await;
        assert_eq!(measured().await, Err(Error::ModelNotLoaded));
        world.backend.select_model("broken").await.expect_err("it never loads");
        assert_eq!(measured().await, Err(Error::ModelNotLoaded), "it is not tried again and again");
        assert_eq!(world.loads(), ["broken"]);
        world.backend.select_model("alpha").await.expect("it loads");
        let both = tokio::join!(measured(), measured());
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    });
}

#[test]
fn messages_that_cannot_be_sent_are_refused_before_anything_is_kept() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let (id, other) = (world.chat().current(), uuid::Uuid::new_v4());
        let send = |id, text: &str| world.chat().send(id, text.into(), ReplyOptions::default(), |_| {});
        assert_eq!(send(id, " \n\t").await, Err(Error::EmptyMessage));
        assert!(matches!(send(other, "Hello").await, Err(Error::ConversationUnknown { .. })));
        for refused in [
            world.chat().retry(id, ReplyOptions::default(), |_| {}).await,
            world.chat().go_on(id, ReplyOptions::default(), |_| {}).await,
        ] {
            assert!(matches!(refused, Err(Error::NoReply { .. })), "{refused:?}");
        }
        assert!(world.entries().is_empty());
    });
}

#[test]
fn a_turn_that_nobody_waits_for_is_stopped_and_leaves_the_chat_free() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.breaks(0, 2, Scripted::UntilCancelled);
        tokio::select! {
            _ = world.ask("What is Hearth?") => panic!("it waits for a stop"),
            () = world.reached() => {}
        }
        let entries = world.entries();
        let Some(Entry::Reply(reply)) = entries.last() else { panic!("{entries:?}") };
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::Cancelled));
        world.mend();
        let id = world.chat().current();
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await.expect("the chat is free");
        assert_eq!(again.text, FIRST);
    });
}

#[test]
fn what_is_done_in_another_conversation_leaves_the_reply_alone() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.breaks(0, 2, Scripted::UntilCancelled);
        let id = world.chat().current();
        let elsewhere = async {
            world.reached().await;
            let other = world.backend.history().begin(false).expect("begun");
            world.chat().stop_in(other);
            let goes_on = async {
                let refused = world.chat().send(other, "And?".into(), ReplyOptions::default(), |_| {}).await;
                assert_eq!(refused, Err(Error::Busy), "it is still made");
                world.chat().stop_in(id);
            };
            // What the reset frees is freed behind the reply.
            let (reset, ()) = tokio::join!(world.chat().reset(other), goes_on);
            reset.expect("reset");
        };
        let ((reply, _), ()) = tokio::join!(world.ask("What is Hearth?"), elsewhere);
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::Cancelled));
    });
}
