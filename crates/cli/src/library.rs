//! `hearth models` beyond the list: what can be had, fetching it, and keeping it right.

use std::path::Path;

use backend::hub::RepositoryId;
use backend::{
    CancellationToken, CatalogEntry, CheckedFile, DownloadOutcome, Fit, ImportMode, InstalledModel, Library,
    Manifest, Memory, MemoryNeed, ModelRecord, Origin, RepairOutcome, Variant,
};
use serde_json::{Value, json};

use crate::arguments::AddArguments;
use crate::error::{Error, Result};
use crate::interrupt::Interrupts;
use crate::models::bytes;
use crate::prepare::{self, prepare_model};
use crate::print::Printer;
use crate::run::Run;
use crate::transfer::{copying, downloading, verifying};

/// Prints the repositories that have `words` in their name.
pub(crate) fn search(run: &Run, words: &str, most: usize, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let hits = run.wait(library.hub().search(words, most))?;
    if hits.is_empty() && !printer.is_json() {
        printer.aside("No chat model with ONNX files has these words in its name.");
    }
    for hit in hits {
        if printer.is_json() {
            printer.json_line(&json!({
                "type": "repository", "id": hit.id, "licence": hit.licence,
                "downloads": hit.downloads, "likes": hit.likes, "gated": hit.gated,
            }));
        } else {
            let licence = hit.licence.as_deref().unwrap_or("no licence named");
            let gated = if hit.gated { ", asks for a login" } else { "" };
            printer.line(&format!("{}  {licence}{gated}", hit.id));
        }
    }
    Ok(())
}

/// Prints the models that Hearth recommends.
pub(crate) fn list_available(run: &Run, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let memory = Memory::now();
    let widest = library.catalog().entries().iter().map(|entry| entry.id.len()).max().unwrap_or_default();
    for entry in library.catalog().entries() {
        let fit = entry.memory().map(|need| need.fit(&memory));
        if printer.is_json() {
            printer.json_line(&entry_line("available", entry, fit));
        } else {
            let size = entry.size().map_or("size unknown".into(), bytes);
            let fit = fit.map_or("", fit_words);
            printer.line(&format!(
                "{:widest$}  {}, {size}, {}, {fit}",
                entry.id, entry.title, entry.base_licence
            ));
        }
    }
    Ok(())
}

/// Fetches a model and installs it, or goes on where that was interrupted.
pub(crate) fn add(run: &Run, arguments: &AddArguments, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let pause = stop.clone();
    let working = interrupts.working(move || pause.cancel());
    let plan = run.wait(async {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            plan = plan(&library, arguments, printer) => plan.map(Some),
        }
    })?;
    let Some(record) = plan else { return Ok(()) };
    let outcome = run.wait(library.fetch(&record, &stop, downloading(printer)));
    printer.end_progress();
    drop(working);
    match outcome? {
        DownloadOutcome::Installed(folder) => {
            run.backend().models().refresh();
            if !arguments.no_prepare {
                prepare_installed(run, &interrupts, &record.folder_name(), printer);
            }
            told(printer, "installed", &record.id, &folder, "is installed in");
        }
        DownloadOutcome::Paused if printer.is_json() => {
            printer.json_line(&json!({"type": "paused", "id": record.id}));
        }
        DownloadOutcome::Paused => {
            printer.aside(&format!("Paused. `hearth models add {}` goes on from here.", arguments.model));
        }
    }
    Ok(())
}

/// Prepares a model that was installed just now. It runs as it is where that is not possible.
fn prepare_installed(run: &Run, interrupts: &Interrupts, id: &str, printer: &mut Printer) {
    match prepare_model(run, interrupts, id, false, printer) {
        Ok(Some(prepared)) if !printer.is_json() => printer.aside(&prepared.run.to_string()),
        Ok(Some(prepared)) => prepare::print(&prepared, printer),
        Ok(None) => {
            printer.notice("preparation", "The model was not prepared for this machine; it runs as it is.")
        }
        Err(error) => {
            let text = format!(
                "The model was not prepared for this machine and runs as it is: {}.",
                error.message()
            );
            printer.notice("preparation", &text);
        }
    }
}

