//! What the user wants of one model: bounds, who goes before whom, and what is in force.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backend::{
    Backend, Error, Fit, Inference, ModelDefaults, ModelNumber, ModelSetting, Overrides, ReplyOptions,
    Settings, ValueSource,
};
use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{Engine, LoadOptions};
use proptest::prelude::*;
use support::{Transport, World, directories, ember_text, loaded_model, make_model, run};

const ANSWER: &str = "Hearth runs a model on this computer.";

fn defaults(system: Option<&str>, numbers: &[(ModelNumber, f64)]) -> ModelDefaults {
    let mut defaults = ModelDefaults::default();
    defaults.set_system(system).expect("it is short");
    for &(number, value) in numbers {
        defaults.set_number(number, Some(value)).expect("it is within its range");
    }
    defaults
}

#[test]
fn a_number_outside_of_its_range_is_refused_by_name_and_changes_nothing() {
    let mut kept = defaults(None, &[(ModelNumber::Temperature, 0.5)]);
    let before = kept.clone();
    for (number, value) in [
        (ModelNumber::Temperature, -0.1),
        (ModelNumber::Temperature, f64::NAN),
        (ModelNumber::TopP, 1.01),
        (ModelNumber::TopK, 2.5),
        (ModelNumber::MaxTokens, 0.0),
        (ModelNumber::Threads, 1025.0),
        (ModelNumber::Context, f64::INFINITY),
    ] {
        let error = kept.set_number(number, Some(value)).expect_err(number.name());
        assert!(matches!(&error, Error::ModelSetting { name, .. } if *name == number.name()), "{error}");
        let range = number.range();
        for bound in [range.start(), range.end()] {
            assert!(error.to_string().contains(&bound.to_string()), "{error}");
        }
    }
    assert_eq!(kept, before);
    let long = "a".repeat(300_000);
    assert!(matches!(kept.set_system(Some(&long)), Err(Error::ModelSetting { name: "system", .. })));
}

