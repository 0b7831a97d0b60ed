//! Replies that are made again, that go on, and that another model takes over.

mod support;

use backend::{Entry, Error, FinishReason, ModelState, ReplyOptions, ReplyStatus};
use engine::scripted::Scripted;
use support::{World, over_each_transport};

const FIRST: &str = "Hearth runs a model on this computer.";
const SECOND: &str = "The reset button clears its memory.";

fn short(most: usize) -> ReplyOptions {
    ReplyOptions { max_tokens: Some(most), ..ReplyOptions::default() }
}

#[test]
fn a_reply_is_made_again_in_its_place() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let (first, _) = world.ask_with("What is Hearth?", short(3)).await;
        let id = world.chat().current();
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await.expect("made again");
        assert_eq!(again.text, FIRST, "it does not go on from the old one");
        assert_ne!(again.id, first.id);
        assert_eq!(
            again.usage.expect("counted").usage.prompt_tokens,
            first.usage.expect("counted").usage.prompt_tokens
        );
        assert_eq!(world.entries()[1..], [Entry::Reply(again)]);
    });
}

#[test]
fn a_reply_goes_on_where_it_ended() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        let (first, _) = world.ask_with("What is Hearth?", short(3)).await;
        assert_eq!(first.status, ReplyStatus::Finished(FinishReason::MaxTokens));
        world.take_passes();
        let id = world.chat().current();
        let whole = world.chat().go_on(id, ReplyOptions::default(), |_| {}).await.expect("it goes on");
        assert_eq!(whole.text, FIRST);
        assert_eq!(whole.id, first.id);
        assert!(whole.tokens.starts_with(&first.tokens) && whole.tokens.len() > first.tokens.len());
        assert_eq!(world.take_passes()[0], 1, "only the token without a row is run");
        assert_eq!(world.entries().len(), 2);
        assert_eq!(world.ask("And the button?").await.0.text, SECOND, "the next turn builds on the whole");
    });
}

#[test]
fn a_reply_that_failed_goes_on_from_what_it_said() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        for how in [Scripted::Panic, Scripted::Error("computing".into())] {
            world.breaks(0, 3, how);
            let id = world.chat().current();
            let (failed, _) = world.ask("What is Hearth?").await;
            assert!(matches!(failed.status, ReplyStatus::Failed(_)));
            world.mend();
            let whole = world.chat().go_on(id, ReplyOptions::default(), |_| {}).await.expect("it goes on");
            assert!(
                whole.text.starts_with(&failed.text) && whole.text.len() > failed.text.len(),
                "{}",
                whole.text
            );
            assert_eq!(whole.text, FIRST);
            world.chat().reset(id).await.expect("reset");
        }
    });
}

#[test]
fn another_model_takes_over_with_ids_of_its_own() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        let (first, _) = world.ask_with("What is Hearth?", short(3)).await;
        world.backend.select_model("beta").await.expect("it loads");
        let id = world.chat().current();
        let whole = world.chat().go_on(id, ReplyOptions::default(), |_| {}).await.expect("it goes on");
        assert!(whole.text.starts_with(&first.text));
        assert_eq!((whole.text.as_str(), whole.model.as_str()), (FIRST, "Model beta"));
        assert_eq!(world.loads(), ["alpha", "beta"]);
    });
}

#[test]
fn a_switch_is_noted_where_something_was_said_and_once() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST, SECOND]);
        world.backend.select_model("beta").await.expect("it loads");
        assert!(world.entries().is_empty(), "nothing was said yet");
        assert_eq!(world.ask("What is Hearth?").await.0.model, "Model beta");
        world.backend.select_model("alpha").await.expect("it loads");
        world.backend.select_model("beta").await.expect("it loads");
        assert_eq!(world.entries().len(), 2, "back at the model that answered, there is nothing to note");
        world.backend.select_model("alpha").await.expect("it loads");
        assert!(
            matches!(world.entries().last(), Some(Entry::ModelSwitched { model, .. }) if model == "Model alpha")
        );
        let (reply, _) = world.ask("And the button?").await;
        assert_eq!((reply.text.as_str(), reply.model.as_str()), (SECOND, "Model alpha"));
        assert!(world.seen().contains(FIRST), "the new model reads what the other one said");
    });
}

#[test]
fn choosing_a_model_stops_the_reply_under_way_and_frees_the_other() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        world.breaks(0, 2, Scripted::UntilCancelled);
        let switch = async {
            world.reached().await;
            world.backend.select_model("beta").await.expect("it loads")
        };
        let ((reply, _), ready) = tokio::join!(world.ask("What is Hearth?"), switch);
        assert_eq!(reply.status, ReplyStatus::Finished(FinishReason::Cancelled));
        assert_eq!(ready.model.id, "beta");
        let states = world.backend.models().all();
        let ready: Vec<_> = states
            .iter()
            .filter(|(_, state)| matches!(state, ModelState::Ready))
            .map(|(model, _)| model.id.as_str())
            .collect();
        assert_eq!(ready, ["beta"], "one model is loaded at a time");
    });
}

#[test]
fn a_model_that_does_not_load_fails_the_reply_and_can_be_left_again() {
    over_each_transport(async |transport| {
        let world = World::new(transport, &[FIRST]);
        let error = world.backend.select_model("broken").await.expect_err("it does not load");
        assert!(error.to_string().contains("model.onnx"), "{error}");
        let (reply, _) = world.ask("What is Hearth?").await;
        assert_eq!(reply.status, ReplyStatus::Failed(error));
        assert!(matches!(&world.backend.models().all()[2].1, ModelState::Failed(_)));
        let unknown = world.backend.select_model("gamma").await.expect_err("there is none");
        assert!(matches!(&unknown, Error::ModelUnknown { id, .. } if id == "gamma"), "{unknown}");
        assert!(unknown.to_string().contains("`alpha`"), "{unknown}");
        world.backend.select_model("alpha").await.expect("it loads");
        let id = world.chat().current();
        let again = world.chat().retry(id, ReplyOptions::default(), |_| {}).await.expect("made again");
        assert_eq!(again.text, FIRST);
    });
}
