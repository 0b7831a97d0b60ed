//! A rewritten graph takes the original's place only where it is right and faster, and only as long as
//! nothing changed; whatever goes wrong leaves the folder as it was.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::onnx::{OnnxDecoder, SelfTestErrors};
use engine::prepare::passes::{self, Change, Facts, Numbers, Pass, Step};
use engine::prepare::{GraphToRun, Key, PassResult, Verdict, prepare, prepare_with};
use engine::{
    Cancel, Engine, Error, Failure, FailureKind, GraphChoice, KvBackend, LoadOptions, LoadedModel,
    ModelConfig, Preparation, PrepareOptions, PrepareStep, Prepared, WhyOriginal,
};
use graph::proto::{NodeProto, TensorProto};
use graph::{Graph, Limits, Part, Weights};
use serde_json::{Value, json};
use support::onnx::{greedy, library, load_graph, runtime};
use support::{fixtures, tiny};
use tempfile::TempDir;

fn load_options() -> LoadOptions {
    LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) }
}

/// Whatever is right is used: how fast such small graphs are is noise.
fn options() -> PrepareOptions {
    PrepareOptions { least_speedup: 0.0, ..PrepareOptions::like(&load_options()) }
}

/// A copy of a model that may be written, in a folder of its own.
fn copy_of(source: &Path) -> TempDir {
    let target = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(source).expect("the model is there") {
        let entry = entry.expect("an entry");
        let bytes = fs::read(entry.path()).expect("read");
        fs::write(target.path().join(entry.file_name()), bytes).expect("written");
    }
    target
}

/// Every file with its content.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).expect("read"))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().collect()
}

#[track_caller]
fn done(preparation: engine::Result<Preparation>) -> Prepared {
    match preparation.expect("the preparation ends") {
        Preparation::Prepared(prepared) => *prepared,
        Preparation::Cancelled => panic!("nobody cancelled it"),
    }
}

#[track_caller]
fn prepared(folder: &Path) -> Prepared {
    done(prepare(folder, &options(), &Cancel::new(), &mut |_| {}))
}

#[track_caller]
fn prepared_by(passes: &[Pass], folder: &Path) -> Prepared {
    done(prepare_with(passes, folder, &options(), &Cancel::new(), &mut |_| {}))
}

#[track_caller]
fn open(folder: &Path) -> LoadedModel {
    Engine::<OnnxDecoder>::open(folder, &load_options()).expect("it opens").1
}

fn why(loaded: &LoadedModel) -> &WhyOriginal {
    match &loaded.graph_choice {
        GraphChoice::Original { why } => why,
        GraphChoice::Prepared => panic!("the prepared graph runs"),
    }
}

const fn pass(name: &'static str, run: fn(Graph, &Facts<'_>) -> Step) -> Pass {
    Pass { name, version: 1, numbers: Numbers::Same, run }
}

fn made(graph: Graph) -> Step {
    Step { graph, change: Change::Made("did what it is for".to_owned()) }
}

/// Every node of one kind becomes one of another.
fn exchanged(mut graph: Graph, from: &str, to: &str) -> Step {
    for node in graph.nodes.iter_mut().filter(|node| node.op_type() == from) {
        node.edit().op_type = Some(to.to_owned());
    }
    made(graph)
}

/// A pass of the real list.
fn named(name: &str) -> Pass {
    *passes::ALL.iter().find(|pass| pass.name == name).expect("it is in the list")
}

#[cfg(unix)]
#[test]
fn a_graph_with_several_names_is_prepared_where_it_is_known_what_is_in_it() {
    let folder = copy_of(&tiny());
    fs::hard_link(folder.path().join("model.onnx"), folder.path().join("second-name")).expect("named");
    let with = |other_names| {
        let options = PrepareOptions { other_names, ..options() };
        prepare_with(&[HARMLESS], folder.path(), &options, &Cancel::new(), &mut |_| {})
    };
    with(false).expect_err("nobody knows whose it is");
    assert!(matches!(done(with(true)).run, GraphToRun::Prepared(_)));
}

const HARMLESS: Pass = pass("harmless", |mut graph, _| {
    graph.edit_model().producer_name = Some("the tests".to_owned());
    made(graph)
});
const WRONG: Pass = pass("wrong", |graph, _| exchanged(graph, "Sigmoid", "Tanh"));
const UNKNOWN: Pass = pass("unknown", |graph, _| exchanged(graph, "Sigmoid", "NoSuchOperator"));
const NOTHING: Pass =
    pass("nothing", |graph, _| Step { graph, change: Change::Nothing("all is done".to_owned()) });
const REFUSED: Pass =
    pass("refused", |graph, _| Step { graph, change: Change::Refused("it is a teapot".to_owned()) });
