//! What the next turn begins with is read while the user reads, and gives way to everything else.

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};

use backend::messages::{AheadOutcome, KvKeeping, NextTurn};
use backend::{
    Backend, Finish, Inference, LoadOptions, ModelFolder, ReplyOptions, Request, ReuseLimit, Running,
    Sampling, TokenId, Update,
};
use engine::scripted::{Passes, Scripted, ScriptedDecoder};
use engine::{
    ChatTemplate, Clock, Engine, Message, ModelConfig, ModelText, RenderOptions, Role, Tokenizer,
    common_prefix, next_turn_tokens, prompt_tokens, stop_ids,
};
use support::{
    Transport, directories, ember_text, fixtures, inference, loaded_model, make_model, over_each_transport,
    run,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

const CONTEXT: usize = 2048;
/// The tokens of one pass in idle time.
const PASS: usize = 32;
/// How much of the reply is thinking, which no template gives back.
const THINKING: usize = 120;
const REPLY: usize = 260;

/// The next token is computed from all rows of the cache: one wrong row would show.
fn sum(seen: &[TokenId]) -> TokenId {
    20 + seen.iter().fold(7, |sum: TokenId, &token| sum.wrapping_mul(31).wrapping_add(token)) % 200
}

/// What a model says that reads all of `prompt`.
fn cold(prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut seen = prompt.to_vec();
    for _ in 0..count {
        seen.push(sum(&seen));
    }
    seen.split_off(prompt.len())
}

fn options() -> RenderOptions {
    RenderOptions::reply_at(Clock::at(jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0)))
}

/// One thing that happens otherwise than by the sum: behind so many tokens, once.
type Break = Arc<Mutex<Option<(usize, Scripted)>>>;

/// An inference thread with one reply, which the next prompt will have otherwise.
struct Scene {
    inference: Inference,
    text: ModelText,
    passes: Arc<Mutex<Vec<Passes>>>,
    broken: Break,
    reached: mpsc::UnboundedReceiver<()>,
    owner: Option<&'static str>,
    folder: TempDir,
    /// The conversation up to its reply.
    messages: Vec<Message>,
    /// What the next prompt begins with, and how much of that the reply left in the KV cache.
    beginning: Vec<TokenId>,
    shared: usize,
}

impl Scene {
    async fn new(transport: Transport, owner: Option<&'static str>) -> Self {
        Self::with(transport, owner, THINKING).await
    }

    /// A scene in which the first `thinking` tokens of the reply are not given back.
    async fn with(transport: Transport, owner: Option<&'static str>, thinking: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (text, broken) = (ember_text(), Break::default());
        let (passes, (reach, reached)) = (Arc::default(), mpsc::unbounded_channel());
        let inference = start(transport, folder.path(), &text, &passes, &broken, reach).await;
        let mut scene = Self {
            inference,
            text,
            passes,
            broken,
            reached,
            owner,
            folder,
            messages: vec![Message::user("Tell me what you are, and why. ".repeat(12))],
            beginning: Vec::new(),
            shared: 0,
        };
        let prompt = scene.prompt();
        let reply = scene.answer(&prompt, REPLY).await.tokens;
        let decode = |tokens: &[TokenId]| scene.text.tokenizer.decode(tokens).expect("decodes");
        scene.messages.push(Message {
            role: Role::Assistant,
            content: decode(&reply[thinking..]),
            reasoning: (thinking > 0).then(|| decode(&reply[..thinking])),
            tokens: Some(reply.clone()),
        });
        let ModelText { template, tokenizer, .. } = &scene.text;
        scene.beginning =
            next_turn_tokens(template, tokenizer, &scene.messages, &options()).expect("it renders");
        scene.shared = common_prefix(&[prompt, reply].concat(), &scene.beginning);
        scene.take_passes();
        scene
    }

    /// Ends the program and begins it again.
    async fn restart(&mut self) {
        assert!(self.inference.save_snapshots(std::time::Duration::MAX).await.expect("saved"));
        self.inference.keep_kv(KvKeeping::default()).await.expect("let go");
        let (reach, reached) = mpsc::unbounded_channel();
        self.reached = reached;
        self.inference =
            start(Transport::Channel, self.folder.path(), &self.text, &self.passes, &self.broken, reach)
                .await;
    }

