//! The ONNX Runtime library, and models in it.

use std::path::{Path, PathBuf};

use engine::onnx::{ContractHints, Drafts, ExecutionProviderChoice, OnnxDecoder, OnnxOptions, Runtime};
use engine::{Cancel, Decoder, Forward, KvBackend, Sampler, Sampling, Session, TokenId};

/// The library that `HEARTH_ONNXRUNTIME` names, else the one that `cargo xtask setup` installs.
pub(crate) fn library() -> PathBuf {
    if let Some(library) = std::env::var_os("HEARTH_ONNXRUNTIME") {
        return library.into();
    }
    let folder = super::workspace().join(".hearth/onnxruntime");
    let mut pending = vec![folder];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                pending.push(path);
            } else if name.starts_with("libonnxruntime.") || name == "onnxruntime.dll" {
                return path;
            }
        }
    }
    panic!("no ONNX Runtime library: run `cargo xtask setup`, or set HEARTH_ONNXRUNTIME");
}

pub(crate) fn runtime() -> Runtime {
    Runtime::open(&library()).expect("the ONNX Runtime library loads")
}

/// Loads the graph of a fixture model (context 512, head size as its configuration says).
pub(crate) fn load(folder: &Path, kv_backend: Option<KvBackend>, context_length: usize) -> OnnxDecoder {
    load_graph(&folder.join("model.onnx"), kv_backend, context_length)
}

/// Loads a graph beside that of a fixture model.
pub(crate) fn load_graph(path: &Path, kv_backend: Option<KvBackend>, context_length: usize) -> OnnxDecoder {
    load_with(path, kv_backend, context_length, 16, Drafts::default())
}

/// The same for a graph of another head size.
pub(crate) fn load_graph_of(
    path: &Path,
    kv_backend: Option<KvBackend>,
    context_length: usize,
    head_size: usize,
) -> OnnxDecoder {
    load_with(path, kv_backend, context_length, head_size, Drafts::default())
}

/// The same with or without drafts.
pub(crate) fn load_with_drafts(
    path: &Path,
    kv_backend: Option<KvBackend>,
    context_length: usize,
    drafts: Drafts,
) -> OnnxDecoder {
    load_with(path, kv_backend, context_length, 16, drafts)
}

fn load_with(
    path: &Path,
    kv_backend: Option<KvBackend>,
    context_length: usize,
    head_size: usize,
    drafts: Drafts,
) -> OnnxDecoder {
    let options = OnnxOptions {
        threads: 1,
        execution_provider: ExecutionProviderChoice::Auto,
        context_length,
        kv_backend,
        drafts,
        hints: ContractHints { head_size: Some(head_size), ..ContractHints::default() },
    };
    OnnxDecoder::load(&runtime(), path, &options).expect("the fixture loads")
}

/// Feeds `tokens` in passes of `chunk` and returns the logits of the last.
pub(crate) fn feed<D: Decoder>(
    decoder: &mut D,
    session: &mut Session<D>,
    tokens: &[TokenId],
    chunk: usize,
) -> Vec<f32> {
    let mut last = Vec::new();
    for chunk in tokens.chunks(chunk) {
        match session.feed(decoder, chunk, &Cancel::new()).expect("the pass succeeds") {
            Forward::Logits(logits) => last = logits.to_vec(),
            other => panic!("expected logits, got {other:?}"),
        }
    }
    last
}

/// Continues `prompt` greedily by `count` tokens in a session of its own.
pub(crate) fn greedy<D: Decoder>(decoder: &mut D, prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut session = Session::new(decoder).expect("a session starts");
    continue_with(decoder, &mut session, prompt, count, &Sampling::default())
}

/// Continues what `session` has seen by `tokens` and then `count` sampled ones.
pub(crate) fn continue_with<D: Decoder>(
    decoder: &mut D,
    session: &mut Session<D>,
    tokens: &[TokenId],
    count: usize,
    sampling: &Sampling,
) -> Vec<TokenId> {
    let mut sampler = Sampler::new(sampling, tokens);
    let mut logits = feed(decoder, session, tokens, 256);
    let mut reply = Vec::new();
    loop {
        let token = sampler.sample(&mut logits).expect("the logits are numbers");
        reply.push(token);
        if reply.len() == count {
            return reply;
        }
        logits = feed(decoder, session, &[token], 1);
    }
}

/// The largest difference between two rows of logits, as a share of the first row's range.
pub(crate) fn difference(left: &[f32], right: &[f32]) -> f32 {
    let low = left.iter().copied().fold(f32::INFINITY, f32::min);
    let high = left.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
    most / (high - low)
}
