//! Rewrites a model's graph once for this machine, and keeps what proved to be right and faster.
//!
//! The passes of `graph` make candidates, one after the other, each on what was accepted before it. A
//! candidate is written beside the original under a hidden name, goes through the same preflight, is loaded
//! alone, and its logits are compared with those of the graph that it would replace: in chunks, in single
//! steps, and after a rewind. What is left at the end is used only if its logits are near enough to those of
//! the original, however many passes had a share in the distance, and if it is faster here.
//! `prepared.json` says what came of it and for which machine; the original stays as it is.
//!
//! - [`passes`] is the list; `comparison` and `speed` are the two judges; `files` knows the names, the lock
//!   and what a killed run left behind; `record` is `prepared.json`; `choice` reads it when a model is opened.

mod choice;
mod comparison;
mod files;
pub mod passes;
mod record;
mod speed;

use std::path::{Path, PathBuf};
use std::time::Instant;

use graph::{Graph, Limits, Weights, preflight};
use serde::{Deserialize, Serialize};

pub(crate) use choice::{Choice, choose, discard};
pub use choice::{GraphChoice, WhyOriginal};
pub use comparison::Comparison;
pub use record::{FileStamp, GraphToRun, Key, PassResult, PassVersion, Prepared, PreparedGraph, Verdict};
pub use speed::{Measurement, Speed};

use crate::model::{find_graph, onnx_options};
use crate::onnx::{OnnxDecoder, OnnxOptions, Runtime, SelfTestErrors};
use crate::{Cancel, Error, Failure, FailureKind, LoadOptions, ModelConfig, Result};
use comparison::Schedule;
use files::{Candidate, Names};
use passes::{Change, Facts, Numbers, Pass};

/// A prepared graph must make a short turn at least this many times as fast as the original: less would be
/// lost in the noise of the measurement.
const LEAST_SPEEDUP: f64 = 1.05;

/// How to prepare a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareOptions {
    /// The absolute path of the ONNX Runtime library.
    pub library: PathBuf,
    /// Threads inside one operator, as in [`LoadOptions`].
    pub threads: Option<usize>,
    /// Prepares anew what is prepared already.
    pub force: bool,
    /// How many times as fast as the original a prepared graph must be.
    pub least_speedup: f64,
    /// Bytes that may be taken for a while. Where they hold both graphs, both are loaded for the
    /// measurement, else one after the other; `None` counts as few.
    pub memory: Option<u64>,
    /// As in [`LoadOptions`].
    pub other_names: bool,
}

impl PrepareOptions {
    /// The defaults for models that are loaded with `options`.
    pub fn like(options: &LoadOptions) -> Self {
        Self {
            library: options.library.clone(),
            threads: options.threads,
            force: false,
            least_speedup: LEAST_SPEEDUP,
            memory: None,
            other_names: options.other_names,
        }
    }
}

/// How far a preparation is: `done` of `total` steps of unequal length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareProgress {
    pub step: PrepareStep,
    pub done: usize,
    pub total: usize,
}

/// What a preparation does now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum PrepareStep {
    /// Reads and runs the original.
    Reading,
    /// Tries one pass.
    Trying { pass: String },
    /// Measures the original and the result.
    Measuring,
}

/// How a preparation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Preparation {
    Prepared(Box<Prepared>),
    /// Stopped. Nothing was changed.
    Cancelled,
}

/// Prepares the model in `folder` for this machine. A model that is prepared for it already is left as it is.
///
/// # Errors
/// Those of opening the original; [`Error::FolderUnwritable`] and [`Error::FileUnwritable`] where the result
/// cannot be written; [`Error::Invalid`] where another process prepares the same model. What fails about a
/// candidate is that pass's verdict and no error.
pub fn prepare(
    folder: &Path,
    options: &PrepareOptions,
    cancel: &Cancel,
    on_progress: &mut dyn FnMut(PrepareProgress),
) -> Result<Preparation> {
    prepare_with(passes::ALL, folder, options, cancel, on_progress)
}