/// What is to be fetched for what the user named.
async fn plan(library: &Library, arguments: &AddArguments, printer: &mut Printer) -> Result<ModelRecord> {
    let name = &arguments.model;
    if let Some(begun) = library.unfinished(name) {
        return Ok(begun.record);
    }
    if let Some(entry) = library.catalog().find(name) {
        if entry.has_terms {
            let text = format!(
                "{} comes under the {}; read its terms before you use it.",
                entry.title, entry.base_licence
            );
            printer.notice("licence", &text);
        }
        warn_of_size(entry.memory(), printer);
        return Ok(library.record_of(entry).await?);
    }
    if !name.contains('/') {
        let known = library.catalog().entries().iter().map(|entry| format!("`{}`", entry.id));
        let known = known.collect::<Vec<_>>().join(", ");
        let known = format!("the catalogue has {known}; any other repository is called `owner/name`");
        return Err(backend::Error::ModelUnknown { id: name.clone(), known }.into());
    }
    let id = RepositoryId::parse(name)?;
    let offer = library.offer(&id, arguments.revision.as_deref()).await?;
    let licence = offer.repository.licence.as_deref().unwrap_or("none is named");
    let text = format!(
        "`{id}` is not in Hearth's catalogue: nobody has tried it here. Its licence: {licence}. Its files will \
         be compared with what the hub says of them; that says nothing about who put them there."
    );
    printer.notice("not_in_catalog", &text);
    let variant = choose(&id, &offer.variants, arguments.variant.as_deref())?;
    warn_of_size(Some(variant.memory), printer);
    let record = variant.record(&offer.repository);
    // A repository that was begun before goes on as it was, where its commit is the same.
    Ok(record)
}

fn choose<'v>(id: &RepositoryId, variants: &'v [Variant], name: Option<&str>) -> Result<&'v Variant> {
    let refused = |reason: String| backend::Error::Unsupported { what: format!("`{id}`"), reason };
    let usable = || variants.iter().filter(|variant| variant.unsupported.is_none());
    let names = || usable().map(|variant| format!("`{}`", variant.name)).collect::<Vec<_>>().join(", ");
    let chosen = match name {
        Some(name) => variants
            .iter()
            .find(|variant| variant.name == name)
            .ok_or_else(|| refused(format!("it has no variant `{name}`; there are {}", names())))?,
        None => usable().next().ok_or_else(|| match variants.first() {
            None => refused("it has no ONNX graph".into()),
            Some(first) => {
                let reason = first.unsupported.as_deref().unwrap_or_default();
                refused(format!(
                    "none of its {} graphs can run here; `{}`: {reason}",
                    variants.len(),
                    first.graph
                ))
            }
        })?,
    };
    match &chosen.unsupported {
        Some(reason) => Err(refused(format!("`{}`: {reason}", chosen.name)).into()),
        None => Ok(chosen),
    }
}

fn warn_of_size(need: Option<MemoryNeed>, printer: &mut Printer) {
    let memory = Memory::now();
    let Some(need) = need.filter(|need| need.fit(&memory) != Fit::Fits) else { return };
    let words = fit_words(need.fit(&memory));
    let text = format!(
        "This model {words}: it takes about {} (computed, not measured) of {}.",
        bytes(need.bytes),
        bytes(memory.total)
    );
    printer.notice("memory", &text);
}

