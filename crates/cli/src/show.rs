//! `hearth models list --available` and `show`: what is known of models before they are here, and after.

use backend::hub::RepositoryLink;
use backend::{
    CatalogEntry, Fit, InstalledModel, ListedModel, Manifest, Memory, MemoryNeed, Origin, RefreshedCatalog,
    Variant,
};
use serde_json::{Value, json};

use crate::error::Result;
use crate::model_settings;
use crate::models::bytes;
use crate::print::Printer;
use crate::run::Run;

/// Prints the models that Hearth recommends.
pub(crate) fn list_available(run: &Run, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library();
    let memory = Memory::now();
    let refreshed = library.refreshed();
    if let Err(error) = &refreshed {
        printer.notice("catalog", &format!("Hearth's own list of models is used: {error}."));
    }
    let refreshed = refreshed.ok().flatten();
    let listed = library.listed();
    let widest = listed.iter().map(|listed| listed.name.len()).max().unwrap_or_default();
    for ListedModel { entry, is_built_in, name } in &listed {
        let fit = entry.memory().map(|need| need.fit(&memory));
        let source = refreshed.filter(|_| !is_built_in);
        if printer.is_json() {
            let mut line = entry_line("available", entry, fit);
            line["listed_as"] = name.as_str().into();
            line["source"] = source.map_or(Value::Null, |list| list.source.as_str().into());
            printer.json_line(&line);
        } else {
            let size = entry.size().map_or("size unknown".into(), bytes);
            let fit = entry.memory().map_or(String::new(), |need| fit_of(&need, &memory));
            let from = source.map_or(String::new(), |list| format!("; {}", origin_words(list)));
            printer.line(&format!(
                "{name:widest$}  {}, {size}, {}, {fit}{from}",
                entry.title, entry.base_licence
            ));
        }
    }
    Ok(())
}

/// Where a list of models is from, and when it came.
fn origin_words(list: &RefreshedCatalog) -> String {
    format!("from {}, refreshed {}", list.host(), list.refreshed.strftime("%Y-%m-%d"))
}

/// Prints what is known of a model: an installed one, one of the catalogue, or all of a repository.
pub(crate) fn show(run: &Run, name: &str, printer: &mut Printer) -> Result<()> {
    let library = run.backend().library();
    if let Ok(model) = library.store().find(name) {
        return show_installed(run, &model, printer);
    }
    if let Some(listed) = library.find_listed(name) {
        show_entry(&listed.entry, printer);
        if !listed.is_built_in
            && !printer.is_json()
            && let Ok(Some(list)) = library.refreshed()
        {
            printer.line(&format!("list        {}; nobody has tried it with Hearth", origin_words(list)));
        }
        return Ok(());
    }
    if !name.contains('/') {
        library.store().find(name)?;
    }
    let RepositoryLink { id, revision } = library.hub().link(name)?;
    let offer = run.wait(library.offer(&id, revision.as_deref()))?;
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
            None => fit_of(&variant.memory, &memory),
        };
        printer.line(&format!("  {}  {}  {}  {about}", variant.name, variant.graph, bytes(variant.size)));
    }
    if offer.variants.is_empty() {
        printer.aside("It has no ONNX graph.");
    }
    Ok(())
}

fn show_installed(run: &Run, model: &InstalledModel, printer: &mut Printer) -> Result<()> {
    let settings = run.backend().model_settings(&model.id)?;
    let record = Manifest::read(&model.folder)?.map(|manifest| manifest.record);
    if printer.is_json() {
        printer.json_line(&json!({
            "type": "model", "id": model.id, "name": model.name, "folder": model.folder, "size": model.size,
            "context_length": model.context_length, "record": record,
            "settings": model_settings::to_json(&settings),
        }));
        return Ok(());
    }
    printer.line(&format!("model       {}", model.id));
    printer.line(&format!("name        {}", model.name));
    printer.line(&format!("folder      {}", model.folder.display()));
    printer.line(&format!("size        {}", bytes(model.size)));
    model_settings::print(&settings, printer);
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
    if let Some(need) = entry.memory() {
        printer.line(&format!(
            "memory      {} (computed): {}",
            bytes(need.bytes),
            fit_of(&need, &Memory::now())
        ));
    }
    for note in &entry.notes {
        printer.line(&format!("  {note}"));
    }
}

fn entry_line(kind: &str, entry: &CatalogEntry, fit: Option<Fit>) -> Value {
    json!({
        "type": kind, "id": entry.id, "name": entry.title, "repository": entry.repository,
        "commit": entry.commit, "licence": entry.base_licence, "base_model": entry.base_model,
        "parameters": entry.parameters, "context_length": entry.context, "size": entry.size(),
        "memory_computed": entry.memory().map(|need| need.bytes),
        "memory_includes_kv_cache": entry.memory().map(|need| need.includes_kv_cache),
        "fit": fit.map(fit_code),
    })
}

fn variant_line(variant: &Variant, memory: &Memory) -> Value {
    json!({
        "name": variant.name, "graph": variant.graph, "precision": variant.precision, "size": variant.size,
        "memory_computed": variant.memory.bytes, "memory_includes_kv_cache": variant.memory.includes_kv_cache, "fit": fit_code(variant.memory.fit(memory)),
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

/// Whether a model goes into this machine's memory, and what that leaves out.
fn fit_of(need: &MemoryNeed, memory: &Memory) -> String {
    let without =
        if need.includes_kv_cache { "" } else { " (without the KV cache, whose size is not known)" };
    format!("{}{without}", fit_words(need.fit(memory)))
}

pub(crate) fn fit_words(fit: Fit) -> &'static str {
    match fit {
        Fit::Fits => "fits into this machine's memory",
        Fit::Tight => "goes into this machine's memory and leaves little",
        Fit::TooLarge => "is too large for this machine's memory",
    }
}
