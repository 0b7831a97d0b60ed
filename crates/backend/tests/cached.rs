//! Cached answers are cold answers: random sequences over the tiny model, with every way in which KV rows are kept,
//! copied, lost and brought back, each reply compared with a run that reads all of its prompt.

#[path = "support/tiny.rs"]
mod tiny;

use std::path::Path;
use std::time::Duration;

use backend::messages::KvKeeping;
use backend::{Finish, Inference, LoadOptions, ModelFolder, Request, ReuseLimit, Sampling, TokenId, Update};
use engine::onnx::{ContractHints, Drafts, ExecutionProviderChoice, OnnxDecoder, OnnxOptions, Runtime};
use engine::{Cancel, Forward, ModelConfig, PREFILL_CHUNK, Session};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tiny::{library, tiny};

/// The sequences of every run and of a nightly one, where `HEARTH_SEQUENCES` names no other number.
const SEQUENCES: usize = 10_000;
const NIGHTLY: usize = 100_000;

const WINDOW: usize = 512;
/// Two logits that lie closer are a tie: passes of other sizes may round them the other way round.
const TIE: f32 = 1e-4;
/// The conversations that are open at a time.
const OPEN: usize = 4;
const SAVING: Duration = Duration::from_secs(60);
/// Fewer than the open conversations take, so that some give way: 256 bytes a token in memory and on the disk.
const MEMORY: u64 = 150 << 10;
const DISK: u64 = 200 << 10;

/// A conversation, with what each turn's prompt was.
#[derive(Default, Clone)]
struct Conversation {
    owner: String,
    tokens: Vec<TokenId>,
    prompts: Vec<Vec<TokenId>>,
}

/// What came of all comparisons.
#[derive(Default)]
struct Account {
    replies: usize,
    tokens: usize,
    ties: usize,
    reused: usize,
    restored: usize,
    evicted: usize,
    restarts: usize,
}

/// One step of a sequence; after each there is a reply.
#[derive(Clone, Copy)]
enum Step {
    Send,
    Edit,
    Regenerate,
    Switch,
    Fork,
    Reset,
    Restart,
    /// Memory alone is lost, as where other conversations take it.
    Evict,
}

fn any_step(random: &mut Pcg64) -> Step {
    match random.random_range(0..100) {
        0..40 => Step::Send,
        40..58 => Step::Edit,
        58..70 => Step::Regenerate,
        70..80 => Step::Switch,
        80..84 => Step::Fork,
        84..90 => Step::Reset,
        90..95 => Step::Restart,
        _ => Step::Evict,
    }
}

/// A program that runs, is ended and begins again, over one folder of snapshots.
struct Program<'f> {
    folder: &'f Path,
    inference: Inference,
    cold: OnnxDecoder,
    random: Pcg64,
    open: Vec<Conversation>,
    current: usize,
    begun: usize,
    account: Account,
}

async fn start(folder: &Path) -> Inference {
    let inference = Inference::start();
    let keeping = KvKeeping { memory_bytes: MEMORY, folder: Some(folder.join("kv")), disk_bytes: Some(DISK) };
    assert_eq!(inference.keep_kv(keeping).await.expect("kept"), None);
    let options = LoadOptions { threads: Some(1), ..LoadOptions::with_library(library()) };
    inference.load(ModelFolder { id: "tiny".into(), path: tiny() }, options).await.expect("it loads");
    inference
}

/// A decoder of its own for the runs that read everything.
fn cold() -> OnnxDecoder {
    let runtime = Runtime::open(&library()).expect("it loads");
    let config = ModelConfig::read(&tiny()).expect("the configuration can be read");
    let options = OnnxOptions {
        threads: 1,
        execution_provider: ExecutionProviderChoice::Cpu,
        context_length: WINDOW,
        kv_backend: None,
        drafts: Drafts::default(),
        hints: ContractHints { head_size: config.head_size, ..ContractHints::default() },
    };
    OnnxDecoder::load(&runtime, &tiny().join("model.onnx"), &options).expect("it loads")
}

