//! `prepared.json`: what came of a preparation, and what it holds for.

use std::fmt;
use std::path::Path;

use graph::preflight::is_plain_name;
use serde::{Deserialize, Serialize};

use super::choice::WhyOriginal;
use super::files::{Names, sha256, sha256_of_those, stamp};
use super::passes::Pass;
use super::{Comparison, Measurement};
use crate::onnx::{Runtime, SelfTestErrors};
use crate::{Error, Result};

/// The version of the record itself.
pub(super) const FORMAT: u32 = 2;
/// No record is longer.
const MOST_BYTES: u64 = 1 << 20;

/// What came of preparing a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    pub format: u32,
    /// What it holds for.
    pub key: Key,
    pub passes: Vec<PassResult>,
    pub run: GraphToRun,
    /// How the result of all accepted passes compares with the original; `None` where none was accepted.
    pub whole: Option<Comparison>,
    /// `None` where there was nothing to measure.
    pub measurement: Option<Measurement>,
    pub self_test: SelfTestErrors,
    /// How long it took.
    pub seconds: f64,
}

/// Everything that a preparation depends on. Where one part is another now, it is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The original graph.
    pub graph: FileStamp,
    /// Its SHA-256, which decides where the stamp is another, as it is after copying.
    pub graph_sha256: String,
    /// The files beside it that hold its weights, by their stamps alone: reading gigabytes at every start costs more
    /// than preparing a copied model anew.
    pub weights: Vec<FileStamp>,
    /// The SHA-256 of the configuration files that passes go by.
    pub config_sha256: String,
    pub passes: Vec<PassVersion>,
    /// What the ONNX Runtime library says of itself.
    pub runtime: String,
    /// The instruction sets that its kernels choose by.
    pub cpu_features: Vec<String>,
    /// The threads that it was measured with. With others the numbers are as right as they were, and only
    /// the speeds are in doubt: what was prepared still runs, and the next preparation measures anew.
    pub threads: usize,
}

/// A file of the folder, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStamp {
    pub name: String,
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
}

/// A pass of the list that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassVersion {
    pub name: String,
    pub version: u32,
}

/// What became of one pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassResult {
    pub name: String,
    pub version: u32,
    /// What it did or found, in its own words.
    pub did: String,
    pub verdict: Verdict,
}

/// Whether what a pass made is part of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// There was nothing to do.
    Unchanged,
    /// The pass could not do its work on this graph.
    Refused(String),
    Accepted(Comparison),
    /// The numbers are not those that they should be.
    Rejected(Comparison),
    /// The graph that it made did not load or run.
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => formatter.write_str("unchanged"),
            Self::Refused(why) => write!(formatter, "refused: {why}"),
            Self::Accepted(comparison) => write!(formatter, "accepted: {comparison}"),
            Self::Rejected(comparison) => write!(formatter, "rejected: {comparison}"),
            Self::Failed(why) => write!(formatter, "failed: {why}"),
        }
    }
}

/// The graph that a preparation decided for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GraphToRun {
    Prepared(PreparedGraph),
    Original { reason: String },
}

impl fmt::Display for GraphToRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared(graph) => write!(formatter, "`{}` is used", graph.file),
            Self::Original { reason } => write!(formatter, "the original is used: {reason}"),
        }
    }
}

/// A rewritten graph that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreparedGraph {
    /// Its name, in the folder of the original.
    pub file: String,
    pub sha256: String,
    /// Files of its own that hold weights.
    pub data: Vec<FileStamp>,
}

impl Prepared {
    /// A record of a preparation that tried no pass.
    pub(super) fn without_passes(key: Key, run: GraphToRun, self_test: SelfTestErrors) -> Self {
        Self {
            format: FORMAT,
            key,
            passes: Vec::new(),
            run,
            whole: None,
            measurement: None,
            self_test,
            seconds: 0.0,
        }
    }
}

impl Key {
    /// The key of the original at this moment. `weights` are names in its folder.
    pub(super) fn now(
        folder: &Path,
        graph: &str,
        weights: &[String],
        passes: &[Pass],
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        let names = Names::of(&folder.join(graph));
        let unreadable = |path: &Path, source| Error::FileUnreadable { path: path.to_path_buf(), source };
        let original = names.original();
        let stamped = |path: &Path| stamp(path).map_err(|error| unreadable(path, error));
        Ok(Self {
            graph: stamped(original)?,
            graph_sha256: sha256(original).map_err(|error| unreadable(original, error))?,
            weights: weights.iter().map(|name| stamped(&names.beside(name))).collect::<Result<_>>()?,
            config_sha256: config_sha256(folder),
            passes: versions(passes),
            runtime: runtime.build().to_owned(),
            cpu_features: cpu_features(),
            threads,
        })
    }

