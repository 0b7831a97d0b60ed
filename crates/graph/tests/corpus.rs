//! The corpora of the fuzz targets, each of which once reached a place that no other did.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Asks `check` of every file of the corpus of this name.
fn replay(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files: Vec<_> = fs::read_dir(folder).expect("the corpus is there").collect();
    assert!(files.len() >= 50, "{} files are no corpus", files.len());
    for file in files {
        check(&fs::read(file.expect("an entry").path()).expect("read"));
    }
}

#[test]
fn what_reached_each_place_of_the_reader_is_read_and_written_as_it_was() {
    replay("read", checks::read);
}

#[test]
fn what_reached_each_place_of_the_preflight_ends_in_findings_or_none() {
    replay("preflight", checks::preflight);
}
