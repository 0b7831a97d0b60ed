//! The inference thread behind its handle, over a channel and over encoded messages.

mod support;

use std::path::Path;

use backend::{
    EmbedContext, EmbedRequest, EmbeddingSource, Error, FailureKind, FinishReason, Inference, LoadOptions,
    LoadedModel, ModelFolder, Progress, Request, Running, Sampling, Update,
};
use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{Clock, Engine, Message, RenderOptions, TokenId};
use support::{Transport, ember_text, inference, loaded_model, over_each_transport, run};
use tokio::sync::mpsc;

const LETTER: TokenId = 100;

fn loaded(
    options: &LoadOptions,
    script: impl Fn(&[TokenId]) -> Scripted + Send + Sync + 'static,
) -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
    let text = ember_text();
    let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, script);
    let engine = Engine::new(decoder, text, None);
    let loaded = loaded_model(&engine, options);
    Ok((engine, loaded))
}

fn folder(name: &str) -> ModelFolder {
    ModelFolder { id: name.into(), path: name.into() }
}

fn options() -> LoadOptions {
    LoadOptions::with_library("/library".into())
}

fn request(length: usize, most: usize) -> Request {
    Request {
        prompt: vec![LETTER; length],
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: most,
        stop: Vec::new(),
        ignore_end_of_turn: false,
    }
}

async fn finish(mut running: Running) -> Result<(backend::Finish, Vec<Progress>), Error> {
    let mut told = Vec::new();
    loop {
        match running.next().await? {
            Update::Progress(progress) => told.push(progress),
            Update::Finished(finish) => return Ok((*finish, told)),
        }
    }
}

/// Models that say one letter for ever, or, where their prompt has 7 tokens, wait for a stop and tell so.
fn letters(transport: Transport) -> (Inference, mpsc::UnboundedReceiver<()>) {
    let (reached, receiver) = mpsc::unbounded_channel();
    let open = move |path: &Path, options: &LoadOptions| {
        assert_ne!(path, Path::new("panics"), "the model whose loading panics");
        let reached = reached.clone();
        loaded(options, move |seen| match seen.len() {
            7 => {
                reached.send(()).ok();
                Scripted::UntilCancelled
            }
            _ => Scripted::Token(LETTER),
        })
    };
    (inference(transport, open), receiver)
}

#[test]
fn a_model_is_loaded_used_inspected_forgotten_and_unloaded() {
    over_each_transport(async |transport| {
        let (inference, _reached) = letters(transport);
        let loaded = inference.load(folder("a"), options()).await.expect("it loads");
        assert_eq!(loaded.window, 512);
        let clock = Clock::at(jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0));
        let options = RenderOptions::reply_at(clock);
        let prompt = inference.prompt(vec![Message::user("Hello")], options.clone()).await.expect("renders");
        let text = ember_text();
        assert!(text.tokenizer.decode(&prompt).expect("decodes").ends_with("<|im_start|>assistant\n"));
        let plain = inference.encode("Hello".into()).await.expect("encodes");
        assert_eq!(text.tokenizer.decode(&plain).expect("decodes"), "Hello");
        let (finish, told) = finish(inference.generate(request(300, 5))).await.expect("it answers");
        assert_eq!((finish.tokens, finish.reason), (vec![LETTER; 5], FinishReason::MaxTokens));
        let prefill = told.iter().filter(|progress| matches!(progress, Progress::Prefill { .. })).count();
        assert_eq!(prefill, 3, "the beginning and two chunks");
        let inspection = inference.inspect().await.expect("inspected");
        assert_eq!(inspection.seen_tokens, 304);
        assert_eq!(inference.forget().await.expect("forgotten"), inspection.kv_bytes);
        assert_eq!(inference.inspect().await.expect("inspected").seen_tokens, 0);
        inference.unload().await.expect("unloaded");
        let error = inference.encode("Hello".into()).await.expect_err("no model is loaded");
        assert!(error.to_string().contains("no model is loaded"), "{error}");
        assert_eq!(inference.forget().await.expect("nothing to forget"), 0);
    });
}

