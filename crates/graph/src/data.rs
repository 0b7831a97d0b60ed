//! Weights by where they lie, and files of weights that are made of such when a graph is written.

use std::io::{self, Write};
use std::path::Path;

use crate::graph::Graph;
use crate::preflight::{element_bits, external};
use crate::proto::{StringStringEntryProto, TensorProto, data_type};
use crate::source::Source;
use crate::{Error, Result};

/// Every tensor of a new file begins at a multiple of this, which is the width of the widest loads.
const ALIGNMENT: u64 = 64;
/// The bytes that are in memory at once while a file is made.
const CHUNK: u64 = 4 << 20;

/// Where the bytes of a tensor lie, little-endian and without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file of the graph.
    Here { offset: u64, length: u64 },
    /// In a file beside it.
    Beside { file: String, offset: u64, length: u64 },
    /// In memory, as those of small tensors are.
    Held(Vec<u8>),
}

impl Place {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Here { length, .. } | Self::Beside { length, .. } => *length,
            Self::Held(bytes) => bytes.len() as u64,
        }
    }
}

/// A file of weights that is written beside the graph.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    pub(crate) name: String,
    pieces: Vec<Place>,
    length: u64,
}

impl DataFile {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), pieces: Vec::new(), length: 0 }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// A tensor whose bytes are those of `parts`, one behind the other.
    pub(crate) fn join(
        &mut self,
        name: String,
        data_type: i32,
        dims: Vec<i64>,
        parts: Vec<Place>,
    ) -> TensorProto {
        let padding = self.length.next_multiple_of(ALIGNMENT) - self.length;
        self.append(Place::Held(vec![0; padding as usize]));
        let offset = self.length;
        parts.into_iter().for_each(|part| self.append(part));
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
            ..Default::default()
        };
        TensorProto {
            name: Some(name),
            data_type: Some(data_type),
            dims,
            data_location: Some(1),
            external_data: vec![
                entry("location", self.name.clone()),
                entry("offset", offset.to_string()),
                entry("length", (self.length - offset).to_string()),
            ],
            ..Default::default()
        }
    }

    fn append(&mut self, part: Place) {
        self.length += part.length();
        self.pieces.push(part);
    }
}

impl Graph {
    /// Where the bytes of `tensor` lie; `None` where they lie in another form, or in no file yet.
    pub(crate) fn place(&self, tensor: &TensorProto) -> Option<Place> {
        let elements = crate::preflight::elements(&tensor.dims).ok()??;
        let expected = elements.checked_mul(element_bits(tensor.data_type())?)?.div_ceil(8);
        let place = match external(tensor).ok()? {
            Some(external) if self.data.iter().any(|file| file.name == external.file) => return None,
            Some(external) => Place::Beside {
                file: external.file.to_owned(),
                offset: external.offset,
                length: external.length.unwrap_or(expected),
            },
            None => match tensor.located.as_slice() {
                [located] if located.field == 9 || is_packed_raw(tensor, located.field) => {
                    Place::Here { offset: located.offset, length: located.length }
                }
                [] => Place::Held(held(tensor)?),
                _ => return None,
            },
        };
        (place.length() == expected).then_some(place)
    }

    /// `length` of the bytes at `place`, from `skipped` on.
    ///
    /// # Errors
    /// [`Error::File`] where they cannot be read.
    pub(crate) fn read_at(&self, place: &Place, skipped: u64, length: u64) -> Result<Vec<u8>> {
        self.read_from(place, &mut Opened::default(), skipped, length)
    }

    fn read_from(&self, place: &Place, opened: &mut Opened, skipped: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        let (source, offset) = match place {
            Place::Held(held) => {
                let part = held.get(skipped as usize..(skipped + length) as usize);
                return part.map(<[u8]>::to_vec).ok_or_else(|| self.cut_off(self.path()));
            }
            Place::Here { offset, .. } => (self.source.as_ref(), offset),
            Place::Beside { file, offset, .. } => {
                (opened.file(&self.path().with_file_name(file), self.source.other_names())?, offset)
            }
        };
        let read = source.read_at(offset + skipped, &mut bytes)?;
        if read == bytes.len() { Ok(bytes) } else { Err(self.cut_off(source.path())) }
    }

    /// What is wrong with a file that ends before what was to be read of it.
    pub(crate) fn cut_off(&self, path: &Path) -> Error {
        Error::File { doing: "read", path: path.to_path_buf(), source: io::ErrorKind::UnexpectedEof.into() }
    }

    /// Writes the bytes of `file`, a few at a time.
    pub(crate) fn emit_data(&self, file: &DataFile, into: &mut dyn Write) -> io::Result<()> {
        let mut opened = Opened::default();
        for place in &file.pieces {
            let mut done = 0;
            while done < place.length() {
                let length = (place.length() - done).min(CHUNK);
                let bytes = self.read_from(place, &mut opened, done, length).map_err(io::Error::other)?;
                into.write_all(&bytes)?;
                done += length;
            }
        }
        Ok(())
    }
}

/// The file that was read last: neighbouring pieces mostly share it.
#[derive(Default)]
struct Opened(Option<Source>);

impl Opened {
    fn file(&mut self, path: &Path, other_names: bool) -> Result<&Source> {
        if self.0.as_ref().is_none_or(|source| source.path() != path) {
            self.0 = None;
        }
        match &mut self.0 {
            Some(source) => Ok(source),
            empty => Ok(empty.insert(Source::open(path, other_names)?)),
        }
    }
}

/// Whether the packed numbers of this field lie as little-endian bytes.
pub(crate) fn is_packed_raw(tensor: &TensorProto, field: u32) -> bool {
    matches!((field, tensor.data_type()), (4, data_type::FLOAT) | (10, data_type::DOUBLE))
}

/// The bytes of a small tensor.
fn held(tensor: &TensorProto) -> Option<Vec<u8>> {
    if let Some(raw) = &tensor.raw_data {
        return Some(raw.clone());
    }
    match tensor.data_type() {
        data_type::FLOAT => Some(tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect()),
        data_type::UINT8 => tensor.int32_data.iter().map(|&value| u8::try_from(value).ok()).collect(),
        data_type::FLOAT16 => {
            let halves: Option<Vec<u16>> =
                tensor.int32_data.iter().map(|&value| u16::try_from(value).ok()).collect();
            Some(halves?.into_iter().flat_map(u16::to_le_bytes).collect())
        }
        _ => None,
    }
}
