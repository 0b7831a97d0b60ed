//! Model folders that are whole, and folders that are not: every error names the file.

mod support;

use std::fs;
use std::path::Path;

use engine::onnx::{ExecutionProviderChoice, OnnxDecoder};
use engine::{
    Cancel, Engine, Error, ExecutionProvider, Failure, FailureKind, FinishReason, LoadOptions, LoadedModel,
    ModelConfig, Request, Sampling, find_graph,
};
use graph::{Graph, Limits, Weights};
use support::onnx::library;
use support::{ember, fixtures, tiny};
use tempfile::TempDir;

fn open_with(folder: &Path, options: &LoadOptions) -> engine::Result<(Engine<OnnxDecoder>, LoadedModel)> {
    Engine::<OnnxDecoder>::open(folder, options)
}

fn open(folder: &Path) -> engine::Result<(Engine<OnnxDecoder>, LoadedModel)> {
    open_with(folder, &LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) })
}

/// A copy of a fixture model that a test may damage.
fn copy(name: &str) -> Option<TempDir> {
    Some(copy_of(&fixtures()?.join("models").join(name)))
}

/// A copy of a model folder that a test may damage.
fn copy_of(source: &Path) -> TempDir {
    let target = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(source).expect("the fixture is there") {
        let entry = entry.expect("an entry");
        // Written anew, since the fixtures' own permissions forbid it.
        let bytes = fs::read(entry.path()).expect("read");
        fs::write(target.path().join(entry.file_name()), bytes).expect("written");
    }
    target
}

#[cfg(unix)]
#[test]
fn a_file_with_several_names_is_opened_where_it_is_known_what_is_in_it() {
    let folder = copy_of(&tiny());
    let shared = tempfile::tempdir_in(folder.path()).expect("a folder");
    for entry in fs::read_dir(folder.path()).expect("listed").flatten() {
        if entry.path().is_file() {
            fs::hard_link(entry.path(), shared.path().join(entry.file_name())).expect("named");
        }
    }
    let said = fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    assert!(said.contains("import the model as a copy"), "{said}");
    let options = LoadOptions { other_names: true, threads: Some(1), ..LoadOptions::with_library(library()) };
    open_with(folder.path(), &options).expect("it opens");
}

/// Opens `folder`, which fails with words that name `file`.
fn fails(folder: &Path, file: &str, kind: FailureKind) -> String {
    let error = open(folder).err().unwrap_or_else(|| panic!("{file}: the folder was opened"));
    let failure = Failure::from(&error);
    assert_eq!(failure.kind, kind, "{error:?}");
    assert!(failure.message.contains(&folder.join(file).display().to_string()), "{}", failure.message);
    failure.message
}

#[test]
fn the_built_in_model_opens_and_tells_of_itself() {
    let options = LoadOptions { cache_window: Some(300), ..LoadOptions::with_library(library()) };
    let (engine, loaded) = open_with(&ember(), &options).expect("it opens");
    assert_eq!(loaded.spec, *engine.spec());
    assert_eq!((loaded.window, engine.window()), (300, 300));
    assert_eq!(loaded.graph, "model.onnx");
    assert_eq!(
        Some(loaded.spec.vocabulary_size),
        ModelConfig::read(&ember()).expect("it is read").vocabulary_size
    );
    assert_eq!(loaded.inputs, engine.decoder().contract().input_count());
    assert_eq!(loaded.library, library());
    assert!(!loaded.plain_template);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    assert!(loaded.spec.threads >= 1);
}

