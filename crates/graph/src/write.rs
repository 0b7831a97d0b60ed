//! Writes graphs: what was not edited is copied, what was is encoded with everything that it carried.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use crate::data::is_packed_raw;
use crate::graph::{Frame, Graph, Part};
use crate::limits::Limits;
use crate::proto::{LOCATED, Located, StringStringEntryProto, TensorProto, UNKNOWN};
use crate::read::{put_delimited, put_header};
use crate::schema::{self, Form, Kind};
use crate::{Error, Result};

/// What becomes of weights that lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// They are copied into the new file.
    Embed,
    /// The new file, beside the original, says where in the original they are.
    Refer,
}

impl Graph {
    /// Writes the graph to `path`, which appears when it is whole. Weights that a pass joined come before
    /// it, into the file that the pass was told.
    ///
    /// # Errors
    /// [`Error::NotBeside`] where the graph is to refer to its original from another folder,
    /// [`Error::Unwritable`] for more bytes than a file may have, [`Error::File`] otherwise.
    pub fn write(&self, path: &Path, weights: Weights) -> Result<()> {
        let pieces = self.pieces(path, weights)?;
        for file in &self.data {
            write_whole(&path.with_file_name(&file.name), &|into| self.emit_data(file, into))?;
        }
        write_whole(path, &|into| self.emit(&pieces, into))
    }

    /// The bytes that [`Graph::write`] would write, for graphs with few weights.
    ///
    /// # Errors
    /// As [`Graph::write`].
    pub fn to_bytes(&self, weights: Weights) -> Result<Vec<u8>> {
        let path = self.path();
        let mut bytes = Vec::new();
        self.emit(&self.pieces(path, weights)?, &mut bytes).map_err(|source| failed("read", path, source))?;
        Ok(bytes)
    }

    fn emit(&self, pieces: &Pieces, into: &mut dyn Write) -> io::Result<()> {
        const CHUNK: u64 = 1 << 20;
        let mut buffer = Vec::new();
        for piece in &pieces.list {
            let (mut offset, end) = match piece {
                Piece::Bytes(bytes) => {
                    into.write_all(bytes)?;
                    continue;
                }
                Piece::Copy(start, end) => (*start, *end),
            };
            while offset < end {
                buffer.resize((end - offset).min(CHUNK) as usize, 0);
                let count = self.source.read_at(offset, &mut buffer).map_err(io::Error::other)?;
                if count < buffer.len() {
                    return Err(io::Error::other(self.cut_off(self.source.path())));
                }
                into.write_all(&buffer)?;
                offset += count as u64;
            }
        }
        Ok(())
    }

    /// Everything to be written to `path`, in order.
    fn pieces(&self, path: &Path, weights: Weights) -> Result<Pieces> {
        let reference = match weights {
            Weights::Embed => None,
            Weights::Refer => Some(self.reference(path)?),
        };
        let mut items = Items::default();
        items.frame(&self.frame, Kind::Graph);
        items.parts(&self.nodes, 1, Kind::Node, |_| None);
        items.parts(&self.initializers, 5, Kind::Tensor, |tensor| refer(tensor, reference.as_deref()?));
        items.parts(&self.inputs, 11, Kind::ValueInfo, |_| None);
        items.parts(&self.outputs, 12, Kind::ValueInfo, |_| None);
        items.parts(&self.value_infos, 13, Kind::ValueInfo, |_| None);
        let graph = items.in_order();
        let mut items = Items::default();
        items.frame(&self.model, Kind::Model);
        let [start, content, end] = self.graph_at;
        // A length may be spelt in more bytes than it needs; where it stays the same, so does its spelling.
        let field = if graph.len == end - content {
            let mut field = Pieces::default();
            field.copy(start, content);
            field.append(graph);
            field
        } else {
            graph.into_field(7)
        };
        items.0.push((start, field));
        let pieces = items.in_order();
        let limit = Limits::default().file_bytes;
        if pieces.len > limit {
            return Err(Error::Unwritable { path: path.to_path_buf(), bytes: pieces.len, limit });
        }
        Ok(pieces)
    }

    /// The name by which a file at `path` calls the original.
    fn reference(&self, path: &Path) -> Result<String> {
        let folder = |path: &Path| -> PathBuf {
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
        };
        let original = self.path();
        let name = original.file_name().and_then(|name| name.to_str());
        match name.filter(|name| crate::preflight::is_plain_name(name)) {
            Some(name) if folder(path) == folder(original) => Ok(name.to_owned()),
            _ => Err(Error::NotBeside { path: path.to_path_buf(), original: original.to_path_buf() }),
        }
    }
}

/// Writes what `emit` gives to `path`, which appears when it is whole.
fn write_whole(path: &Path, emit: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = write_part(&part, emit).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The error that led here says more than a second one.
        fs::remove_file(&part).ok();
    }
    written.map_err(|source| failed("write", path, source))
}

/// What went wrong with the file at `path`, or with the one from which it was to be copied.
fn failed(doing: &'static str, path: &Path, source: io::Error) -> Error {
    match source.downcast() {
        Ok(error) => error,
        Err(source) => Error::File { doing, path: path.to_path_buf(), source },
    }
}

