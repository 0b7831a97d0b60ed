//! Texts become vectors of the hidden state or of the logits; what is carried grows and can be forgotten.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use engine::onnx::OnnxDecoder;
use engine::{
    Cancel, Decoder, EmbedContext, EmbedRequest, Embedded, Embedding, EmbeddingSource, Engine, Error,
    LoadOptions, Session, TokenId,
};
use graph::rewrite::hidden_state;
use graph::rewrite::last_token;
use graph::{Graph, Limits, Weights};
use support::onnx::{library, load_graph};
use support::{ember, fixtures};
use tempfile::TempDir;

/// The built-in model, as it is.
fn as_it_is() -> Engine<OnnxDecoder> {
    open(&ember())
}

fn open(folder: &Path) -> Engine<OnnxDecoder> {
    let options = LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) };
    Engine::open(folder, &options).expect("the model opens").0
}

/// A copy of a model folder whose graph gives its last hidden state.
fn with_hidden_state(source: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut graph: Option<PathBuf> = None;
    for entry in fs::read_dir(source).expect("the model is there") {
        let entry = entry.expect("an entry");
        let copy = folder.path().join(entry.file_name());
        if entry.path().is_file() {
            fs::write(&copy, fs::read(entry.path()).expect("read")).expect("written");
        }
        if entry.file_name() == "model.onnx" {
            graph = Some(copy);
        }
    }
    let path = graph.expect("a graph");
    let graph = Graph::open(&path, &Limits::default()).expect("it is read");
    let rewritten = hidden_state::run(last_token::run(graph).graph);
    assert!(rewritten.report.changed(), "{}", rewritten.report);
    let written = path.with_file_name("written.onnx");
    rewritten.graph.write(&written, Weights::Embed).expect("it is written");
    fs::rename(written, &path).expect("it takes the place of the original");
    folder
}

#[track_caller]
fn embed<D: Decoder>(engine: &mut Engine<D>, texts: &[&str], context: EmbedContext) -> Vec<Embedding> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    match engine.embed(&EmbedRequest { texts, context }, &Cancel::new()).expect("they are embedded") {
        Embedded::Embeddings(embeddings) => embeddings,
        Embedded::Cancelled => panic!("nobody asked for a stop"),
    }
}

fn one<D: Decoder>(engine: &mut Engine<D>, text: &str, context: EmbedContext) -> Embedding {
    embed(engine, &[text], context).remove(0)
}

