//! Packages of the operating system.
//!
//! What is needed is looked for by what it provides, a program or a library with its headers, so that a
//! system without Debian's package names is judged rightly too. Debian and Ubuntu get what is missing
//! by apt-get; others are told.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use crate::command::{Program, find_program, is_set};
use crate::error::{Error, Result};
use crate::print;

/// Something that must be present, and the Debian package that brings it.
#[derive(Debug)]
pub(crate) struct Requirement {
    evidence: Evidence,
    package: &'static str,
}

#[derive(Debug)]
enum Evidence {
    /// A program on the search path.
    Program(&'static str),
    /// A library with its headers, by the name that pkg-config knows.
    Library(&'static str),
}

/// What building the window needs. The libraries of GTK, libsoup and JavaScriptCore come with WebKitGTK's.
pub(crate) const WINDOW: &[Requirement] = if cfg!(target_os = "linux") {
    &[
        Requirement { evidence: Evidence::Program("pkg-config"), package: "pkg-config" },
        Requirement { evidence: Evidence::Library("webkit2gtk-4.1"), package: "libwebkit2gtk-4.1-dev" },
    ]
} else {
    &[]
};

/// What the end-to-end test of the window needs besides: its driver and a session bus of its own.
pub(crate) const WINDOW_TEST: &[Requirement] = if cfg!(target_os = "linux") {
    &[
        Requirement { evidence: Evidence::Program("WebKitWebDriver"), package: "webkit2gtk-driver" },
        Requirement { evidence: Evidence::Program("dbus-run-session"), package: "dbus" },
    ]
} else {
    &[]
};

/// What building a fuzz target needs besides Rust: libFuzzer is C++.
pub(crate) const FUZZ: &[Requirement] = if cfg!(target_os = "linux") {
    &[Requirement { evidence: Evidence::Program("c++"), package: "g++" }]
} else {
    &[]
};

/// A display in memory, for machines without one.
pub(crate) const VIRTUAL_DISPLAY: &[Requirement] =
    &[Requirement { evidence: Evidence::Program("Xvfb"), package: "xvfb" }];

/// Whether windows can be shown here.
pub(crate) fn has_display() -> bool {
    !cfg!(target_os = "linux") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// Installs what is missing, after asking where somebody can answer.
///
/// # Errors
/// [`Error::SystemPackages`] if something is missing and was not installed; errors of apt-get.
pub(crate) fn ensure(requirements: &[&[Requirement]]) -> Result<()> {
    let missing = missing(requirements);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if find_program("apt-get").is_none() || !Path::new("/etc/debian_version").exists() {
        let remedy = "these are the names on Debian; install what your system calls them".to_owned();
        return Err(Error::SystemPackages { packages, remedy });
    }
    let interactive = !is_set("CI") && io::stdin().is_terminal();
    let administrator = is_administrator();
    let sudo = if administrator { "" } else { "sudo " };
    let remedy = format!("install them by: {sudo}apt-get install {packages}");
    if !administrator && find_program("sudo").is_none() {
        return Err(Error::SystemPackages { packages, remedy });
    }
    if interactive && !print::confirm(&format!("Missing system packages: {packages}. Install by apt-get?")) {
        return Err(Error::SystemPackages { packages, remedy });
    }
    print::step(&format!("Installing system packages: {packages}"));
    apt_get(administrator, interactive, &["update", "--quiet"])?;
    let mut install = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(administrator, interactive, &install)?;
    let still_missing = self::missing(requirements).join(" ");
    if still_missing.is_empty() {
        return Ok(());
    }
    let remedy = "apt-get installed them, yet what they bring is not found: check PATH and PKG_CONFIG_PATH";
    Err(Error::SystemPackages { packages: still_missing, remedy: remedy.to_owned() })
}

fn missing(requirements: &[&[Requirement]]) -> Vec<&'static str> {
    let all = requirements.iter().flat_map(|part| part.iter());
    all.filter(|requirement| !requirement.is_met()).map(|requirement| requirement.package).collect()
}

impl Requirement {
    fn is_met(&self) -> bool {
        match self.evidence {
            Evidence::Program(name) => find_program(name).is_some(),
            Evidence::Library(name) => Program::new("pkg-config").arguments(["--exists", name]).succeeds(),
        }
    }
}

fn apt_get(administrator: bool, interactive: bool, arguments: &[&str]) -> Result<()> {
    let program = if administrator {
        Program::new("env")
    } else if interactive {
        Program::new("sudo").argument("env")
    } else {
        // Without a terminal nobody can type a password: better a message at once than a wait for ever.
        Program::new("sudo").arguments(["--non-interactive", "env"])
    };
    program.arguments(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).arguments(arguments).run()
}

fn is_administrator() -> bool {
    Program::new("id").argument("-u").output().is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_named_by_its_package_and_what_is_there_is_not() {
        let requirements = [
            Requirement { evidence: Evidence::Program("cargo"), package: "present" },
            Requirement { evidence: Evidence::Program("no-such-program-at-all"), package: "absent" },
            Requirement { evidence: Evidence::Library("no-such-library-at-all"), package: "absent-library" },
        ];
        assert_eq!(missing(&[&requirements]), ["absent", "absent-library"]);
    }
}
