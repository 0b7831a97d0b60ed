//! Opens a model folder: configuration, chat template, tokenizer and graph become an engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use graph::Limits;
use serde::{Deserialize, Serialize};

use crate::onnx::{ContractHints, Drafts, ExecutionProviderChoice, OnnxDecoder, OnnxOptions, Runtime};
use crate::prepare::{self, Choice};
use crate::{
    ChatTemplate, Decoder, Engine, Error, Failure, FailureKind, GraphChoice, KvBackend, ModelConfig,
    ModelSpec, PREFILL_CHUNK, Prepared, Result, SuggestedSampling, TokenId, Tokenizer, WhyOriginal, stop_ids,
};

/// The context of a model whose files do not tell it.
const UNKNOWN_CONTEXT: usize = 4096;
/// Decoding is bound by memory bandwidth, which more threads than these no longer raise.
const MOST_THREADS: usize = 8;

/// How to load a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadOptions {
    /// The absolute path of the ONNX Runtime library.
    pub library: PathBuf,
    /// Whether the model's files may have other names too; see [`graph::Limits::other_names`].
    pub other_names: bool,
    /// Threads inside one operator; `None` takes the number of cores, at most eight.
    pub threads: Option<usize>,
    pub execution_provider: ExecutionProviderChoice,
    /// The most KV rows of a session; `None` takes the model's context.
    pub cache_window: Option<usize>,
    /// The most bytes of the KV rows of one session; `None` takes as many as the window has.
    pub kv_bytes: Option<usize>,
    /// `None` takes the shared buffer where the graph can use it.
    pub kv_backend: Option<KvBackend>,
}

impl LoadOptions {
    /// The defaults with the library at `library`.
    pub fn with_library(library: PathBuf) -> Self {
        Self {
            library,
            other_names: false,
            threads: None,
            execution_provider: ExecutionProviderChoice::Auto,
            cache_window: None,
            kv_bytes: None,
            kv_backend: None,
        }
    }
}

/// What came of loading a model: plain data for whoever asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModel {
    pub spec: ModelSpec,
    /// The most KV rows of a session.
    pub window: usize,
    /// The graph's file, relative to the model folder.
    pub graph: String,
    /// Whether that is the graph that came with the model, and why.
    pub graph_choice: GraphChoice,
    /// What came of preparing the model, where it holds for this machine.
    pub prepared: Option<Box<Prepared>>,
    /// The files that hold its weights, beside the graph.
    pub weight_files: Vec<String>,
    /// The inputs that the graph is fed.
    pub inputs: usize,
    /// The release of the ONNX Runtime library, where it names it.
    pub runtime_version: Option<String>,
    /// The library's file.
    pub library: PathBuf,
    /// The folder has no chat template; the plain one is used.
    pub plain_template: bool,
    /// The chat template has a switch for thinking.
    pub thinking_switch: bool,
    /// What the makers of the model recommend.
    pub sampling: SuggestedSampling,
    /// Sentences for the user, such as a refused execution provider.
    pub notices: Vec<String>,
    pub load_seconds: f64,
}

/// The text half of a model: what turns messages into token ids, and ids into text.
#[derive(Debug, Clone)]
pub struct ModelText {
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
    /// The ids that end a turn.
    pub stop_ids: BTreeSet<TokenId>,
}

impl ModelText {
    /// Reads tokenizer and chat template of `folder`.
    ///
    /// # Errors
    /// Missing or damaged files, each by its name.
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self> {
        let template = ChatTemplate::open(folder, config)?;
        let tokenizer = Tokenizer::open(folder, config, Some(template.source()))?;
        let stop_ids = stop_ids(config, &tokenizer, template.source());
        Ok(Self { tokenizer, template, stop_ids })
    }
}