    fn take_passes(&self) -> Vec<usize> {
        let passes = self.passes.lock().expect("nothing panics while it is held");
        passes.last().map(Passes::take).unwrap_or_default()
    }

    /// Rendered here: a job would let reading ahead go on behind it.
    fn prompt(&self) -> Vec<TokenId> {
        let ModelText { template, tokenizer, .. } = &self.text;
        prompt_tokens(template, tokenizer, &self.messages, &options()).expect("it renders")
    }

    /// The prompt that asks something more.
    fn next_prompt(&mut self) -> Vec<TokenId> {
        self.messages.push(Message::user("And then?"));
        let prompt = self.prompt();
        assert!(prompt.starts_with(&self.beginning), "it was foreseen");
        prompt
    }

    async fn answer(&self, prompt: &[TokenId], new: usize) -> Finish {
        let request = Request {
            prompt: prompt.to_vec(),
            continued: 0,
            sampling: Sampling::default(),
            max_new_tokens: new,
            stop: Vec::new(),
            ignore_end_of_turn: true,
        };
        let mut running = match self.owner {
            Some("private") => self.inference.generate_privately("private", request),
            Some(owner) => self.inference.generate_for(owner, request),
            None => self.inference.generate(request),
        };
        loop {
            if let Update::Finished(finish) = running.next().await.expect("it answers") {
                return *finish;
            }
        }
    }

    fn read_ahead(&self) -> Running {
        self.inference.read_ahead(self.next_turn())
    }

    fn next_turn(&self) -> NextTurn {
        NextTurn { messages: self.messages.clone(), options: options(), most_tokens: CONTEXT }
    }

    /// Breaks the pass in idle time that has so many before it.
    fn breaks(&self, passes: usize, how: Scripted) {
        let at = self.shared + (passes + 1) * PASS;
        *self.broken.lock().expect("nothing panics while it is held") = Some((at, how));
    }

    /// Begins to read ahead, and waits until the first pass was made and the second does not end.
    async fn stuck(&mut self) -> Running {
        self.stuck_behind(1).await
    }

    async fn stuck_behind(&mut self, passes: usize) -> Running {
        self.breaks(passes, Scripted::UntilCancelled);
        let running = self.read_ahead();
        self.reached.recv().await.expect("the script goes on");
        running
    }

    fn all(&self) -> AheadOutcome {
        AheadOutcome { read: self.beginning.len() - self.shared, left: 0 }
    }

    fn one_pass(&self) -> AheadOutcome {
        AheadOutcome { read: PASS, left: self.beginning.len() - self.shared - PASS }
    }

    /// Sends the next message; expects that `reused` tokens are not read, and the answer of a cold run.
    async fn goes_on(&mut self, reused: usize, limit: Option<ReuseLimit>) {
        let prompt = self.next_prompt();
        let finish = self.answer(&prompt, 5).await;
        assert_eq!((finish.usage.reused_tokens, finish.usage.reuse_limit), (reused, limit));
        assert_eq!(finish.tokens, cold(&prompt, 5), "as if all of it had been read at once");
    }
}

async fn start(
    transport: Transport,
    folder: &Path,
    text: &ModelText,
    passes: &Arc<Mutex<Vec<Passes>>>,
    broken: &Break,
    reach: mpsc::UnboundedSender<()>,
) -> Inference {
    let (text, passes, broken) = (text.clone(), Arc::clone(passes), Arc::clone(broken));
    let open = move |folder: &Path, options: &LoadOptions| {
        let (broken, reach) = (Arc::clone(&broken), reach.clone());
        let script = move |seen: &[TokenId]| {
            let broken =
                broken.lock().expect("nothing panics while it is held").take_if(|(at, _)| *at == seen.len());
            match broken {
                Some((_, how)) => {
                    reach.send(()).ok();
                    how
                }
                None => Scripted::Token(sum(seen)),
            }
        };
        let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), CONTEXT, script);
        passes.lock().expect("nothing panics while it is held").push(decoder.passes());
        std::fs::write(folder.join("model.onnx"), b"scripted").expect("written");
        let engine = Engine::new(decoder, text.clone(), None);
        let loaded = loaded_model(&engine, options);
        Ok((engine, loaded))
    };
    let inference = inference(transport, open);
    let keeping =
        KvKeeping { memory_bytes: 64 << 20, folder: Some(folder.join("kv")), disk_bytes: Some(64 << 20) };
    assert_eq!(inference.keep_kv(keeping).await.expect("kept"), None);
    load(&inference, folder).await;
    inference
}

