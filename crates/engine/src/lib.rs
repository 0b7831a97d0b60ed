//! Tokens in, text out.

mod config;
mod error;
mod message;
mod prompt;
mod template;
mod text;
mod tokenizer;

pub use config::{ModelConfig, SuggestedSampling};
pub use error::{Error, Failure, FailureKind, Result};
pub use message::{Message, Role, TokenId};
pub use prompt::{prompt_tokens, starts_thinking};
pub use template::{ChatTemplate, Clock, RenderOptions, TemplateTraits};
pub use text::{Piece, TextStream};
pub use tokenizer::{Tokenizer, stop_ids};
