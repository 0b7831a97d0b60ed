//! A rewritten graph takes the original's place only where it is right and faster; whatever goes wrong leaves the
//! folder as it was.

mod support;

use std::fs;
use std::path::Path;

use engine::onnx::SelfTestErrors;
use engine::prepare::passes::{Change, Facts, Pass, Step};
use engine::prepare::{GraphToRun, Key, PassResult, Verdict, prepare, prepare_with};
use engine::{
    Cancel, Error, Failure, FailureKind, GraphChoice, KvBackend, ModelConfig, Preparation, PrepareOptions,
    Prepared, WhyOriginal,
};
use graph::family::{Family, Products};
use graph::proto::{NodeProto, TensorProto};
use graph::{Graph, Limits, Part};
use prost::Message;
use serde_json::Value;
use support::onnx::{greedy, load_graph, runtime};
use support::prepare::{
    contents, copy_of, done, made, named, names, open, options, pass, prepared, prepared_by, why,
};
use support::{fixtures, tiny};

/// Every node of one kind becomes one of another.
fn exchanged(mut graph: Graph, from: &str, to: &str) -> Step {
    for node in graph.nodes.iter_mut().filter(|node| node.op_type() == from) {
        node.edit().op_type = Some(to.to_owned());
    }
    made(graph)
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
fn a_model_without_anything_to_rewrite_says_so_once() {
    let folder = copy_of(&tiny());
    let prepared = prepared_by(&[NOTHING, REFUSED], folder.path());
    assert!(matches!(&prepared.run, GraphToRun::Original { reason } if reason.contains("no pass")));
    assert_eq!(prepared.measurement, None, "there is nothing to measure");
    let again = &mut |_| panic!("nothing is done");
    done(prepare_with(&[NOTHING, REFUSED], folder.path(), &options(), &Cancel::new(), again));
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

/// The folder that [`without_room_for_joined_weights_the_passes_before_count`] prepares.
const FULL: &str = "HEARTH_TEST_FOLDER";

#[cfg(unix)]
#[test]
#[ignore = "runs in the process that the next test starts"]
fn prepares_where_no_file_may_be_large() {
    let Some(folder) = std::env::var_os(FULL) else { return };
    let prepared = prepared_by(&[HARMLESS, named("pack"), REFUSED], Path::new(&folder));
    let [harmless, pack, refused] = prepared.passes.as_slice() else { panic!("{:?}", prepared.passes) };
    assert!(matches!(harmless.verdict, Verdict::Accepted(_)), "{}", harmless.verdict);
    let Verdict::Failed(why) = &pack.verdict else { panic!("{}", pack.verdict) };
    assert!(why.contains("cannot write") && why.contains(".onnx_data"), "{why}");
    assert!(matches!(refused.verdict, Verdict::Refused(_)), "what comes behind is tried");
    assert!(matches!(prepared.run, GraphToRun::Prepared(_)), "{}", prepared.run);
}

/// No file may be larger than a hundred thousand bytes or two, which stands for a disk that is full: the weights do
/// not fit, and everything else does.
#[cfg(unix)]
#[test]
fn without_room_for_joined_weights_the_passes_before_count() {
    let folder = copy_of(&tiny());
    let family = Family { layers: 1, hidden: 512, products: Products::Bits4, ..Family::default() };
    let model = family.model().encode_to_vec();
    fs::write(folder.path().join("model.onnx"), model).expect("written");
    let limited =
        r#"trap '' XFSZ; ulimit -f 200; exec "$0" --ignored --exact prepares_where_no_file_may_be_large"#;
    let program = std::env::current_exe().expect("the test's own program");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", limited]).arg(program).env(FULL, folder.path());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(folder.path().join("model.hearth.onnx").exists(), "{:?}", names(folder.path()));
}