async fn load(inference: &Inference, folder: &Path) {
    let path = folder.join("model");
    std::fs::create_dir_all(&path).expect("made");
    let options = LoadOptions::with_library("/library".into());
    inference.load(ModelFolder { id: "model".into(), path }, options).await.expect("it loads");
}

#[test]
fn after_idle_time_the_next_message_reads_only_itself() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("a")).await;
        let outcome = scene.read_ahead().read_ahead().await.expect("it ends");
        assert_eq!(outcome, scene.all());
        let passes = scene.take_passes();
        assert!(passes.len() > 2 && passes.iter().all(|&tokens| tokens <= PASS), "{passes:?}");
        let prompt_tokens = scene.beginning.len();
        scene.goes_on(prompt_tokens, None).await;
        let own = scene.prompt().len() - prompt_tokens;
        assert_eq!(scene.take_passes()[0], own, "the first pass of the reply is the whole message");
    });
}

#[test]
fn a_message_that_comes_at_once_stops_it_and_keeps_what_was_read() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck().await;
        let (reused, from) = (scene.shared + PASS, scene.shared);
        scene.goes_on(reused, Some(ReuseLimit::DiffersAt { token: from })).await;
        assert_eq!(running.read_ahead().await.expect("it ended"), scene.one_pass());
    });
}

#[test]
fn a_message_that_comes_in_the_first_pass_reads_as_much_as_without_it() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck_behind(0).await;
        let shared = scene.shared;
        scene.goes_on(shared, Some(ReuseLimit::DiffersAt { token: shared })).await;
        assert_eq!(running.read_ahead().await.expect("it ended").read, 0);
    });
}

#[test]
fn it_waits_while_a_draft_is_measured_and_then_goes_on() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck().await;
        let seen = scene.inference.inspect().await.expect("answered in the middle").seen_tokens;
        assert_eq!(seen, scene.shared + PASS);
        scene.inference.encode("a draft".into()).await.expect("answered in the middle");
        assert_eq!(running.read_ahead().await.expect("it ends"), scene.all());
    });
}

#[test]
fn another_model_a_reset_and_a_stop_end_it() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck().await;
        load(&scene.inference, scene.folder.path()).await;
        assert_eq!(running.read_ahead().await.expect("it ended"), scene.one_pass());

        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck().await;
        let freed = scene.inference.forget_owner("a").await.expect("freed");
        assert_eq!(freed, (scene.shared + PASS) * size_of::<TokenId>(), "the session as it was then");
        assert_eq!(running.read_ahead().await.expect("it ended"), scene.one_pass());
        assert_eq!(scene.inference.inspect().await.expect("inspected").kv_bytes, 0);

        let mut scene = Scene::new(transport, Some("a")).await;
        let running = scene.stuck().await;
        running.canceller().cancel();
        assert_eq!(running.read_ahead().await.expect("it ended"), scene.one_pass());
        let (reused, from) = (scene.shared + PASS, scene.shared);
        scene.goes_on(reused, Some(ReuseLimit::DiffersAt { token: from })).await;
    });
}

#[test]
fn what_was_read_ahead_is_saved_in_the_place_of_the_reply_as_it_was_generated() {
    run(async {
        let mut scene = Scene::new(Transport::Channel, Some("a")).await;
        scene.read_ahead().read_ahead().await.expect("it ends");
        scene.restart().await;
        let prompt = scene.next_prompt();
        let finish = scene.answer(&prompt, 5).await;
        assert_eq!(finish.usage.restored_tokens, scene.beginning.len());
        assert_eq!(finish.tokens, cold(&prompt, 5));
        assert_eq!(scene.take_passes()[0], prompt.len() - scene.beginning.len());
    });
}

