//! Compares a catalogue with the hub, and with `--write` fills in the sizes and digests that it does not know.
//! `cargo xtask pin-catalog` runs it.
#![expect(clippy::print_stdout, reason = "this is a program for developers")]

use std::path::PathBuf;
use std::process::ExitCode;

use backend::hub::{Hub, NetworkLedger, NetworkOptions, NetworkSettings, Timing};
use backend::{Catalog, Pins};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: pin_catalog CATALOG [--write]")?);
    let write = arguments.next().is_some_and(|argument| argument == "--write");
    let catalog = Catalog::read(&std::fs::read_to_string(&path)?)?;
    // What a developer asks here is no request of the application: its ledger is thrown away.
    let folder = tempfile::tempdir()?;
    let options = NetworkOptions::of_this_process(&NetworkSettings::default())?;
    let hub = Hub::new(options, NetworkLedger::new(folder.path()), Timing::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pins = runtime.block_on(Pins::of(&catalog, &hub));
    for (id, difference) in &pins.differences {
        println!(
            "{id}: `{}`: the catalogue says {}, the hub says {}",
            difference.path, difference.catalog, difference.hub
        );
    }
    for (id, error) in &pins.failures {
        println!("{id}: {error}");
    }
    let filled = catalog.clone().filled(&pins.listings);
    if filled == catalog {
        println!("nothing is to be filled in");
    } else if write {
        std::fs::write(&path, filled.to_text())?;
        println!("sizes and digests were written to {}", path.display());
    } else {
        println!("sizes or digests can be filled in by --write");
    }
    Ok(if pins.are_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
