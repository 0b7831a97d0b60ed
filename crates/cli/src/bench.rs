//! `hearth bench`: how fast a model reads and writes on this machine.

use backend::{Finish, FinishReason, LoadedModel, Memory, Request, Sampling, TokenId, Update};
use serde::Serialize;

use crate::arguments::{BenchArguments, Options};
use crate::error::{Error, Result};
use crate::models::bytes;
use crate::print::Printer;
use crate::run::Run;

const MEASURED_RUNS: usize = 3;
const NEW_TOKENS: usize = 64;
/// Ids below this are frequent tokens in every vocabulary, as other programs measure them.
const MOST_IDS: usize = 1000;

/// What was measured, with the settings that it holds for.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "bench")]
struct Report {
    model: String,
    graph: String,
    kv_backend: String,
    provider: String,
    runtime_version: Option<String>,
    threads: usize,
    prompt: usize,
    new: usize,
    depth: usize,
    seed: u64,
    /// Medians of the runs.
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    load_seconds: f64,
    /// The most resident memory of the process until the end of the last run.
    peak_memory_bytes: u64,
    runs: Vec<Measured>,
}

/// One measured run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    prefill_seconds: f64,
    decode_seconds: f64,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

/// The lengths of every run, in tokens.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    prompt: usize,
    new: usize,
    depth: usize,
}

/// Measures prefill and decode.
pub(crate) fn bench(
    run: &Run,
    options: &Options,
    command: &BenchArguments,
    printer: &mut Printer,
) -> Result<()> {
    if options.system.is_some() || !options.stop.is_empty() {
        let reason = "--system and --stop have no meaning here: every run has a fixed length".into();
        return Err(Error::Usage { reason });
    }
    let new = command.new.or(options.max_tokens).unwrap_or(NEW_TOKENS);
    if new < 2 {
        let reason =
            "--max-tokens is the number of new tokens here, of which there must be two or more".into();
        return Err(Error::Usage { reason });
    }
    let lengths = Lengths { prompt: command.prompt.get(), new, depth: command.depth };
    let ready = run.wait(run.backend().models().ready())?;
    run.tell_notices(printer);
    let about = &ready.about;
    check_window(&lengths, about)?;
    let seed = options.seed.unwrap_or(0);
    let prompt = random_ids(seed, lengths.depth + lengths.prompt, about.spec.vocabulary_size);
    // Greedy where nothing else is asked for, whatever the model's makers recommend.
    let sampling = Sampling { seed: Some(seed), ..options.reply().sampling(&greedy()) };
    let mut runs = Vec::new();
    for number in 0..=MEASURED_RUNS {
        let measured = measure(run, &prompt, &lengths, &sampling)?;
        // The first run warms up: kernels are chosen, buffers grow.
        if number > 0 {
            tell(number, &measured, printer);
            runs.push(measured);
        }
    }
    let report = Report {
        model: ready.model.id.clone(),
        graph: about.graph.clone(),
        kv_backend: about.spec.kv_backend.to_string(),
        provider: about.spec.execution_provider.to_string(),
        runtime_version: about.runtime_version.clone(),
        threads: about.spec.threads,
        prompt: lengths.prompt,
        new: lengths.new,
        depth: lengths.depth,
        seed,
        prefill_tokens_per_second: median(&runs, |run| run.prefill_tokens_per_second),
        decode_tokens_per_second: median(&runs, |run| run.decode_tokens_per_second),
        load_seconds: about.load_seconds,
        peak_memory_bytes: Memory::now().peak_resident,
        runs,
    };
    conclude(&report, printer);
    run.end()
}

/// The sampling of models whose makers want it greedy.
fn greedy() -> backend::SuggestedSampling {
    backend::SuggestedSampling { do_sample: Some(false), ..Default::default() }
}

fn check_window(lengths: &Lengths, about: &LoadedModel) -> Result<()> {
    let Lengths { prompt, new, depth } = lengths;
    // The last new token is chosen and never read.
    let wanted = depth.saturating_add(*prompt).saturating_add(new - 1);
    if wanted <= about.window {
        return Ok(());
    }
    let reason = format!(
        "depth {depth}, prompt {prompt} and {new} new tokens do not fit into a context of {} tokens",
        about.window
    );
    Err(Error::Usage { reason })
}

/// Reads the depth, then measures the prompt behind it and the new tokens.
fn measure(run: &Run, prompt: &[TokenId], lengths: &Lengths, sampling: &Sampling) -> Result<Measured> {
    run.wait(run.inference().forget())?;
    if lengths.depth > 0 {
        generate(run, &prompt[..lengths.depth], 1, sampling)?;
    }
    let finish = generate(run, prompt, lengths.new, sampling)?;
    let usage = finish.usage;
    let void = |reason: String| Err(Error::Measurement { reason });
    if usage.reused_tokens != lengths.depth {
        return void(format!("{} tokens were reused and not {}", usage.reused_tokens, lengths.depth));
    }
    if finish.reason != FinishReason::MaxTokens || usage.new_tokens != lengths.new {
        return void(format!("the run ended after {} of {} tokens", usage.new_tokens, lengths.new));
    }
    Ok(Measured {
        prefill_seconds: usage.prefill_seconds,
        decode_seconds: usage.decode_seconds,
        prefill_tokens_per_second: lengths.prompt as f64 / usage.prefill_seconds,
        // The first token comes with the prefill.
        decode_tokens_per_second: (lengths.new - 1) as f64 / usage.decode_seconds,
    })
}

fn generate(run: &Run, prompt: &[TokenId], new: usize, sampling: &Sampling) -> Result<Finish> {
    let mut running = run.inference().generate(Request {
        prompt: prompt.to_vec(),
        continued: 0,
        sampling: sampling.clone(),
        max_new_tokens: new,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    });
    run.wait(async {
        loop {
            if let Update::Finished(finish) = running.next().await? {
                return Ok(*finish);
            }
        }
    })
}

fn tell(number: usize, measured: &Measured, printer: &mut Printer) {
    if printer.is_json() {
        #[derive(Serialize)]
        #[serde(tag = "type", rename = "run")]
        struct Line {
            number: usize,
            #[serde(flatten)]
            measured: Measured,
        }
        printer.json_line(&Line { number, measured: *measured });
    } else {
        let Measured { prefill_tokens_per_second, decode_tokens_per_second, .. } = measured;
        printer.line(&format!(
            "run {number}: prefill {prefill_tokens_per_second:.1} tokens/s, \
             decode {decode_tokens_per_second:.1} tokens/s"
        ));
    }
}

fn conclude(report: &Report, printer: &mut Printer) {
    if printer.is_json() {
        return printer.json_line(report);
    }
    let Report { model, prompt, new, depth, threads, kv_backend, .. } = report;
    printer.line(&format!(
        "{model}: prompt {prompt}, new {new}, depth {depth}, threads {threads}, KV {kv_backend}"
    ));
    printer.line(&format!(
        "median: prefill {:.1} tokens/s, decode {:.1} tokens/s; load {:.2} s, peak memory {}",
        report.prefill_tokens_per_second,
        report.decode_tokens_per_second,
        report.load_seconds,
        bytes(report.peak_memory_bytes)
    ));
}

fn median(runs: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `count` ids below 1,000 and below the vocabulary, the same for the same seed.
///
/// SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
fn random_ids(seed: u64, count: usize, vocabulary_size: usize) -> Vec<TokenId> {
    let bound = vocabulary_size.clamp(1, MOST_IDS) as u64;
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound) as TokenId
    };
    (0..count).map(|_| next()).collect()
}