#[test]
fn the_end_of_the_program_stops_it_and_saves_what_was_read() {
    run(async {
        let mut scene = Scene::new(Transport::Channel, Some("a")).await;
        let running = scene.stuck().await;
        scene.restart().await;
        assert_eq!(running.read_ahead().await.expect("it ended"), scene.one_pass());
        let prompt = scene.next_prompt();
        let finish = scene.answer(&prompt, 5).await;
        assert_eq!(finish.usage.restored_tokens, scene.shared + PASS);
        assert_eq!(finish.tokens, cold(&prompt, 5));
    });
}

#[test]
fn a_private_conversation_is_read_ahead_in_memory_only() {
    over_each_transport(async |transport| {
        let mut scene = Scene::new(transport, Some("private")).await;
        let outcome = scene.read_ahead().read_ahead().await.expect("it ends");
        assert_eq!(outcome, scene.all());
        assert!(scene.inference.save_snapshots(std::time::Duration::MAX).await.expect("saved"));
        assert_eq!(scene.inference.snapshot_usage().await.expect("told").blocks, 0);
        let reused = scene.beginning.len();
        scene.goes_on(reused, None).await;
        let held = scene.inference.inspect().await.expect("inspected").kv_bytes;
        assert!(held > 0);
        assert_eq!(scene.inference.forget_owner("private").await.expect("freed"), held);
    });
}

#[test]
fn a_reply_that_the_next_prompt_has_as_it_is_costs_nothing() {
    over_each_transport(async |transport| {
        let scene = Scene::with(transport, Some("a"), 0).await;
        assert!(scene.beginning.len() > scene.shared, "the end of the turn is missing");
        let outcome = scene.read_ahead().read_ahead().await.expect("it ends");
        assert_eq!(outcome.read, 0);
        assert!(scene.take_passes().is_empty(), "a few tokens are read with the message");
    });
}

#[test]
fn where_turns_would_have_to_leave_nothing_is_read() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport, Some("a")).await;
        let most_tokens = scene.beginning.len() - 1;
        let running = scene.inference.read_ahead(NextTurn { most_tokens, ..scene.next_turn() });
        assert_eq!(running.read_ahead().await.expect("it ends").read, 0);
        assert!(scene.take_passes().is_empty());
    });
}

#[test]
fn a_pass_that_fails_in_idle_time_costs_reading_and_no_answer() {
    over_each_transport(async |transport| {
        for how in [Scripted::Error("computing".into()), Scripted::Panic] {
            let mut scene = Scene::new(transport, Some("a")).await;
            // From memory alone: what is on the disk is another matter.
            scene.inference.keep_kv(KvKeeping::default()).await.expect("let go");
            scene.breaks(1, how);
            let outcome = scene.read_ahead().read_ahead().await.expect("it ends");
            assert_eq!(outcome, scene.one_pass());
            scene.goes_on(0, Some(ReuseLimit::NothingKept)).await;
        }
    });
}

// The whole application, over the template and the tokenizer of Qwen3.

/// Qwen3's text half.
fn qwen3() -> Option<ModelText> {
    let fixtures = fixtures()?;
    let folder = fixtures.join("tokenizers/qwen3");
    let config = ModelConfig::read(&folder).expect("the configuration can be read");
    let source = std::fs::read_to_string(fixtures.join("chat-templates/Qwen-Qwen3-0.6B.jinja"));
    let source = source.expect("a template");
    let template = ChatTemplate::from_source(&source, &config).expect("it compiles");
    let tokenizer = Tokenizer::open(&folder, &config, Some(&source)).expect("the tokenizer can be read");
    let stop_ids = stop_ids(&config, &tokenizer, &source);
    Some(ModelText { tokenizer, template, stop_ids })
}

