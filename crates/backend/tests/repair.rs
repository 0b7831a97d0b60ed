//! Repairs: what is wrong comes again, and nothing else is touched.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::Path;

use backend::{
    AppDirs, CancellationToken, DownloadPhase, DownloadProgress, Error, FileState, Manifest, ModelStore,
    Origin, RepairOutcome,
};
use downloads::{Place, assert_whole, online};

const LARGE: &str = "onnx/model_q4.onnx";

#[test]
fn a_repair_fetches_what_is_wrong_and_nothing_else() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    let folder = place.assert_installed();
    fs::write(folder.join("config.json"), "{}").expect("written");
    let mut tokenizer = fs::read(folder.join("tokenizer.json")).expect("there");
    tokenizer[20_000] ^= 4;
    fs::write(folder.join("tokenizer.json"), tokenizer).expect("written");
    place.server.take_seen();
    let outcome =
        online(place.downloader().repair(&folder, &CancellationToken::new(), |_| {})).expect("repaired");
    let RepairOutcome::Repaired(wrong) = outcome else { panic!("{outcome:?}") };
    let states: Vec<_> = wrong.iter().map(|file| (file.path.as_str(), &file.state)).collect();
    assert!(
        matches!(
            states.as_slice(),
            [
                ("config.json", FileState::WrongSize { found: 2 }),
                ("tokenizer.json", FileState::WrongBytes { .. })
            ]
        ),
        "{states:?}"
    );
    assert_whole(&folder);
    assert!(place.server.take_seen().iter().all(|seen| !seen.target.contains("model_q4")));
    fs::remove_file(folder.join(LARGE)).expect("removed");
    online(place.downloader().repair(&folder, &CancellationToken::new(), |_| {})).expect("repaired");
    assert_whole(&folder);
}

#[test]
fn a_model_that_is_gone_while_it_is_repaired_does_not_come_back_by_halves() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    let folder = place.assert_installed();
    fs::remove_file(folder.join(LARGE)).expect("removed");
    let aside = place.data.path().join("aside");
    let error = online(async {
        let on_progress = |progress: DownloadProgress| {
            // As a program does that knows nothing of the lock.
            if progress.phase == DownloadPhase::Downloading && folder.exists() {
                fs::rename(&folder, &aside).expect("moved");
            }
        };
        place
            .downloader()
            .repair(&folder, &CancellationToken::new(), on_progress)
            .await
            .expect_err("it is gone")
    });
    assert!(matches!(error, Error::Library { doing: "repair", .. }), "{error}");
    assert!(place.visible().is_empty(), "nothing of it is there again");
}

#[test]
fn a_model_is_not_removed_while_it_is_repaired_and_a_repair_that_was_paused_goes_with_it() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    let folder = place.assert_installed();
    let directories =
        AppDirs { data: place.data.path().to_path_buf(), resources: Vec::new(), libraries: Vec::new() };
    let store = ModelStore::new(&directories);
    let model = store.find("small-model").expect("installed");
    fs::remove_file(folder.join(LARGE)).expect("removed");
    let (stop, mut refused) = (CancellationToken::new(), None);
    let outcome = online(async {
        let on_progress = |progress: DownloadProgress| {
            if progress.phase == DownloadPhase::Downloading && refused.is_none() {
                refused = store.remove(&model).err();
                stop.cancel();
            }
        };
        place.downloader().repair(&folder, &stop, on_progress).await.expect("no failure")
    });
    assert_eq!(outcome, RepairOutcome::Paused);
    assert!(refused.as_ref().is_some_and(|error| error.to_string().contains("under way")), "{refused:?}");
    store.remove(&model).expect("removed");
    assert!(place.visible().is_empty());
    let left = fs::read_dir(place.models().join(".staging")).expect("there").count();
    assert_eq!(left, 0, "nothing of the repair is left");
}

#[test]
fn a_folder_that_is_not_the_librarys_own_is_not_repaired() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    let elsewhere = place.data.path().join("elsewhere");
    fs::rename(place.assert_installed(), &elsewhere).expect("moved");
    fs::write(elsewhere.join("config.json"), "{}").expect("written");
    let repair = || online(place.downloader().repair(&elsewhere, &CancellationToken::new(), |_| {}));
    assert!(matches!(repair(), Err(Error::Unsupported { .. })));
    assert_eq!(fs::read(elsewhere.join("config.json")).expect("there"), b"{}");
}

#[test]
fn a_model_of_a_folder_is_refused_before_it_is_read() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    let folder = place.assert_installed();
    change_origin(&folder);
    let checked = std::sync::atomic::AtomicBool::new(false);
    let told = |_: DownloadProgress| checked.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = online(place.downloader().repair(&folder, &CancellationToken::new(), told));
    assert!(matches!(error, Err(Error::Unsupported { .. })));
    assert!(!checked.into_inner());
    assert_eq!(fs::read_dir(place.models().join(".staging")).expect("there").count(), 0, "nothing is left");
}

/// As if the model in `folder` had been imported.
fn change_origin(folder: &Path) {
    let path = folder.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
    manifest["origin"] = serde_json::to_value(Origin::Folder { path: "/elsewhere".into() }).expect("JSON");
    fs::write(path, manifest.to_string()).expect("written");
    Manifest::read(folder).expect("readable").expect("there");
}
