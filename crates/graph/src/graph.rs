//! A model as its file has it: every node, tensor and value decoded, each with its place in the file.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use prost::Message;

use crate::data::DataFile;
use crate::limits::Limits;
use crate::preflight::Files;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::read::{Counts, Cursor, Description, Tag, Walk};
use crate::schema::Kind;
use crate::source::Source;
use crate::{Result, preflight};

/// A model file: its description in memory, its weights where they lie.
///
/// What is not edited is written byte for byte as it was read.
#[derive(Debug, Clone)]
pub struct Graph {
    pub(crate) source: Arc<Source>,
    /// Everything but the graph.
    pub(crate) model: Frame<ModelProto>,
    /// Where the graph's field begins, its content, and where both end.
    pub(crate) graph_at: [u64; 3],
    /// Everything of the graph but the lists below.
    pub(crate) frame: Frame<GraphProto>,
    pub nodes: Vec<Part<NodeProto>>,
    /// Weights and other constants with a name.
    pub initializers: Vec<Part<TensorProto>>,
    pub inputs: Vec<Part<ValueInfoProto>>,
    pub outputs: Vec<Part<ValueInfoProto>>,
    /// Types and shapes that the file states of inner values.
    pub value_infos: Vec<Part<ValueInfoProto>>,
    /// Files of joined weights, which are written with the graph.
    pub(crate) data: Vec<DataFile>,
    counts: Counts,
}

/// One message of a list, with its place in the file as long as it is what it was there.
#[derive(Debug, Clone)]
pub struct Part<T> {
    value: T,
    pub(crate) origin: Option<(u64, u64)>,
    pub(crate) is_edited: bool,
}

impl<T> Part<T> {
    /// A message that no file has yet.
    pub fn new(value: T) -> Self {
        Self { value, origin: None, is_edited: true }
    }

    /// The message, to be changed: it is encoded anew when the graph is written.
    pub fn edit(&mut self) -> &mut T {
        self.is_edited = true;
        &mut self.value
    }

    /// Whether it is written as it was read.
    pub fn is_untouched(&self) -> bool {
        !self.is_edited
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The fields around lists: several places of the file, decoded as one message.
#[derive(Debug, Clone)]
pub(crate) struct Frame<T> {
    pub(crate) value: T,
    pub(crate) fields: Vec<(u64, u64)>,
    pub(crate) is_edited: bool,
}

impl Graph {
    /// Reads the model at `path`. It is not checked yet: [`preflight::check`] is what a runtime needs.
    ///
    /// # Errors
    /// What is no real file, no ONNX model, damaged, or larger than `limits` allow.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::read(Source::open(path, limits.other_names)?, limits)
    }

    /// Reads a model from memory. `path` is its name in errors, and where its external data would lie.
    ///
    /// # Errors
    /// As [`Graph::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Self> {
        Self::read(Source::memory(path, bytes), limits)
    }

    fn read(source: Source, limits: &Limits) -> Result<Self> {
        let source = Arc::new(source);
        let mut walk = Walk::new(&source, limits)?;
        let mut cursor = walk.model()?;
        let (mut description, mut fields, mut graph) = (Description::default(), Vec::new(), None);
        while let Some(tag) = walk.next(&mut cursor)? {
            if tag.number == 7 {
                let inner = walk.child(&mut cursor, tag)?;
                graph = Some(([tag.start, inner.position, cursor.position], Lists::read(&mut walk, inner)?));
            } else {
                walk.field(&mut cursor, tag, &mut description)?;
                fields.push((tag.start, cursor.position));
            }
        }
        let Some((graph_at, lists)) = graph else {
            return Err(walk.malformed(source.len(), Kind::Model, "it has no graph"));
        };
        let model = Frame { value: decode(&walk, 0, Kind::Model, description)?, fields, is_edited: false };
        let counts = walk.counts;
        drop(walk);
        let Lists { frame, nodes, initializers, inputs, outputs, value_infos } = lists;
        let data = Vec::new();
        Ok(Self {
            source,
            model,
            graph_at,
            frame,
            nodes,
            initializers,
            inputs,
            outputs,
            value_infos,
            data,
            counts,
        })
    }

    /// The files that may hold its weights.
    pub(crate) fn files(&self) -> Files {
        Files::beside(self.path()).with_other_names(self.source.other_names())
    }

    /// The file that the graph was read from.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Everything of the model but its graph.
    pub fn model(&self) -> &ModelProto {
        &self.model.value
    }

    /// Everything of the model but its graph, to be changed.
    pub fn edit_model(&mut self) -> &mut ModelProto {
        self.model.is_edited = true;
        &mut self.model.value
    }

    /// Everything of the graph but nodes, initializers, inputs, outputs and described values.
    pub fn frame(&self) -> &GraphProto {
        &self.frame.value
    }

    /// What the walk met.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The version of an operator set, where the model imports it. The standard set's domain is empty.
    pub fn operator_set(&self, domain: &str) -> Option<i64> {
        let same = |other: &str| preflight::canonical_domain(other) == preflight::canonical_domain(domain);
        let imports = self.model.value.opset_import.iter();
        imports.filter(|set| same(set.domain())).map(|set| set.version()).next_back()
    }
}

/// What a graph is made of.
struct Lists {
    frame: Frame<GraphProto>,
    nodes: Vec<Part<NodeProto>>,
    initializers: Vec<Part<TensorProto>>,
    inputs: Vec<Part<ValueInfoProto>>,
    outputs: Vec<Part<ValueInfoProto>>,
    value_infos: Vec<Part<ValueInfoProto>>,
}

impl Lists {
    fn read(walk: &mut Walk<'_>, mut cursor: Cursor) -> Result<Self> {
        let (mut description, mut fields) = (Description::default(), Vec::new());
        let (mut nodes, mut initializers) = (Vec::new(), Vec::new());
        let (mut inputs, mut outputs, mut value_infos) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(tag) = walk.next(&mut cursor)? {
            match tag.number {
                1 => nodes.push(part(walk, &mut cursor, tag)?),
                5 => initializers.push(part(walk, &mut cursor, tag)?),
                11 => inputs.push(part(walk, &mut cursor, tag)?),
                12 => outputs.push(part(walk, &mut cursor, tag)?),
                13 => value_infos.push(part(walk, &mut cursor, tag)?),
                _ => {
                    walk.field(&mut cursor, tag, &mut description)?;
                    fields.push((tag.start, cursor.position));
                }
            }
        }
        let value = decode(walk, cursor.position, Kind::Graph, description)?;
        let frame = Frame { value, fields, is_edited: false };
        Ok(Self { frame, nodes, initializers, inputs, outputs, value_infos })
    }
}

/// One message of a list.
fn part<T: Message + Default>(walk: &mut Walk<'_>, cursor: &mut Cursor, tag: Tag) -> Result<Part<T>> {
    let child = walk.child(cursor, tag)?;
    let kind = child.kind;
    let bytes = walk.describe(child)?;
    let value =
        T::decode(bytes.as_slice()).map_err(|error| walk.malformed(tag.start, kind, error.to_string()))?;
    Ok(Part { value, origin: Some((tag.start, cursor.position)), is_edited: false })
}

fn decode<T: Message + Default>(
    walk: &Walk<'_>,
    offset: u64,
    kind: Kind,
    description: Description,
) -> Result<T> {
    let bytes = description.into_bytes();
    T::decode(bytes.as_slice()).map_err(|error| walk.malformed(offset, kind, error.to_string()))
}
