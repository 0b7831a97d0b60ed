//! Decoder models in ONNX Runtime: the only place that names `ort`.

mod cache;
mod contract;
mod decoder;
mod drafts;
mod hand_over;
mod hidden_state;
mod inputs;
mod library_file;
mod provider;
mod runtime;
mod self_test;
mod shared_buffer;
mod tensor;

pub use cache::OnnxKvCache;
pub use contract::{Contract, ContractHints};
pub use decoder::{OnnxDecoder, OnnxOptions};
pub use drafts::Drafts;
pub use provider::ExecutionProviderChoice;
pub use runtime::Runtime;
pub use self_test::SelfTestErrors;
