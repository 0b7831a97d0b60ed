//! A list of models that the user has refreshed: how it comes, what is refused, and what it can never change.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use backend::hub::{HubFailure, NetworkLedger, NetworkSettings, Purpose};
use backend::{Backend, CancellationToken, Catalog, DownloadOutcome, Error, ListedModel, Manifest, Settings};
use downloads::{REPOSITORY, online};
use serde_json::{Value, json};
use server::{Act, COMMIT, HubServer, sha256};
use tempfile::TempDir;

/// Where the list lies on the server of a test.
const LISTS: &str = "someone/lists";

/// A hub with Ember, a server with a list of models, and an application that knows its address.
struct Stage {
    server: HubServer,
    data: TempDir,
}

impl Stage {
    fn new() -> Self {
        let server = HubServer::start();
        server.store(REPOSITORY, &ember_files());
        let stage = Self { server, data: tempfile::tempdir().expect("a folder") };
        stage.offer(&list(&[entry()]));
        stage.save(Some(stage.address()));
        stage
    }

    /// Puts `list` where the address leads.
    fn offer(&self, list: &Value) {
        self.server.store(LISTS, &[("catalog.json", list.to_string().into_bytes())]);
    }

    fn address(&self) -> String {
        format!("{}/{LISTS}/resolve/{COMMIT}/catalog.json", self.server.endpoint())
    }

    fn save(&self, catalog: Option<String>) {
        let mirror = Some(self.server.endpoint());
        let network = NetworkSettings { mirror, catalog, ..NetworkSettings::default() };
        let settings = Settings { network, ..Settings::default() };
        settings.save(&self.data.path().join("settings.json")).expect("saved");
    }

    fn open(&self) -> Backend {
        bare::open(self.data.path())
    }

    fn file(&self) -> PathBuf {
        self.data.path().join("catalog.json")
    }
}

fn ember_files() -> Vec<(&'static str, Vec<u8>)> {
    let ember = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember");
    ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, fs::read(ember.join(name)).expect("part of Ember")))
        .into()
}

/// An entry for Ember as the hub of a test has it.
fn entry() -> Value {
    let files: Vec<Value> = ember_files()
        .iter()
        .map(|(path, bytes)| json!({"path": path, "size": bytes.len(), "sha256": sha256(bytes)}))
        .collect();
    json!({
        "id": "tiny-talker", "title": "Tiny Talker", "repository": REPOSITORY, "commit": COMMIT, "folder": "",
        "parameters": "4M", "context": 4096, "licence": "mit", "baseModel": "someone/base",
        "baseLicence": "MIT", "hasTerms": false, "sampling": null, "kvBytesPerToken": null,
        "reportedWeightBytes": null, "notes": ["a note"], "files": files,
    })
}

fn list(entries: &[Value]) -> Value {
    json!({"format": 1, "models": entries})
}

fn with(name: &str, value: Value) -> Value {
    let mut entry = entry();
    entry[name] = value;
    entry
}

fn listed(backend: &Backend) -> Vec<ListedModel> {
    backend.library().listed()
}

fn others(backend: &Backend) -> Vec<String> {
    listed(backend).into_iter().filter(|listed| !listed.is_built_in).map(|listed| listed.name).collect()
}

#[test]
fn a_list_comes_when_it_is_asked_for_and_stands_beside_the_catalogue() {
    let stage = Stage::new();
    let own = Catalog::built_in().entries().len();
    online(async {
        let backend = stage.open();
        assert_eq!((listed(&backend).len(), others(&backend).len()), (own, 0));
        assert!(stage.server.take_seen().is_empty(), "nothing is refreshed by itself");
        let list = backend.refresh_catalog().await.expect("it comes");
        assert_eq!((list.host().as_str(), list.len(), list.source), ("127.0.0.1", 1, stage.address()));
        assert_eq!((listed(&backend).len(), others(&backend)), (own + 1, vec!["tiny-talker".to_owned()]));
        let next = stage.open();
        assert_eq!(others(&next), ["tiny-talker"], "it is used from then on");
        let library = next.library();
        assert_eq!(library.refreshed().expect("readable").map(|list| list.refreshed), Some(list.refreshed));
        library.leave_refreshed_catalog().expect("left");
        library.leave_refreshed_catalog().expect("what is not there can be left, too");
        assert_eq!(others(&next), Vec::<String>::new());
        assert!(!stage.file().exists());
    });
    let entries = NetworkLedger::new(stage.data.path()).entries();
    assert_eq!(entries.len(), stage.server.take_seen().len(), "every request is in the ledger");
    assert!(entries.iter().all(|entry| entry.purpose == Purpose::Catalog && entry.bytes.is_some()));
}

