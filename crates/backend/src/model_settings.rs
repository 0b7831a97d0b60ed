//! What is in force for a model and why: what the user chose, and what holds where nothing was chosen.

use std::ops::RangeInclusive;

use engine::{ModelConfig, SuggestedSampling};
use serde::Serialize;

use crate::Backend;
use crate::catalog::{Catalog, Fit, MemoryNeed};
use crate::error::Result;
use crate::model_defaults::{ModelDefaults, ModelNumber};
use crate::reply_options::ReplyOptions;
use crate::store::{InstalledModel, Manifest, ModelRecord};
use crate::system::Memory;

/// Bytes of a number in the KV cache: graphs keep 32-bit ones at most.
const LARGEST_NUMBER: u64 = size_of::<f32>() as u64;

/// Who says what holds where the user chose nothing for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueSource {
    /// The settings, for all models.
    Settings,
    /// The model's own files.
    Model,
    Catalogue,
    /// It was counted or measured on this machine.
    Machine,
    /// Nobody says anything of it.
    Hearth,
}

/// A number of a model's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSetting {
    pub number: ModelNumber,
    /// What it may be for this model.
    pub range: RangeInclusive<f64>,
    pub chosen: Option<f64>,
    /// What holds where nothing is chosen; `None` where loading tells it.
    pub otherwise: Option<f64>,
    pub source: ValueSource,
}

/// What a conversation costs in memory, in bytes: computed from sizes, never measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextMemory {
    /// Weights, the runtime and its buffers.
    pub model_bytes: u64,
    /// Of one token in the KV cache; `None` where neither the loaded model nor catalogue or configuration tells.
    pub bytes_per_token: Option<u64>,
    /// Up to so many bytes a model fits this machine.
    pub fits_to: u64,
    /// Up to so many bytes it runs, and leaves little for anything else.
    pub tight_to: u64,
}

impl ContextMemory {
    /// Whether the model with a conversation of `tokens` goes into this machine's memory.
    pub fn fit(&self, tokens: u64) -> Fit {
        let kv = self.bytes_per_token.unwrap_or_default().saturating_mul(tokens);
        MemoryNeed::fit_within(self.model_bytes.saturating_add(kv), (self.fits_to, self.tight_to))
    }
}

/// The settings of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    pub model: InstalledModel,
    pub system: Option<String>,
    pub numbers: Vec<ModelSetting>,
    pub memory: ContextMemory,
}

/// What is known of a model without loading it.
struct Known {
    config: ModelConfig,
    own: SuggestedSampling,
    catalogue: SuggestedSampling,
    catalogue_context: Option<u64>,
    catalogue_row: Option<u64>,
}

impl Known {
    fn of(model: &InstalledModel) -> Self {
        // Where its files cannot be read, its load will say so.
        let config = ModelConfig::read(&model.folder).unwrap_or_default();
        let entry = Catalog::entry_in(&model.folder);
        Self {
            own: config.sampling,
            config,
            catalogue: entry.as_ref().and_then(|entry| entry.sampling).unwrap_or_default(),
            catalogue_context: entry.as_ref().map(|entry| entry.context),
            catalogue_row: entry.and_then(|entry| entry.kv_bytes_per_token),
        }
    }

    /// The value that a reply takes where nothing is asked, and who says so.
    fn sampling(&self, number: ModelNumber) -> (f64, ValueSource) {
        let says = |suggested: &SuggestedSampling| match number {
            ModelNumber::Temperature => suggested.temperature.is_some() || suggested.do_sample == Some(false),
            ModelNumber::TopP => suggested.top_p.is_some(),
            ModelNumber::TopK => suggested.top_k.is_some(),
            ModelNumber::MinP => suggested.min_p.is_some(),
            ModelNumber::RepetitionPenalty => suggested.repetition_penalty.is_some(),
            _ => false,
        };
        let taken = ReplyOptions::default().sampling(&self.own.or(self.catalogue));
        let value = match number {
            ModelNumber::TopP => taken.top_p,
            ModelNumber::TopK => return (taken.top_k as f64, self.source(says)),
            ModelNumber::MinP => taken.min_p,
            ModelNumber::RepetitionPenalty => taken.repetition_penalty,
            ModelNumber::PresencePenalty => taken.presence_penalty,
            ModelNumber::FrequencyPenalty => taken.frequency_penalty,
            _ => taken.temperature,
        };
        // By way of its text: 0.95 in f32 has other digits in f64.
        let value = value.to_string().parse().unwrap_or_else(|_| f64::from(value));
        (value, self.source(says))
    }

