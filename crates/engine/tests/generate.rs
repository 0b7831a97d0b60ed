//! Turns of the engine over a decoder whose answers are written here.

mod support;

use engine::scripted::Scripted;
use engine::{Error, FinishReason, Message, Sampling, TokenId};
use support::scripted::{
    answering, ember_text, end_of_turn, engine, generate, ids, prefill, prompt, request, text,
};

const ANSWER: &str = "Hearth runs a model on this computer.";

fn question() -> Vec<Message> {
    vec![Message::user("What is Hearth?")]
}

#[test]
fn a_turn_is_read_once_and_answered_token_by_token() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let prompt = prompt(&engine, &question());
    let (finish, told) = generate(&mut engine, &request(prompt.clone()));
    let finish = finish.expect("the reply is made");
    assert_eq!(finish.reason, FinishReason::EndOfTurn);
    assert_eq!(finish.text, ANSWER);
    assert_eq!(text(&told), ANSWER, "the pieces are the text");
    assert_eq!(finish.tokens, ids(ANSWER), "the ids are kept, without the end of the turn");
    assert_eq!(finish.usage.prompt_tokens, prompt.len());
    assert_eq!(finish.usage.reused_tokens, 0);
    assert_eq!(finish.usage.new_tokens, ids(ANSWER).len() + 1, "the end of the turn was generated too");
    let mut expected = vec![prompt.len()];
    expected.resize(1 + finish.tokens.len(), 1);
    assert_eq!(passes.take(), expected);
    assert_eq!(engine.seen(), [prompt, finish.tokens].concat());
}

#[test]
fn a_second_turn_runs_only_the_new_tokens() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER, "You are welcome."]));
    let mut messages = question();
    let first = prompt(&engine, &messages);
    let reply = generate(&mut engine, &request(first.clone())).0.expect("the reply is made");
    passes.take();
    messages.push(Message { tokens: Some(reply.tokens.clone()), ..Message::assistant(reply.text) });
    messages.push(Message::user("Thank you!"));
    let second = prompt(&engine, &messages);
    let known = [first, reply.tokens].concat();
    assert!(second.starts_with(&known), "the prompt goes on from what the cache holds");
    let finish = generate(&mut engine, &request(second.clone())).0.expect("the reply is made");
    assert_eq!(finish.usage.reused_tokens, known.len());
    assert_eq!(passes.take()[0], second.len() - known.len());
    assert_eq!(finish.text, "You are welcome.");
}

#[test]
fn the_same_prompt_again_runs_one_token() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let prompt = prompt(&engine, &question());
    let cold = generate(&mut engine, &request(prompt.clone())).0.expect("the reply is made");
    passes.take();
    let warm = generate(&mut engine, &request(prompt.clone())).0.expect("the reply is made");
    assert_eq!(warm.usage.reused_tokens, prompt.len() - 1, "logits exist only after a token was run");
    assert_eq!(passes.take()[0], 1);
    assert_eq!(warm.tokens, cold.tokens);
}

#[test]
fn a_prompt_that_parts_from_what_was_seen_reuses_what_they_share() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let first = prompt(&engine, &question());
    generate(&mut engine, &request(first.clone())).0.expect("the reply is made");
    passes.take();
    let second = prompt(&engine, &[Message::user("What is Ember?")]);
    let shared = first.iter().zip(&second).take_while(|(left, right)| left == right).count();
    let finish = generate(&mut engine, &request(second.clone())).0.expect("the reply is made");
    assert!(shared > 0, "the two begin alike");
    assert_eq!(finish.usage.reused_tokens, shared);
    assert_eq!(passes.take()[0], second.len() - shared);
}

#[test]
fn after_forgetting_everything_is_read_again() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let prompt = prompt(&engine, &question());
    generate(&mut engine, &request(prompt.clone())).0.expect("the reply is made");
    passes.take();
    assert!(engine.kv_bytes() > 0);
    engine.forget();
    assert!(engine.seen().is_empty());
    assert_eq!(engine.kv_bytes(), 0);
    let finish = generate(&mut engine, &request(prompt.clone())).0.expect("the reply is made");
    assert_eq!(finish.usage.reused_tokens, 0);
    assert_eq!(passes.take()[0], prompt.len());
}

#[test]
fn every_stop_id_ends_a_reply_and_is_no_part_of_it() {
    let stops = ember_text().stop_ids;
    assert!(stops.len() > 1, "the built-in model names two");
    let letter = ids("a")[0];
    for stop in stops {
        let script = move |seen: &[TokenId]| Scripted::Token(if seen.len() < 6 { letter } else { stop });
        let (mut engine, _) = engine(None, script);
        let finish = generate(&mut engine, &request(vec![5; 3])).0.expect("the reply is made");
        assert_eq!(finish.reason, FinishReason::EndOfTurn, "{stop}");
        assert_eq!(finish.tokens, vec![letter; 3], "{stop}");
    }
}

#[test]
fn a_measurement_goes_on_behind_the_end_of_the_turn() {
    let end = end_of_turn();
    let (mut engine, _) = engine(None, move |_| Scripted::Token(end));
    let request = engine::Request { ignore_end_of_turn: true, max_new_tokens: 7, ..request(vec![5; 3]) };
    let finish = generate(&mut engine, &request).0.expect("the reply is made");
    assert_eq!(finish.reason, FinishReason::MaxTokens);
    assert_eq!(finish.tokens.len(), 7);
    assert_eq!(finish.text, "", "control tokens are never shown");
}

