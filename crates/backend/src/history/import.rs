//! Files of conversations that are taken over: of Hearth's JSON, or `conversations.json` of a ChatGPT export.
//!
//! A file is read twice, one conversation in memory at a time. The first time nothing is taken, so that a file that
//! is cut or no JSON is refused as a whole.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::record::ConversationRecord;
use super::transfer::{FORMAT, VERSION};
use super::{chat_gpt, title};
use crate::conversation::now;
use crate::error::{Error, Result};

/// A larger file is no file of conversations.
const LARGEST_FILE: u64 = 1 << 30;
/// Neither is one with a larger conversation: as data it takes many times its bytes.
const LARGEST_CONVERSATION: u64 = 64 << 20;

/// Gives every conversation of a file to `take`; `None` for one that makes no sense.
///
/// # Errors
/// [`Error::Import`] before anything was taken, unless the file changes meanwhile; and those of `take`.
pub(super) fn read_file(
    path: &Path,
    mut take: impl FnMut(Option<ConversationRecord>) -> Result<()>,
) -> Result<()> {
    walk(path, &mut |_, _| Ok(()))?;
    walk(path, &mut |form, value| take(form.record(value)))
}

/// What a file is.
#[derive(Debug, Clone, Copy)]
enum Form {
    Hearth,
    ChatGpt,
}

impl Form {
    fn record(self, value: Value) -> Option<ConversationRecord> {
        match self {
            Self::ChatGpt => chat_gpt::conversation(&value),
            Self::Hearth => serde_json::from_value(value).ok().filter(is_sound).map(believed),
        }
    }
}

type Take<'t> = dyn FnMut(Form, Value) -> Result<()> + 't;

fn walk(path: &Path, take: &mut Take<'_>) -> Result<()> {
    let failed = |reason: String| Error::Import { path: path.to_path_buf(), reason };
    let about = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    // A pipe has no end until its other end says so, and opening one waits.
    if !about.is_file() {
        return Err(failed("it is no file".into()));
    }
    let size = about.len();
    if size > LARGEST_FILE {
        return Err(failed(format!(
            "it has {size} bytes, and a file of conversations has at most {LARGEST_FILE}"
        )));
    }
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let count = Rc::new(Cell::new(0));
    let counted = Counted { file: BufReader::new(file.take(LARGEST_FILE)), count: Rc::clone(&count) };
    let mut failure = None;
    let mut json = serde_json::Deserializer::from_reader(counted);
    let walked = Walk { count: &count, take, failure: &mut failure }.deserialize(&mut json);
    match (walked.and_then(|()| json.end()), failure) {
        (_, Some(Failure::OfFile(reason))) => Err(failed(reason)),
        (_, Some(Failure::OfTaking(error))) => Err(error),
        (Err(error), None) => Err(failed(format!("it is no JSON file of conversations: {error}"))),
        (Ok(()), None) => Ok(()),
    }
}

/// Counts what is read since a conversation began, and ends where it is too much for one.
struct Counted<R> {
    file: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        if self.count.get() > LARGEST_CONVERSATION {
            return Err(io::Error::other(format!(
                "a conversation in it has more than {LARGEST_CONVERSATION} bytes"
            )));
        }
        Ok(read)
    }
}

/// Why a walk ended, where JSON is not the reason.
enum Failure {
    OfFile(String),
    OfTaking(Error),
}

/// One way through a file.
struct Walk<'w, 't> {
    count: &'w Cell<u64>,
    take: &'w mut Take<'t>,
    failure: &'w mut Option<Failure>,
}

impl Walk<'_, '_> {
    fn take<E: serde::de::Error>(&mut self, form: Form, value: Value) -> std::result::Result<(), E> {
        (self.take)(form, value).map_err(|error| self.end(Failure::OfTaking(error)))
    }

    /// Ends the walk; the words of the error that is returned are nobody's.
    fn end<E: serde::de::Error>(&mut self, failure: Failure) -> E {
        *self.failure = Some(failure);
        E::custom("")
    }

    fn take_all<'de, A: SeqAccess<'de>>(
        &mut self,
        form: Form,
        mut list: A,
    ) -> std::result::Result<(), A::Error> {
        loop {
            self.count.set(0);
            let Some(value) = list.next_element::<Value>()? else { return Ok(()) };
            self.take::<A::Error>(form, value)?;
        }
    }

    /// Refuses a file of a version that is not known yet.
    fn check_version<E: serde::de::Error>(
        &mut self,
        head: &Map<String, Value>,
    ) -> std::result::Result<(), E> {
        let version = head.get("version").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if version <= u64::from(VERSION) {
            return Ok(());
        }
        Err(self.end(Failure::OfFile(format!(
            "it is of version {version}, and this Hearth knows {VERSION}; update Hearth"
        ))))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

fn is_of_hearth(head: &Map<String, Value>) -> bool {
    head.get("format").and_then(Value::as_str) == Some(FORMAT)
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a list or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, list: A) -> std::result::Result<(), A::Error> {
        self.take_all(Form::ChatGpt, list)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut head = Map::new();
        let mut is_read = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "conversations" && is_of_hearth(&head) && head.contains_key("version") {
                self.check_version::<A::Error>(&head)?;
                map.next_value_seed(List(&mut self))?;
                is_read = true;
            } else {
                head.insert(key, map.next_value()?);
            }
        }
        if is_read {
            return Ok(());
        }
        if is_of_hearth(&head) {
            self.check_version::<A::Error>(&head)?;
            // Another program may have put the list first.
            let Some(Value::Array(list)) = head.remove("conversations") else {
                return Err(self.end(Failure::OfFile("it has no list of conversations".into())));
            };
            return list.into_iter().try_for_each(|value| self.take(Form::Hearth, value));
        }
        // One conversation alone, as the terminal writes it.
        let alone = Value::Object(head);
        if Form::Hearth.record(alone.clone()).is_none() {
            return Err(self.end(Failure::OfFile(
                "it is neither a file of Hearth's conversations nor `conversations.json` of a ChatGPT export"
                    .into(),
            )));
        }
        self.take(Form::Hearth, alone)
    }
}

/// The list of conversations in a file of Hearth's.
struct List<'l, 'w, 't>(&'l mut Walk<'w, 't>);

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a list of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<(), A::Error> {
        self.0.take_all(Form::Hearth, list)
    }
}

/// Whether the parts of a record fit together.
fn is_sound(record: &ConversationRecord) -> bool {
    let mut known = HashSet::new();
    record.messages.iter().all(|message| {
        let is_known_role = matches!(message.role.as_str(), "user" | "assistant");
        let has_parent = message.parent.is_none_or(|parent| known.contains(&parent));
        is_known_role && has_parent && known.insert(message.id)
    })
}

/// What of a conversation is believed that anybody may have written: its texts, and neither ids of tokens, nor names
/// that a list cannot show, nor a time that would keep it above all others.
fn believed(mut record: ConversationRecord) -> ConversationRecord {
    record.title = title::of_user(&record.title);
    record.created = record.created.min(now());
    record.updated = record.updated.min(now());
    for message in &mut record.messages {
        message.tokens.clear();
        message.model = message.model.as_deref().map(title::of_user);
        if message.status == "generating" {
            message.status = "interrupted".into();
        }
    }
    record
}
