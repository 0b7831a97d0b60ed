//! What goes on while nobody looks: downloads, repairs and imports under way, and models that were removed.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/ember.rs"]
mod ember;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use backend::hub::{HubFailure, NetworkSettings, RepositoryId};
use backend::{
    Backend, Download, DownloadKind, DownloadPhase, DownloadState, Error, ImportMode, Library, Settings,
};
use downloads::{REPOSITORY, online};
use ember::{ember, ember_files};
use server::{Act, COMMIT, HubServer};
use tempfile::TempDir;

const GRAPH: &str = "model.onnx";

/// A hub that has Ember, and an application that asks it.
struct Stage {
    server: HubServer,
    data: TempDir,
}

impl Stage {
    fn new() -> Self {
        let server = HubServer::start();
        server.store(REPOSITORY, &ember_files());
        let stage = Self { server, data: tempfile::tempdir().expect("a folder") };
        let settings = Settings { network: stage.network(), ..Settings::default() };
        settings.save(&stage.data.path().join("settings.json")).expect("saved");
        stage
    }

    fn network(&self) -> NetworkSettings {
        NetworkSettings { mirror: Some(self.server.endpoint()), ..NetworkSettings::default() }
    }

    fn open(&self) -> Backend {
        bare::open(self.data.path())
    }

    fn models(&self) -> PathBuf {
        self.data.path().join("models")
    }

    /// What lies beside the models: what is not whole, or removed.
    fn staged(&self) -> Vec<String> {
        let entries = fs::read_dir(self.models().join(".staging")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn installed_id() -> String {
    format!("small-model-model@{}", &COMMIT[..12])
}

async fn start(backend: &Backend) -> backend::Result<String> {
    let id = RepositoryId::parse(REPOSITORY).expect("an id");
    backend.downloads().start_variant(&id, COMMIT, "model").await
}

/// Waits until `holds` is true of what is on its way.
async fn until(backend: &Backend, holds: impl Fn(&[Download]) -> bool) {
    let mut changes = backend.changes();
    while !holds(&backend.downloads().list()) {
        // A change that was missed is a change all the same.
        changes.recv().await.ok();
    }
}

fn is_coming(download: &Download) -> bool {
    matches!(&download.state, DownloadState::Running { phase: DownloadPhase::Downloading, .. })
        && download.done > 0
}

fn names(backend: &Backend) -> Vec<String> {
    backend.models().all().into_iter().map(|(model, _)| model.id).collect()
}

#[test]
fn a_download_goes_on_by_itself_and_ends_among_the_models() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let id = start(&backend).await.expect("it can run");
        assert_eq!(id, installed_id());
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(names(&backend), [installed_id()]);
        assert_eq!(stage.staged(), Vec::<String>::new());
        let details = backend.library().installed();
        let [model] = details.as_slice() else { panic!("{details:?}") };
        assert!(model.can_remove && model.can_repair && !model.is_linked);
        let weights = fs::metadata(ember().join(GRAPH)).expect("there").len();
        assert!(model.memory.includes_kv_cache);
        assert!(model.memory.bytes > weights + 300_000_000, "the weights, what runs them, and the KV cache");
        assert_eq!(backend.library().disk_use().installed, model.model.size);
    });
}

#[test]
fn a_paused_download_is_found_by_the_next_start_and_fetches_only_the_rest() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        stage.server.act(GRAPH, 1, Act::CutAfter(5_000_000));
        stage.server.act(GRAPH, 1, Act::Drip);
        start(&backend).await.expect("it can run");
        until(&backend, |list| list.iter().any(|download| is_coming(download) && download.done > 5_000_000))
            .await;
        backend.downloads().pause(&installed_id()).await;
        let [paused] = &backend.downloads().list()[..] else { panic!("one is on its way") };
        assert_eq!((paused.kind, &paused.state), (DownloadKind::Download, &DownloadState::Paused));
        assert!(names(&backend).is_empty());
    });
    stage.server.take_seen();
    let before = stage.server.served();
    online(async {
        let backend = stage.open();
        let [found] = &backend.downloads().list()[..] else { panic!("it is found again") };
        assert_eq!((found.id.as_str(), &found.state), (installed_id().as_str(), &DownloadState::Paused));
        assert!(found.done > 5_000_000 && found.done < found.total, "{found:?}");
        assert!(stage.server.take_seen().is_empty(), "nothing goes on by itself");
        backend.downloads().resume(&found.id);
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(names(&backend), [installed_id()]);
    });
    assert!(stage.server.served() - before < 5_000_000, "{}", stage.server.served() - before);
}

