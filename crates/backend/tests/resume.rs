//! What was read is not read again: across restarts, edits, branches and conversations, at the inference border.

#[path = "support/files.rs"]
mod files;
mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::messages::KvKeeping;
use backend::{
    AppDirs, Backend, Finish, Inference, LoadOptions, LoadedModel, ModelFolder, ReplyOptions, Request,
    ReuseLimit, Sampling, TokenId, Update, Usage,
};
use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{Engine, KV_BLOCK};
use rand::{RngExt, SeedableRng};
use support::{Transport, ember_text, inference, loaded_model, over_each_transport, run};
use tempfile::TempDir;
use tiny::{library, tiny};

const SAVING: Duration = Duration::from_secs(60);

fn keeping(folder: &Path) -> KvKeeping {
    KvKeeping { memory_bytes: 64 << 20, folder: Some(folder.to_path_buf()), disk_bytes: Some(64 << 20) }
}

fn request(prompt: &[TokenId], new: usize) -> Request {
    Request {
        prompt: prompt.to_vec(),
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: new,
        stop: Vec::new(),
        ignore_end_of_turn: true,
    }
}

async fn answer(inference: &Inference, owner: Option<&str>, prompt: &[TokenId], new: usize) -> Finish {
    let request = request(prompt, new);
    let mut running = match owner {
        Some(owner) => inference.generate_for(owner, request),
        None => inference.generate(request),
    };
    loop {
        if let Update::Finished(finish) = running.next().await.expect("it answers") {
            return *finish;
        }
    }
}

async fn saved(inference: &Inference) {
    assert!(inference.save_snapshots(SAVING).await.expect("saved"), "all is saved in time");
}

/// As a program ends: everything is saved, and the folder is free for the next one.
async fn end(inference: Inference) {
    saved(&inference).await;
    inference.keep_kv(KvKeeping::default()).await.expect("let go");
}

// The scripted model, whose next token is computed from all rows of its cache: one wrong row would show.

const CONTEXT: usize = 4096;

fn sum(seen: &[TokenId]) -> TokenId {
    20 + seen.iter().fold(7, |sum: TokenId, &token| sum.wrapping_mul(31).wrapping_add(token)) % 200
}

fn open_scripted(
    folder: &Path,
    options: &LoadOptions,
) -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
    let text = ember_text();
    let decoder =
        ScriptedDecoder::new(text.tokenizer.vocabulary_size(), CONTEXT, |seen| Scripted::Token(sum(seen)));
    let engine = Engine::new(decoder, text, None);
    std::fs::write(folder.join("model.onnx"), folder.display().to_string()).expect("written");
    let loaded = loaded_model(&engine, options);
    Ok((engine, loaded))
}

struct Scene {
    folder: TempDir,
    transport: Transport,
}

impl Scene {
    fn new(transport: Transport) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), transport }
    }

    fn kv(&self) -> PathBuf {
        self.folder.path().join("kv")
    }

    async fn start(&self) -> Inference {
        self.start_model("model").await
    }

    async fn start_model(&self, name: &str) -> Inference {
        let inference = inference(self.transport, open_scripted);
        assert_eq!(inference.keep_kv(keeping(&self.kv())).await.expect("kept"), None);
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("made");
        let options = LoadOptions::with_library("/library".into());
        inference.load(ModelFolder { id: name.into(), path }, options).await.expect("it loads");
        inference
    }

    fn block_files(&self) -> Vec<PathBuf> {
        files::block_files(&self.kv())
    }
}

fn text(kind: TokenId, count: usize) -> Vec<TokenId> {
    (0..count as TokenId).map(|place| 20 + (place * 13 + kind * 101) % 150).collect()
}

fn account(usage: &Usage) -> (usize, usize, Option<ReuseLimit>) {
    (usage.reused_tokens, usage.restored_tokens, usage.reuse_limit)
}

