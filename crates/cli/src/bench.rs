//! `hearth bench`: how fast a model reads and writes on this machine, what it holds, and that it rests.

mod measure;
mod random_ids;
mod report;

use std::time::Duration;

use backend::{LoadedModel, Memory, Sampling, cpu_time};

use crate::arguments::{BenchArguments, Options};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resume::keep;
use crate::run::Run;
use measure::{Lengths, Measurement};
pub(crate) use random_ids::random_ids;
use report::{MemoryAfter, Report};

const NEW_TOKENS: usize = 64;
/// The depths where none is asked for: nothing before, and a conversation of some length.
const DEPTHS: [usize; 2] = [0, 2048];
/// How long nothing is asked of the model while its CPU time is read.
const IDLE: Duration = Duration::from_secs(1);

/// Measures load, prefill and decode, the turns of a chat that grows, memory, and the CPU time of rest.
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
    let lengths = Lengths { prompt: command.prompt.get(), new };
    let ready = run.wait(run.backend().models().ready())?;
    run.tell_notices(printer);
    // Else the memory would be that of as many conversations as there is room for.
    keep(run, None)?;
    let about = &ready.about;
    let depths = depths(command.depth.as_deref(), lengths, about)?;
    let seed = options.seed.unwrap_or(0);
    // Greedy where nothing else is asked for, whatever the model's makers recommend.
    let sampling = Sampling { seed: Some(seed), ..options.reply().sampling(&greedy()) };
    let measurement = Measurement::new(run, about, sampling, seed);
    let mut memory = vec![MemoryAfter::now("load")];
    let mut at_depths = Vec::new();
    for depth in depths {
        at_depths.push(measurement.at_depth(lengths, depth, printer)?);
        memory.push(MemoryAfter::now(&format!("depth {depth}")));
    }
    let chat = measurement.growing_chat(printer)?;
    memory.push(MemoryAfter::now("chat"));
    let before = cpu_time();
    run.wait(async { tokio::time::sleep(IDLE).await });
    let idle = cpu_time().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64();
    let report = Report {
        model: ready.model.id.clone(),
        graph: about.graph.clone(),
        kv_backend: about.spec.kv_backend.to_string(),
        provider: about.spec.execution_provider.to_string(),
        runtime_version: about.runtime_version.clone(),
        threads: about.spec.threads,
        prompt: lengths.prompt,
        new: lengths.new,
        seed,
        depths: at_depths,
        chat,
        load_seconds: about.load_seconds,
        memory,
        peak_memory_bytes: Memory::now().peak_resident,
        idle_cpu_share: idle,
    };
    report.tell(printer);
    run.end()
}

/// The sampling of models whose makers want it greedy.
fn greedy() -> backend::SuggestedSampling {
    backend::SuggestedSampling { do_sample: Some(false), ..Default::default() }
}

/// The depths asked for, which must fit, or else those of the usual ones that do.
fn depths(asked: Option<&[usize]>, lengths: Lengths, about: &LoadedModel) -> Result<Vec<usize>> {
    let Lengths { prompt, new } = lengths;
    // The last new token is chosen and never read.
    let fits = |depth: usize| depth.saturating_add(prompt).saturating_add(new - 1) <= about.window;
    let refused = |depth: usize| {
        let window = about.window;
        let reason = format!(
            "depth {depth}, prompt {prompt} and {new} new tokens do not fit into a context of {window} tokens"
        );
        Err(Error::Usage { reason })
    };
    match asked {
        Some(depths) => match depths.iter().find(|&&depth| !fits(depth)) {
            Some(&depth) => refused(depth),
            None => Ok(depths.to_vec()),
        },
        None if !fits(DEPTHS[0]) => refused(DEPTHS[0]),
        None => Ok(DEPTHS.into_iter().filter(|&depth| fits(depth)).collect()),
    }
}
