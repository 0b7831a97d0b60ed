//! `test`: every check, the cheap ones first, up to the first that fails.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::arguments::Selection;
use crate::command::Program;
use crate::error::{Error, Result};
use crate::python::Python;
use crate::workspace::Workspace;
use crate::{fuzz, interface, print, runtime, system, window_test};

/// How a check ended that did not fail.
pub(crate) enum Outcome {
    Passed,
    /// It cannot run on this machine, and why.
    Skipped(&'static str),
}

struct Check {
    name: &'static str,
    what: &'static str,
    perform: fn(&Workspace, &Selection) -> Result<Outcome>,
}

/// Each check makes ready what it needs itself, so any of them can run alone.
const CHECKS: [Check; 10] = [
    Check {
        name: "format",
        what: "the formatting of the Rust sources",
        perform: |workspace, _| check_format(workspace),
    },
    Check {
        name: "recipe",
        what: "the recipe of the built-in model",
        perform: |workspace, _| check_recipe(workspace),
    },
    Check {
        name: "interface-lint",
        what: "the lints and the formatting of the interface",
        perform: |workspace, _| interface_script(workspace, "lint"),
    },
    Check {
        name: "interface-types",
        what: "the types of the interface",
        perform: |workspace, _| interface_script(workspace, "check"),
    },
    Check {
        name: "interface-tests",
        what: "the unit tests of the interface",
        perform: |workspace, _| interface_script(workspace, "test"),
    },
    Check {
        name: "interface-build",
        what: "the build of the interface",
        perform: |workspace, _| build_interface(workspace),
    },
    Check {
        name: "lint",
        what: "the lints of the Rust sources",
        perform: |workspace, _| check_lints(workspace),
    },
    Check { name: "rust-tests", what: "every Rust test", perform: run_rust_tests },
    Check {
        name: "window",
        what: "the real window, end to end",
        perform: |workspace, selection| window_test::run(workspace, selection.screenshots),
    },
    Check {
        name: FUZZ,
        what: "each fuzz target for a minute; only with --fuzz or by name",
        perform: |workspace, _| fuzz::run(workspace).map(|()| Outcome::Passed),
    },
];

/// The check that takes minutes whatever was changed, and so runs only when it is asked for.
const FUZZ: &str = "fuzz";

/// Runs the selected checks and prints how long each took.
///
/// # Errors
/// [`Error::Check`] names the first check that failed, after its own error was printed;
/// [`Error::Usage`] for a name that no check has.
pub(crate) fn test(workspace: &Workspace, selection: &Selection) -> Result<()> {
    let checks = selected(selection)?;
    if selection.list {
        checks.iter().for_each(|check| print::text(&format!("{:16} {}", check.name, check.what)));
        return Ok(());
    }
    let mut summary = Vec::new();
    let begin = Instant::now();
    for check in checks {
        print::step(&format!("Checking {} ({})", check.what, check.name));
        let begin_of_check = Instant::now();
        let outcome = (check.perform)(workspace, selection);
        let taken = begin_of_check.elapsed();
        match outcome {
            Ok(Outcome::Passed) => summary.push(line(check.name, taken, "passed")),
            Ok(Outcome::Skipped(reason)) => {
                print::text(&format!("Skipped: {reason}"));
                summary.push(line(check.name, taken, &format!("skipped: {reason}")));
            }
            Err(error) => {
                print::failure(&error);
                summary.push(line(check.name, taken, "FAILED"));
                print_summary(&summary, begin.elapsed());
                return Err(Error::Check(check.name));
            }
        }
    }
    print_summary(&summary, begin.elapsed());
    Ok(())
}

fn selected(selection: &Selection) -> Result<Vec<&'static Check>> {
    let names = &selection.only;
    if let Some(unknown) = names.iter().find(|name| CHECKS.iter().all(|check| check.name != **name)) {
        let known = CHECKS.map(|check| check.name).join(", ");
        return Err(Error::Usage(format!("there is no check `{unknown}`; there are: {known}")));
    }
    let is_named = |check: &Check| names.iter().any(|name| name == check.name);
    let is_selected = |check: &Check| match check.name {
        FUZZ => selection.fuzz || is_named(check),
        _ => names.is_empty() || is_named(check),
    };
    Ok(CHECKS.iter().filter(|check| is_selected(check)).collect())
}

fn line(name: &str, taken: Duration, outcome: &str) -> String {
    format!("{name:16} {:>12}  {outcome}", print::duration(taken))
}