const HOSTILE: Pass = pass("hostile", |mut graph, _| {
    let tensor = graph.initializers[0].edit();
    tensor.located.clear();
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    let entry = |key: &str, value: &str| graph::proto::StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
        ..Default::default()
    };
    tensor.external_data = vec![entry("location", "../../etc/passwd")];
    made(graph)
});
/// One weight in a thousand is off by a little: far less than a wrong operator, and wrong all the same.
const SLIGHTLY_WRONG: Pass = pass("slightly wrong", |mut graph, _| {
    let original = fs::read(graph.path()).expect("the original is there");
    let tensor = graph.initializers.iter_mut().max_by_key(|tensor| tensor.located.first().map(|l| l.length));
    let tensor = tensor.expect("it has weights").edit();
    let place = tensor.located.pop().expect("its weights lie in the file");
    let mut bytes = original[place.offset as usize..(place.offset + place.length) as usize].to_vec();
    for weight in bytes.chunks_exact_mut(4).step_by(100) {
        let value = f32::from_le_bytes(weight.try_into().expect("four bytes"));
        weight.copy_from_slice(&(value * 1.5 + 0.05).to_le_bytes());
    }
    tensor.raw_data = Some(bytes);
    made(graph)
});

/// The logits times a little more than one: alone it is within what rounding may do.
const ALMOST: Pass = pass("almost", |mut graph, _| {
    let count = graph.nodes.len();
    let (raw, factor) = (format!("raw_{count}"), format!("factor_{count}"));
    let last = graph.nodes.iter_mut().find(|node| node.output == ["logits"]).expect("it has logits");
    last.edit().output = vec![raw.clone()];
    graph.initializers.push(Part::new(TensorProto {
        name: Some(factor.clone()),
        data_type: Some(graph::proto::data_type::FLOAT),
        raw_data: Some(1.0005_f32.to_le_bytes().to_vec()),
        ..Default::default()
    }));
    graph.nodes.push(Part::new(NodeProto {
        op_type: Some("Mul".to_owned()),
        name: Some(format!("almost_{count}")),
        input: vec![raw, factor],
        output: vec!["logits".to_owned()],
        ..Default::default()
    }));
    made(graph)
});

#[test]
fn passes_that_are_near_enough_one_by_one_must_be_near_enough_together() {
    let folder = copy_of(&tiny());
    let before = names(folder.path());
    let prepared = prepared_by(&[ALMOST; 10], folder.path());
    assert!(prepared.passes.iter().all(|result| matches!(result.verdict, Verdict::Accepted(_))));
    let whole = prepared.whole.expect("it was compared");
    assert!(!whole.is_passed(), "{whole}");
    let GraphToRun::Original { reason } = &prepared.run else { panic!("{}", prepared.run) };
    assert!(reason.contains("not together"), "{reason}");
    assert!(prepared.measurement.is_none(), "what is wrong is not measured");
    assert_eq!(names(folder.path()).len(), before.len() + 1, "the record is left and nothing else");

    let few = copy_of(&tiny());
    let prepared = prepared_by(&[ALMOST], few.path());
    assert!(prepared.whole.expect("it was compared").is_passed());
    assert!(matches!(prepared.run, GraphToRun::Prepared(_)), "{}", prepared.run);
}

#[test]
fn right_passes_are_accepted_and_others_leave_no_trace_in_the_result() {
    let folder = copy_of(&tiny());
    let passes = [WRONG, HARMLESS, SLIGHTLY_WRONG, UNKNOWN, NOTHING, HOSTILE, REFUSED, named("last_token")];
    let before = names(folder.path());
    let prepared = prepared_by(&passes, folder.path());
    let verdict = |name: &str| {
        let found = prepared.passes.iter().find(|result| result.name == name);
        found.map(|PassResult { verdict, .. }| verdict.clone()).unwrap_or_else(|| panic!("no {name}"))
    };
    for wrong in ["wrong", "slightly wrong"] {
        let Verdict::Rejected(comparison) = verdict(wrong) else { panic!("{wrong}: {}", verdict(wrong)) };
        assert!(comparison.max_difference > comparison.limit, "{comparison}");
    }
    let Verdict::Accepted(comparison) = verdict("harmless") else { panic!("{}", verdict("harmless")) };
    assert_eq!((comparison.max_difference, comparison.same_choices), (0.0, comparison.steps));
    assert!(comparison.steps >= 20, "{comparison}");
    let Verdict::Failed(reason) = verdict("unknown") else { panic!("{}", verdict("unknown")) };
    assert!(reason.contains("NoSuchOperator"), "{reason}");
    let Verdict::Failed(reason) = verdict("hostile") else { panic!("{}", verdict("hostile")) };
    assert!(reason.contains("refused before it is run"), "the preflight stands before candidates: {reason}");
    assert_eq!(verdict("nothing"), Verdict::Unchanged);
    assert_eq!(verdict("refused"), Verdict::Refused("it is a teapot".to_owned()));
    assert!(matches!(verdict("last_token"), Verdict::Accepted(_)), "{}", verdict("last_token"));

    let expected: Vec<String> = [before, vec!["model.hearth.onnx".into(), "prepared.json".into()]].concat();
    let mut found = names(folder.path());
    found.sort_by_key(|name| expected.iter().position(|known| known == name));
    assert_eq!(found, expected, "nothing else is left behind");
    let graph = Graph::open(&folder.path().join("model.hearth.onnx"), &Limits::default()).expect("a graph");
    let operators: Vec<&str> = graph.nodes.iter().map(|node| node.op_type()).collect();
    assert!(operators.contains(&"Sigmoid"), "what was rejected is not in it");
    assert!(operators.contains(&"Gather"), "what was accepted is");
    assert_eq!(graph.model().producer_name(), "the tests");
}

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

