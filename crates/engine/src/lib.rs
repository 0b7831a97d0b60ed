//! Tokens in, text out: decoder models in ONNX Runtime with a KV cache that outlives the reply.
//!
//! # A tour
//! - [`Engine`] turns one [`Request`] into [`Progress`] and a [`Finish`]. It is glue: a [`Session`] knows
//!   which tokens the KV cache holds, a [`Decoder`] runs them, a [`Sampler`] chooses the next one, a
//!   [`TextStream`] turns ids into whole characters. `speculation` drafts tokens from the text before them
//!   where checking several at once was measured to pay; the reply is the same.
//! - [`Decoder`] and [`KvCache`] are the seam: `onnx` implements them with ONNX Runtime, `scripted` with
//!   replies that a test writes.
//! - [`KvBlock`] is rows of a KV cache as plain data: what leaves a session by [`Engine::export_block`] comes
//!   back by [`Engine::restore`] and answers bit for bit as before. `sessions` keeps several conversations warm
//!   and copies what two of them share.
//! - `onnx` lets the preflight of `graph` pass or refuse a file before it opens a session, reads the graph's
//!   contract from the session's metadata, chooses one of two KV back-ends, and makes the forward pass.
//!   Nothing else names the runtime.
//! - The text half is [`ModelConfig`], [`Tokenizer`], [`ChatTemplate`] and [`prompt_tokens`]: foreign text
//!   can never become a control token, and a reply's own ids are never encoded again.
//! - [`Embedder`] turns texts into vectors, in sessions of its own.
//! - `model` opens a folder and puts all of it together. [`prepare`] rewrites the folder's graph once for
//!   this machine; from then on `model` takes the result, as long as it holds.
//!
//! # What always holds
//! - A session's tokens and the rows of its cache have the same length. After an error the session is gone.
//! - No graph reaches ONNX Runtime that the preflight did not pass.
//! - A rewritten graph runs only where its numbers were compared with the original's, it was the faster one
//!   here, and nothing changed since. What is wrong with it costs speed, never the model.
//! - Rows are imported whole or not at all: a block that does not fit is an outcome, and the prompt is read.
//! - At least one token of a prompt is run. Everything that was seen before is not.
//! - The engine starts no thread and knows no conversation. After a model was opened it reads no file.
//! - Requests and answers are plain serialisable data.

mod cancel;
mod config;
mod decoder;
mod embed;
mod engine;
mod error;
mod kv_block;
mod message;
mod model;
pub mod onnx;
pub mod prepare;
mod prompt;
mod request;
mod sampler;
#[cfg(feature = "test-support")]
pub mod scripted;
mod session;
mod sessions;
mod speculation;
mod template;
mod text;
mod tokenizer;

pub use cancel::Cancel;
pub use config::{ModelConfig, SuggestedSampling};
pub use decoder::{Decoder, DraftCost, ExecutionProvider, Forward, KvBackend, KvCache, ModelSpec};
pub use embed::{EmbedContext, EmbedRequest, Embedded, Embedder, Embedding, EmbeddingSource};
pub use engine::{Engine, PREFILL_CHUNK, ReadAhead};
pub use error::{Error, Failure, FailureKind, Result};
pub use graph::preflight::is_plain_name as is_plain_file_name;
pub use kv_block::{Import, KV_BLOCK, KvBlock, KvElement, KvLayout, KvRefusal, KvTensor};
pub use message::{Message, Role, TokenId};
pub use model::{LoadOptions, LoadedModel, ModelText, check_folder, find_graph};
pub use prepare::{
    GraphChoice, Preparation, PrepareOptions, PrepareProgress, PrepareStep, Prepared, WhyOriginal,
};
pub use prompt::{next_turn_tokens, prompt_tokens, starts_thinking};
pub use request::{Finish, FinishReason, Progress, Request, ReuseLimit, Usage};
pub use sampler::{Sampler, Sampling};
pub use session::{Session, common_prefix};
pub use sessions::SessionId;
pub use speculation::MOST_DRAFTED;
pub use template::{ChatTemplate, Clock, RenderOptions, TemplateTraits};
pub use text::{Piece, TextStream};
pub use tokenizer::{Tokenizer, stop_ids};
