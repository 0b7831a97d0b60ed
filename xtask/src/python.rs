//! The Python interpreter that fetches wheels and runs the recipe of the built-in model.

use crate::command::Program;
use crate::error::{Error, Result};

/// A Python interpreter with pip.
pub(crate) struct Python {
    words: &'static [&'static str],
}

impl Python {
    const CANDIDATES: &'static [&'static [&'static str]] =
        if cfg!(windows) { &[&["python"], &["py", "-3"]] } else { &[&["python3"], &["python"]] };
    const NEEDED: &'static str = "3.9";

    /// The first that will do.
    ///
    /// # Errors
    /// [`Error::Version`] says what is wrong with the last that was tried.
    pub(crate) fn find() -> Result<Self> {
        let mut found = String::from("but there is none");
        for words in Self::CANDIDATES {
            let python = Self { words };
            match python.complaint() {
                None => return Ok(python),
                Some(complaint) => found = complaint,
            }
        }
        Err(Error::Version { program: "Python with pip", needed: Self::NEEDED, found })
    }

    pub(crate) fn program(&self) -> Program {
        let (first, rest) = self.words.split_first().unwrap_or((&"python3", &[]));
        Program::new(first).arguments(rest)
    }

    /// What is wrong with this interpreter, if anything; `None` says that it can be used.
    fn complaint(&self) -> Option<String> {
        let name = self.words.join(" ");
        // Runs under every Python since 2, so that an old one answers instead of failing.
        let question = "import sys; sys.exit(0 if sys.version_info >= (3, 9) else 1)";
        if !self.program().argument("--version").succeeds() {
            return Some(String::from("but there is none"));
        }
        if !self.program().arguments(["-c", question]).succeeds() {
            return Some(format!("but `{name}` is older"));
        }
        if !self.program().arguments(["-m", "pip", "--version"]).succeeds() {
            return Some(format!("but `{name}` has no pip (Debian: apt-get install python3-pip)"));
        }
        None
    }
}