    fn source(&self, says: impl Fn(&SuggestedSampling) -> bool) -> ValueSource {
        if says(&self.own) {
            ValueSource::Model
        } else if says(&self.catalogue) {
            ValueSource::Catalogue
        } else {
            ValueSource::Hearth
        }
    }
}

impl Backend {
    /// The settings of the model `id` with what is in force.
    ///
    /// # Errors
    /// [`crate::Error::ModelUnknown`].
    pub fn model_settings(&self, id: &str) -> Result<ModelSettings> {
        let model = self.models.store().find(id)?;
        let defaults = self.models.defaults_of(&model.id);
        let known = Known::of(&model);
        let setting = |number| {
            let (otherwise, source) = self.in_force(number, &model, &known);
            let range = range(number, &model);
            ModelSetting { number, range, chosen: defaults.number(number), otherwise, source }
        };
        Ok(ModelSettings {
            numbers: ModelNumber::ALL.map(setting).into(),
            system: defaults.system().map(str::to_owned),
            memory: self.context_memory(&model, &known),
            model,
        })
    }

    /// Remembers what the user wants of the model `id`. It holds from the next reply on: a model that answers is
    /// loaded anew for other threads or another window, as soon as no reply is being made.
    ///
    /// # Errors
    /// [`crate::Error::ModelUnknown`], [`crate::Error::ModelSetting`], [`crate::Error::DataFolder`]; all stays as
    /// it was then.
    pub fn set_model_defaults(&self, id: &str, defaults: &ModelDefaults) -> Result<()> {
        let model = self.models.store().find(id)?;
        for number in ModelNumber::ALL {
            if let Some(value) = defaults.number(number) {
                number.check(value, &range(number, &model))?;
            }
        }
        self.models.set_defaults(&model.id, defaults)
    }

    /// Loads the model that answers anew where it is loaded with another number of threads or another window than
    /// is wanted now. A reply under way is made to its end first.
    pub async fn follow_model_defaults(&self) {
        if self.models.loaded().is_none() {
            return;
        }
        self.chat.rest().await;
        // What went wrong is the state of the model.
        self.models.ready().await.ok();
    }

    /// What holds where the user chose nothing for the model, and who says so.
    fn in_force(
        &self,
        number: ModelNumber,
        model: &InstalledModel,
        known: &Known,
    ) -> (Option<f64>, ValueSource) {
        let settings = self.models.settings();
        let counted = |count: usize, source| (Some(count as f64), source);
        match number {
            ModelNumber::Threads => match settings.threads {
                Some(threads) => counted(threads, ValueSource::Settings),
                None => counted(self.models.usual_threads(), ValueSource::Machine),
            },
            ModelNumber::Context => match (settings.cache_window, known.catalogue_context) {
                (Some(window), _) => counted(window, ValueSource::Settings),
                (None, Some(context)) => (Some(context as f64), ValueSource::Catalogue),
                (None, None) => (model.context_length.map(|tokens| tokens as f64), ValueSource::Model),
            },
            ModelNumber::MaxTokens => counted(ReplyOptions::default().max_new_tokens(), ValueSource::Hearth),
            _ => {
                let (value, source) = known.sampling(number);
                (Some(value), source)
            }
        }
    }

    fn context_memory(&self, model: &InstalledModel, known: &Known) -> ContextMemory {
        let record = Manifest::read(&model.folder).ok().flatten().map(|manifest| manifest.record);
        let weights = record.as_ref().map_or(model.size, ModelRecord::weights);
        let (fits_to, tight_to) = MemoryNeed::limits(&Memory::now());
        let loaded = self.models.loaded_row(&model.id);
        ContextMemory {
            model_bytes: MemoryNeed::of(weights, None, 0).bytes,
            bytes_per_token: loaded
                .or(known.catalogue_row)
                .or_else(|| known.config.kv_bytes_per_token(LARGEST_NUMBER)),
            fits_to,
            tight_to,
        }
    }
}

/// What `number` may be for `model`.
fn range(number: ModelNumber, model: &InstalledModel) -> RangeInclusive<f64> {
    let range = number.range();
    match (number, model.context_length) {
        // Beyond what it was made for a model says nothing that makes sense.
        (ModelNumber::Context, Some(most)) => *range.start()..=(most as f64).max(*range.start()),
        _ => range,
    }
}
