//! Chat templates: the small programs in a model folder that turn messages into the text a model was trained
//! on. They come from outside, so they run with bounded fuel, depth and output, and load nothing.

mod clock;
mod environment;
mod json;
mod limits;
mod rewrite;
mod sources;
mod traits;

use std::path::Path;
use std::sync::Arc;

use minijinja::Environment;
use minijinja::value::{Serde, Value};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Error, ModelConfig, Result};
pub use clock::Clock;
pub use traits::TemplateTraits;

/// What the plain built-in template writes: names and blank lines, nothing a model must have been trained on.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}\
{{ {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[message.role] ~ message.content ~ '\\n\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// The one name under which the template is compiled.
const NAME: &str = "chat_template";

/// A compiled chat template. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    inner: Arc<Inner>,
}

struct Inner {
    environment: Environment<'static>,
    source: String,
    /// The file it came from, for error texts.
    origin: String,
    hash: String,
    plain: bool,
    bos_token: Option<String>,
    eos_token: Option<String>,
    traits: TemplateTraits,
}

/// One message as templates see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TemplateMessage {
    pub(crate) role: &'static str,
    pub(crate) content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
}

/// What a rendering depends on besides the messages. Frozen per conversation: a change starts a new prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderOptions {
    /// The time that templates print.
    pub clock: Clock,
    /// Whether the text ends where the reply begins.
    pub add_generation_prompt: bool,
    /// Whether the model thinks before it answers; `None` leaves it to the template.
    pub thinking: Option<bool>,
}

impl RenderOptions {
    /// For a reply at `clock`, thinking left to the template.
    pub fn reply_at(clock: Clock) -> Self {
        Self { clock, add_generation_prompt: true, thinking: None }
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChatTemplate").field("origin", &self.inner.origin).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The folder's template: `chat_template` of `tokenizer_config.json`, overridden by
    /// `chat_template.jinja`, with `additional_chat_templates/*.jinja` beside. Without any, the plain one.
    ///
    /// # Errors
    /// [`Error::Template`] naming file and line for a template that does not compile;
    /// [`Error::FileDamaged`], [`Error::FileUnreadable`].
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self> {
        match sources::find(folder, config)? {
            Some(found) => Self::compile(found.source, found.origin, false, config),
            None => Ok(Self::plain(config)),
        }
    }

    /// A template from its text.
    ///
    /// # Errors
    /// [`Error::Template`] with the line where it does not compile.
    pub fn from_source(source: &str, config: &ModelConfig) -> Result<Self> {
        Self::compile(source.to_owned(), "the template".to_owned(), false, config)
    }

    /// The built-in template for models that bring none.
    pub fn plain(config: &ModelConfig) -> Self {
        Self::compile(PLAIN.to_owned(), "the built-in template".to_owned(), true, config)
            .expect("the built-in template compiles, as the tests show")
    }

    fn compile(source: String, origin: String, plain: bool, config: &ModelConfig) -> Result<Self> {
        limits::check_source(&source)
            .map_err(|reason| Error::Template { reason: format!("`{origin}`: {reason}"), source: None })?;
        let mut environment = environment::environment();
        let rewritten = rewrite::rewrite(&source);
        environment
            .add_template_owned(NAME, rewritten)
            .map_err(|error| failure(&origin, "does not compile", error))?;
        let hash = Sha256::digest(&source).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut inner = Inner {
            environment,
            source,
            origin,
            hash,
            plain,
            bos_token: config.bos_token.clone(),
            eos_token: config.eos_token.clone(),
            traits: TemplateTraits::default(),
        };
        inner.traits = traits::probe(&inner);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether this is the built-in template: the model was not trained on what it writes.
    pub fn is_plain(&self) -> bool {
        self.inner.plain
    }

    /// The template's text as it lies in the folder.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// SHA-256 of the text in hexadecimal digits: a conversation is frozen to it.
    pub fn hash(&self) -> &str {
        &self.inner.hash
    }

    /// What the template can do and asks for, found out by rendering when it was opened.
    pub fn traits(&self) -> &TemplateTraits {
        &self.inner.traits
    }

    /// Renders messages that hold no control token that matters: placeholders stand in for foreign text.
    pub(crate) fn render(&self, messages: &[TemplateMessage], options: &RenderOptions) -> Result<String> {
        self.inner.render(&Serde(messages).into(), options)
    }

    /// Renders an arbitrary context, for templates written for more than messages. The text may hold
    /// control tokens of foreign origin: encode it only through [`crate::prompt_tokens`].
    ///
    /// # Errors
    /// [`Error::Template`].
    pub fn render_context(&self, context: &serde_json::Value, clock: &Clock) -> Result<String> {
        let length = context.to_string().len();
        self.inner.render_value(Serde(context).into(), length, clock)
    }
}

impl Inner {
    fn render(&self, messages: &Value, options: &RenderOptions) -> Result<String> {
        let thinking = options.thinking.map(Value::from).unwrap_or(Value::UNDEFINED);
        let text = |text: &Option<String>| text.as_ref().map_or(Value::UNDEFINED, Value::from);
        let fields = [
            ("messages", messages.clone()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("bos_token", text(&self.bos_token)),
            ("eos_token", text(&self.eos_token)),
            ("enable_thinking", thinking.clone()),
            ("thinking", thinking),
        ];
        let context = Value::from_pairs(fields.into_iter().filter(|(_, value)| !value.is_undefined()));
        self.render_value(context, messages.to_string().len(), &options.clock)
    }

    /// `length`: bytes that went in; what comes out is bounded by it.
    fn render_value(&self, context: Value, length: usize, clock: &Clock) -> Result<String> {
        let mut environment = self.environment.clone();
        let clock = clock.clone();
        environment.add_function("strftime_now", move |format: &str| clock.format(format));
        let mut output = limits::Output::for_input(length + self.source.len());
        let template = environment.get_template(NAME).map_err(|error| self.refused(error))?;
        match template.render_captured_to(context, &mut output) {
            Ok(_) => output.into_text().map_err(|reason| Error::Template {
                reason: format!("`{}`: {reason}", self.origin),
                source: None,
            }),
            Err(error) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: minijinja::Error) -> Error {
        failure(&self.origin, "failed", error)
    }
}

/// The language's error with the file and line where it arose, and its cause where it has one.
fn failure(origin: &str, what: &str, error: minijinja::Error) -> Error {
    let line = error.line().map(|line| format!(" at line {line}")).unwrap_or_default();
    let mut detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if let Some(cause) = std::error::Error::source(&error) {
        detail = format!("{detail}: {cause}");
    }
    Error::Template { reason: format!("`{origin}` {what}{line}: {detail}"), source: None }
}
