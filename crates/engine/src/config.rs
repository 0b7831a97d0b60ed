//! What the JSON files beside a graph say about a model. Every file is optional and none is trusted: each
//! value has a type and a range, and a value outside of it ends in an error that names file and field.

mod json_file;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Result, TokenId};
pub(crate) use json_file::{JsonFile, read_text};

const LARGEST_VOCABULARY: u64 = 1 << 24;
const MOST_LAYERS: u64 = 512;
const MOST_HEADS: u64 = 4_096;
const LARGEST_HEAD: u64 = 65_536;
const LARGEST_HIDDEN_SIZE: u64 = 1 << 20;
/// Above this a context length means "no limit known": some files write 1e30.
const LONGEST_CONTEXT: f64 = 1e9;

/// The sampling settings that the makers of a model suggest; `None` where they suggest nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SuggestedSampling {
    /// `false`: the makers suggest to take the likeliest token always.
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
}

/// One chat template out of `tokenizer_config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedTemplate {
    pub(crate) name: String,
    pub(crate) source: String,
}

/// The configuration of a model folder, merged from `config.json`, `generation_config.json`,
/// `tokenizer_config.json`, `special_tokens_map.json` and `genai_config.json`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelConfig {
    /// The first of `architectures`, such as `Qwen2ForCausalLM`.
    pub architecture: Option<String>,
    pub model_type: Option<String>,
    pub layers: Option<usize>,
    pub attention_heads: Option<usize>,
    pub key_value_heads: Option<usize>,
    /// Elements of one attention head.
    pub head_size: Option<usize>,
    pub hidden_size: Option<usize>,
    /// Rows of the feed-forward matrices.
    pub intermediate_size: Option<usize>,
    /// The base of the rotary angles, where nothing scales them.
    pub rope_theta: Option<f32>,
    /// The share of a head that is rotated.
    pub partial_rotary_factor: Option<f32>,
    /// How many tokens some layers attend to, where the model makes use of it.
    pub sliding_window: Option<usize>,
    /// The bound of the attention scores.
    pub attention_softcap: Option<f32>,
    /// Whether embedding and output matrix are one.
    pub tied_embeddings: Option<bool>,
    /// Rows of the embedding; exporters may pad it beyond the tokenizer's vocabulary.
    pub vocabulary_size: Option<usize>,
    /// Tokens that the model was made for: the least of what the files say.
    pub context_length: Option<usize>,
    /// End ids of every file, in no order and unchecked against the vocabulary.
    pub stop_ids: Vec<TokenId>,
    pub sampling: SuggestedSampling,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub pad_token: Option<String>,
    pub unknown_token: Option<String>,
    /// Whether raw text begins with the BOS token. `None`: the tokenizer's own post-processor decides.
    pub add_bos_token: Option<bool>,
    /// The class that pre-tokenises for `vocab.json` and `merges.txt`, such as `Qwen2Tokenizer`.
    pub tokenizer_class: Option<String>,
    /// The graph that `genai_config.json` names: always a plain file name.
    pub genai_graph: Option<String>,
    pub(crate) templates: Vec<NamedTemplate>,
    /// `added_tokens_decoder` of `tokenizer_config.json`, for folders without `tokenizer.json`.
    pub(crate) added_tokens: serde_json::Map<String, serde_json::Value>,
}

impl ModelConfig {
    /// Reads the configuration files of `folder`. A file that is not there is no error.
    ///
    /// # Errors
    /// [`crate::Error::FileDamaged`] with file, line and column for broken JSON, and with file and field for
    /// a value of the wrong type or outside of its range; [`crate::Error::FileUnreadable`].
    pub fn read(folder: &Path) -> Result<Self> {
        let mut config = Self::default();
        if let Some(file) = JsonFile::read(&folder.join("config.json"))? {
            config.take_config(&file)?;
        }
        if let Some(file) = JsonFile::read(&folder.join("generation_config.json"))? {
            config.take_generation(&file)?;
        }
        if let Some(file) = JsonFile::read(&folder.join("genai_config.json"))? {
            config.take_genai(&file)?;
        }
        if let Some(file) = JsonFile::read(&folder.join("tokenizer_config.json"))? {
            config.take_tokenizer(&file)?;
        }
        if let Some(file) = JsonFile::read(&folder.join("special_tokens_map.json"))? {
            config.take_special_tokens(&file)?;
        }
        config.stop_ids.sort_unstable();
        config.stop_ids.dedup();
        Ok(config)
    }

