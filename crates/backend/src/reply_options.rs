//! What the user asks of a reply, over what the model's makers recommend.

use engine::{Sampling, SuggestedSampling};
use serde::{Deserialize, Serialize};

/// The most tokens of a reply when nothing is asked: enough for any answer, and an end for a model that
/// repeats itself. The reply can be continued.
const MOST_TOKENS: usize = 4096;

/// Settings of one reply. `None` takes the model's recommendation, then a neutral value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplyOptions {
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub max_tokens: Option<usize>,
    /// The reply ends before the first of these texts.
    pub stop: Vec<String>,
    /// Whether the model thinks before it answers, where its template has a switch.
    pub thinking: Option<bool>,
    /// A system prompt.
    pub system: Option<String>,
}

impl ReplyOptions {
    /// The sampling: the user's word, then the makers', then temperature 0.7 and top-p 0.95, with which a
    /// chat model neither repeats itself nor wanders.
    pub fn sampling(&self, suggested: &SuggestedSampling) -> Sampling {
        let neutral = Sampling::default();
        let greedy = suggested.do_sample == Some(false);
        let silent =
            suggested.temperature.is_none() && suggested.top_p.is_none() && suggested.top_k.is_none();
        let suggested_temperature =
            if greedy { 0.0 } else { suggested.temperature.unwrap_or(if silent { 0.7 } else { 1.0 }) };
        let suggested_top_p = suggested.top_p.unwrap_or(if silent { 0.95 } else { 1.0 });
        Sampling {
            temperature: self.temperature.unwrap_or(suggested_temperature),
            top_k: self.top_k.or(suggested.top_k.map(|k| k as usize)).unwrap_or(neutral.top_k),
            top_p: self.top_p.unwrap_or(suggested_top_p),
            min_p: self.min_p.or(suggested.min_p).unwrap_or(neutral.min_p),
            repetition_penalty: self
                .repetition_penalty
                .or(suggested.repetition_penalty)
                .unwrap_or(neutral.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(neutral.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(neutral.frequency_penalty),
            seed: self.seed,
        }
    }

    /// The most tokens of the reply.
    pub fn max_new_tokens(&self) -> usize {
        self.max_tokens.unwrap_or(MOST_TOKENS)
    }
}
