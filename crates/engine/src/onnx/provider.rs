//! Which execution provider a session gets.

use ort::ep::ExecutionProvider as _;
use ort::session::builder::SessionBuilder;
use serde::{Deserialize, Serialize};

use crate::ExecutionProvider;

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionProviderChoice {
    /// The CPU, until a measurement on the machine says otherwise: no decoder was seen to run faster
    /// elsewhere, and CoreML refuses most operators of a quantised one.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "cpu")]
    Cpu,
    /// Tried where the library offers it; elsewhere the CPU, with a notice.
    #[serde(rename = "coreml")]
    CoreMl,
}

/// Registers the provider that was asked for. Returns the builder, the provider that will run, and a
/// sentence for the user where that is not the one asked for.
pub(super) fn register(
    builder: SessionBuilder,
    choice: ExecutionProviderChoice,
) -> (SessionBuilder, ExecutionProvider, Option<String>) {
    // The CPU provider is in every session unasked. Registering it here would switch its arena off.
    if choice != ExecutionProviderChoice::CoreMl {
        return (builder, ExecutionProvider::Cpu, None);
    }
    let provider = ort::ep::CoreML::default().with_model_format(ort::ep::coreml::ModelFormat::MLProgram);
    if !ort::ep::CoreML::is_available().unwrap_or(false) {
        let notice =
            "CoreML is not offered by this ONNX Runtime library; the model runs on the CPU".to_owned();
        return (builder, ExecutionProvider::Cpu, Some(notice));
    }
    match builder.with_execution_providers([provider.build().error_on_failure()]) {
        Ok(builder) => (builder, ExecutionProvider::CoreMl, None),
        Err(error) => {
            let notice = format!("CoreML refused to start ({error}); the model runs on the CPU");
            (error.recover(), ExecutionProvider::Cpu, Some(notice))
        }
    }
}
