//! The ONNX Runtime library, of which a process has one: so this file has one test that opens it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use engine::onnx::Runtime;
use engine::{Error, Failure, FailureKind};
use support::onnx::library;

const SWITCH: &str = "ORT_DISABLE_TELEMETRY";

fn refused(path: &Path, words: &str) {
    let error = Runtime::open(path).err().unwrap_or_else(|| panic!("`{}` was opened", path.display()));
    assert!(matches!(error, Error::Library { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.kind, FailureKind::Runtime);
    assert!(failure.message.contains(&path.display().to_string()), "the file is named: {}", failure.message);
    assert!(failure.message.contains(words), "`{words}` in: {}", failure.message);
}

#[test]
fn wrong_libraries_are_refused_by_name_and_the_right_one_opens_after_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let garbage = folder.path().join("libonnxruntime.so");
    std::fs::write(&garbage, "this is no library").expect("written");
    let truncated = folder.path().join("libtruncated.so");
    let whole = std::fs::read(library()).expect("the library can be read");
    std::fs::write(&truncated, &whole[..whole.len() / 3]).expect("written");
    refused(&folder.path().join("missing.so"), "no such file");
    refused(folder.path(), "no such file");
    refused(Path::new("libonnxruntime.so"), "absolute");
    refused(&garbage, "it does not load");
    if cfg!(target_os = "linux") {
        refused(&truncated, "ends too early");
    }
    for other in ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"].map(PathBuf::from) {
        if other.is_file() {
            refused(&other, "it does not");
        }
    }
    let runtime = Runtime::open(&library()).expect("the right library opens after all of these");
    assert_eq!(runtime.library(), library());
    assert!(runtime.build().contains("Build Info"), "{}", runtime.build());
    let name = library().file_name().expect("a name").to_string_lossy().into_owned();
    if name.ends_with("1.31.1") {
        assert_eq!(runtime.version(), Some("1.31.1"));
    }
    Runtime::open(&library()).expect("it is open already");
    refused(&garbage, "in use already");
}

#[test]
#[ignore = "runs in the process that the next test starts"]
fn without_the_switch_nothing_is_loaded() {
    if std::env::var_os(SWITCH).is_none() {
        refused(&library(), SWITCH);
    }
}

#[test]
fn the_library_is_not_loaded_where_it_could_report_to_somebody() {
    let program = std::env::current_exe().expect("the test's own program");
    let arguments = ["--ignored", "--exact", "without_the_switch_nothing_is_loaded"];
    let output = Command::new(program).args(arguments).env_remove(SWITCH).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