#[test]
fn a_listed_model_is_fetched_checked_and_counts_as_one_of_another_source() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        backend.refresh_catalog().await.expect("it comes");
        let library = backend.library();
        let record =
            library.record_of(&library.find_listed("tiny-talker").expect("listed")).await.expect("whole");
        assert!(!record.curated, "nobody tried it here, though every digest is given");
        let outcome = library.fetch(&record, &CancellationToken::new(), |_| {}).await.expect("it comes");
        let DownloadOutcome::Installed(folder) = outcome else { panic!("{outcome:?}") };

        // What is installed is what its manifest says, whatever a later list says of the same commit.
        let mut other = entry();
        other["files"][0]["sha256"] = "0".repeat(64).into();
        stage.offer(&list(&[other]));
        backend.refresh_catalog().await.expect("it comes");
        assert_eq!(Manifest::read(&folder).expect("readable").expect("there").record, record);
        backend.models().refresh();
        let library = backend.library();
        let model = library.store().find(&record.folder_name()).expect("installed");
        let checked = library.store().verify(&model, &CancellationToken::new(), &mut |_| {});
        let checked = checked.expect("checked").expect("not stopped");
        assert!(checked.iter().all(|file| file.state.is_right()), "{checked:?}");
    });
}

#[test]
fn a_list_cannot_replace_what_is_compiled_in() {
    let stage = Stage::new();
    let built_in = Catalog::built_in();
    let known = built_in.entries().iter().find(|entry| !entry.needs_listing()).expect("one is known whole");
    let mut same_commit = serde_json::to_value(known).expect("JSON");
    same_commit["files"][0]["sha256"] = "0".repeat(64).into();
    same_commit["title"] = "Better".into();
    let newer = with("id", known.id.as_str().into());
    online(async {
        let backend = stage.open();
        stage.offer(&list(&[same_commit]));
        backend.refresh_catalog().await.expect("it comes");
        assert_eq!(others(&backend), Vec::<String>::new(), "what this build knows of a commit stands");
        stage.offer(&list(&[newer]));
        backend.refresh_catalog().await.expect("it comes");
        let name = format!("{}@{}", known.id, &COMMIT[..12]);
        assert_eq!(others(&backend), [name.as_str()], "another commit has a name of its own");
        let library = backend.library();
        let found = library.find_listed(&known.id).expect("listed");
        assert!(found.is_built_in && found.entry == *known);
        assert_eq!(library.find_listed(&name).expect("listed").entry.title, "Tiny Talker");
    });
}