impl Engine<OnnxDecoder> {
    /// Opens the model in `folder`.
    ///
    /// # Errors
    /// What is missing, damaged, contradictory or unsupported, named by its file.
    pub fn open(folder: &Path, options: &LoadOptions) -> Result<(Self, LoadedModel)> {
        let started = Instant::now();
        if !folder.is_dir() {
            let needed = "it is the folder of the model".to_owned();
            return Err(Error::FileMissing { path: folder.to_path_buf(), needed });
        }
        let config = ModelConfig::read(folder)?;
        let graph = find_graph(folder, &config)?;
        let text = ModelText::open(folder, &config)?;
        let runtime = Runtime::open(&options.library)?;
        let onnx = onnx_options(&config, options);
        let choice = prepare::choose(folder, &graph, &runtime, onnx.threads, onnx.execution_provider);
        let limits = Limits { other_names: options.other_names, ..Limits::default() };
        let (mut decoder, choice) = load(folder, &graph, choice, &runtime, &onnx, &limits)?;
        check_vocabulary(folder, &config, &text.tokenizer, decoder.spec().vocabulary_size)?;
        let mut notices = decoder.notices().to_vec();
        if let GraphChoice::Original { why: why @ WhyOriginal::Unusable { .. } } = &choice.choice {
            notices.push(format!("the graph that came with the model is used, because {why}"));
        }
        if text.template.is_plain() {
            notices
                .push("this model has no chat template; a plain one is used, and replies may be odd".into());
        }
        let window = window(decoder.spec(), options);
        decoder.limit_rows(window.rows);
        notices.extend(window.notice);
        let inputs = decoder.contract().input_count();
        let (plain_template, thinking_switch) =
            (text.template.is_plain(), text.template.traits().thinking_switch);
        let weight_files = decoder.weight_files().to_vec();
        let engine = Self::new(decoder, text, Some(window.rows));
        let loaded = LoadedModel {
            spec: engine.spec().clone(),
            window: engine.window(),
            graph: choice.graph,
            graph_choice: choice.choice,
            prepared: choice.prepared.map(Box::new),
            weight_files,
            inputs,
            runtime_version: runtime.version().map(str::to_owned),
            library: runtime.library().to_path_buf(),
            plain_template,
            thinking_switch,
            sampling: config.sampling,
            notices,
            load_seconds: started.elapsed().as_secs_f64(),
        };
        Ok((engine, loaded))
    }
}

/// Loads the chosen graph of `folder`, and `original` where the chosen one turns out to be damaged.
fn load(
    folder: &Path,
    original: &str,
    choice: Choice,
    runtime: &Runtime,
    options: &OnnxOptions,
    limits: &Limits,
) -> Result<(OnnxDecoder, Choice)> {
    let result = OnnxDecoder::load_within(runtime, &folder.join(&choice.graph), options, limits);
    match (result, &choice.choice) {
        (Ok(decoder), _) => Ok((decoder, choice)),
        (Err(error), GraphChoice::Original { .. }) => Err(error),
        (Err(error), GraphChoice::Prepared) => {
            let Failure { kind, message: reason } = error.into();
            tracing::warn!(graph = choice.graph, reason, "the prepared graph does not load");
            let decoder = OnnxDecoder::load_within(runtime, &folder.join(original), options, limits)?;
            // Memory may be there the next time; what is wrong with a graph stays.
            if kind != FailureKind::OutOfMemory {
                prepare::discard(folder, original);
            }
            let why = WhyOriginal::Unusable { reason };
            let choice = GraphChoice::Original { why };
            Ok((decoder, Choice { graph: original.to_owned(), choice, prepared: None }))
        }
    }
}

/// Checks the model in `folder` as far as that goes without a runtime: its configuration, its tokenizer and chat
/// template, and its graph by the preflight.
///
/// # Errors
/// As [`Engine::open`].
pub fn check_folder(folder: &Path) -> Result<()> {
    let config = ModelConfig::read(folder)?;
    let graph = find_graph(folder, &config)?;
    ModelText::open(folder, &config)?;
    graph::preflight::check(&folder.join(graph), &Limits::default())?;
    Ok(())
}

