//! `bench`: speed of model folders, in turn with other programs, as one table.
//!
//! The rounds are interleaved (every program once, then all again), because a machine's speed drifts:
//! compare the ratios of one table, not figures of two.

mod machine;
mod table;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::arguments::{BenchPlan, Peers};
use crate::command::Program;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{print, run, runtime};
use table::{Figures, Speed, Table};

/// Where the table is written in a Markdown file: between these two lines.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Builds, measures, prints the table of medians, and writes it where it was asked for.
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
    // Nobody should learn after an hour that there is no place for the table.
    if let Some(file) = &plan.markdown {
        replace_section(&read(file)?, "", file)?;
    }
    let library = runtime::ensure(workspace)?;
    run::build(workspace, &["cli"])?;

    let mut table = Table::default();
    for round in 0..plan.rounds {
        print::step(&format!("Round {} of {}", round + 1, plan.rounds));
        for model in &models {
            let figures = measure_hearth(workspace, &library, model, plan)?;
            *table.round(table::HEARTH, &name_of(model), round) = figures;
        }
        if let Some(peers) = &plan.peers {
            for &depth in &plan.depths {
                for (program, model, speed) in measure_peers(workspace, peers, &models, depth, &table, plan)?
                {
                    table.round(&program, &model, round).speeds.insert(depth, speed);
                }
            }
        }
    }
    let text = format!("{}\n{}", machine::describe(workspace), table.markdown(plan));
    print::text(&format!("\n{text}"));
    match &plan.markdown {
        Some(file) => write_section(file, &text),
        None => Ok(()),
    }
}

fn measure_hearth(workspace: &Workspace, library: &Path, model: &Path, plan: &BenchPlan) -> Result<Figures> {
    let depths: Vec<String> = plan.depths.iter().map(usize::to_string).collect();
    let output = Program::new(workspace.program("release", "hearth"))
        .argument("bench")
        .argument("--model")
        .argument(model)
        .arguments(plan.lengths())
        .arguments(plan.threads.into_iter().flat_map(|threads| ["--threads".to_owned(), threads.to_string()]))
        .argument("--depth")
        .argument(depths.join(","))
        .argument("--json")
        .variable(runtime::VARIABLE, library)
        .output()?;
    let last = output.lines().last().unwrap_or_default();
    let unreadable = || Error::Measurement { program: "hearth bench".into(), found: last.into() };
    let figures = read_finish(last).ok_or_else(unreadable)?;
    for (depth, speed) in &figures.speeds {
        report(table::HEARTH, &name_of(model), *depth, speed);
    }
    Ok(figures)
}

fn measure_peers(
    workspace: &Workspace,
    peers: &Peers,
    models: &[PathBuf],
    depth: usize,
    table: &Table,
    plan: &BenchPlan,
) -> Result<Vec<(String, String, Speed)>> {
    let folder = peers.models.clone().or_else(|| Some(models.first()?.parent()?.to_path_buf()));
    let mut program = Program::new(&peers.python)
        .argument(&peers.script)
        .argument(folder.unwrap_or_default())
        .arguments(plan.lengths())
        .arguments(["--depth".to_owned(), depth.to_string()]);
    // All with as many threads as Hearth takes.
    if let Some(threads) = plan.threads.or(table.threads()) {
        program = program.arguments(["--threads".to_owned(), threads.to_string()]);
    }
    if let Some(libraries) = &peers.llama_libraries {
        let module = workspace.root().join("xtask/peers");
        program = program.variable("PYTHONPATH", module).variable("LLAMA_CPP_LIBRARIES", libraries);
    }
    let output = program.output()?;
    let speeds: Vec<_> = output.lines().filter_map(read_peer).collect();
    if speeds.is_empty() {
        let program = peers.script.display().to_string();
        return Err(Error::Measurement { program, found: output.trim().to_owned() });
    }
    for (program, model, speed) in &speeds {
        report(program, model, depth, speed);
    }
    Ok(speeds)
}

impl BenchPlan {
    /// The lengths that `hearth bench` and the script of the peers name alike.
    fn lengths(&self) -> [String; 4] {
        ["--prompt".to_owned(), self.prompt.to_string(), "--new".to_owned(), self.new.to_string()]
    }
}

