//! The list of conversations as it crosses to the interface.

use backend::Backend;
use serde::{Deserialize, Serialize};
use specta::Type;

use super::count;

/// How many messages of a conversation a window reads at first.
pub(crate) const FIRST_MESSAGES: usize = 200;
/// How many conversations a window lists at first.
pub(crate) const FIRST_CONVERSATIONS: usize = 100;

/// One conversation in the list.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct ConversationSummary {
    id: String,
    /// Empty until the first message.
    title: String,
    pinned: bool,
    /// Nothing of it is written anywhere; it ends with the application.
    private: bool,
    /// Whether all of it is on the disk.
    saved: bool,
    created: String,
    /// When something was last said in it.
    updated: String,
    /// The id of the model that answers in it.
    model: Option<String>,
}

impl From<backend::ConversationSummary> for ConversationSummary {
    fn from(about: backend::ConversationSummary) -> Self {
        Self {
            id: about.id.to_string(),
            title: about.title,
            pinned: about.pinned,
            private: about.private,
            saved: about.saved,
            created: about.created.to_string(),
            updated: about.updated.to_string(),
            model: about.model,
        }
    }
}

/// A part of the list: the pinned ones first, then the newest.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct ConversationPage {
    conversations: Vec<ConversationSummary>,
    /// Whether there are more behind them.
    more: bool,
}

impl ConversationPage {
    pub(crate) fn read(backend: &Backend, skip: usize, most: usize) -> backend::Result<Self> {
        let mut conversations = backend.history().conversations(skip, most.saturating_add(1))?;
        let more = conversations.len() > most;
        conversations.truncate(most);
        Ok(Self { conversations: conversations.into_iter().map(ConversationSummary::from).collect(), more })
    }
}

/// A place where the words that were searched for stand.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct SearchHit {
    conversation: String,
    title: String,
    /// The message; null where the title is what was found.
    message: Option<String>,
    /// The words in their surroundings, in order.
    snippet: Vec<SnippetPart>,
    at: String,
}

/// A part of a snippet.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct SnippetPart {
    text: String,
    /// Whether it is one of the words.
    matched: bool,
}

impl From<backend::SearchHit> for SearchHit {
    fn from(hit: backend::SearchHit) -> Self {
        let part = |part: backend::SnippetPart| SnippetPart { text: part.text, matched: part.matched };
        Self {
            conversation: hit.conversation.to_string(),
            title: hit.title,
            message: hit.message.map(|message| message.to_string()),
            snippet: hit.snippet.into_iter().map(part).collect(),
            at: hit.at.to_string(),
        }
    }
}

/// What conversations are written as.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExportFormat {
    Markdown,
    Json,
}

impl From<ExportFormat> for backend::ExportFormat {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::Markdown => Self::Markdown,
            ExportFormat::Json => Self::Json,
        }
    }
}

/// What came of an import.
#[derive(Debug, Clone, Serialize, Type)]
pub(crate) struct ImportReport {
    /// Conversations that are new here, or have messages that were not.
    imported: u32,
    /// Conversations of which everything was here.
    unchanged: u32,
    /// Conversations that could not be read; the others were imported all the same.
    refused: u32,
}

impl From<backend::ImportReport> for ImportReport {
    fn from(report: backend::ImportReport) -> Self {
        Self {
            imported: count(report.imported),
            unchanged: count(report.unchanged),
            refused: count(report.refused),
        }
    }
}
