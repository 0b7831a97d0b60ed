//! `hearth models prepare` and what `hearth doctor` tells of it.
#![allow(dead_code, reason = "the support serves other test files too")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Hearth, Ran, copy_of, ember};

/// The tiny sibling of the built-in model.
fn tiny() -> PathBuf {
    ember().join("../../crates/engine/tests/data/tiny")
}

fn prepare(hearth: &Hearth, folder: &Path, more: &[&str]) -> Ran {
    let folder = folder.to_str().expect("a path in UTF-8");
    hearth.run([&["models", "prepare", folder, "--threads", "1"], more].concat())
}

fn doctor(hearth: &Hearth, folder: &Path) -> Value {
    let folder = folder.to_str().expect("a path in UTF-8");
    let ran = hearth.run(["doctor", "--json", "--model", folder, "--threads", "1"]).succeeded();
    ran.lines().remove(0)
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

#[test]
fn every_pass_is_told_in_json_and_doctor_shows_what_runs() {
    let (hearth, (_parent, folder)) = (Hearth::new(), copy_of(&tiny()));
    let before = doctor(&hearth, &folder);
    assert_eq!(before["graph"], "model.onnx");
    assert!(before["graph_choice"].as_str().unwrap().contains("never prepared"), "{before}");
    let ran = prepare(&hearth, &folder, &["--json"]).succeeded();
    let lines = ran.lines();
    let of_type = |kind: &str| -> Vec<&Value> { lines.iter().filter(|line| line["type"] == kind).collect() };
    let (progress, passes) = (of_type("preparing"), of_type("pass"));
    assert_eq!(progress[0]["step"], "reading");
    assert!(progress.iter().enumerate().all(|(place, line)| line["done"] == place), "{}", ran.stdout);
    let names: Vec<&str> = passes.iter().map(|line| line["name"].as_str().expect("a name")).collect();
    assert_eq!(names[..2], ["last_token", "attention"]);
    let last_token = passes[0];
    assert_eq!(last_token["verdict"], "accepted", "{last_token}");
    assert_eq!(last_token["comparison"]["sameChoices"], last_token["comparison"]["steps"]);
    let end = lines.last().expect("there is a line");
    assert_eq!(end["type"], "prepared");
    for path in ["/measurement/speedup", "/measurement/original/decode", "/self_test/symmetric", "/seconds"] {
        assert!(end.pointer(path).is_some_and(|figure| figure.as_f64() > Some(0.0)), "{path}: {end}");
    }
    let after = doctor(&hearth, &folder);
    assert_eq!(after["preparation"]["run"], end["run"]);
    let is_faster = end["run"].get("prepared").is_some();
    assert_eq!(after["graph"], if is_faster { "model.hearth.onnx" } else { "model.onnx" });
    let again = prepare(&hearth, &folder, &["--json"]).succeeded();
    assert!(!again.stdout.contains("\"preparing\""), "it is done already: {}", again.stdout);
    assert_eq!(again.lines().pop(), lines.last().cloned());
    let forced = prepare(&hearth, &folder, &["--json", "--force"]).succeeded();
    assert!(forced.stdout.contains("\"preparing\""), "{}", forced.stdout);
}

#[test]
fn people_read_a_line_for_each_pass_the_speed_and_the_result() {
    let (hearth, (_parent, folder)) = (Hearth::new(), copy_of(&tiny()));
    let ran = prepare(&hearth, &folder, &[]).succeeded();
    assert_eq!(ran.stderr, "", "stderr is no terminal");
    let begins = |line: &str, words: &str| {
        assert!(line.starts_with(words), "{words}: {}", ran.stdout);
    };
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.contains(&"accuracy        unchanged: it has no 4-bit products"), "{}", ran.stdout);
    begins(
        lines[0],
        "last token      `/lm_head/MatMul` computes the logits of the last position only; accepted: ",
    );
    begins(lines[lines.len() - 3], "speed           reads ");
    begins(lines[lines.len() - 1], "result ");
    let text =
        hearth.run(["doctor", "--model", folder.to_str().unwrap(), "--threads", "1"]).succeeded().stdout;
    assert!(lines.iter().all(|line| text.contains(line)), "doctor shows the same: {text}");
}

#[test]
fn what_cannot_be_prepared_is_said_by_code_and_exit_code() {
    let hearth = Hearth::new();
    let code_of = |ran: &Ran| ran.lines().pop().expect("there is an error")["code"].clone();
    let ran = hearth.run(["models", "prepare", "ember", "--json"]);
    assert_eq!((ran.code, code_of(&ran)), (Some(2), "wrong_usage".into()), "{}", ran.stdout);
    assert!(!ember().join("prepared.json").exists(), "the built-in model stays as it comes");
    let ran = hearth.run(["models", "prepare", "/no/such/folder", "--json"]);
    assert_eq!((ran.code, code_of(&ran)), (Some(1), "model_missing".into()), "{}", ran.stdout);
    assert_eq!(hearth.run(["models", "prepare"]).code, Some(2), "a model must be named");
    let (_parent, folder) = copy_of(&tiny());
    std::fs::write(folder.join("model.onnx"), b"no graph").expect("written");
    let ran = prepare(&hearth, &folder, &["--json"]);
    assert_eq!((ran.code, code_of(&ran)), (Some(1), "model_broken".into()), "{}", ran.stdout);
    assert!(!folder.join("prepared.json").exists());
}

/// Runs the preparation where no file may grow beyond two kilobytes. `before` is said to the shell.
#[cfg(unix)]
fn prepare_without_space(hearth: &Hearth, folder: &Path, before: &str) -> Ran {
    let program = hearth.command();
    let script = format!("{before}\nulimit -f 4\nexec \"$0\" models prepare \"$1\" --json --threads 1");
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &script]).arg(program.get_program()).arg(folder);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Ran::of(shell.output().expect("the shell starts"))
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_leaves_the_folder_as_it_was() {
    let (hearth, (_parent, folder)) = (Hearth::new(), copy_of(&tiny()));
    let before = names(&folder);
    // Without its signal the limit is an error of writing, as a full disk is.
    let ran = prepare_without_space(&hearth, &folder, "trap '' XFSZ");
    let error = ran.lines().pop().expect("there is an error");
    assert_eq!((ran.code, &error["code"]), (Some(1), &"disk_full".into()), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(names(&folder), before);
}

#[cfg(unix)]
#[test]
fn a_killed_preparation_is_cleaned_up_by_the_next_start() {
    let (hearth, (_parent, folder)) = (Hearth::new(), copy_of(&tiny()));
    let before = names(&folder);
    let ran = prepare_without_space(&hearth, &folder, "");
    assert_eq!(ran.code, None, "the signal of the limit ends it: {}{}", ran.stdout, ran.stderr);
    assert_ne!(names(&folder), before, "it was in the middle of writing");
    doctor(&hearth, &folder);
    assert_eq!(names(&folder), before);
}
