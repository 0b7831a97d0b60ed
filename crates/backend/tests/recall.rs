//! What is brought back before a reply, and what that may cost: nothing where nobody waits any longer, where nothing
//! can be read, or where it fails.

mod support;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend::messages::KvKeeping;
use backend::{
    FailureKind, Finish, FinishReason, Inference, LoadOptions, ModelFolder, Request, ReuseLimit, Running,
    Sampling, TokenId, Update,
};
use engine::scripted::{Scripted, ScriptedCache, ScriptedDecoder};
use engine::{Cancel, Decoder, DraftCost, Engine, Forward, Import, KvBlock, KvLayout, ModelSpec, Result};
use support::{ember_text, loaded_model, run};
use tempfile::TempDir;
use tokio::sync::mpsc;

const CONTEXT: usize = 2048;
const LETTER: TokenId = 100;
const ROW: u64 = size_of::<TokenId>() as u64;
/// A prompt of so many tokens waits for a stop.
const WAITS: usize = 7;
/// One of so many panics.
const PANICS: usize = 9;
const SAVING: Duration = Duration::from_secs(60);

/// A scripted decoder that panics where it is told to.
struct Faulty {
    inner: ScriptedDecoder,
    faults: Arc<Faults>,
}

/// Where a decoder panics beside its passes.
#[derive(Default)]
struct Faults {
    import: AtomicBool,
    end: AtomicBool,
}

impl Drop for Faulty {
    fn drop(&mut self) {
        assert!(!self.faults.end.load(Ordering::SeqCst), "it panics as it goes");
    }
}

impl Decoder for Faulty {
    type Cache = ScriptedCache;

    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn new_cache(&self) -> Result<ScriptedCache> {
        self.inner.new_cache()
    }

    fn kv_layout(&self) -> &KvLayout {
        self.inner.kv_layout()
    }

    fn import_cache(
        &self,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<ScriptedCache>> {
        assert!(!self.faults.import.load(Ordering::SeqCst), "it panics as it imports");
        self.inner.import_cache(rows, blocks)
    }

    fn forward<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut ScriptedCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.inner.forward(tokens, cache, cancel)
    }

    fn forward_rows<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut ScriptedCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.inner.forward_rows(tokens, cache, cancel)
    }

    fn draft_cost(&mut self, cache: &mut ScriptedCache, cancel: &Cancel) -> Result<Option<DraftCost>> {
        self.inner.draft_cost(cache, cancel)
    }
}

/// An inference thread over a folder of snapshots, with room in memory for so many rows.
struct Scene {
    inference: Inference,
    faults: Arc<Faults>,
    reached: mpsc::UnboundedReceiver<()>,
    folder: TempDir,
}

impl Scene {
    async fn new(rows: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model.onnx"), b"scripted").expect("written");
        let faults = Arc::<Faults>::default();
        let (reach, reached) = mpsc::unbounded_channel();
        let (text, told) = (ember_text(), Arc::clone(&faults));
        let inference = Inference::start_with(move |_: &Path, options: &LoadOptions| {
            let reach = reach.clone();
            let script = move |seen: &[TokenId]| match seen.len() {
                WAITS => {
                    reach.send(()).ok();
                    Scripted::UntilCancelled
                }
                PANICS => Scripted::Panic,
                _ => Scripted::Token(LETTER),
            };
            let inner = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), CONTEXT, script);
            let engine = Engine::new(Faulty { inner, faults: Arc::clone(&told) }, text.clone(), None);
            let loaded = loaded_model(&engine, options);
            Ok((engine, loaded))
        });
        let keeping = KvKeeping {
            memory_bytes: rows * ROW,
            folder: Some(folder.path().join("kv")),
            disk_bytes: Some(64 << 20),
        };
        assert_eq!(inference.keep_kv(keeping).await.expect("kept"), None);
        let scene = Self { inference, faults, reached, folder };
        scene.load().await;
        scene
    }

    async fn load(&self) {
        let folder = ModelFolder { id: "model".into(), path: self.folder.path().to_path_buf() };
        let options = LoadOptions::with_library("/library".into());
        self.inference.load(folder, options).await.expect("it loads");
    }

    async fn answer(&self, owner: &str, prompt: &[TokenId]) -> Finish {
        finish(self.inference.generate_for(owner, request(prompt))).await
    }

    async fn save(&self) {
        assert!(self.inference.save_snapshots(SAVING).await.expect("saved"), "all of it");
    }

    /// The files of rows on the disk.
    fn blocks(&self) -> Vec<PathBuf> {
        let entries = |folder: &Path| std::fs::read_dir(folder).expect("a folder").flatten();
        let models = entries(&self.folder.path().join("kv")).map(|entry| entry.path());
        let files = models.filter(|path| path.is_dir()).flat_map(|path| entries(&path).collect::<Vec<_>>());
        let files = files.map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "kv")).collect()
    }
}

fn request(prompt: &[TokenId]) -> Request {
    Request {
        prompt: prompt.to_vec(),
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 1,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    }
}

async fn finish(mut running: Running) -> Finish {
    loop {
        if let Update::Finished(finish) = running.next().await.expect("it answers") {
            return *finish;
        }
    }
}

fn damage(files: impl IntoIterator<Item = PathBuf>) {
    for file in files {
        std::fs::write(file, b"damaged").expect("written");
    }
}

/// Tokens that differ from those of other `kind`s from the first one on.
fn text(kind: TokenId, places: Range<TokenId>) -> Vec<TokenId> {
    places.map(|place| 200 + (place * 13 + kind * 101) % 150).collect()
}

