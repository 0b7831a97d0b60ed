//! `hearth models` over a hub on this machine: fetching, checking, repairing, importing.

#[path = "../../backend/tests/support/ember.rs"]
mod ember;
#[path = "../../backend/tests/support/hub.rs"]
mod server;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use ember::{ember, ember_files};
use serde_json::Value;
use server::{Act, COMMIT, HubServer};
use support::{Hearth, Ran, copy_of};

const REPOSITORY: &str = "someone/ember-copy";

/// A hub that has Ember, and the program that asks it.
struct Place {
    hearth: Hearth,
    server: HubServer,
}

impl Place {
    fn new() -> Self {
        let server = HubServer::start();
        server.store(REPOSITORY, &ember_files());
        server.change(REPOSITORY, |repository| repository.licence = Some("apache-2.0"));
        Self { hearth: Hearth::new(), server }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.hearth.command();
        command.args(arguments).env("HF_ENDPOINT", self.server.endpoint());
        for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the program to its end. Models are left as they came: what a preparation does is tested elsewhere.
    fn run(&self, arguments: &[&str]) -> Ran {
        let leave: &[&str] = if arguments.starts_with(&["models", "add"]) { &["--no-prepare"] } else { &[] };
        self.run_as_it_is(&[arguments, leave].concat())
    }

    fn run_as_it_is(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("the program starts"))
    }
}

#[track_caller]
fn last(ran: &Ran) -> Value {
    ran.lines().pop().unwrap_or_else(|| panic!("there is a line: {}", ran.stderr))
}

#[test]
fn a_model_of_any_repository_is_fetched_and_answers() {
    let place = Place::new();
    let ran = place.run(&["models", "add", REPOSITORY, "--json"]).succeeded();
    let lines = ran.lines();
    let notice = lines.iter().find(|line| line["code"] == "not_in_catalog").expect("it warns once");
    assert!(notice["message"].as_str().expect("text").contains("apache-2.0"), "{notice}");
    let installed = last(&ran);
    assert_eq!((&installed["type"], &installed["id"]), (&"installed".into(), &"ember-copy-model".into()));
    let progress: Vec<_> = lines.iter().filter(|line| line["type"] == "progress").collect();
    assert_eq!(progress.last().expect("progress is told")["phase"], "installing");

    let arguments = ["chat", "--json", "--prompt", "What is Hearth?", "--temperature", "0"];
    let theirs = place.run(&[&arguments[..], &["--model", "ember-copy-model"]].concat()).succeeded().finish();
    let own = place.run(&arguments).succeeded().finish();
    assert_eq!(theirs["token_ids"], own["token_ids"], "it is the same model");
    let again = place.run(&["models", "add", REPOSITORY]).succeeded();
    assert!(again.stdout.contains("is installed in"), "{}", again.stdout);
}

#[test]
fn a_model_that_was_fetched_is_prepared_and_still_verifies() {
    let place = Place::new();
    let ran = place.run_as_it_is(&["models", "add", REPOSITORY, "--json", "--threads", "1"]).succeeded();
    assert!(ran.lines().iter().any(|line| line["type"] == "prepared"), "{}", ran.stdout);
    assert_eq!(last(&ran)["type"], "installed");
    place.run(&["models", "verify", "ember-copy-model"]).succeeded();
}

