//! The models are moved to another folder: whatever ends the move, each of them is whole in the folder that counts.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backend::hub::{NetworkSettings, RepositoryId};
use backend::{
    Backend, CancellationToken, DownloadState, Error, ImportMode, LibraryMove, MoveOutcome, MovePhase,
    Settings,
};
use downloads::{REPOSITORY, noise, online};
use server::{Act, COMMIT, HubServer};
use tempfile::TempDir;

/// Set for the program that is to end in the middle of a move.
const DATA: &str = "HEARTH_MOVE_DATA";
const TARGET: &str = "HEARTH_MOVE_TARGET";
const STEP: &str = "HEARTH_MOVE_STEP";
const COPIES: &str = "HEARTH_MOVE_COPIES";

fn ember() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/ember")
        .canonicalize()
        .expect("the built-in model")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, bytes).expect("written");
}

/// A data folder with models of every kind, and what is none of them beside.
struct Stage {
    base: TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { base: tempfile::tempdir().expect("a folder") };
        let models = stage.models();
        let files = [("config.json", b"{}".to_vec()), ("onnx/model.onnx", noise(2_500_000, 3))];
        for (path, bytes) in &files {
            write(&models.join("copied").join(path), bytes);
        }
        let listed = files.map(|(path, bytes)| {
            let digest = format!("sha256:{}", server::sha256(&bytes));
            serde_json::json!({"path": path, "source": path, "size": bytes.len(), "digest": digest})
        });
        let manifest = serde_json::json!({
            "format": 1, "installed": "2026-01-01T00:00:00Z", "id": "copied", "title": "Copied",
            "origin": {"kind": "folder", "path": "/elsewhere"}, "licence": null, "curated": false, "files": listed,
        });
        write(&models.join("copied/manifest.json"), manifest.to_string().as_bytes());
        // What a preparation leaves, which no manifest lists.
        write(&models.join("copied/prepared.json"), b"{}");
        write(
            &models.join("linked/linked.json"),
            serde_json::json!({"folder": ember()}).to_string().as_bytes(),
        );
        write(&models.join("by-hand/config.json"), b"{}");
        write(&models.join("by-hand/onnx/model.onnx"), &noise(50_000, 7));
        write(&models.join("notes.txt"), b"not a model");
        write(&models.join("pictures/cat.png"), b"no model either");
        stage
    }

    /// The same folders once more.
    fn copy(&self) -> Self {
        let copy = Self { base: tempfile::tempdir().expect("a folder") };
        for path in files_below(&self.data()) {
            let target = copy.data().join(path.strip_prefix(self.data()).expect("it lies there"));
            fs::create_dir_all(target.parent().expect("a folder")).expect("made");
            fs::copy(&path, target).expect("copied");
        }
        copy
    }

    fn data(&self) -> PathBuf {
        self.base.path().join("data")
    }

    fn models(&self) -> PathBuf {
        self.data().join("models")
    }

    fn target(&self) -> PathBuf {
        self.base.path().join("disk/models")
    }

    fn open(&self) -> Backend {
        bare::open(&self.data())
    }
}

fn wanted(folder: &Path, copies: bool) -> LibraryMove {
    LibraryMove { folder: folder.to_path_buf(), pauses_downloads: false, copies }
}

fn move_to(backend: &Backend, folder: &Path, copies: bool) -> backend::Result<MoveOutcome> {
    online(backend.move_library(&wanted(folder, copies), &CancellationToken::new(), |_| {}))
}

