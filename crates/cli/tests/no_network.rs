//! Nothing goes out unless somebody asks for it: all that fetches nothing is run where there is no network, and the
//! system's own count of what was sent, or could not be, stays where it was.
#![cfg(target_os = "linux")]

#[path = "../../backend/tests/support/namespaces.rs"]
mod namespaces;
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Hearth, Ran, copy_of, ember};

/// Set for the program that runs without a network.
const INSIDE: &str = "HEARTH_WITHOUT_NETWORK";
/// An address of nobody (RFC 5737). It needs no name to be looked up.
const NOBODY: &str = "https://192.0.2.1";
/// What says in the environment whom to ask.
const VARIABLES: [&str; 9] = [
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "https_proxy",
    "all_proxy",
];

/// How often any program of this network sent something, or tried to and found no way: connections and packets of
/// every kind, of both versions of the protocol, as the kernel counts them.
fn attempts() -> u64 {
    const COUNTED: [&str; 4] = ["Ip OutRequests", "Ip OutNoRoutes", "Tcp ActiveOpens", "Udp OutDatagrams"];
    let text = fs::read_to_string("/proc/net/snmp").expect("Linux counts them");
    let mut found = 0;
    let mut sum = 0;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let (Some((protocol, names)), Some((_, numbers))) =
            (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        for (name, number) in names.split_whitespace().zip(numbers.split_whitespace()) {
            if COUNTED.contains(&format!("{protocol} {name}").as_str()) {
                found += 1;
                sum += number.parse::<u64>().expect("a count");
            }
        }
    }
    assert_eq!(found, COUNTED.len(), "each is counted: {text}");
    let newer = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let counted = newer.lines().filter_map(|line| {
        let (name, number) = line.split_once(char::is_whitespace)?;
        matches!(name, "Ip6OutRequests" | "Ip6OutNoRoutes" | "Udp6OutDatagrams").then_some(number.trim())
    });
    sum + counted.map(|number| number.parse::<u64>().expect("a count")).sum::<u64>()
}

#[test]
fn all_that_fetches_nothing_works_without_a_network_and_asks_for_none() {
    let Some(mut command) = namespaces::in_namespaces(&["--net"]) else { return };
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "the_program_without_a_network", "--nocapture"]).env(INSIDE, "1");
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// No test by itself: what the other one starts.
#[test]
fn the_program_without_a_network() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let hearth = Hearth::new();
    let before = attempts();
    talks(&hearth);
    keeps_models(&hearth);
    keeps_conversations(&hearth);
    measures(&hearth);
    assert_eq!(attempts(), before, "somebody was asked");
    let ledger = hearth.data.path().join("network.jsonl");
    assert!(!ledger.exists(), "and nothing was noted: {:?}", fs::read_to_string(&ledger));

    // The same eyes see a request that is asked for, and the switch that forbids it.
    let search = |variable: &str, value: &str| {
        let mut command = hearth.command();
        command.args(["models", "search", "ember", "--json"]).env("HF_ENDPOINT", NOBODY);
        let ran = Ran::of(command.env(variable, value).output().expect("the program starts"));
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        ran.lines().pop().expect("there is an error")["code"].clone()
    };
    assert_eq!(search("HF_HUB_OFFLINE", "1"), "offline");
    assert_eq!(attempts(), before, "offline means that no connection is tried");
    assert!(!ledger.exists());
    assert_eq!(search("HF_HUB_OFFLINE", "0"), "unreachable");
    assert!(attempts() > before, "a request would have been seen");
    let noted = fs::read_to_string(&ledger).expect("it is noted");
    assert!(noted.contains("192.0.2.1"), "{noted}");
}

#[track_caller]
fn run(hearth: &Hearth, arguments: &[&str]) -> Vec<Value> {
    hearth.run(arguments.iter().chain(&["--json", "--threads", "1"])).succeeded().lines()
}

fn talks(hearth: &Hearth) {
    run(hearth, &["chat", "--prompt", "What is Hearth?", "--max-tokens", "8"]);
    run(hearth, &["chat", "--private", "--prompt", "Nobody keeps this.", "--max-tokens", "8"]);
    let turns = hearth.run_with_input(&["chat", "--json", "--max-tokens", "8"], b"Hello\nAnd then?\n");
    assert_eq!(turns.succeeded().lines().iter().filter(|line| line["type"] == "finish").count(), 2);
    run(hearth, &["complete", "--prompt", "Hearth is", "--max-tokens", "4"]);
    run(hearth, &["embed", "one text", "another text"]);
}

fn keeps_models(hearth: &Hearth) {
    let tiny = ember().join("../../crates/engine/tests/data/tiny");
    let (_parent, folder) = copy_of(&tiny.canonicalize().expect("the tiny model"));
    let folder = folder.to_str().expect("a path in UTF-8");
    run(hearth, &["models", "list"]);
    assert!(run(hearth, &["models", "list", "--available"]).len() >= 8);
    run(hearth, &["models", "show", "ember"]);
    run(hearth, &["models", "show", "qwen3-0.6b-cpu-int4"]);
    run(hearth, &["models", "import", folder, "--name", "mine"]);
    run(hearth, &["models", "import", folder, "--name", "linked", "--link"]);
    run(hearth, &["models", "verify", "mine"]);
    run(hearth, &["models", "prepare", "mine"]);
    run(hearth, &["models", "show", "mine"]);
    run(hearth, &["chat", "--model", "mine", "--prompt", "Hello", "--max-tokens", "4"]);
    // What came from a folder is mended there; nobody is asked for it.
    let repair = hearth.run(["models", "repair", "mine", "--json"]);
    assert_eq!(repair.lines().pop().expect("it says why")["code"], "unsupported");
    run(hearth, &["models", "remove", "mine"]);
    run(hearth, &["models", "remove", "linked"]);
    assert!(Path::new(folder).join("model.onnx").is_file());
}

fn keeps_conversations(hearth: &Hearth) {
    let listed = run(hearth, &["conversations", "list"]);
    let id = listed[0]["id"].as_str().expect("an id");
    run(hearth, &["conversations", "show", id]);
    run(hearth, &["conversations", "search", "hearth"]);
    hearth.run(["conversations", "export", id]).succeeded();
    let all = hearth.data.path().join("all.json");
    let all = all.to_str().expect("a path in UTF-8");
    hearth.run(["conversations", "export", "--all", "--json", "--output", all]).succeeded();
    let other = Hearth::new();
    run(&other, &["conversations", "import", all]);
    assert_eq!(run(&other, &["conversations", "list"]).len(), listed.len());
    assert!(!other.data.path().join("network.jsonl").exists());
}

fn measures(hearth: &Hearth) {
    run(hearth, &["doctor"]);
    run(hearth, &["bench", "--prompt", "16", "--new", "4", "--depth", "0"]);
}
