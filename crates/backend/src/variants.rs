//! The models in a repository of files: which graphs there are, what belongs to each, and which suits a CPU.

use engine::ModelConfig;
use serde::Serialize;

use crate::catalog::{MemoryNeed, is_weights, within};
use crate::hub::{Repository, RepositoryFile, check_path, is_model_file};
use crate::store::{ModelRecord, Origin, RecordedFile};

/// How a graph's weights and numbers are kept, the one that suits a CPU best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Precision {
    /// 4-bit products, f32 between them.
    Q4,
    /// 8-bit products.
    Int8,
    /// 4-bit products, f16 between them, which CPUs convert.
    Q4F16,
    F32,
    F16,
    Other,
}

/// One graph of a repository with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Variant {
    /// By which it is chosen: the graph's file without its ending, or the name of its folder.
    pub name: String,
    pub precision: Precision,
    /// The folder of the repository that becomes the model folder; empty for the top.
    pub folder: String,
    pub graph: String,
    /// Bytes of all its files.
    pub size: u64,
    pub memory: MemoryNeed,
    /// Why it cannot be used; `None` where nothing is known against it.
    pub unsupported: Option<String>,
    #[serde(skip)]
    files: Vec<RepositoryFile>,
}

/// Files beside a model that belong to it, at the top of its folder.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.json"];
/// What tells the dimensions of a model.
const CONFIGURATIONS: [&str; 2] = ["config.json", "genai_config.json"];
/// A graph with a twentieth of the bytes of another one has lost its weights.
const EMPTY_SHARE: u64 = 20;

/// Every graph of a repository, those that suit a CPU best first, the unsupported ones last.
pub fn variants(files: &[RepositoryFile]) -> Vec<Variant> {
    let usable: Vec<&RepositoryFile> =
        files.iter().filter(|file| check_path(&file.path).is_ok() && is_model_file(&file.path)).collect();
    let graphs = usable.iter().filter(|file| file.path.ends_with(".onnx"));
    let mut variants: Vec<Variant> = graphs.map(|graph| variant(graph, &usable)).collect();
    let weights = |variant: &Variant| -> u64 {
        variant.files.iter().filter(|file| is_weights(&file.path)).map(|file| file.size).sum()
    };
    let largest = variants.iter().map(weights).max().unwrap_or_default();
    for variant in &mut variants {
        if variant.unsupported.is_none() && weights(variant) < largest / EMPTY_SHARE {
            variant.unsupported = Some("the graph has no weights: they are missing in the repository".into());
        }
    }
    variants.sort_by_key(|variant| (variant.unsupported.is_some(), variant.precision, variant.size));
    variants
}

impl Variant {
    /// The file that says how large its KV cache is.
    pub(crate) fn configuration(&self) -> Option<&RepositoryFile> {
        CONFIGURATIONS
            .iter()
            .find_map(|name| self.files.iter().find(|file| within(&self.folder, &file.path) == Some(*name)))
    }

    /// Counts what `config` says of the KV cache into the memory that it takes.
    pub(crate) fn count_kv_cache(&mut self, config: &ModelConfig) {
        let weights = self.files.iter().filter(|file| is_weights(&file.path)).map(|file| file.size).sum();
        self.memory = memory_need(weights, config, &self.graph);
    }

    /// What is to be fetched of `repository`.
    pub fn record(&self, repository: &Repository) -> ModelRecord {
        let id = format!("{}-{}", repository.id.name(), self.name).to_ascii_lowercase();
        let longest = 80.min(id.len());
        ModelRecord {
            // Names of repositories are plain, so cutting at a byte cuts at a letter.
            id: id[..longest].trim_end_matches('.').to_owned(),
            title: format!("{} ({})", repository.id.name(), self.name),
            origin: Origin::Hub { repository: repository.id.clone(), commit: repository.commit.clone() },
            licence: repository.licence.clone(),
            curated: false,
            files: self
                .files
                .iter()
                .filter_map(|file| {
                    Some(RecordedFile {
                        path: within(&self.folder, &file.path)?.to_owned(),
                        source: file.path.clone(),
                        size: file.size,
                        digest: file.digest,
                    })
                })
                .collect(),
        }
    }
}