#[test]
fn what_was_fetched_of_a_cancelled_download_is_deleted() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        stage.server.act(GRAPH, 1, Act::Drip);
        let id = start(&backend).await.expect("it can run");
        until(&backend, |list| list.iter().any(is_coming)).await;
        backend.downloads().cancel(&id).await.expect("deleted");
        assert!(backend.downloads().list().is_empty() && names(&backend).is_empty());
        assert_eq!(stage.staged(), Vec::<String>::new());
    });
}

#[test]
fn a_download_that_fails_stays_with_its_reason_and_can_be_taken_up() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        stage.server.act(GRAPH, 1, Act::Status(404, vec![("X-Error-Code", "EntryNotFound")]));
        let id = start(&backend).await.expect("it can run");
        until(&backend, |list| matches!(list, [Download { state: DownloadState::Failed(_), .. }])).await;
        let [Download { state: DownloadState::Failed(error), .. }] = &backend.downloads().list()[..] else {
            panic!("it failed")
        };
        assert!(matches!(error, Error::Hub { kind: HubFailure::Missing, .. }), "{error}");
        backend.downloads().resume(&id);
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(names(&backend), [installed_id()]);
    });
}

#[test]
fn offline_stops_what_is_under_way_and_begins_nothing() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        stage.server.act(GRAPH, 1, Act::Drip);
        let id = start(&backend).await.expect("it can run");
        until(&backend, |list| list.iter().any(is_coming)).await;
        let offline = NetworkSettings { offline: true, ..stage.network() };
        backend.set_network(offline).await.expect("saved");
        assert_eq!(backend.downloads().list()[0].state, DownloadState::Paused);
        stage.server.take_seen();
        backend.downloads().resume(&id);
        until(&backend, |list| matches!(list, [Download { state: DownloadState::Failed(_), .. }])).await;
        let refused = start(&backend).await.expect_err("no request may leave");
        assert!(matches!(refused, Error::Hub { kind: HubFailure::Offline, .. }), "{refused}");
        assert!(stage.server.take_seen().is_empty(), "no request left");
        let settings = Settings::open(&stage.data.path().join("settings.json")).0;
        assert!(settings.network.offline, "the next start is offline too");

        stage.server.act(GRAPH, 1, Act::Drip);
        backend.set_network(stage.network()).await.expect("saved");
        backend.downloads().resume(&id);
        until(&backend, |list| list.iter().any(is_coming)).await;
        // The first answer may have been asked for only now.
        stage.server.behave();
        let other = NetworkSettings { proxy: None, ..stage.network() };
        backend.set_network(other).await.expect("saved");
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(names(&backend), [installed_id()], "another way of the network goes on with it");
    });
}

#[test]
fn a_mirror_that_may_not_be_asked_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        for mirror in ["http://mirror.example", "https://name:secret@mirror.example", "no address"] {
            let settings = NetworkSettings { mirror: Some(mirror.into()), ..NetworkSettings::default() };
            let refused = backend.set_network(settings).await.expect_err(mirror);
            assert!(matches!(refused, Error::Hub { kind: HubFailure::Insecure, .. }), "{refused}");
        }
        let settings = NetworkSettings { proxy: Some("file:///etc".into()), ..NetworkSettings::default() };
        backend.set_network(settings).await.expect_err("it is no proxy");
        assert_eq!(backend.models().network(), stage.network());
    });
}

#[test]
fn a_variant_that_cannot_run_is_refused_with_its_reason() {
    let stage = Stage::new();
    stage.server.store("someone/pictures", &[("onnx/vision_encoder.onnx", vec![1; 5000])]);
    online(async {
        let backend = stage.open();
        let id = RepositoryId::parse("someone/pictures").expect("an id");
        let refused = backend.downloads().start_variant(&id, COMMIT, "vision_encoder").await;
        let refused = refused.expect_err("it is a part of a model");
        assert!(refused.to_string().contains("several graphs"), "{refused}");
        assert!(backend.downloads().start_variant(&id, COMMIT, "other").await.is_err());
        assert!(matches!(backend.downloads().start_entry("no-such").await, Err(Error::ModelUnknown { .. })));
        assert!(backend.downloads().list().is_empty());
    });
}

