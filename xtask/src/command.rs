//! Other programs: found, started, waited for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::error::{Error, Result};

/// One program with its arguments, folder and environment.
pub(crate) struct Program {
    command: Command,
    hint: String,
}

impl Program {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), hint: String::new() }
    }

    /// The cargo that runs this program, or the one on the path.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// npm; on Windows it is a script that must be named in full.
    pub(crate) fn npm() -> Self {
        Self::new(if cfg!(windows) { "npm.cmd" } else { "npm" }).hint("install Node.js 20.19 or newer")
    }

    /// What to do when the program cannot be started at all.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.hint = format!(": {hint}");
        self
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end; its output goes where ours goes.
    ///
    /// # Errors
    /// [`Error::Start`], or [`Error::Command`] if it did not end with success.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.command.status().map_err(|source| self.start_error(source))?;
        self.judge(status)
    }

    /// Runs it to its end and returns what it wrote to standard output; its errors stay visible.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub(crate) fn output(mut self) -> Result<String> {
        self.command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = self.command.output().map_err(|source| self.start_error(source))?;
        self.judge(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether it starts and ends with success; nothing of it is shown.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }

    /// Lets it take this program's place, so that it alone owns the terminal and its signals.
    ///
    /// # Errors
    /// [`Error::Start`]. On Windows, where a process cannot be replaced, [`Error::Command`] too.
    pub(crate) fn take_over(mut self) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            let source = self.command.exec();
            Err(self.start_error(source))
        }
        #[cfg(not(unix))]
        {
            // Ctrl-C reaches both, and only the program that was asked for should answer it. If the
            // handler cannot be set, this program merely ends first.
            ctrlc::set_handler(|| {}).ok();
            let status = self.command.status().map_err(|source| self.start_error(source))?;
            self.judge(status)
        }
    }

    /// The underlying command, for those who need its pipes.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(Error::Command { command: self.line(), status })
    }

    fn start_error(&self, source: std::io::Error) -> Error {
        let program = self.command.get_program().to_string_lossy().into_owned();
        Error::Start { program, hint: self.hint.clone(), source }
    }

    fn line(&self) -> String {
        let name = Path::new(self.command.get_program()).file_stem().unwrap_or_default();
        let words = std::iter::once(name).chain(self.command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// Where the search path finds this program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&file)).find(|candidate| candidate.is_file())
}

/// Whether this environment variable is set to anything but nothing.
pub(crate) fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
