//! `cargo xtask setup | run | test | bench | pin-catalog`: every command that a developer of Hearth needs.
//!
//! Each command first does what it depends on and skips what is right already, so all of them can be
//! repeated at any time and answer within seconds when nothing is to be done. What they make lies in
//! `target/`, `ui/node_modules/`, `ui/dist/` and `.hearth/`, all of it outside version control.
//!
//! - `arguments`: the command line
//! - `setup`: `system` packages, the `interface`'s packages, the ONNX `runtime`
//! - `run`: the window, or the terminal chat where there is no display
//! - `test`: every check, in order; `window_test` gives the end-to-end test its display and drivers, `fuzz`
//!   builds and runs the fuzz targets
//! - `bench`: `hearth bench` over model folders, in turn with other programs, as one table; `bench_resume`
//!   measures how soon a conversation goes on after a restart, `bench_history` how quick a long history is,
//!   `bench_download` how quick a download is
//! - `pin_catalog`: the catalogue of models against the hub
//! - `command`, `stamp`, `workspace`, `print`, `error`: what they share

mod arguments;
mod bench;
mod bench_download;
mod bench_history;
mod bench_resume;
mod command;
mod error;
mod fuzz;
mod interface;
mod pin_catalog;
mod print;
mod python;
mod run;
mod runtime;
mod setup;
mod stamp;
mod system;
mod test;
mod window_test;
mod workspace;

use std::process::ExitCode;

use crate::arguments::{Subject, Task};
use crate::error::{Error, Result};
use crate::workspace::Workspace;

fn main() -> ExitCode {
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::failure(&error);
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn perform() -> Result<()> {
    let task = Task::parse(lexopt::Parser::from_env())?;
    let workspace = Workspace::of_this_build()?;
    match task {
        Task::Help(text) => {
            print::text(text);
            Ok(())
        }
        Task::Setup => setup::everything(&workspace),
        Task::Run { program_arguments } => run::run(&workspace, &program_arguments),
        Task::Test(selection) => test::test(&workspace, &selection),
        Task::Bench(plan) => match plan.subject {
            Subject::Speed => bench::bench(&workspace, &plan),
            Subject::Resume => bench_resume::bench(&workspace, &plan),
            Subject::History => bench_history::bench(&workspace),
            Subject::Download => bench_download::bench(&workspace),
        },
        Task::PinCatalog { write } => pin_catalog::pin_catalog(&workspace, write),
    }
}
