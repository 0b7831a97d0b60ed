//! The template language as model makers know it: Jinja2 with Python's methods, and four corrections without
//! which published templates render differently or not at all.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};

use super::{json, limits};

/// Instructions that one rendering may take: enough for thousands of messages, and spent within a fraction
/// of a second.
const FUEL: u64 = 2_000_000;
const DEEPEST_RECURSION: usize = 200;

pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(call_method);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST_RECURSION);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_filter("tojson", |value: &Value, arguments: Kwargs| json::to_json(value, arguments));
    // Built in, `none` counts as iterable, which it is not in Python.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    limits::restrict(&mut environment);
    environment
}

fn call_method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    limits::check_method(value, method, arguments)?;
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}