#[test]
fn a_model_without_anything_to_rewrite_says_so_once() {
    let folder = copy_of(&tiny());
    let prepared = prepared_by(&[NOTHING, REFUSED], folder.path());
    assert!(matches!(&prepared.run, GraphToRun::Original { reason } if reason.contains("no pass")));
    assert_eq!(prepared.measurement, None, "there is nothing to measure");
    let again = &mut |_| panic!("nothing is done");
    done(prepare_with(&[NOTHING, REFUSED], folder.path(), &options(), &Cancel::new(), again));
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
fn a_cancelled_preparation_leaves_the_folder_as_it_was_wherever_it_is() {
    let folder = copy_of(&tiny());
    let before = contents(folder.path());
    let mut last = 0;
    for stop_at in 0.. {
        let cancel = Cancel::new();
        let ended = prepare(folder.path(), &options(), &cancel, &mut |progress| {
            if progress.done == stop_at {
                cancel.cancel();
            }
        });
        if ended.expect("it ends") != Preparation::Cancelled {
            break;
        }
        assert_eq!(contents(folder.path()), before, "stopped at step {stop_at}");
        last = stop_at;
    }
    assert!(last >= 5, "every step can be stopped: {last}");
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

#[cfg(unix)]
#[test]
fn a_lock_whose_file_was_removed_keeps_nobody_out() {
    let folder = copy_of(&tiny());
    let path = folder.path().join(".hearth-prepare-lock");
    let lock = fs::File::create(&path).expect("made");
    lock.lock().expect("locked");
    fs::remove_file(&path).expect("removed");
    prepared(folder.path());
    assert!(!path.exists());
}

#[test]
fn one_process_at_a_time_prepares_a_model_and_others_still_run_it() {
    let folder = copy_of(&tiny());
    let lock = fs::File::create(folder.path().join(".hearth-prepare-lock")).expect("made");
    lock.lock().expect("locked");
    let error = prepare(folder.path(), &options(), &Cancel::new(), &mut |_| {}).expect_err("it is locked");
    assert!(error.to_string().contains("another process"), "{error}");
    open(folder.path());
    assert!(folder.path().join(".hearth-prepare-lock").exists(), "what belongs to the other stays");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_and_runs_as_it_is() {
    let folder = copy_of(&tiny());
    // Where a file is to be, a folder stands: what keeps even an administrator from writing it.
    fs::create_dir(folder.path().join(".hearth-prepare-lock")).expect("made");
    let error = prepare(folder.path(), &options(), &Cancel::new(), &mut |_| {}).expect_err("it cannot be");
    assert!(matches!(error, Error::FolderUnwritable { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.kind, FailureKind::ModelUnwritable, "{}", failure.message);
    assert!(failure.message.contains(&folder.path().display().to_string()), "{}", failure.message);
    assert_eq!(*why(&open(folder.path())), WhyOriginal::NotPrepared);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let folder = copy_of(&tiny());
    let before = contents(folder.path());
    let permit = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("set");
    permit(0o555);
    if fs::write(folder.path().join("probe"), b"").is_ok() {
        permit(0o755);
        return println!("skipped: permissions do not bind this user");
    }
    let ended = prepare(folder.path(), &options(), &Cancel::new(), &mut |_| {});
    open(folder.path());
    permit(0o755);
    assert_eq!(Failure::from(ended.expect_err("nothing can be written")).kind, FailureKind::ModelUnwritable);
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn the_self_test_of_this_machine_is_far_from_both_ends() {
    let errors = runtime().self_test();
    // Rounding to 8 bits is never free, and a kernel that is right is never off by much.
    assert!((1e-5..0.05).contains(&errors.symmetric), "{errors}");
    assert!(errors.zero_points > 1e-5, "{errors}");
}

#[test]
fn a_machine_that_fails_the_self_test_keeps_its_products_as_they_are() {
    let Some(fixtures) = fixtures() else { return };
    let path = fixtures.join("models/concat-q4/model.onnx");
    let config = ModelConfig::default();
    let change = |symmetric, zero_points| {
        let facts =
            Facts { config: &config, self_test: SelfTestErrors { symmetric, zero_points }, data_file: "x" };
        (named("accuracy").run)(Graph::open(&path, &Limits::default()).expect("a graph"), &facts).change
    };
    let Change::Refused(reason) = change(0.46, 0.46) else { panic!("wrong kernels are left alone") };
    assert!(reason.contains("46.00 %"), "{reason}");
    assert!(matches!(change(0.01, 0.46), Change::Made(_)), "none of its products has zero points");
}

/// What each form of the fixtures is made of, by the passes that change it. The embedding of so small a
/// model is rounded so much that its numbers may decide either way.
const PASSES: [(&str, &[&str]); 10] = [
    ("concat-bare", &["last_token", "norm", "hidden_state"]),
    ("concat-f16", &["last_token", "hidden_state"]),
    ("concat-f32", &["last_token", "norm", "hidden_state"]),
    ("concat-int8", &["last_token", "norm", "hidden_state"]),
    ("concat-q4", &["last_token", "norm", "accuracy", "hidden_state", "pack"]),
    ("concat16-f32", &["last_token", "attention", "norm", "hidden_state"]),
    ("concat16-q4", &["last_token", "attention", "norm", "accuracy", "hidden_state", "pack"]),
    ("gqa-f32", &["last_token", "hidden_state"]),
    ("gqa-q4", &["last_token", "hidden_state", "pack"]),
    ("gqa-q4-pruned", &["hidden_state", "pack"]),
];

#[test]
fn every_form_of_a_real_model_is_prepared_or_says_why_not_and_runs() {
    let Some(fixtures) = fixtures() else { return };
    for (name, expected) in PASSES {
        let source = fixtures.join("models").join(name);
        let folder = copy_of(&source);
        let prepared = prepared(folder.path());
        let mut accepted = Vec::new();
        for PassResult { name: pass, did, verdict, .. } in &prepared.passes {
            println!("{name}: {pass}: {did}: {verdict}");
            assert!(!did.is_empty() && !matches!(verdict, Verdict::Failed(_)), "{name}: {pass}: {verdict}");
            if pass == "embedding" {
                continue;
            }
            assert!(!matches!(verdict, Verdict::Rejected(_)), "{name}: {pass}: {verdict}");
            if matches!(verdict, Verdict::Accepted(_)) {
                accepted.push(pass.as_str());
            }
        }
        assert_eq!(accepted, expected, "{name}");
        let loaded = open(folder.path());
        assert_eq!(loaded.graph_choice, GraphChoice::Prepared, "{name}: {}", prepared.run);
        if accepted.contains(&"attention") {
            assert_eq!(loaded.spec.kv_backend, KvBackend::SharedBuffer, "{name}");
        }
        let record_has_data = matches!(&prepared.run, GraphToRun::Prepared(graph) if !graph.data.is_empty());
        assert_eq!(record_has_data, accepted.contains(&"pack"), "{name}: joined weights have a file");
        if !name.ends_with("f32") {
            continue;
        }
        let text = fs::read(source.join("golden.json")).expect("golden ids");
        let golden: Value = serde_json::from_slice(&text).expect("JSON");
        let mut decoder = load_graph(&folder.path().join(&loaded.graph), None, 512);
        for case in golden["cases"].as_array().expect("cases") {
            let ids = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).expect("ids") };
            let expected = ids("greedy_ids");
            assert_eq!(greedy(&mut decoder, &ids("prompt_ids"), expected.len()), expected, "{name}");
        }
    }
}

#[test]
fn a_record_is_plain_data_that_reads_as_it_was_written() {
    let folder = copy_of(&tiny());
    let prepared = prepared_by(&[WRONG, UNKNOWN, REFUSED, NOTHING, HARMLESS], folder.path());
    let text = fs::read_to_string(folder.path().join("prepared.json")).expect("read");
    let read: Prepared = serde_json::from_str(&text).expect("it is read");
    assert_eq!(read, prepared);
    let Key { graph, threads, .. } = &prepared.key;
    assert_eq!((graph.name.as_str(), *threads), ("model.onnx", 1));
}