/// The same with another list of passes.
///
/// # Errors
/// As [`prepare`].
#[tracing::instrument(skip_all)]
pub fn prepare_with(
    passes: &[Pass],
    folder: &Path,
    options: &PrepareOptions,
    cancel: &Cancel,
    on_progress: &mut dyn FnMut(PrepareProgress),
) -> Result<Preparation> {
    let started = Instant::now();
    let config = ModelConfig::read(folder)?;
    let graph = find_graph(folder, &config)?;
    let runtime = Runtime::open(&options.library)?;
    let load = LoadOptions { threads: options.threads, ..LoadOptions::with_library(options.library.clone()) };
    let onnx = onnx_options(&config, &load);
    let names = Names::of(&folder.join(&graph));
    if !options.force
        && let Some(prepared) = record::valid(folder, &graph, passes, &runtime, onnx.threads)
    {
        return Ok(Preparation::Prepared(Box::new(prepared)));
    }
    let lock = names.lock()?;
    let limits = Limits { other_names: options.other_names, ..Limits::default() };
    let (names, config, runtime) = (&names, &config, &runtime);
    let mut work = Work { passes, names, config, runtime, onnx, limits, options, cancel };
    let finished = work.run(folder, &graph, on_progress)?;
    let Some(mut prepared) = finished else { return Ok(Preparation::Cancelled) };
    prepared.seconds = started.elapsed().as_secs_f64();
    names.write_record(&prepared)?;
    drop(lock);
    tracing::info!(graph, seconds = prepared.seconds, result = %prepared.run, "prepared the model");
    Ok(Preparation::Prepared(Box::new(prepared)))
}

/// One preparation. Every step gives `None` where it was cancelled.
struct Work<'a> {
    passes: &'a [Pass],
    names: &'a Names,
    config: &'a ModelConfig,
    runtime: &'a Runtime,
    onnx: OnnxOptions,
    limits: Limits,
    options: &'a PrepareOptions,
    cancel: &'a Cancel,
}

/// The graph that was accepted last, with what it computes.
struct Accepted {
    graph: Graph,
    /// `None`: it is the original.
    candidate: Option<Candidate>,
    outputs: comparison::Outputs,
}

