//! The end-to-end test of the real window: a display, a session bus and the web view's driver for the
//! test program in `ui/e2e`.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::command::{Program, find_program};
use crate::error::{Error, Result};
use crate::test::{Outcome, prepare_rust};
use crate::workspace::Workspace;
use crate::{interface, print, runtime, system};

/// Makes a data folder with a long history.
const LONG_HISTORY: &str = "long_history";

/// Builds the window and runs the test on it; with `screenshots` it leaves pictures in `ui/screenshots`.
///
/// # Errors
/// What could not be made ready, and [`Error::Command`] if a scenario fails.
pub(crate) fn run(workspace: &Workspace, screenshots: bool) -> Result<Outcome> {
    if cfg!(target_os = "macos") {
        return Ok(Outcome::Skipped("macOS offers no WebDriver for the web view inside an application"));
    }
    system::ensure(&[system::WINDOW_TEST])?;
    let driver_name = if cfg!(windows) { "msedgedriver" } else { "WebKitWebDriver" };
    let Some(driver) = find_program(driver_name) else {
        return Ok(Outcome::Skipped("msedgedriver is not on the search path"));
    };
    let library = prepare_rust(workspace)?;
    interface::ensure_window_test_packages(workspace)?;
    let folder = workspace.interface().join("e2e");
    interface::script(&folder, "check")?;
    print::step("Building the window, the program for the terminal, and the one that makes a long history");
    Program::cargo()
        .arguments(["build", "--package", "hearth-window", "--package", "cli", "--locked"])
        .folder(workspace.root())
        .run()?;
    // By itself: with it the window would be built with what is only for tests.
    Program::cargo()
        .arguments(["build", "--package", "backend", "--example", LONG_HISTORY, "--locked"])
        .folder(workspace.root())
        .run()?;

    let display = if system::has_display() { None } else { Some(VirtualDisplay::start()?) };
    let mut scenarios = on_own_session_bus()
        .arguments(["run", "--silent", "test"])
        .folder(&folder)
        .variable("HEARTH_WINDOW", workspace.program("debug", "hearth-window"))
        .variable("HEARTH_TERMINAL", workspace.program("debug", "hearth"))
        .variable("HEARTH_LONG_HISTORY", workspace.program("debug", &format!("examples/{LONG_HISTORY}")))
        .variable("HEARTH_WEBDRIVER", driver)
        .variable(runtime::VARIABLE, library);
    if let Some(display) = &display {
        scenarios = scenarios.variable("DISPLAY", &display.name).variable("GDK_BACKEND", "x11");
    }
    if screenshots {
        scenarios = scenarios.variable("HEARTH_SCREENSHOTS", workspace.interface().join("screenshots"));
    }
    scenarios.run()?;
    Ok(Outcome::Passed)
}

/// npm on a session bus of its own: a Hearth that runs on the user's bus would otherwise be asked to show
/// its window instead of the one under test.
fn on_own_session_bus() -> Program {
    if cfg!(target_os = "linux") {
        Program::new("dbus-run-session").arguments(["--", "npm"])
    } else {
        Program::npm()
    }
}

/// An X server that draws into memory; it ends with this value.
struct VirtualDisplay {
    server: Child,
    name: String,
}

impl VirtualDisplay {
    fn start() -> Result<Self> {
        system::ensure(&[system::VIRTUAL_DISPLAY])?;
        let server: PathBuf = find_program("Xvfb").unwrap_or_else(|| "Xvfb".into());
        let mut command = Program::new(&server)
            // It chooses a free display itself and writes its number as soon as it takes clients.
            .arguments(["-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp", "-noreset"])
            .into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().map_err(|source| Error::Start {
            program: server.display().to_string(),
            hint: String::new(),
            source,
        })?;
        let mut number = String::new();
        if let Some(output) = server.stdout.take() {
            BufReader::new(output).read_line(&mut number).ok();
        }
        // Built before the check, so that a server that said nothing is ended too.
        let display = Self { server, name: format!(":{}", number.trim()) };
        if number.trim().is_empty() {
            return Err(Error::Display("Xvfb ended before it named its display".to_owned()));
        }
        Ok(display)
    }
}

impl Drop for VirtualDisplay {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