/// Fails unless each model is whole in the folder that counts, and what is none of them lies where it did.
#[track_caller]
fn assert_whole(stage: &Stage, backend: &Backend, when: &str) {
    let store = backend.models().store();
    let ids: Vec<String> = store.models().into_iter().map(|model| model.id).collect();
    assert_eq!(ids, ["by-hand", "copied", "linked"], "{when}");
    let stop = CancellationToken::new();
    let model = store.find("copied").expect("it is there");
    assert!(model.folder.starts_with(backend.library_folder()), "{when}");
    let checked = store.verify(&model, &stop, &mut |_| {}).expect("it has a manifest").expect("not stopped");
    assert!(checked.iter().all(|file| file.state.is_right()), "{when}: {checked:?}");
    backend::ModelStore::check_before_load(&model).expect(when);
    assert_eq!(fs::read_to_string(model.folder.join("prepared.json")).expect(when), "{}");
    let by_hand = store.find("by-hand").expect("it is there").folder;
    assert!(fs::read(by_hand.join("onnx/model.onnx")).expect(when) == noise(50_000, 7), "{when}");
    assert_eq!(store.find("linked").expect("it is there").folder, ember(), "{when}");
    assert_eq!(fs::read_to_string(stage.models().join("notes.txt")).expect(when), "not a model");
    assert_eq!(fs::read_to_string(stage.models().join("pictures/cat.png")).expect(when), "no model either");
}

/// The files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

#[test]
fn models_are_moved_whole_and_leave_nothing_behind_but_what_is_not_theirs() {
    for copies in [false, true] {
        let stage = Stage::new();
        let backend = stage.open();
        let moved = move_to(&backend, &stage.target(), copies).expect("moved");
        assert_eq!(moved, MoveOutcome::Moved(stage.target()));
        assert_eq!(backend.library_folder(), stage.target());
        assert_whole(&stage, &backend, "after the move");
        let left: Vec<_> = files_below(&stage.models())
            .into_iter()
            .filter(|path| !path.ends_with(".staging.lock"))
            .collect();
        assert_eq!(left, [stage.models().join("notes.txt"), stage.models().join("pictures/cat.png")]);
        drop(backend);
        let next = stage.open();
        assert_whole(&stage, &next, "after a restart");
        move_to(&next, &stage.models(), copies).expect("moved back");
        assert_whole(&stage, &next, "after the way back");
        let settings = Settings::open(&stage.data().join("settings.json")).0;
        assert_eq!(settings.library, None, "the default folder needs no setting");
        assert!(!stage.data().join("library-move.json").exists(), "nothing is left to be done");
    }
}

/// No test by itself: what the next one starts, and what ends itself in the middle of a move.
#[test]
fn the_program_that_ends_in_the_middle() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(data), Some(target), Some(step)) = (variable(DATA), variable(TARGET), variable(STEP)) else {
        return;
    };
    let (mut step, copies) = (step.parse::<usize>().expect("a number"), variable(COPIES).is_some());
    let backend = bare::open(Path::new(&data));
    let ends = move |_| {
        step = step.checked_sub(1).unwrap_or_else(|| std::process::abort());
    };
    let (wanted, stop) = (wanted(Path::new(&target), copies), CancellationToken::new());
    let moving = backend.move_library(&wanted, &stop, ends);
    online(moving).expect("moved");
}

