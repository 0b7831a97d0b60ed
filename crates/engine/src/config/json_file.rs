//! A JSON object on disk whose fields are read with a type and a range.

use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::NamedTemplate;
use crate::{Error, Result, TokenId};

/// Chat templates make `tokenizer_config.json` the largest of them; published ones stay below 300 kB.
const LARGEST_FILE: u64 = 16 << 20;

/// The bytes of a text file without the byte order mark that some editors write, or `None` where there is
/// no such file.
///
/// # Errors
/// [`Error::FileDamaged`] above `limit` bytes and for what is no plain file; [`Error::FileUnreadable`].
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let unreadable = |source| Error::FileUnreadable { path: path.to_owned(), source };
    let damaged = |reason| Error::FileDamaged { path: path.to_owned(), reason, source: None };
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        // Opening a pipe or a device could wait for ever.
        Ok(metadata) if !metadata.is_file() => return Err(damaged("it is no plain file".to_owned())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(damaged(format!("it is larger than {limit} bytes")));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(Some(bytes))
}

/// One object of a JSON file.
#[derive(Debug, Clone)]
pub(crate) struct JsonFile {
    path: PathBuf,
    /// Where in the file the object is, such as `model.decoder.`.
    prefix: String,
    fields: Map<String, Value>,
}

impl JsonFile {
    /// The file's outermost object, or `None` where there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = read_text(path, LARGEST_FILE)? else { return Ok(None) };
        Self::parse(path, &bytes).map(Some)
    }

    /// The outermost object of a text; `path` is what errors call it.
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).map_err(|error| Error::FileDamaged {
            path: path.to_owned(),
            reason: format!("it is no JSON at line {}, column {}", error.line(), error.column()),
            source: Some(Box::new(error)),
        })?;
        match value {
            Value::Object(fields) => Ok(Self { path: path.to_owned(), prefix: String::new(), fields }),
            _ => Err(Error::FileDamaged {
                path: path.to_owned(),
                reason: "it holds no JSON object".to_owned(),
                source: None,
            }),
        }
    }

    pub(crate) fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    pub(crate) fn damaged(&self, reason: String) -> Error {
        Error::FileDamaged { path: self.path.clone(), reason, source: None }
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        self.damaged(format!("`{}{name}` is not {expected}", self.prefix))
    }

    /// The field, where it is there and not null.
    fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                path: self.path.clone(),
                prefix: format!("{}{name}.", self.prefix),
                fields: fields.clone(),
            })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<String>> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    pub(crate) fn first_string(&self, name: &str) -> Result<Option<String>> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Array(texts)) => match texts.first() {
                None => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err(self.wrong(name, "a list of texts")),
            },
            Some(_) => Err(self.wrong(name, "a list of texts")),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.field(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(name, "a number")),
        }
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(&self, name: &str, most: u64) -> Result<Option<usize>> {
        match self.number(name)? {
            None => Ok(None),
            Some(value) if value.fract() == 0.0 && (1.0..=most as f64).contains(&value) => {
                Ok(Some(value as usize))
            }
            Some(value) => Err(self.wrong(name, &format!("a whole number from 1 to {most} (it is {value})"))),
        }
    }

    /// A whole number from 1; `None` above `longest`, which files write for "no limit".
    pub(crate) fn length(&self, name: &str, longest: f64) -> Result<Option<usize>> {
        match self.number(name)? {
            Some(value) if value > longest => Ok(None),
            Some(value) if value.fract() == 0.0 && value >= 1.0 => Ok(Some(value as usize)),
            Some(value) => Err(self.wrong(name, &format!("a length in tokens (it is {value})"))),
            None => Ok(None),
        }
    }

    /// A number within `range`. Advice outside of it is no advice: it is left out, with a line in the log.
    pub(crate) fn number_within(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>> {
        match self.number(name)? {
            Some(value) if !range.contains(&value) => {
                tracing::warn!(path = %self.path.display(), field = name, value, "the suggested value is out of range");
                Ok(None)
            }
            value => Ok(value.map(|value| value as f32)),
        }
    }

    /// A token id or a list of them.
    pub(crate) fn ids(&self, name: &str) -> Result<Vec<TokenId>> {
        let values = match self.field(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let id = |value: &Value| value.as_f64().filter(|id| id.fract() == 0.0 && (-1.0..=4e9).contains(id));
        let ids: Option<Vec<f64>> = values.iter().map(id).collect();
        let ids = ids.ok_or_else(|| self.wrong(name, "a token id or a list of token ids"))?;
        // Some exporters write -1 for "none".
        Ok(ids.into_iter().filter(|id| *id >= 0.0).map(|id| id as TokenId).collect())
    }

    /// The text of a token: a plain text, or an object with `content`.
    pub(crate) fn token(&self, name: &str) -> Result<Option<String>> {
        let text = match self.field(name) {
            None => return Ok(None),
            Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
            Some(value) => value.as_str(),
        };
        let text = text.ok_or_else(|| self.wrong(name, "a token"))?;
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// The name of a file in the same folder.
    pub(crate) fn file_name(&self, name: &str) -> Result<Option<String>> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        let plain = !text.is_empty()
            && text != "."
            && text != ".."
            && !text.contains(['/', '\\', ':', '\0'])
            && text.len() <= 255;
        if plain { Ok(Some(text)) } else { Err(self.wrong(name, "the name of a file in this folder")) }
    }

    /// The plain name of an ONNX graph. Other endings are names of other formats to ONNX Runtime.
    pub(crate) fn graph_name(&self, name: &str) -> Result<Option<String>> {
        match self.file_name(name)? {
            Some(text) if !text.ends_with(".onnx") => Err(self.wrong(name, "the name of an `.onnx` file")),
            plain => Ok(plain),
        }
    }

    /// Chat templates: one text, or a list of `{name, template}`.
    pub(crate) fn templates(&self, name: &str) -> Result<Vec<NamedTemplate>> {
        let wrong = || self.wrong(name, "a template or a list of named templates");
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Value::String(source)) => {
                Ok(vec![NamedTemplate { name: "default".to_owned(), source: source.clone() }])
            }
            Some(Value::Array(entries)) => entries
                .iter()
                .map(|entry| {
                    let text = |field| entry.get(field).and_then(Value::as_str).map(str::to_owned);
                    match (text("name"), text("template")) {
                        (Some(name), Some(source)) => Ok(NamedTemplate { name, source }),
                        _ => Err(wrong()),
                    }
                })
                .collect(),
            Some(_) => Err(wrong()),
        }
    }
}
