//! The settings of one model as they cross to the interface.

use backend::{ModelDefaults, ModelNumber, ValueSource};
use serde::{Deserialize, Serialize};
use specta::Type;
use specta_typescript::Number;

use super::IpcError;

/// A number that can be set for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ModelNumberName {
    Temperature,
    TopP,
    TopK,
    MinP,
    RepetitionPenalty,
    PresencePenalty,
    FrequencyPenalty,
    MaxTokens,
    Threads,
    Context,
}

impl From<ModelNumber> for ModelNumberName {
    fn from(number: ModelNumber) -> Self {
        match number {
            ModelNumber::Temperature => Self::Temperature,
            ModelNumber::TopP => Self::TopP,
            ModelNumber::TopK => Self::TopK,
            ModelNumber::MinP => Self::MinP,
            ModelNumber::RepetitionPenalty => Self::RepetitionPenalty,
            ModelNumber::PresencePenalty => Self::PresencePenalty,
            ModelNumber::FrequencyPenalty => Self::FrequencyPenalty,
            ModelNumber::MaxTokens => Self::MaxTokens,
            ModelNumber::Threads => Self::Threads,
            ModelNumber::Context => Self::Context,
        }
    }
}

/// Who says what holds where the user chose nothing.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SettingSource {
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

impl From<ValueSource> for SettingSource {
    fn from(source: ValueSource) -> Self {
        match source {
            ValueSource::Settings => Self::Settings,
            ValueSource::Model => Self::Model,
            ValueSource::Catalogue => Self::Catalogue,
            ValueSource::Machine => Self::Machine,
            ValueSource::Hearth => Self::Hearth,
        }
    }
}

/// The settings of a model, with what is in force and why.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSettings {
    /// What it is told in conversations without a system prompt of their own.
    system: Option<String>,
    numbers: Vec<ModelSetting>,
    memory: ContextMemory,
}

/// A number of a model's settings.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSetting {
    name: ModelNumberName,
    #[specta(type = Number)]
    least: f64,
    #[specta(type = Number)]
    most: f64,
    is_whole: bool,
    #[specta(type = Option<Number>)]
    chosen: Option<f64>,
    /// What holds where nothing is chosen; null where loading tells it.
    #[specta(type = Option<Number>)]
    otherwise: Option<f64>,
    source: SettingSource,
}

/// What a conversation costs in memory: computed from sizes, never measured.
#[derive(Debug, Clone, Copy, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContextMemory {
    /// Of the model without a conversation.
    #[specta(type = Number)]
    model_bytes: u64,
    /// Null where it is not known.
    #[specta(type = Option<Number>)]
    bytes_per_token: Option<u64>,
    /// Up to so many bytes all of it fits this machine.
    #[specta(type = Number)]
    fits_to_bytes: u64,
    /// Up to so many bytes it runs, and leaves little for anything else.
    #[specta(type = Number)]
    tight_to_bytes: u64,
}

impl From<backend::ModelSettings> for ModelSettings {
    fn from(settings: backend::ModelSettings) -> Self {
        let number = |setting: backend::ModelSetting| ModelSetting {
            name: setting.number.into(),
            least: *setting.range.start(),
            most: *setting.range.end(),
            is_whole: setting.number.is_whole(),
            chosen: setting.chosen,
            otherwise: setting.otherwise,
            source: setting.source.into(),
        };
        Self {
            system: settings.system,
            numbers: settings.numbers.into_iter().map(number).collect(),
            memory: ContextMemory {
                model_bytes: settings.memory.model_bytes,
                bytes_per_token: settings.memory.bytes_per_token,
                fits_to_bytes: settings.memory.fits_to,
                tight_to_bytes: settings.memory.tight_to,
            },
        }
    }
}

/// What the user wants of a model. What is not there is the model's own.
#[derive(Debug, Clone, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelChoice {
    system: Option<String>,
    numbers: Vec<ChosenNumber>,
}

/// A number that the user chose.
#[derive(Debug, Clone, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChosenNumber {
    name: ModelNumberName,
    #[specta(type = Number)]
    value: f64,
}

impl ModelChoice {
    /// This choice in the place of `defaults`, of which what this version does not know stays.
    pub(crate) fn applied_to(self, mut defaults: ModelDefaults) -> Result<ModelDefaults, IpcError> {
        defaults.set_system(self.system.as_deref())?;
        for number in ModelNumber::ALL {
            let name = ModelNumberName::from(number);
            let chosen = self.numbers.iter().find(|chosen| chosen.name == name);
            defaults.set_number(number, chosen.map(|chosen| chosen.value))?;
        }
        Ok(defaults)
    }
}
