//! `hearth conversations`: what was kept.

use std::path::Path;

use backend::{
    Conversation, ConversationSummary, Entry, ExportFormat, FinishReason, History, ReplyStatus, SearchHit,
};
use serde_json::json;
use uuid::Uuid;

use crate::arguments::{ConversationsCommand, Options};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::run::Run;

/// Does what the command line asks for.
pub(crate) fn obey(
    run: &Run,
    options: &Options,
    command: &ConversationsCommand,
    printer: &mut Printer,
) -> Result<()> {
    let history = run.backend().history();
    match command {
        ConversationsCommand::List { most } => list(history, *most, printer)?,
        ConversationsCommand::Show { id } => show(&history.conversation(*id, usize::MAX)?, printer),
        ConversationsCommand::Export { id, output, .. } => {
            let format = if options.json { ExportFormat::Json } else { ExportFormat::Markdown };
            export(history, *id, format, output.as_deref(), printer)?;
        }
        ConversationsCommand::Import { file } => import(history, file, printer)?,
        ConversationsCommand::Search { words, most } => {
            for hit in history.search(&words.join(" "), *most)? {
                print_hit(&hit, printer);
            }
        }
    }
    run.tell_notices(printer);
    // Nothing was found where nothing could be looked at.
    history.trouble().map_or(Ok(()), |error| Err(error.into()))
}

fn list(history: &History, most: usize, printer: &mut Printer) -> Result<()> {
    let conversations = history.conversations(0, most)?;
    if conversations.is_empty() && history.trouble().is_none() && !printer.is_json() {
        printer.line("There are no conversations yet.");
    }
    for about in &conversations {
        if printer.is_json() {
            printer.json_line(&summary(about));
        } else {
            let mark = if about.pinned { '*' } else { ' ' };
            let day = about.updated.strftime("%Y-%m-%d %H:%M");
            printer.line(&format!("{mark} {}  {day}  {}", about.id, title(&about.title)));
        }
    }
    Ok(())
}

fn summary(about: &ConversationSummary) -> serde_json::Value {
    json!({
        "type": "conversation",
        "id": about.id,
        "title": about.title,
        "pinned": about.pinned,
        "created": about.created.to_string(),
        "updated": about.updated.to_string(),
        "model": about.model,
    })
}

fn title(title: &str) -> &str {
    if title.is_empty() { "(no title)" } else { title }
}

fn show(conversation: &Conversation, printer: &mut Printer) {
    if printer.is_json() {
        printer.json_line(&summary(&conversation.about));
    } else {
        printer.line(&format!("# {}", title(&conversation.about.title)));
    }
    for entry in &conversation.entries {
        if printer.is_json() {
            printer.json_line(&entry_json(entry));
            continue;
        }
        match entry {
            Entry::Question(question) => printer.line(&format!("\n## You\n\n{}", question.text)),
            Entry::Reply(reply) => {
                printer.line(&format!("\n## {}\n\n{}", reply.model, reply.text));
                if let Some(mark) = why_not_whole(&reply.status) {
                    printer.line(&format!("\n--- {mark} ---"));
                }
            }
            Entry::MemoryReset { .. } => printer.line("\n--- memory reset ---"),
            Entry::ContextLine { .. } => printer.line("\n--- the model no longer sees anything above ---"),
            Entry::ModelSwitched { model, .. } => {
                printer.line(&format!("\n--- {model} answers from here ---"));
            }
        }
    }
}

/// What a reader should know of a reply that may lack its end.
fn why_not_whole(status: &ReplyStatus) -> Option<String> {
    Some(match status {
        ReplyStatus::Finished(FinishReason::Cancelled) => "stopped".into(),
        ReplyStatus::Finished(FinishReason::MaxTokens) => "cut at its most tokens".into(),
        ReplyStatus::Finished(_) => return None,
        ReplyStatus::Generating => "still being made".into(),
        ReplyStatus::Interrupted => "cut off when the application ended".into(),
        ReplyStatus::Failed(error) => format!("failed: {error}"),
    })
}

fn status_json(status: &ReplyStatus) -> serde_json::Value {
    match status {
        ReplyStatus::Generating => "generating".into(),
        ReplyStatus::Finished(reason) => json!(reason),
        ReplyStatus::Interrupted => "interrupted".into(),
        ReplyStatus::Failed(_) => "failed".into(),
    }
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    match entry {
        Entry::Question(question) => json!({
            "type": "question", "id": question.id, "text": question.text, "at": question.at.to_string(),
            "versions": question.versions, "pinned": question.pinned,
        }),
        Entry::Reply(reply) => json!({
            "type": "reply", "id": reply.id, "text": reply.text, "thinking": reply.thinking,
            "model": reply.model, "at": reply.at.to_string(), "versions": reply.versions,
            "usage": reply.usage.map(|usage| usage.usage), "token_ids": reply.tokens, "seed": reply.seed,
            "pinned": reply.pinned, "status": status_json(&reply.status),
        }),
        Entry::MemoryReset { id, at } => json!({"type": "reset", "id": id, "at": at.to_string()}),
        Entry::ContextLine { id, .. } => json!({"type": "context_line", "id": id}),
        Entry::ModelSwitched { model, .. } => json!({"type": "model_switched", "model": model}),
    }
}

fn export(
    history: &History,
    id: Option<Uuid>,
    format: ExportFormat,
    output: Option<&Path>,
    printer: &mut Printer,
) -> Result<()> {
    match (id, output) {
        (Some(id), None) => printer.document(&history.export_text(id, format)?),
        (id, Some(path)) => {
            let report = history.export(id, format, path)?;
            printer.aside(&format!("Written to {}.", path.display()));
            if report.refused > 0 {
                let refused = report.refused;
                printer.aside(&format!("{refused} conversations could not be read and are not in it."));
            }
        }
        // The command line wants a file for all of them.
        (None, None) => {}
    }
    Ok(())
}

fn import(history: &History, file: &Path, printer: &mut Printer) -> Result<()> {
    let report = history.import(file)?;
    if printer.is_json() {
        printer.json_line(&json!({
            "type": "import", "imported": report.imported, "unchanged": report.unchanged,
            "refused": report.refused,
        }));
    } else {
        printer.line(&format!(
            "{} imported, {} known already, {} that could not be read.",
            report.imported, report.unchanged, report.refused
        ));
    }
    if report.refused > 0 && report.imported + report.unchanged == 0 {
        return Err(Error::NothingImported { path: file.to_path_buf(), refused: report.refused });
    }
    Ok(())
}

fn print_hit(hit: &SearchHit, printer: &mut Printer) {
    let text: String = hit.snippet.iter().map(|part| part.text.as_str()).collect();
    if printer.is_json() {
        let parts: Vec<_> =
            hit.snippet.iter().map(|part| json!({"text": part.text, "matched": part.matched})).collect();
        return printer.json_line(&json!({
            "type": "hit", "id": hit.conversation, "title": hit.title, "message": hit.message,
            "snippet": parts, "at": hit.at.to_string(),
        }));
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    printer.line(&format!("{}  {}: {text}", hit.conversation, title(&hit.title)));
}
