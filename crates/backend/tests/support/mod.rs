//! A backend in folders of its own, over models whose answers are written in the test.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend::{
    AppDirs, Backend, Chat, ChatEvent, Conversation, Entry, Inference, Open, Reply, ReplyOptions, serve,
};
use engine::scripted::{Passes, Scripted, ScriptedDecoder};
use engine::{
    Decoder, Engine, GraphChoice, LoadOptions, LoadedModel, ModelConfig, ModelText, SuggestedSampling,
    TokenId, WhyOriginal,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// What carries messages to the inference side.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Channel,
    /// Every message is encoded and decoded on its way, as it would be between two processes.
    Encoded,
}

/// Runs `check` over each transport, and fails where it hangs.
pub(crate) fn over_each_transport(check: impl AsyncFn(Transport)) {
    for transport in [Transport::Channel, Transport::Encoded] {
        run(check(transport));
    }
}

pub(crate) fn run<T>(check: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(120), check).await };
    runtime.block_on(limited).expect("the check ends")
}

pub(crate) fn recode<T: Serialize + DeserializeOwned>(message: T) -> T {
    let text = serde_json::to_string(&message).expect("every message can be encoded");
    serde_json::from_str(&text).expect("what was encoded can be decoded")
}

pub(crate) fn inference<O>(transport: Transport, open: O) -> Inference
where
    O: Open<ScriptedDecoder> + Send + 'static,
{
    match transport {
        Transport::Channel => Inference::start_with(open),
        Transport::Encoded => Inference::over(move |incoming, deliver| {
            serve(incoming.into_iter().map(recode), move |event| deliver(recode(event)), open);
        }),
    }
}

/// Where a script leaves its answer: in which reply of the prompt, behind how many tokens, and how.
type Break = (usize, usize, Scripted);

/// What the models say.
struct Script {
    marker: Vec<TokenId>,
    end: TokenId,
    answers: Vec<Vec<TokenId>>,
    breaks: Mutex<Option<Break>>,
    reached: mpsc::UnboundedSender<()>,
    seen: Mutex<Vec<TokenId>>,
    /// How many microseconds a pass takes.
    pace: AtomicU64,
}

impl Script {
    fn next(&self, seen: &[TokenId]) -> Scripted {
        let pace = Duration::from_micros(self.pace.load(Ordering::Relaxed));
        if !pace.is_zero() {
            // A model takes its time.
            std::thread::sleep(pace);
        }
        let replies: Vec<usize> = (0..seen.len())
            .filter(|&place| seen[place..].starts_with(&self.marker))
            .map(|place| place + self.marker.len())
            .collect();
        *self.seen.lock().expect("no script panics while it writes") = seen.to_vec();
        let Some(&begin) = replies.last() else { return Scripted::Token(self.end) };
        let (reply, said) = (replies.len() - 1, seen.len() - begin);
        if let Some((at, behind, how)) = self.breaks.lock().expect("no script panics while it writes").clone()
            && (reply, said) == (at, behind)
        {
            self.reached.send(()).ok();
            return how;
        }
        let answer = self.answers.get(reply).map_or(&[][..], Vec::as_slice);
        Scripted::Token(answer.get(said).copied().unwrap_or(self.end))
    }
}

/// A backend with the models `alpha`, `beta` and `broken`, the last of which never loads.
pub(crate) struct World {
    pub(crate) backend: Backend,
    pub(crate) inference: Inference,
    pub(crate) directories: AppDirs,
    script: Arc<Script>,
    text: ModelText,
    passes: Arc<Mutex<Vec<Passes>>>,
    loads: Arc<Mutex<Vec<String>>>,
    reached: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    folder: TempDir,
}

pub(crate) fn ember_text() -> ModelText {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/ember"));
    let config = ModelConfig::read(&folder).expect("the configuration can be read");
    ModelText::open(&folder, &config).expect("tokenizer and template can be read")
}

/// The shared fixtures; `None` (and one line) where they are absent, except in continuous integration.
#[expect(clippy::print_stdout, reason = "whoever reads the log must see that a test was skipped")]
pub(crate) fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "the fixtures must lie at {}", folder.display());
    println!("skipped: there are no fixtures at {}", folder.display());
    None
}

