//! Rows of a KV cache leave a session as blocks and come back, over every form of graph.

mod support;

use std::path::{Path, PathBuf};

use engine::onnx::OnnxDecoder;
use engine::{
    Decoder, Import, KV_BLOCK, KvBackend, KvBlock, KvElement, KvRefusal, KvTensor, Sampling, Session, TokenId,
};
use support::onnx::{continue_with, feed, load};
use support::{fixtures, tiny};

const CONTEXT: usize = 512;

/// The tiny model through both back-ends and, where they are, the fixtures in every form.
fn each_model(mut check: impl FnMut(&str, OnnxDecoder)) {
    for backend in [KvBackend::SharedBuffer, KvBackend::HandOver] {
        check(&format!("tiny, {backend}"), load(&tiny(), Some(backend), CONTEXT));
    }
    let Some(fixtures) = fixtures() else { return };
    let mut forms: Vec<PathBuf> = std::fs::read_dir(fixtures.join("models"))
        .expect("the fixtures have models")
        .map(|entry| entry.expect("an entry").path())
        .filter(|folder| folder.join("model.onnx").is_file())
        .collect();
    forms.sort();
    assert_eq!(forms.len(), 10, "every form is there");
    for form in forms {
        check(&name(&form), load(&form, None, CONTEXT));
    }
}

fn name(folder: &Path) -> String {
    folder.file_name().expect("a folder has a name").to_string_lossy().into_owned()
}

/// Tokens without a pattern that every model here knows.
fn text(count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|place| 3 + (place * 7919 + place * place * 31) % 190).collect()
}

fn blocks(decoder: &OnnxDecoder, session: &Session<OnnxDecoder>, size: usize) -> Vec<KvBlock> {
    let rows = session.seen().len();
    (0..rows)
        .step_by(size)
        .map(|start| {
            let block = session.export(decoder, start..rows.min(start + size)).expect("copies");
            block.expect("the rows are there")
        })
        .collect()
}

fn restore(decoder: &OnnxDecoder, rows: usize, blocks: Vec<KvBlock>) -> Import<Session<OnnxDecoder>> {
    Session::restore(decoder, rows, &mut blocks.into_iter()).expect("no error")
}

