//! What was forgotten is destroyed on the disk too, also where the folder was not open then, or the end came in
//! between.

#[path = "support/files.rs"]
mod files;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::messages::KvKeeping;
use backend::{AppDirs, LoadOptions, LoadedModel};
use engine::Engine;
use engine::scripted::ScriptedDecoder;
use files::block_files;
use support::{Transport, World, over_each_transport, run};

const SAVING: Duration = Duration::from_secs(60);
const ANSWER: &str = "A chat that runs here.";

/// A world whose model has a graph, so that its KV rows can be told from those of another.
fn world() -> World {
    world_over(Transport::Channel)
}

fn world_over(transport: Transport) -> World {
    World::with(transport, &[ANSWER], 512, |directories| {
        std::fs::write(directories.resources[0].join("alpha/model.onnx"), "alpha").expect("written");
    })
}

/// Every block file.
fn blocks(directories: &AppDirs) -> Vec<PathBuf> {
    block_files(&directories.snapshots())
}

fn keeping(directories: &AppDirs, disk_bytes: Option<u64>) -> KvKeeping {
    KvKeeping { memory_bytes: 64 << 20, folder: Some(directories.snapshots()), disk_bytes }
}

fn never_opens(folder: &Path, _: &LoadOptions) -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
    Err(engine::Error::FileMissing { path: folder.to_path_buf(), needed: "nobody asks for it".into() })
}

/// Asks in two conversations and ends in order, so that the rows of both are on the disk.
async fn saved(world: &World) -> [String; 2] {
    world.ask(&"What is Hearth? ".repeat(20)).await;
    let first = world.chat().current();
    world.backend.history().begin(false).expect("begun");
    world.ask(&"What else is there? ".repeat(20)).await;
    world.backend.close(SAVING).await.expect("saved");
    assert_eq!(blocks(&world.directories).len(), 2, "a tail each");
    [first, world.chat().current()].map(|id| id.to_string())
}

#[test]
fn what_was_forgotten_before_the_folder_was_open_goes_when_it_is() {
    over_each_transport(async |transport| {
        let world = world_over(transport);
        let [first, _] = saved(&world).await;
        let inference = support::inference(transport, never_opens);
        inference.forget_snapshots(&first).await.expect("noted");
        assert_eq!(blocks(&world.directories).len(), 2, "nobody knows where they are");
        inference.keep_kv(keeping(&world.directories, Some(1 << 30))).await.expect("kept");
        assert_eq!(blocks(&world.directories).len(), 1);
        inference.keep_kv(KvKeeping::default()).await.expect("let go");
        inference.free_snapshots().await.expect("noted");
        inference.keep_kv(keeping(&world.directories, Some(1 << 30))).await.expect("kept");
        assert_eq!(blocks(&world.directories), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_budget_of_nothing_destroys_what_is_there() {
    run(async {
        let world = world();
        saved(&world).await;
        std::fs::write(world.directories.settings(), r#"{"kvDiskBytes":0}"#).expect("written");
        let world = world.restarted(&[ANSWER]);
        world.backend.models().ready().await.expect("loaded");
        assert_eq!(blocks(&world.directories), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_deletion_that_was_cut_off_is_ended_at_the_next_start() {
    run(async {
        let world = world();
        let [first, _] = saved(&world).await;
        // As far as it came before the power was cut.
        let world = world.restarted(&[ANSWER]);
        world.backend.history().delete(first.parse().expect("an id")).expect("deleted");
        assert_eq!(blocks(&world.directories).len(), 2);
        let world = world.restarted(&[ANSWER]);
        world.backend.begin().await.expect("loaded");
        assert_eq!(blocks(&world.directories).len(), 1, "that of the other conversation");
        let again = world.ask("And now?").await.0;
        assert!(again.usage.expect("told").usage.restored_tokens > 0, "which is still of use");
    });
}

#[test]
fn where_the_conversations_cannot_be_read_everything_is_kept() {
    run(async {
        let world = world();
        saved(&world).await;
        let folder = world.directories.conversations();
        std::fs::remove_dir_all(&folder).expect("removed");
        std::fs::write(&folder, "in the way").expect("written");
        let world = world.restarted(&[ANSWER]);
        world.backend.begin().await.expect("loaded");
        assert_eq!(blocks(&world.directories).len(), 2);
    });
}