impl<'f> Program<'f> {
    async fn new(folder: &'f Path, seed: u64) -> Self {
        Self {
            folder,
            inference: start(folder).await,
            cold: cold(),
            random: Pcg64::seed_from_u64(seed),
            open: vec![Conversation::default(); OPEN],
            current: 0,
            begun: 0,
            account: Account::default(),
        }
    }

    /// Begins a conversation in the place of another one, and goes on with it and its neighbours.
    async fn sequence(&mut self) {
        self.current = self.random.random_range(0..OPEN);
        if self.random.random_range(0..2) == 0 {
            self.forget().await;
        }
        self.begun += 1;
        let owner = format!("conversation {}", self.begun);
        self.open[self.current] = Conversation { owner, ..Conversation::default() };
        self.send().await;
        for _ in 0..self.random.random_range(1..5) {
            let step = any_step(&mut self.random);
            self.step(step).await;
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Send => self.send().await,
            Step::Edit => {
                let conversation = &mut self.open[self.current];
                let turn = self.random.random_range(0..conversation.prompts.len().max(1));
                conversation.prompts.truncate(turn + 1);
                let mut edited = conversation.prompts.pop().unwrap_or_default();
                edited.truncate(self.random.random_range(edited.len() / 2..=edited.len()));
                conversation.tokens = edited;
                self.send().await;
            }
            Step::Regenerate => match self.open[self.current].prompts.pop() {
                Some(prompt) => self.reply(prompt).await,
                None => self.send().await,
            },
            Step::Switch => {
                self.current = self.random.random_range(0..OPEN);
                self.send().await;
            }
            Step::Fork => {
                let to = (self.current + 1) % OPEN;
                self.begun += 1;
                let owner = format!("conversation {}", self.begun);
                self.open[to] = Conversation { owner, ..self.open[self.current].clone() };
                self.current = to;
                self.send().await;
            }
            Step::Reset => {
                self.forget().await;
                let conversation = &mut self.open[self.current];
                (conversation.tokens, conversation.prompts) = Default::default();
                self.send().await;
            }
            Step::Restart => {
                self.account.restarts += 1;
                assert!(self.inference.save_snapshots(SAVING).await.expect("saved"), "all is saved in time");
                self.inference.keep_kv(KvKeeping::default()).await.expect("let go");
                self.inference = start(self.folder).await;
                self.send().await;
            }
            Step::Evict => {
                self.inference.forget().await.expect("forgotten");
                self.send().await;
            }
        }
    }

    async fn forget(&mut self) {
        let owner = &self.open[self.current].owner;
        self.inference.forget_snapshots(owner).await.expect("destroyed");
        self.inference.forget_owner(owner).await.expect("freed");
    }

    /// Says something new behind what stands there.
    async fn send(&mut self) {
        let mut prompt = self.open[self.current].tokens.clone();
        if prompt.is_empty() {
            // Conversations begin alike, as behind a system prompt; behind the longer one they share a block.
            let length = if self.random.random_range(0..3) == 0 { 300 } else { 40 };
            prompt = (0..length).map(|place| 3 + place * 7 % 90).collect();
        }
        let length = self.random.random_range(2..60);
        prompt.extend((0..length).map(|_| self.random.random_range(3..280u32)));
        prompt.truncate(WINDOW - 20);
        self.reply(prompt).await;
    }