proptest! {
    #[test]
    fn what_was_set_is_read_from_the_settings_and_what_was_not_is_not(
        chosen in proptest::collection::vec(proptest::option::of(0.0_f64..=1.0), ModelNumber::ALL.len()),
        system in proptest::option::of("[a-z ]{0,20}"),
    ) {
        let mut wanted = ModelDefaults::default();
        wanted.set_system(system.as_deref()).expect("it is short");
        let mut expected = Vec::new();
        for (number, share) in ModelNumber::ALL.into_iter().zip(&chosen) {
            let range = number.range();
            let value = share.map(|share| {
                let value = range.start() + share * (range.end() - range.start());
                if number.is_whole() { value.round() } else { value }
            });
            wanted.set_number(number, value).expect("it is within its range");
            expected.push(value);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.json");
        let settings = Settings { models: [("alpha".to_owned(), wanted)].into(), ..Settings::default() };
        settings.save(&path).expect("saved");
        let (read, notice) = Settings::open(&path);
        prop_assert_eq!((&read, notice), (&settings, None));
        let found: Vec<_> = ModelNumber::ALL.map(|number| read.models["alpha"].number(number)).into();
        prop_assert_eq!(found, expected);
        let words = system.filter(|text| !text.trim().is_empty());
        prop_assert_eq!(read.models["alpha"].system(), words.as_deref());
    }
}

#[test]
fn what_makes_no_sense_in_the_settings_is_told_and_not_used_and_the_rest_is() {
    let world = World::with(Transport::Channel, &[ANSWER], 512, |directories| {
        fs::create_dir_all(&directories.data).expect("made");
        let text = r#"{"models":{"alpha":{"temperature":-3,"topP":0.5,"tone":"mild","threads":"many"}}}"#;
        fs::write(directories.settings(), text).expect("written");
    });
    let kept = world.backend.models().defaults_of("alpha");
    assert_eq!(kept.number(ModelNumber::TopP), Some(0.5));
    assert_eq!((kept.number(ModelNumber::Temperature), kept.number(ModelNumber::Threads)), (None, None));
    let told: Vec<String> = world.backend.notices().into_iter().map(|notice| notice.message).collect();
    for name in ["`temperature`", "`threads`"] {
        assert!(told.iter().any(|message| message.contains(name) && message.contains("`alpha`")), "{told:?}");
    }
    let mut changed = kept;
    changed.set_number(ModelNumber::TopP, None).expect("it is taken back");
    world.backend.set_model_defaults("alpha", &changed).expect("saved");
    let text = fs::read_to_string(world.directories.settings()).expect("read");
    assert!(text.contains("mild"), "what another version wrote stays: {text}");
    assert!(!text.contains("topP"), "{text}");
}

#[test]
fn the_system_prompt_of_a_model_stands_behind_those_of_the_run_and_of_the_conversation() {
    run(async {
        let world = World::new(Transport::Channel, &[ANSWER; 4]);
        world.backend.set_model_defaults("alpha", &defaults(Some("You are MODEL."), &[])).expect("saved");
        world.ask("One?").await;
        assert!(world.seen().contains("You are MODEL."), "{}", world.seen());
        let asked = ReplyOptions { system: Some("You are RUN.".into()), ..ReplyOptions::default() };
        world.ask_with("Two?", asked).await;
        assert!(world.seen().contains("You are RUN.") && !world.seen().contains("MODEL"), "{}", world.seen());
        let id = world.chat().current();
        world.backend.history().set_system_prompt(id, Some("You are CONVERSATION.")).expect("set");
        world.ask("Three?").await;
        assert!(world.seen().contains("CONVERSATION") && !world.seen().contains("MODEL"), "{}", world.seen());
        world.backend.select_model("beta").await.expect("it loads");
        world.backend.history().set_system_prompt(id, None).expect("taken back");
        world.ask("Four?").await;
        assert!(!world.seen().contains("MODEL"), "another model is told nothing of it: {}", world.seen());
    });
}

#[test]
fn a_reply_takes_the_models_numbers_where_the_run_asks_for_none_and_keeps_them_with_it() {
    run(async {
        let world = World::new(Transport::Channel, &[ANSWER; 3]);
        let wanted = defaults(None, &[(ModelNumber::MaxTokens, 3.0), (ModelNumber::TopK, 7.0)]);
        world.backend.set_model_defaults("alpha", &wanted).expect("saved");
        let (short, _) = world.ask("What is Hearth?").await;
        assert_eq!(short.tokens.len(), 3);
        let asked = ReplyOptions { max_tokens: Some(5), ..ReplyOptions::default() };
        assert_eq!(
            world.ask_with("And now?", asked).await.0.tokens.len(),
            5,
            "the run goes before the model"
        );
        let path = world.directories.data.join("export.json");
        let id = world.chat().current();
        world.backend.history().export(Some(id), backend::ExportFormat::Json, &path).expect("exported");
        let text = fs::read_to_string(&path).expect("read");
        for kept in ["\"maxTokens\":3", "\"maxTokens\":5", "\"topK\":7"] {
            let text = text.replace([' ', '\n'], "").replace("\\\"", "\"");
            assert!(text.contains(kept), "{kept} is kept beside the reply: {text}");
        }
        let draft = world.chat().measure(id, "How much?".into()).await.expect("measured");
        assert_eq!(draft.reserved_tokens, 3, "what is kept free is what a reply may take");
    });
}

/// An application whose models load by any name, and how each was loaded.
fn recording(folder: &Path, overrides: Option<&Overrides>) -> (Backend, Arc<Mutex<Vec<LoadOptions>>>) {
    let loads: Arc<Mutex<Vec<LoadOptions>>> = Arc::default();
    let (kept, text) = (Arc::clone(&loads), ember_text());
    let open = move |_: &Path, options: &LoadOptions| {
        kept.lock().expect("no load panics").push(options.clone());
        let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, |_| Scripted::Token(0));
        let engine = Engine::new(decoder, text.clone(), options.cache_window);
        let loaded = loaded_model(&engine, options);
        Ok((engine, loaded))
    };
    fs::write(folder.join("libonnxruntime.so"), "").expect("written");
    let inference = Inference::start_with(open);
    let backend = match overrides {
        Some(overrides) => {
            Backend::open_for_run(directories(folder), inference, overrides).expect("it opens")
        }
        None => Backend::open_with(directories(folder), inference),
    };
    (backend, loads)
}

