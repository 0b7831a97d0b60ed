//! Which graph of a folder runs: the prepared one where it holds for this machine, else the original.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::Names;
use super::record::{self, GraphToRun, Prepared};
use super::{files, passes};
use crate::onnx::{ExecutionProviderChoice, Runtime};

/// The graph that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum GraphChoice {
    /// The one that was rewritten for this machine.
    Prepared,
    /// The one that came with the model.
    Original { why: WhyOriginal },
}

/// Why the original runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum WhyOriginal {
    /// Nobody has prepared the model.
    NotPrepared,
    /// It was prepared for something else.
    Outdated { changed: String },
    /// A preparation found nothing better.
    Best { reason: String },
    /// The prepared graph or its record is damaged or does not load.
    Unusable { reason: String },
    /// Graphs are prepared for the CPU, and another provider is asked for.
    OtherProvider,
}

impl GraphChoice {
    /// Whether preparing the model may give a better graph than the one that runs.
    pub fn wants_preparation(&self) -> bool {
        use WhyOriginal::{NotPrepared, Outdated, Unusable};
        matches!(self, Self::Original { why: NotPrepared | Outdated { .. } | Unusable { .. } })
    }
}

impl fmt::Display for GraphChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared => formatter.write_str("rewritten for this machine"),
            Self::Original { why } => write!(formatter, "the original, because {why}"),
        }
    }
}

impl fmt::Display for WhyOriginal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPrepared => formatter.write_str("it was never prepared"),
            Self::Outdated { changed } => {
                write!(formatter, "{changed} changed since it was prepared")
            }
            Self::Best { reason } => formatter.write_str(reason),
            Self::Unusable { reason } => write!(formatter, "the prepared one cannot be used: {reason}"),
            Self::OtherProvider => formatter.write_str("graphs are prepared for the CPU only"),
        }
    }
}

/// The graph to load, with what is known of it.
pub(crate) struct Choice {
    /// The graph's file, relative to the model folder.
    pub(crate) graph: String,
    pub(crate) choice: GraphChoice,
    /// The record, where it holds.
    pub(crate) prepared: Option<Prepared>,
}

/// Makes the record of `graph` void, whose prepared graph was whole and did not load.
pub(crate) fn discard(folder: &Path, graph: &str) {
    if let Err(error) = Names::of(&folder.join(graph)).remove_prepared() {
        tracing::warn!(%error, "a prepared graph that does not load stays behind");
    }
}

/// Chooses between the original `graph` of `folder` and what was made of it.
pub(crate) fn choose(
    folder: &Path,
    graph: &str,
    runtime: &Runtime,
    threads: usize,
    provider: ExecutionProviderChoice,
) -> Choice {
    Names::of(&folder.join(graph)).remove_leftovers();
    let original =
        |why, prepared| Choice { graph: graph.to_owned(), choice: GraphChoice::Original { why }, prepared };
    match record::judge(folder, graph, passes::ALL, runtime) {
        Err(why) => original(why, None),
        Ok(prepared) if provider == ExecutionProviderChoice::CoreMl => {
            original(WhyOriginal::OtherProvider, Some(prepared))
        }
        Ok(prepared) => match &prepared.run {
            GraphToRun::Original { .. } if prepared.key.threads != threads => {
                original(WhyOriginal::Outdated { changed: "the number of threads".to_owned() }, None)
            }
            GraphToRun::Original { reason } => {
                original(WhyOriginal::Best { reason: reason.clone() }, Some(prepared))
            }
            GraphToRun::Prepared(file) => {
                let graph = files::sibling(graph, &file.file);
                Choice { graph, choice: GraphChoice::Prepared, prepared: Some(prepared) }
            }
        },
    }
}
