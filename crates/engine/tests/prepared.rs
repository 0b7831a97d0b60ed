//! What was prepared runs as long as nothing changed, is made anew where something did, and never keeps a model from
//! running.

mod support;

use std::fs;
use std::path::Path;

use engine::onnx::OnnxDecoder;
use engine::prepare::{GraphToRun, prepare};
use engine::{
    Cancel, Engine, GraphChoice, LoadOptions, Preparation, PrepareOptions, PrepareStep, WhyOriginal,
};
use graph::{Graph, Limits, Weights};
use serde_json::{Value, json};
use support::onnx::{greedy, load_graph};
use support::prepare::{contents, copy_of, done, load_options, names, open, options, prepared, why};
use support::{fixtures, tiny};

#[test]
fn the_prepared_graph_runs_from_then_on_and_answers_as_the_original() {
    let folder = copy_of(&tiny());
    let before = open(folder.path());
    assert_eq!(*why(&before), WhyOriginal::NotPrepared);
    assert!(before.graph_choice.wants_preparation());
    let prepared = prepared(folder.path());
    assert!(matches!(prepared.run, GraphToRun::Prepared(_)), "{}", prepared.run);
    let measurement = prepared.measurement.expect("both were measured");
    assert!(measurement.speedup() > 0.0 && measurement.original.decode > 0.0, "{measurement:?}");
    assert!(!measurement.both_in_memory, "nobody said that there is memory for both");
    let after = open(folder.path());
    assert_eq!((after.graph.as_str(), &after.graph_choice), ("model.hearth.onnx", &GraphChoice::Prepared));
    assert_eq!(after.prepared.as_deref(), Some(&prepared), "the record tells what was told");
    assert_eq!(after.spec, before.spec);
    let prompt: Vec<u32> = (3..40).collect();
    let reply = |file: &str| greedy(&mut load_graph(&folder.path().join(file), None, 512), &prompt, 60);
    assert_eq!(reply("model.hearth.onnx"), reply("model.onnx"));
}

#[test]
fn a_model_that_is_prepared_already_is_left_alone_unless_it_is_forced() {
    let folder = copy_of(&tiny());
    let first = prepared(folder.path());
    let files = contents(folder.path());
    let told = &mut |_| panic!("nothing is done");
    let second = done(prepare(folder.path(), &options(), &Cancel::new(), told));
    assert_eq!((second, contents(folder.path())), (first, files));
    let mut steps = Vec::new();
    let options = PrepareOptions { force: true, memory: Some(u64::MAX), ..options() };
    let third = prepare(folder.path(), &options, &Cancel::new(), &mut |progress| steps.push(progress));
    assert!(done(third).measurement.is_some_and(|measurement| measurement.both_in_memory));
    assert_eq!(steps.first().map(|first| &first.step), Some(&PrepareStep::Reading));
    assert!(steps.iter().enumerate().all(|(place, step)| step.done == place && step.total == steps.len()));
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared);
}

#[test]
fn a_graph_that_is_not_faster_is_not_used_and_not_tried_again() {
    let folder = copy_of(&tiny());
    let options = PrepareOptions { least_speedup: 1e6, ..options() };
    let prepared = done(prepare(folder.path(), &options, &Cancel::new(), &mut |_| {}));
    let GraphToRun::Original { reason } = &prepared.run else { panic!("{}", prepared.run) };
    assert!(reason.contains("times as fast"), "{reason}");
    assert!(!folder.path().join("model.hearth.onnx").exists());
    let loaded = open(folder.path());
    assert_eq!(*why(&loaded), WhyOriginal::Best { reason: reason.clone() });
    assert!(!loaded.graph_choice.wants_preparation());
    let again = prepare(folder.path(), &options, &Cancel::new(), &mut |_| panic!("nothing is done"));
    assert_eq!(done(again), prepared);
}

/// Changes a prepared folder and opens it.
#[track_caller]
fn voided_by(change: impl FnOnce(&Path), expected: &str) {
    let folder = copy_of(&tiny());
    prepared(folder.path());
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared);
    change(folder.path());
    let loaded = open(folder.path());
    let WhyOriginal::Outdated { changed } = why(&loaded) else { panic!("{expected}: {}", why(&loaded)) };
    assert!(changed.contains(expected), "{changed}");
    assert!(loaded.notices.is_empty(), "nothing is wrong: {:?}", loaded.notices);
    let anew = prepared(folder.path());
    assert!(matches!(anew.run, GraphToRun::Prepared(_)));
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared, "it is made anew");
}

