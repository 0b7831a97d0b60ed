//! Configuration files as found in the wild, and mutated ones.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use std::fs;

use engine::{Error, ModelConfig, Tokenizer};
use support::{ember, fixtures};

fn read(file: &str, text: &str) -> Result<ModelConfig, Error> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file), text).unwrap();
    ModelConfig::read(folder.path())
}

#[test]
fn an_empty_folder_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ModelConfig::read(folder.path()).unwrap(), ModelConfig::default());
}

#[test]
fn the_built_in_model_is_read_whole() {
    let config = ModelConfig::read(&ember()).unwrap();
    assert_eq!(config.architecture.as_deref(), Some("Qwen2ForCausalLM"));
    assert_eq!((config.layers, config.key_value_heads, config.head_size), (Some(6), Some(4), Some(32)));
    assert_eq!((config.hidden_size, config.vocabulary_size), (Some(256), Some(3_072)));
    assert_eq!(config.context_length, Some(4_096));
    assert_eq!(config.stop_ids, [0, 2]);
    assert_eq!(config.sampling.do_sample, Some(false));
    assert_eq!((config.eos_token.as_deref(), config.bos_token.as_deref()), (Some("<|im_end|>"), None));
    assert_eq!(config.add_bos_token, Some(false));
}

#[test]
fn published_files_are_read_with_their_quirks() {
    let Some(fixtures) = fixtures() else { return };
    let read = |name: &str| ModelConfig::read(&fixtures.join(name)).unwrap();
    let tinyllama = read("tokenizers/tinyllama");
    assert_eq!(tinyllama.bos_token.as_deref(), Some("<s>"), "its file begins with stray spaces");
    assert_eq!(tinyllama.head_size, Some(64), "hidden size over heads");
    let qwen = read("tokenizers/qwen2.5");
    assert_eq!(qwen.genai_graph.as_deref(), Some("fusion.onnx"));
    assert_eq!(qwen.stop_ids, [151_643, 151_645]);
    assert_eq!((qwen.head_size, qwen.layers, qwen.key_value_heads), (Some(128), Some(28), Some(2)));
    assert_eq!(qwen.context_length, Some(32_768));
    assert_eq!(read("models/gqa-q4").head_size, Some(16));
}

