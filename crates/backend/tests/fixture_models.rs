//! Each form of model that exporters make, from a hub to an answer: fetched, checked, verified, prepared in ONNX
//! Runtime for this machine, and answering.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/ember.rs"]
mod ember;
#[path = "support/hub.rs"]
mod server;
mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};

use backend::hub::{NetworkSettings, RepositoryId};
use backend::{
    AppDirs, Backend, CancellationToken, GraphChoice, GraphToRun, Inference, ModelStore, ReplyOptions,
    ReplyStatus, Request, Sampling, Settings, TokenId, Update, Verdict,
};
use downloads::{REPOSITORY, online};
use serde_json::Value;
use server::{COMMIT, HubServer};
use support::fixtures;
use tempfile::TempDir;

/// The forms, and whether their golden ids must come of the prepared graph too. 4- and 8-bit products and f16 may
/// choose another token of two that are nearly as likely, where another kernel computes them.
const FORMS: [(&str, bool); 10] = [
    ("concat-f32", true),
    ("concat-f16", false),
    ("concat-q4", false),
    ("concat-int8", false),
    ("concat-bare", true),
    ("concat16-f32", true),
    ("concat16-q4", false),
    ("gqa-f32", true),
    ("gqa-q4", false),
    ("gqa-q4-pruned", false),
];

/// A hub with one model, and an application in ONNX Runtime that asks it.
struct Stage {
    backend: Backend,
    inference: Inference,
    directories: AppDirs,
    _server: HubServer,
    _data: TempDir,
}

impl Stage {
    fn new(model: &Path) -> Self {
        let server = HubServer::start();
        server.store_folder(REPOSITORY, model);
        let data = tempfile::tempdir().expect("a folder");
        let mirror = Some(server.endpoint());
        let network = NetworkSettings { mirror, ..NetworkSettings::default() };
        // One thread, as the golden ids were made with.
        let settings = Settings { network, threads: Some(1), ..Settings::default() };
        settings.save(&data.path().join("settings.json")).expect("saved");
        let directories = AppDirs {
            data: data.path().to_path_buf(),
            resources: Vec::new(),
            libraries: vec![tiny::library()],
        };
        let inference = Inference::start();
        let backend = Backend::open_with(directories.clone(), inference.clone());
        Self { backend, inference, directories, _server: server, _data: data }
    }

    /// Fetches the model and returns its id.
    async fn install(&self) -> String {
        let repository = RepositoryId::parse(REPOSITORY).expect("an id");
        let downloads = self.backend.downloads();
        let id = downloads.start_variant(&repository, COMMIT, "model").await.expect("it can run here");
        let mut changes = self.backend.changes();
        while !downloads.list().is_empty() {
            let list = downloads.list();
            assert!(!format!("{list:?}").contains("Failed"), "{list:?}");
            changes.recv().await.ok();
        }
        id
    }

    fn assert_every_byte_is_right(&self, id: &str) {
        let store = ModelStore::new(&self.directories);
        let model = store.find(id).expect("installed");
        let checked =
            store.verify(&model, &CancellationToken::new(), &mut |_| {}).expect("it has a manifest");
        let checked = checked.expect("not stopped");
        assert!(checked.iter().all(|file| file.state.is_right()), "{checked:?}");
    }

    /// The likeliest tokens behind `prompt`.
    async fn continues(&self, prompt: Vec<TokenId>, new: usize) -> Vec<TokenId> {
        let mut running = self.inference.generate(Request {
            prompt,
            continued: 0,
            sampling: Sampling::default(),
            max_new_tokens: new,
            stop: Vec::new(),
            ignore_end_of_turn: false,
        });
        loop {
            if let Update::Finished(finish) = running.next().await.expect("it answers") {
                return finish.tokens;
            }
        }
    }
}

/// Prompts and what the likeliest tokens behind them are, by a plain loop over the graph.
fn golden(folder: &Path) -> Vec<(Vec<TokenId>, Vec<TokenId>)> {
    let text = std::fs::read(folder.join("golden.json")).expect("golden ids");
    let golden: Value = serde_json::from_slice(&text).expect("JSON");
    let ids = |case: &Value, name: &str| serde_json::from_value(case[name].clone()).expect("ids");
    let cases = golden["cases"].as_array().expect("cases");
    cases.iter().map(|case| (ids(case, "prompt_ids"), ids(case, "greedy_ids"))).collect()
}

/// Installs the model in `folder` from a hub and lets it answer; returns what runs.
async fn comes_and_answers(folder: &Path, golden: &[(Vec<TokenId>, Vec<TokenId>)], is_exact: bool) -> Stage {
    let name = folder.display();
    let stage = Stage::new(folder);
    let id = stage.install().await;
    stage.assert_every_byte_is_right(&id);
    let ready = stage.backend.select_model(&id).await.expect("it loads");
    let prepared = ready.about.prepared.as_deref().unwrap_or_else(|| panic!("{name}: it was prepared"));
    for pass in &prepared.passes {
        assert!(!matches!(pass.verdict, Verdict::Failed(_)), "{name}: {}: {}", pass.name, pass.verdict);
        assert!(!pass.verdict.to_string().is_empty() && !pass.did.is_empty(), "{name}: {}", pass.name);
    }
    match (&ready.about.graph_choice, &prepared.run) {
        (GraphChoice::Prepared, GraphToRun::Prepared(_)) => {}
        (GraphChoice::Original { .. }, GraphToRun::Original { reason }) => {
            assert!(!reason.is_empty(), "{name} says why it runs as it came");
        }
        (choice, run) => panic!("{name}: {choice} runs in the place of {run}"),
    }
    // What was added beside the files that came is no damage to them.
    stage.assert_every_byte_is_right(&id);
    for (prompt, expected) in golden {
        let found = stage.continues(prompt.clone(), expected.len()).await;
        if is_exact {
            assert_eq!(&found, expected, "{name} goes on as a plain loop over its graph does");
        }
        assert!(!found.is_empty() && found.len() <= expected.len(), "{name}: {found:?}");
    }
    let chat = stage.backend.chat();
    let options = ReplyOptions { max_tokens: Some(12), temperature: Some(0.0), ..ReplyOptions::default() };
    let reply = chat.send(chat.current(), "Once upon a time".into(), options, |_| {}).await.expect("sent");
    assert!(matches!(reply.status, ReplyStatus::Finished(_)), "{name}: {:?}", reply.status);
    assert!(!reply.tokens.is_empty(), "{name} answers in a conversation");
    stage
}

#[test]
fn every_form_of_a_real_model_comes_from_a_hub_is_prepared_and_answers() {
    let Some(fixtures) = fixtures() else { return };
    let models: PathBuf = fixtures.join("models");
    let there = std::fs::read_dir(&models).expect("listed").count();
    assert_eq!(there, FORMS.len(), "each form of the fixtures is tried");
    for (form, is_exact) in FORMS {
        let folder = models.join(form);
        let golden = golden(&folder);
        assert!(!golden.is_empty(), "{form}");
        online(comes_and_answers(&folder, &golden, is_exact));
    }
}

#[test]
fn the_built_in_model_comes_from_a_hub_like_any_other() {
    online(async {
        let stage = comes_and_answers(&ember::ember(), &[], false).await;
        let model = stage.backend.models().selected_model().expect("chosen");
        assert_eq!(model.name, "small-model (model)", "what came from a hub is called as it was there");
    });
}
