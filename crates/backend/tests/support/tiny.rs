//! The tiny model in ONNX Runtime, which is always there.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use backend::AppDirs;

pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/data/tiny")
}

/// The ONNX Runtime library.
pub(crate) fn library() -> PathBuf {
    let directories = AppDirs::of_this_program(None).expect("this user has a home");
    directories.library().expect("`cargo xtask setup` installs it")
}