#[test]
fn a_reply_that_was_stopped_before_it_began_brings_nothing_back() {
    run(async {
        let mut scene = Scene::new(700).await;
        let (first, second) = (text(1, 0..600), text(2, 0..600));
        scene.answer("a", &first).await;
        scene.save().await;
        scene.answer("b", &second).await;
        scene.save().await;
        let busy = scene.inference.generate(request(&[LETTER; WAITS]));
        let waiting = scene.inference.generate_for("a", request(&first));
        scene.reached.recv().await.expect("the first one runs");
        waiting.canceller().cancel();
        busy.canceller().cancel();
        assert_eq!(finish(busy).await.reason, FinishReason::Cancelled);
        let stopped = finish(waiting).await;
        assert_eq!((stopped.reason, stopped.usage.restored_tokens), (FinishReason::Cancelled, 0));
        let again = scene.answer("b", &second).await;
        assert_eq!((again.usage.reused_tokens, again.usage.restored_tokens), (599, 0), "it stayed warm");
        let asked = scene.answer("a", &first).await;
        assert!(asked.usage.restored_tokens > 512, "it would have come back: {:?}", asked.usage);
    });
}

#[test]
fn nothing_gives_way_to_blocks_that_cannot_be_read() {
    run(async {
        let scene = Scene::new(800).await;
        let first = text(1, 0..700);
        let branch = [&first[..300], &text(2, 0..300)].concat();
        scene.answer("a", &first).await;
        scene.save().await;
        scene.answer("b", &branch).await;
        scene.save().await;
        damage(scene.blocks());
        let again = scene.answer("a", &first).await;
        assert_eq!((again.usage.reused_tokens, again.usage.restored_tokens), (300, 0));
    });
}

#[test]
fn rows_that_came_back_are_their_owners_whatever_the_reply_goes_on_from() {
    run(async {
        let scene = Scene::new(10_000).await;
        let first = text(1, 0..600);
        scene.answer("a", &first[..300]).await;
        scene.save().await;
        let early = scene.blocks();
        scene.answer("a", &first).await;
        scene.save().await;
        damage(scene.blocks().into_iter().filter(|file| !early.contains(file)));
        scene.inference.forget().await.expect("memory is lost");
        scene.answer("b", &first[..280]).await;
        // The first block comes back, the others are damaged, and more is warm than has come.
        let again = scene.answer("a", &first).await;
        assert_eq!((again.usage.reused_tokens, again.usage.restored_tokens), (280, 256), "{:?}", again.usage);
        for owner in ["a", "b"] {
            scene.inference.forget_owner(owner).await.expect("freed");
        }
        assert_eq!(scene.inference.inspect().await.expect("inspected").kv_bytes, 0, "nothing is nobody's");
    });
}

#[test]
fn the_ids_of_a_forgotten_conversation_that_gave_way_are_forgotten_with_it() {
    run(async {
        for forgets in [false, true] {
            let scene = Scene::new(1300).await;
            finish(scene.inference.generate_privately("a", request(&text(1, 0..600)))).await;
            scene.answer("b", &text(2, 0..600)).await;
            scene.answer("c", &text(3, 0..600)).await;
            if forgets {
                assert_eq!(scene.inference.forget_owner("a").await.expect("freed"), 0, "it gave way");
            }
            let again = scene.answer("d", &text(1, 0..600)).await;
            let expected = if forgets { ReuseLimit::DiffersAt { token: 0 } } else { ReuseLimit::Evicted };
            assert_eq!(again.usage.reuse_limit, Some(expected));
        }
    });
}

#[test]
fn a_fault_while_rows_come_back_costs_time_and_neither_the_reply_nor_the_model() {
    run(async {
        let scene = Scene::new(10_000).await;
        let troubles = Arc::<Mutex<Vec<bool>>>::default();
        let told = Arc::clone(&troubles);
        scene.inference.on_snapshot_trouble(move |why| {
            told.lock().expect("nothing panics while it is held").push(why.is_some());
        });
        let prompt = text(1, 0..600);
        scene.answer("a", &prompt).await;
        scene.save().await;
        scene.inference.forget().await.expect("memory is lost");
        scene.faults.import.store(true, Ordering::SeqCst);
        let reply = scene.answer("a", &prompt).await;
        assert_eq!((reply.tokens, reply.usage.reused_tokens), (vec![LETTER], 0));
        scene.faults.import.store(false, Ordering::SeqCst);
        scene.save().await;
        let reply = scene.answer("a", &prompt).await;
        assert_eq!(reply.usage.reused_tokens, 599, "the model and its sessions are there");
        let troubles = troubles.lock().expect("nothing panics while it is held").clone();
        assert_eq!(troubles, [true, false], "told once, and once when it was over");
    });
}

#[test]
fn a_model_that_panics_as_it_is_freed_after_a_panic_leaves_the_thread_alive() {
    run(async {
        let scene = Scene::new(10_000).await;
        scene.faults.end.store(true, Ordering::SeqCst);
        let mut running = scene.inference.generate(request(&[LETTER; PANICS]));
        let error = loop {
            match running.next().await {
                Ok(Update::Progress(_)) => {}
                Ok(Update::Finished(_)) => panic!("the script panics"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.engine_kind(), Some(FailureKind::Crashed), "{error}");
        scene.faults.end.store(false, Ordering::SeqCst);
        scene.load().await;
        assert_eq!(scene.answer("a", &[LETTER; 3]).await.tokens, [LETTER]);
    });
}
