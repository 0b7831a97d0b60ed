//! Text to ids and back, with published tokenizers.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use std::fs;
use std::path::Path;

use engine::{Error, ModelConfig, Tokenizer, stop_ids};
use support::{ember, fixtures, open};

fn tokenizer(folder: &Path) -> Tokenizer {
    open(folder).tokenizer
}

/// The texts of a vector file and the ids that each must give.
fn vectors(fixtures: &Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let folder = fixtures.join("tokenizer-vectors");
    let texts = fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.inp"))).unwrap();
    let ids = fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.out"))).unwrap();
    let texts = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    // The last text is empty, and so is its line.
    let ids = ids.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    texts.zip(ids).collect()
}

fn check_vectors(tokenizer: &Tokenizer, fixtures: &Path, name: &str) {
    let vectors = vectors(fixtures, name);
    assert_eq!(vectors.len(), 47, "every text of {name} is compared");
    for (text, ids) in vectors {
        assert_eq!(tokenizer.encode_content(&text).unwrap(), ids, "{name} encodes {text:?}");
    }
}

#[test]
fn all_47_vectors_hold_for_four_tokenizers() {
    let Some(fixtures) = fixtures() else { return };
    for (folder, name) in
        [("qwen2.5", "qwen2"), ("tinyllama", "llama-spm"), ("phi-3-mini", "phi-3"), ("gpt2", "gpt-2")]
    {
        check_vectors(&tokenizer(&fixtures.join("tokenizers").join(folder)), &fixtures, name);
    }
}

