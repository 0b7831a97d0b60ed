//! `hearth models` beyond the list: finding and fetching models, and keeping them right.

use std::path::Path;

use backend::hub::{RepositoryId, RepositoryLink};
use backend::{
    CancellationToken, CheckedFile, DownloadOutcome, Fit, ImportMode, Library, Manifest, Memory, MemoryNeed,
    ModelRecord, RefreshedCatalog, RepairOutcome, Variant,
};
use serde_json::json;

use crate::arguments::AddArguments;
use crate::error::{Error, Result};
use crate::interrupt::Interrupts;
use crate::models::bytes;
use crate::prepare::{self, prepare_model};
use crate::print::Printer;
use crate::run::Run;
use crate::show::fit_words;
use crate::transfer::{copying, downloading, verifying};

/// Prints the repositories that have `words` in their name.
pub(crate) fn search(run: &Run, words: &str, most: usize, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library();
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

/// Fetches a model and installs it, or goes on where that was interrupted.
pub(crate) fn add(run: &Run, arguments: &AddArguments, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library();
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
            printer.aside(&format!("Paused. `hearth models add {}` goes on from here.", arguments.name));
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
    let name = &arguments.name;
    if let Some(begun) = library.unfinished(name) {
        return Ok(begun.record);
    }
    if let Some(listed) = library.find_listed(name) {
        let entry = &listed.entry;
        if !listed.is_built_in {
            let host = library.refreshed().ok().flatten().map(RefreshedCatalog::host).unwrap_or_default();
            let text = format!(
                "`{name}` is from the list of `{host}` and not in Hearth's own: nobody has tried it here. Its \
                 files will be compared with what that list says of them, or else the hub; that says nothing \
                 about who put them there."
            );
            printer.notice("not_in_catalog", &text);
        }
        if entry.has_terms {
            let text = format!(
                "{} comes under the {}; read its terms before you use it.",
                entry.title, entry.base_licence
            );
            printer.notice("licence", &text);
        }
        warn_of_size(entry.memory(), printer);
        return Ok(library.record_of(&listed).await?);
    }
    if !name.contains('/') {
        let known = library.listed().into_iter().map(|listed| format!("`{}`", listed.name));
        let known = known.collect::<Vec<_>>().join(", ");
        let known = format!("the catalogue has {known}; any other repository is called `owner/name`");
        return Err(backend::Error::ModelUnknown { id: name.clone(), known }.into());
    }
    let RepositoryLink { id, revision } = library.hub().link(name)?;
    let offer = library.offer(&id, arguments.revision.as_deref().or(revision.as_deref())).await?;
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

/// Reads every byte of an installed model.
pub(crate) fn verify(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library();
    let model = library.store().find(name)?;
    let interrupts = Interrupts::install()?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let _working = interrupts.working(move || cancel.cancel());
    // What this machine made of a model lies beside its files, and is not compared.
    let total = Manifest::read(&model.folder)?.map_or(model.size, |manifest| manifest.record.size());
    let checked = library.store().verify(&model, &stop, &mut verifying(printer, total));
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
    let library = run.backend().library();
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
    let library = run.backend().library();
    let (id, size) = match (library.store().find(name), library.unfinished(name)) {
        (Err(_), Some(begun)) => {
            library.discard(&begun.record)?;
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
    let library = run.backend().library();
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

/// Fetches the list of models at `address`, or at the one that the settings name.
pub(crate) fn refresh(run: &Run, address: Option<&str>, printer: &mut Printer) -> Result<()> {
    let list = run.wait(async {
        match address {
            Some(address) => run.backend().library().refresh_catalog(address).await,
            None => run.backend().refresh_catalog().await,
        }
    })?;
    if printer.is_json() {
        printer.json_line(&json!({
            "type": "refreshed", "source": list.source, "models": list.len(), "time": list.refreshed,
        }));
    } else {
        printer.line(&format!(
            "The list of `{}` has {} models; `hearth models list --available` shows them beside Hearth's own.",
            list.host(),
            list.len()
        ));
    }
    Ok(())
}

/// Leaves the list that was fetched.
pub(crate) fn leave_refreshed(run: &Run, printer: &mut Printer) -> Result<()> {
    run.backend().library().leave_refreshed_catalog()?;
    if printer.is_json() {
        printer.json_line(&json!({"type": "own_list"}));
    } else {
        printer.line("Hearth's own list of models is all there is.");
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
            printer.line(&format!("{}: {}", file.path, file.state));
        }
    }
}