    /// Reads one file of a model that is not here: the text of `config.json`, or of `genai_config.json`, as `name`
    /// says.
    ///
    /// # Errors
    /// As [`ModelConfig::read`].
    pub fn of_text(name: &str, text: &[u8]) -> Result<Self> {
        let mut config = Self::default();
        let file = JsonFile::parse(Path::new(name), text)?;
        match name {
            "genai_config.json" => config.take_genai(&file)?,
            _ => config.take_config(&file)?,
        }
        Ok(config)
    }

    fn take_config(&mut self, file: &JsonFile) -> Result<()> {
        // Multimodal files keep the decoder's numbers one level down; the outer ones win where both exist.
        let text = file.object("text_config")?;
        let places = std::iter::once(file.clone()).chain(text);
        for place in places {
            self.architecture = self.architecture.take().or(place.first_string("architectures")?);
            self.model_type = self.model_type.take().or(place.string("model_type")?);
            self.layers = self.layers.or(place.count("num_hidden_layers", MOST_LAYERS)?);
            self.attention_heads = self.attention_heads.or(place.count("num_attention_heads", MOST_HEADS)?);
            self.key_value_heads = self.key_value_heads.or(place.count("num_key_value_heads", MOST_HEADS)?);
            self.head_size = self.head_size.or(place.count("head_dim", LARGEST_HEAD)?);
            self.hidden_size = self.hidden_size.or(place.count("hidden_size", LARGEST_HIDDEN_SIZE)?);
            self.intermediate_size =
                self.intermediate_size.or(place.count("intermediate_size", LARGEST_HIDDEN_SIZE)?);
            self.tied_embeddings = self.tied_embeddings.or(place.boolean("tie_word_embeddings")?);
            self.vocabulary_size = self.vocabulary_size.or(place.count("vocab_size", LARGEST_VOCABULARY)?);
            self.take_attention(&place)?;
            self.limit_context(place.length("max_position_embeddings", LONGEST_CONTEXT)?);
            self.stop_ids.extend(place.ids("eos_token_id")?);
            self.take_sampling(&place)?;
        }
        self.key_value_heads = self.key_value_heads.or(self.attention_heads);
        if let (None, Some(hidden), Some(heads)) = (self.head_size, self.hidden_size, self.attention_heads) {
            if hidden % heads != 0 {
                return Err(file.damaged(format!(
                    "`hidden_size` {hidden} is not a multiple of `num_attention_heads` {heads} and there is no `head_dim`"
                )));
            }
            self.head_size = Some(hidden / heads);
        }
        if let (Some(heads), Some(shared)) = (self.attention_heads, self.key_value_heads)
            && heads % shared != 0
        {
            return Err(file.damaged(format!(
                "`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {shared}"
            )));
        }
        Ok(())
    }

    /// The number of weights that these dimensions make, for decoders of the Llama form (grouped
    /// attention, gated feed-forward), small vectors left out. `None` where a dimension is unknown.
    pub fn parameters(&self) -> Option<u64> {
        let wide = |size: usize| size as u64;
        let hidden = wide(self.hidden_size?);
        let head = wide(self.head_size?);
        let attention = 2 * hidden * head * (wide(self.attention_heads?) + wide(self.key_value_heads?));
        let feed_forward = 3 * hidden * wide(self.intermediate_size?);
        let embeddings = if self.tied_embeddings.unwrap_or(false) { 1 } else { 2 };
        let vocabulary = embeddings * wide(self.vocabulary_size?) * hidden;
        Some(vocabulary + wide(self.layers?) * (attention + feed_forward))
    }

    /// Bytes of one token in the KV cache of all layers, of elements of `element_bytes`: at most, as some models keep
    /// less of some layers. `None` where a dimension is unknown.
    pub fn kv_bytes_per_token(&self, element_bytes: u64) -> Option<u64> {
        let [layers, heads, head] =
            [self.layers?, self.key_value_heads?, self.head_size?].map(|size| size as u64);
        Some(2 * layers * heads * head * element_bytes)
    }

    /// What rewrites of the attention are compared with.
    fn take_attention(&mut self, place: &JsonFile) -> Result<()> {
        // Newer files keep everything about the rotation in one object.
        let rotation = place.object("rope_parameters")?;
        let scaling = place.object("rope_scaling")?;
        let is_scaled = |place: &JsonFile| -> Result<bool> {
            let kind = place.string("rope_type")?.or(place.string("type")?);
            Ok(kind.is_some_and(|kind| kind != "default"))
        };
        let scaled = [&rotation, &scaling].into_iter().flatten().map(is_scaled);
        if !scaled.collect::<Result<Vec<bool>>>()?.contains(&true) {
            for place in rotation.iter().chain([place]) {
                self.rope_theta = self.rope_theta.or(place.number_within("rope_theta", 1.0..=1e12)?);
            }
        }
        for place in rotation.iter().chain([place]) {
            let factor = place.number_within("partial_rotary_factor", 0.0..=1.0)?;
            self.partial_rotary_factor = self.partial_rotary_factor.or(factor);
        }
        if place.boolean("use_sliding_window")? != Some(false) {
            let window = place.length("sliding_window", LONGEST_CONTEXT)?;
            self.sliding_window = self.sliding_window.or(window);
        }
        let softcap = place.number_within("attn_logit_softcapping", 0.0..=1e9)?;
        self.attention_softcap = self.attention_softcap.or(softcap);
        Ok(())
    }

