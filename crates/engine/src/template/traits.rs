//! What a template can do, found out by rendering small conversations once.

use minijinja::value::{Serde, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Clock, Inner, NAME, RenderOptions};
use crate::Result;

const SYSTEM: &str = "ProbeSystem";
const FIRST: &str = "ProbeFirst";
const REPLY: &str = "ProbeReply";
const SECOND: &str = "ProbeSecond";

/// What a chat template can do and asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateTraits {
    /// It prints a system message. Where not, the system prompt goes into the first user message.
    pub system: bool,
    /// It takes contents only as plain text, not as a list of parts.
    pub plain_content: bool,
    /// It refuses two messages of the same role in a row.
    pub alternation: bool,
    /// A prompt with its reply begins the prompt of the next turn, so that the KV cache stays of use.
    pub prefix_stable: bool,
    /// The same, with thinking switched off.
    pub prefix_stable_without_thinking: bool,
    /// It reads a switch that turns thinking on or off.
    pub thinking_switch: bool,
    /// It prints the date.
    pub date: bool,
    /// It prints the BOS token itself.
    pub bos: bool,
    /// It cuts white space around replies.
    pub trims_replies: bool,
    /// The system prompt that it prints where the conversation has none.
    pub default_system_prompt: Option<String>,
}

/// Renders the probes. One that fails leaves its trait unset.
pub(super) fn probe(template: &Inner) -> TemplateTraits {
    let variables = template
        .environment
        .get_template(NAME)
        .map(|template| template.undeclared_variables(false))
        .unwrap_or_default();
    let probe = Probe { template };
    let user = probe.render(&[("user", FIRST)], true, None);
    if user.is_err() {
        // It renders nothing, and finding that out ten times more could take as long as it likes.
        return TemplateTraits::default();
    }
    let with_system = probe.render(&[("system", SYSTEM), ("user", FIRST)], true, None);
    let system = with_system.as_ref().is_ok_and(|text| text.contains(SYSTEM) && text.contains(FIRST));
    let bos = template
        .bos_token
        .as_deref()
        .is_some_and(|bos| !bos.is_empty() && user.as_ref().is_ok_and(|text| text.starts_with(bos)));
    let padded = format!("\n {REPLY} \n");
    let turns = probe.render(&[("user", FIRST), ("assistant", &padded), ("user", SECOND)], true, None);
    TemplateTraits {
        system,
        plain_content: !probe.takes_parts(),
        alternation: probe.render(&[("user", FIRST), ("user", SECOND)], true, None).is_err(),
        prefix_stable: probe.is_prefix_stable(None),
        prefix_stable_without_thinking: probe.is_prefix_stable(Some(false)),
        thinking_switch: variables.contains("enable_thinking") || variables.contains("thinking"),
        date: variables.contains("strftime_now"),
        bos: bos || variables.contains("bos_token"),
        trims_replies: turns.is_ok_and(|text| text.contains(REPLY) && !text.contains(&padded)),
        default_system_prompt: default_system_prompt(user.ok(), with_system.ok()),
    }
}

struct Probe<'a> {
    template: &'a Inner,
}

impl Probe<'_> {
    fn render(
        &self,
        messages: &[(&str, &str)],
        reply_follows: bool,
        thinking: Option<bool>,
    ) -> Result<String> {
        let messages: Vec<_> =
            messages.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect();
        self.render_values(Serde(&messages).into(), reply_follows, thinking)
    }

    fn render_values(&self, messages: Value, reply_follows: bool, thinking: Option<bool>) -> Result<String> {
        let clock = Clock::at(jiff::civil::date(2025, 7, 10).at(12, 0, 0, 0));
        self.template
            .render(&messages, &RenderOptions { clock, add_generation_prompt: reply_follows, thinking })
    }

    fn takes_parts(&self) -> bool {
        let parts = json!([{ "role": "user", "content": [{ "type": "text", "text": FIRST }] }]);
        self.render_values(Serde(&parts).into(), true, None)
            .is_ok_and(|text| text.contains(FIRST) && !text.contains("'type'") && !text.contains("\"type\""))
    }

    fn is_prefix_stable(&self, thinking: Option<bool>) -> bool {
        let first = self.render(&[("user", FIRST)], true, thinking);
        let turns = [("user", FIRST), ("assistant", REPLY), ("user", SECOND)];
        match (first, self.render(&turns, true, thinking)) {
            (Ok(first), Ok(second)) => second.starts_with(&format!("{first}{REPLY}")),
            _ => false,
        }
    }
}

/// What stands where a system prompt would stand.
fn default_system_prompt(user: Option<String>, with_system: Option<String>) -> Option<String> {
    let (user, with_system) = (user?, with_system?);
    let (before, after) = with_system.split_once(SYSTEM)?;
    let prompt = user.strip_prefix(before)?.strip_suffix(after)?;
    Some(prompt.to_owned()).filter(|prompt| !prompt.trim().is_empty())
}
