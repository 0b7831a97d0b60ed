//! `test --fuzz`: every fuzz target over its corpus, coverage-guided, for a minute.
//!
//! The targets are plain libFuzzer programs. cargo-fuzz would ask for a nightly compiler because of the
//! sanitizers that it switches on; the coverage alone is a code generation option of every compiler, so a
//! checkout needs a C++ compiler and nothing else. Without AddressSanitizer a target finds panics, endless
//! loops and memory without bound, which is what safe Rust can do wrong.
//!
//! What is committed in `crates/*/fuzz/corpus/TARGET` is where a run begins and is never written to; what
//! runs find besides is kept in `.hearth/fuzz/corpus`, and an input that fails in `.hearth/fuzz/failures`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::Program;
use crate::error::{Error, Result};
use crate::print;
use crate::system;
use crate::workspace::Workspace;

/// How long each target runs (security requirement: at least this long without a finding).
const SECONDS: u32 = 60;
/// The memory a target may take, in MB, and the seconds that one input may take.
const MEMORY: u32 = 512;
const SECONDS_FOR_ONE: u32 = 5;

/// The coverage that libFuzzer steers by, and the checks that a release build leaves out.
const COMPILER_OPTIONS: &str = "--cfg fuzzing -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
     -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// One program that turns bytes into calls of a parser.
#[derive(Debug, PartialEq)]
struct Target {
    /// The folder of its `Cargo.toml`.
    package: PathBuf,
    name: String,
}

/// Builds and runs every target of every crate, one after the other.
///
/// # Errors
/// The first target that does not build or that ends with a finding; libFuzzer has printed it and named the
/// file that repeats it.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    system::ensure(&[system::FUZZ])?;
    let triple = host_triple()?;
    let build_folder = workspace.root().join("target/fuzz");
    let targets = targets(workspace)?;
    let mut packages: Vec<&Path> = targets.iter().map(|target| target.package.as_path()).collect();
    packages.dedup();
    for package in packages {
        Program::cargo()
            .arguments(["build", "--release", "--locked", "--bins", "--target", &triple])
            .argument("--target-dir")
            .argument(&build_folder)
            .folder(package)
            .variable("RUSTFLAGS", COMPILER_OPTIONS)
            .run()?;
    }
    for target in &targets {
        let program = build_folder.join(&triple).join("release").join(&target.name);
        run_target(workspace, target, &program)?;
    }
    Ok(())
}

fn run_target(workspace: &Workspace, target: &Target, program: &Path) -> Result<()> {
    let label = target.label();
    let found = folder(workspace.state().join("fuzz/corpus").join(&label))?;
    let failures = folder(workspace.state().join("fuzz/failures").join(&label))?;
    let committed = target.package.join("corpus").join(&target.name);
    print::step(&format!("Fuzzing {label} for {SECONDS} s"));
    let mut program = Program::new(program)
        .argument(format!("-max_total_time={SECONDS}"))
        .argument(format!("-rss_limit_mb={MEMORY}"))
        .argument(format!("-timeout={SECONDS_FOR_ONE}"))
        // The folder's name is a prefix, so the separator belongs to it.
        .argument(format!("-artifact_prefix={}/", failures.display()))
        .arguments(["-verbosity=0", "-print_final_stats=1"])
        .argument(found);
    if committed.is_dir() {
        program = program.argument(committed);
    }
    program.run()
}

impl Target {
    /// `CRATE-NAME`, for folders and people.
    fn label(&self) -> String {
        let crate_folder = self.package.parent().and_then(Path::file_name).unwrap_or_default();
        format!("{}-{}", crate_folder.to_string_lossy(), self.name)
    }
}

/// The targets of all crates, in the order of their names.
fn targets(workspace: &Workspace) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for crate_folder in entries(&workspace.root().join("crates"))? {
        let package = crate_folder.join("fuzz");
        if !package.join("Cargo.toml").is_file() {
            continue;
        }
        for file in entries(&package.join("fuzz_targets"))? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            targets.push(Target { package: package.clone(), name });
        }
    }
    Ok(targets)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut paths = read
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::file("read", folder)))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
    Ok(path)
}

/// The compiler's own target; naming it keeps the options away from build scripts, which have no fuzzer.
fn host_triple() -> Result<String> {
    let version = Program::new("rustc").argument("-vV").output()?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).ok_or_else(|| Error::Usage("rustc -vV names no host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_each_crates_fuzz_folder_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["graph/fuzz/fuzz_targets/read.rs", "graph/fuzz/fuzz_targets/check.rs", "cli/src/main.rs"]
        {
            let path = folder.path().join("crates").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(folder.path().join("crates/graph/fuzz/Cargo.toml"), "").unwrap();
        let found = targets(&Workspace::at(folder.path())).unwrap();
        let labels: Vec<String> = found.iter().map(Target::label).collect();
        assert_eq!(labels, ["graph-check", "graph-read"]);
    }
}
