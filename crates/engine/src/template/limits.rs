//! What a template may not do although the language can: fill memory with few instructions.

use std::io::Write;

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// The function that [`super::rewrite`] calls after every assignment.
pub(super) const CHECK: &str = "hearth_check_size";

const LARGEST_SOURCE: usize = 1 << 20;
/// Bytes of one text that a template works with. A conversation of 2 million tokens is about this long.
const LARGEST_TEXT: usize = 8 << 20;
/// Entries of one list.
const LONGEST_LIST: usize = 1 << 20;
const WIDEST_INDENT: usize = 256;
/// Filters whose result is as large as a number says, or that no chat template needs.
const REMOVED_FILTERS: [&str; 6] = ["batch", "slice", "format", "pprint", "zip", "urlencode"];

fn too_large() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the template makes a value that is too large")
}

/// Refuses sources by what can be seen before they run.
pub(super) fn check_source(source: &str) -> Result<(), String> {
    if source.len() > LARGEST_SOURCE {
        return Err(format!("it is larger than {LARGEST_SOURCE} bytes"));
    }
    Ok(())
}

/// Takes away filters that make much out of little, and bounds those that templates need.
pub(super) fn restrict(environment: &mut Environment<'static>) {
    for name in REMOVED_FILTERS {
        environment.remove_filter(name);
    }
    environment.add_function(CHECK, |values: Rest<Value>| -> Result<bool, Error> {
        values.iter().try_for_each(check_size)?;
        Ok(false)
    });
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("list", |state: &State, value: Value| {
        check_size(&value)?;
        filters::list(state, value)
    });
}

fn check_size(value: &Value) -> Result<(), Error> {
    let limit = match value.kind() {
        ValueKind::String | ValueKind::Bytes => LARGEST_TEXT,
        _ => LONGEST_LIST,
    };
    let length = value.as_str().map(str::len).or_else(|| value.len());
    if length.is_some_and(|length| length > limit) { Err(too_large()) } else { Ok(()) }
}

fn replace(
    state: &mut State,
    value: StringInput<'_>,
    from: StringInput<'_>,
    to: StringInput<'_>,
) -> Result<Value, Error> {
    check_replace(value.as_str(), from.as_str(), to.as_str())?;
    filters::replace(state, value, from, to)
}

fn check_replace(text: &str, from: &str, to: &str) -> Result<(), Error> {
    let places = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
    let length = places.saturating_mul(to.len()).saturating_add(text.len());
    if length > LARGEST_TEXT { Err(too_large()) } else { Ok(()) }
}

fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    arguments: Kwargs,
) -> Result<Value, Error> {
    let between = joiner.as_ref().map_or(0, |joiner| joiner.as_str().len());
    check_join(value, between)?;
    filters::join(state, value, joiner, attribute, arguments)
}

fn check_join(value: &Value, between: usize) -> Result<(), Error> {
    check_size(value)?;
    let mut length = 0_usize;
    if value.kind() != ValueKind::String {
        for item in value.try_iter()? {
            length = length.saturating_add(item.as_str().map_or(64, str::len)).saturating_add(between);
            if length > LARGEST_TEXT {
                return Err(too_large());
            }
        }
    }
    let entries = value.len().unwrap_or(0);
    if entries.saturating_mul(between) > LARGEST_TEXT { Err(too_large()) } else { Ok(()) }
}

fn indent(
    value: StringInput<'_>,
    width: Option<usize>,
    first_line: Option<bool>,
    blank_lines: Option<bool>,
    arguments: Kwargs,
) -> Result<Value, Error> {
    let widest = width.or(arguments.peek::<Option<usize>>("width").ok().flatten()).unwrap_or(4);
    let lines = value.as_str().matches('\n').count() + 1;
    if widest > WIDEST_INDENT || widest * lines > LARGEST_TEXT {
        return Err(too_large());
    }
    filters::indent(value, width, first_line, blank_lines, arguments)
}

/// Refuses methods of texts that would make too much.
pub(super) fn check_method(value: &Value, method: &str, arguments: &[Value]) -> Result<(), Error> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let argument = |index: usize| arguments.get(index).and_then(Value::as_str).unwrap_or_default();
    match method {
        "replace" => check_replace(text, argument(0), argument(1)),
        "join" => arguments.first().map_or(Ok(()), |list| check_join(list, text.len())),
        // Widths such as `{:999999999}` fill memory, and no chat template formats this way.
        "format" => Err(Error::new(ErrorKind::UnknownMethod, "`format` is not supported in chat templates")),
        "split" | "splitlines" => check_size(value),
        _ => Ok(()),
    }
}

/// Collects what a template prints, up to four times what went in and one MiB more.
pub(super) struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    pub(super) fn for_input(length: usize) -> Self {
        Self { bytes: Vec::new(), limit: length.saturating_mul(4).saturating_add(1 << 20) }
    }

    pub(super) fn into_text(self) -> Result<String, String> {
        String::from_utf8(self.bytes).map_err(|error| format!("it printed no text: {error}"))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(std::io::Error::other("the template prints too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
