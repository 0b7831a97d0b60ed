//! Programs in surroundings of their own, where the system gives them to a user: a network without routes, a disk
//! that nobody else sees.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::process::Command;

/// The beginning of a command that runs in namespaces of its own, such as `--net` and `--mount`; its program and
/// arguments are to be added. `None` (and one line) where the system gives none, except in continuous integration
/// where its kernel says that it would.
#[expect(clippy::print_stdout, reason = "whoever reads the log must see that a test was skipped")]
pub(crate) fn in_namespaces(kinds: &[&str]) -> Option<Command> {
    let begin = || {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").args(kinds);
        command
    };
    if begin().arg("true").output().is_ok_and(|output| output.status.success()) {
        return Some(begin());
    }
    let must_run = std::env::var_os("CI").is_some() && kernel_gives_them();
    assert!(!must_run, "`unshare --map-root-user {}` must run here", kinds.join(" "));
    println!("skipped: this system gives a program no namespaces of its own");
    None
}

/// Whether the kernel gives namespaces to users, as far as it tells.
fn kernel_gives_them() -> bool {
    let number = |path: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
    };
    // A container that filters system calls mostly filters these.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_filtered = status.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0'));
    number("user/max_user_namespaces").is_some_and(|most| most > 0)
        && number("kernel/unprivileged_userns_clone") != Some(0)
        && number("kernel/apparmor_restrict_unprivileged_userns").is_none_or(|restricts| restricts == 0)
        && !is_filtered
}