    /// Has a prompt answered, and compares.
    async fn reply(&mut self, prompt: Vec<TokenId>) {
        let new = self.random.random_range(1..8);
        let request = Request {
            prompt: prompt.clone(),
            continued: 0,
            sampling: Sampling::default(),
            max_new_tokens: new,
            stop: Vec::new(),
            ignore_end_of_turn: true,
        };
        let mut running = self.inference.generate_for(&self.open[self.current].owner, request);
        let finish: Finish = loop {
            if let Update::Finished(finish) = running.next().await.expect("it answers") {
                break *finish;
            }
        };
        assert_eq!(finish.tokens.len(), new);
        self.compare(&prompt, &finish.tokens);
        self.account.replies += 1;
        self.account.reused += finish.usage.reused_tokens;
        self.account.restored += finish.usage.restored_tokens;
        self.account.evicted += usize::from(finish.usage.reuse_limit == Some(ReuseLimit::Evicted));
        let conversation = &mut self.open[self.current];
        conversation.tokens = [prompt.as_slice(), &finish.tokens].concat();
        conversation.prompts.push(prompt);
    }

    /// Reads the prompt from its beginning, and then what was said, which gives the choice at each place.
    /// Where all choices are those that were said, a cold run says the same.
    fn compare(&mut self, prompt: &[TokenId], said: &[TokenId]) {
        let mut session = Session::new(&self.cold).expect("starts");
        let (last, before) = prompt.split_last().expect("it is not empty");
        for chunk in before.chunks(PREFILL_CHUNK) {
            let outcome = session.feed(&mut self.cold, chunk, &Cancel::new()).expect("it runs");
            assert!(matches!(outcome, Forward::Logits(_)));
        }
        let rows = [&[*last], &said[..said.len() - 1]].concat();
        let logits = match session.feed_rows(&mut self.cold, &rows, &Cancel::new()).expect("it runs") {
            Forward::Logits(logits) => logits,
            other => panic!("{other:?}"),
        };
        let width = logits.len() / rows.len();
        self.account.tokens += said.len();
        for (place, (logits, &said)) in logits.chunks_exact(width).zip(said).enumerate() {
            let best = (0..width).max_by(|&one, &other| logits[one].total_cmp(&logits[other]));
            let difference = logits[best.expect("there are logits")] - logits[said as usize];
            if difference > 0.0 {
                assert!(difference < TIE, "token {place}: {best:?} and {said} differ by {difference}");
                // What follows belongs to another reply.
                self.account.ties += 1;
                return;
            }
        }
    }
}

#[test]
fn random_sequences_of_turns_edits_switches_resets_and_restarts_answer_as_cold_runs() {
    let told = std::env::var("HEARTH_SEQUENCES").ok().and_then(|count| count.parse().ok());
    let nightly = std::env::var_os("HEARTH_NIGHTLY").is_some();
    let sequences: usize = told.unwrap_or(if nightly { NIGHTLY } else { SEQUENCES });
    let began = std::time::Instant::now();
    let programs = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let accounts: Vec<Account> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..programs)
            .map(|number| {
                let share = sequences / programs + usize::from(number < sequences % programs);
                scope.spawn(move || program(20_260_101 + number as u64, share))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("every reply is that of a cold run")).collect()
    });
    let sum = |of: fn(&Account) -> usize| accounts.iter().map(of).sum::<usize>();
    let (tokens, ties) = (sum(|account| account.tokens), sum(|account| account.ties));
    println!(
        "{sequences} sequences, {} replies of {tokens} tokens, {} restarts; {} tokens reused, {} of them from disk; \
         {} prompts read again because something gave way; {ties} ties; {:.0} s",
        sum(|account| account.replies),
        sum(|account| account.restarts),
        sum(|account| account.reused),
        sum(|account| account.restored),
        sum(|account| account.evicted),
        began.elapsed().as_secs_f64(),
    );
    assert!(ties * 10_000 < tokens.max(10_001), "{ties} ties in {tokens} tokens");
    for (what, count) in [
        ("restarts", sum(|account| account.restarts)),
        ("rows from disk", sum(|account| account.restored)),
        ("evictions", sum(|account| account.evicted)),
    ] {
        assert!(count > 0, "there were {what}");
    }
}

fn program(seed: u64, sequences: usize) -> Account {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut program = Program::new(folder.path(), seed).await;
        for _ in 0..sequences {
            program.sequence().await;
        }
        program.account
    })
}