#[test]
fn after_a_restart_only_what_is_new_is_read() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let first = scene.start().await;
        let before = answer(&first, Some("a"), &text(1, 1000), 5).await;
        assert_eq!(account(&before.usage), (0, 0, Some(ReuseLimit::NothingKept)));
        end(first).await;
        let prompt = [text(1, 1000), before.tokens, text(2, 20)].concat();
        let second = scene.start().await;
        let after = answer(&second, Some("a"), &prompt, 1).await;
        assert_eq!(account(&after.usage), (1004, 1004, None), "all but the token that was chosen last");
        assert_eq!(after.tokens, [sum(&prompt)], "as if all of it had been read");
        let again = answer(&second, Some("a"), &[&prompt[..], &[9; 3]].concat(), 1).await;
        assert_eq!(account(&again.usage), (prompt.len(), 0, None), "now it is in memory");
    });
}

#[test]
fn a_fork_reads_only_what_is_new_also_after_a_restart() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let first = scene.start().await;
        answer(&first, Some("a"), &text(1, 1000), 1).await;
        let fork = [&text(1, 900)[..], &text(2, 30)].concat();
        let warm = answer(&first, Some("fork"), &fork, 1).await;
        assert_eq!(account(&warm.usage), (900, 0, Some(ReuseLimit::DiffersAt { token: 900 })));
        assert_eq!(warm.tokens, [sum(&fork)]);
        end(first).await;
        let second = scene.start().await;
        let another = [&text(1, 900)[..], &text(3, 30)].concat();
        let restored = answer(&second, Some("another fork"), &another, 1).await;
        assert_eq!(restored.usage.restored_tokens, 3 * KV_BLOCK, "whole blocks are shared");
        assert_eq!(restored.tokens, [sum(&another)]);
        end(second).await;
        let third = scene.start().await;
        let longer = [&fork[..], &[9; 3]].concat();
        let own = answer(&third, Some("fork"), &longer, 1).await;
        assert_eq!(account(&own.usage), (930, 930, None), "its own tail too");
        assert_eq!(own.tokens, [sum(&longer)]);
    });
}

#[test]
fn a_reply_that_is_made_again_reads_one_token_also_after_a_restart() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let first = scene.start().await;
        let before = answer(&first, Some("a"), &text(1, 1000), 5).await;
        let again = answer(&first, Some("a"), &text(1, 1000), 5).await;
        assert_eq!(account(&again.usage), (999, 0, None));
        assert_eq!(again.tokens, before.tokens);
        end(first).await;
        let second = scene.start().await;
        let restored = answer(&second, Some("a"), &text(1, 1000), 5).await;
        assert_eq!(account(&restored.usage), (999, 999, None));
        assert_eq!(restored.tokens, before.tokens);
    });
}

#[test]
fn a_private_prompt_leaves_nothing_on_disk_and_takes_nothing_from_it() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        answer(&inference, None, &text(1, 600), 1).await;
        saved(&inference).await;
        assert_eq!(scene.block_files(), Vec::<PathBuf>::new());
        answer(&inference, Some("a"), &text(2, 600), 1).await;
        saved(&inference).await;
        assert_eq!(scene.block_files().len(), 3);
        inference.forget().await.expect("forgotten");
        let private = answer(&inference, None, &text(2, 600), 1).await;
        assert_eq!(private.usage.reused_tokens, 0);
    });
}

#[test]
fn what_a_conversation_keeps_in_memory_alone_is_freed_with_it_and_never_on_disk() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        let mut running = inference.generate_privately("private", request(&text(1, 600), 1));
        while !matches!(running.next().await.expect("it answers"), Update::Finished(_)) {}
        saved(&inference).await;
        assert_eq!(scene.block_files(), Vec::<PathBuf>::new());
        assert_eq!(inference.forget_owner("private").await.expect("freed"), 600 * size_of::<TokenId>());
        assert_eq!(inference.inspect().await.expect("told").kv_bytes, 0);
    });
}