fn largest_difference(left: &Embedding, right: &Embedding) -> f32 {
    left.values.iter().zip(&right.values).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

fn length(embedding: &Embedding) -> f32 {
    embedding.values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[test]
fn a_graph_without_hidden_state_gives_the_first_logits_and_one_with_it_the_mean_of_that() {
    let mut plain = as_it_is();
    let logits = one(&mut plain, "Where are my conversations?", EmbedContext::Alone);
    assert_eq!((logits.source, logits.values.len()), (EmbeddingSource::Logits, 512));
    let folder = with_hidden_state(&ember());
    let mut hidden = open(folder.path());
    let mean = one(&mut hidden, "Where are my conversations?", EmbedContext::Alone);
    assert_eq!((mean.source, mean.values.len()), (EmbeddingSource::HiddenState, 256));
    for embedding in [logits, mean] {
        assert!((length(&embedding) - 1.0).abs() < 1e-5, "{}", length(&embedding));
        assert_eq!(embedding.context_length, embedding.tokens);
    }
}

#[test]
fn the_hidden_state_is_what_the_product_of_the_logits_reads() {
    let Some(fixtures) = fixtures() else { return };
    let folder = with_hidden_state(&fixtures.join("models/concat-f32"));
    let path = folder.path().join("model.onnx");
    let mut decoder = load_graph(&path, None, 512);
    assert_eq!(decoder.hidden_size(), Some(64));
    let tokens: Vec<TokenId> = (0..12).map(|place| 5 + place * 31).collect();
    let mut session = Session::new(&decoder).expect("a session starts");
    let mut rows = Vec::new();
    let logits = match session.feed_hidden(&mut decoder, &tokens, &Cancel::new(), &mut rows) {
        Ok(engine::Forward::Logits(logits)) => logits.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rows.len(), 12 * 64, "every token has a row");
    let graph = Graph::open(&path, &Limits::default()).expect("it is read");
    let product = graph.nodes.iter().find(|node| node.output == ["logits"]).expect("the product");
    let weights =
        graph.initializers.iter().find(|tensor| tensor.name() == product.input[1]).expect("weights");
    let place = weights.located[0];
    let file = fs::read(&path).expect("read");
    let bytes = &file[place.offset as usize..(place.offset + place.length) as usize];
    let weights: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    let last = &rows[11 * 64..];
    for (column, logit) in logits.iter().enumerate() {
        let expected: f32 =
            last.iter().enumerate().map(|(row, value)| value * weights[row * 512 + column]).sum();
        assert!((expected - logit).abs() < 1e-3, "logit {column}: {expected} and {logit}");
    }
}

#[test]
fn the_same_text_has_the_same_vector() {
    let folder = with_hidden_state(&ember());
    for mut engine in [as_it_is(), open(folder.path())] {
        let texts = ["The fire is out.", "Nothing leaves this machine.", "The fire is out."];
        let [first, other, again] = &embed(&mut engine, &texts, EmbedContext::Alone)[..] else {
            panic!("three")
        };
        assert!((first.cosine(again) - 1.0).abs() < 1e-6, "{}", first.cosine(again));
        assert!(first.cosine(other) < 0.999, "{}", first.cosine(other));
        let later = one(&mut engine, texts[0], EmbedContext::Alone);
        assert!((first.cosine(&later) - 1.0).abs() < 1e-6, "from request to request");
    }
}

#[test]
fn a_long_text_is_read_in_chunks_and_every_token_counts() {
    let folder = with_hidden_state(&ember());
    let mut engine = open(folder.path());
    let text = "The ember glows behind the last word. ".repeat(60);
    let whole = one(&mut engine, &text, EmbedContext::Alone);
    assert!(whole.tokens > engine::PREFILL_CHUNK, "{} tokens", whole.tokens);
    // The same by single tokens: the chunks have other borders.
    let tokens = engine.encode(&text).expect("it is encoded");
    let mut decoder = support::onnx::load_graph_of(&folder.path().join("model.onnx"), None, 4096, 32);
    let mut session = Session::new(&decoder).expect("a session starts");
    let (mut sum, mut rows) = (vec![0.0_f64; 256], Vec::new());
    for chunk in tokens.chunks(100) {
        rows.clear();
        session.feed_hidden(&mut decoder, chunk, &Cancel::new(), &mut rows).expect("the pass succeeds");
        assert_eq!(rows.len(), chunk.len() * 256);
        rows.chunks_exact(256).for_each(|row| {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        });
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    let values = sum.iter().map(|value| (value / length) as f32).collect();
    let expected = Embedding { values, ..whole.clone() };
    assert!(largest_difference(&whole, &expected) < 1e-3, "{}", largest_difference(&whole, &expected));
}

#[test]
fn what_is_carried_grows_with_each_text_and_a_reset_begins_anew() {
    let folder = with_hidden_state(&ember());
    for mut engine in [as_it_is(), open(folder.path())] {
        let first = one(&mut engine, "My name is Ada.", EmbedContext::Carried);
        assert_eq!(first.context_length, first.tokens);
        let both = embed(&mut engine, &["I live in London.", "My name is Ada."], EmbedContext::Carried);
        assert_eq!(both[0].context_length, first.tokens + both[0].tokens);
        assert_eq!(both[1].context_length, both[0].context_length + both[1].tokens);
        assert!(first.cosine(&both[1]) < 0.99999, "what stands before a text changes its vector");
        // A text for itself disturbs nothing, and nothing disturbs it.
        let alone = one(&mut engine, "My name is Ada.", EmbedContext::Alone);
        assert_eq!(alone.context_length, alone.tokens);
        assert!(first.cosine(&alone) > 0.9999, "{}", first.cosine(&alone));
        let next = one(&mut engine, "Goodbye.", EmbedContext::Carried);
        assert_eq!(next.context_length, both[1].context_length + next.tokens);
        let anew = one(&mut engine, "My name is Ada.", EmbedContext::Restarted);
        assert_eq!(anew.context_length, first.context_length, "it falls back");
        assert!(largest_difference(&first, &anew) < 1e-5);
        assert!(embed(&mut engine, &[], EmbedContext::Restarted).is_empty());
        let after = one(&mut engine, "My name is Ada.", EmbedContext::Carried);
        assert_eq!(after.context_length, first.context_length, "a reset by itself");
    }
}

#[test]
fn a_conversation_and_embedding_do_not_disturb_each_other() {
    let folder = with_hidden_state(&ember());
    let mut engine = open(folder.path());
    let prompt = engine.encode("Hearth is").expect("it is encoded");
    let request = engine::Request {
        prompt,
        continued: 0,
        sampling: engine::Sampling { temperature: 0.0, ..engine::Sampling::default() },
        max_new_tokens: 8,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    };
    let reply = |engine: &mut Engine<OnnxDecoder>| {
        engine.generate(&request, &Cancel::new(), &mut |_| {}).expect("a reply").tokens
    };
    let before = reply(&mut engine);
    let seen = engine.seen().to_vec();
    one(&mut engine, "Something else entirely.", EmbedContext::Carried);
    assert_eq!(engine.seen(), seen, "the KV cache of the conversation stays");
    assert_eq!(reply(&mut engine), before);
    assert!(
        one(&mut engine, "More.", EmbedContext::Carried).context_length > 3,
        "and so does what is carried"
    );
}

#[test]
fn texts_that_cannot_be_embedded_lose_nothing() {
    let mut engine = as_it_is();
    let first = one(&mut engine, "My name is Ada.", EmbedContext::Carried);
    let embed = |engine: &mut Engine<OnnxDecoder>, texts: &[&str], cancel: &Cancel| {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        engine.embed(&EmbedRequest { texts, context: EmbedContext::Carried }, cancel)
    };
    let empty = embed(&mut engine, &["good", ""], &Cancel::new());
    assert!(matches!(&empty, Err(Error::Invalid { reason }) if reason.contains("text 2")), "{empty:?}");
    let long = "word ".repeat(6000);
    let long = embed(&mut engine, &[&long], &Cancel::new());
    assert!(matches!(long, Err(Error::PromptTooLong { .. })), "{long:?}");
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = embed(&mut engine, &["I live in London."], &cancel).expect("a stop is no error");
    assert_eq!(stopped, Embedded::Cancelled);
    let next = one(&mut engine, "I live in London.", EmbedContext::Carried);
    assert_eq!(next.context_length, first.context_length + next.tokens);
}

/// Questions to Hearth by what they are about: two ways to ask for each of five things.
const RELATED: [[&str; 2]; 5] = [
    ["Where are my conversations kept?", "Where does Hearth keep conversations?"],
    ["How do I install another model?", "Can I add a model?"],
    ["How do I stop a reply?", "Can I stop the answer?"],
    ["What is your name?", "Who are you?"],
    ["Does anything leave my machine?", "Does Hearth send data to the internet?"],
];

#[test]
fn related_texts_lie_closer_than_others() {
    let folder = with_hidden_state(&ember());
    for mut engine in [as_it_is(), open(folder.path())] {
        let texts: Vec<&str> = RELATED.iter().flatten().copied().collect();
        let embeddings = embed(&mut engine, &texts, EmbedContext::Alone);
        let (mut related, mut others) = (Vec::new(), Vec::new());
        let mut nearest = 0;
        for (one, left) in embeddings.iter().enumerate() {
            let cosine = |other: usize| left.cosine(&embeddings[other]);
            let best = (0..embeddings.len())
                .filter(|&other| other != one)
                .max_by(|&left, &right| cosine(left).total_cmp(&cosine(right)));
            nearest += usize::from(best == Some(one ^ 1));
            for other in one + 1..embeddings.len() {
                if one / 2 == other / 2 { &mut related } else { &mut others }.push(cosine(other));
            }
        }
        let mean = |list: &[f32]| list.iter().sum::<f32>() / list.len() as f32;
        let (related, others) = (mean(&related), mean(&others));
        let source = embeddings[0].source;
        assert!(
            related > others + 0.05,
            "{source:?}: {related} between related texts, {others} between others"
        );
        assert!(nearest >= 6, "{source:?}: the nearest text is the related one for {nearest} of 10");
    }
}