#[test]
fn lists_that_are_wrong_are_refused_whole_and_the_one_before_stays() {
    let stage = Stage::new();
    let mut unknown_key = entry();
    unknown_key["sha_256"] = "x".into();
    let mut outside = entry();
    outside["files"][0]["path"] = "../model.onnx".into();
    let mut short = entry();
    short["files"][0]["sha256"] = "12".into();
    let cases = [
        ("another format", json!({"format": 2, "models": [entry()]})),
        ("a key that is misspelt at the top", json!({"format": 1, "models": [entry()], "model": []})),
        ("no models", list(&[])),
        ("a branch in the place of a commit", list(&[with("commit", "main".into())])),
        ("no commit", list(&[with("commit", Value::Null)])),
        ("no repository", list(&[with("repository", "../../x".into())])),
        ("no plain name", list(&[with("id", "../x".into())])),
        ("two of one name", list(&[entry(), with("id", "Tiny-Talker".into())])),
        ("a key that nobody knows", list(&[unknown_key])),
        ("a file outside", list(&[outside])),
        ("half a digest", list(&[short])),
        ("no files", list(&[with("files", json!([]))])),
        ("a terminal's control characters", list(&[with("title", "\u{1b}[2J".into())])),
        ("the same in a note", list(&[with("notes", json!(["a\nb"]))])),
        ("no list", json!([1, 2])),
        ("text", json!("hello")),
    ];
    online(async {
        let backend = stage.open();
        backend.refresh_catalog().await.expect("a good one first");
        let before = fs::read(stage.file()).expect("there");
        for (name, list) in cases {
            stage.offer(&list);
            let error = backend.refresh_catalog().await.expect_err(name);
            assert!(matches!(error, Error::CatalogRefused { .. }), "{name}: {error}");
            assert!(error.to_string().contains("catalog.json"), "{name}: it says which list: {error}");
            assert_eq!(fs::read(stage.file()).expect("there"), before, "{name}");
        }
        let too_long = with("notes", json!(["x".repeat(1 << 20)]));
        stage.offer(&list(&[too_long]));
        let error = backend.refresh_catalog().await.expect_err("it has a bound");
        assert!(matches!(error, Error::Hub { kind: HubFailure::Protocol, .. }), "{error}");
        stage.server.act("catalog.json", 1, Act::Status(404, vec![]));
        let error = backend.refresh_catalog().await.expect_err("it is gone");
        assert!(matches!(error, Error::Hub { kind: HubFailure::Missing, .. }), "{error}");
        stage.server.act("catalog.json", 1, Act::Redirect("http://lists.invalid/x".into()));
        let error = backend.refresh_catalog().await.expect_err("it leads away from this machine");
        assert!(matches!(error, Error::Hub { kind: HubFailure::Insecure, .. }), "{error}");
        assert_eq!(others(&backend), ["tiny-talker"]);
    });
}

#[test]
fn an_address_is_set_by_the_user_and_has_to_be_safe() {
    let stage = Stage::new();
    stage.save(None);
    online(async {
        let backend = stage.open();
        assert_eq!(backend.refresh_catalog().await, Err(Error::CatalogUnset));
        let settings = backend.models().network();
        for address in
            ["http://lists.example/catalog.json", "file:///etc/passwd", "https://u:p@lists.example", "x"]
        {
            let network = NetworkSettings { catalog: Some(address.into()), ..settings.clone() };
            let refused = backend.set_network(network).await.expect_err(address);
            assert!(matches!(refused, Error::Hub { kind: HubFailure::Insecure, .. }), "{refused}");
        }
        assert_eq!(backend.models().network(), settings);
        let offline = NetworkSettings { catalog: Some(stage.address()), offline: true, ..settings };
        backend.set_network(offline).await.expect("set");
        let error = backend.refresh_catalog().await.expect_err("nothing leaves");
        assert!(matches!(error, Error::Hub { kind: HubFailure::Offline, .. }), "{error}");
    });
    assert!(stage.server.take_seen().is_empty());
}

#[test]
fn the_access_token_does_not_go_to_the_server_of_a_list() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let token = backend.access_token();
        token.set("hf_canary_of_a_token", backend::TokenKeeping::ThisRun).await.expect("kept");
        stage.server.take_seen();
        backend.refresh_catalog().await.expect("it comes");
    });
    let seen = stage.server.take_seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_damaged_list_on_the_disk_is_told_of_and_the_catalogue_is_used() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        backend.refresh_catalog().await.expect("it comes");
        let text = fs::read_to_string(stage.file()).expect("there");
        for damaged in [text[..text.len() / 2].to_owned(), text.replace(COMMIT, "main"), String::new()] {
            fs::write(stage.file(), damaged).expect("written");
            let library = backend.library();
            let error = library.refreshed().expect_err("it is damaged").to_string();
            assert!(error.contains("catalog.json"), "{error}");
            assert_eq!(others(&backend), Vec::<String>::new());
            assert_eq!(listed(&backend).len(), Catalog::built_in().entries().len());
        }
        backend.refresh_catalog().await.expect("another one comes");
        assert_eq!(others(&backend), ["tiny-talker"]);
    });
}
