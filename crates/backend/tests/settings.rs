//! Settings, and data folders that cannot be read or written.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use backend::{Error, ExecutionProviderChoice, ReplyStatus, Settings, Severity};
use support::{Transport, World, run};

const ANSWER: &str = "Hearth runs a model on this computer.";

#[test]
fn settings_are_read_as_they_were_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/settings.json");
    assert_eq!(Settings::open(&path), (Settings::default(), None), "a missing file is no fault");
    let settings = Settings {
        model: Some("alpha".into()),
        execution_provider: ExecutionProviderChoice::Cpu,
        threads: Some(3),
        cache_window: Some(2048),
        ..Settings::default()
    };
    settings.save(&path).expect("saved, its folder too");
    assert_eq!(Settings::open(&path), (settings, None));
    assert_eq!(
        fs::read_dir(path.parent().expect("a folder")).expect("read").count(),
        1,
        "nothing is left over"
    );
}

#[test]
fn fields_of_another_version_survive() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("settings.json");
    fs::write(&path, r#"{"model":"alpha","theme":{"accent":"red"},"fontSize":14}"#).expect("written");
    let (mut settings, notice) = Settings::open(&path);
    assert_eq!((settings.model.as_deref(), notice), (Some("alpha"), None));
    settings.model = Some("beta".into());
    settings.save(&path).expect("saved");
    let saved: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    assert_eq!((&saved["theme"]["accent"], &saved["fontSize"]), (&"red".into(), &14.into()));
    assert_eq!(saved["model"], "beta");
}

#[test]
fn damaged_settings_are_kept_beside_and_told_of() {
    for damage in ["{\"model\":", "[]", "null", "{\"threads\":-1}", "{\"executionProvider\":\"abacus\"}", ""]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.json");
        fs::write(&path, damage).expect("written");
        let (settings, notice) = Settings::open(&path);
        assert_eq!(settings, Settings::default(), "{damage}");
        let notice = notice.unwrap_or_else(|| panic!("nothing is told of {damage}"));
        let aside = folder.path().join("settings.damaged.json");
        assert!(notice.contains(&aside.display().to_string()), "{notice}");
        assert_eq!(fs::read_to_string(&aside).expect("kept"), damage);
        assert_eq!(Settings::open(&path), (Settings::default(), None), "it is told once");
    }
}

#[test]
fn settings_that_cannot_be_saved_name_the_folder_and_leave_the_old_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "no folder").expect("written");
    let error = Settings::default().save(&file.join("settings.json")).expect_err("it is a file");
    assert!(matches!(&error, Error::DataFolder { path, full: false, .. } if *path == file), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("read"), "no folder");
}

#[test]
fn an_unwritable_data_folder_is_a_notice_and_the_chat_works() {
    run(async {
        // Permissions do not stop an administrator, a file in the folder's place stops everybody.
        let world = World::with(Transport::Channel, &[ANSWER], 512, |directories| {
            fs::write(&directories.data, "no folder").expect("written");
        });
        let notices = world.backend.notices();
        let [notice] = notices.as_slice() else { panic!("{notices:?}") };
        assert_eq!((notice.severity, notice.code), (Severity::Error, "dataFolder"));
        assert!(notice.message.contains(&world.directories.data.display().to_string()), "{}", notice.message);
        let (reply, _) = world.ask("What is Hearth?").await;
        assert!(matches!(reply.status, ReplyStatus::Finished(_)), "{:?}", reply.status);
        world.backend.select_model("beta").await.expect("the choice counts, saved or not");
        let unsaved = world.backend.notices().into_iter().find(|notice| notice.code == "settings");
        assert_eq!(unsaved.expect("it is told").severity, Severity::Warning);
        assert_eq!(world.ask("And now?").await.0.model, "Model beta");
    });
}

#[test]
fn damaged_settings_are_a_notice_that_can_be_dismissed() {
    let world = World::with(Transport::Channel, &[ANSWER], 512, |directories| {
        fs::create_dir_all(&directories.data).expect("made");
        fs::write(directories.settings(), "{").expect("written");
    });
    let notices = world.backend.notices();
    assert_eq!((notices.len(), notices[0].code), (1, "settings"));
    world.backend.dismiss_notice(&notices[0].id);
    assert!(world.backend.notices().is_empty());
}

#[test]
fn the_model_that_was_chosen_is_chosen_the_next_time() {
    run(async {
        let first = World::new(Transport::Channel, &[ANSWER]);
        assert_eq!(
            first.backend.models().selected().as_deref(),
            Some("alpha"),
            "the first one to begin with"
        );
        first.backend.select_model("beta").await.expect("it loads");
        let saved = first.directories.settings();
        let next = World::with(Transport::Channel, &[ANSWER], 512, |directories| {
            fs::create_dir_all(&directories.data).expect("made");
            fs::copy(&saved, directories.settings()).expect("copied");
        });
        assert_eq!(next.backend.models().selected().as_deref(), Some("beta"));
    });
}