#[test]
fn the_attention_is_described_in_old_and_new_words() {
    let of = |text: &str| {
        let config = read("config.json", text).unwrap();
        (config.rope_theta, config.partial_rotary_factor, config.sliding_window, config.attention_softcap)
    };
    let qwen = r#"{"rope_theta": 1000000.0, "rope_scaling": null, "sliding_window": 32768, "use_sliding_window": false}"#;
    assert_eq!(of(qwen), (Some(1e6), None, None, None));
    let llama = r#"{"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}"#;
    assert_eq!(of(llama).0, None, "its angles are scaled, so the base alone says nothing");
    let newer =
        r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.5}}"#;
    assert_eq!(of(newer), (Some(1e4), Some(0.5), None, None));
    let gemma = r#"{"sliding_window": 4096, "attn_logit_softcapping": 50.0}"#;
    assert_eq!(of(gemma), (None, None, Some(4096), Some(50.0)));
    assert!(read("config.json", r#"{"rope_theta": "large"}"#).is_err());
}

#[test]
fn numbers_tokens_and_lists_are_taken_in_every_form() {
    let config =
        read("generation_config.json", r#"{"eos_token_id": 7, "temperature": 0.6, "top_k": 20.0}"#).unwrap();
    assert_eq!(config.stop_ids, [7]);
    assert_eq!((config.sampling.temperature, config.sampling.top_k), (Some(0.6), Some(20)));
    let config = read("generation_config.json", r#"{"eos_token_id": [9, 7, 9]}"#).unwrap();
    assert_eq!(config.stop_ids, [7, 9]);
    let text = "\u{feff}  \n{\"model_max_length\": 1e30, \"eos_token\": {\"content\": \"</s>\"}, \"bos_token\": null}";
    let config = read("tokenizer_config.json", text).unwrap();
    assert_eq!((config.context_length, config.eos_token.as_deref()), (None, Some("</s>")));
    let config =
        read("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#).unwrap();
    assert_eq!(config.context_length, None);
    let config =
        read("config.json", r#"{"text_config": {"num_hidden_layers": 3, "eos_token_id": 1}}"#).unwrap();
    assert_eq!((config.layers, config.stop_ids), (Some(3), vec![1]));
}

#[test]
fn broken_json_is_named_with_file_line_and_column() {
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "genai_config.json",
    ] {
        let error = read(file, "{\n  \"vocab_size\": ]\n}").unwrap_err();
        let Error::FileDamaged { path, reason, .. } = &error else { panic!("{error}") };
        assert!(path.ends_with(file));
        assert!(reason.contains("line 2, column 17"), "{reason}");
    }
}

#[test]
fn the_graph_name_is_a_file_in_the_folder() {
    let genai = |name: &str| {
        read("genai_config.json", &serde_json::json!({"model": {"decoder": {"filename": name}}}).to_string())
    };
    assert_eq!(genai("model.onnx").unwrap().genai_graph.as_deref(), Some("model.onnx"));
    let names =
        ["", ".", "..", "../x.onnx", "/x.onnx", "a/b.onnx", "C:x.onnx", "\\\\host\\x.onnx", "a\0b.onnx"];
    // To ONNX Runtime the ending names the format, and this one is not what is checked.
    let others = ["model.ort", "model", &("x".repeat(300) + ".onnx")];
    for name in names.into_iter().chain(others) {
        assert!(matches!(genai(name), Err(Error::FileDamaged { .. })), "{name:?}");
    }
}

/// What a value may be replaced by.
const MUTATIONS: [&str; 10] = ["-1", "0", "1e30", "\"x\"", "[]", "{}", "true", "0.5", "[[1]]", "\"\\u0000\""];

#[test]
fn sixty_mutated_files_end_in_typed_errors_or_harmless_values() {
    let cases = [
        ("config.json", "num_hidden_layers"),
        ("config.json", "vocab_size"),
        ("config.json", "head_dim"),
        ("config.json", "eos_token_id"),
        ("generation_config.json", "temperature"),
        ("tokenizer_config.json", "bos_token"),
    ];
    let mut errors = 0;
    for (file, field) in cases {
        for mutation in MUTATIONS {
            match read(file, &format!("{{\"{field}\": {mutation}}}")) {
                Err(Error::FileDamaged { path, reason, .. }) => {
                    assert!(path.ends_with(file) && reason.contains(field), "{reason}");
                    errors += 1;
                }
                Err(other) => panic!("{file} {field} = {mutation}: {other}"),
                Ok(config) => {
                    assert!(config.layers.is_none_or(|layers| (1..=512).contains(&layers)));
                    assert!(config.vocabulary_size.is_none_or(|size| (1..=1 << 24).contains(&size)));
                    assert!(config.head_size.is_none_or(|size| (1..=65_536).contains(&size)));
                    assert!(config.sampling.temperature.is_none_or(|value| (0.0..=100.0).contains(&value)));
                }
            }
        }
    }
    assert_eq!(errors, 51, "of 60 mutations; the others are a value in range or no value");
}

#[test]
fn heads_that_do_not_fit_together_are_refused() {
    for text in [
        r#"{"hidden_size": 100, "num_attention_heads": 3}"#,
        r#"{"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 4}"#,
    ] {
        assert!(matches!(read("config.json", text), Err(Error::FileDamaged { .. })), "{text}");
    }
}

#[test]
fn deep_and_large_files_are_refused() {
    assert!(matches!(read("config.json", &"[".repeat(100_000)), Err(Error::FileDamaged { .. })));
    assert!(matches!(read("config.json", &" ".repeat((16 << 20) + 1)), Err(Error::FileDamaged { .. })));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config.json")).unwrap();
    assert!(matches!(ModelConfig::read(folder.path()), Err(Error::FileDamaged { .. })));
}

#[test]
fn mutated_bytes_of_a_tokenizer_never_panic() {
    let whole = fs::read(ember().join("tokenizer.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for case in 0..60 {
        let mut bytes = whole.clone();
        let place = bytes.len() * case / 60;
        bytes[place] = b"\"}{[]:,0x\xff"[case % 10];
        fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
        match Tokenizer::open(folder.path(), &ModelConfig::default(), None) {
            Ok(tokenizer) => assert!(tokenizer.encode_content("hello").is_ok()),
            Err(error) => assert!(matches!(error, Error::FileDamaged { .. }), "{error}"),
        }
    }
}
