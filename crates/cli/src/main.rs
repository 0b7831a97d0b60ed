//! Hearth in the terminal: one subcommand a file, thin over `backend`.
//!
//! # A tour
//! - `arguments` is the command line; `run` opens the application for one run of the program.
//! - `chat`, `complete`, `conversations`, `embed`, `models`, `prepare` (of `models`), `doctor` and `bench` are one
//!   subcommand each, `resume` is `bench --resume`.
//! - `library` is `models` beyond its list: fetching, checking, importing; `show` says what is known of a model;
//!   `model_settings` sets and shows what a model takes, `library_move` moves all of them, `transfer` tells how far
//!   work is; `token` is the hub's access token.
//! - `print` is the only printer; `lines` are the JSON lines; `interrupt` is Ctrl-C.
//! - `error` says what went wrong, its code, what to do, and the exit code.

mod arguments;
mod bench;
mod chat;
mod complete;
mod conversations;
mod doctor;
mod embed;
mod error;
mod input;
mod interrupt;
mod library;
mod library_move;
mod lines;
mod model_settings;
mod models;
mod prepare;
mod print;
mod resume;
mod run;
mod show;
mod token;
mod transfer;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, BenchArguments, Command, ModelsCommand};
use crate::error::Result;
use crate::print::Printer;
use crate::run::Run;

fn main() -> ExitCode {
    // SAFETY: this is the first statement of the program, so no other thread reads the environment.
    #[expect(unsafe_code, reason = "ONNX Runtime reads this before its API can be told")]
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
    let arguments = Arguments::parse();
    let mut printer = Printer::new(arguments.options.json);
    log_to_stderr(&printer);
    let result = obey(&arguments, &mut printer);
    printer.conclude(result)
}

fn obey(arguments: &Arguments, printer: &mut Printer) -> Result<()> {
    let options = &arguments.options;
    match &arguments.command {
        Command::Chat(command) => chat::chat(&Run::open(options)?, options, command, printer),
        Command::Complete(command) => complete::complete(&Run::open(options)?, options, command, printer),
        Command::Conversations { command } => {
            let run = if command.only_reads() { Run::open_to_read(options) } else { Run::open(options) };
            conversations::obey(&run?, options, command, printer)
        }
        Command::Embed(command) => embed::embed(&Run::open(options)?, command, printer),
        Command::Models { command } => manage(&Run::open(options)?, command, printer),
        Command::Doctor => doctor::doctor(options, printer),
        Command::Bench(BenchArguments { resume: Some(tokens), .. }) => {
            resume::resume(&Run::open(options)?, options, tokens.get(), printer)
        }
        Command::Bench(command) => bench::bench(&Run::open(options)?, options, command, printer),
    }
}

fn manage(run: &Run, command: &ModelsCommand, printer: &mut Printer) -> Result<()> {
    match command {
        ModelsCommand::List { available: false } => models::list(run, printer),
        ModelsCommand::List { available: true } => show::list_available(run, printer),
        ModelsCommand::Search { words, limit } => library::search(run, &words.join(" "), *limit, printer),
        ModelsCommand::Add(arguments) => library::add(run, arguments, printer),
        ModelsCommand::Show { name } => show::show(run, name, printer),
        ModelsCommand::Verify { name } => library::verify(run, name, printer),
        ModelsCommand::Repair { name } => library::repair(run, name, printer),
        ModelsCommand::Remove { name } => library::remove(run, name, printer),
        ModelsCommand::Set { name, values, reset } => model_settings::set(run, name, values, *reset, printer),
        ModelsCommand::Move { folder, copy } => library_move::move_models(run, folder, *copy, printer),
        ModelsCommand::Refresh { own: true, .. } => library::leave_refreshed(run, printer),
        ModelsCommand::Refresh { address, .. } => library::refresh(run, address.as_deref(), printer),
        ModelsCommand::Token { command } => token::obey(run, *command, printer),
        ModelsCommand::Prepare(command) => prepare::prepare(run, command, printer),
        ModelsCommand::Import { folder, name, link } => {
            library::import(run, folder, name.as_deref(), *link, printer)
        }
    }
}

/// Logs go to stderr, so that they never mix with what the program was asked for.
fn log_to_stderr(printer: &Printer) {
    // What fails in the backend is told as this program's own error, once.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,backend=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(printer.colours_stderr())
        .init();
}