fn variant(graph: &RepositoryFile, files: &[&RepositoryFile]) -> Variant {
    let (place, name) = graph.path.rsplit_once('/').unwrap_or(("", &graph.path));
    let stem = name.strip_suffix(".onnx").unwrap_or(name);
    let has = |folder: &str, name: &str| files.iter().any(|file| within(folder, &file.path) == Some(name));
    let is_genai = has(place, "genai_config.json");
    let graphs_here = files.iter().filter(|file| {
        within(place, &file.path).is_some_and(|name| name.ends_with(".onnx") && !name.contains('/'))
    });
    // In the layout of transformers.js graphs lie one level below what belongs to all of them.
    let folder =
        if is_genai { place } else { place.strip_suffix("onnx").unwrap_or(place).trim_end_matches('/') };
    let precision = if is_genai { precision_of_folder(place) } else { precision_of_suffix(stem) };
    let belonging: Vec<RepositoryFile> = files
        .iter()
        .filter(|file| belongs(&file.path, folder, &graph.path))
        .map(|file| (*file).clone())
        .collect();
    let unsupported = if let Some(part) = part_of_a_model(stem) {
        Some(format!("it is {part}, and such models are made of several graphs"))
    } else if is_for_other_hardware(place) {
        Some("it is made for other hardware than a CPU".into())
    } else if is_genai && graphs_here.count() > 1 {
        Some("the model is made of several graphs".into())
    } else if !is_genai && !stem.starts_with("model") {
        Some("its name is none that a language model's graph has".into())
    } else if precision == Precision::Other {
        Some("its weights are kept in a form that no fast kernel reads on a CPU".into())
    } else if !TOKENIZERS.iter().any(|name| has(folder, name)) {
        Some("there is no tokenizer beside it".into())
    } else if !has(folder, "config.json") && !is_genai {
        Some("there is no `config.json` beside it".into())
    } else {
        None
    };
    let weights = belonging.iter().filter(|file| is_weights(&file.path)).map(|file| file.size).sum();
    let genai_name = place.rsplit('/').next().filter(|_| is_genai).filter(|name| !name.is_empty());
    Variant {
        name: genai_name.unwrap_or(stem.strip_prefix("model_").unwrap_or(stem)).to_owned(),
        precision,
        folder: folder.to_owned(),
        graph: graph.path.clone(),
        size: belonging.iter().map(|file| file.size).sum(),
        memory: MemoryNeed::of(weights, None, 0),
        unsupported,
        files: belonging,
    }
}

/// The memory that a model takes with so many bytes of weights. Exporters name a graph by its kind of numbers; its KV
/// cache has elements of two bytes where that is f16, and of four otherwise.
pub(crate) fn memory_need(weights: u64, config: &ModelConfig, graph: &str) -> MemoryNeed {
    let element_bytes = if graph.contains("f16") || graph.contains("fp16") { 2 } else { 4 };
    let context = config.context_length.map_or(u64::MAX, |tokens| tokens as u64);
    MemoryNeed::of(weights, config.kv_bytes_per_token(element_bytes), context)
}

/// Whether the file at `path` is part of the model whose graph is `graph` and whose folder is `folder`.
fn belongs(path: &str, folder: &str, graph: &str) -> bool {
    if is_weights(path) {
        let rest = path.strip_prefix(graph);
        return rest.is_some_and(|rest| rest.is_empty() || rest == ".data" || rest.starts_with("_data"));
    }
    let Some(name) = within(folder, path) else { return false };
    if let Some(template) = name.strip_prefix("additional_chat_templates/") {
        return template.ends_with(".jinja") && !template.contains('/');
    }
    let lower = name.to_ascii_lowercase();
    let is_text_of_terms =
        lower.starts_with("license") || lower.starts_with("notice") || lower == "use_policy.md";
    !name.contains('/') && (!lower.ends_with(".md") || is_text_of_terms)
}

fn precision_of_suffix(stem: &str) -> Precision {
    match stem.strip_prefix("model") {
        Some("_q4") => Precision::Q4,
        Some("_quantized" | "_int8" | "_uint8") => Precision::Int8,
        Some("_q4f16") => Precision::Q4F16,
        Some("") => Precision::F32,
        Some("_fp16") => Precision::F16,
        _ => Precision::Other,
    }
}

fn precision_of_folder(folder: &str) -> Precision {
    let folder = folder.to_ascii_lowercase();
    match () {
        () if folder.contains("int4") && folder.contains("fp16") => Precision::Q4F16,
        () if folder.contains("int4") => Precision::Q4,
        () if folder.contains("int8") => Precision::Int8,
        () if folder.contains("fp16") => Precision::F16,
        () => Precision::F32,
    }
}

fn is_for_other_hardware(folder: &str) -> bool {
    let others =
        ["cuda", "gpu", "dml", "directml", "npu", "qnn", "trt", "tensorrt", "openvino", "vitis", "rocm"];
    folder.to_ascii_lowercase().split(['/', '-', '_', '.']).any(|word| others.contains(&word))
}

fn part_of_a_model(stem: &str) -> Option<&'static str> {
    Some(match () {
        () if stem.starts_with("decoder") => "the decoder alone",
        () if stem.contains("encoder") => "an encoder",
        () if stem.starts_with("embed") => "the embedding alone",
        () if stem.starts_with("vision") || stem.starts_with("audio") => "a part for pictures or sound",
        () => return None,
    })
}
