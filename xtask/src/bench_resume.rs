//! `bench resume`: how soon a long conversation goes on after a restart, on model folders in turn.

use std::path::Path;

use serde_json::Value;

use crate::arguments::BenchPlan;
use crate::command::Program;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{print, run, runtime};

/// The tokens of the conversation.
const TOKENS: usize = 4000;

/// Builds, measures, prints a table.
///
/// # Errors
/// What could not be made ready, and [`Error::Measurement`] if the program's output cannot be read.
pub(crate) fn bench(workspace: &Workspace, plan: &BenchPlan) -> Result<()> {
    let ember = vec![workspace.root().join("models/ember")];
    let models = if plan.models.is_empty() { &ember } else { &plan.models };
    let library = runtime::ensure(workspace)?;
    run::build(workspace, &["cli"])?;
    let mut lines = vec![
        "| Model | First token after a restart, s | after reading again, s | × | The files alone, s | MB |"
            .to_owned(),
        "| --- | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for model in models {
        print::step(&format!("Measuring {}", model.display()));
        lines.push(measure(workspace, &library, model, plan)?);
    }
    lines.push(format!("\nMedians of three runs; a conversation of {TOKENS} tokens and a short message."));
    print::text(&format!("\n{}", lines.join("\n")));
    Ok(())
}

fn measure(workspace: &Workspace, library: &Path, model: &Path, plan: &BenchPlan) -> Result<String> {
    let threads = plan.threads.map(|threads| ["--threads".to_owned(), threads.to_string()]);
    let output = Program::new(workspace.program("release", "hearth"))
        .argument("bench")
        .argument("--model")
        .argument(model)
        .arguments(["--resume".to_owned(), TOKENS.to_string(), "--json".to_owned()])
        .arguments(threads.into_iter().flatten())
        .variable(runtime::VARIABLE, library)
        .output()?;
    let last = output.lines().last().unwrap_or_default();
    let unreadable = || Error::Measurement { program: "hearth bench --resume".into(), found: last.into() };
    row(last).ok_or_else(unreadable)
}

/// A row of the table from the last line of `hearth bench --resume --json`.
fn row(line: &str) -> Option<String> {
    let object: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| object[name].as_f64();
    Some(format!(
        "| {} | {:.3} | {:.2} | {:.1} | {:.3} | {:.0} |",
        object["model"].as_str()?,
        number("resume_seconds")?,
        number("read_again_seconds")?,
        number("times_shorter")?,
        number("files_seconds")?,
        number("file_bytes")? / 1e6,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_becomes_a_row() {
        let line = r#"{"type":"resume","model":"q4","read_again_seconds":20,"resume_seconds":0.5,"files_seconds":0.05,"file_bytes":98000000,"times_shorter":40}"#;
        assert_eq!(row(line).as_deref(), Some("| q4 | 0.500 | 20.00 | 40.0 | 0.050 | 98 |"));
        for line in ["", "{}", r#"{"model":"q4"}"#] {
            assert_eq!(row(line), None, "`{line}` was taken for a measurement");
        }
    }
}
