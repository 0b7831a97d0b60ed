//! `hearth models prepare`: rewrites a model's graph for this machine, and says what came of it.

use backend::{PassResult, PrepareProgress, PrepareStep, Prepared, Verdict};
use serde_json::{Value, json};

use crate::arguments::PrepareArguments;
use crate::error::Result;
use crate::interrupt::Interrupts;
use crate::print::Printer;
use crate::run::Run;

/// Prepares one model. Ctrl-C leaves it as it was.
pub(crate) fn prepare(run: &Run, arguments: &PrepareArguments, printer: &mut Printer) -> Result<()> {
    let interrupts = Interrupts::install()?;
    run.tell_notices(printer);
    match prepare_model(run, &interrupts, &arguments.model, arguments.force, printer)? {
        Some(prepared) => print(&prepared, printer),
        None => printer.aside("Stopped. The model is as it was."),
    }
    Ok(())
}

/// Prepares the model `id` and tells how far that is; `None` where Ctrl-C came first.
///
/// # Errors
/// What keeps it from being prepared.
pub(crate) fn prepare_model(
    run: &Run,
    interrupts: &Interrupts,
    id: &str,
    force: bool,
    printer: &mut Printer,
) -> Result<Option<Prepared>> {
    let models = run.backend().models();
    let stopped = models.clone();
    let _working = interrupts.working(move || stopped.skip_preparation());
    let told = |progress: &PrepareProgress| tell(progress, printer);
    let result = run.wait(models.prepare(id, force, told));
    printer.end_progress();
    Ok(result?)
}

fn tell(progress: &PrepareProgress, printer: &mut Printer) {
    let PrepareProgress { step, done, total } = progress;
    if printer.is_json() {
        let (step, pass) = match step {
            PrepareStep::Reading => ("reading", None),
            PrepareStep::Trying { pass } => ("trying", Some(pass)),
            PrepareStep::Measuring => ("measuring", None),
        };
        let line = json!({ "type": "preparing", "step": step, "pass": pass, "done": done, "total": total });
        return printer.json_line(&line);
    }
    let doing = match step {
        PrepareStep::Reading => "reading and running the original".to_owned(),
        PrepareStep::Trying { pass } => format!("trying {}", spaced(pass)),
        PrepareStep::Measuring => "measuring".to_owned(),
    };
    printer.progress(&format!("{doing}: {} of {total}", done + 1));
}

/// Prints what every pass did, the measurement, and the graph that runs from now on.
pub(crate) fn print(prepared: &Prepared, printer: &mut Printer) {
    if printer.is_json() {
        prepared.passes.iter().for_each(|result| printer.json_line(&pass_line(result)));
        let measurement = prepared.measurement.map(|measurement| {
            let mut object = json!(measurement);
            object["speedup"] = measurement.speedup().into();
            object
        });
        return printer.json_line(&json!({
            "type": "prepared",
            "run": prepared.run,
            "whole": prepared.whole,
            "measurement": measurement,
            "self_test": prepared.self_test,
            "seconds": prepared.seconds,
        }));
    }
    for line in lines(prepared) {
        printer.line(&line);
    }
}

fn pass_line(result: &PassResult) -> Value {
    let (verdict, reason, comparison) = verdict(&result.verdict);
    json!({
        "type": "pass",
        "name": result.name,
        "version": result.version,
        "did": result.did,
        "verdict": verdict,
        "reason": reason,
        "comparison": comparison,
    })
}

fn verdict(verdict: &Verdict) -> (&'static str, Option<&str>, Option<Value>) {
    match verdict {
        Verdict::Unchanged => ("unchanged", None, None),
        Verdict::Refused(why) => ("refused", Some(why), None),
        Verdict::Accepted(comparison) => ("accepted", None, Some(json!(comparison))),
        Verdict::Rejected(comparison) => ("rejected", None, Some(json!(comparison))),
        Verdict::Failed(why) => ("failed", Some(why), None),
    }
}

/// The whole record for people: a line for each pass, then the figures, then what runs.
pub(crate) fn lines(prepared: &Prepared) -> Vec<String> {
    const WIDTH: usize = 16;
    let mut lines: Vec<String> = prepared
        .passes
        .iter()
        .map(|result| {
            let PassResult { name, did, verdict, .. } = result;
            let name = spaced(name);
            match verdict {
                Verdict::Unchanged => format!("{name:WIDTH$}unchanged: {did}"),
                Verdict::Refused(_) => format!("{name:WIDTH$}{verdict}"),
                _ => format!("{name:WIDTH$}{did}; {verdict}"),
            }
        })
        .collect();
    if let Some(whole) = &prepared.whole {
        lines.push(format!("{:WIDTH$}{whole}", "all together"));
    }
    if let Some(measurement) = &prepared.measurement {
        let (original, rewritten) = (measurement.original, measurement.rewritten);
        let speedup = measurement.speedup();
        lines.push(format!(
            "{:WIDTH$}reads {:.0} instead of {:.0} tokens/s, writes {:.1} instead of {:.1}: {speedup:.2} times as fast",
            "speed", rewritten.prefill, original.prefill, rewritten.decode, original.decode,
        ));
    }
    lines.push(format!("{:WIDTH$}{} off the exact product", "4-bit products", prepared.self_test));
    lines.push(format!("{:WIDTH$}{}", "result", prepared.run));
    lines
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}