fn print_summary(lines: &[String], taken: Duration) {
    print::text("");
    lines.iter().for_each(|line| print::text(line));
    print::text(&format!("{:16} {:>12}", "all", print::duration(taken)));
}

fn check_format(workspace: &Workspace) -> Result<Outcome> {
    Program::cargo().arguments(["fmt", "--all", "--check"]).folder(workspace.root()).run()?;
    Ok(Outcome::Passed)
}

fn check_recipe(workspace: &Workspace) -> Result<Outcome> {
    Python::find()?
        .program()
        .arguments(["-m", "unittest", "discover", "--quiet", "--start-directory", "tests"])
        .folder(&workspace.root().join("models/ember/recipe"))
        .run()?;
    Ok(Outcome::Passed)
}

fn interface_script(workspace: &Workspace, name: &str) -> Result<Outcome> {
    interface::ensure_packages(workspace)?;
    interface::script(&workspace.interface(), name)?;
    Ok(Outcome::Passed)
}

fn build_interface(workspace: &Workspace) -> Result<Outcome> {
    interface::ensure_built(workspace)?;
    Ok(Outcome::Passed)
}

fn check_lints(workspace: &Workspace) -> Result<Outcome> {
    prepare_rust(workspace)?;
    Program::cargo()
        .arguments(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
        .folder(workspace.root())
        .run()?;
    Ok(Outcome::Passed)
}

fn run_rust_tests(workspace: &Workspace, selection: &Selection) -> Result<Outcome> {
    let library = prepare_rust(workspace)?;
    let mut tests = Program::cargo()
        .arguments(["test", "--workspace", "--locked", "--no-fail-fast"])
        .folder(workspace.root())
        .variable(runtime::VARIABLE, library);
    for (variable, number) in repetitions(selection.nightly) {
        // Whoever wants another number has said so.
        if std::env::var_os(variable).is_none() {
            tests = tests.variable(variable, number);
        }
    }
    tests.run()?;
    Ok(Outcome::Passed)
}

/// How often tests try what they try by chance, by the variables that tell them. Without these a developer's
/// `cargo test` tries less.
fn repetitions(nightly: bool) -> Vec<(&'static str, &'static str)> {
    if nightly {
        return vec![
            ("HEARTH_KILLS", "10000"),
            ("HEARTH_FLIPS", "20000"),
            ("HEARTH_CUTS", "4000"),
            ("HEARTH_NIGHTLY", "1"),
        ];
    }
    vec![("HEARTH_KILLS", "300"), ("HEARTH_FLIPS", "1000"), ("HEARTH_CUTS", "200")]
}

/// The whole workspace compiles only with the web view's libraries and a built interface to embed.
pub(crate) fn prepare_rust(workspace: &Workspace) -> Result<PathBuf> {
    system::ensure(&[system::WINDOW])?;
    interface::ensure_built(workspace)?;
    runtime::ensure(workspace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str]) -> Selection {
        Selection { only: only.iter().map(|name| (*name).to_owned()).collect(), ..Selection::default() }
    }

    fn names(selection: &Selection) -> Vec<&'static str> {
        selected(selection).unwrap().iter().map(|check| check.name).collect()
    }

    #[test]
    fn named_checks_run_in_their_fixed_order_and_no_name_means_all_that_end_soon() {
        assert_eq!(names(&selection(&["window", "format"])), ["format", "window"]);
        let (fuzz, others) = CHECKS.split_last().unwrap();
        assert_eq!(fuzz.name, FUZZ);
        assert!(names(&selection(&[])).into_iter().eq(others.iter().map(|check| check.name)));
    }

    #[test]
    fn fuzzing_runs_by_its_name_and_beside_whatever_else_is_asked_for() {
        assert_eq!(names(&selection(&["fuzz"])), ["fuzz"]);
        let all = Selection { fuzz: true, ..selection(&[]) };
        assert_eq!(names(&all), CHECKS.map(|check| check.name));
        assert_eq!(names(&Selection { fuzz: true, ..selection(&["format"]) }), ["format", "fuzz"]);
    }

    #[test]
    fn a_nightly_run_tries_each_thing_more_often() {
        let (every, nightly) = (repetitions(false), repetitions(true));
        for (variable, number) in every {
            let often = nightly.iter().find(|(name, _)| *name == variable).map(|(_, number)| number.len());
            assert!(often > Some(number.len()), "{variable}");
        }
    }

    #[test]
    fn an_unknown_check_is_refused_before_any_check_runs() {
        let refused = selected(&selection(&["format", "everything"]));
        assert!(matches!(refused, Err(Error::Usage(message)) if message.contains("everything")));
    }
}