/// Changes one part of the key.
fn rekeyed(part: &'static str, value: Value) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join("prepared.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        assert_ne!(record["key"][part], value, "it is another now");
        record["key"][part] = value;
        fs::write(&path, record.to_string()).expect("written");
    }
}

#[test]
fn every_part_of_the_key_voids_it() {
    voided_by(rekeyed("passes", json!([{"name": "last_token", "version": 1}])), "rewrites");
    voided_by(rekeyed("runtime", json!("ORT Build Info: another")), "ONNX Runtime");
    voided_by(rekeyed("cpuFeatures", json!(["x86_64", "mmx"])), "processor");
    voided_by(rekeyed("weights", json!([{"name": "model.onnx_data", "bytes": 1, "modified": 1}])), "weights");
    let configure = |name: &'static str| {
        move |folder: &Path| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).expect("read");
            fs::write(path, text + "\n").expect("written");
        }
    };
    voided_by(configure("config.json"), "configuration");
    voided_by(configure("tokenizer_config.json"), "configuration");
    let exchange = |folder: &Path| {
        let path = folder.join("model.onnx");
        let mut graph = Graph::open(&path, &Limits::default()).expect("a graph");
        graph.edit_model().producer_name = Some("somebody else".to_owned());
        let bytes = graph.to_bytes(Weights::Embed).expect("it is written");
        fs::write(&path, bytes).expect("written");
    };
    voided_by(exchange, "original graph");
    let form = |folder: &Path| fs::write(folder.join("prepared.json"), r#"{"format":999}"#).expect("written");
    voided_by(form, "form");
}

#[test]
fn with_other_threads_it_runs_until_it_is_measured_anew() {
    let folder = copy_of(&tiny());
    prepared(folder.path());
    let more = LoadOptions { threads: Some(2), ..load_options() };
    let open = || Engine::<OnnxDecoder>::open(folder.path(), &more).expect("it opens").1;
    assert_eq!(open().graph_choice, GraphChoice::Prepared, "its numbers are right with any number");
    let mut steps = 0;
    let options = PrepareOptions { threads: Some(2), ..options() };
    let anew = prepare(folder.path(), &options, &Cancel::new(), &mut |_| steps += 1);
    assert_eq!(done(anew).key.threads, 2);
    assert!(steps > 0, "it was measured anew");
    // Where nothing faster was found, another number of threads may change that.
    let none = PrepareOptions { least_speedup: 1e6, force: true, ..options };
    done(prepare(folder.path(), &none, &Cancel::new(), &mut |_| {}));
    assert!(matches!(why(&open()), WhyOriginal::Best { .. }));
    let fewer = Engine::<OnnxDecoder>::open(folder.path(), &load_options()).expect("it opens").1;
    assert_eq!(*why(&fewer), WhyOriginal::Outdated { changed: "the number of threads".into() });
}

#[test]
fn a_copied_model_is_as_prepared_as_its_original() {
    let folder = copy_of(&tiny());
    prepared(folder.path());
    // The copy's files have other times, and what counts is in them.
    assert_eq!(open(copy_of(folder.path()).path()).graph_choice, GraphChoice::Prepared);
}

/// Damages a prepared folder, which then runs the original, says so, and can be prepared anew.
#[track_caller]
fn falls_back(damage: impl FnOnce(&Path)) {
    let folder = copy_of(&tiny());
    prepared(folder.path());
    damage(folder.path());
    let loaded = open(folder.path());
    assert!(matches!(why(&loaded), WhyOriginal::Unusable { .. }), "{}", loaded.graph_choice);
    assert_eq!(loaded.graph, "model.onnx");
    assert!(loaded.notices.iter().any(|notice| notice.contains("cannot be used")), "{:?}", loaded.notices);
    prepared(folder.path());
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared);
}

