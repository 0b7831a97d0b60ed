//! What is known of an installed model, by its manifest and by the catalogue, reaches the engine when it is loaded.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backend::{Backend, Catalog, CatalogEntry, Inference};
use engine::scripted::ScriptedDecoder;
use engine::{Engine, LoadOptions};
use serde_json::json;
use support::{directories, ember_text, loaded_model, make_model, run};

/// An application whose models load by name, and how each was loaded.
fn backend(folder: &Path) -> (Backend, Arc<Mutex<Vec<LoadOptions>>>) {
    let loads: Arc<Mutex<Vec<LoadOptions>>> = Arc::default();
    let (kept, text) = (Arc::clone(&loads), ember_text());
    let open = move |_: &Path, options: &LoadOptions| {
        kept.lock().expect("no panic").push(options.clone());
        let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 100_000, |_| {
            engine::scripted::Scripted::Token(0)
        });
        let engine = Engine::new(decoder, text.clone(), options.cache_window);
        let mut loaded = loaded_model(&engine, options);
        loaded.sampling = engine::SuggestedSampling { top_k: Some(7), ..Default::default() };
        Ok((engine, loaded))
    };
    fs::write(folder.join("libonnxruntime.so"), "").expect("written");
    (Backend::open_with(directories(folder), Inference::start_with(open)), loads)
}

/// Writes a manifest of what lies in `folder`, as if it had come from where `entry` says.
fn write_manifest(folder: &Path, entry: &CatalogEntry) {
    let size = |name: &str| fs::metadata(folder.join(name)).expect("there").len();
    let file = |name: &str| {
        let digest = format!("sha256:{}", "0".repeat(64));
        json!({"path": name, "source": name, "size": size(name), "digest": digest})
    };
    let manifest = json!({
        "format": 1, "installed": "2100-01-01T00:00:00Z", "id": entry.id, "title": entry.title,
        "origin": {"kind": "hub", "repository": entry.repository, "commit": entry.commit},
        "licence": null, "curated": true, "files": [file("config.json"), file("model.onnx")],
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("written");
}

fn qwen() -> CatalogEntry {
    let catalog = Catalog::built_in();
    catalog.entries().iter().find(|entry| entry.sampling.is_some()).expect("one has advice").clone()
}

#[cfg(unix)]
#[test]
fn files_may_have_several_names_only_where_it_is_known_what_is_in_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = directories(folder.path());
    let (models, resources) = (places.models(), places.resources[0].clone());
    make_model(&resources, "built-in", "{}");
    let graph = |name: &str| models.join(name).join("model.onnx");
    for name in ["fetched", "brought", "stranger", "changed"] {
        make_model(&models, name, "{}");
        fs::write(graph(name), "a graph").expect("written");
        if name != "brought" {
            write_manifest(&models.join(name), &qwen());
        }
        // As a store of shared files does it.
        for file in ["model.onnx", "manifest.json", "config.json"] {
            let shared = folder.path().join(format!("{name}-{file}"));
            fs::hard_link(models.join(name).join(file), shared).ok();
        }
    }
    fs::write(folder.path().join("secret"), "nobody's business").expect("written");
    fs::hard_link(folder.path().join("secret"), models.join("stranger/weights.bin")).expect("named");
    fs::write(graph("changed"), "another graph").expect("written");
    let foreign = folder.path().join("foreign");
    make_model(&foreign, "model", "{}");
    fs::write(foreign.join("model/model.onnx"), "a graph").expect("written");
    write_manifest(&foreign.join("model"), &qwen());
    let foreign = foreign.join("model").display().to_string();
    run(async {
        let (backend, loads) = backend(folder.path());
        for (name, expected) in [
            ("built-in", true),
            ("fetched", true),
            ("brought", false),
            ("stranger", false),
            ("changed", false),
        ]
        .into_iter()
        .chain([(foreign.as_str(), false)])
        {
            loads.lock().expect("no panic").clear();
            backend.select_model(name).await.ok();
            let allowed = loads.lock().expect("no panic").last().map(|options| options.other_names);
            assert_eq!(allowed.unwrap_or(false), expected, "{name}");
        }
    });
}

#[test]
fn the_catalogues_advice_fills_in_what_a_models_own_files_leave_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = directories(folder.path()).models();
    let entry = qwen();
    let other = CatalogEntry { id: "another-name".into(), ..entry.clone() };
    for (name, entry) in [("fetched", &entry), ("other", &other)] {
        make_model(&models, name, "{}");
        fs::write(models.join(name).join("model.onnx"), "a graph").expect("written");
        write_manifest(&models.join(name), entry);
    }
    run(async {
        let (backend, loads) = backend(folder.path());
        let ready = backend.select_model("fetched").await.expect("it loads");
        let advice = entry.sampling.expect("it has some");
        let sampling = ready.about.sampling;
        assert_eq!(sampling.top_k, Some(7), "the model's own word goes first");
        assert_eq!((sampling.temperature, sampling.top_p), (advice.temperature, advice.top_p));
        assert!(sampling.temperature.is_some());
        assert_eq!(ready.about.window as u64, entry.context);
        let ready = backend.select_model("other").await.expect("it loads");
        assert_eq!((ready.about.sampling.temperature, ready.about.window), (None, 100_000));
        assert_eq!(loads.lock().expect("no panic").last().expect("loaded").cache_window, None);
    });
}
