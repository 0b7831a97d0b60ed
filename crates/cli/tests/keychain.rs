//! `hearth models token` with a keychain: on Linux the Secret Service, one of this test's own.
#![cfg(target_os = "linux")]

#[path = "support/secret_service.rs"]
mod secret_service;
#[path = "../../backend/tests/support/hub.rs"]
mod server;
mod support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use secret_service::SecretService;
use serde_json::{Value, json};
use server::HubServer;
use support::{Hearth, Ran, ember};

const REPOSITORY: &str = "someone/ember-copy";
const TOKEN: &str = "hf_canaryCanaryCanaryCanary4711";

/// A hub with a gated Ember, the program, and the keychain that it finds.
struct Place {
    hearth: Hearth,
    server: HubServer,
    keychain: SecretService,
}

impl Place {
    fn new() -> Option<Self> {
        let keychain = SecretService::start()?;
        let server = HubServer::start();
        let files = [
            "model.onnx",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        .map(|name| (name, fs::read(ember().join(name)).expect("part of Ember")));
        server.store(REPOSITORY, &files);
        server.change(REPOSITORY, |repository| repository.gated = true);
        server.accept_token(TOKEN);
        Some(Self { hearth: Hearth::new(), server, keychain })
    }

    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.hearth.command();
        command
            .args(arguments)
            .arg("--json")
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("DBUS_SESSION_BUS_ADDRESS", self.keychain.address())
            .env("RUST_LOG", "trace")
            .stdin(Stdio::piped());
        for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"] {
            command.env_remove(variable);
        }
        let mut program = command.spawn().expect("the program starts");
        let mut stdin = program.stdin.take().expect("stdin is a pipe");
        // A command that reads nothing may have ended.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        let ran = Ran::of(program.wait_with_output().expect("the program ends"));
        assert!(!ran.stdout.contains("canary") && !ran.stderr.contains("canary"), "not in any log either");
        ran
    }
}

fn last(ran: &Ran) -> Value {
    ran.lines().pop().expect("there is a line")
}

#[test]
fn a_token_is_kept_between_runs_opens_a_gated_repository_and_is_removed() {
    let Some(place) = Place::new() else { return };
    let set = json!({"type": "token", "set": true, "last_four": "4711"});
    let unset = json!({"type": "token", "set": false, "last_four": null});
    assert_eq!(last(&place.run(&["models", "token", "show"], "").succeeded()), unset);
    let add = ["models", "add", REPOSITORY, "--no-prepare"];
    assert_eq!(last(&place.run(&add, ""))["code"], "gated");

    assert_eq!(last(&place.run(&["models", "token", "set"], &format!("{TOKEN}\n")).succeeded()), set);
    let attributes = place.keychain.attributes().expect("the keychain has it");
    assert_eq!(attributes["service"], "Hearth");
    assert_eq!(last(&place.run(&["models", "token", "show"], "").succeeded()), set);
    let settings = fs::read_to_string(place.hearth.data.path().join("settings.json")).expect("there");
    assert!(settings.contains("\"keychain\"") && !settings.contains("canary"), "{settings}");

    place.server.take_seen();
    assert_eq!(last(&place.run(&add, "").succeeded())["type"], "installed");
    let seen = place.server.take_seen();
    let bearer = format!("Bearer {TOKEN}");
    assert!(seen.iter().any(|seen| seen.header("authorization") == Some(&bearer)));
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none() || !seen.at_files));

    let other = json!({"type": "token", "set": true, "last_four": "9999"});
    assert_eq!(last(&place.run(&["models", "token", "set"], "hf_another_token_9999").succeeded()), other);
    assert_eq!(last(&place.run(&["models", "token", "remove"], "").succeeded()), unset);
    assert_eq!(place.keychain.attributes(), None, "the keychain has nothing of it");
    assert_eq!(last(&place.run(&["models", "token", "show"], "").succeeded()), unset);
}
