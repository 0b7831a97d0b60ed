//! The built-in model as a hub has it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

/// The folder of the built-in model.
pub(crate) fn ember() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember");
    folder.canonicalize().expect("the built-in model")
}

/// The files that a model is made of, without what presents it and how it was made.
pub(crate) fn ember_files() -> Vec<(&'static str, Vec<u8>)> {
    ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, std::fs::read(ember().join(name)).expect("part of the built-in model")))
        .into()
}