#[test]
fn memory_that_does_not_take_the_whole_context_bounds_the_window_and_the_cache() {
    let row = open(&tiny()).expect("it opens").0.spec().kv_bytes_per_token;
    let options = LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) };
    let (mut engine, loaded) =
        open_with(&tiny(), &LoadOptions { kv_bytes: Some(300 * row), ..options.clone() }).expect("it opens");
    assert_eq!((loaded.window, engine.window()), (300, 300));
    assert!(loaded.notices.iter().any(|notice| notice.contains("300") && notice.contains("512")));
    let request = Request {
        prompt: vec![5; 290],
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 100,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    };
    let finish = engine.generate(&request, &Cancel::new(), &mut |_| {}).expect("a full window is no error");
    assert_eq!(finish.reason, FinishReason::ContextFull);
    assert_eq!((engine.seen().len(), engine.kv_bytes()), (300, 300 * row), "no row beyond the window");
    let narrow = LoadOptions { cache_window: Some(100), kv_bytes: Some(300 * row), ..options.clone() };
    let loaded = open_with(&tiny(), &narrow).expect("it opens").1;
    assert_eq!((loaded.window, loaded.notices.len()), (100, 0), "nothing was taken away");
    let loaded = open_with(&tiny(), &LoadOptions { kv_bytes: Some(0), ..options }).expect("it opens").1;
    assert_eq!(loaded.window, 256, "one pass always fits");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(folder.path(), "", FailureKind::ModelMissing);
    let error = open(&folder.path().join("nowhere")).err().expect("there is none").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn files_that_are_missing_are_named() {
    let folder = copy_of(&tiny());
    fs::remove_file(folder.path().join("model.onnx")).expect("removed");
    fails(folder.path(), "model.onnx", FailureKind::ModelMissing);
    let folder = copy_of(&tiny());
    fs::remove_file(folder.path().join("tokenizer.json")).expect("removed");
    fails(folder.path(), "tokenizer.json", FailureKind::ModelMissing);
}

#[test]
fn a_graph_that_another_file_names_must_be_there() {
    let Some(folder) = copy("gqa-f32") else { return };
    fs::rename(folder.path().join("model.onnx"), folder.path().join("model_q4.onnx")).expect("renamed");
    let message = fails(folder.path(), "model.onnx", FailureKind::ModelMissing);
    assert!(message.contains("genai_config.json"), "{message}");
}

#[test]
fn damaged_graphs_are_named() {
    let folder = copy_of(&tiny());
    let graph = folder.path().join("model.onnx");
    let whole = fs::read(&graph).expect("read");
    for damaged in [&whole[..whole.len() / 2], &whole[..100], b"", b"this is no graph"] {
        fs::write(&graph, damaged).expect("written");
        fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    }
}

#[test]
fn a_graph_that_is_refused_never_reaches_the_runtime() {
    let Some(folder) = copy("concat-f32") else { return };
    let path = folder.path().join("model.onnx");
    let mut graph = Graph::open(&path, &Limits::default()).expect("it is read");
    graph.nodes[0].edit().domain = Some("evil.operators".to_owned());
    let bytes = graph.to_bytes(Weights::Embed).expect("it is written");
    fs::write(&path, bytes).expect("written");
    let message = fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    assert!(message.contains("refused before it is run") && message.contains("evil.operators"), "{message}");
    let error = open(folder.path()).err().expect("it is refused");
    assert!(matches!(error, Error::Graph(graph::Error::Refused { .. })), "{error:?}");
}

#[test]
#[cfg(unix)]
fn weights_that_are_a_link_to_elsewhere_are_refused() {
    let Some(folder) = copy("gqa-f32") else { return };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("model.onnx.data");
    let target = elsewhere.path().join("data");
    fs::copy(&data, &target).expect("copied");
    fs::remove_file(&data).expect("removed");
    std::os::unix::fs::symlink(target, data).expect("linked");
    let message = fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    assert!(message.contains("model.onnx.data") && message.contains("a link"), "{message}");
}

#[test]
fn missing_and_truncated_external_data_are_named() {
    let Some(folder) = copy("gqa-f32") else { return };
    let data = folder.path().join("model.onnx.data");
    let whole = fs::read(&data).expect("read");
    fs::write(&data, &whole[..whole.len() / 2]).expect("written");
    fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    fs::remove_file(&data).expect("removed");
    let message = fails(folder.path(), "model.onnx", FailureKind::ModelBroken);
    assert!(message.contains("model.onnx.data"), "{message}");
}

