//! Fills the data folder `FOLDER` with so many conversations, as the end-to-end test of the window needs them, and
//! prints the ids of the long one, of its last message, and of a short one.
#![allow(dead_code, reason = "the tests of this crate use the rest of what they share")]

#[path = "../tests/support/bare.rs"]
mod bare;
#[path = "../tests/support/long_history.rs"]
mod long_history;

use std::path::Path;

#[expect(clippy::print_stdout, reason = "whoever runs it reads the ids")]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, conversations] = words.as_slice() else {
        panic!("usage: long_history FOLDER CONVERSATIONS");
    };
    let conversations = conversations.parse().expect("the second word is a number");
    let made = long_history::fill(Path::new(folder), conversations);
    println!(
        r#"{{"long":"{}","last":"{}","short":"{}","shortLast":"{}"}}"#,
        made.long.id, made.long.last, made.short.id, made.short.last
    );
}
