//! What the user wants of one model: its system prompt, how it samples, its threads and its window.
//!
//! Who goes before whom, for each value alone:
//! 1. what this run asks for: the options of a command line, or of a call;
//! 2. of system prompts, the conversation's own;
//! 3. what the user wants of this model, which is here;
//! 4. of threads and window, what the settings say for all models;
//! 5. what the model's own files say, then what the catalogue says; of threads, what was measured on this machine;
//! 6. what Hearth takes where nobody says anything.
//!
//! `models::loading` goes by it for threads and window, [`ModelDefaults::fill`] for the rest before each reply. A
//! reply keeps with it what it was made with.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::reply_options::ReplyOptions;

/// Characters of a system prompt: more than any window reads.
const LONGEST_SYSTEM: usize = 200_000;
const MOST_TOKENS: f64 = 1_000_000.0;
/// More threads than any machine has cores are a mistake, and starting them may take the machine down.
const MOST_THREADS: f64 = 1024.0;

/// A number that can be set for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelNumber {
    Temperature,
    TopP,
    TopK,
    MinP,
    RepetitionPenalty,
    PresencePenalty,
    FrequencyPenalty,
    /// The most tokens of a reply.
    MaxTokens,
    /// Threads inside one operator.
    Threads,
    /// The most tokens of a conversation that the model keeps.
    Context,
}

impl ModelNumber {
    pub const ALL: [Self; 10] = [
        Self::Temperature,
        Self::TopP,
        Self::TopK,
        Self::MinP,
        Self::RepetitionPenalty,
        Self::PresencePenalty,
        Self::FrequencyPenalty,
        Self::MaxTokens,
        Self::Threads,
        Self::Context,
    ];

    /// As the terminal calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::TopP => "top-p",
            Self::TopK => "top-k",
            Self::MinP => "min-p",
            Self::RepetitionPenalty => "repetition-penalty",
            Self::PresencePenalty => "presence-penalty",
            Self::FrequencyPenalty => "frequency-penalty",
            Self::MaxTokens => "max-tokens",
            Self::Threads => "threads",
            Self::Context => "context",
        }
    }

    /// As the settings call it.
    fn key(self) -> &'static str {
        match self {
            Self::TopP => "topP",
            Self::TopK => "topK",
            Self::MinP => "minP",
            Self::RepetitionPenalty => "repetitionPenalty",
            Self::PresencePenalty => "presencePenalty",
            Self::FrequencyPenalty => "frequencyPenalty",
            Self::MaxTokens => "maxTokens",
            Self::Temperature | Self::Threads | Self::Context => self.name(),
        }
    }

    /// What it may be for any model.
    pub fn range(self) -> RangeInclusive<f64> {
        match self {
            Self::Temperature => 0.0..=100.0,
            Self::TopP | Self::MinP => 0.0..=1.0,
            Self::TopK => 0.0..=MOST_TOKENS,
            Self::RepetitionPenalty => 0.01..=100.0,
            Self::PresencePenalty | Self::FrequencyPenalty => -100.0..=100.0,
            Self::MaxTokens => 1.0..=MOST_TOKENS,
            Self::Threads => 1.0..=MOST_THREADS,
            Self::Context => 64.0..=10.0 * MOST_TOKENS,
        }
    }

    /// Whether it counts something.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::TopK | Self::MaxTokens | Self::Threads | Self::Context)
    }

    /// Refuses `value` where it is outside of `range`.
    ///
    /// # Errors
    /// [`Error::ModelSetting`] names the number and the range.
    pub(crate) fn check(self, value: f64, range: &RangeInclusive<f64>) -> Result<()> {
        let is_right = range.contains(&value) && (!self.is_whole() || value.fract() == 0.0);
        let kind = if self.is_whole() { "a whole number" } else { "a number" };
        let refused = || Error::ModelSetting {
            name: self.name(),
            reason: format!("it is {value}; it must be {kind} between {} and {}", range.start(), range.end()),
        };
        if is_right { Ok(()) } else { Err(refused()) }
    }
}