#[test]
fn a_reset_frees_memory_and_disk_of_one_conversation_and_says_how_much() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        answer(&inference, Some("a"), &text(1, 600), 1).await;
        answer(&inference, Some("b"), &text(2, 600), 1).await;
        saved(&inference).await;
        let half = inference.snapshot_usage().await.expect("told").bytes / 2;
        assert_eq!(inference.forget_snapshots("a").await.expect("destroyed"), half);
        assert_eq!(scene.block_files().len(), 3, "two blocks and a tail");
        assert_eq!(inference.forget_owner("a").await.expect("freed"), 600 * size_of::<TokenId>());
        assert_eq!(answer(&inference, Some("a"), &text(1, 600), 1).await.usage.reused_tokens, 0);
        assert_eq!(answer(&inference, Some("b"), &text(2, 600), 1).await.usage.reused_tokens, 599);
        saved(&inference).await;
        assert_eq!(inference.free_snapshots().await.expect("destroyed"), 2 * half);
    });
}

#[test]
fn the_ledger_says_why_no_more_was_reused() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        answer(&inference, Some("a"), &text(1, 1000), 1).await;
        let edited = [&text(1, 700)[..], &text(2, 50)].concat();
        let edit = answer(&inference, Some("a"), &edited, 1).await;
        assert_eq!(account(&edit.usage), (700, 0, Some(ReuseLimit::DiffersAt { token: 700 })));
        saved(&inference).await;
        // In place, so that only the digest can tell.
        for file in scene.block_files().iter().filter(|file| file.to_string_lossy().ends_with("-1.kv")) {
            let mut bytes = std::fs::read(file).expect("read");
            let last = bytes.len() - 40;
            bytes[last] ^= 4;
            std::fs::write(file, bytes).expect("written");
        }
        inference.forget().await.expect("forgotten");
        let damaged = answer(&inference, Some("a"), &text(1, 1000), 1).await;
        assert_eq!(account(&damaged.usage), (256, 256, Some(ReuseLimit::BlockDamaged)));
        assert_eq!(damaged.tokens, [sum(&text(1, 1000))]);
        end(inference).await;
        let inference = scene.start_model("another").await;
        let other = answer(&inference, Some("a"), &text(1, 1000), 1).await;
        assert_eq!(account(&other.usage), (0, 0, Some(ReuseLimit::OtherModel)));
    });
}

#[test]
fn what_cannot_be_saved_is_told_once_and_the_chat_goes_on() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        let (told, tells) = std::sync::mpsc::channel();
        inference.on_snapshot_trouble(move |why| drop(told.send(why.map(str::to_owned))));
        answer(&inference, Some("a"), &text(1, 300), 1).await;
        saved(&inference).await;
        let folder = scene.block_files()[0].parent().expect("a folder").to_path_buf();
        inference.free_snapshots().await.expect("destroyed");
        std::fs::remove_dir(&folder).expect("it is empty");
        std::fs::write(&folder, b"in the way").expect("written");
        for kind in 2..4 {
            let finish = answer(&inference, Some("a"), &text(kind, 300), 1).await;
            assert_eq!(finish.tokens, [sum(&text(kind, 300))]);
            saved(&inference).await;
        }
        let why = tells.try_recv().expect("told").expect("why");
        assert!(why.contains("kv"), "{why}");
        assert!(tells.try_recv().is_err(), "once");
        std::fs::remove_file(&folder).expect("removed");
        answer(&inference, Some("a"), &text(4, 300), 1).await;
        saved(&inference).await;
        assert_eq!(tells.try_recv(), Ok(None), "it is over");
    });
}

#[test]
fn whoever_hears_of_trouble_may_ask_for_something() {
    over_each_transport(async |transport| {
        let scene = Scene::new(transport);
        let inference = scene.start().await;
        let (asked, asks) = std::sync::mpsc::channel();
        let asking = inference.clone();
        inference.on_snapshot_trouble(move |_| drop(asked.send(asking.generate(request(&[5, 6], 1)))));
        answer(&inference, Some("a"), &text(1, 300), 1).await;
        saved(&inference).await;
        let folder = scene.block_files()[0].parent().expect("a folder").to_path_buf();
        inference.free_snapshots().await.expect("destroyed");
        std::fs::remove_dir(&folder).expect("it is empty");
        std::fs::write(&folder, b"in the way").expect("written");
        answer(&inference, Some("a"), &text(2, 300), 1).await;
        saved(&inference).await;
        let mut running = asks.try_recv().expect("it was told");
        while !matches!(running.next().await.expect("it answers"), Update::Finished(_)) {}
    });
}