/// The rows that a session may have.
struct Window {
    rows: usize,
    /// A sentence for the user where memory keeps them below what was asked for.
    notice: Option<String>,
}

/// The window that the options ask for, as far as there is memory for it: a conversation that takes more than
/// there is would end the whole program.
fn window(spec: &ModelSpec, options: &LoadOptions) -> Window {
    let wanted = spec.context_length.min(options.cache_window.unwrap_or(usize::MAX)).max(1);
    let affordable =
        options.kv_bytes.map(|bytes| (bytes / spec.kv_bytes_per_token.max(1)).max(PREFILL_CHUNK));
    match affordable {
        Some(rows) if rows < wanted => Window {
            rows,
            notice: Some(format!(
                "it reads at most {rows} tokens at once instead of {wanted}, because more would take more memory than there is"
            )),
        },
        _ => Window { rows: wanted, notice: None },
    }
}

pub(crate) fn onnx_options(config: &ModelConfig, options: &LoadOptions) -> OnnxOptions {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    OnnxOptions {
        threads: options.threads.unwrap_or(cores.min(MOST_THREADS)).max(1),
        execution_provider: options.execution_provider,
        context_length: config.context_length.unwrap_or(UNKNOWN_CONTEXT),
        kv_backend: options.kv_backend,
        drafts: Drafts::default(),
        hints: ContractHints {
            head_size: config.head_size,
            kv_heads: config.key_value_heads,
            vocabulary_size: config.vocabulary_size,
        },
    }
}

/// The graph to run, relative to the folder: the one that `genai_config.json` names, else `model.onnx`,
/// else the variant in `onnx/` that runs best on a CPU.
///
/// File names: the suffixes of transformers.js repositories. On a CPU, 4-bit products with f32 between
/// them are fastest, then dynamic int8; f16 graphs pay for casts.
pub fn find_graph(folder: &Path, config: &ModelConfig) -> Result<String> {
    if let Some(graph) = &config.genai_graph {
        return if folder.join(graph).is_file() {
            Ok(graph.clone())
        } else {
            let needed = "`genai_config.json` names it as the model's graph".to_owned();
            Err(Error::FileMissing { path: folder.join(graph), needed })
        };
    }
    let suffixes = ["_q4", "_quantized", "_int8", "_uint8", "_q4f16", "", "_fp16"];
    let in_subfolder = suffixes.iter().map(|suffix| format!("onnx/model{suffix}.onnx"));
    let beside = suffixes.iter().map(|suffix| format!("model{suffix}.onnx"));
    std::iter::once("model.onnx".to_owned())
        .chain(beside)
        .chain(in_subfolder)
        .find(|graph| folder.join(graph).is_file())
        .ok_or_else(|| Error::FileMissing {
            path: folder.join("model.onnx"),
            needed: "it is the model's graph, and no variant of it lies in the folder or in `onnx`".into(),
        })
}

/// Graphs may pad the vocabulary; they never have fewer logits than the tokenizer has tokens.
fn check_vocabulary(folder: &Path, config: &ModelConfig, tokenizer: &Tokenizer, logits: usize) -> Result<()> {
    let tokens = tokenizer.vocabulary_size();
    if tokens > logits {
        return Err(Error::VocabularyMismatch { folder: folder.to_path_buf(), tokenizer: tokens, logits });
    }
    match config.vocabulary_size {
        Some(configured) if configured != logits => Err(Error::FileDamaged {
            // The first of the two that says it counts.
            path: ["config.json", "genai_config.json"]
                .map(|name| folder.join(name))
                .into_iter()
                .find(|path| path.is_file())
                .unwrap_or_else(|| folder.to_path_buf()),
            reason: format!(
                "the vocabulary is said to have {configured} tokens and the graph gives logits for {logits}"
            ),
            source: None,
        }),
        _ => Ok(()),
    }
}