    fn take_generation(&mut self, file: &JsonFile) -> Result<()> {
        self.stop_ids.extend(file.ids("eos_token_id")?);
        // This file is meant for generation, so it replaces what config.json says.
        let older = std::mem::take(&mut self.sampling);
        self.take_sampling(file)?;
        self.sampling = self.sampling.or(older);
        Ok(())
    }

    fn take_genai(&mut self, file: &JsonFile) -> Result<()> {
        let Some(model) = file.object("model")? else { return Ok(()) };
        self.stop_ids.extend(model.ids("eos_token_id")?);
        self.vocabulary_size = self.vocabulary_size.or(model.count("vocab_size", LARGEST_VOCABULARY)?);
        self.model_type = self.model_type.take().or(model.string("type")?);
        self.limit_context(model.length("context_length", LONGEST_CONTEXT)?);
        if let Some(decoder) = model.object("decoder")? {
            self.genai_graph = decoder.graph_name("filename")?;
            self.layers = self.layers.or(decoder.count("num_hidden_layers", MOST_LAYERS)?);
            self.attention_heads = self.attention_heads.or(decoder.count("num_attention_heads", MOST_HEADS)?);
            self.key_value_heads = self.key_value_heads.or(decoder.count("num_key_value_heads", MOST_HEADS)?);
            self.head_size = self.head_size.or(decoder.count("head_size", LARGEST_HEAD)?);
            self.hidden_size = self.hidden_size.or(decoder.count("hidden_size", LARGEST_HIDDEN_SIZE)?);
        }
        // `search` is left alone: builders fill it with their defaults, not with the makers' advice.
        Ok(())
    }

    fn take_tokenizer(&mut self, file: &JsonFile) -> Result<()> {
        self.bos_token = file.token("bos_token")?;
        self.eos_token = file.token("eos_token")?;
        self.pad_token = file.token("pad_token")?;
        self.unknown_token = file.token("unk_token")?;
        self.add_bos_token = file.boolean("add_bos_token")?;
        self.tokenizer_class = file.string("tokenizer_class")?;
        if self.context_length.is_none() {
            self.limit_context(file.length("model_max_length", LONGEST_CONTEXT)?);
        }
        self.templates = file.templates("chat_template")?;
        if let Some(added) = file.object("added_tokens_decoder")? {
            self.added_tokens = added.into_fields();
        }
        Ok(())
    }

    fn take_special_tokens(&mut self, file: &JsonFile) -> Result<()> {
        self.bos_token = self.bos_token.take().or(file.token("bos_token")?);
        self.eos_token = self.eos_token.take().or(file.token("eos_token")?);
        self.pad_token = self.pad_token.take().or(file.token("pad_token")?);
        self.unknown_token = self.unknown_token.take().or(file.token("unk_token")?);
        Ok(())
    }

    fn take_sampling(&mut self, file: &JsonFile) -> Result<()> {
        let read = SuggestedSampling {
            do_sample: file.boolean("do_sample")?,
            temperature: file.number_within("temperature", 0.0..=100.0)?,
            top_k: file.number_within("top_k", 0.0..=LARGEST_VOCABULARY as f64)?.map(|k| k as u32),
            top_p: file.number_within("top_p", 0.0..=1.0)?,
            min_p: file.number_within("min_p", 0.0..=1.0)?,
            repetition_penalty: file.number_within("repetition_penalty", 0.01..=100.0)?,
        };
        self.sampling = self.sampling.or(read);
        Ok(())
    }

    fn limit_context(&mut self, length: Option<usize>) {
        self.context_length = match (self.context_length, length) {
            (Some(known), Some(length)) => Some(known.min(length)),
            (known, length) => known.or(length),
        };
    }
}

impl SuggestedSampling {
    /// Each value of `self`, or of `other` where `self` has none.
    pub fn or(self, other: Self) -> Self {
        Self {
            do_sample: self.do_sample.or(other.do_sample),
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repetition_penalty: self.repetition_penalty.or(other.repetition_penalty),
        }
    }
}
