//! What sessions take while nobody uses them: their KV rows, and little else. Alone in its process, whose memory it
//! reads.
#![cfg(target_os = "linux")]

mod support;

use std::fs;

use engine::onnx::OnnxDecoder;
use engine::{Decoder, KvBackend, Session, TokenId};
use graph::family::Family;
use prost::Message;
use support::onnx::{feed, load_graph_of};
use tempfile::TempDir;

const SESSIONS: usize = 16;
const CONTEXT: usize = 1024;
const CHUNK: usize = 256;

/// The memory of this process that lies in the machine's, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

fn load(family: &Family) -> (TempDir, OnnxDecoder) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    fs::write(&path, family.model().encode_to_vec()).expect("it is written");
    let decoder = load_graph_of(&path, Some(KvBackend::HandOver), CONTEXT, family.head_size);
    (folder, decoder)
}

fn text(count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|place| 3 + place * 7 % 90).collect()
}

/// A session that has read `tokens`, the last one alone: behind it memory that larger passes took goes back.
fn read(decoder: &mut OnnxDecoder, tokens: &[TokenId]) -> Session<OnnxDecoder> {
    let mut session = Session::new(decoder).expect("a session starts");
    let (last, before) = tokens.split_last().expect("there are tokens");
    feed(decoder, &mut session, before, CHUNK);
    feed(decoder, &mut session, &[*last], 1);
    session
}

/// What `SESSIONS` sessions take beside a first one, and the bytes of which they know.
fn taken(
    decoder: &mut OnnxDecoder,
    session: impl Fn(&mut OnnxDecoder) -> Session<OnnxDecoder>,
) -> (u64, u64) {
    let _first = session(decoder);
    let before = resident();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| session(decoder)).collect();
    let known = sessions.iter().map(|session| session.bytes() as u64).sum();
    (resident().saturating_sub(before), known)
}

#[test]
fn an_idle_session_takes_its_rows_and_neither_older_ones_nor_logits() {
    let wide = Family { kv_heads: 16, group: 1, head_size: 64, ..Family::default() };
    let (_folder, mut decoder) = load(&wide);
    assert_eq!(decoder.spec().kv_bytes_per_token, 16 << 10);
    let (taken_whole, known) = taken(&mut decoder, |decoder| read(decoder, &text(CONTEXT)));
    println!("{SESSIONS} sessions of {known} bytes take {taken_whole}");
    let (taken_cut, known_cut) = taken(&mut decoder, |decoder| {
        let mut session = read(decoder, &text(CONTEXT));
        session.truncate(64).expect("it is cut");
        session
    });
    println!("{SESSIONS} sessions cut to {known_cut} bytes take {taken_cut}");

    let many_words = Family { vocabulary: 20_000, ..Family::default() };
    let (_folder, mut decoder) = load(&many_words);
    let logits = (CHUNK * many_words.vocabulary * size_of::<f32>()) as u64;
    let (taken_logits, known_logits) = taken(&mut decoder, |decoder| {
        let mut session = Session::new(decoder).expect("a session starts");
        feed(decoder, &mut session, &text(CHUNK), CHUNK);
        session
    });
    println!("{SESSIONS} sessions of {known_logits} bytes take {taken_logits} beside logits of {logits}");

    // What ONNX Runtime keeps for its passes is taken once, however many sessions there are.
    assert!(taken_whole < known * 7 / 4, "{taken_whole} bytes");
    assert!(taken_cut < known * 3 / 4, "{taken_cut} bytes");
    assert!(taken_logits < logits + known_logits, "{taken_logits} bytes");
}