#[test]
fn the_end_of_the_program_saves_what_is_left() {
    run(async {
        let scene = Scene::new(Transport::Channel);
        let (ended, ends) = std::sync::mpsc::channel();
        let inference = Inference::over(move |incoming, deliver| {
            backend::serve(incoming.into_iter(), deliver, open_scripted);
            ended.send(()).expect("the test waits");
        });
        inference.keep_kv(keeping(&scene.kv())).await.expect("kept");
        let path = scene.folder.path().to_path_buf();
        let options = LoadOptions::with_library("/library".into());
        inference.load(ModelFolder { id: "model".into(), path }, options).await.expect("it loads");
        answer(&inference, Some("a"), &text(1, 2000), 1).await;
        drop(inference);
        ends.recv().expect("the far side ends");
        assert_eq!(scene.block_files().len(), 8, "seven blocks and a tail");
    });
}

#[test]
fn damage_to_any_block_gives_the_answer_of_a_cold_run() {
    run(async {
        let scene = Scene::new(Transport::Channel);
        let inference = scene.start().await;
        let prompt = text(1, 1200);
        answer(&inference, Some("a"), &prompt, 1).await;
        saved(&inference).await;
        let files = scene.block_files();
        let mut random = rand_pcg::Pcg64::seed_from_u64(1);
        for round in 0..2_000 {
            let file = &files[round % files.len()];
            let mut bytes = std::fs::read(file).expect("read");
            match round % 8 {
                0 => bytes.truncate(random.random_range(0..bytes.len())),
                _ => {
                    let place = random.random_range(0..bytes.len());
                    bytes[place] ^= 1 << random.random_range(0..8);
                }
            }
            std::fs::write(file, bytes).expect("written");
            inference.forget().await.expect("forgotten");
            let finish = answer(&inference, Some("a"), &prompt, 2).await;
            let first = sum(&prompt);
            assert_eq!(finish.tokens, [first, sum(&[&prompt[..], &[first]].concat())], "round {round}");
            assert_eq!(finish.usage.reuse_limit, Some(ReuseLimit::BlockDamaged), "round {round}");
            assert!(finish.usage.restored_tokens <= 4 * KV_BLOCK);
            saved(&inference).await;
            assert_eq!(scene.block_files().len(), files.len(), "what was damaged is saved anew");
        }
    });
}

#[test]
fn the_application_goes_on_after_a_restart_where_it_was() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let directories = AppDirs {
            data: folder.path().join("data"),
            resources: vec![tiny().parent().expect("a folder").to_path_buf()],
            libraries: vec![library()],
        };
        let message = "count from 3 to 12 and down again. ".repeat(10);
        let options =
            || ReplyOptions { max_tokens: Some(8), temperature: Some(0.0), ..ReplyOptions::default() };
        let mut replies = Vec::new();
        for run in 0..2 {
            let backend = Backend::open(directories.clone());
            let (chat, conversation) = (backend.chat(), backend.chat().current());
            let reply = match run {
                0 => chat.send(conversation, message.clone(), options(), |_| {}).await,
                _ => chat.retry(conversation, options(), |_| {}).await,
            };
            replies.push(reply.expect("answered"));
            backend.close(SAVING).await.expect("closed");
        }
        let usage = replies[1].usage.unwrap_or_else(|| panic!("{:?}", replies[1].status)).usage;
        assert!(usage.prompt_tokens > KV_BLOCK, "{usage:?}");
        let all = usage.prompt_tokens - 1;
        assert_eq!(account(&usage), (all, all, None), "it is the same prompt");
        assert_eq!(replies[0].tokens, replies[1].tokens);
    });
}