#[test]
fn two_models_come_at_a_time_and_a_third_one_waits_for_its_turn() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        stage.server.act(GRAPH, 3, Act::Drip);
        for name in ["someone/a", "someone/b", "someone/c"] {
            stage.server.store(name, &ember_files());
            let id = RepositoryId::parse(name).expect("an id");
            backend.downloads().start_variant(&id, COMMIT, "model").await.expect("it can run");
        }
        until(&backend, |list| list.iter().filter(|download| is_coming(download)).count() == 2).await;
        let waiting =
            |list: &[Download]| list.iter().filter(|one| one.state == DownloadState::Queued).count();
        let list = backend.downloads().list();
        assert_eq!(waiting(&list), 1);
        let first = list.iter().find(|one| is_coming(one)).expect("one comes").id.clone();
        backend.downloads().cancel(&first).await.expect("deleted");
        until(&backend, |list| waiting(list) == 0 && list.iter().all(is_coming)).await;
        for download in backend.downloads().list() {
            backend.downloads().pause(&download.id).await;
        }
    });
}

/// Installs Ember from the hub.
async fn install(backend: &Backend) -> String {
    let id = start(backend).await.expect("it can run");
    until(backend, |list| list.is_empty()).await;
    id
}

#[test]
fn a_removed_model_can_be_put_back_until_the_application_ends() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let id = install(&backend).await;
        backend.remove_model(&id).await.expect("removed");
        assert!(names(&backend).is_empty() && downloads::visible(&stage.models()).is_empty());
        let removed = backend.removed_models();
        assert_eq!(removed.len(), 1);
        assert!(removed[0].size > 9_000_000);
        assert!(matches!(backend.remove_model(&id).await, Err(Error::ModelUnknown { .. })));

        // Another program on the same folder leaves it alone.
        let other = stage.open();
        backend.restore_model(&id).await.expect("put back");
        assert_eq!(names(&backend), [id.as_str()]);
        assert!(backend.removed_models().is_empty());
        assert_eq!(stage.staged(), Vec::<String>::new());
        drop(other);

        backend.remove_model(&id).await.expect("removed");
        install(&backend).await;
        assert!(backend.restore_model(&id).await.is_err(), "the same model has its place");
        assert_eq!(backend.removed_models().len(), 1, "it is not lost by that");
        backend.delete_removed_model(&id).await.expect("deleted");
        assert_eq!(stage.staged(), Vec::<String>::new());

        backend.remove_model(&id).await.expect("removed");
        backend.close(Duration::from_secs(5)).await.expect("closed");
        assert_eq!(stage.staged(), Vec::<String>::new(), "it ended, and the model with it");
        assert!(matches!(backend.restore_model(&id).await, Err(Error::ModelUnknown { .. })));
    });
}

#[test]
fn a_removed_model_of_a_program_that_was_killed_is_deleted_by_the_next_start() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let id = install(&backend).await;
        backend.remove_model(&id).await.expect("removed");
        assert_eq!(stage.staged().len(), 2, "the model and its lock");
        // Dropped without an orderly end.
        drop(backend);
        stage.open();
        assert_eq!(stage.staged(), Vec::<String>::new());
    });
}

#[test]
fn a_repair_fetches_what_is_wrong_and_says_how_much_that_was() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let id = install(&backend).await;
        assert_eq!(backend.repair_model(&id).await.expect("checked"), Some(0));
        let config = stage.models().join(&id).join("config.json");
        fs::write(&config, "{}").expect("written");
        stage.server.take_seen();
        assert_eq!(backend.repair_model(&id).await.expect("repaired"), Some(1));
        assert_eq!(fs::read(&config).expect("there"), fs::read(ember().join("config.json")).expect("there"));
        let seen = stage.server.take_seen();
        assert!(seen.iter().all(|seen| seen.target.contains("/config.json")), "{seen:?}");
        assert!(backend.downloads().list().is_empty());

        fs::write(&config, "{}").expect("written");
        stage.server.act("config.json", 1, Act::Status(404, vec![]));
        backend.repair_model(&id).await.expect_err("the hub has it no longer");
        let list = backend.downloads().list();
        assert!(
            matches!(
                &list[..],
                [Download { kind: DownloadKind::Repair, state: DownloadState::Failed(_), .. }]
            ),
            "{list:?}"
        );
        backend.downloads().cancel(&id).await.expect("given up");
        assert!(backend.downloads().list().is_empty() && stage.staged().is_empty(), "{:?}", stage.staged());
        assert_eq!(names(&backend), [id], "the model itself stays");
    });
}