/// Prints what is known of a model: an installed one, one of the catalogue, or all of a repository.
pub(crate) fn show(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    if let Ok(model) = library.store().find(name) {
        return show_installed(&model, printer);
    }
    if let Some(entry) = library.catalog().find(name) {
        show_entry(entry, printer);
        return Ok(());
    }
    if !name.contains('/') {
        library.store().find(name)?;
    }
    let id = RepositoryId::parse(name)?;
    let offer = run.wait(library.offer(&id, None))?;
    let memory = Memory::now();
    if printer.is_json() {
        let variants: Vec<Value> =
            offer.variants.iter().map(|variant| variant_line(variant, &memory)).collect();
        printer.json_line(&json!({
            "type": "repository", "id": id, "commit": offer.repository.commit,
            "licence": offer.repository.licence, "base_models": offer.repository.base_models,
            "gated": offer.repository.gated, "variants": variants,
        }));
        return Ok(());
    }
    printer.line(&format!("repository  {id}"));
    printer.line(&format!("commit      {}", offer.repository.commit));
    printer.line(&format!("licence     {}", offer.repository.licence.as_deref().unwrap_or("none is named")));
    if !offer.repository.base_models.is_empty() {
        printer.line(&format!("made from   {}", offer.repository.base_models.join(", ")));
    }
    for variant in &offer.variants {
        let about = match &variant.unsupported {
            Some(reason) => format!("not usable: {reason}"),
            None => fit_words(variant.memory.fit(&memory)).to_owned(),
        };
        printer.line(&format!("  {}  {}  {}  {about}", variant.name, variant.graph, bytes(variant.size)));
    }
    if offer.variants.is_empty() {
        printer.aside("It has no ONNX graph.");
    }
    Ok(())
}

fn show_installed(model: &InstalledModel, printer: &mut Printer) -> Result<()> {
    let record = Manifest::read(&model.folder)?.map(|manifest| manifest.record);
    if printer.is_json() {
        printer.json_line(&json!({
            "type": "model", "id": model.id, "name": model.name, "folder": model.folder, "size": model.size,
            "context_length": model.context_length, "record": record,
        }));
        return Ok(());
    }
    printer.line(&format!("model       {}", model.id));
    printer.line(&format!("name        {}", model.name));
    printer.line(&format!("folder      {}", model.folder.display()));
    printer.line(&format!("size        {}", bytes(model.size)));
    let Some(record) = record else {
        printer.aside("It has no manifest: it was put there by hand, so it cannot be verified or repaired.");
        return Ok(());
    };
    match &record.origin {
        Origin::Hub { repository, commit } => printer.line(&format!("from        {repository} at {commit}")),
        Origin::Folder { path } => printer.line(&format!("from        {}", path.display())),
    }
    printer.line(&format!("licence     {}", record.licence.as_deref().unwrap_or("not known")));
    for file in &record.files {
        printer.line(&format!("  {}  {}  {}", file.path, bytes(file.size), file.digest));
    }
    Ok(())
}

fn show_entry(entry: &CatalogEntry, printer: &mut Printer) {
    let fit = entry.memory().map(|need| need.fit(&Memory::now()));
    if printer.is_json() {
        return printer.json_line(&entry_line("available", entry, fit));
    }
    printer.line(&format!("model       {}", entry.id));
    printer.line(&format!(
        "name        {}, {} parameters, context {}",
        entry.title, entry.parameters, entry.context
    ));
    printer.line(&format!("repository  {} at {}", entry.repository, entry.commit));
    printer.line(&format!("licence     {} (of {})", entry.base_licence, entry.base_model));
    printer.line(&format!(
        "size        {}",
        entry.size().map_or("told by the hub before the download".into(), bytes)
    ));
    if let (Some(need), Some(fit)) = (entry.memory(), fit) {
        let without = if need.includes_kv_cache { "" } else { ", without the KV cache" };
        printer.line(&format!("memory      {} (computed{without}): {}", bytes(need.bytes), fit_words(fit)));
    }
    for note in &entry.notes {
        printer.line(&format!("  {note}"));
    }
}

/// Reads every byte of an installed model.
pub(crate) fn verify(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let model = library.store().find(name)?;
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let _working = interrupts.working(move || cancel.cancel());
    let checked = library.store().verify(&model, &stop, &mut verifying(printer, model.size));
    printer.end_progress();
    let Some(checked) = checked? else { return Ok(()) };
    tell_files(&checked, printer);
    let wrong = checked.iter().filter(|file| !file.state.is_right()).count();
    if wrong > 0 {
        return Err(Error::Damaged { model: model.id, wrong });
    }
    if !printer.is_json() {
        printer.line(&format!("Every byte of `{}` is right.", model.id));
    }
    Ok(())
}

