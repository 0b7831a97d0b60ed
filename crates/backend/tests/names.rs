//! Names that come from outside: which are taken, and what a record of them is.

use std::fs;
use std::path::Path;

use backend::hub::{Digest, check_path, check_paths, is_model_file};
use backend::{ModelRecord, RecordedFile};
use proptest::prelude::*;

#[test]
fn eighty_names_are_taken_or_refused_alike_on_every_system() {
    let long = "a".repeat(101);
    let refused = [
        "",
        ".",
        "..",
        "/",
        "a/",
        "/a",
        "a//b",
        "./a",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        "..\\a",
        "a\\b",
        "\\a",
        "C:",
        "C:a",
        "C:/a",
        "C:\\a",
        "c:a.json",
        "D:foo",
        "\\\\host\\share",
        "//host/share",
        "\\\\?\\C:\\a",
        "\\\\.\\COM1",
        "a:b",
        "a.json:stream",
        "a.json::$DATA",
        "con",
        "CON",
        "Con.json",
        "prn",
        "aux",
        "AUX.onnx",
        "nul",
        "NUL.txt",
        "com1",
        "COM9.json",
        "lpt1",
        "LPT3.onnx",
        "a.",
        "a..",
        "a/b.",
        "a ",
        " a",
        "a b",
        "a\tb",
        "a\nb",
        "a\0",
        "a\0.json",
        "a?b",
        "a*b",
        "a<b",
        "a>b",
        "a|b",
        "a\"b",
        "~",
        "~/a",
        "$HOME",
        "%2e%2e",
        "%2e%2e/a",
        "ä.json",
        "．．",
        "a\u{202e}b",
        "a\u{200d}",
        "a\u{301}",
        "🔥",
        &long,
        "a/b/c/d/e",
        "a/b/c/d/e/f",
    ];
    let taken = [
        "a",
        "a.json",
        "onnx/model_q4.onnx",
        "model.onnx.data",
        "model.onnx_data_1",
        "..a",
        "a..b",
        ".hidden",
        "-a",
        "_a",
        "onnxruntime/cpu_and_mobile/cpu-int4-kld-block-128/model.onnx",
        "console",
        "nullable.json",
        "com10",
    ];
    assert!(refused.len() + taken.len() >= 80, "{} names", refused.len() + taken.len());
    for name in refused {
        assert!(check_path(name).is_err(), "{name:?} must be refused");
    }
    for name in taken {
        assert!(check_path(name).is_ok(), "{name:?} must be taken");
    }
    for (one, other) in [
        ("a.json", "A.JSON"),
        ("a", "a/b"),
        ("A", "a/b"),
        ("a.json", "a.json"),
        ("Onnx/a.json", "onnx/b.json"),
        ("x/Onnx/a.json", "x/onnx/b.json"),
    ] {
        assert!(check_paths([one, other]).is_err(), "{one} and {other} cannot lie in one folder everywhere");
    }
    assert!(check_paths(["a.json", "b/a.json"]).is_ok());
    for code in [
        "run.py",
        "a.so",
        "a.dll",
        "a.dylib",
        "a.exe",
        "a.bin",
        "a.pt",
        "a.pkl",
        "a.safetensors",
        "a.sh",
        "model.hearth.onnx",
        "model.hearth-2.onnx_data",
        "prepared.json",
        "manifest.json",
        "onnx/Manifest.json",
        "plan.json",
        "linked.json",
        "hearth.json",
        "tokenizer.json.part",
        "tokenizer.json.part.json",
    ] {
        assert!(!is_model_file(code), "{code} is nothing that a model brings");
    }
    for file in
        ["model.onnx", "model.onnx_data", "model.onnx_data_12", "model.onnx.data", "LICENSE", "a.jinja"]
    {
        assert!(is_model_file(file), "{file}");
    }
}

proptest! {
    #[test]
    fn a_path_that_is_taken_stays_in_its_folder(path in "[a-zA-Z0-9./\\\\:~ _%$-]{0,24}") {
        let folder = Path::new("/models/one");
        if check_path(&path).is_ok() {
            let joined = folder.join(&path);
            prop_assert!(joined.starts_with(folder) && joined != folder);
            let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
            prop_assert!(joined.components().all(plain), "{}", joined.display());
        }
    }

    #[test]
    fn a_record_survives_its_file(title in ".{0,20}", size in any::<u64>(), byte in any::<u8>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let record = ModelRecord {
            id: "a".into(),
            title,
            origin: backend::Origin::Folder { path: "/x".into() },
            licence: None,
            curated: true,
            files: vec![RecordedFile {
                path: "a.json".into(),
                source: "b/a.json".into(),
                size,
                digest: Digest::Sha256([byte; 32]),
            }],
        };
        let text = serde_json::to_vec(&record).expect("JSON");
        fs::write(folder.path().join("record.json"), &text).expect("written");
        prop_assert_eq!(serde_json::from_slice::<ModelRecord>(&text).expect("read"), record);
    }
}
