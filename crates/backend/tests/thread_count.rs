//! The number of threads: measured with the first large model, then kept.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backend::{AppDirs, Backend, Inference, LoadOptions, Overrides, threads};
use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{Engine, TokenId};
use support::{directories, ember_text, loaded_model, make_model, run};

/// Models that say the same letter for ever, and the threads that each was loaded with.
fn recording(script: Scripted) -> (Inference, Arc<Mutex<Vec<usize>>>) {
    let loads: Arc<Mutex<Vec<usize>>> = Arc::default();
    let recorded = Arc::clone(&loads);
    let text = ember_text();
    let inference = Inference::start_with(move |_: &Path, options: &LoadOptions| {
        recorded.lock().expect("no load panics").push(options.threads.expect("the backend chooses"));
        let script = script.clone();
        let decoder =
            ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, move |_: &[TokenId]| script.clone());
        let engine = Engine::new(decoder, text.clone(), None);
        let loaded = loaded_model(&engine, options);
        Ok((engine, loaded))
    });
    (inference, loads)
}

/// A large model, whose file takes no space, and a small one.
fn models() -> (tempfile::TempDir, AppDirs) {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    fs::write(&directories.libraries[0], "").expect("written");
    for id in ["large", "small"] {
        make_model(&directories.resources[0], id, "{}");
    }
    let weights = fs::File::create(directories.resources[0].join("large/model.onnx")).expect("made");
    weights.set_len(200_000_000).expect("a file may be sparse");
    (folder, directories)
}

fn select(directories: &AppDirs, id: &str, overrides: &Overrides, script: Scripted) -> Vec<usize> {
    let (inference, loads) = recording(script);
    let backend = Backend::open_for_run(directories.clone(), inference, overrides).expect("it opens");
    run(backend.models().select(id)).expect("the model loads");
    let loads = loads.lock().expect("no load panics");
    loads.clone()
}

#[test]
fn the_first_large_model_tells_how_many_threads_to_use_from_then_on() {
    let (_folder, directories) = models();
    let none = Overrides::default();
    let letter = || Scripted::Token(100);
    assert_eq!(select(&directories, "small", &none, letter()), [threads()], "it tells nothing");
    assert!(!directories.machine().exists());
    let loads = select(&directories, "large", &none, letter());
    assert_eq!(loads[0], threads());
    if threads() > 1 {
        assert_eq!(loads[1], threads() / 2);
    }
    assert!(loads.len() <= 3, "{loads:?}");
    let best = *loads.last().expect("it was loaded");
    assert_eq!(select(&directories, "large", &none, letter()), [best], "it is measured once");
    assert_eq!(select(&directories, "small", &none, letter()), [best]);
    fs::write(directories.machine(), "damaged").expect("written");
    assert!(
        select(&directories, "large", &none, letter()).len() >= threads().min(2),
        "and again once it is lost"
    );
}

#[test]
fn a_number_that_was_chosen_is_used_and_nothing_is_measured() {
    let (_folder, directories) = models();
    let chosen = Overrides { threads: Some(3), ..Overrides::default() };
    assert_eq!(select(&directories, "large", &chosen, Scripted::Token(100)), [3]);
    assert!(!directories.machine().exists());
}

#[test]
fn a_measurement_that_fails_leaves_the_model_loaded() {
    let (_folder, directories) = models();
    let loads = select(&directories, "large", &Overrides::default(), Scripted::NotFinite);
    assert_eq!(loads.last(), Some(&threads()));
    assert!(!directories.machine().exists());
}

#[test]
fn whoever_chooses_another_model_does_not_wait_for_the_measurement() {
    let (_folder, directories) = models();
    let (loading, mut loads) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, gone_on) = std::sync::mpsc::channel();
    let text = ember_text();
    let inference = Inference::start_with(move |folder: &Path, options: &LoadOptions| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        loading.send(name).expect("the test listens");
        gone_on.recv().expect("the test goes on");
        let decoder =
            ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, |_: &[TokenId]| Scripted::Token(100));
        let engine = Engine::new(decoder, text.clone(), None);
        let loaded = loaded_model(&engine, options);
        Ok((engine, loaded))
    });
    let backend =
        Backend::open_for_run(directories.clone(), inference, &Overrides::default()).expect("it opens");
    run(async {
        let other = async {
            assert_eq!(loads.recv().await.expect("it loads"), "large");
            let mut choosing = std::pin::pin!(backend.models().select("small"));
            // Begins it: the choice is made at once.
            tokio::select! {
                biased;
                _ = &mut choosing => panic!("another load is under way"),
                () = std::future::ready(()) => {}
            }
            (0..4).for_each(|_| go_on.send(()).expect("it waits"));
            choosing.await.expect("it loads");
        };
        let (first, ()) = tokio::join!(backend.models().select("large"), other);
        first.expect("it was loaded before");
    });
    assert_eq!(loads.try_recv().as_deref(), Ok("small"), "no other number of threads was tried");
    assert!(!directories.machine().exists());
}
