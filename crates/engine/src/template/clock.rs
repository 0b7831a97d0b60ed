//! The time that a conversation's prompts print.

use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The civil time at which a conversation began. Templates print it on every turn, so it must not move:
/// a new day would change the beginning of the prompt, and nothing of the KV cache could be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clock(DateTime);

impl Clock {
    /// A clock that stands at `time`.
    pub fn at(time: DateTime) -> Self {
        Self(time)
    }

    /// A clock that stands at this moment in the system's time zone.
    pub fn now() -> Self {
        Self(jiff::Zoned::now().datetime())
    }

    /// The time in the notation of `strftime`. Unknown specifiers stay as they are.
    pub(super) fn format(&self, format: &str) -> Result<String, Error> {
        // A width such as `%999999999Y` would fill memory, and no template has a use for one.
        if format.len() > 256 || format.split('%').skip(1).any(|part| part.starts_with(wide)) {
            return Err(Error::new(ErrorKind::InvalidOperation, "unsupported time format"));
        }
        let config = Config::new().lenient(true);
        BrokenDownTime::from(self.0).to_string_with_config(&config, format).map_err(|error| {
            Error::new(ErrorKind::InvalidOperation, format!("unsupported time format: {error}"))
        })
    }
}

fn wide(character: char) -> bool {
    character.is_ascii_digit()
}