#[test]
fn a_stop_string_ends_the_reply_before_it_and_nothing_of_it_is_shown() {
    let (mut engine, _) = engine(None, answering(&["one two STOP three"]));
    let request = engine::Request { stop: vec!["STOP".into()], ..request(prompt(&engine, &question())) };
    let (finish, told) = generate(&mut engine, &request);
    let finish = finish.expect("the reply is made");
    assert_eq!(finish.reason, FinishReason::StopString);
    assert_eq!(finish.text, "one two ");
    assert_eq!(text(&told), "one two ");
    assert!(ids("one two STOP three").starts_with(&finish.tokens));
}

#[test]
fn what_only_begins_as_a_stop_string_is_shown_when_it_goes_on_otherwise() {
    for (answer, stop) in [("one STONE", "STOP"), ("the end ST", "STOP")] {
        let (mut engine, _) = engine(None, answering(&[answer]));
        let request = engine::Request { stop: vec![stop.into()], ..request(prompt(&engine, &question())) };
        let (finish, told) = generate(&mut engine, &request);
        let finish = finish.expect("the reply is made");
        assert_eq!(finish.reason, FinishReason::EndOfTurn, "{answer}");
        assert_eq!(finish.text, answer);
        assert_eq!(text(&told), answer);
    }
}

#[test]
fn a_reply_ends_at_the_most_tokens_asked_for() {
    for most in 1..5 {
        let (mut engine, _) = engine(None, answering(&[ANSWER]));
        let request = engine::Request { max_new_tokens: most, ..request(prompt(&engine, &question())) };
        let finish = generate(&mut engine, &request).0.expect("the reply is made");
        assert_eq!(finish.reason, FinishReason::MaxTokens);
        assert_eq!(finish.tokens, ids(ANSWER)[..most]);
        assert_eq!(finish.usage.new_tokens, most);
    }
}

#[test]
fn a_reply_of_no_tokens_runs_nothing_and_keeps_what_the_prompt_shares() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let prompt = prompt(&engine, &question());
    let nothing = engine::Request { max_new_tokens: 0, ..request(prompt.clone()) };
    let finish = generate(&mut engine, &nothing).0.expect("the reply is made");
    assert_eq!((finish.reason, finish.text.as_str()), (FinishReason::MaxTokens, ""));
    assert!(passes.take().is_empty());
    generate(&mut engine, &request(prompt.clone())).0.expect("the reply is made");
    generate(&mut engine, &nothing).0.expect("the reply is made");
    assert_eq!(engine.seen(), &prompt[..prompt.len() - 1]);
}

#[test]
fn prefill_runs_in_chunks_of_256_and_tells_of_each() {
    let end = end_of_turn();
    let (mut engine, passes) = engine(None, move |_| Scripted::Token(end));
    let (finish, told) = generate(&mut engine, &request(vec![5; 600]));
    finish.expect("the reply is made");
    assert_eq!(passes.take(), [256, 256, 88]);
    assert_eq!(prefill(&told), [(0, 600, 0), (256, 600, 0), (512, 600, 0), (600, 600, 0)]);
    let longer: Vec<TokenId> = [vec![5; 600], vec![6; 300]].concat();
    let (finish, told) = generate(&mut engine, &request(longer));
    finish.expect("the reply is made");
    assert_eq!(passes.take(), [256, 44]);
    assert_eq!(prefill(&told), [(600, 900, 600), (856, 900, 600), (900, 900, 600)]);
}

#[test]
fn a_request_that_contradicts_itself_is_refused_and_costs_nothing() {
    let (mut engine, passes) = engine(None, answering(&[ANSWER]));
    let good = request(prompt(&engine, &question()));
    generate(&mut engine, &good).0.expect("the reply is made");
    let seen = engine.seen().to_vec();
    passes.take();
    let hot = Sampling { temperature: -1.0, ..Sampling::default() };
    let refused = [
        (request(Vec::new()), "prompt is empty"),
        (engine::Request { continued: good.prompt.len() + 1, ..good.clone() }, "longer than the prompt"),
        (engine::Request { sampling: hot, ..good.clone() }, "temperature is -1"),
    ];
    for (request, words) in refused {
        let error = generate(&mut engine, &request).0.expect_err("it is refused");
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(passes.take().is_empty());
    assert_eq!(engine.seen(), seen, "the KV cache is kept");
}

#[test]
fn logits_of_tokens_that_the_tokenizer_does_not_know_are_never_chosen() {
    let text = ember_text();
    let known = text.tokenizer.vocabulary_size();
    let padding = known as TokenId + 7;
    let decoder = engine::scripted::ScriptedDecoder::new(known + 64, 512, move |_| Scripted::Token(padding));
    let mut engine = engine::Engine::new(decoder, text, None);
    let sampling = Sampling { temperature: 1.0, seed: Some(3), ..Sampling::default() };
    let request =
        engine::Request { sampling, max_new_tokens: 100, ignore_end_of_turn: true, ..request(vec![5; 3]) };
    let finish = generate(&mut engine, &request).0.expect("the reply is made");
    assert_eq!(finish.tokens.len(), 100);
    assert!(finish.tokens.iter().all(|&token| (token as usize) < known));
}
