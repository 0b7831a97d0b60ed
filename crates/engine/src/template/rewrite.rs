//! Changes to a template's source before it is compiled; what it prints stays the same.
//!
//! - `{% generation %}` marks training text and prints nothing; the language here does not know it, so it
//!   becomes a condition that always holds.
//! - After every tag that gives a value a name, a check follows that the value is not too large. Fuel counts
//!   instructions and not bytes, and thirty times `{% set x = x ~ x %}` would fill any memory.

use super::limits::CHECK;

/// The rewritten source; line numbers stay as they are.
pub(super) fn rewrite(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len() * 2);
    let mut open_blocks: Vec<Vec<&str>> = Vec::new();
    let mut rest = source;
    while let Some(start) = next_tag(rest) {
        rewritten.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = tag_length(rest);
        let (tag, after) = rest.split_at(length);
        rest = after;
        if !tag.starts_with("{%") || !tag.ends_with("%}") {
            rewritten.push_str(tag);
            continue;
        }
        let inner = &tag[2..tag.len() - 2];
        let statement = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let (word, arguments) =
            statement.split_at(statement.find(|c: char| !is_name(c)).unwrap_or(statement.len()));
        match word {
            "generation" => rewritten.push_str(&tag.replacen("generation", " if true ", 1)),
            "endgeneration" => rewritten.push_str(&tag.replacen("endgeneration", " endif ", 1)),
            _ => rewritten.push_str(tag),
        }
        let names = match word {
            "raw" => {
                let end = end_of_raw(rest);
                rewritten.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            "set" => match assignment(arguments) {
                Some(at) => targets(&arguments[..at]),
                None => {
                    open_blocks.push(targets(arguments.split('|').next().unwrap_or_default()));
                    continue;
                }
            },
            "endset" => open_blocks.pop().unwrap_or_default(),
            "for" => targets(arguments.split(" in ").next().unwrap_or_default()),
            "macro" | "call" | "with" => named_arguments(arguments),
            _ => continue,
        };
        if !names.is_empty() {
            let end = inner.chars().next_back().filter(|last| "-+".contains(*last));
            let end = end.map(String::from).unwrap_or_default();
            rewritten.push_str(&format!("{{% if {CHECK}({}) %}}{{% endif {end}%}}", names.join(", ")));
        }
    }
    rewritten.push_str(rest);
    rewritten
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Where the next tag, expression or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let is_tag = |index: &usize| text.as_bytes().get(index + 1).is_some_and(|next| b"{%#".contains(next));
    text.match_indices('{').map(|(index, _)| index).find(is_tag)
}

/// Bytes of the tag that `text` begins with; all of it where the tag has no end.
fn tag_length(text: &str) -> usize {
    let end = match &text[..2] {
        "{#" => return text.find("#}").map_or(text.len(), |end| end + 2),
        "{{" => "}}",
        _ => "%}",
    };
    let mut quote = None;
    let mut escaped = false;
    // `{{ {'a': {}} }}`: brackets of values are not the tag's.
    let mut depth = 0_usize;
    for (index, character) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if depth == 0 && text[index..].starts_with(end) => return index + 2,
            None => match character {
                '\'' | '"' => quote = Some(character),
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
    }
    text.len()
}

/// Where the closing tag of a `{% raw %}` begins.
fn end_of_raw(text: &str) -> usize {
    text.match_indices("{%")
        .map(|(index, _)| index)
        .find(|&index| text[index + 2..].trim_start_matches(['-', '+']).trim_start().starts_with("endraw"))
        .unwrap_or(text.len())
}

/// Where the `=` of an assignment is. Left of it are only names, dots, commas and brackets.
fn assignment(arguments: &str) -> Option<usize> {
    let at = arguments.find(|c: char| !(is_name(c) || c.is_whitespace() || ".,()".contains(c)))?;
    arguments[at..].starts_with('=').then_some(at)
}

/// The names in `a, (b, c.d)`.
fn targets(text: &str) -> Vec<&str> {
    text.split([',', '(', ')'])
        .map(str::trim)
        .filter(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .filter(|name| name.chars().all(|c| is_name(c) || c == '.'))
        .collect()
}

/// The names of parameters in `name(a, b=1)`, and of assignments in `a = 1, b = x`: those that begin an
/// entry. A name too much does no harm, since the check passes over what is undefined.
fn named_arguments(text: &str) -> Vec<&str> {
    text.split([',', '('])
        .map(|entry| entry.split(['=', ')']).next().unwrap_or_default().trim())
        .filter(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(is_name))
        .filter(|name| {
            !["not", "none", "true", "false", "None", "True", "False", "if", "else", "and", "or", "in", "is"]
                .contains(name)
        })
        .collect()
}