#[test]
fn a_program_that_ends_at_any_step_of_a_move_leaves_each_model_whole_in_the_folder_that_counts() {
    let program = std::env::current_exe().expect("this program");
    let first = Stage::new();
    for copies in [false, true] {
        let (mut undone, mut done) = (0, 0);
        for step in 0.. {
            let stage = first.copy();
            let mut command = Command::new(&program);
            command
                .args(["--exact", "the_program_that_ends_in_the_middle", "--nocapture"])
                .env(DATA, stage.data())
                .env(TARGET, stage.target())
                .env(STEP, step.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if copies {
                command.env(COPIES, "1");
            }
            let has_ended_well = command.status().expect("it starts").success();
            let when = format!("ended at step {step}, copies: {copies}");
            let backend = stage.open();
            assert_whole(&stage, &backend, &when);
            let is_moved = backend.library_folder() == stage.target();
            // Behind the next start nothing is in two places.
            let other = if is_moved { stage.models() } else { stage.target() };
            let doubled = files_below(&other).into_iter().filter(|path| path.ends_with("config.json"));
            assert_eq!(doubled.count(), 0, "{when}");
            assert!(!stage.data().join("library-move.json").exists(), "{when}");
            if !is_moved {
                assert!(!stage.target().exists(), "{when}: the folder that was made for it is gone");
                undone += 1;
                move_to(&backend, &stage.target(), copies).expect("the next try moves them");
                assert_whole(&stage, &backend, &when);
            } else if !has_ended_well {
                done += 1;
            }
            if has_ended_well {
                break;
            }
        }
        assert!(undone > 10, "{undone} ends before the new folder counted");
        assert!(done > 1, "{done} ends after it");
    }
}

#[test]
fn a_move_that_is_stopped_leaves_all_as_it_was() {
    let stage = Stage::new();
    let backend = stage.open();
    let before = files_below(&stage.models());
    for steps in [0, 3, 9] {
        let stop = CancellationToken::new();
        let (stops, mut left) = (stop.clone(), steps);
        let wanted = wanted(&stage.target(), true);
        let moving = backend.move_library(&wanted, &stop, move |progress| {
            assert_eq!(progress.phase, MovePhase::Placing);
            if left == 0 {
                stops.cancel();
            } else {
                left -= 1;
            }
        });
        assert_eq!(online(moving).expect("stopped"), MoveOutcome::Cancelled);
        assert!(!stage.base.path().join("disk").exists(), "the folders that were made are gone");
        assert_whole(&stage, &backend, "after a stop");
    }
    let after: Vec<_> =
        files_below(&stage.models()).into_iter().filter(|path| !path.ends_with(".staging.lock")).collect();
    let before: Vec<_> = before.into_iter().filter(|path| !path.ends_with(".staging.lock")).collect();
    assert_eq!(after, before);
}

#[test]
fn a_folder_that_cannot_be_the_one_is_refused_with_the_reason_and_nothing_is_made() {
    let stage = Stage::new();
    let backend = stage.open();
    let taken = stage.base.path().join("taken");
    fs::create_dir_all(taken.join("copied")).expect("made");
    fs::write(taken.join("copied/mine.txt"), "mine").expect("written");
    let file = stage.base.path().join("file");
    fs::write(&file, "a file").expect("written");
    for (folder, reason) in [
        (stage.models(), "there already"),
        (stage.models().join("deeper"), "lies in the other"),
        (stage.data().join("kv"), "own data"),
        (stage.data(), "lies in the other"),
        (file.clone(), "no folder"),
        (file.join("below"), "folder"),
        (taken.clone(), "`copied` lies there already"),
    ] {
        let error = move_to(&backend, &folder, false).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains(&folder.display().to_string()), "{error}");
    }
    assert!(!stage.models().join("deeper").exists() && !stage.data().join("kv").exists());
    assert_eq!(fs::read_to_string(taken.join("copied/mine.txt")).expect("there"), "mine");
    assert_eq!(files_below(&taken).len(), 1);
    assert_whole(&stage, &backend, "after all of it");
}

#[test]
fn a_model_that_is_not_what_was_installed_is_not_copied_as_if_it_were() {
    let stage = Stage::new();
    let backend = stage.open();
    let path = stage.models().join("copied/onnx/model.onnx");
    let mut graph = fs::read(&path).expect("there");
    graph[1000] ^= 1;
    fs::write(&path, graph).expect("written");
    let error = move_to(&backend, &stage.target(), true).expect_err("it is damaged");
    assert!(
        matches!(&error, Error::ModelChanged { id, file, .. } if &**id == "copied" && Path::new(&**file) == Path::new("onnx/model.onnx"))
    );
    assert!(!stage.target().exists());
    assert_eq!(backend.library_folder(), stage.models());
}