/// Fetches the files of an installed model that are not right.
pub(crate) fn repair(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let model = library.store().find(name)?;
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let pause = stop.clone();
    let _working = interrupts.working(move || pause.cancel());
    let outcome = run.wait(library.repair(&model, &stop, downloading(printer)));
    printer.end_progress();
    match outcome? {
        RepairOutcome::Repaired(wrong) if printer.is_json() => {
            printer.json_line(&json!({"type": "repaired", "id": model.id, "files": wrong}));
        }
        RepairOutcome::Repaired(wrong) if wrong.is_empty() => {
            printer.line(&format!("Every byte of `{}` is right.", model.id));
        }
        RepairOutcome::Repaired(wrong) => {
            printer.line(&format!("{} files of `{}` were wrong and are right now.", wrong.len(), model.id));
        }
        RepairOutcome::Paused if printer.is_json() => {
            printer.json_line(&json!({"type": "paused", "id": model.id}))
        }
        RepairOutcome::Paused => printer.aside("Paused. The same command goes on from here."),
    }
    Ok(())
}

/// Deletes an installed model, or what came of a download.
pub(crate) fn remove(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library()?;
    let (id, size) = match (library.store().find(name), library.unfinished(name)) {
        (Err(_), Some(begun)) => {
            library.discard(&begun)?;
            (begun.record.id, begun.bytes)
        }
        (model, _) => {
            let model = model?;
            library.store().remove(&model)?;
            run.backend().models().refresh();
            (model.id, model.size)
        }
    };
    if printer.is_json() {
        printer.json_line(&json!({"type": "removed", "id": id, "size": size}));
    } else {
        printer.line(&format!("`{id}` is gone ({}).", bytes(size)));
    }
    Ok(())
}

/// Takes a folder of this machine into the library.
pub(crate) fn import(
    run: &Run,
    folder: &Path,
    name: Option<&str>,
    link: bool,
    printer: &mut Printer,
) -> Result<()> {
    let library = run.backend().library()?;
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let _working = interrupts.working(move || cancel.cancel());
    let mode = if link { ImportMode::Link } else { ImportMode::Copy };
    let imported = library.import(folder, name, mode, &stop, &mut copying(printer));
    printer.end_progress();
    if let Some(place) = imported? {
        run.backend().models().refresh();
        let id = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        told(printer, "installed", &id, &place, if link { "is linked by" } else { "is installed in" });
    }
    Ok(())
}

fn told(printer: &mut Printer, kind: &str, id: &str, folder: &Path, words: &str) {
    if printer.is_json() {
        printer.json_line(&json!({"type": kind, "id": id, "folder": folder}));
    } else {
        printer.line(&format!("`{id}` {words} {}. Chat with it by --model {id}.", folder.display()));
    }
}

fn tell_files(checked: &[CheckedFile], printer: &mut Printer) {
    for file in checked {
        if printer.is_json() {
            let mut line = serde_json::to_value(file).unwrap_or_default();
            line["type"] = "file".into();
            printer.json_line(&line);
        } else if !file.state.is_right() {
            printer.line(&format!("{}: {:?}", file.path, file.state));
        }
    }
}

fn entry_line(kind: &str, entry: &CatalogEntry, fit: Option<Fit>) -> Value {
    json!({
        "type": kind, "id": entry.id, "name": entry.title, "repository": entry.repository,
        "commit": entry.commit, "licence": entry.base_licence, "base_model": entry.base_model,
        "parameters": entry.parameters, "context_length": entry.context, "size": entry.size(),
        "memory_computed": entry.memory().map(|need| need.bytes), "fit": fit.map(fit_code),
    })
}

fn variant_line(variant: &Variant, memory: &Memory) -> Value {
    json!({
        "name": variant.name, "graph": variant.graph, "precision": variant.precision, "size": variant.size,
        "memory_computed": variant.memory.bytes, "fit": fit_code(variant.memory.fit(memory)),
        "unsupported": variant.unsupported,
    })
}

fn fit_code(fit: Fit) -> &'static str {
    match fit {
        Fit::Fits => "fits",
        Fit::Tight => "tight",
        Fit::TooLarge => "too_large",
    }
}

fn fit_words(fit: Fit) -> &'static str {
    match fit {
        Fit::Fits => "fits into this machine's memory",
        Fit::Tight => "goes into this machine's memory and leaves little",
        Fit::TooLarge => "is too large for this machine's memory",
    }
}
