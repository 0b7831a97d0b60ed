//! What a conversation is called when nobody has named it.

/// The most characters of a title.
const LONGEST: usize = 60;

/// A title from the first message: its first line with words, without marks of lists, headings and quotes,
/// cut between two words.
pub(super) fn of_message(text: &str) -> String {
    let line = text.lines().map(clean).find(|line| line.chars().any(char::is_alphanumeric));
    let line = line.unwrap_or_else(|| clean(text));
    shorten(&line, LONGEST)
}

/// What somebody types as a title, on one line and not longer than a list can show.
pub(super) fn of_user(text: &str) -> String {
    shorten(&plain(text), 200)
}

fn clean(line: &str) -> String {
    let line = plain(line);
    let line = line.trim_start_matches(['#', '>', '*', '-', '`', '_', '~', '=', '|', ' ']);
    line.trim_end_matches(['*', '`', '_', '~', ' ']).to_owned()
}

/// Without what cannot be seen or turns the writing direction of its neighbours, blanks as one.
fn plain(text: &str) -> String {
    let hides = |character: char| {
        matches!(character,
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let shown: String = text
        .chars()
        .filter(|&character| !hides(character))
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let cut: String = text.chars().take(longest - 1).collect();
    // A word that alone fills the line is cut; a script without blanks has no other place.
    let end = cut.rfind(' ').filter(|&end| end >= cut.len() / 2).unwrap_or(cut.len());
    let kept = cut[..end].trim_end_matches([' ', ',', ';', ':', '.', '-', '–']);
    format!("{kept}…")
}
