//! What can be wrong with a graph, and where.

use std::fmt;

use crate::proto::NodeProto;

/// The most findings of a report: a hostile file may hold one per byte.
const MOST_FINDINGS: usize = 100;

/// One reason to refuse a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub place: Place,
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.problem)
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Such as `tensor` or `node`.
    pub what: &'static str,
    /// Its name, made fit to be shown.
    pub name: String,
    /// The node, function or training program that it is part of.
    pub within: Option<String>,
}

impl Place {
    pub(super) fn new(what: &'static str, name: &str, within: Option<&str>) -> Self {
        Self { what, name: shown(name), within: within.map(str::to_owned) }
    }

    pub(super) fn model() -> Self {
        Self { what: "model", name: String::new(), within: None }
    }

    pub(super) fn node(node: &NodeProto, within: Option<&str>) -> Self {
        Self { what: "node", name: node_name(node), within: within.map(str::to_owned) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what == "model" {
            return formatter.write_str("the model");
        }
        write!(formatter, "{} `{}`", self.what, self.name)?;
        match &self.within {
            Some(within) => write!(formatter, " in {within}"),
            None => Ok(()),
        }
    }
}

/// The name of a node, or what it makes where it has none, with its operator.
pub(super) fn node_name(node: &NodeProto) -> String {
    let name = match node.name() {
        "" => node.output.iter().find(|output| !output.is_empty()).map_or("", String::as_str),
        name => name,
    };
    format!("{} ({})", shown(name), shown(node.op_type()))
}

/// Foreign text as it may be shown: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Why a graph must not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("its weights are said to lie in `{location}`, which is no plain file name")]
    NotAFileName { location: String },
    #[error("its weights lie in another file, and none is named")]
    NoLocation,
    #[error("its weights lie in another file with `{key}` = `{value}`, which cannot be")]
    ExternalEntry { key: String, value: String },
    #[error("its weights lie in `{file}`, and there is no such file")]
    FileMissing { file: String },
    #[error(
        "its weights lie in `{file}`, which is {what}, not a file of its own; import the model as a copy"
    )]
    NotARealFile { file: String, what: &'static str },
    #[error("its weights end at byte {end} of `{file}`, which has {size}")]
    PastTheEnd { file: String, end: u64, size: u64 },
    #[error("its elements have the unknown type {number}")]
    ElementType { number: i32 },
    #[error("a dimension is {size}")]
    NegativeDimension { size: i64 },
    #[error("it has {found} bytes or numbers of data and its shape needs {expected}")]
    DataLength { expected: u64, found: u64 },
    #[error("it has data in two places")]
    DataTwice,
    #[error("it is a segment of a larger tensor")]
    Segmented,
    #[error("its parts do not belong together")]
    Sparse,
    #[error("it would take {} bytes, more than {limit}", .bytes.map_or("2^64 or more".to_owned(), |bytes| bytes.to_string()))]
    TooLarge { bytes: Option<u64>, limit: u64 },
    #[error("it is made twice")]
    MadeTwice,
    #[error("nothing makes it")]
    MadeNowhere,
    #[error("it depends on itself")]
    Cycle,
    #[error("its operator is of the unknown domain `{domain}`")]
    UnknownDomain { domain: String },
    #[error("it imports two versions of the domain `{domain}`")]
    TwoVersions { domain: String },
    #[error("its operator loads code or files")]
    Loader,
    #[error("its attribute `{name}` is {value}")]
    Attribute { name: &'static str, value: String },
    #[error("it has two attributes `{name}`")]
    AttributeTwice { name: String },
    #[error("its input `{input}` has {found} elements and its attributes need {expected}")]
    WeightSize { input: &'static str, expected: u64, found: u64 },
    #[error("the shape of its input `{input}` is not known before it runs")]
    UnknownWeights { input: &'static str },
    #[error("it calls itself")]
    Recursion,
    #[error("calls inside calls are more than {limit} deep")]
    Depth { limit: usize },
    #[error("it becomes {nodes} nodes when its functions are put in place, more than {limit}")]
    Expansion { nodes: u64, limit: u64 },
    #[error("following its calls would read more than {limit} bytes")]
    Work { limit: u64 },
    #[error("it has {rank} dimensions, more than {limit}")]
    Rank { rank: usize, limit: usize },
    #[error("its size is computed from constants in a way that cannot be followed")]
    Unfollowable,
    #[error("{bytes} bytes would be computed from constants while loading, more than {limit}")]
    Folding { bytes: u64, limit: u64 },
    #[error("{bytes} bytes of weights would be packed for kernels that share them, more than {limit}")]
    Packing { bytes: u64, limit: u64 },
    #[error("it holds a training program")]
    Training,
    #[error("it brings settings for the runtime (`{key}`)")]
    Settings { key: String },
}

/// Findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, place: Place, problem: Problem) {
        if self.0.len() < MOST_FINDINGS {
            self.0.push(Finding { place, problem });
        }
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.0
    }
}