/// Reads the last line of `hearth bench --json`.
fn read_finish(line: &str) -> Option<Figures> {
    let object: Value = serde_json::from_str(line).ok()?;
    let mut figures = Figures {
        load_seconds: object["load_seconds"].as_f64(),
        peak_bytes: object["peak_memory_bytes"].as_f64(),
        idle_cpu_share: object["idle_cpu_share"].as_f64(),
        threads: object["threads"].as_u64().map(|threads| threads as usize),
        ..Figures::default()
    };
    for at in object["depths"].as_array()? {
        let speed = Speed {
            prefill: at["prefill_tokens_per_second"].as_f64()?,
            decode: at["decode_tokens_per_second"].as_f64()?,
        };
        figures.speeds.insert(at["depth"].as_u64()? as usize, speed);
    }
    if let Some([first, .., last]) = object["chat"]["turns"].as_array().map(Vec::as_slice) {
        figures.first_turn_seconds = first["first_token_seconds"].as_f64();
        figures.last_turn_seconds = last["first_token_seconds"].as_f64();
    }
    Some(figures)
}

/// Reads `<program> <model> prefill <speed> tok/s decode <speed> tok/s`; other lines are none.
fn read_peer(line: &str) -> Option<(String, String, Speed)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name @ .., model, "prefill", prefill, "tok/s", "decode", decode, "tok/s"] = words.as_slice() else {
        return None;
    };
    let speed = Speed { prefill: prefill.parse().ok()?, decode: decode.parse().ok()? };
    Some((name.join(" "), (*model).to_owned(), speed))
}

fn report(program: &str, model: &str, depth: usize, speed: &Speed) {
    let Speed { prefill, decode } = speed;
    print::text(&format!(
        "{program}, {model}, after {depth}: prefill {prefill:.1} tok/s, decode {decode:.1} tok/s"
    ));
}

fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or_else(|| whole.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(Error::file("read", file))
}

fn write_section(file: &Path, section: &str) -> Result<()> {
    let text = replace_section(&read(file)?, section, file)?;
    std::fs::write(file, text).map_err(Error::file("write", file))
}

/// `text` with `section` in the place of what stands between the two marks.
fn replace_section(text: &str, section: &str, file: &Path) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        Error::Usage(format!("`{}` has no lines `{BEGIN}` and `{END}` to write between", file.display()))
    })?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", section.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_benchmark_is_read() {
        let line = r#"{"depths":[{"depth":0,"prefill_tokens_per_second":812.5,"decode_tokens_per_second":64},
            {"depth":2048,"prefill_tokens_per_second":300,"decode_tokens_per_second":48}],
            "chat":{"turns":[{"first_token_seconds":0.25},{"first_token_seconds":0.5},{"first_token_seconds":0.3}]},
            "threads":2,"load_seconds":0.5,"peak_memory_bytes":1048576,"idle_cpu_share":0.01}"#;
        let figures = read_finish(&line.replace('\n', " ")).expect("it is a measurement");
        assert_eq!(figures.speeds[&0], Speed { prefill: 812.5, decode: 64.0 });
        assert_eq!(figures.speeds[&2048], Speed { prefill: 300.0, decode: 48.0 });
        assert_eq!((figures.first_turn_seconds, figures.last_turn_seconds), (Some(0.25), Some(0.3)));
        assert_eq!((figures.load_seconds, figures.peak_bytes), (Some(0.5), Some(1_048_576.0)));
        assert_eq!((figures.threads, figures.idle_cpu_share), (Some(2), Some(0.01)));
        for line in ["", "{}", "no object", r#"{"depths":[{"depth":0,"prefill_tokens_per_second":"fast"}]}"#]
        {
            assert_eq!(read_finish(line), None, "`{line}` was taken for a measurement");
        }
    }

    #[test]
    fn a_line_of_the_peers_names_program_and_model() {
        let line = "onnxruntime-genai gqa-q4-block32 prefill    306.1 tok/s   decode    62.0 tok/s";
        let speed = Speed { prefill: 306.1, decode: 62.0 };
        assert_eq!(read_peer(line), Some(("onnxruntime-genai".into(), "gqa-q4-block32".into(), speed)));
        let line = "plain ONNX loop hub-q4       prefill    165.0 tok/s   decode    28.0 tok/s";
        assert_eq!(
            read_peer(line).map(|peer| (peer.0, peer.1)),
            Some(("plain ONNX loop".into(), "hub-q4".into()))
        );
        assert_eq!(read_peer("loading the model"), None);
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before_and_leaves_the_rest() {
        let text = format!("# Speed\n{BEGIN}\nold\n{END}\nThe end.\n");
        let file = Path::new("performance.md");
        let once = replace_section(&text, "new\n", file).unwrap();
        assert_eq!(once, format!("# Speed\n{BEGIN}\nnew\n{END}\nThe end.\n"));
        assert_eq!(replace_section(&once, "new", file).unwrap(), once);
        for text in ["", BEGIN, END] {
            assert!(matches!(replace_section(text, "new", file), Err(Error::Usage(_))), "{text}");
        }
    }
}
