//! Models that may be rewritten, and preparations of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::onnx::OnnxDecoder;
use engine::prepare::passes::{self, Change, Facts, Numbers, Pass, Step};
use engine::prepare::{prepare, prepare_with};
use engine::{
    Cancel, Engine, GraphChoice, LoadOptions, LoadedModel, Preparation, PrepareOptions, Prepared, WhyOriginal,
};
use graph::Graph;
use tempfile::TempDir;

use super::onnx::library;

pub(crate) fn load_options() -> LoadOptions {
    LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) }
}

/// Whatever is right is used: how fast such small graphs are is noise.
pub(crate) fn options() -> PrepareOptions {
    PrepareOptions { least_speedup: 0.0, ..PrepareOptions::like(&load_options()) }
}

/// A copy of a model that may be written, in a folder of its own.
pub(crate) fn copy_of(source: &Path) -> TempDir {
    let target = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(source).expect("the model is there") {
        let entry = entry.expect("an entry");
        let bytes = fs::read(entry.path()).expect("read");
        fs::write(target.path().join(entry.file_name()), bytes).expect("written");
    }
    target
}

/// Every file with its content.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).expect("read"))).collect()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().collect()
}

#[track_caller]
pub(crate) fn done(preparation: engine::Result<Preparation>) -> Prepared {
    match preparation.expect("the preparation ends") {
        Preparation::Prepared(prepared) => *prepared,
        Preparation::Cancelled => panic!("nobody cancelled it"),
    }
}

#[track_caller]
pub(crate) fn prepared(folder: &Path) -> Prepared {
    done(prepare(folder, &options(), &Cancel::new(), &mut |_| {}))
}

#[track_caller]
pub(crate) fn prepared_by(passes: &[Pass], folder: &Path) -> Prepared {
    done(prepare_with(passes, folder, &options(), &Cancel::new(), &mut |_| {}))
}

#[track_caller]
pub(crate) fn open(folder: &Path) -> LoadedModel {
    Engine::<OnnxDecoder>::open(folder, &load_options()).expect("it opens").1
}

pub(crate) fn why(loaded: &LoadedModel) -> &WhyOriginal {
    match &loaded.graph_choice {
        GraphChoice::Original { why } => why,
        GraphChoice::Prepared => panic!("the prepared graph runs"),
    }
}

pub(crate) const fn pass(name: &'static str, run: fn(Graph, &Facts<'_>) -> Step) -> Pass {
    Pass { name, version: 1, numbers: Numbers::Same, run }
}

pub(crate) fn made(graph: Graph) -> Step {
    Step { graph, change: Change::Made("did what it is for".to_owned()) }
}

/// A pass of the real list.
pub(crate) fn named(name: &str) -> Pass {
    *passes::ALL.iter().find(|pass| pass.name == name).expect("it is in the list")
}