#[test]
fn threads_and_window_hold_at_the_next_load_and_a_loaded_model_is_loaded_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    for id in ["alpha", "beta"] {
        make_model(&directories(folder.path()).resources[0], id, "{}");
    }
    let all = Settings { threads: Some(2), cache_window: Some(400), ..Settings::default() };
    all.save(&directories(folder.path()).settings()).expect("saved");
    run(async {
        let (backend, loads) = recording(folder.path(), None);
        let last = || {
            let loads = loads.lock().expect("no load panics");
            loads.last().map(|options| (options.threads, options.cache_window))
        };
        backend.begin().await.expect("it loads");
        assert_eq!(last(), Some((Some(2), Some(400))), "the settings for all models");
        let wanted = defaults(None, &[(ModelNumber::Threads, 3.0), (ModelNumber::Context, 128.0)]);
        backend.set_model_defaults("alpha", &wanted).expect("saved");
        backend.follow_model_defaults().await;
        assert_eq!(last(), Some((Some(3), Some(128))), "the model's own go before them");
        assert_eq!(backend.models().loaded().expect("loaded").window, 128);
        let before = loads.lock().expect("no load panics").len();
        backend.follow_model_defaults().await;
        backend
            .set_model_defaults(
                "alpha",
                &defaults(Some("Be kind."), &[(ModelNumber::Threads, 3.0), (ModelNumber::Context, 128.0)]),
            )
            .expect("saved");
        backend.models().ready().await.expect("it is loaded");
        assert_eq!(
            loads.lock().expect("no load panics").len(),
            before,
            "nothing changed that a load depends on"
        );
        backend.select_model("beta").await.expect("it loads");
        assert_eq!(last(), Some((Some(2), Some(400))), "another model has none of it");
    });
    run(async {
        let run = Overrides { model: Some("alpha".into()), threads: Some(1), ..Overrides::default() };
        let (backend, loads) = recording(folder.path(), Some(&run));
        backend.models().ready().await.expect("it loads");
        let loads = loads.lock().expect("no load panics");
        assert_eq!(
            (loads[0].threads, loads[0].cache_window),
            (Some(1), Some(128)),
            "the run goes before all"
        );
    });
}

#[test]
fn a_reply_under_way_is_made_to_its_end_before_its_model_is_loaded_anew() {
    run(async {
        let world = World::new(Transport::Channel, &[ANSWER, ANSWER]);
        world.breaks(0, 3, Scripted::Token(0));
        let changing = async {
            world.reached().await;
            let wanted = defaults(None, &[(ModelNumber::Context, 256.0)]);
            world.backend.set_model_defaults("alpha", &wanted).expect("saved");
            world.backend.follow_model_defaults().await;
        };
        let ((reply, _), ()) = tokio::join!(world.ask("What is Hearth?"), changing);
        assert!(matches!(reply.status, backend::ReplyStatus::Finished(_)), "{:?}", reply.status);
        assert_eq!(world.loads(), ["alpha", "alpha"]);
        assert_eq!(world.backend.models().loaded().expect("loaded").window, 256);
    });
}

#[test]
fn what_is_in_force_is_told_with_who_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = directories(folder.path()).resources[0].clone();
    make_model(&models, "alpha", "{}");
    let config = r#"{"max_position_embeddings":2048,"num_hidden_layers":3,"num_attention_heads":4,
        "num_key_value_heads":2,"hidden_size":64}"#;
    fs::write(models.join("alpha/config.json"), config).expect("written");
    let advice = r#"{"temperature":0.6,"top_k":20}"#;
    fs::write(models.join("alpha/generation_config.json"), advice).expect("written");
    let (backend, _) = recording(folder.path(), None);
    let told = |number: ModelNumber| -> ModelSetting {
        let settings = backend.model_settings("alpha").expect("it is there");
        settings.numbers.into_iter().find(|setting| setting.number == number).expect("each is told")
    };
    let temperature = told(ModelNumber::Temperature);
    assert_eq!((temperature.chosen, temperature.otherwise), (None, Some(0.6)));
    assert_eq!(temperature.source, ValueSource::Model);
    assert_eq!(
        (told(ModelNumber::MinP).otherwise, told(ModelNumber::MinP).source),
        (Some(0.0), ValueSource::Hearth)
    );
    assert_eq!(told(ModelNumber::Threads).source, ValueSource::Machine);
    let context = told(ModelNumber::Context);
    assert_eq!(
        (context.otherwise, context.source, *context.range.end()),
        (Some(2048.0), ValueSource::Model, 2048.0)
    );
    let memory = backend.model_settings("alpha").expect("it is there").memory;
    assert_eq!(
        memory.bytes_per_token,
        Some(3 * 2 * 2 * 16 * 4),
        "layers, keys and values, heads, size, bytes"
    );
    assert!(memory.fit(0) <= memory.fit(1 << 40) && memory.fit(1 << 40) == Fit::TooLarge);

    let too_wide = defaults(None, &[(ModelNumber::Context, 4096.0)]);
    let error = backend.set_model_defaults("alpha", &too_wide).expect_err("the model reads less");
    assert!(error.to_string().contains("context") && error.to_string().contains("2048"), "{error}");
    backend.set_model_defaults("alpha", &defaults(None, &[(ModelNumber::Temperature, 0.1)])).expect("saved");
    assert_eq!(told(ModelNumber::Temperature).chosen, Some(0.1));
    let error =
        backend.set_model_defaults("nothing", &ModelDefaults::default()).expect_err("nobody knows it");
    assert!(matches!(error, Error::ModelUnknown { .. }), "{error}");
}
