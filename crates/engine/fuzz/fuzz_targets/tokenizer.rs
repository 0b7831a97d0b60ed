//! Any bytes as a tokenizer, and any text through one that opens: content never gives a control token.
#![no_main]

use engine::{ModelConfig, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, bytes) = input;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("tokenizer.json"), bytes).expect("a file in it");
    let Ok(tokenizer) = Tokenizer::open(folder.path(), &ModelConfig::default(), None) else { return };
    if let Ok(ids) = tokenizer.encode_content(text) {
        let unknown = ["<unk>", "[UNK]"].map(|text| tokenizer.token_id(text));
        let control = |id: &u32| tokenizer.control_ids().contains(id) && !unknown.contains(&Some(*id));
        assert!(!ids.iter().any(control));
        drop(tokenizer.decode(&ids));
    }
});
