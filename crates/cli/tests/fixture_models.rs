//! Each form of model that exporters make, in the terminal: `hearth models add` to an answer.

#[path = "../../backend/tests/support/hub.rs"]
mod server;
mod support;

use std::path::Path;

use serde_json::Value;
use server::HubServer;
use support::{Hearth, Ran, fixtures};

/// A hub with one model, and the program that asks it.
struct Place {
    hearth: Hearth,
    server: HubServer,
}

impl Place {
    fn new(model: &Path) -> Self {
        let server = HubServer::start();
        server.store_folder("someone/story", model);
        Self { hearth: Hearth::new(), server }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.hearth.command();
        command.args(arguments).args(["--json", "--threads", "1"]).env("HF_ENDPOINT", self.server.endpoint());
        for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"] {
            command.env_remove(variable);
        }
        Ran::of(command.output().expect("the program starts")).succeeded()
    }

    /// The ids behind the prompt of `case`, and those that a plain loop over the graph gave.
    fn continues(&self, case: &Value) -> [Vec<String>; 2] {
        let texts = |ids: &Value| ids.as_array().expect("ids").iter().map(Value::to_string).collect();
        let (prompt, expected): (Vec<String>, Vec<String>) =
            (texts(&case["prompt_ids"]), texts(&case["greedy_ids"]));
        let (prompt, most) = (prompt.join(","), expected.len().to_string());
        let ran = self.run(&[
            "complete",
            "--model",
            "story-model",
            "--temperature",
            "0",
            "--prompt-ids",
            &prompt,
            "--max-tokens",
            &most,
        ]);
        [texts(&ran.finish()["token_ids"]), expected]
    }
}

/// Whether what runs after the preparation is told, with a reason wherever something was not done.
fn assert_told(form: &str, lines: &[Value]) {
    let passes: Vec<&Value> = lines.iter().filter(|line| line["type"] == "pass").collect();
    assert!(!passes.is_empty(), "{form}: {lines:?}");
    for pass in passes {
        let verdict = pass["verdict"].as_str().expect("a verdict");
        assert_ne!(verdict, "failed", "{form}: {pass}");
        assert!(verdict != "refused" || pass["reason"].as_str().is_some_and(|why| !why.is_empty()), "{pass}");
    }
    let end = lines.iter().find(|line| line["type"] == "prepared").expect("it says what came of it");
    let why = end["run"]["original"]["reason"].as_str();
    assert!(end["run"].get("prepared").is_some() || why.is_some_and(|why| !why.is_empty()), "{form}: {end}");
}

#[test]
fn every_form_comes_from_a_hub_gives_its_golden_ids_is_prepared_and_answers() {
    let Some(fixtures) = fixtures() else { return };
    let mut folders: Vec<_> = std::fs::read_dir(fixtures.join("models"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 10);
    for folder in folders {
        let form = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).expect("there")).expect("JSON");
        let cases = golden["cases"].as_array().expect("cases");
        let place = Place::new(&folder);
        place.run(&["models", "add", "someone/story", "--no-prepare"]);
        // As it came: f32 and f16 compute the same wherever they run, fewer bits round by the kernel that is chosen.
        let is_exact = ["f32", "f16", "bare"].iter().any(|end| form.ends_with(end));
        for case in cases {
            let [found, expected] = place.continues(case);
            assert!(!is_exact || found == expected, "{form} as it came: {found:?}, not {expected:?}");
            assert!(!found.is_empty(), "{form}");
        }
        assert_told(&form, &place.run(&["models", "prepare", "story-model"]).lines());
        place.run(&["models", "verify", "story-model"]);
        let is_exact = ["f32", "bare"].iter().any(|end| form.ends_with(end));
        let [found, expected] = place.continues(&cases[0]);
        assert!(!is_exact || found == expected, "{form} prepared: {found:?}, not {expected:?}");
        let chat = ["chat", "--model", "story-model", "--max-tokens", "8", "--prompt", "Once upon a time"];
        let reply = place.run(&chat).finish();
        assert!(reply["token_ids"].as_array().is_some_and(|ids| !ids.is_empty()), "{form}: {reply}");
    }
}