#[test]
fn a_model_is_not_removed_while_it_is_repaired_and_is_as_soon_as_the_repair_is_given_up() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let id = install(&backend).await;
        fs::write(stage.models().join(&id).join(GRAPH), "no graph").expect("written");
        stage.server.act(GRAPH, 1, Act::Drip);
        let meanwhile = async {
            until(&backend, |list| list.iter().any(is_coming)).await;
            let refused = backend.remove_model(&id).await.expect_err("files of it would come back");
            assert!(refused.to_string().contains("under way"), "{refused}");
            assert_eq!(names(&backend), [id.as_str()], "it is where it was");
            backend.downloads().pause(&id).await;
        };
        let (repaired, ()) = tokio::join!(backend.repair_model(&id), meanwhile);
        assert_eq!(repaired.expect("stopped"), None);
        assert!(stage.staged().iter().any(|name| name.ends_with(".repair")), "{:?}", stage.staged());
        backend.remove_model(&id).await.expect("removed");
        assert_eq!(stage.staged().len(), 2, "the model and its lock: {:?}", stage.staged());
        backend.restore_model(&id).await.expect("put back");
        assert_eq!(stage.staged(), Vec::<String>::new());
        assert_eq!(names(&backend), [id]);
    });
}

#[test]
fn a_folder_is_imported_under_a_name_like_its_own_that_nothing_has() {
    let stage = Stage::new();
    let source = tempfile::tempdir().expect("a folder");
    let folder = source.path().join("My model (new)");
    fs::create_dir(&folder).expect("made");
    for (name, bytes) in ember_files() {
        fs::write(folder.join(name), bytes).expect("written");
    }
    online(async {
        let backend = stage.open();
        assert_eq!(backend.downloads().import(&folder, ImportMode::Copy), "My-model--new");
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(backend.downloads().import(&folder, ImportMode::Link), "My-model--new-2");
        until(&backend, |list| list.is_empty()).await;
        assert_eq!(names(&backend), ["My-model--new", "My-model--new-2"]);
        let library: Library = backend.library();
        let linked: Vec<bool> = library.installed().iter().map(|model| model.is_linked).collect();
        assert_eq!(linked, [false, true]);
        backend.remove_model("My-model--new-2").await.expect("removed");
        backend.close(Duration::from_secs(5)).await.expect("closed");
        assert!(folder.join(GRAPH).is_file(), "what a link names stays");
        assert!(stage.server.take_seen().is_empty(), "nothing of it asks the network");
    });
}

#[test]
fn a_folder_that_is_no_model_is_told_and_can_be_put_away() {
    let stage = Stage::new();
    let source = tempfile::tempdir().expect("a folder");
    online(async {
        let backend = stage.open();
        let id = backend.downloads().import(source.path(), ImportMode::Copy);
        until(&backend, |list| matches!(list, [Download { state: DownloadState::Failed(_), .. }])).await;
        let list = backend.downloads().list();
        let DownloadState::Failed(error) = &list[0].state else { panic!("{list:?}") };
        assert!(error.to_string().contains("no ONNX graph"), "{error}");
        backend.downloads().cancel(&id).await.expect("put away");
        assert!(backend.downloads().list().is_empty());
    });
}

#[test]
fn what_was_said_of_other_sources_is_said_once() {
    let stage = Stage::new();
    let backend = stage.open();
    assert!(!backend.models().knows_other_sources());
    backend.models().note_other_sources().expect("saved");
    assert!(backend.models().knows_other_sources());
    drop(backend);
    assert!(stage.open().models().knows_other_sources(), "also after a restart");
}
