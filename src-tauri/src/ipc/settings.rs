//! The settings as they cross to the interface.

use serde::Serialize;
use specta::Type;
use specta_typescript::Number;

/// What is kept on the disk of what models have read.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptMemory {
    #[specta(type = Number)]
    bytes: u64,
    /// The most that it may take.
    #[specta(type = Number)]
    budget_bytes: u64,
    /// The same where the user chose it; null for the default.
    #[specta(type = Option<Number>)]
    chosen_budget_bytes: Option<u64>,
    /// Why nothing can be kept, where nothing can.
    trouble: Option<String>,
}

impl From<backend::KeptSnapshots> for KeptMemory {
    fn from(kept: backend::KeptSnapshots) -> Self {
        Self {
            bytes: kept.usage.bytes,
            budget_bytes: kept.usage.budget_bytes,
            chosen_budget_bytes: kept.chosen_budget,
            trouble: kept.trouble,
        }
    }
}

/// What was destroyed of what models have read.
#[derive(Debug, Clone, Copy, Serialize, Type)]
pub(crate) struct FreedMemory {
    #[specta(type = Number)]
    pub(crate) bytes: u64,
}
