//! Any bytes as any of the configuration files: an error or values in their ranges.
#![no_main]

use engine::ModelConfig;
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "genai_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (file, bytes) = input;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = FILES[usize::from(file) % FILES.len()];
    std::fs::write(folder.path().join(file), bytes).expect("a file in it");
    if let Ok(config) = ModelConfig::read(folder.path()) {
        assert!(config.layers.is_none_or(|layers| (1..=512).contains(&layers)));
        assert!(config.context_length.is_none_or(|length| (1..=1_000_000_000).contains(&length)));
        assert!(config.genai_graph.is_none_or(|name| !name.contains(['/', '\\'])));
    }
});
