//! The only printer. Results and progress go to standard output, failures to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks through the terminal")]

use std::error::Error as _;
use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use crate::error::Error;

/// Prints text as it is.
pub(crate) fn text(text: &str) {
    println!("{text}");
}

/// Announces what is done now.
pub(crate) fn step(what: &str) {
    println!("==> {what}");
}

/// Prints a failure with its chain of causes.
pub(crate) fn failure(error: &Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        eprintln!("  because: {inner}");
        cause = inner.source();
    }
}

/// Asks a question that is answered by yes or no; anything but yes, also the end of input, is no.
pub(crate) fn confirm(question: &str) -> bool {
    print!("{question} [y/N] ");
    // Where the question cannot be shown, nobody could have answered it.
    if io::stdout().flush().is_err() {
        return false;
    }
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Writes a duration for people: `8.4 s`, `3 min 05 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_below_and_above_a_minute() {
        assert_eq!(duration(Duration::from_millis(8_440)), "8.4 s");
        assert_eq!(duration(Duration::from_secs(185)), "3 min 05 s");
    }
}
