//! `hearth models`: what is known of the models on this machine.

use backend::{InstalledModel, ModelSource};
use serde_json::json;

use crate::error::Result;
use crate::print::Printer;
use crate::run::Run;

/// Prints every model.
pub(crate) fn list(run: &Run, printer: &mut Printer) -> Result<()> {
    run.tell_notices(printer);
    print_all(run, printer);
    for begun in run.backend().models().store().unfinished() {
        let (id, total) = (&begun.record.id, begun.record.size());
        if printer.is_json() {
            printer.json_line(&json!({"type": "unfinished", "id": id, "done": begun.bytes, "size": total}));
        } else {
            let share = format!("{} of {}", bytes(begun.bytes), bytes(total));
            printer.line(&format!("  {id}  {share} are here; `hearth models add {id}` goes on"));
        }
    }
    Ok(())
}

/// Prints every model, the one that answers marked.
pub(crate) fn print_all(run: &Run, printer: &mut Printer) {
    let models: Vec<InstalledModel> =
        run.backend().models().all().into_iter().map(|(model, _)| model).collect();
    let selected = run.backend().models().selected();
    if models.is_empty() && !printer.is_json() {
        let folder = run.backend().library_folder();
        return printer.line(&format!("There are no models. `hearth models list --available` shows some to fetch; or put a model folder into {}.", folder.display()));
    }
    let widest = models.iter().map(|model| model.id.chars().count()).max().unwrap_or_default();
    for model in &models {
        let is_selected = selected.as_ref() == Some(&model.id);
        if printer.is_json() {
            printer.json_line(&json!({
                "type": "model",
                "id": model.id,
                "name": model.name,
                "source": source_name(model.source),
                "folder": model.folder,
                "parameters": model.parameters,
                "size": model.size,
                "context_length": model.context_length,
                "selected": is_selected,
            }));
        } else {
            let mark = if is_selected { '*' } else { ' ' };
            let id = format!("{:widest$}", model.id);
            printer.line(&format!("{mark} {id}  {}", description(model)));
        }
    }
}

fn description(model: &InstalledModel) -> String {
    let mut parts = vec![model.name.clone()];
    parts.extend(model.parameters.map(|parameters| format!("{} parameters", short_count(parameters))));
    parts.push(bytes(model.size));
    parts.extend(model.context_length.map(|tokens| format!("context {tokens}")));
    parts.push(
        match model.source {
            ModelSource::BuiltIn => "built in",
            ModelSource::Installed => "installed",
        }
        .into(),
    );
    parts.join(", ")
}

pub(crate) fn source_name(source: ModelSource) -> &'static str {
    match source {
        ModelSource::BuiltIn => "built_in",
        ModelSource::Installed => "installed",
    }
}

/// A count with three digits at most before its unit: 494 M, 1.5 B.
fn short_count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{:.0} K", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} M", count as f64 / 1e6),
        _ => format!("{:.1} B", count as f64 / 1e9),
    }
}

/// Bytes in decimal units, as shops and file dialogues give them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
