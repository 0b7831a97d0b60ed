//! ONNX files as data: read within bounds, checked before a runtime sees them, rewritten without loss.
//!
//! # A tour
//! - [`Graph`] is a model file: nodes, tensors and values decoded, each with its place in the file. Reading
//!   is a bounded walk over the raw bytes (`read`, after the `schema`) that leaves weights where they lie, so
//!   a file of two gigabytes costs what its description takes. [`proto`] holds the messages.
//! - [`preflight`] says what must not reach a runtime, by typed findings that name their tensor or node.
//! - [`Graph::write`] copies what was not edited and encodes what was, with every field that nobody here
//!   knows. Its weights are copied, or stay in the original and are referred to; those that a pass joined
//!   go piece by piece into a file of their own (`data`).
//! - [`rewrite`] holds the passes, each a function from graph to graph with a report of what it did and why
//!   it did not. They share an index over the graph (`wiring`) and a way to ask what a part of it computes
//!   (`evaluate`): [`rewrite::attention`] fuses nothing that it has not computed both ways.
//! - `family` (feature `test-support`) writes random small decoders as exporters write large ones.
//!
//! # What always holds
//! - Nothing is decoded before the walk has counted it. What two parsers could read in two ways is refused.
//! - A graph that was not edited is written as the bytes that were read.
//! - The crate knows no runtime and opens no file but the graph and the real files beside it.

mod data;
mod error;
#[cfg(feature = "test-support")]
pub mod family;
mod graph;
mod limits;
pub mod preflight;
pub mod proto;
mod read;
pub mod rewrite;
mod schema;
mod source;
mod write;

pub use error::{Error, Result};
pub use graph::{Graph, Part};
pub use limits::Limits;
pub use read::Counts;
pub use write::Weights;