impl std::str::FromStr for ModelNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim().replace('_', "-").to_ascii_lowercase();
        Self::ALL.into_iter().find(|number| number.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::ModelSetting {
                name: "name",
                reason: format!("there is no `{text}`; there are system, {names}"),
            }
        })
    }
}

/// What the user wants of one model: part of the settings. What is left open is the model's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelDefaults {
    /// What the model is told in conversations that have no system prompt of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// By the keys of [`ModelNumber`]. What this version does not know is kept for the one that wrote it.
    #[serde(flatten)]
    numbers: Map<String, Value>,
}

impl ModelDefaults {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn system(&self) -> Option<&str> {
        self.system.as_deref().filter(|text| !text.trim().is_empty())
    }

    /// Sets the system prompt; one without words leaves it to the conversation.
    ///
    /// # Errors
    /// [`Error::ModelSetting`].
    pub fn set_system(&mut self, text: Option<&str>) -> Result<()> {
        let text = text.filter(|text| !text.trim().is_empty());
        let length = text.map_or(0, |text| text.chars().count());
        if length > LONGEST_SYSTEM {
            let reason =
                format!("it has {length} characters; it must have between 0 and {LONGEST_SYSTEM} characters");
            return Err(Error::ModelSetting { name: "system", reason });
        }
        self.system = text.map(str::to_owned);
        Ok(())
    }

    /// What was chosen; what makes no sense was not.
    pub fn number(&self, number: ModelNumber) -> Option<f64> {
        let value = self.numbers.get(number.key())?.as_f64()?;
        number.check(value, &number.range()).ok().map(|()| value)
    }

    /// The same for what counts something.
    pub(crate) fn count(&self, number: ModelNumber) -> Option<usize> {
        // Its range is one that a count has.
        self.number(number).map(|value| value as usize)
    }

    /// Chooses a number, or leaves it to the model.
    ///
    /// # Errors
    /// [`Error::ModelSetting`] names the number and its range; it stays as it was then.
    pub fn set_number(&mut self, number: ModelNumber, value: Option<f64>) -> Result<()> {
        let Some(value) = value else {
            self.numbers.remove(number.key());
            return Ok(());
        };
        number.check(value, &number.range())?;
        let value = if number.is_whole() { Value::from(value as u64) } else { Value::from(value) };
        self.numbers.insert(number.key().to_owned(), value);
        Ok(())
    }

    /// What stands there and makes no sense, by name.
    pub(crate) fn senseless(&self) -> Vec<&'static str> {
        let is_there =
            |number: &ModelNumber| self.numbers.get(number.key()).is_some_and(|value| !value.is_null());
        ModelNumber::ALL
            .into_iter()
            .filter(|number| is_there(number) && self.number(*number).is_none())
            .map(ModelNumber::name)
            .collect()
    }

    /// Fills in what `options` leave open of a reply, in a conversation with a system prompt of its own or without.
    pub fn fill(&self, options: &mut ReplyOptions, has_own_system: bool) {
        let fraction = |number| self.number(number).map(|value| value as f32);
        options.temperature = options.temperature.or(fraction(ModelNumber::Temperature));
        options.top_p = options.top_p.or(fraction(ModelNumber::TopP));
        options.top_k = options.top_k.or(self.count(ModelNumber::TopK));
        options.min_p = options.min_p.or(fraction(ModelNumber::MinP));
        options.repetition_penalty = options.repetition_penalty.or(fraction(ModelNumber::RepetitionPenalty));
        options.presence_penalty = options.presence_penalty.or(fraction(ModelNumber::PresencePenalty));
        options.frequency_penalty = options.frequency_penalty.or(fraction(ModelNumber::FrequencyPenalty));
        options.max_tokens = options.max_tokens.or(self.count(ModelNumber::MaxTokens));
        if options.system.is_none() && !has_own_system {
            options.system = self.system().map(str::to_owned);
        }
    }
}
