//! Messages of a conversation as the engine reads them.

use serde::{Deserialize, Serialize};

/// The index of a token in a model's vocabulary.
pub type TokenId = u32;

/// Who speaks. An enum, so that no text can ever become a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// The name that chat templates compare with.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message. A reply that was generated here carries its token ids, so that it is never decoded and
/// encoded again: the KV cache holds exactly these ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    /// What the user sees, reasoning excluded.
    pub content: String,
    /// What the model wrote between its thinking marks, for templates that keep it.
    pub reasoning: Option<String>,
    /// The ids as generated, the end-of-turn id excluded. `None` for text that was typed or imported.
    pub tokens: Option<Vec<TokenId>>,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into(), reasoning: None, tokens: None }
    }

    /// A system prompt.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into(), reasoning: None, tokens: None }
    }

    /// A reply whose ids are not known.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into(), reasoning: None, tokens: None }
    }
}