#[test]
fn a_damaged_tokenizer_is_named() {
    let Some(folder) = copy("concat-f32") else { return };
    let damaged = fixtures().expect("fixtures").join("tokenizers/damaged/tokenizer.json");
    fs::write(folder.path().join("tokenizer.json"), fs::read(damaged).expect("read")).expect("written");
    fails(folder.path(), "tokenizer.json", FailureKind::ModelBroken);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_graph_has_logits_is_refused() {
    let Some(folder) = copy("concat-f32") else { return };
    let other = fixtures().expect("fixtures").join("tokenizers/gpt2/tokenizer.json");
    fs::write(folder.path().join("tokenizer.json"), fs::read(other).expect("read")).expect("written");
    let error = open(folder.path()).err().expect("they do not belong together");
    assert!(matches!(error, Error::VocabularyMismatch { tokenizer: 50_257, logits: 512, .. }), "{error:?}");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}

#[test]
fn a_configuration_that_disagrees_with_the_logits_is_named() {
    let folder = copy_of(&tiny());
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["vocab_size"] = 640.into();
    fs::write(&path, config.to_string()).expect("written");
    let message = fails(folder.path(), "config.json", FailureKind::ModelBroken);
    assert!(message.contains("640") && message.contains("288"), "{message}");
}

#[test]
fn a_model_without_a_template_gets_the_plain_one_and_is_marked() {
    let folder = copy_of(&tiny());
    assert!(!open(folder.path()).expect("it opens").1.plain_template);
    let path = folder.path().join("tokenizer_config.json");
    let text = fs::read_to_string(&path).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config.as_object_mut().expect("an object").remove("chat_template");
    fs::write(&path, config.to_string()).expect("written");
    let (_, loaded) = open(folder.path()).expect("it opens all the same");
    assert!(loaded.plain_template);
    assert!(loaded.notices.iter().any(|notice| notice.contains("no chat template")), "{:?}", loaded.notices);
}

#[test]
fn the_graph_that_runs_best_on_a_cpu_is_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("onnx")).expect("made");
    let config = ModelConfig::default();
    let error = find_graph(folder.path(), &config).expect_err("there is none").to_string();
    assert!(error.contains("model.onnx"), "{error}");
    let worst_first = [
        "onnx/model_fp16.onnx",
        "onnx/model.onnx",
        "onnx/model_q4f16.onnx",
        "onnx/model_uint8.onnx",
        "onnx/model_int8.onnx",
        "onnx/model_quantized.onnx",
        "onnx/model_q4.onnx",
        "model_fp16.onnx",
        "model_q4.onnx",
        "model.onnx",
    ];
    fs::write(folder.path().join("onnx/model_bnb4.onnx"), "").expect("written");
    for graph in worst_first {
        fs::write(folder.path().join(graph), "").expect("written");
        assert_eq!(find_graph(folder.path(), &config).expect("there is one"), graph);
    }
    let mut named = config;
    named.genai_graph = Some("decoder.onnx".into());
    assert!(find_graph(folder.path(), &named).is_err(), "a name in the files counts, also where it is wrong");
    fs::write(folder.path().join("decoder.onnx"), "").expect("written");
    assert_eq!(find_graph(folder.path(), &named).expect("there is one"), "decoder.onnx");
}

#[test]
#[cfg(not(target_os = "macos"))]
fn coreml_where_there_is_none_becomes_the_cpu_with_a_notice() {
    let coreml = ExecutionProviderChoice::CoreMl;
    let options = LoadOptions { execution_provider: coreml, ..LoadOptions::with_library(library()) };
    let (_, loaded) = open_with(&ember(), &options).expect("it opens all the same");
    assert_eq!(loaded.spec.execution_provider, ExecutionProvider::Cpu);
    assert!(loaded.notices.iter().any(|notice| notice.contains("CoreML")), "{:?}", loaded.notices);
}
