//! The two forms in which a tokenizer lies in a model folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::shared_model::SharedTokenizer;
use crate::config::read_text;
use crate::{Error, ModelConfig, Result, TokenId};

const LARGEST_FILE: u64 = 64 << 20;

/// How Qwen2 and its successors cut text before merging bytes.
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer of `folder` in the form of `tokenizer.json`, and the file it came from.
pub(super) fn read(folder: &Path, config: &ModelConfig) -> Result<(PathBuf, Vec<u8>)> {
    let path = folder.join("tokenizer.json");
    if let Some(bytes) = read_text(&path, LARGEST_FILE)? {
        return Ok((path, bytes));
    }
    let vocabulary_path = folder.join("vocab.json");
    let merges_path = folder.join("merges.txt");
    let vocabulary = read_text(&vocabulary_path, LARGEST_FILE)?;
    let merges = read_text(&merges_path, LARGEST_FILE)?;
    let missing = |path: PathBuf, needed: &str| Error::FileMissing { path, needed: needed.to_owned() };
    match (vocabulary, merges) {
        (Some(vocabulary), Some(merges)) => {
            let added = added_tokens(folder, config)?;
            let value = assemble(&vocabulary_path, &vocabulary, &merges_path, &merges, added, config)?;
            Ok((vocabulary_path, value.to_string().into_bytes()))
        }
        (Some(_), None) => Err(missing(
            merges_path,
            "`vocab.json` is only half of a tokenizer (the other form is `tokenizer.json`)",
        )),
        (None, Some(_)) => Err(missing(
            vocabulary_path,
            "`merges.txt` is only half of a tokenizer (the other form is `tokenizer.json`)",
        )),
        (None, None) => Err(missing(
            path,
            "without it (or `vocab.json` and `merges.txt`) text cannot be turned into tokens",
        )),
    }
}

/// The tokens beyond the vocabulary as (id, entry), out of the two files that may list them.
fn added_tokens(folder: &Path, config: &ModelConfig) -> Result<Vec<(u64, Value)>> {
    let entry = |id: u64, content: &str, flags: &Value| {
        let flag = |name: &str, default: bool| flags.get(name).and_then(Value::as_bool).unwrap_or(default);
        let special = flag("special", true);
        json!({
            "id": id, "content": content, "single_word": flag("single_word", false),
            "lstrip": flag("lstrip", false), "rstrip": flag("rstrip", false),
            "normalized": flag("normalized", false), "special": special,
        })
    };
    let mut tokens = std::collections::BTreeMap::new();
    let path = folder.join("added_tokens.json");
    if let Some(bytes) = read_text(&path, LARGEST_FILE)? {
        let ids: Map<String, Value> = parse(&path, &bytes)?;
        for (content, id) in ids {
            let id = id.as_u64().ok_or_else(|| damaged(&path, format!("`{content}` has no id")))?;
            tokens.insert(id, entry(id, &content, &Value::Null));
        }
    }
    for (id, flags) in &config.added_tokens {
        let content = flags.get("content").and_then(Value::as_str);
        if let (Ok(id), Some(content)) = (id.parse(), content) {
            tokens.insert(id, entry(id, content, flags));
        }
    }
    Ok(tokens.into_iter().collect())
}

fn assemble(
    vocabulary_path: &Path,
    vocabulary: &[u8],
    merges_path: &Path,
    merges: &[u8],
    mut added: Vec<(u64, Value)>,
    config: &ModelConfig,
) -> Result<Value> {
    let vocabulary: Map<String, Value> = parse(vocabulary_path, vocabulary)?;
    let merges = std::str::from_utf8(merges).map_err(|error| {
        damaged(merges_path, format!("it is no text from byte {} on", error.valid_up_to()))
    })?;
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    if let Some(line) = merges.iter().position(|line| line.split(' ').count() != 2) {
        return Err(damaged(merges_path, format!("merge {} is not two pieces of text", line + 1)));
    }
    // Older folders name the end of text only by its text.
    for text in [&config.bos_token, &config.eos_token, &config.unknown_token].into_iter().flatten() {
        if let Some(id) = vocabulary.get(text).and_then(Value::as_u64)
            && !added.iter().any(|(known, _)| *known == id)
        {
            added.push((
                id,
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                }),
            ));
        }
    }
    added.sort_by_key(|(id, _)| *id);
    let qwen = config.tokenizer_class.as_deref().is_some_and(|class| class.starts_with("Qwen2"));
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex });
    let pre_tokenizer = if qwen {
        json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": QWEN2_PATTERN }, "behavior": "Isolated", "invert": false },
            byte_level(false),
        ]})
    } else {
        byte_level(true)
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
        "normalizer": if qwen { json!({ "type": "NFC" }) } else { Value::Null },
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// Why the ids of added tokens are not those that the file gives them, where they are not: the library
/// numbers them in a row, and a model would read other tokens than were meant.
pub(super) fn misnumbered(bytes: &[u8], full: &SharedTokenizer) -> Option<String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: TokenId,
        content: String,
    }
    let file: File = serde_json::from_slice(bytes).ok()?;
    let entry = file
        .added_tokens
        .into_iter()
        .find(|entry| !entry.content.is_empty() && full.token_to_id(&entry.content) != Some(entry.id))?;
    Some(format!("its added token `{}` cannot have the id {}", entry.content, entry.id))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|error| Error::FileDamaged {
        path: path.to_owned(),
        reason: format!("it is no JSON object at line {}, column {}", error.line(), error.column()),
        source: Some(Box::new(error)),
    })
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::FileDamaged { path: path.to_owned(), reason, source: None }
}
