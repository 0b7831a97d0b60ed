//! What the tests share: where their data lies, models opened, decoders scripted.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod onnx;
pub(crate) mod prepare;
pub(crate) mod scripted;

use std::path::{Path, PathBuf};

use engine::{ChatTemplate, ModelConfig, Tokenizer};

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// The shared fixtures; `None` (and one line) where they are absent, except in continuous integration.
#[expect(clippy::print_stdout, reason = "whoever reads the log must see that a test was skipped")]
pub(crate) fn fixtures() -> Option<PathBuf> {
    let folder = workspace().join("../shared/fixtures");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "the fixtures must lie at {}", folder.display());
    println!("skipped: there are no fixtures at {}", folder.display());
    None
}

/// The built-in model's folder.
pub(crate) fn ember() -> PathBuf {
    workspace().join("models/ember")
}

/// The tiny sibling of the built-in model, kept beside the tests.
pub(crate) fn tiny() -> PathBuf {
    workspace().join("crates/engine/tests/data/tiny")
}

/// Everything about text in one model folder.
pub(crate) struct Folder {
    pub(crate) config: ModelConfig,
    pub(crate) template: ChatTemplate,
    pub(crate) tokenizer: Tokenizer,
}

pub(crate) fn open(folder: &Path) -> Folder {
    let config = ModelConfig::read(folder).expect("the configuration can be read");
    let template = ChatTemplate::open(folder, &config).expect("the template compiles");
    let tokenizer =
        Tokenizer::open(folder, &config, Some(template.source())).expect("the tokenizer can be read");
    Folder { config, template, tokenizer }
}

/// A tokenizer of the fixtures with a template file of the fixtures.
pub(crate) fn open_with(fixtures: &Path, tokenizer: &str, template: &str) -> Folder {
    let folder = fixtures.join("tokenizers").join(tokenizer);
    let config = ModelConfig::read(&folder).expect("the configuration can be read");
    let source = std::fs::read_to_string(fixtures.join("chat-templates").join(template)).expect("a template");
    let template = ChatTemplate::from_source(&source, &config).expect("the template compiles");
    let tokenizer = Tokenizer::open(&folder, &config, Some(&source)).expect("the tokenizer can be read");
    Folder { config, template, tokenizer }
}