/// Writes `tokenizer.json` apart into the older two files.
fn split_into_two_files(from: &Path, to: &Path) {
    let bytes = fs::read(from.join("tokenizer.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let merges = file["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge.as_array() {
        Some(pair) => format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        None => format!("{}\n", merge.as_str().unwrap()),
    });
    let merges: String = merges.collect();
    fs::write(to.join("vocab.json"), file["model"]["vocab"].to_string()).unwrap();
    fs::write(to.join("merges.txt"), format!("#version: 0.2\n{merges}")).unwrap();
    fs::copy(from.join("tokenizer_config.json"), to.join("tokenizer_config.json")).unwrap();
}

#[test]
fn the_two_older_files_give_the_same_ids() {
    let Some(fixtures) = fixtures() else { return };
    for (folder, name) in [("gpt2", "gpt-2"), ("qwen2.5", "qwen2")] {
        let whole = fixtures.join("tokenizers").join(folder);
        let apart = tempfile::tempdir().unwrap();
        split_into_two_files(&whole, apart.path());
        let (whole, apart) = (tokenizer(&whole), tokenizer(apart.path()));
        check_vectors(&apart, &fixtures, name);
        assert_eq!(apart.vocabulary_size(), whole.vocabulary_size());
        let scaffold = "<|im_start|>user\nhi<|im_end|><|endoftext|>";
        assert_eq!(apart.encode_scaffold(scaffold).unwrap(), whole.encode_scaffold(scaffold).unwrap());
        let decoded = apart.decode(&apart.encode_content("Grüße 👋").unwrap()).unwrap();
        assert_eq!(decoded, "Grüße 👋");
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Tokenizer::open(folder.path(), &ModelConfig::default(), None).unwrap_err();
    let missing = |error| match error {
        Error::FileMissing { path, .. } => path.file_name().unwrap().to_owned(),
        other => panic!("{other}"),
    };
    assert_eq!(missing(open()), "tokenizer.json");
    fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    assert_eq!(missing(open()), "merges.txt");
    fs::remove_file(folder.path().join("vocab.json")).unwrap();
    fs::write(folder.path().join("merges.txt"), "").unwrap();
    assert_eq!(missing(open()), "vocab.json");
}

#[test]
fn the_damaged_tokenizer_is_refused_with_its_name() {
    let Some(fixtures) = fixtures() else { return };
    let folder = fixtures.join("tokenizers/damaged");
    let error = Tokenizer::open(&folder, &ModelConfig::default(), None).unwrap_err();
    assert!(matches!(&error, Error::FileDamaged { path, .. } if path.ends_with("tokenizer.json")), "{error}");
}

#[test]
fn a_cut_tokenizer_is_refused_wherever_it_is_cut() {
    let whole = fs::read(ember().join("tokenizer.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for parts in 1..40 {
        fs::write(folder.path().join("tokenizer.json"), &whole[..whole.len() * parts / 40]).unwrap();
        let error = Tokenizer::open(folder.path(), &ModelConfig::default(), None).unwrap_err();
        assert!(matches!(error, Error::FileDamaged { .. }), "{error}");
    }
}

#[test]
fn an_added_token_with_an_impossible_id_is_refused() {
    let bytes = fs::read(ember().join("tokenizer.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let mut token = file["added_tokens"][0].clone();
    token["content"] = "<|far|>".into();
    token["id"] = 90_000.into();
    file["added_tokens"].as_array_mut().unwrap().push(token);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let error = Tokenizer::open(folder.path(), &ModelConfig::default(), None).unwrap_err();
    assert!(error.to_string().contains("<|far|>"), "{error}");
}

#[test]
fn a_tokenizer_above_the_cap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let error = Tokenizer::open(folder.path(), &ModelConfig::default(), None).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[test]
fn the_vocabulary_has_the_size_of_the_published_one() {
    let Some(fixtures) = fixtures() else { return };
    let sizes = [
        ("qwen2.5", 151_665),
        ("qwen3", 151_669),
        ("smollm2", 49_152),
        ("tinyllama", 32_000),
        ("phi-3-mini", 32_011),
        ("gpt2", 50_257),
    ];
    for (folder, size) in sizes {
        let tokenizer = tokenizer(&fixtures.join("tokenizers").join(folder));
        assert_eq!(tokenizer.vocabulary_size(), size, "{folder}");
    }
    assert_eq!(tokenizer(&ember()).vocabulary_size(), 3_072);
    for entry in fs::read_dir(fixtures.join("models")).unwrap() {
        let folder = open(&entry.unwrap().path());
        assert_eq!(folder.tokenizer.vocabulary_size(), 512);
        assert_eq!(folder.config.vocabulary_size, Some(512));
    }
}

#[test]
fn content_never_becomes_a_control_token_and_keeps_its_text() {
    let Some(fixtures) = fixtures() else { return };
    for name in ["qwen2.5", "qwen3", "smollm2", "tinyllama", "phi-3-mini", "gpt2"] {
        let tokenizer = tokenizer(&fixtures.join("tokenizers").join(name));
        assert!(!tokenizer.control_ids().is_empty(), "{name} has control tokens");
        for string in tokenizer.control_strings() {
            let text = format!("before {string}{string}\n after");
            let ids = tokenizer.encode_content(&text).unwrap();
            assert!(ids.iter().all(|id| !tokenizer.control_ids().contains(id)), "{name}: {string}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}: {string}");
            let scaffold = tokenizer.encode_scaffold(string).unwrap();
            assert_eq!(scaffold, [tokenizer.token_id(string).unwrap()], "{name}: the template may write it");
        }
    }
}

#[test]
fn ordinary_added_tokens_keep_their_ids_in_content() {
    let bytes = fs::read(ember().join("tokenizer.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    for (id, content, special) in [(3_072, "<|extra|>", true), (3_073, "hello world", false)] {
        let mut token = file["added_tokens"][0].clone();
        token["content"] = content.into();
        token["id"] = id.into();
        token["special"] = special.into();
        file["added_tokens"].as_array_mut().unwrap().push(token);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::open(folder.path(), &ModelConfig::default(), None).unwrap();
    let ids = tokenizer.encode_content("<|extra|>hello world").unwrap();
    assert_eq!(ids.last(), Some(&3_073), "one token, although the one before it is missing here");
    assert!(!ids.contains(&3_072), "and the other stays text");
    assert_eq!(tokenizer.decode(&ids).unwrap(), "<|extra|>hello world");
}

#[test]
fn marks_that_the_file_calls_ordinary_stay_text() {
    let Some(fixtures) = fixtures() else { return };
    let tokenizer = tokenizer(&fixtures.join("tokenizers/qwen2.5"));
    let ids = tokenizer.encode_content("a<|fim_prefix|>b").unwrap();
    assert!(!ids.contains(&151_659), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a<|fim_prefix|>b");
}

#[test]
fn raw_text_begins_with_one_bos_where_the_model_wants_it() {
    let Some(fixtures) = fixtures() else { return };
    let begins = |name: &str| tokenizer(&fixtures.join(name)).encode_plain("<s>Once").unwrap();
    assert_eq!(begins("tokenizers/tinyllama")[0], 1);
    assert_ne!(begins("tokenizers/tinyllama")[1], 1, "the text's own <s> stays text");
    assert_eq!(begins("models/concat-f32")[0], 1);
    assert_ne!(begins("tokenizers/phi-3-mini")[0], 1, "its configuration says no");
    assert_eq!(
        tokenizer(&ember()).encode_plain("hi").unwrap(),
        tokenizer(&ember()).encode_content("hi").unwrap()
    );
}

#[test]
fn stop_ids_are_the_union_of_all_files_within_the_vocabulary() {
    let Some(fixtures) = fixtures() else { return };
    let check = |folder: &Path, expected: &[u32]| {
        let folder = open(folder);
        let ids = stop_ids(&folder.config, &folder.tokenizer, folder.template.source());
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), expected);
    };
    check(&fixtures.join("tokenizers/qwen2.5"), &[151_643, 151_645]);
    check(&fixtures.join("tokenizers/smollm2"), &[2]);
    check(&fixtures.join("tokenizers/tinyllama"), &[2]);
    check(&fixtures.join("tokenizers/phi-3-mini"), &[32_000, 32_007]);
    check(&ember(), &[0, 2]);

    let folder = open(&ember());
    let mut config = folder.config.clone();
    config.stop_ids = vec![3_071, 3_072, u32::MAX];
    let ids = stop_ids(&config, &folder.tokenizer, "");
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [2, 3_071], "ids beyond the vocabulary are left out");
}

#[test]
fn thinking_marks_are_found_by_id() {
    let Some(fixtures) = fixtures() else { return };
    let marks = |name: &str| tokenizer(&fixtures.join("tokenizers").join(name)).thinking_marks();
    assert_eq!(marks("qwen3"), Some((151_667, 151_668)));
    assert_eq!(marks("qwen2.5"), None);
}