fn write_part(part: &Path, emit: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = BufWriter::new(File::create_new(part)?);
    emit(&mut file)?;
    file.into_inner()?.sync_all()
}

/// The tensor with a reference to `file` in the place of weights whose bytes are what they would be there.
fn refer(tensor: &TensorProto, file: &str) -> Option<TensorProto> {
    let [located] = tensor.located.as_slice() else { return None };
    // External data is little-endian bytes, which some packed numbers are as well.
    if located.field != 9 && !is_packed_raw(tensor, located.field) {
        return None;
    }
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
        ..Default::default()
    };
    let mut tensor = tensor.clone();
    tensor.located.clear();
    tensor.data_location = Some(1);
    tensor.external_data = vec![
        entry("location", file.to_owned()),
        entry("offset", located.offset.to_string()),
        entry("length", located.length.to_string()),
    ];
    Some(tensor)
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// From one place of the original to another.
    Copy(u64, u64),
}

#[derive(Debug, Default)]
struct Pieces {
    list: Vec<Piece>,
    len: u64,
}

impl Pieces {
    fn bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        match self.list.last_mut() {
            Some(Piece::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.list.push(Piece::Bytes(bytes.to_vec())),
        }
    }

    fn copy(&mut self, start: u64, end: u64) {
        self.len += end - start;
        match self.list.last_mut() {
            Some(Piece::Copy(_, last)) if *last == start => *last = end,
            _ => self.list.push(Piece::Copy(start, end)),
        }
    }

    fn append(&mut self, other: Pieces) {
        for piece in other.list {
            match piece {
                Piece::Bytes(bytes) => self.bytes(&bytes),
                Piece::Copy(start, end) => self.copy(start, end),
            }
        }
    }

    /// The pieces as the value of a field.
    fn into_field(self, number: u32) -> Pieces {
        let mut header = Vec::new();
        put_header(&mut header, number, self.len);
        let mut field = Pieces::default();
        field.bytes(&header);
        field.append(self);
        field
    }
}

/// Pieces with the places of the original at which they belong.
#[derive(Default)]
struct Items(Vec<(u64, Pieces)>);

impl Items {
    fn frame<T: Message>(&mut self, frame: &Frame<T>, kind: Kind) {
        if frame.is_edited {
            let start = frame.fields.first().map_or(0, |field| field.0);
            self.0.push((start, restore(kind, &frame.value.encode_to_vec())));
            return;
        }
        for &(start, end) in &frame.fields {
            let mut pieces = Pieces::default();
            pieces.copy(start, end);
            self.0.push((start, pieces));
        }
    }

    /// A list keeps its own order; beyond that everything stays where it was.
    fn parts<T: Message>(
        &mut self,
        parts: &[Part<T>],
        number: u32,
        kind: Kind,
        replaced: impl Fn(&T) -> Option<T>,
    ) {
        let mut place = 0;
        for part in parts {
            place = part.origin.map_or(place, |(start, _)| place.max(start));
            let replaced = replaced(part);
            let pieces = match part.origin {
                Some((start, end)) if part.is_untouched() && replaced.is_none() => {
                    let mut pieces = Pieces::default();
                    pieces.copy(start, end);
                    pieces
                }
                _ => {
                    let message: &T = replaced.as_ref().unwrap_or(part);
                    restore(kind, &message.encode_to_vec()).into_field(number)
                }
            };
            self.0.push((place, pieces));
        }
    }

    fn in_order(mut self) -> Pieces {
        self.0.sort_by_key(|(place, _)| *place);
        let mut all = Pieces::default();
        for (_, pieces) in self.0 {
            all.append(pieces);
        }
        all
    }
}

/// A description as a message of a file: unknown fields and weights return to what they stand for.
fn restore(kind: Kind, mut description: &[u8]) -> Pieces {
    use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
    const SOUND: &str = "it was encoded a moment ago";
    let mut pieces = Pieces::default();
    while !description.is_empty() {
        let whole = description;
        let (number, wire) = decode_key(&mut description).expect(SOUND);
        if wire != WireType::LengthDelimited {
            skip_field(wire, number, &mut description, Default::default()).expect(SOUND);
            pieces.bytes(&whole[..whole.len() - description.len()]);
            continue;
        }
        let length = decode_varint(&mut description).expect(SOUND) as usize;
        let (value, rest) = description.split_at(length);
        description = rest;
        match (number, schema::field(kind, number).map(|field| field.form)) {
            (UNKNOWN, _) => pieces.bytes(value),
            (LOCATED, _) => {
                let located = Located::decode(value).expect(SOUND);
                let mut header = Vec::new();
                put_header(&mut header, located.field, located.length);
                pieces.bytes(&header);
                pieces.copy(located.offset, located.offset + located.length);
            }
            (_, Some(Form::Message(kind))) => pieces.append(restore(kind, value).into_field(number)),
            _ => {
                let mut field = Vec::new();
                put_delimited(&mut field, number, value);
                pieces.bytes(&field);
            }
        }
    }
    pieces
}