/// Thinks, then answers, and ends its turn.
fn thoughtful(text: &ModelText) -> impl Fn(&[TokenId]) -> Scripted + Send + Sync + Clone + 'static {
    let encode = |words: &str| text.tokenizer.encode_scaffold(words).expect("encodes");
    let marker = encode("<|im_start|>assistant\n");
    let thinking = "They ask what I am, so I think of what I am. ".repeat(6);
    let answer = "I am a small model that runs on this computer. ".repeat(6);
    let said = encode(&format!("<think>\n{thinking}\n</think>\n\n{answer}Yes.<|im_end|>"));
    move |seen| {
        let begin = (0..seen.len()).rev().find(|&place| seen[place..].starts_with(&marker));
        let said_so_far = begin.map_or(0, |begin| seen.len() - begin - marker.len());
        Scripted::Token(said.get(said_so_far).copied().unwrap_or(said[said.len() - 1]))
    }
}

#[test]
fn in_a_chat_with_qwen3_the_second_message_reads_only_itself() {
    let Some(text) = qwen3() else { return };
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let directories = directories(folder.path());
        make_model(&directories.resources[0], "thoughtful", "{}");
        let (script, opened) = (thoughtful(&text), text.clone());
        let inference = Inference::start_with(move |_: &Path, options: &LoadOptions| {
            let vocabulary_size = opened.tokenizer.vocabulary_size();
            let decoder = ScriptedDecoder::new(vocabulary_size, CONTEXT, script.clone());
            let engine = Engine::new(decoder, opened.clone(), None);
            let loaded = loaded_model(&engine, options);
            Ok((engine, loaded))
        });
        let backend = Backend::open_with(directories, inference.clone());
        // Two questions that share nothing, so that one conversation does not profit from the other.
        for (is_private, question) in [(false, "What are you?"), (true, "Who is it?")] {
            if is_private {
                backend.history().begin(true).expect("begun");
            }
            let (chat, id) = (backend.chat(), backend.chat().current());
            let send = |words: &str| chat.send(id, words.into(), ReplyOptions::default(), |_| {});
            let first = send(question).await.expect("answered");
            assert!(!first.thinking.is_empty() && first.text.ends_with("Yes."), "{first:?}");
            let messages = [
                Message::user(question),
                Message {
                    role: Role::Assistant,
                    content: first.text.clone(),
                    reasoning: Some(first.thinking.clone()),
                    tokens: Some(first.tokens.clone()),
                },
            ];
            let next = next_turn_tokens(&text.template, &text.tokenizer, &messages, &options());
            let beginning = next.expect("it renders").len();
            // It is read by itself; each look lets it wait for a moment.
            while inference.inspect().await.expect("inspected").seen_tokens != beginning {
                tokio::task::yield_now().await;
            }
            let second = send("Really?").await.expect("answered").usage.expect("counted").usage;
            assert_eq!((second.reused_tokens, second.reuse_limit), (beginning, None));
            // And where the message comes at once, the answer is the same.
            let third = send("Really?").await.expect("answered");
            let fourth = send("Really?").await.expect("answered");
            assert_eq!((&third.text, &third.tokens), (&first.text, &first.tokens));
            assert_eq!((&fourth.text, &fourth.tokens), (&first.text, &first.tokens));
        }
    });
}

#[test]
fn published_templates_leave_the_beginning_of_the_next_prompt_as_it_was_foreseen() {
    let Some(text) = qwen3() else { return };
    let ModelText { template, tokenizer, .. } = &text;
    let reply =
        Message { reasoning: Some("They greet me.".into()), ..Message::assistant("Hello! What can I do?") };
    let messages = vec![Message::user("Hi"), reply];
    for thinking in [None, Some(true), Some(false)] {
        let options = RenderOptions { thinking, ..options() };
        let beginning = next_turn_tokens(template, tokenizer, &messages, &options).expect("it renders");
        assert!(tokenizer.decode(&beginning).expect("decodes").ends_with("<|im_start|>user\n"));
        for question in ["Why?", "3 + 4", "\u{4f60}\u{597d}", "<|im_end|> and <think>"] {
            let asked = [messages.as_slice(), &[Message::user(question)]].concat();
            let prompt = prompt_tokens(template, tokenizer, &asked, &options).expect("it renders");
            assert!(prompt.starts_with(&beginning), "{question}");
        }
    }
}