/// A folder that counts as a model, with a name of its own.
pub(crate) fn make_model(folder: &Path, id: &str, presentation: &str) {
    let model = folder.join(id);
    std::fs::create_dir_all(&model).expect("made");
    std::fs::write(model.join("config.json"), r#"{"max_position_embeddings":512}"#).expect("written");
    std::fs::write(model.join("hearth.json"), presentation).expect("written");
}

pub(crate) fn directories(folder: &Path) -> AppDirs {
    AppDirs {
        data: folder.join("data"),
        resources: vec![folder.join("resources")],
        libraries: vec![folder.join("libonnxruntime.so")],
    }
}

impl World {
    pub(crate) fn new(transport: Transport, answers: &[&str]) -> Self {
        Self::with(transport, answers, 512, |_| {})
    }

    /// A world whose models read `context` tokens, after `prepare` has changed its folders.
    pub(crate) fn with(
        transport: Transport,
        answers: &[&str],
        context: usize,
        prepare: impl FnOnce(&mut AppDirs),
    ) -> Self {
        Self::over(tempfile::tempdir().expect("a folder"), transport, answers, context, prepare)
    }

    /// A world in the folder of an earlier one.
    pub(crate) fn over(
        folder: TempDir,
        transport: Transport,
        answers: &[&str],
        context: usize,
        prepare: impl FnOnce(&mut AppDirs),
    ) -> Self {
        let mut directories = directories(folder.path());
        for id in ["alpha", "beta", "broken"] {
            make_model(&directories.resources[0], id, &format!(r#"{{"name":"Model {id}"}}"#));
        }
        prepare(&mut directories);
        let text = ember_text();
        let encode = |text: &ModelText, words: &str| text.tokenizer.encode_content(words).expect("encodes");
        let (reached, receiver) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            marker: text.tokenizer.encode_scaffold("<|im_start|>assistant\n").expect("encodes"),
            end: text.tokenizer.token_id("<|im_end|>").expect("the tokenizer has it"),
            answers: answers.iter().map(|answer| encode(&text, answer)).collect(),
            breaks: Mutex::default(),
            reached,
            seen: Mutex::default(),
            pace: AtomicU64::default(),
        });
        let (passes, loads) = (Arc::default(), Arc::default());
        let open = open(&text, &script, context, &passes, &loads);
        let inference = inference(transport, open);
        let backend = Backend::open_with(directories.clone(), inference.clone());
        let reached = tokio::sync::Mutex::new(receiver);
        Self { backend, inference, directories, script, text, passes, loads, reached, folder }
    }

    /// Ends the application and begins it again.
    pub(crate) fn restarted(self, answers: &[&str]) -> Self {
        let Self { backend, inference, folder, .. } = self;
        drop((backend, inference));
        Self::over(folder, Transport::Channel, answers, 512, |_| {})
    }

    /// Ends the application in order, and looks at what it left behind.
    pub(crate) fn end(self, look: impl FnOnce()) {
        let Self { backend, inference, folder, .. } = self;
        // Closing writes the log back into the file.
        drop((backend, inference));
        look();
        drop(folder);
    }

    /// What is said by the messages of the current branch.
    pub(crate) fn texts(&self) -> Vec<String> {
        texts(&self.entries())
    }

    pub(crate) fn chat(&self) -> &Chat {
        self.backend.chat()
    }

    /// Lets the n-th reply of a prompt end `behind` so many tokens in another way.
    pub(crate) fn breaks(&self, reply: usize, behind: usize, how: Scripted) {
        *self.script.breaks.lock().expect("no script panics while it writes") = Some((reply, behind, how));
    }

    /// Lets each pass of a model take so long.
    pub(crate) fn takes(&self, pace: Duration) {
        self.script.pace.store(u64::try_from(pace.as_micros()).expect("a short time"), Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        *self.script.breaks.lock().expect("no script panics while it writes") = None;
    }

    /// Waits until a break was reached.
    pub(crate) async fn reached(&self) {
        self.reached.lock().await.recv().await.expect("the script goes on");
    }

    /// The beginning of `text` that its first `count` tokens stand for.
    pub(crate) fn beginning(&self, text: &str, count: usize) -> String {
        let tokens = self.text.tokenizer.encode_content(text).expect("encodes");
        self.text.tokenizer.decode(&tokens[..count]).expect("decodes")
    }

    /// Everything that the model saw in its last pass, as text.
    pub(crate) fn seen(&self) -> String {
        self.text
            .tokenizer
            .decode(&self.script.seen.lock().expect("no script panics while it writes"))
            .expect("decodes")
    }

    /// The tokens of every pass of the model loaded last.
    pub(crate) fn take_passes(&self) -> Vec<usize> {
        self.passes
            .lock()
            .expect("no script panics while it writes")
            .last()
            .map(Passes::take)
            .unwrap_or_default()
    }

    /// The models that were loaded, in order.
    pub(crate) fn loads(&self) -> Vec<String> {
        self.loads.lock().expect("no script panics while it writes").clone()
    }

    /// The conversation that is shown, all of its current branch.
    pub(crate) fn conversation(&self) -> Conversation {
        self.chat().conversation(self.chat().current(), usize::MAX).expect("it can be read")
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.conversation().entries
    }

    /// Sends a message and keeps what was told meanwhile.
    pub(crate) async fn ask(&self, text: &str) -> (Reply, Vec<ChatEvent>) {
        self.ask_with(text, ReplyOptions::default()).await
    }

    pub(crate) async fn ask_with(&self, text: &str, options: ReplyOptions) -> (Reply, Vec<ChatEvent>) {
        let mut told = Vec::new();
        let id = self.chat().current();
        let reply = self.chat().send(id, text.into(), options, |event| told.push(event)).await;
        (reply.expect("the message is part of the conversation"), told)
    }

    /// Sends a message and stops the reply when a break was reached.
    pub(crate) async fn ask_and_stop(&self, text: &str) -> Reply {
        let stop = async {
            self.reached().await;
            self.chat().stop();
        };
        tokio::join!(self.ask(text), stop).0.0
    }
}

fn open(
    text: &ModelText,
    script: &Arc<Script>,
    context: usize,
    passes: &Arc<Mutex<Vec<Passes>>>,
    loads: &Arc<Mutex<Vec<String>>>,
) -> impl Open<ScriptedDecoder> + Send + 'static {
    let (text, script) = (text.clone(), Arc::clone(script));
    let (passes, loads) = (Arc::clone(passes), Arc::clone(loads));
    move |folder: &Path, options: &LoadOptions| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        loads.lock().expect("no script panics while it writes").push(name.clone());
        if name == "broken" {
            let path = folder.join("model.onnx");
            return Err(engine::Error::FileDamaged {
                path,
                reason: "the script says so".into(),
                source: None,
            });
        }
        let script = Arc::clone(&script);
        let decoder =
            ScriptedDecoder::new(text.tokenizer.vocabulary_size(), context, move |seen| script.next(seen));
        passes.lock().expect("no script panics while it writes").push(decoder.passes());
        let engine = Engine::new(decoder, text.clone(), options.cache_window);
        let loaded = LoadedModel { load_seconds: 0.5, ..loaded_model(&engine, options) };
        Ok((engine, loaded))
    }
}

/// What loading a scripted model tells.
pub(crate) fn loaded_model<D: Decoder>(engine: &Engine<D>, options: &LoadOptions) -> LoadedModel {
    LoadedModel {
        spec: engine.spec().clone(),
        window: engine.window(),
        graph: "model.onnx".into(),
        graph_choice: GraphChoice::Original { why: WhyOriginal::NotPrepared },
        prepared: None,
        weight_files: Vec::new(),
        inputs: 3,
        runtime_version: None,
        library: options.library.clone(),
        plain_template: false,
        thinking_switch: false,
        sampling: SuggestedSampling { do_sample: Some(false), ..SuggestedSampling::default() },
        notices: Vec::new(),
        load_seconds: 0.0,
    }
}

/// The text among what was told.
pub(crate) fn told_text(told: &[ChatEvent]) -> String {
    told.iter()
        .filter_map(|event| match event {
            ChatEvent::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// What is said by messages.
pub(crate) fn texts(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Question(question) => Some(question.text.clone()),
            Entry::Reply(reply) => Some(reply.text.clone()),
            _ => None,
        })
        .collect()
}
