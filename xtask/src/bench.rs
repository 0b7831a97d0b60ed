//! `bench`: speed of model folders, in turn with other programs, as one table.
//!
//! The rounds are interleaved (every program once, then all again), because a machine's speed drifts:
//! compare the ratios of one table, not figures of two.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::arguments::{BenchPlan, Peers};
use crate::command::Program;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{print, run, runtime};

const HEARTH: &str = "Hearth";

/// One measurement. Speeds in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measurement {
    prefill: f64,
    decode: f64,
    load_seconds: Option<f64>,
    peak_bytes: Option<f64>,
}

/// Program, model and figures.
type PeerMeasurement = (String, String, Measurement);

/// All measurements of one program on one model.
#[derive(Debug)]
struct Row {
    program: String,
    model: String,
    rounds: Vec<Measurement>,
}

/// Builds, measures, prints the table of medians.
///
/// # Errors
/// What could not be made ready, and [`Error::Measurement`] if a program's output cannot be read.
pub(crate) fn bench(workspace: &Workspace, plan: &BenchPlan) -> Result<()> {
    let models = match plan.models.as_slice() {
        [] => vec![workspace.root().join("models/ember")],
        models => models.to_vec(),
    };
    for model in &models {
        model.metadata().map_err(Error::file("open the model folder", model))?;
    }
    let library = runtime::ensure(workspace)?;
    run::build(workspace, &["cli"])?;

    let mut rows = Vec::new();
    for round in 1..=plan.rounds {
        print::step(&format!("Round {round} of {}", plan.rounds));
        for model in &models {
            add(&mut rows, HEARTH, &name_of(model), measure_hearth(workspace, &library, model, plan)?);
        }
        if let Some(peers) = &plan.peers {
            for (program, model, measurement) in measure_peers(peers, &models, plan)? {
                add(&mut rows, &program, &model, measurement);
            }
        }
    }
    print::text(&format!("\n{}", table(&rows, plan)));
    Ok(())
}

fn measure_hearth(
    workspace: &Workspace,
    library: &Path,
    model: &Path,
    plan: &BenchPlan,
) -> Result<Measurement> {
    let output = Program::new(workspace.program("release", "hearth"))
        .argument("bench")
        .argument("--model")
        .argument(model)
        .arguments(plan.lengths())
        .argument("--json")
        .variable(runtime::VARIABLE, library)
        .output()?;
    let last = output.lines().last().unwrap_or_default();
    let unreadable = || Error::Measurement { program: "hearth bench".into(), found: last.into() };
    let measurement = read_finish(last).ok_or_else(unreadable)?;
    report(HEARTH, &name_of(model), &measurement);
    Ok(measurement)
}

fn measure_peers(peers: &Peers, models: &[PathBuf], plan: &BenchPlan) -> Result<Vec<PeerMeasurement>> {
    let folder = peers.models.clone().or_else(|| Some(models.first()?.parent()?.to_path_buf()));
    let output = Program::new(&peers.python)
        .argument(&peers.script)
        .argument(folder.unwrap_or_default())
        .arguments(plan.lengths())
        .output()?;
    let measurements: Vec<_> = output.lines().filter_map(read_peer).collect();
    if measurements.is_empty() {
        let program = peers.script.display().to_string();
        return Err(Error::Measurement { program, found: output.trim().to_owned() });
    }
    for (program, model, measurement) in &measurements {
        report(program, model, measurement);
    }
    Ok(measurements)
}

impl BenchPlan {
    /// The options that `hearth bench` and the script of the peers share.
    fn lengths(&self) -> Vec<String> {
        let mut options = vec![("--prompt", self.prompt), ("--new", self.new), ("--depth", self.depth)];
        options.extend(self.threads.map(|threads| ("--threads", threads)));
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect()
    }
}

/// Reads the last line of `hearth bench --json`.
fn read_finish(line: &str) -> Option<Measurement> {
    let object: Value = serde_json::from_str(line).ok()?;
    let measurement = Measurement {
        prefill: object["prefill_tokens_per_second"].as_f64()?,
        decode: object["decode_tokens_per_second"].as_f64()?,
        load_seconds: object["load_seconds"].as_f64(),
        peak_bytes: object["peak_memory_bytes"].as_f64(),
    };
    Some(measurement)
}

/// Reads `<program> <model> prefill <speed> tok/s decode <speed> tok/s`; other lines are none.
fn read_peer(line: &str) -> Option<PeerMeasurement> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name @ .., model, "prefill", prefill, "tok/s", "decode", decode, "tok/s"] = words.as_slice() else {
        return None;
    };
    let (prefill, decode) = (prefill.parse().ok()?, decode.parse().ok()?);
    let measurement = Measurement { prefill, decode, load_seconds: None, peak_bytes: None };
    Some((name.join(" "), (*model).to_owned(), measurement))
}

fn report(program: &str, model: &str, measurement: &Measurement) {
    let Measurement { prefill, decode, .. } = measurement;
    print::text(&format!("{program}, {model}: prefill {prefill:.1} tok/s, decode {decode:.1} tok/s"));
}

fn add(rows: &mut Vec<Row>, program: &str, model: &str, measurement: Measurement) {
    match rows.iter_mut().find(|row| row.program == program && row.model == model) {
        Some(row) => row.rounds.push(measurement),
        None => {
            let (program, model) = (program.to_owned(), model.to_owned());
            rows.push(Row { program, model, rounds: vec![measurement] });
        }
    }
}

fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or_else(|| whole.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The medians as a Markdown table. With peers, each of their rows says how many times faster Hearth is on
/// the same model (on its first model where the peer has a form of its own); without, rows are compared
/// with the first one.
fn table(rows: &[Row], plan: &BenchPlan) -> String {
    let with_peers = rows.iter().any(|row| row.program != HEARTH);
    let mut lines = vec![
        "| Program | Model | Prefill, tok/s | Decode, tok/s | Load, s | Peak memory, MiB | Prefill × | Decode × |"
            .to_owned(),
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for row in rows {
        let prefill = row.median(|round| Some(round.prefill));
        let decode = row.median(|round| Some(round.decode));
        let reference = reference(rows, row, with_peers);
        let ratio = |own: Option<f64>, of: fn(&Measurement) -> f64| {
            let other = reference?.median(|round| Some(of(round)))?;
            let own = own?;
            Some(if with_peers { other / own } else { own / other })
        };
        let cells = [
            row.program.clone(),
            row.model.clone(),
            number(prefill, 1),
            number(decode, 1),
            number(row.median(|round| round.load_seconds), 2),
            number(row.median(|round| round.peak_bytes).map(|bytes| bytes / f64::from(1 << 20)), 0),
            number(ratio(prefill, |round| round.prefill), 2),
            number(ratio(decode, |round| round.decode), 2),
        ];
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    let BenchPlan { prompt, new, depth, rounds, .. } = plan;
    let threads = plan.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
    let ratio = if with_peers {
        "Hearth's figure on the same model (else its first) divided by the row's"
    } else {
        "the row's figure divided by the first row's"
    };
    lines.push(format!(
        "\nMedians of {rounds} interleaved rounds; {prompt} tokens read after {depth}, {new} written{threads}. ×: {ratio}."
    ));
    lines.join("\n")
}

fn reference<'rows>(rows: &'rows [Row], row: &Row, with_peers: bool) -> Option<&'rows Row> {
    if !with_peers {
        return rows.first();
    }
    let mut of_hearth = rows.iter().filter(|other| other.program == HEARTH);
    let first = of_hearth.clone().next();
    if row.program == HEARTH { None } else { of_hearth.find(|other| other.model == row.model).or(first) }
}

impl Row {
    fn median(&self, of: impl Fn(&Measurement) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        if values.len() % 2 == 1 { Some(upper) } else { Some((values[values.len() / 2 - 1] + upper) / 2.0) }
    }
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(prefill: f64, decode: f64) -> Measurement {
        Measurement { prefill, decode, load_seconds: None, peak_bytes: None }
    }

    #[test]
    fn the_last_line_of_the_benchmark_is_read() {
        let line = r#"{"prefill_tokens_per_second":812.5,"decode_tokens_per_second":64,"load_seconds":0.5,"peak_memory_bytes":1048576}"#;
        let expected = Measurement {
            load_seconds: Some(0.5),
            peak_bytes: Some(1_048_576.0),
            ..measurement(812.5, 64.0)
        };
        assert_eq!(read_finish(line), Some(expected));
        for line in ["", "{}", "no object", r#"{"prefill_tokens_per_second":"fast"}"#] {
            assert_eq!(read_finish(line), None, "`{line}` was taken for a measurement");
        }
    }

    #[test]
    fn a_line_of_the_peers_names_program_and_model() {
        let line = "onnxruntime-genai gqa-q4-block32 prefill    306.1 tok/s   decode    62.0 tok/s";
        let expected =
            ("onnxruntime-genai".to_owned(), "gqa-q4-block32".to_owned(), measurement(306.1, 62.0));
        assert_eq!(read_peer(line), Some(expected));
        let line = "plain ONNX loop hub-q4       prefill    165.0 tok/s   decode    28.0 tok/s";
        assert_eq!(
            read_peer(line).map(|peer| (peer.0, peer.1)),
            Some(("plain ONNX loop".into(), "hub-q4".into()))
        );
        assert_eq!(read_peer("loading the model"), None);
    }

    #[test]
    fn a_peer_is_compared_with_hearth_on_the_same_model_by_medians() {
        let mut rows = Vec::new();
        for (hearth, peer) in [(90.0, 50.0), (100.0, 40.0), (400.0, 10.0)] {
            add(&mut rows, HEARTH, "other", measurement(1.0, 1.0));
            add(&mut rows, HEARTH, "q4", measurement(hearth, 60.0));
            add(&mut rows, "peer", "q4", measurement(peer, 30.0));
        }
        let table = table(&rows, &BenchPlan::default());
        assert!(table.contains("| peer | q4 | 40.0 | 30.0 | – | – | 2.50 | 2.00 |"), "{table}");
        assert!(table.contains("| Hearth | q4 | 100.0 | 60.0 | – | – | – | – |"), "{table}");
    }

    #[test]
    fn without_peers_the_first_row_is_the_measure() {
        let mut rows = Vec::new();
        for speed in [10.0, 20.0] {
            add(&mut rows, HEARTH, "first", measurement(speed, speed));
            add(&mut rows, HEARTH, "second", measurement(speed * 2.0, speed / 2.0));
        }
        let table = table(&rows, &BenchPlan::default());
        assert!(table.contains("| Hearth | second | 30.0 | 7.5 | – | – | 2.00 | 0.50 |"), "{table}");
    }
}
