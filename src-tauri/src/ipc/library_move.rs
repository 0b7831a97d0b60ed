//! A move of the models as it crosses to the interface.

use serde::Serialize;
use specta::Type;
use specta_typescript::Number;

/// What a move of the models does.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum MovePhase {
    /// Files come to the new place, and are compared there.
    Placing,
    /// A reply is waited for.
    Switching,
    /// Files leave the old place.
    Deleting,
}

/// How far a move of the models is.
#[derive(Debug, Clone, Copy, Serialize, Type)]
pub(crate) struct MoveProgress {
    phase: MovePhase,
    #[specta(type = Number)]
    done: u64,
    #[specta(type = Number)]
    total: u64,
}

impl From<backend::MoveProgress> for MoveProgress {
    fn from(progress: backend::MoveProgress) -> Self {
        let phase = match progress.phase {
            backend::MovePhase::Placing => MovePhase::Placing,
            backend::MovePhase::Switching => MovePhase::Switching,
            backend::MovePhase::Deleting => MovePhase::Deleting,
        };
        Self { phase, done: progress.done, total: progress.total }
    }
}
