//! Any bytes as a model that is read and written.
#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target asks one of them")]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::read(bytes));
