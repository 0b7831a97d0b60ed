//! Runs the built program, each time with a data folder of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program with its surroundings.
pub(crate) struct Hearth {
    pub(crate) data: TempDir,
    library: PathBuf,
}

/// What a run of the program came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Hearth {
    pub(crate) fn new() -> Self {
        Self { data: tempfile::tempdir().expect("a folder for the data"), library: library() }
    }

    /// The same program with another library.
    pub(crate) fn with_library(library: &Path) -> Self {
        Self { library: library.to_owned(), ..Self::new() }
    }

    /// The program, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command
            .env("HEARTH_DATA_DIR", self.data.path())
            .env("HEARTH_ONNXRUNTIME", &self.library)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        Ran::of(self.command().args(arguments).output().expect("the program starts"))
    }

    /// The same, with `input` on its stdin.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut program =
            self.command().args(arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        let mut stdin = program.stdin.take().expect("stdin is a pipe");
        stdin.write_all(input).expect("the program reads");
        drop(stdin);
        Ran::of(program.wait_with_output().expect("the program ends"))
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let ran = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        };
        assert!(!ran.stderr.contains("panicked"), "the program panicked: {}", ran.stderr);
        ran
    }

    /// Fails unless the run ended well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The JSON objects on stdout, one for each line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                let object: Value = serde_json::from_str(line).expect("each line is JSON");
                assert!(object["type"].is_string(), "each line is an object with a type: {line}");
                object
            })
            .collect()
    }

    /// The last JSON line, a finish.
    #[track_caller]
    pub(crate) fn finish(&self) -> Value {
        let last = self.lines().pop().expect("there is a line");
        assert_eq!(last["type"], "finish", "{}{}", self.stdout, self.stderr);
        last
    }
}

/// The texts of all lines of one type, joined.
pub(crate) fn text_of(lines: &[Value], kind: &str) -> String {
    lines.iter().filter(|line| line["type"] == kind).filter_map(|line| line["text"].as_str()).collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// The folder of the built-in model.
pub(crate) fn ember() -> PathBuf {
    workspace().join("models/ember")
}

/// A copy of a model folder that a test may damage. It has the name of the original.
pub(crate) fn copy_of(model: &Path) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder for the copy");
    let copy = parent.path().join(model.file_name().expect("a model folder has a name"));
    std::fs::create_dir(&copy).expect("the copy is made");
    for entry in std::fs::read_dir(model).expect("the model is there") {
        let entry = entry.expect("the model can be listed");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("the file is copied");
        }
    }
    (parent, copy)
}

/// The shared fixtures; `None` (and one line) where they are absent, except in continuous integration.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn fixtures() -> Option<PathBuf> {
    let folder = workspace().join("../shared/fixtures");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "the fixtures must lie at {}", folder.display());
    println!("skipped: there are no fixtures at {}", folder.display());
    None
}

/// The library that `HEARTH_ONNXRUNTIME` names, else the one that `cargo xtask setup` installs.
fn library() -> PathBuf {
    if let Some(library) = std::env::var_os("HEARTH_ONNXRUNTIME") {
        return library.into();
    }
    let mut pending = vec![workspace().join(".hearth/onnxruntime")];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                pending.push(path);
            } else if name.starts_with("libonnxruntime.") || name == "onnxruntime.dll" {
                return path;
            }
        }
    }
    panic!("no ONNX Runtime library: run `cargo xtask setup`, or set HEARTH_ONNXRUNTIME");
}