#[test]
fn damage_is_found_and_repaired_and_a_model_can_be_removed() {
    let place = Place::new();
    place.run(&["models", "add", REPOSITORY]).succeeded();
    place.run(&["models", "verify", "ember-copy-model"]).succeeded();
    let folder = place.hearth.data.path().join(format!("models/ember-copy-model@{}", &COMMIT[..12]));
    let mut graph = fs::read(folder.join("model.onnx")).expect("there");
    let middle = graph.len() / 2;
    graph[middle] ^= 1;
    fs::write(folder.join("model.onnx"), graph).expect("written");
    let ran = place.run(&["models", "verify", "ember-copy-model", "--json"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(last(&ran)["code"], "model_damaged");
    let states: Vec<_> =
        ran.lines().into_iter().filter(|line| line["type"] == "file" && line["state"] != "right").collect();
    let [wrong] = states.as_slice() else { panic!("one file is wrong: {states:?}") };
    assert_eq!((&wrong["path"], &wrong["state"]), (&"model.onnx".into(), &"wrongBytes".into()));
    let plain = place.run(&["models", "verify", "ember-copy-model"]).stdout;
    assert!(plain.contains("model.onnx: it has other bytes\n"), "{plain}");
    place.server.take_seen();
    let repaired = last(&place.run(&["models", "repair", "ember-copy-model", "--json"]).succeeded());
    assert_eq!(repaired["type"], "repaired");
    assert!(place.server.take_seen().iter().all(|seen| seen.target.contains("model.onnx")));
    place.run(&["models", "verify", "ember-copy-model"]).succeeded();
    let shown = place.run(&["models", "show", "ember-copy-model"]).succeeded().stdout;
    assert!(shown.contains(REPOSITORY) && shown.contains(COMMIT) && shown.contains("sha256:"), "{shown}");
    place.run(&["models", "remove", "ember-copy-model"]).succeeded();
    assert!(!folder.exists());
    let ran = place.run(&["models", "remove", "ember", "--json"]);
    assert_eq!((ran.code, &last(&ran)["code"]), (Some(1), &"unsupported".into()), "built in");
}

#[cfg(unix)]
#[test]
fn ctrl_c_pauses_a_download_and_the_next_add_goes_on() {
    let place = Place::new();
    place.server.act("model.onnx", 1, Act::CutAfter(100_000));
    place.server.act("model.onnx", 1, Act::Silent);
    let mut program = place.command(&["models", "add", REPOSITORY, "--json"]).spawn().expect("it starts");
    let lines = BufReader::new(program.stdout.take().expect("stdout is a pipe")).lines();
    let mut last = Value::Null;
    for line in lines {
        last = serde_json::from_str(&line.expect("a line")).expect("JSON");
        if last["phase"] == "waiting" {
            let id = program.id().to_string();
            assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
        }
    }
    assert_eq!(last["type"], "paused", "{last}");
    assert_eq!(program.wait().expect("it ends").code(), Some(0));
    let listed = place.run(&["models", "list", "--json"]).succeeded();
    let begun = listed.lines().into_iter().find(|line| line["type"] == "unfinished").expect("it is listed");
    assert!(begun["done"].as_u64().is_some_and(|done| done >= 100_000), "{begun}");
    place.server.behave();
    place.server.take_seen();
    place.run(&["models", "add", "ember-copy-model"]).succeeded();
    let seen = place.server.take_seen();
    assert!(seen.iter().any(|seen| seen.header("range") == Some("bytes=100000-")), "only the rest came");
}

#[test]
fn searches_and_repositories_are_shown() {
    let place = Place::new();
    let found = place.run(&["models", "search", "ember", "--json"]).succeeded();
    assert_eq!(last(&found)["id"], REPOSITORY);
    let shown = last(&place.run(&["models", "show", REPOSITORY, "--json"]).succeeded());
    assert_eq!((&shown["commit"], &shown["licence"]), (&COMMIT.into(), &"apache-2.0".into()));
    assert_eq!(shown["variants"][0]["fit"], "fits");
    assert_eq!(shown["variants"][0]["memory_includes_kv_cache"], true, "{shown}");
    let plain = place.run(&["models", "show", REPOSITORY]).succeeded().stdout;
    assert!(plain.contains("model.onnx"), "{plain}");
}

#[test]
fn the_catalogue_is_listed_without_the_network() {
    let place = Place::new();
    let ran = place.run(&["models", "list", "--available", "--json"]).succeeded();
    let lines = ran.lines();
    assert!(lines.len() >= 8, "{}", lines.len());
    assert!(lines.iter().all(|line| line["commit"].is_string() && line["licence"].is_string()));
    let entry = place.run(&["models", "show", "qwen3-0.6b-cpu-int4"]).succeeded().stdout;
    assert!(entry.contains("Apache-2.0") && entry.contains("computed"), "{entry}");
    assert!(place.server.take_seen().is_empty(), "nobody was asked");
}

#[test]
fn failures_have_codes_and_hints() {
    let place = Place::new();
    place
        .server
        .store("someone/safetensors", &[("model.safetensors", vec![0; 10]), ("config.json", vec![b' '])]);
    place.server.store("someone/gated", &ember_files());
    place.server.change("someone/gated", |repository| repository.gated = true);
    let cases = [
        ("no/body", "not_found"),
        ("someone/safetensors", "unsupported"),
        ("someone/gated", "gated"),
        ("../x", "refused_name"),
        ("unheard-of", "model_missing"),
    ];
    for (name, code) in cases {
        let ran = place.run(&["models", "add", name, "--json"]);
        assert_eq!((ran.code, &last(&ran)["code"]), (Some(1), &code.into()), "{name}: {}", ran.stdout);
        let plain = place.run(&["models", "add", name]);
        assert!(plain.stderr.lines().any(|line| line.starts_with("error: ")), "{name}: {}", plain.stderr);
    }
    let mut offline = place.command(&["models", "add", REPOSITORY, "--json"]);
    let ran = Ran::of(offline.env("HF_HUB_OFFLINE", "1").output().expect("it starts"));
    assert_eq!(last(&ran)["code"], "offline");
}

#[test]
fn a_gated_repository_says_what_to_do() {
    let place = Place::new();
    place.server.change(REPOSITORY, |repository| repository.gated = true);
    let ran = place.run(&["models", "add", REPOSITORY]);
    let page = format!("{}/{REPOSITORY}", place.server.endpoint());
    for words in [page.as_str(), "hearth models token set"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

/// There is no keychain: a real one belongs to whoever runs the tests.
#[cfg(target_os = "linux")]
#[test]
fn without_a_keychain_a_token_is_not_kept_and_nothing_repeats_it() {
    let place = Place::new();
    let token = "hf_canaryCanaryCanaryCanary4711";
    let run = |arguments: &[&str], input: &str| {
        let mut command = place.command(arguments);
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/at/all").stdin(Stdio::piped());
        let mut program = command.spawn().expect("the program starts");
        let mut stdin = program.stdin.take().expect("stdin is a pipe");
        // A command that reads nothing may have ended.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        Ran::of(program.wait_with_output().expect("the program ends"))
    };
    let shown = run(&["models", "token", "show", "--json"], "").succeeded();
    assert_eq!(last(&shown), serde_json::json!({"type": "token", "set": false, "last_four": null}));
    run(&["models", "token", "remove"], "").succeeded();
    let json = run(&["models", "token", "set", "--json"], token);
    assert_eq!((json.code, &last(&json)["code"]), (Some(1), &"keychain".into()), "{}", json.stderr);
    let plain = run(&["models", "token", "set"], token);
    assert!(plain.stderr.contains("keychain") && plain.stderr.contains("HF_TOKEN"), "{}", plain.stderr);
    for ran in [json, plain] {
        assert!(!ran.stdout.contains("canary") && !ran.stderr.contains("canary"));
    }
    for (input, code) in [("", "token_form"), ("two words\n", "token_form")] {
        assert_eq!(last(&run(&["models", "token", "set", "--json"], input))["code"], code);
    }
    let on_the_command_line = run(&["models", "token", "set", token], "");
    assert_eq!(on_the_command_line.code, Some(2), "a token is no argument");
    assert!(place.server.take_seen().is_empty());
    let settings = fs::read_to_string(place.hearth.data.path().join("settings.json")).unwrap_or_default();
    assert!(!settings.contains("canary") && !settings.contains("accessToken"), "{settings}");
}

#[test]
fn a_list_of_models_is_refreshed_by_command_only() {
    let place = Place::new();
    let files: Vec<Value> = ember_files()
        .iter()
        .map(|(path, bytes)| {
            serde_json::json!({"path": path, "size": bytes.len(), "sha256": server::sha256(bytes)})
        })
        .collect();
    let entry = serde_json::json!({
        "id": "tiny-talker", "title": "Tiny Talker", "repository": REPOSITORY, "commit": COMMIT, "folder": "",
        "parameters": "4M", "context": 4096, "licence": "mit", "baseModel": "someone/base",
        "baseLicence": "MIT", "hasTerms": false, "sampling": null, "kvBytesPerToken": null,
        "reportedWeightBytes": null, "notes": [], "files": files,
    });
    let list = serde_json::json!({"format": 1, "models": [entry]}).to_string();
    place.server.store("someone/lists", &[("catalog.json", list.into_bytes())]);
    let address = format!("{}/someone/lists/resolve/{COMMIT}/catalog.json", place.server.endpoint());
    let unset = place.run(&["models", "refresh", "--json"]);
    assert_eq!((unset.code, &last(&unset)["code"]), (Some(1), &"no_list".into()));
    let refused = place.run(&["models", "refresh", "http://lists.example/x", "--json"]);
    assert_eq!(last(&refused)["code"], "insecure");
    let refreshed = last(&place.run(&["models", "refresh", &address, "--json"]).succeeded());
    assert_eq!((&refreshed["type"], &refreshed["models"]), (&"refreshed".into(), &1.into()));
    place.server.take_seen();
    let shown = place.run(&["models", "list", "--available"]).succeeded().stdout;
    let line = shown.lines().find(|line| line.starts_with("tiny-talker")).expect("it is listed");
    assert!(line.contains("from 127.0.0.1, refreshed 20"), "{line}");
    assert!(place.server.take_seen().is_empty(), "a list is not refreshed by being looked at");
    let ran = place.run(&["models", "add", "tiny-talker", "--json"]).succeeded();
    assert!(ran.lines().iter().any(|line| line["code"] == "not_in_catalog"), "{}", ran.stdout);
    place.run(&["models", "verify", "tiny-talker"]).succeeded();
    place.run(&["models", "refresh", "--own"]).succeeded();
    let shown = place.run(&["models", "list", "--available"]).succeeded().stdout;
    assert!(!shown.contains("tiny-talker"), "{shown}");
}

#[test]
fn settings_name_a_mirror_and_switch_the_network_off() {
    let place = Place::new();
    let settings = place.hearth.data.path().join("settings.json");
    let write = |offline: bool| {
        let network = serde_json::json!({"mirror": place.server.endpoint(), "offline": offline});
        fs::write(&settings, serde_json::json!({"network": network}).to_string()).expect("written");
    };
    let search = || {
        let mut command = place.command(&["models", "search", "ember", "--json"]);
        Ran::of(command.env_remove("HF_ENDPOINT").output().expect("it starts"))
    };
    write(false);
    assert_eq!(last(&search().succeeded())["id"], REPOSITORY);
    write(true);
    assert_eq!(last(&search())["code"], "offline");
}

#[test]
fn a_folder_is_imported_and_answers() {
    let place = Place::new();
    let (_parent, folder) = copy_of(&ember());
    let folder = folder.to_string_lossy().into_owned();
    for (name, more) in [("copied", &[][..]), ("linked", &["--link"][..])] {
        let arguments = [&["models", "import", &folder, "--name", name][..], more].concat();
        place.run(&arguments).succeeded();
        let chat = ["chat", "--json", "--prompt", "What is Hearth?", "--max-tokens", "4", "--model", name];
        place.run(&chat).succeeded().finish();
    }
    let ran = place.run(&["models", "import", "/nowhere/at/all", "--json"]);
    assert_eq!((ran.code, &last(&ran)["code"]), (Some(1), &"library".into()));
    assert!(place.server.take_seen().is_empty(), "nobody was asked");
}
