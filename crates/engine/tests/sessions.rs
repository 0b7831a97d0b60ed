//! Several sessions stay warm beside each other within a budget.

mod support;

use engine::scripted::{Passes, Scripted, ScriptedDecoder};
use engine::{Cancel, Engine, Finish, Import, KV_BLOCK, ReadAhead, ReuseLimit, TokenId};
use support::scripted::{engine, generate, request};

const ROW: usize = size_of::<TokenId>();

/// An engine that always says the same token, keeps `rows` rows, and tells its passes.
fn engine_of(rows: usize) -> (Engine<ScriptedDecoder>, Passes) {
    let (mut engine, passes) = engine(None, |seen| Scripted::Token(*seen.last().expect("a token was run")));
    engine.set_kv_budget(rows * ROW);
    (engine, passes)
}

/// A prompt of `count` tokens that differs from those of other `kind`s from its first token on.
fn prompt(kind: TokenId, count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|place| 20 + (place * 13 + kind * 101) % 150).collect()
}

fn read(engine: &mut Engine<ScriptedDecoder>, prompt: &[TokenId]) -> Finish {
    let mut request = request(prompt.to_vec());
    request.max_new_tokens = 1;
    generate(engine, &request).0.expect("it answers")
}

#[test]
fn switching_between_conversations_and_back_reads_only_what_is_new() {
    let (mut engine, passes) = engine_of(10_000);
    let conversations: Vec<_> = (0..3).map(|kind| prompt(kind, 900)).collect();
    for conversation in &conversations {
        read(&mut engine, conversation);
    }
    passes.take();
    for (kind, conversation) in conversations.iter().enumerate() {
        let longer = [conversation.as_slice(), &[7; 10]].concat();
        let finish = read(&mut engine, &longer);
        assert_eq!(finish.usage.reused_tokens, 900, "conversation {kind}");
        assert_eq!(finish.usage.reuse_limit, None, "all that was ever read is reused");
        assert_eq!(passes.take(), [10]);
    }
}

#[test]
fn an_edit_far_back_leaves_the_branch_that_it_left_warm() {
    let (mut engine, passes) = engine_of(10_000);
    let first = prompt(1, 1000);
    let edited = [&first[..300], &prompt(2, 500)].concat();
    read(&mut engine, &first);
    let finish = read(&mut engine, &edited);
    assert_eq!(finish.usage.reused_tokens, 300);
    assert_eq!(finish.usage.reuse_limit, Some(ReuseLimit::DiffersAt { token: 300 }));
    passes.take();
    let back = read(&mut engine, &first);
    assert_eq!(back.usage.reused_tokens, 999, "the first branch was left as it was");
    assert_eq!(passes.take(), [1]);
    assert_eq!(read(&mut engine, &edited).usage.reused_tokens, 799);
}

#[test]
fn an_edit_of_the_last_lines_takes_no_second_session() {
    let (mut engine, _) = engine_of(10_000);
    let first = prompt(1, 500);
    read(&mut engine, &first);
    let bytes = engine.kv_bytes();
    read(&mut engine, &[&first[..500 - KV_BLOCK], &prompt(2, KV_BLOCK)].concat());
    assert_eq!(engine.kv_bytes(), bytes, "what is lost is a block at most");
}

#[test]
fn the_budget_holds_and_what_was_used_longest_ago_goes_first() {
    let (mut engine, _) = engine_of(1200);
    for kind in 0..4 {
        read(&mut engine, &prompt(kind, 500));
        assert!(engine.kv_bytes() <= 1200 * ROW, "{} bytes", engine.kv_bytes());
    }
    assert_eq!(engine.warm_tokens(&prompt(3, 500)), 500);
    assert_eq!(engine.warm_tokens(&prompt(2, 500)), 500);
    let finish = read(&mut engine, &prompt(1, 500));
    assert_eq!(finish.usage.reused_tokens, 0);
    assert_eq!(finish.usage.reuse_limit, Some(ReuseLimit::Evicted));
}

#[test]
fn what_evicted_sessions_had_read_can_be_forgotten() {
    let (mut engine, _) = engine_of(1200);
    for kind in 1..=3 {
        read(&mut engine, &prompt(kind, 500));
    }
    engine.forget_evicted();
    let again = read(&mut engine, &prompt(1, 500));
    assert_eq!(
        again.usage.reuse_limit,
        Some(ReuseLimit::DiffersAt { token: 0 }),
        "nobody knows that it was read"
    );
    assert_eq!(read(&mut engine, &prompt(3, 500)).usage.reused_tokens, 499, "the others are warm");
}

