//! Tokens in, text out.

mod error;
mod message;

pub use error::{Error, Failure, FailureKind, Result};
pub use message::{Message, Role, TokenId};
