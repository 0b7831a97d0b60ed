//! Where a model folder keeps its chat template.

use std::path::Path;

use crate::config::read_text;
use crate::{Error, ModelConfig, Result};

const LARGEST_TEMPLATE: u64 = 1 << 20;
const MOST_ADDITIONAL: usize = 32;

pub(super) struct Found {
    pub(super) source: String,
    /// The name of the file, for error texts.
    pub(super) origin: String,
    name: String,
}

/// The template for conversations without tools. Later places override earlier ones of the same name.
pub(super) fn find(folder: &Path, config: &ModelConfig) -> Result<Option<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut add = |new: Found| match found.iter_mut().find(|known| known.name == new.name) {
        Some(known) => *known = new,
        None => found.push(new),
    };
    for template in &config.templates {
        add(Found {
            source: template.source.clone(),
            origin: "tokenizer_config.json".to_owned(),
            name: template.name.clone(),
        });
    }
    if let Some(source) = read(&folder.join("chat_template.jinja"))? {
        add(Found { source, origin: "chat_template.jinja".to_owned(), name: "default".to_owned() });
    }
    let additional = folder.join("additional_chat_templates");
    if additional.is_dir() {
        let unreadable = |source| Error::FileUnreadable { path: additional.clone(), source };
        let mut names = Vec::new();
        for entry in additional.read_dir().map_err(unreadable)?.take(MOST_ADDITIONAL) {
            names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
        }
        names.sort();
        for file in names {
            let Some(name) = file.strip_suffix(".jinja") else { continue };
            if let Some(source) = read(&additional.join(&file))? {
                add(Found { source, origin: file.clone(), name: name.to_owned() });
            }
        }
    }
    let chosen = found.iter().position(|template| template.name == "default");
    // A folder with one template under another name means that one; `tool_use` is never for plain chats.
    let chosen = chosen.or_else(|| found.iter().position(|template| template.name != "tool_use"));
    Ok(chosen.or(if found.is_empty() { None } else { Some(0) }).map(|index| found.swap_remove(index)))
}

fn read(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_text(path, LARGEST_TEMPLATE)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| Error::FileDamaged {
        path: path.to_owned(),
        reason: format!("it is no text from byte {} on", error.utf8_error().valid_up_to()),
        source: None,
    })
}