#[test]
fn without_a_budget_the_session_used_last_stays() {
    let (mut engine, _) = engine_of(0);
    let finish = read(&mut engine, &prompt(1, 800));
    assert_eq!(finish.usage.reuse_limit, Some(ReuseLimit::NothingKept));
    assert_eq!(read(&mut engine, &prompt(1, 800)).usage.reused_tokens, 799);
    let other = read(&mut engine, &prompt(2, 800));
    assert_eq!(other.usage.reuse_limit, Some(ReuseLimit::DiffersAt { token: 0 }));
    assert_eq!(read(&mut engine, &prompt(1, 800)).usage.reused_tokens, 0);
}

#[test]
fn blocks_make_a_session_that_the_next_prompt_goes_on_from() {
    let (mut engine, passes) = engine_of(10_000);
    let prompt = prompt(1, 700);
    read(&mut engine, &prompt);
    let session = engine.last_session().expect("one was used");
    assert_eq!(engine.session_tokens(session), Some(prompt.as_slice()));
    let block = |start| {
        let block = engine.export_block(session, start..start + KV_BLOCK).expect("copies");
        block.expect("the rows are there")
    };
    let blocks = [block(0), block(KV_BLOCK)];
    engine.forget();
    assert!(engine.export_block(session, 0..1).expect("no error").is_none(), "the session has gone");
    passes.take();
    let restored = engine.restore(2 * KV_BLOCK, &mut blocks.into_iter()).expect("no error");
    assert!(matches!(restored, Import::Whole(512)), "{restored:?}");
    let finish = read(&mut engine, &prompt);
    assert_eq!((finish.usage.reused_tokens, passes.take()), (512, vec![188]));
    assert_eq!(finish.tokens, [prompt[699]]);
}

#[test]
fn reading_ahead_brings_a_session_pass_by_pass_to_what_the_next_prompt_begins_with() {
    let (mut engine, passes) = engine_of(10_000);
    let said = prompt(1, 500);
    let beginning = [&said[..400], &prompt(2, 70)].concat();
    read(&mut engine, &said);
    let session = engine.last_session().expect("one was used");
    passes.take();
    let mut left = Vec::new();
    loop {
        match engine.read_ahead(session, &beginning, &Cancel::new()).expect("it reads") {
            ReadAhead::Left(tokens) => left.push(tokens),
            outcome => break assert_eq!(outcome, ReadAhead::Whole),
        }
    }
    assert_eq!((left, passes.take()), (vec![38, 6], vec![32, 32, 6]));
    assert_eq!(engine.session_tokens(session), Some(beginning.as_slice()));
    let outcome = engine.read_ahead(session, &beginning, &Cancel::new()).expect("it reads");
    assert_eq!((outcome, passes.take()), (ReadAhead::Whole, vec![]));
    let finish = read(&mut engine, &[&beginning[..], &[9; 4]].concat());
    assert_eq!((finish.usage.reused_tokens, finish.usage.reuse_limit), (470, None));
}

#[test]
fn a_prompt_that_comes_before_all_was_read_ahead_is_told_where_the_reply_was_rewritten() {
    let (mut engine, _) = engine_of(10_000);
    let said = prompt(1, 500);
    let beginning = [&said[..400], &prompt(2, 70)].concat();
    read(&mut engine, &said);
    let session = engine.last_session().expect("one was used");
    engine.read_ahead(session, &beginning, &Cancel::new()).expect("it reads");
    let cancelled = Cancel::new();
    cancelled.cancel();
    let outcome = engine.read_ahead(session, &beginning, &cancelled).expect("a stop is an outcome");
    assert_eq!(outcome, ReadAhead::Cancelled);
    let finish = read(&mut engine, &[&beginning[..], &[9; 4]].concat());
    assert_eq!(finish.usage.reused_tokens, 432);
    assert_eq!(finish.usage.reuse_limit, Some(ReuseLimit::DiffersAt { token: 400 }));
    engine.forget();
    let outcome = engine.read_ahead(session, &beginning, &Cancel::new()).expect("no error");
    assert_eq!(outcome, ReadAhead::Ended, "the session has gone");
}
