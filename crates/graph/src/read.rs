//! The bounded walk: visits every message of a file before anything is decoded, counts what it finds, and
//! leaves weights where they are.
//!
//! For each message the walk writes its description: the same message without long weights (their place
//! in the file stands for them) and with the fields that the schema does not know gathered in one. Only
//! descriptions are decoded, so memory follows the limits and never what a file says of itself.
//!
//! A file must be unambiguous: a field that may occur once occurs once, every value has the type that the
//! schema gives it, and groups, which ONNX never had, are refused. What two parsers could read in two ways
//! could pass the one and reach the other.

use prost::Message;
use prost::encoding::encode_varint;

use crate::limits::Limits;
use crate::proto::{LOCATED, Located, UNKNOWN};
use crate::schema::{self, Form, Kind};
use crate::source::{Source, Window};
use crate::{Error, Result};

/// Weights up to this size are read with the description: shapes, axes and scalars.
pub(crate) const INLINE_WEIGHTS: u64 = 2 << 10;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// One message of the file, walked field by field.
pub(crate) struct Cursor {
    pub(crate) kind: Kind,
    pub(crate) position: u64,
    end: u64,
    depth: usize,
    /// The fields that may occur once and did.
    seen: u64,
}

/// The beginning of a field.
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) number: u32,
    wire: u8,
    pub(crate) start: u64,
}

/// What is decoded of a message.
#[derive(Default)]
pub(crate) struct Description {
    known: Vec<u8>,
    unknown: Vec<u8>,
}

impl Description {
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        if !self.unknown.is_empty() {
            put_delimited(&mut self.known, UNKNOWN, &self.unknown);
        }
        self.known
    }
}

/// What the walk has met so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of every kind.
    pub messages: usize,
    /// Nodes, those of subgraphs and functions too.
    pub nodes: usize,
    /// Attributes of all nodes.
    pub attributes: usize,
    /// Tensors, wherever they stand.
    pub tensors: usize,
    /// Entries of lists: names, dimensions, numbers.
    pub entries: usize,
    /// Bytes of the description.
    pub description: u64,
    /// Bytes of weights that lie in the file itself.
    pub weights: u64,
}

