//! Sentences for the user that belong to no reply.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    Information,
    Warning,
    Error,
}

/// Something that the user should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub id: String,
    pub severity: Severity,
    /// What it is about, for whoever acts on it.
    pub code: &'static str,
    pub message: String,
}

/// The notices that nobody has dismissed yet.
#[derive(Debug, Default)]
pub struct Notices(Mutex<Vec<Notice>>);

impl Notices {
    /// Adds a notice, in the place of an older one that says the same.
    pub(crate) fn add(&self, severity: Severity, code: &'static str, message: String) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notices.retain(|notice| notice.code != code || notice.message != message);
        let id = uuid::Uuid::new_v4().to_string();
        notices.push(Notice { id, severity, code, message });
    }

    /// Says why KV rows cannot be saved, or takes that away.
    pub(crate) fn say_of_snapshots(&self, trouble: Option<&str>) {
        self.clear("snapshots");
        if let Some(why) = trouble {
            let message = format!(
                "What the model has read is not kept on disk: {why}. After a restart it is read again."
            );
            self.add(Severity::Warning, "snapshots", message);
        }
    }

    /// Takes away what was said about `code`.
    pub(crate) fn clear(&self, code: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|notice| notice.code != code);
    }

    /// Takes one notice away.
    pub(crate) fn dismiss(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|notice| notice.id != id);
    }

    /// All notices, the oldest first.
    pub fn all(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
