//! `hearth models set` and what `show` tells of it: the settings of one model.

use backend::{Error as BackendError, ModelNumber, ModelSettings, ValueSource};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::models::bytes;
use crate::print::Printer;
use crate::run::Run;
use crate::show::fit_words;

/// The key of the system prompt.
const SYSTEM: &str = "system";

/// Sets what a model takes where nobody says otherwise, and prints what is in force then.
pub(crate) fn set(
    run: &Run,
    name: &str,
    values: &[(String, String)],
    reset: bool,
    printer: &mut Printer,
) -> Result<()> {
    let backend = run.backend();
    let model = backend.models().store().find(name)?;
    let mut defaults = if reset { Default::default() } else { backend.models().defaults_of(&model.id) };
    for (key, value) in values {
        if key == SYSTEM {
            defaults.set_system(Some(value))?;
            continue;
        }
        let number: ModelNumber = key.parse()?;
        let chosen = match value.trim() {
            "" => None,
            text => Some(text.parse().map_err(|_| BackendError::ModelSetting {
                name: number.name(),
                reason: format!("`{text}` is not a number"),
            })?),
        };
        defaults.set_number(number, chosen)?;
    }
    backend.set_model_defaults(&model.id, &defaults)?;
    let settings = backend.model_settings(&model.id)?;
    if printer.is_json() {
        printer.json_line(&json!({"type": "settings", "id": model.id, "settings": to_json(&settings)}));
    } else {
        print(&settings, printer);
    }
    Ok(())
}

/// The settings as one object: of each what was chosen, what holds otherwise, and who says so.
pub(crate) fn to_json(settings: &ModelSettings) -> Value {
    let mut object = Map::new();
    object.insert(SYSTEM.into(), json!({"chosen": settings.system}));
    for setting in &settings.numbers {
        let shown = |value: Option<f64>| match value {
            Some(value) if setting.number.is_whole() => json!(value as u64),
            value => json!(value),
        };
        let line = json!({
            "chosen": shown(setting.chosen), "otherwise": shown(setting.otherwise), "source": setting.source,
            "least": setting.range.start(), "most": setting.range.end(),
        });
        object.insert(setting.number.name().replace('-', "_"), line);
    }
    object.into()
}

/// Prints each setting with what is in force and why.
pub(crate) fn print(settings: &ModelSettings, printer: &mut Printer) {
    let system = settings.system.as_deref().map(|text| format!("{text:?}"));
    printer.line(&format!("{:19} {}", SYSTEM, system.as_deref().unwrap_or("none of its own")));
    for setting in &settings.numbers {
        let shown = |value: f64| value.to_string();
        let line = match (setting.chosen, setting.otherwise) {
            (Some(chosen), Some(other)) => {
                format!("{} (otherwise {}, {})", shown(chosen), shown(other), source_words(setting.source))
            }
            (Some(chosen), None) => shown(chosen),
            (None, Some(other)) => format!("{}, {}", shown(other), source_words(setting.source)),
            (None, None) => "told by loading it".to_owned(),
        };
        printer.line(&format!("{:19} {line}", setting.number.name()));
    }
    let context = settings.numbers.iter().find(|setting| setting.number == ModelNumber::Context);
    let tokens = context.and_then(|setting| setting.chosen.or(setting.otherwise));
    if let (Some(row), Some(tokens)) = (settings.memory.bytes_per_token, tokens) {
        let conversation = row.saturating_mul(tokens as u64);
        let fit = fit_words(settings.memory.fit(tokens as u64));
        printer.line(&format!(
            "A full window of {tokens} tokens takes {} beside {} of the model (computed): it {fit}.",
            bytes(conversation),
            bytes(settings.memory.model_bytes)
        ));
    }
}

fn source_words(source: ValueSource) -> &'static str {
    match source {
        ValueSource::Settings => "by the settings for all models",
        ValueSource::Model => "by the model's own files",
        ValueSource::Catalogue => "by the catalogue",
        ValueSource::Machine => "by this machine",
        ValueSource::Hearth => "by Hearth, where nobody says anything",
    }
}
