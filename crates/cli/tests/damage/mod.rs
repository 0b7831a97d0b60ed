//! What is damaged, missing or foreign is named in a clear sentence, and the exit code is 1.

use std::path::{Path, PathBuf};

use crate::support::{Hearth, copy_of, ember, fixtures};

/// Runs a chat, a continuation and the doctor over a damaged copy of `model`, and looks at what they say.
#[track_caller]
fn check(model: &Path, damage: impl Fn(&Path), code: &str, named: &[&str]) {
    let (_parent, copy) = copy_of(model);
    damage(&copy);
    let hearth = Hearth::new();
    check_run(&hearth, &copy.to_string_lossy(), code, named);
}

#[track_caller]
fn check_run(hearth: &Hearth, model: &str, code: &str, named: &[&str]) {
    let commands: [&[&str]; 4] = [
        &["chat", "--prompt", "Hello"],
        &["complete", "--prompt", "Hello"],
        &["doctor"],
        &["bench", "--prompt", "4", "--new", "2"],
    ];
    for command in commands {
        let plain = hearth.run(command.iter().copied().chain(["--model", model]));
        assert_eq!(plain.code, Some(1), "{command:?}: {}{}", plain.stdout, plain.stderr);
        for name in named {
            assert!(plain.stderr.contains(name), "{command:?} does not name {name}: {}", plain.stderr);
        }
        let json = hearth.run(command.iter().copied().chain(["--model", model, "--json"]));
        assert_eq!(json.code, Some(1), "{command:?}: {}", json.stdout);
        let last = json.lines().pop().expect("the error is a line");
        assert_eq!(last["type"], "error", "{command:?}: {last}");
        assert_eq!(last["code"], code, "{command:?}: {last}");
        for name in named {
            assert!(
                last["message"].as_str().is_some_and(|message| message.contains(name)),
                "{command:?}: {last}"
            );
        }
    }
}

fn cut(file: PathBuf) {
    let bytes = std::fs::read(&file).expect("the file is there");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("the file is cut");
}

#[test]
fn a_tokenizer_that_was_cut_short() {
    check(&ember(), |copy| cut(copy.join("tokenizer.json")), "model_broken", &["tokenizer.json"]);
}

#[test]
fn a_tokenizer_that_was_found_damaged() {
    let Some(fixtures) = fixtures() else { return };
    let damaged = fixtures.join("tokenizers/damaged/tokenizer.json");
    let damage = |copy: &Path| {
        std::fs::copy(&damaged, copy.join("tokenizer.json")).expect("the file is copied");
    };
    check(&ember(), damage, "model_broken", &["tokenizer.json"]);
}

#[test]
fn a_tokenizer_that_is_missing() {
    let damage = |copy: &Path| std::fs::remove_file(copy.join("tokenizer.json")).expect("it was there");
    check(&ember(), damage, "model_missing", &["tokenizer.json"]);
}

#[test]
fn a_graph_that_was_cut_short() {
    check(&ember(), |copy| cut(copy.join("model.onnx")), "model_broken", &["model.onnx"]);
}

#[test]
fn a_graph_that_is_missing() {
    let damage = |copy: &Path| std::fs::remove_file(copy.join("model.onnx")).expect("it was there");
    check(&ember(), damage, "model_missing", &["model.onnx"]);
}

#[test]
fn external_data_that_is_missing() {
    let Some(fixtures) = fixtures() else { return };
    let damage = |copy: &Path| std::fs::remove_file(copy.join("model.onnx.data")).expect("it was there");
    check(&fixtures.join("models/gqa-f32"), damage, "model_broken", &["model.onnx.data"]);
}

#[test]
fn a_configuration_that_is_no_json() {
    let damage = |copy: &Path| std::fs::write(copy.join("config.json"), "{ \"a\": ").expect("it is written");
    check(&ember(), damage, "model_broken", &["config.json"]);
}

#[test]
fn a_tokenizer_of_another_model() {
    let Some(fixtures) = fixtures() else { return };
    let foreign = fixtures.join("tokenizers/gpt2/tokenizer.json");
    let damage = |copy: &Path| {
        std::fs::copy(&foreign, copy.join("tokenizer.json")).expect("the file is copied");
    };
    check(&ember(), damage, "model_broken", &["50257", "3072"]);
}

#[test]
fn a_library_that_is_missing() {
    let hearth = Hearth::with_library(Path::new("/nowhere/libonnxruntime.so"));
    check_run(&hearth, "ember", "runtime_missing", &["/nowhere/libonnxruntime.so"]);
}

#[test]
fn a_library_that_is_none() {
    let hearth = Hearth::with_library(&ember().join("config.json"));
    check_run(&hearth, "ember", "runtime_missing", &["config.json"]);
}

#[test]
fn a_model_that_is_not_there() {
    check_run(&Hearth::new(), "nobody/nothing", "model_missing", &["nobody/nothing", "ember"]);
}

#[test]
fn a_data_folder_that_is_a_file() {
    let hearth = Hearth::new();
    let file = hearth.data.path().join("file");
    std::fs::write(&file, "not a folder").expect("the file is written");
    for command in [["chat", "--prompt", "Hello"].as_slice(), &["models", "list"], &["doctor"]] {
        let ran = hearth
            .command()
            .args(command)
            .env("HEARTH_DATA_DIR", &file)
            .output()
            .expect("the program starts");
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains(&*file.to_string_lossy()), "{command:?} names the folder: {stderr}");
        assert!(stderr.contains("HEARTH_DATA_DIR"), "{command:?} says what to do: {stderr}");
    }
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"not a folder", "nothing is lost");
}