fn change_record(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("prepared.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    change(&mut record);
    fs::write(&path, record.to_string()).expect("written");
}

#[test]
fn a_damaged_prepared_graph_costs_a_notice_and_never_the_model() {
    let graph = |folder: &Path| folder.join("model.hearth.onnx");
    falls_back(|folder| fs::remove_file(graph(folder)).expect("removed"));
    falls_back(|folder| fs::write(graph(folder), b"").expect("written"));
    falls_back(|folder| {
        let mut bytes = fs::read(graph(folder)).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(graph(folder), bytes).expect("written");
    });
    falls_back(|folder| fs::write(folder.join("prepared.json"), b"{").expect("written"));
    falls_back(|folder| fs::write(folder.join("prepared.json"), vec![b' '; 2 << 20]).expect("written"));
    // A record may not lead elsewhere, and one that fits damage does not make it sound.
    falls_back(|folder| {
        change_record(folder, |record| record["run"]["prepared"]["file"] = json!("../x.onnx"))
    });
    falls_back(|folder| {
        fs::write(graph(folder), b"").expect("written");
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        change_record(folder, |record| record["run"]["prepared"]["sha256"] = json!(nothing));
    });
}

#[test]
fn joined_weights_belong_to_the_result_and_are_gone_with_it() {
    let Some(fixtures) = fixtures() else { return };
    let folder = copy_of(&fixtures.join("models/gqa-q4"));
    let before = names(folder.path());
    prepared(folder.path());
    let first = folder.path().join("model.hearth.onnx_data");
    assert!(first.exists(), "{:?}", names(folder.path()));
    // While they are in use, others get another name; the old ones go when nothing refers to them.
    let anew = PrepareOptions { force: true, ..options() };
    done(prepare(folder.path(), &anew, &Cancel::new(), &mut |_| {}));
    let second = folder.path().join("model.hearth-2.onnx_data");
    assert!(!first.exists() && second.exists(), "{:?}", names(folder.path()));
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared);
    let cancel = Cancel::new();
    let files = contents(folder.path());
    let ended = prepare(folder.path(), &anew, &cancel, &mut |progress| {
        if progress.step == PrepareStep::Measuring {
            cancel.cancel();
        }
    });
    assert_eq!(ended.expect("it ends"), Preparation::Cancelled);
    assert_eq!(contents(folder.path()), files, "the result of the first one stays in use");
    fs::write(&second, b"damaged").expect("written");
    assert!(matches!(why(&open(folder.path())), WhyOriginal::Unusable { .. }));
    let none = PrepareOptions { least_speedup: 1e6, ..options() };
    done(prepare(folder.path(), &none, &Cancel::new(), &mut |_| {}));
    assert_eq!(names(folder.path()).len(), before.len() + 1, "{:?}", names(folder.path()));
}

#[test]
fn what_a_killed_preparation_left_behind_is_removed_at_the_next_start() {
    let folder = copy_of(&tiny());
    let before = names(folder.path());
    let leave = || {
        for name in [".hearth-prepare-lock", ".hearth-prepare-0.onnx", ".hearth-prepare-1.onnx.part"] {
            fs::write(folder.path().join(name), b"half").expect("written");
        }
    };
    leave();
    open(folder.path());
    assert_eq!(names(folder.path()), before);
    leave();
    prepared(folder.path());
    assert_eq!(names(folder.path()).len(), before.len() + 2, "{:?}", names(folder.path()));
}

#[test]
fn weights_stay_while_the_record_that_may_name_them_cannot_be_read() {
    let Some(fixtures) = fixtures() else { return };
    let folder = copy_of(&fixtures.join("models/gqa-q4"));
    prepared(folder.path());
    let data = folder.path().join("model.hearth.onnx_data");
    fs::write(folder.path().join("prepared.json"), r#"{"format":999}"#).expect("written");
    // Something unfinished makes the next start clean up.
    fs::write(folder.path().join(".hearth-prepare-0.onnx"), b"half").expect("written");
    open(folder.path());
    assert!(data.exists(), "a newer version of the application may run with it");
    prepared(folder.path());
    assert_eq!(open(folder.path()).graph_choice, GraphChoice::Prepared);
    assert!(!data.exists(), "the new record names another file");
}