impl Work<'_> {
    fn run(
        &mut self,
        folder: &Path,
        graph: &str,
        on_progress: &mut dyn FnMut(PrepareProgress),
    ) -> Result<Option<Prepared>> {
        let total = 1 + self.passes.len() + speed::ROUNDS;
        let mut done = 0;
        let mut tell = |step: PrepareStep| {
            on_progress(PrepareProgress { step, done, total });
            done += 1;
        };
        tell(PrepareStep::Reading);
        let original = self.names.original();
        let report = preflight::check(original, &self.limits)?;
        // Stamped before it is read: what changes afterwards makes the result void.
        let key = Key::now(folder, graph, &report.files, self.passes, self.runtime, self.onnx.threads)?;
        let self_test = self.runtime.self_test();
        let data_file = self.names.free_data();
        let facts = Facts { config: self.config, self_test, data_file: &data_file };
        let source = Graph::open(original, &self.limits)?;
        let mut decoder = self.load(original)?;
        let schedule = Schedule::new(&decoder);
        let ran = schedule.run(&mut decoder, self.cancel);
        drop(decoder);
        let outputs = match ran {
            Ok(Some(outputs)) => outputs,
            Ok(None) => return Ok(None),
            // There is nothing to compare with, and asking again would tell the same.
            Err(error @ (Error::LogitsNotFinite { .. } | Error::Invalid { .. })) => {
                self.names.remove_prepared()?;
                let run = GraphToRun::Original { reason: format!("nothing can be compared: {error}") };
                return Ok(Some(Prepared::without_passes(key, run, self_test)));
            }
            Err(error) => return Err(error),
        };
        let mut accepted = Accepted { graph: source, candidate: None, outputs: outputs.clone() };
        let mut results = Vec::new();
        for (index, pass) in self.passes.iter().enumerate() {
            tell(PrepareStep::Trying { pass: pass.name.to_owned() });
            let Some(result) = self.attempt(pass, index, &facts, &schedule, &mut accepted)? else {
                return Ok(None);
            };
            tracing::info!(pass = pass.name, did = result.did, verdict = %result.verdict, "tried a pass");
            results.push(result);
        }
        let without_passes = |run| Prepared::without_passes(key, run, self_test);
        let Some(candidate) = accepted.candidate else {
            self.names.remove_prepared()?;
            let run = GraphToRun::Original { reason: "no pass improved it".to_owned() };
            return Ok(Some(Prepared { passes: results, ..without_passes(run) }));
        };
        let whole = comparison::compare(&outputs, &accepted.outputs, self.numbers_of(&results));
        if !whole.is_passed() {
            self.names.remove_prepared()?;
            let reason = format!("the rewrites are right one by one and not together: {whole}");
            let run = GraphToRun::Original { reason };
            return Ok(Some(Prepared { passes: results, whole: Some(whole), ..without_passes(run) }));
        }
        let memory = speed::Room { needed: report.weights, free: self.options.memory };
        let load = |path: &Path| self.load(path);
        let told = &mut || tell(PrepareStep::Measuring);
        let measured = speed::measure([original, candidate.path()], load, memory, self.cancel, told)?;
        let Some(measurement) = measured else { return Ok(None) };
        let run = self.decide(candidate, &measurement)?;
        let measurement = Some(measurement);
        Ok(Some(Prepared { passes: results, whole: Some(whole), measurement, ..without_passes(run) }))
    }

    /// What the accepted passes may have done to the numbers, all together.
    fn numbers_of(&self, results: &[PassResult]) -> Numbers {
        let accepted = self.passes.iter().zip(results);
        let mut accepted = accepted.filter(|(_, result)| matches!(result.verdict, Verdict::Accepted(_)));
        let is_rounded = accepted.any(|(pass, _)| matches!(pass.numbers, Numbers::Rounded));
        if is_rounded { Numbers::Rounded } else { Numbers::Same }
    }

    /// Tries one pass on the graph accepted last, which it replaces if it holds.
    fn attempt(
        &self,
        pass: &Pass,
        index: usize,
        facts: &Facts<'_>,
        schedule: &Schedule,
        accepted: &mut Accepted,
    ) -> Result<Option<PassResult>> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let passes::Step { graph, change } = (pass.run)(accepted.graph.clone(), facts);
        let result = |did: String, verdict| {
            Some(PassResult { name: pass.name.to_owned(), version: pass.version, did, verdict })
        };
        let did = match change {
            Change::Nothing(why) => return Ok(result(why, Verdict::Unchanged)),
            Change::Refused(why) => return Ok(result(why.clone(), Verdict::Refused(why))),
            Change::Made(did) => did,
        };
        let candidate = self.names.candidate(index);
        if let Some(failure) = write(&graph, &candidate, facts)? {
            return Ok(result(did, Verdict::Failed(failure.message)));
        }
        let outputs = match self.outputs(candidate.path(), schedule) {
            Ok(Some(outputs)) => outputs,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(result(did, Verdict::Failed(Failure::from(error).message))),
        };
        let comparison = comparison::compare(&accepted.outputs, &outputs, pass.numbers);
        if !comparison.is_passed() {
            return Ok(result(did, Verdict::Rejected(comparison)));
        }
        *accepted = Accepted { graph, candidate: Some(candidate), outputs };
        Ok(result(did, Verdict::Accepted(comparison)))
    }

    fn load(&self, path: &Path) -> Result<OnnxDecoder> {
        OnnxDecoder::load_within(self.runtime, path, &self.onnx, &self.limits)
    }

    /// What the graph at `path` computes. It is the only one in memory.
    fn outputs(&self, path: &Path, schedule: &Schedule) -> Result<Option<comparison::Outputs>> {
        let mut decoder = self.load(path)?;
        schedule.run(&mut decoder, self.cancel)
    }

    /// Puts the candidate in place if it is fast enough.
    fn decide(&self, candidate: Candidate, measurement: &Measurement) -> Result<GraphToRun> {
        let (speedup, least) = (measurement.speedup(), self.options.least_speedup);
        if speedup < least {
            self.names.remove_prepared()?;
            let reason = format!(
                "the rewritten graph is {speedup:.2} times as fast on this machine, and {least:.2} is asked for"
            );
            return Ok(GraphToRun::Original { reason });
        }
        self.names.put_in_place(candidate, &self.limits).map(GraphToRun::Prepared)
    }
}

/// Writes a candidate. What keeps only this one from being written is a failure that its pass is told with.
fn write(graph: &Graph, candidate: &Candidate, facts: &Facts<'_>) -> Result<Option<Failure>> {
    match graph.write(candidate.path(), Weights::Refer) {
        Ok(()) => Ok(None),
        // Reading is of the original's weights, writing of the candidate.
        Err(graph::Error::File { doing: "write", path, source }) => {
            // Joined weights alone are large: without room for them the passes before count all the same.
            let is_large = path.ends_with(facts.data_file);
            let error = Error::FileUnwritable { path, source };
            let failure = Failure::from(&error);
            if is_large && failure.kind == FailureKind::DiskFull { Ok(Some(failure)) } else { Err(error) }
        }
        Err(error) => Ok(Some(Error::from(error).into())),
    }
}

/// The self-test as `prepared.json` and the terminal show it.
impl std::fmt::Display for SelfTestErrors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |error: f64| error * 100.0;
        let (symmetric, zero_points) = (percent(self.symmetric), percent(self.zero_points));
        write!(formatter, "{symmetric:.2} % without and {zero_points:.2} % with zero points")
    }
}