    /// What is another now than it was, where anything is.
    fn voided_by(
        &self,
        folder: &Path,
        names: &Names,
        passes: &[Pass],
        runtime: &Runtime,
    ) -> Option<&'static str> {
        let original = names.original();
        let is_same_graph = || {
            let now = stamp(original).ok()?;
            let has_hash = || sha256(original).is_ok_and(|hash| hash == self.graph_sha256);
            Some(now == self.graph || now.name == self.graph.name && has_hash())
        };
        if !is_same_graph().unwrap_or(false) {
            return Some("the original graph");
        }
        if !self.weights.iter().all(|file| is_same(names, file)) {
            return Some("a file with weights");
        }
        let parts = [
            (self.config_sha256 == config_sha256(folder), "the configuration"),
            (self.passes == versions(passes), "the list of rewrites"),
            (self.runtime == runtime.build(), "the ONNX Runtime library"),
            (self.cpu_features == cpu_features(), "the processor"),
        ];
        parts.into_iter().find(|(is_same, _)| !is_same).map(|(_, part)| part)
    }
}

/// The record of the graph at `folder/graph`, if it holds here and now, for so many threads.
pub(super) fn valid(
    folder: &Path,
    graph: &str,
    passes: &[Pass],
    runtime: &Runtime,
    threads: usize,
) -> Option<Prepared> {
    judge(folder, graph, passes, runtime).ok().filter(|prepared| prepared.key.threads == threads)
}

/// The same for any number of threads, with the reason why not.
pub(super) fn judge(
    folder: &Path,
    graph: &str,
    passes: &[Pass],
    runtime: &Runtime,
) -> Result<Prepared, WhyOriginal> {
    let names = Names::of(&folder.join(graph));
    let prepared = read(&names)?;
    if let Some(part) = prepared.key.voided_by(folder, &names, passes, runtime) {
        return Err(WhyOriginal::Outdated { changed: part.to_owned() });
    }
    if let GraphToRun::Prepared(graph) = &prepared.run {
        check(graph, &names).map_err(|reason| WhyOriginal::Unusable { reason })?;
    }
    Ok(prepared)
}

fn read(names: &Names) -> Result<Prepared, WhyOriginal> {
    let path = names.record();
    let unusable =
        |reason: String| WhyOriginal::Unusable { reason: format!("`{}` {reason}", path.display()) };
    match stamp(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(WhyOriginal::NotPrepared),
        Err(error) => return Err(unusable(format!("cannot be read: {error}"))),
        Ok(stamp) if stamp.bytes > MOST_BYTES => return Err(unusable("is too long".to_owned())),
        Ok(_) => {}
    }
    let text = std::fs::read(&path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    // Other versions of the application may have written other fields.
    let format = serde_json::from_slice::<serde_json::Value>(&text).ok();
    match format.as_ref().and_then(|value| value.get("format")?.as_u64()) {
        Some(format) if format != u64::from(FORMAT) => {
            Err(WhyOriginal::Outdated { changed: "the form of `prepared.json`".to_owned() })
        }
        _ => serde_json::from_slice(&text).map_err(|error| unusable(format!("is damaged: {error}"))),
    }
}

/// The files of weights that the graph of a record has of its own, whether the record holds or not; `None`
/// where a record cannot be read, and so any file may be in use.
pub(super) fn data_of(names: &Names) -> Option<Vec<String>> {
    match read(names).map(|prepared| prepared.run) {
        Ok(GraphToRun::Prepared(graph)) => Some(graph.data.into_iter().map(|file| file.name).collect()),
        Ok(GraphToRun::Original { .. }) | Err(WhyOriginal::NotPrepared) => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Whether the prepared graph is what was written. Its weights are mostly those of the original.
fn check(graph: &PreparedGraph, names: &Names) -> Result<(), String> {
    let path = names.prepared();
    if path.file_name().is_none_or(|name| name != graph.file.as_str()) {
        return Err(format!("`{}` is not its name", graph.file));
    }
    match sha256(&path) {
        Ok(hash) if hash == graph.sha256 => {}
        Ok(_) => return Err(format!("`{}` is damaged", path.display())),
        Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
    }
    match graph.data.iter().find(|file| !is_same(names, file)) {
        Some(file) => Err(format!("`{}` is missing or changed", file.name)),
        None => Ok(()),
    }
}

fn is_same(names: &Names, file: &FileStamp) -> bool {
    is_plain_name(&file.name) && stamp(&names.beside(&file.name)).is_ok_and(|now| now == *file)
}

fn config_sha256(folder: &Path) -> String {
    // The tokenizer's may give the context, and with it the length of the tables that a pass makes.
    let names = ["config.json", "genai_config.json", "tokenizer_config.json"];
    sha256_of_those(&names.map(|name| folder.join(name)))
}

fn versions(passes: &[Pass]) -> Vec<PassVersion> {
    passes.iter().map(|pass| PassVersion { name: pass.name.to_owned(), version: pass.version }).collect()
}

/// The instruction sets by which ONNX Runtime chooses its kernels, as far as this program can ask for them.
fn cpu_features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = [
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let features: [(&str, bool); 0] = [];
    let present = features.iter().filter(|(_, is_present)| *is_present);
    std::iter::once(std::env::consts::ARCH).chain(present.map(|(name, _)| *name)).map(str::to_owned).collect()
}