#[test]
fn the_budget_of_what_is_kept_on_the_disk_holds_at_once_and_is_remembered() {
    run(async {
        let world = world_that_keeps();
        let kept = async || world.backend.kept_snapshots().await.expect("told");
        let first = kept().await;
        assert_eq!((first.chosen_budget, first.trouble, first.usage.bytes), (None, None, 0));
        assert!(first.usage.budget_bytes > 0, "it is known before any model was loaded");
        world.ask("What is Hearth?").await;
        // It is saved when nobody waits for the model.
        while kept().await.usage.bytes == 0 {
            tokio::task::yield_now().await;
        }
        let budget = async |bytes| world.backend.set_snapshot_budget(bytes).await.expect("set");
        let none = budget(Some(0)).await;
        assert_eq!((none.usage.bytes, none.usage.budget_bytes, none.trouble), (0, 0, None));
        world.ask("And now?").await;
        world.backend.close(Duration::from_secs(60)).await.expect("saved, if anything were");
        let (saved, _) = Settings::open(&world.directories.settings());
        assert_eq!(saved.kv_disk_bytes, Some(0));
        let left = files_below(&world.directories.snapshots());
        assert!(left.iter().all(|path| path.extension().is_none_or(|ending| ending != "kv")), "{left:?}");
        let little = budget(Some(1 << 20)).await;
        assert_eq!((little.chosen_budget, little.usage.budget_bytes), (Some(1 << 20), 1 << 20));
        let default = budget(None).await;
        assert_eq!(default.chosen_budget, None);
        assert_ne!(default.usage.budget_bytes, 1 << 20, "the default is another");
    });
}

#[test]
fn what_is_kept_on_the_disk_is_freed_and_counted() {
    run(async {
        let world = world_that_keeps();
        world.ask("What is Hearth?").await;
        let usage = async || world.backend.kept_snapshots().await.expect("told").usage;
        // What is read ahead behind the reply is saved as well, and must not come after the rest was freed.
        assert!(world.inference.save_snapshots(Duration::from_secs(60)).await.expect("saved"));
        let kept = usage().await.bytes;
        assert_ne!(kept, 0);
        assert_eq!(world.backend.free_snapshots().await.expect("freed"), kept);
        assert_eq!(usage().await.bytes, 0);
        assert_eq!(world.texts(), ["What is Hearth?", ANSWER], "nothing that was said is lost");
    });
}

/// A world whose model has a graph, so that its KV rows can be told from those of another.
fn world_that_keeps() -> World {
    World::with(Transport::Channel, &[ANSWER], 512, |directories| {
        fs::write(directories.resources[0].join("alpha/model.onnx"), "alpha").expect("written");
    })
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_library_that_is_nowhere_names_every_place() {
    run(async {
        let world = World::with(Transport::Channel, &[ANSWER], 512, |directories| {
            directories.libraries = vec!["/nowhere/one.so".into(), "/nowhere/two.so".into()];
        });
        let (reply, _) = world.ask("What is Hearth?").await;
        let ReplyStatus::Failed(error @ Error::LibraryMissing { .. }) = &reply.status else {
            panic!("{:?}", reply.status)
        };
        for place in ["/nowhere/one.so", "/nowhere/two.so"] {
            assert!(error.to_string().contains(place), "{error}");
        }
        assert!(world.loads().is_empty());
        assert_eq!(world.directories.settings().parent(), Some(Path::new(&world.directories.data)));
    });
}

#[test]
fn what_was_written_by_hand_meanwhile_stays_when_a_model_is_chosen() {
    run(async {
        let world = World::new(Transport::Channel, &[ANSWER]);
        world.backend.select_model("alpha").await.expect("it loads");
        let path = world.directories.settings();
        fs::write(&path, r#"{"model":"alpha","network":{"offline":true},"threads":2}"#).expect("written");
        world.backend.select_model("beta").await.expect("it loads");
        let (settings, notice) = Settings::open(&path);
        assert_eq!((settings.model.as_deref(), settings.threads, notice), (Some("beta"), Some(2), None));
        assert!(settings.network.offline);
    });
}

#[test]
fn settings_that_cannot_be_read_are_not_replaced() {
    run(async {
        let world = World::new(Transport::Channel, &[ANSWER]);
        let path = world.directories.settings();
        fs::create_dir_all(path.join("in the way")).expect("made");
        world.backend.select_model("beta").await.expect("the choice counts, saved or not");
        assert!(path.join("in the way").is_dir());
        assert!(world.backend.notices().iter().any(|notice| notice.code == "settings"), "it is told");
        fs::remove_dir_all(&path).expect("removed");
        fs::write(&path, "{ half").expect("written");
        world.backend.select_model("alpha").await.expect("the choice counts, saved or not");
        assert_eq!(fs::read_to_string(&path).expect("read"), "{ half");
    });
}

#[test]
fn one_wrong_value_costs_itself_and_never_opens_the_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("settings.json");
    let text = r#"{"model":"alpha","threads":"two","cacheWindow":512,"network":{"offline":"yes"}}"#;
    fs::write(&path, text).expect("written");
    let (settings, notice) = Settings::open(&path);
    assert_eq!((settings.model.as_deref(), settings.threads), (Some("alpha"), None));
    assert_eq!(settings.cache_window, Some(512));
    assert!(settings.network.offline, "what cannot be read may have said so");
    let notice = notice.expect("it is told");
    for part in ["`network`", "`threads`", "nothing goes to the network"] {
        assert!(notice.contains(part), "{notice}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("settings.damaged.json")).expect("kept"), text);
    assert_eq!(Settings::open(&path), (settings, None), "it is told once, and what made sense stays");
    fs::write(&path, "{ again").expect("written");
    Settings::open(&path);
    assert_eq!(fs::read_to_string(folder.path().join("settings.damaged.json")).expect("kept"), text);
}