fn whole(import: Import<Session<OnnxDecoder>>) -> Session<OnnxDecoder> {
    match import {
        Import::Whole(session) => session,
        Import::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

/// A session that has read the first `rows` tokens of `text`.
fn read(decoder: &mut OnnxDecoder, text: &[TokenId], rows: usize) -> Session<OnnxDecoder> {
    let mut session = Session::new(decoder).expect("starts");
    feed(decoder, &mut session, &text[..rows], KV_BLOCK);
    session
}

#[test]
fn an_imported_session_answers_bit_for_bit_as_the_one_that_read() {
    each_model(|model, mut decoder| {
        let text = text(480);
        for (rows, size) in [(KV_BLOCK, KV_BLOCK), (300, KV_BLOCK), (300, 100), (1, 1)] {
            let mut fresh = read(&mut decoder, &text, rows);
            let blocks = blocks(&decoder, &fresh, size);
            let mut imported = whole(restore(&decoder, rows, blocks));
            assert_eq!(imported.seen(), &text[..rows], "{model}");
            let of_fresh = feed(&mut decoder, &mut fresh, &text[rows..], KV_BLOCK);
            let of_imported = feed(&mut decoder, &mut imported, &text[rows..], KV_BLOCK);
            let same = of_fresh.iter().zip(&of_imported).all(|(one, other)| one.to_bits() == other.to_bits());
            assert!(same, "{model}: the logits differ behind {rows} rows in blocks of {size}");
            let sampling = Sampling::default();
            let one = continue_with(&mut decoder, &mut fresh, &[5], 20, &sampling);
            let other = continue_with(&mut decoder, &mut imported, &[5], 20, &sampling);
            assert_eq!(one, other, "{model} behind {rows} rows in blocks of {size}");
        }
    });
}

#[test]
fn rows_that_were_generated_come_back_as_they_were() {
    each_model(|model, mut decoder| {
        let mut session = Session::new(&decoder).expect("starts");
        let sampling = Sampling::default();
        continue_with(&mut decoder, &mut session, &text(200), 100, &sampling);
        let kept = blocks(&decoder, &session, KV_BLOCK);
        let again = whole(restore(&decoder, session.seen().len(), kept.clone()));
        assert_eq!(blocks(&decoder, &again, KV_BLOCK), kept, "{model}");
    });
}

#[test]
fn a_session_restored_from_fewer_blocks_than_announced_ends_behind_the_last() {
    each_model(|model, mut decoder| {
        let text = text(400);
        let session = read(&mut decoder, &text, 400);
        let mut first = blocks(&decoder, &session, 100);
        first.truncate(2);
        let mut imported = whole(restore(&decoder, 400, first));
        assert_eq!(imported.seen(), &text[..200], "{model}");
        let mut fresh = read(&mut decoder, &text, 200);
        let of_fresh = feed(&mut decoder, &mut fresh, &text[200..], KV_BLOCK);
        let of_imported = feed(&mut decoder, &mut imported, &text[200..], KV_BLOCK);
        assert!(support::onnx::difference(&of_fresh, &of_imported) < 0.15, "{model}");
    });
}

#[test]
fn blocks_that_do_not_fit_are_refused_and_none_of_them_is_taken() {
    each_model(|model, mut decoder| {
        let session = read(&mut decoder, &text(300), 300);
        let good = blocks(&decoder, &session, 100);
        let refused = |change: &dyn Fn(&mut Vec<KvBlock>), rows: usize| {
            let mut blocks = good.clone();
            change(&mut blocks);
            match restore(&decoder, rows, blocks) {
                Import::Refused(refusal) => refusal,
                Import::Whole(_) => panic!("{model}: taken"),
            }
        };
        let place = KvRefusal::Place { expected: 100, found: 200 };
        assert_eq!(refused(&|blocks| blocks.swap(1, 2), 300), place, "{model}");
        let size = good[2].data.len() - 1;
        let shorter = |blocks: &mut Vec<KvBlock>| blocks[2].data.truncate(size);
        assert_eq!(refused(&shorter, 300), KvRefusal::Size { rows: 100, bytes: size }, "{model}");
        let longer = |blocks: &mut Vec<KvBlock>| blocks[0].data.push(0);
        assert!(matches!(refused(&longer, 300), KvRefusal::Size { .. }), "{model}");
        let no_tokens = |blocks: &mut Vec<KvBlock>| blocks[0].tokens.clear();
        assert!(matches!(refused(&no_tokens, 300), KvRefusal::Size { .. }), "{model}");
        let fewer = |blocks: &mut Vec<KvBlock>| blocks[1].layout.tensors.truncate(1);
        assert_eq!(refused(&fewer, 300), KvRefusal::Layout, "{model}");
        let other = |blocks: &mut Vec<KvBlock>| {
            for tensor in &mut blocks[0].layout.tensors {
                *tensor = KvTensor { element: flipped(tensor.element), ..*tensor };
            }
        };
        assert_eq!(refused(&other, 300), KvRefusal::Layout, "{model}");
        assert_eq!(refused(&|_| {}, 250), KvRefusal::NoRoom { rows: 250 }, "{model}");
        assert_eq!(refused(&|_| {}, CONTEXT + 1), KvRefusal::NoRoom { rows: CONTEXT }, "{model}");
    });
}

fn flipped(element: KvElement) -> KvElement {
    match element {
        KvElement::F32 => KvElement::F16,
        KvElement::F16 => KvElement::F32,
    }
}

#[test]
fn a_block_takes_the_bytes_that_its_rows_take_in_the_cache() {
    each_model(|model, mut decoder| {
        let session = read(&mut decoder, &text(3), 3);
        let block = session.export(&decoder, 1..3).expect("copies").expect("the rows are there");
        assert_eq!(block.data.len(), 2 * decoder.spec().kv_bytes_per_token, "{model}");
        assert!(
            session.export(&decoder, 1..4).expect("no error").is_none(),
            "{model}: rows that are not there"
        );
        assert!(session.export(&decoder, 2..2).expect("no error").is_none(), "{model}: no rows");
    });
}