#[test]
fn a_stop_reaches_the_reply_that_runs_and_the_one_that_waits() {
    over_each_transport(async |transport| {
        let (inference, mut reached) = letters(transport);
        inference.load(folder("a"), options()).await.expect("it loads");
        let first = inference.generate(request(7, 5));
        let second = inference.generate(request(20, 5));
        let third = inference.generate(request(30, 5));
        reached.recv().await.expect("the first one runs");
        second.canceller().cancel();
        first.canceller().cancel();
        let (first, _) = finish(first).await.expect("a stop is an outcome");
        assert_eq!((first.reason, first.tokens.len()), (FinishReason::Cancelled, 0));
        let (second, _) = finish(second).await.expect("a stop is an outcome");
        assert_eq!((second.reason, second.tokens.len()), (FinishReason::Cancelled, 0));
        let canceller = third.canceller();
        let (third, _) = finish(third).await.expect("it was not stopped");
        assert_eq!(third.reason, FinishReason::MaxTokens);
        canceller.cancel();
        let (next, _) = finish(inference.generate(request(9, 2))).await.expect("a late stop hits nobody");
        assert_eq!(next.reason, FinishReason::MaxTokens);
    });
}

#[test]
fn a_model_that_panics_while_it_loads_is_a_crash_and_the_thread_lives_on() {
    over_each_transport(async |transport| {
        let (inference, _reached) = letters(transport);
        inference.load(folder("a"), options()).await.expect("it loads");
        let error = inference.load(folder("panics"), options()).await.expect_err("it panics");
        assert_eq!(error.engine_kind(), Some(FailureKind::Crashed));
        assert!(inference.encode("Hello".into()).await.is_err(), "the old model went first");
        inference.load(folder("a"), options()).await.expect("it loads again");
    });
}

#[test]
fn a_far_side_that_ended_is_told_to_whoever_asks_and_to_whoever_waits() {
    run(async {
        let gone = Inference::over(|_, _| {});
        assert_eq!(gone.inspect().await, Err(Error::InferenceEnded));
        let (asked, asks) = std::sync::mpsc::channel();
        let dies = Inference::over(move |incoming, _| {
            incoming.recv().expect("a command");
            asked.send(()).expect("the test waits");
        });
        let running = dies.generate(request(3, 3));
        asks.recv().expect("the command arrived");
        assert_eq!(finish(running).await.expect_err("it ended"), Error::InferenceEnded);
    });
}

#[test]
fn without_anybody_left_to_hear_it_a_reply_is_stopped() {
    run(async {
        let (ended, mut ends) = mpsc::unbounded_channel::<()>();
        let (reached, mut reaches) = mpsc::unbounded_channel();
        let inference = Inference::over(move |incoming, deliver| {
            let open = move |_: &Path, options: &LoadOptions| {
                let reached = reached.clone();
                loaded(options, move |_| {
                    reached.send(()).ok();
                    Scripted::UntilCancelled
                })
            };
            backend::serve(incoming.into_iter(), deliver, open);
            drop(ended);
        });
        inference.load(folder("a"), options()).await.expect("it loads");
        let running = inference.generate(request(3, 3));
        reaches.recv().await.expect("it runs");
        drop((running, inference));
        assert_eq!(ends.recv().await, None, "the far side has ended");
    });
}

#[test]
fn texts_become_vectors_and_what_is_carried_goes_with_the_kv_cache() {
    over_each_transport(|transport| async move {
        let (inference, _) = letters(transport);
        inference.load(folder("model"), options()).await.expect("it loads");
        let embed = |context| {
            let texts = vec!["One text.".to_owned(), "Another.".to_owned()];
            let running = inference.embed(EmbedRequest { texts, context });
            async { running.embedded().await.expect("they are embedded").expect("nobody stops it") }
        };
        let alone = embed(EmbedContext::Alone).await;
        let lengths: Vec<_> = alone.iter().map(|one| (one.source, one.values.len())).collect();
        assert_eq!(lengths, [(EmbeddingSource::Logits, 512); 2]);
        assert!(alone.iter().all(|one| one.context_length == one.tokens));
        let first = embed(EmbedContext::Carried).await[1].context_length;
        assert_eq!(embed(EmbedContext::Carried).await[1].context_length, 2 * first);
        assert_eq!(inference.inspect().await.expect("it is asked").seen_tokens, 0, "no conversation");
        inference.forget().await.expect("it is forgotten");
        assert_eq!(embed(EmbedContext::Carried).await[1].context_length, first);
        let running =
            inference.embed(EmbedRequest { texts: vec![String::new()], context: EmbedContext::Alone });
        let error = running.embedded().await.expect_err("there is nothing to embed");
        assert!(error.to_string().contains("text 1 is empty"), "{error}");
    });
}