pub(crate) struct Walk<'a> {
    source: &'a Source,
    window: Window<'a>,
    limits: &'a Limits,
    pub(crate) counts: Counts,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a Source, limits: &'a Limits) -> Result<Self> {
        let walk = Self { source, window: Window::new(source), limits, counts: Counts::default() };
        if source.len() > limits.file_bytes {
            return Err(walk.too_large(limits.file_bytes, Kind::Model, "bytes", limits.file_bytes));
        }
        Ok(walk)
    }

    /// The cursor of the whole file.
    pub(crate) fn model(&mut self) -> Result<Cursor> {
        self.enter(Kind::Model, 0, self.source.len(), 1)
    }

    /// Begins a message between two places of the file.
    pub(crate) fn enter(&mut self, kind: Kind, start: u64, end: u64, depth: usize) -> Result<Cursor> {
        let limits = self.limits;
        if depth > limits.depth {
            return Err(self.too_large(start, kind, "messages inside messages", limits.depth as u64));
        }
        let (count, what, limit) = match kind {
            Kind::Node => (&mut self.counts.nodes, "nodes", limits.nodes),
            Kind::Attribute => (&mut self.counts.attributes, "attributes", limits.attributes),
            Kind::Tensor => (&mut self.counts.tensors, "tensors", limits.tensors),
            _ => (&mut self.counts.entries, "entries", limits.entries),
        };
        *count += 1;
        if *count > limit {
            return Err(self.too_large(start, kind, what, limit as u64));
        }
        self.counts.messages += 1;
        if self.counts.messages > limits.messages {
            return Err(self.too_large(start, kind, "messages", limits.messages as u64));
        }
        Ok(Cursor { kind, position: start, end, depth, seen: 0 })
    }

    /// The next field's beginning, or `None` at the end of the message.
    pub(crate) fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Tag>> {
        let start = cursor.position;
        if start == cursor.end {
            return Ok(None);
        }
        let key = self.varint(cursor)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| self.malformed(start, cursor.kind, "a field has no number"))?;
        Ok(Some(Tag { number, wire: (key & 7) as u8, start }))
    }

    /// The message that the field holds, if the schema says that it holds one.
    pub(crate) fn child(&mut self, cursor: &mut Cursor, tag: Tag) -> Result<Cursor> {
        let Some(schema::Field { form: Form::Message(kind), repeated, .. }) =
            schema::field(cursor.kind, tag.number)
        else {
            return Err(self.malformed(tag.start, cursor.kind, "a field is no message"));
        };
        self.once(cursor, tag, repeated)?;
        let (start, end) = self.delimited(cursor, tag)?;
        cursor.position = end;
        self.enter(kind, start, end, cursor.depth + 1)
    }

    /// The description of the rest of a message.
    pub(crate) fn describe(&mut self, mut cursor: Cursor) -> Result<Vec<u8>> {
        let mut description = Description::default();
        while let Some(tag) = self.next(&mut cursor)? {
            self.field(&mut cursor, tag, &mut description)?;
        }
        Ok(description.into_bytes())
    }

    /// Puts one field into the description.
    pub(crate) fn field(&mut self, cursor: &mut Cursor, tag: Tag, into: &mut Description) -> Result<()> {
        let Some(field) = schema::field(cursor.kind, tag.number) else {
            self.skip(cursor, tag)?;
            return self.copy(cursor.kind, tag.start, cursor.position, &mut into.unknown);
        };
        if let Form::Message(_) = field.form {
            let child = self.child(cursor, tag)?;
            let bytes = self.describe(child)?;
            put_delimited(&mut into.known, tag.number, &bytes);
            return self.describes(cursor.kind, tag.start, 4);
        }
        self.once(cursor, tag, field.repeated)?;
        let packed = field.repeated && tag.wire == DELIMITED;
        match (field.form, tag.wire) {
            (Form::Varint, VARINT) | (Form::Fixed32, FIXED32) | (Form::Fixed64, FIXED64) => {
                self.entries(cursor.kind, tag.start, 1)?;
                self.skip(cursor, tag)?;
            }
            (Form::Text | Form::Bytes, DELIMITED) => {
                let (start, end) = self.delimited(cursor, tag)?;
                cursor.position = end;
                if field.weights && end - start > INLINE_WEIGHTS {
                    return self.locate(cursor.kind, tag, start, end, 0, into);
                }
                if field.form == Form::Text && end - start > self.limits.text_bytes {
                    let limit = self.limits.text_bytes;
                    return Err(self.too_large(tag.start, cursor.kind, "bytes of one text", limit));
                }
                self.entries(cursor.kind, tag.start, 1)?;
            }
            (Form::Varint | Form::Fixed32 | Form::Fixed64, DELIMITED) if packed => {
                let (start, end) = self.delimited(cursor, tag)?;
                cursor.position = end;
                let elements = self.packed(cursor.kind, field.form, start, end)?;
                if field.weights && end - start > INLINE_WEIGHTS {
                    return self.locate(cursor.kind, tag, start, end, elements, into);
                }
                self.entries(cursor.kind, tag.start, elements)?;
            }
            _ => {
                let reason = format!("field {} has another type than ONNX gives it", tag.number);
                return Err(self.malformed(tag.start, cursor.kind, reason));
            }
        }
        self.copy(cursor.kind, tag.start, cursor.position, &mut into.known)
    }

    /// Leaves weights in the file.
    fn locate(
        &mut self,
        kind: Kind,
        tag: Tag,
        start: u64,
        end: u64,
        elements: u64,
        into: &mut Description,
    ) -> Result<()> {
        let located = Located { field: tag.number, offset: start, length: end - start, elements };
        put_delimited(&mut into.known, LOCATED, &located.encode_to_vec());
        self.counts.weights += end - start;
        self.entries(kind, tag.start, 1)
    }

    /// Refuses the second occurrence of what may occur once.
    fn once(&self, cursor: &mut Cursor, tag: Tag, repeated: bool) -> Result<()> {
        let bit = 1_u64.checked_shl(tag.number).unwrap_or(0);
        if !repeated && cursor.seen & bit != 0 {
            let reason = format!("field {} occurs twice", tag.number);
            return Err(self.malformed(tag.start, cursor.kind, reason));
        }
        cursor.seen |= bit;
        Ok(())
    }

    /// Moves behind the value of a field.
    fn skip(&mut self, cursor: &mut Cursor, tag: Tag) -> Result<()> {
        let fixed = match tag.wire {
            VARINT => return self.varint(cursor).map(drop),
            DELIMITED => {
                cursor.position = self.delimited(cursor, tag)?.1;
                return Ok(());
            }
            FIXED64 => 8,
            FIXED32 => 4,
            _ => return Err(self.malformed(tag.start, cursor.kind, "a field has no known type")),
        };
        if cursor.end - cursor.position < fixed {
            return Err(self.malformed(tag.start, cursor.kind, "a number runs past its end"));
        }
        cursor.position += fixed;
        Ok(())
    }

    /// Where the bytes of a field begin and end.
    fn delimited(&mut self, cursor: &mut Cursor, tag: Tag) -> Result<(u64, u64)> {
        if tag.wire != DELIMITED {
            let reason = format!("field {} has another type than ONNX gives it", tag.number);
            return Err(self.malformed(tag.start, cursor.kind, reason));
        }
        let length = self.varint(cursor)?;
        let start = cursor.position;
        if length > cursor.end - start {
            let missing = length - (cursor.end - start);
            let reason = format!("a field of {length} bytes ends {missing} bytes too early");
            return Err(self.malformed(tag.start, cursor.kind, reason));
        }
        Ok((start, start + length))
    }

    fn varint(&mut self, cursor: &mut Cursor) -> Result<u64> {
        let (start, mut value) = (cursor.position, 0_u64);
        for shift in (0..70).step_by(7) {
            if cursor.position == cursor.end {
                return Err(self.malformed(start, cursor.kind, "a number runs past its end"));
            }
            let byte = self.byte(cursor.kind, cursor.position)?;
            cursor.position += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed(start, cursor.kind, "a number has more than 64 bits"))
    }

    fn byte(&mut self, kind: Kind, position: u64) -> Result<u8> {
        match self.window.bytes(position)?.first() {
            Some(&byte) => Ok(byte),
            None => Err(self.malformed(position, kind, "the file became shorter while it was read")),
        }
    }

    /// The number of elements of a packed list, each of them whole.
    fn packed(&mut self, kind: Kind, form: Form, start: u64, end: u64) -> Result<u64> {
        let size = match form {
            Form::Fixed32 => 4,
            Form::Fixed64 => 8,
            _ => return self.packed_varints(kind, start, end),
        };
        if (end - start).is_multiple_of(size) {
            Ok((end - start) / size)
        } else {
            Err(self.malformed(start, kind, "a list ends within a number"))
        }
    }

    fn packed_varints(&mut self, kind: Kind, start: u64, end: u64) -> Result<u64> {
        let (mut position, mut count, mut length) = (start, 0, 0);
        while position < end {
            let bytes = self.window.bytes(position)?;
            let bytes = &bytes[..bytes.len().min(usize::try_from(end - position).unwrap_or(usize::MAX))];
            if bytes.is_empty() {
                return Err(self.malformed(position, kind, "the file became shorter while it was read"));
            }
            position += bytes.len() as u64;
            for byte in bytes {
                length += 1;
                if length > 10 {
                    return Err(self.malformed(start, kind, "a number has more than 64 bits"));
                }
                if *byte < 0x80 {
                    count += 1;
                    length = 0;
                }
            }
        }
        if length == 0 { Ok(count) } else { Err(self.malformed(start, kind, "a list ends within a number")) }
    }

    /// Copies bytes of the file into a description.
    fn copy(&mut self, kind: Kind, start: u64, end: u64, into: &mut Vec<u8>) -> Result<()> {
        self.describes(kind, start, end - start)?;
        let mut position = start;
        while position < end {
            let bytes = self.window.bytes(position)?;
            let bytes = &bytes[..bytes.len().min(usize::try_from(end - position).unwrap_or(usize::MAX))];
            if bytes.is_empty() {
                return Err(self.malformed(position, kind, "the file became shorter while it was read"));
            }
            into.extend_from_slice(bytes);
            position += bytes.len() as u64;
        }
        Ok(())
    }

    /// Counts bytes of the description.
    fn describes(&mut self, kind: Kind, position: u64, bytes: u64) -> Result<()> {
        self.counts.description += bytes;
        if self.counts.description > self.limits.description_bytes {
            let limit = self.limits.description_bytes;
            return Err(self.too_large(position, kind, "bytes beside its weights", limit));
        }
        Ok(())
    }

    /// Counts entries of lists, which take more memory than bytes in the file.
    fn entries(&mut self, kind: Kind, position: u64, count: u64) -> Result<()> {
        let limit = self.limits.entries;
        let entries = usize::try_from(count).ok().and_then(|count| self.counts.entries.checked_add(count));
        match entries.filter(|&entries| entries <= limit) {
            Some(entries) => {
                self.counts.entries = entries;
                Ok(())
            }
            None => Err(self.too_large(position, kind, "entries", limit as u64)),
        }
    }

    pub(crate) fn malformed(&self, offset: u64, kind: Kind, reason: impl Into<String>) -> Error {
        let (path, within) = (self.source.path().to_path_buf(), kind.describe());
        Error::Malformed { path, offset, within, reason: reason.into() }
    }

    fn too_large(&self, offset: u64, kind: Kind, what: &'static str, limit: u64) -> Error {
        let (path, within) = (self.source.path().to_path_buf(), kind.describe());
        Error::TooLarge { path, offset, within, what, limit }
    }
}

/// Puts a field of bytes.
pub(crate) fn put_delimited(into: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_header(into, number, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Puts what stands before the bytes of a field.
pub(crate) fn put_header(into: &mut Vec<u8>, number: u32, length: u64) {
    encode_varint(u64::from(number) << 3 | u64::from(DELIMITED), into);
    encode_varint(length, into);
}