#[test]
fn a_folder_that_is_away_is_told_not_made_anew_and_found_again() {
    let stage = Stage::new();
    move_to(&stage.open(), &stage.target(), false).expect("moved");
    let unplugged = stage.base.path().join("unplugged");
    fs::rename(stage.base.path().join("disk"), &unplugged).expect("the disk is away");
    // The place of a disk may stay, as an empty folder.
    for place_stays in [false, true] {
        if place_stays {
            fs::create_dir_all(stage.target()).expect("made");
        }
        let backend = stage.open();
        assert!(backend.is_library_away());
        let notices = backend.notices();
        let notice = notices.iter().find(|notice| notice.code == "library").expect("it is told");
        assert!(notice.message.contains(&stage.target().display().to_string()), "{}", notice.message);
        assert!(backend.models().all().is_empty(), "only what the application brings could answer");
        let stop = CancellationToken::new();
        let import = backend.library().import(&ember(), Some("new"), ImportMode::Copy, &stop, &mut |_, _| {});
        assert!(import.expect_err("there is no folder").to_string().contains("plug its disk in"));
        backend.look_for_library().expect_err("it still is away");
        assert_eq!(stage.target().exists(), place_stays, "it is not made anew");
    }
    let backend = stage.open();
    fs::remove_dir_all(stage.base.path().join("disk")).expect("removed");
    fs::rename(&unplugged, stage.base.path().join("disk")).expect("the disk is back");
    online(async { backend.look_for_library() }).expect("found");
    assert!(backend.notices().iter().all(|notice| notice.code != "library"));
    assert_eq!(backend.models().all().len(), 3);
    assert_whole(&stage, &backend, "back again");

    fs::rename(stage.base.path().join("disk"), &unplugged).expect("the disk is away");
    let backend = stage.open();
    online(backend.use_default_library()).expect("saved");
    assert_eq!(backend.library_folder(), stage.models());
    assert!(!backend.is_library_away() && unplugged.join("models/copied/onnx/model.onnx").is_file());
}

#[test]
fn a_paused_download_moves_along_and_goes_on_where_it_was() {
    let server = HubServer::start();
    let files =
        ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
            .map(|name| (name, fs::read(ember().join(name)).expect("part of Ember")));
    server.store(REPOSITORY, &files);
    let base = tempfile::tempdir().expect("a folder");
    let (data, target) = (base.path().join("data"), base.path().join("elsewhere"));
    let network = NetworkSettings { mirror: Some(server.endpoint()), ..NetworkSettings::default() };
    Settings { network, ..Settings::default() }.save(&data.join("settings.json")).expect("saved");
    online(async {
        let backend = bare::open(&data);
        server.act("model.onnx", 1, Act::CutAfter(100_000));
        server.act("model.onnx", 9, Act::Silent);
        let id = RepositoryId::parse(REPOSITORY).expect("an id");
        let id = backend.downloads().start_variant(&id, COMMIT, "model").await.expect("it can run");
        let mut changes = backend.changes();
        // All of the others, and of the graph what comes before the cut.
        let there = 100_000 + files[1..].iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        while !backend.downloads().list().iter().any(|download| download.done >= there) {
            tokio::task::yield_now().await;
        }
        let stop = CancellationToken::new();
        let refused =
            backend.move_library(&wanted(&target, true), &stop, |_| {}).await.expect_err("it comes");
        assert!(refused.to_string().contains("pause them first"), "{refused}");
        backend.downloads().pause(&id).await;
        backend.move_library(&wanted(&target, true), &stop, |_| {}).await.expect("moved");
        assert_eq!(backend.downloads().list()[0].state, DownloadState::Paused);
        server.behave();
        server.take_seen();
        backend.downloads().resume(&id);
        while !backend.downloads().list().is_empty() {
            changes.recv().await.ok();
        }
        assert!(target.join(&id).join("model.onnx").is_file());
        let seen = server.take_seen();
        assert!(seen.iter().any(|seen| seen.header("range") == Some("bytes=100000-")), "only the rest came");
        let store = backend.models().store();
        let checked = store.verify(&store.find(&id).expect("found"), &stop, &mut |_| {}).expect("a manifest");
        assert!(checked.expect("not stopped").iter().all(|file| file.state.is_right()));
    });
}

#[test]
fn what_was_removed_and_could_be_put_back_is_not_left_behind() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        backend.remove_model("copied").await.expect("removed");
        let stop = CancellationToken::new();
        let error = backend.move_library(&wanted(&stage.target(), false), &stop, |_| {}).await;
        assert!(error.expect_err("it waits to be put back").to_string().contains("put them back"));
        backend.restore_model("copied").await.expect("put back");
        backend.move_library(&wanted(&stage.target(), false), &stop, |_| {}).await.expect("moved");
        assert_whole(&stage, &backend, "after the move");
    });
}
