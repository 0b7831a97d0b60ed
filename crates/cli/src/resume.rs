//! `hearth bench --resume`: how soon a long conversation goes on after a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use backend::messages::KvKeeping;
use backend::{Finish, ReadyModel, Request, Sampling, TokenId, Update, Usage};
use serde::Serialize;

use crate::arguments::Options;
use crate::bench::random_ids;
use crate::error::{Error, Result};
use crate::models::bytes;
use crate::print::Printer;
use crate::run::Run;

const MEASURED_RUNS: usize = 3;
/// The tokens of the message that the conversation goes on with.
const MESSAGE: usize = 16;
/// Whose the KV snapshots are; they lie in a folder of their own, which goes with the run.
const OWNER: &str = "bench";
const SAVING: Duration = Duration::from_secs(600);

/// What was measured: medians of the runs, times to the first token in seconds.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "resume")]
struct Report {
    model: String,
    graph: String,
    threads: usize,
    /// Tokens of the conversation, and of the message that follows.
    tokens: usize,
    message: usize,
    /// Reading all of it again.
    read_again_seconds: f64,
    /// After a restart, from KV snapshots.
    resume_seconds: f64,
    /// Reading the same files and nothing else.
    files_seconds: f64,
    file_bytes: u64,
    times_shorter: f64,
}

/// Measures the time to the first token of a conversation of `tokens` tokens after a restart, and of reading
/// it again.
pub(crate) fn resume(run: &Run, options: &Options, tokens: usize, printer: &mut Printer) -> Result<()> {
    let ready = run.wait(run.backend().models().ready())?;
    run.tell_notices(printer);
    let window = ready.about.window;
    if tokens + MESSAGE > window {
        let reason = format!(
            "{tokens} tokens and a message of {MESSAGE} do not fit into a context of {window} tokens"
        );
        return Err(Error::Usage { reason });
    }
    let doing = "make a folder for KV snapshots";
    let folder = tempfile::tempdir().map_err(|error| Error::Setup { doing, source: Box::new(error) })?;
    let conversation = random_ids(options.seed.unwrap_or(0), tokens, ready.about.spec.vocabulary_size);
    keep(run, Some(folder.path()))?;
    answer(run, true, &conversation)?;
    run.wait(run.inference().save_snapshots(SAVING))?;
    let mut samples = Vec::new();
    for number in 1..=MEASURED_RUNS {
        // Another message each time: the last one is in the KV snapshots by now.
        let message = random_ids(number as u64, MESSAGE, ready.about.spec.vocabulary_size);
        let prompt = [conversation.as_slice(), &message].concat();
        let sample = measure(run, &ready, folder.path(), &prompt, tokens)?;
        if !printer.is_json() {
            let Sample { read_again, resume, files, .. } = sample;
            printer.line(&format!(
                "run {number}: read again {read_again:.2} s, resumed {resume:.3} s, of which files {files:.3} s"
            ));
        }
        samples.push(sample);
    }
    conclude(&ready, tokens, &samples, printer);
    run.end()
}

/// One run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    read_again: f64,
    resume: f64,
    files: f64,
    file_bytes: u64,
}

fn measure(
    run: &Run,
    ready: &ReadyModel,
    folder: &Path,
    prompt: &[TokenId],
    tokens: usize,
) -> Result<Sample> {
    run.wait(run.inference().forget())?;
    let cold = answer(run, false, prompt)?;
    // As a restart: nothing of the model and of the folder is left in memory.
    keep(run, None)?;
    run.wait(run.inference().unload())?;
    keep(run, Some(folder))?;
    let options = run.backend().models().load_options_of(&ready.model)?;
    run.wait(run.inference().load(ready.model.model_folder(), options))?;
    let (files, file_bytes) = read_files(folder);
    let resumed = answer(run, true, prompt)?;
    run.wait(run.inference().save_snapshots(SAVING))?;
    if cold.reused_tokens != 0 || resumed.restored_tokens < tokens {
        let reason = format!(
            "{} of {tokens} tokens came from disk, and {} were reused where all was to be read",
            resumed.restored_tokens, cold.reused_tokens
        );
        return Err(Error::Measurement { reason });
    }
    Ok(Sample { read_again: cold.prefill_seconds, resume: resumed.prefill_seconds, files, file_bytes })
}

/// Says where KV rows are kept. With no memory beyond one session, a run never profits from another.
pub(crate) fn keep(run: &Run, folder: Option<&Path>) -> Result<()> {
    let keeping =
        KvKeeping { memory_bytes: 0, folder: folder.map(Path::to_path_buf), disk_bytes: Some(u64::MAX) };
    match run.wait(run.inference().keep_kv(keeping))? {
        None => Ok(()),
        Some(trouble) => Err(Error::Measurement { reason: trouble }),
    }
}

/// Reads the prompt and one token behind it, in the conversation or outside of all.
fn answer(run: &Run, in_conversation: bool, prompt: &[TokenId]) -> Result<Usage> {
    let request = Request {
        prompt: prompt.to_vec(),
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 1,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    };
    let inference = run.inference();
    let mut running =
        if in_conversation { inference.generate_for(OWNER, request) } else { inference.generate(request) };
    let finish: Finish = run.wait(async {
        loop {
            if let Update::Finished(finish) = running.next().await? {
                return Ok::<_, Error>(*finish);
            }
        }
    })?;
    Ok(finish.usage)
}

/// Reads every file below `folder`; returns the seconds and the bytes.
fn read_files(folder: &Path) -> (f64, u64) {
    let began = Instant::now();
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                bytes += std::fs::read(entry.path()).map_or(0, |content| content.len() as u64);
            }
        }
    }
    (began.elapsed().as_secs_f64(), bytes)
}

fn conclude(ready: &ReadyModel, tokens: usize, samples: &[Sample], printer: &mut Printer) {
    let median = |of: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (read_again_seconds, resume_seconds) =
        (median(|sample| sample.read_again), median(|sample| sample.resume));
    let report = Report {
        model: ready.model.id.clone(),
        graph: ready.about.graph.clone(),
        threads: ready.about.spec.threads,
        tokens,
        message: MESSAGE,
        read_again_seconds,
        resume_seconds,
        files_seconds: median(|sample| sample.files),
        file_bytes: samples[0].file_bytes,
        times_shorter: read_again_seconds / resume_seconds,
    };
    if printer.is_json() {
        return printer.json_line(&report);
    }
    printer.line(&format!(
        "{}: {tokens} tokens and a message of {MESSAGE}: first token after {resume_seconds:.3} s, {:.0} times \
         sooner than after reading again ({read_again_seconds:.2} s); files {} in {:.3} s",
        report.model,
        report.times_shorter,
        bytes(report.file_bytes),
        report.files_seconds
    ));
}
