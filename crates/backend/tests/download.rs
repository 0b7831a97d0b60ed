//! Downloads from a hub that behaves, and from one that does not: the right files or an error, never a wrong
//! model.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend::hub::{Digest, HubFailure, Timing, check_path, check_paths, is_model_file};
use backend::{
    DiskRules, DownloadOutcome, DownloadPhase, Error, FileState, Manifest, ModelRecord, ModelStore,
    RecordedFile, RepairOutcome,
};
use downloads::{Place, REPOSITORY, assert_whole, files, noise, online, timing};
use proptest::prelude::*;
use server::{Act, COMMIT};
use tokio_util::sync::CancellationToken;

const LARGE: &str = "onnx/model_q4.onnx";

/// What a download of the usual files came to, after `act` for the next `times` requests for the large file.
fn fetch_with(place: &Place, times: usize, act: Act) -> backend::Result<DownloadOutcome> {
    place.server.act(LARGE, times, act);
    online(place.fetch())
}

#[test]
fn a_download_ends_installed_and_every_byte_was_compared() {
    let place = Place::new();
    let outcome = online(place.fetch()).expect("installed");
    let folder = place.assert_installed();
    assert_eq!(outcome, DownloadOutcome::Installed(folder.clone()));
    assert_eq!(
        folder.file_name().expect("a name").to_string_lossy(),
        format!("small-model@{}", &COMMIT[..12])
    );
    let manifest = Manifest::read(&folder).expect("readable").expect("there");
    assert_eq!(manifest.record.files.len(), 3);
    let again = online(place.fetch()).expect("it is there");
    assert_eq!(again, outcome, "what is installed is not fetched again");
    let staged = fs::read_dir(place.models().join(".staging")).expect("there").count();
    assert_eq!(staged, 0, "nothing is left over");
}

#[test]
fn every_request_asks_for_the_bytes_as_they_are() {
    let place = Place::new();
    online(place.fetch()).expect("installed");
    for seen in place.server.take_seen() {
        assert_eq!(seen.header("accept-encoding"), Some("identity"), "{}", seen.target);
        assert_eq!(seen.header("referer"), None);
    }
}

/// The behaviours after which the right file comes, by itself or after one more try.
#[test]
fn what_can_be_mended_is_mended() {
    let half = files()[0].1.len() / 2;
    let length = files()[0].1.len();
    let cases: Vec<(&str, usize, Act)> = vec![
        ("1 the connection ends", 3, Act::CutAfter(half / 4)),
        ("2 the connection ends before the last byte", 1, Act::CutAfter(length - 1)),
        ("3 the length is too small", 1, Act::LengthOff(-1000)),
        ("4 the length is too large", 1, Act::LengthOff(1000)),
        ("5 no length, chunks", 1, Act::Chunked { ends: true }),
        ("6 the chunks do not end", 1, Act::Chunked { ends: false }),
        ("7 one bit is wrong, once", 1, Act::BitFlipped(12_345)),
        ("8 zeros, once", 1, Act::Zeros),
        ("9 nothing under 200, once", 1, Act::Empty),
        ("24 gzip that nobody asked for, once", 1, Act::Gzip),
        ("25 a login page, once", 1, Act::LoginPage),
        ("26 an error of the server, twice", 2, Act::Status(503, vec![])),
        ("26 come back at once", 2, Act::Status(429, vec![("Retry-After", "0")])),
        ("a timeout of the server", 2, Act::Status(408, vec![])),
        ("a mirror without tag, length and commit", usize::MAX, Act::BareMirror),
        ("23 a body without end, once", 1, Act::Endless),
    ];
    for (name, times, act) in cases {
        let place = Place::new();
        let outcome = fetch_with(&place, times, act).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(outcome, DownloadOutcome::Installed(_)), "{name}: {outcome:?}");
        place.assert_installed();
    }
}

/// The behaviours of a server that sent half of the file before.
#[test]
fn the_rest_of_a_file_is_taken_from_an_answer_that_is_the_rest_and_from_no_other() {
    let half = files()[0].1.len() / 2;
    let cases: Vec<(&str, usize, Act)> = vec![
        ("a range", 1, Act::Right),
        ("10 everything in the place of a range", 1, Act::WholeForRange),
        ("11 another range", 1, Act::OtherRange(-7)),
        ("12 a range that is not named", 1, Act::NoContentRange),
        ("13 no range can be satisfied, once", 1, Act::Unsatisfiable),
        ("14 another tag", 1, Act::Tag("other")),
        ("a wrong bit in the rest", 1, Act::BitFlipped(files()[0].1.len() * 8 - 1)),
    ];
    for (name, times, act) in cases {
        let place = Place::new();
        place.server.act(LARGE, 1, Act::CutAfter(half));
        let outcome = fetch_with(&place, times, act);
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        place.assert_installed();
    }
}

#[test]
fn a_file_that_goes_on_asks_for_the_rest_under_the_tag_that_it_had() {
    let place = Place::new();
    let (path, bytes) = &files()[0];
    place.server.act(path, 1, Act::CutAfter(100_000));
    online(place.fetch()).expect("installed");
    let seen = place.server.take_seen();
    let ranges: Vec<_> = seen.iter().filter(|seen| seen.at_files && seen.target.contains(path)).collect();
    let [first, second] = ranges.as_slice() else { panic!("two requests: {ranges:?}") };
    assert_eq!(first.header("range"), None);
    assert_eq!(second.header("range"), Some("bytes=100000-"));
    assert!(second.header("if-range").is_some_and(|tag| tag.starts_with('"')));
    let expected: usize = files().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(place.server.served(), expected as u64, "no byte of {} came twice", bytes.len());
}

/// The behaviours that never end: an error that says what it is, nothing visible, and the next try works.
#[test]
fn what_cannot_be_mended_ends_in_an_error_and_the_next_try_works() {
    let place = Place::new();
    let wrong = HubFailure::Protocol;
    let elsewhere = "https://127.0.0.1:1/model".to_owned();
    let cases: Vec<(&str, Act, Option<HubFailure>)> = vec![
        ("7 one bit is wrong", Act::BitFlipped(12_345), None),
        ("8 zeros", Act::Zeros, None),
        ("9 nothing under 200", Act::Empty, Some(HubFailure::Unreachable)),
        ("1 the connection always ends at once", Act::CutAfter(0), Some(HubFailure::Unreachable)),
        ("13 416 for ever", Act::Unsatisfiable, Some(wrong)),
        ("15 another commit", Act::OtherCommit, Some(wrong)),
        ("16 a redirect to itself", Act::RedirectLoop, Some(wrong)),
        (
            "17 a redirect away from https",
            Act::Redirect("http://example.invalid/x".into()),
            Some(HubFailure::Insecure),
        ),
        ("18 a redirect to nobody", Act::Redirect(elsewhere), Some(HubFailure::Unreachable)),
        ("19 a redirect to a file", Act::Redirect("file:///etc/passwd".into()), Some(HubFailure::Insecure)),
        ("22 a header of 10 MB", Act::HugeHeader(10 << 20), Some(HubFailure::Unreachable)),
        ("23 a body without end", Act::Endless, Some(wrong)),
        ("24 gzip", Act::Gzip, Some(wrong)),
        ("25 a login page", Act::LoginPage, Some(wrong)),
        ("26 an error for ever", Act::Status(503, vec![]), Some(HubFailure::Server)),
        (
            "26 come back in three years",
            Act::Status(429, vec![("Retry-After", "99999999")]),
            Some(HubFailure::RateLimited { retry_after: Some(Duration::from_secs(99_999_999)) }),
        ),
        ("30 another size than the listing", Act::LinkedSize(5), Some(wrong)),
        ("another digest than the listing", Act::LinkedDigest("0".repeat(64)), Some(wrong)),
        ("it is gone", Act::Status(404, vec![("X-Error-Code", "EntryNotFound")]), Some(HubFailure::Missing)),
    ];
    for (name, act, expected) in cases {
        let error = fetch_with(&place, usize::MAX, act).expect_err(name);
        match (&error, expected) {
            (Error::WrongFile { .. }, None) => {}
            (Error::Hub { kind, .. }, Some(expected)) => assert_eq!(*kind, expected, "{name}: {error}"),
            _ => panic!("{name}: {error}"),
        }
        assert!(place.visible().is_empty(), "{name}: a model is visible");
        place.server.behave();
    }
    online(place.fetch()).expect("the next try works");
    place.assert_installed();
}

#[test]
fn a_server_that_falls_silent_or_drips_is_left() {
    for (name, act) in [("20 one byte at a time", Act::Drip), ("21 no answer", Act::Silent)] {
        let mut place = Place::new();
        let soon = Duration::from_millis(150);
        place.timing = Timing { answer: soon, stall: soon, tries: 2, ..timing() };
        let error = fetch_with(&place, usize::MAX, act).expect_err(name);
        assert!(matches!(error, Error::Hub { kind: HubFailure::Unreachable, .. }), "{name}: {error}");
        assert!(place.visible().is_empty(), "{name}");
        place.server.behave();
        place.timing = timing();
        online(place.fetch()).expect("the next try works");
        place.assert_installed();
    }
}

#[test]
fn a_network_that_is_lost_on_the_way_is_waited_for() {
    let mut place = Place::new();
    place.timing = Timing { probe: Some(Duration::from_millis(1)), ..timing() };
    place.server.act(LARGE, 1, Act::CutAfter(100_000));
    place.server.act(LARGE, 20, Act::CutAfter(0));
    online(place.fetch()).expect("it came back, after more tries than a server has that never was there");
    place.assert_installed();
}

#[test]
fn a_server_with_a_certificate_of_its_own_making_is_not_trusted() {
    let server = certificate::serve();
    let data = tempfile::tempdir().expect("a folder");
    let hub = downloads::hub_at(&server, data.path(), timing());
    let error = online(hub.search("x", 1)).expect_err("nobody vouches for it");
    assert!(matches!(error, Error::Hub { kind: HubFailure::Insecure, .. }), "27: {error}");
}

#[test]
fn a_name_that_is_listed_twice_or_leads_elsewhere_is_refused_before_a_byte_comes() {
    let bad =
        ["../x.json", "a/../../x.json", "C:x.json", "\\\\host\\share", "CON.json", "a.json/", "Config.json"];
    for name in bad {
        let place = Place::new();
        let entries = [("config.json", b"{}".to_vec()), (name, b"{}".to_vec())];
        let listing: Vec<_> = entries.iter().map(|(path, bytes)| server::tree_entry(path, bytes)).collect();
        let listing = serde_json::Value::from(listing).to_string().into_bytes();
        place.server.change(REPOSITORY, |repository| repository.listing = Some(listing));
        let error = online(place.fetch()).expect_err(name);
        assert!(matches!(error, Error::Name { .. }), "29, 31 `{name}`: {error}");
        assert!(place.server.take_seen().iter().all(|seen| !seen.target.contains("/resolve/")), "{name}");
        assert!(!place.models().join(".staging").exists(), "nothing was written");
    }
}

#[test]
fn memory_stays_bounded_whatever_is_sent() {
    let Some(before) = peak_memory() else { return };
    let place = Place::new();
    for act in [Act::Endless, Act::HugeHeader(10 << 20), Act::Gzip] {
        fetch_with(&place, usize::MAX, act).expect_err("it never ends well");
        place.server.behave();
    }
    let large = Place::with(&[(LARGE, noise(48 << 20, 9))]);
    online(large.fetch()).expect("installed");
    let grown = peak_memory().expect("it was told before") - before;
    // The test's own hub holds the file twice or three times: its copies are not the client's.
    assert!(grown < (48 * 4 + 64) << 20, "{grown} bytes more");
}

/// `VmHWM` in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[test]
fn a_pause_keeps_what_came_and_the_next_try_goes_on_there() {
    let place = Place::with(&[(LARGE, noise(4 << 20, 3)), ("config.json", b"{}".to_vec())]);
    place.server.act(LARGE, 1, Act::CutAfter(1 << 20));
    online(async {
        let record = place.record().await;
        let stop = CancellationToken::new();
        let on_progress = |progress: backend::DownloadProgress| {
            if progress.done > 500_000 {
                stop.cancel();
            }
        };
        let outcome = place.downloader().fetch(&record, &stop, on_progress).await.expect("no failure");
        assert_eq!(outcome, DownloadOutcome::Paused);
    });
    assert!(place.visible().is_empty());
    let directories = backend::AppDirs {
        data: place.data.path().to_path_buf(),
        resources: Vec::new(),
        libraries: Vec::new(),
    };
    let unfinished = ModelStore::new(&directories).unfinished();
    let [begun] = unfinished.as_slice() else { panic!("one download was begun: {unfinished:?}") };
    assert!(begun.bytes >= 500_000 && begun.bytes < 4 << 20, "{}", begun.bytes);
    place.server.take_seen();
    online(async {
        // The plan is on the disk: the hub need not be asked for it again.
        let outcome = place.downloader().fetch(&begun.record, &CancellationToken::new(), |_| {}).await;
        assert!(matches!(outcome, Ok(DownloadOutcome::Installed(_))), "{outcome:?}");
    });
    let seen = place.server.take_seen();
    let range = seen.iter().find_map(|seen| seen.header("range")).expect("only the rest is asked for");
    assert_eq!(range, format!("bytes={}-", begun.bytes - 2));
    assert_eq!(ModelStore::new(&directories).unfinished(), []);
}

#[test]
fn a_download_that_is_discarded_leaves_nothing() {
    let place = Place::new();
    fetch_with(&place, usize::MAX, Act::CutAfter(1000)).expect_err("it never ends");
    online(async {
        let record = place.record().await;
        place.downloader().discard(&record).expect("discarded");
    });
    assert_eq!(fs::read_dir(place.models().join(".staging")).expect("there").count(), 0);
}

#[test]
fn a_part_of_another_file_is_never_gone_on_with() {
    let place = Place::new();
    fetch_with(&place, usize::MAX, Act::CutAfter(1000)).expect_err("it never ends");
    place.server.behave();
    let changed: Vec<_> =
        files().into_iter().map(|(path, bytes)| (path, noise(bytes.len() + 1, 77))).collect();
    place.server.store(REPOSITORY, &changed);
    online(place.fetch()).expect("installed");
    let visible = place.visible();
    for (path, bytes) in changed {
        assert!(fs::read(visible[0].join(path)).expect("there") == bytes, "{path}");
    }
}

#[test]
fn damage_to_what_is_staged_costs_a_fetch_and_nothing_else() {
    let place = Place::new();
    place.server.act(LARGE, 1, Act::CutAfter(150_000));
    fetch_with(&place, usize::MAX, Act::Status(404, vec![])).expect_err("it is gone");
    place.server.behave();
    let staged = place.models().join(format!(".staging/small-model@{}", &COMMIT[..12]));
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("written");
    };
    flip(&staged.join("tokenizer.json"));
    flip(&staged.join("onnx/model_q4.onnx.part"));
    fs::write(staged.join("manifest.json"), "{}").expect("written");
    online(place.fetch()).expect("installed");
    place.assert_installed();
}

#[test]
fn two_downloads_of_one_model_do_not_meet() {
    let place = Place::new();
    place.server.act(LARGE, usize::MAX, Act::Silent);
    online(async {
        let record = place.record().await;
        let (downloader, stop) = (place.downloader(), CancellationToken::new());
        let first = downloader.fetch(&record, &stop, |_| {});
        let second = async {
            // The first one has the folder as soon as it asked for the large file.
            while !place.server.take_seen().iter().any(|seen| seen.target.contains("model_q4")) {
                tokio::task::yield_now().await;
            }
            let error = downloader.fetch(&record, &stop, |_| {}).await.expect_err("the other one has it");
            stop.cancel();
            error
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.expect("paused"), DownloadOutcome::Paused);
        assert!(second.to_string().contains("under way"), "{second}");
    });
}

#[test]
fn a_disk_that_is_too_small_is_told_before_and_one_that_fills_keeps_the_part() {
    let mut place = Place::with(&[(LARGE, noise(40 << 20, 5)), ("config.json", b"{}".to_vec())]);
    let free = Arc::new(AtomicU64::new(1 << 30));
    let told = Arc::clone(&free);
    place.disk =
        DiskRules { available: Arc::new(move |_| Ok(told.load(Ordering::Relaxed))), ..DiskRules::default() };
    let error = online(place.fetch()).expect_err("it does not fit");
    let Error::DiskFull { missing, .. } = error else { panic!("{error}") };
    assert!(missing > 40 << 20 && missing < 42 << 20, "the margin is 1 GiB: {missing}");
    assert_eq!(place.server.served(), 0, "not a byte came");

    free.store(2 << 30, Ordering::Relaxed);
    let error = online(async {
        let record = place.record().await;
        let fill = |progress: backend::DownloadProgress| {
            if progress.done > 1 << 20 {
                free.store(100 << 20, Ordering::Relaxed);
            }
        };
        place.downloader().fetch(&record, &CancellationToken::new(), fill).await.expect_err("it fills")
    });
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    let served = place.server.served();
    free.store(2 << 30, Ordering::Relaxed);
    online(place.fetch()).expect("installed");
    let again = place.server.served() - served;
    assert!(again < 30 << 20, "the part was kept: {again} bytes came again");
}

/// The n-th question for room finds none, for n = 0, 1, 2, … until a download passes.
#[test]
fn whenever_the_disk_fills_nothing_wrong_is_visible_and_what_came_is_kept() {
    let mut passed = None;
    for full_from in 0..100 {
        let mut place = Place::new();
        let asked = AtomicU64::new(0);
        let available =
            move |_: &Path| Ok(if asked.fetch_add(1, Ordering::Relaxed) < full_from { 2 << 30 } else { 0 });
        place.disk = DiskRules { available: Arc::new(available), ..DiskRules::default() };
        place.server.act(LARGE, usize::MAX, Act::CutAfter(20_000));
        match online(place.fetch()) {
            Ok(_) => {
                passed = Some(full_from);
                break;
            }
            Err(Error::DiskFull { .. }) => {}
            Err(error) => panic!("the disk filled at question {full_from}: {error}"),
        }
        assert!(place.visible().is_empty(), "question {full_from}");
        let served = place.server.served();
        place.disk = DiskRules::default();
        online(place.fetch()).expect("there is room again");
        place.assert_installed();
        let whole: u64 = files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        // What was on its way when the disk filled may come once more, of two files.
        let again = place.server.served() - whole;
        assert!(
            again <= 2 * 40_000 && again <= served,
            "question {full_from}: {again} of {served} bytes again"
        );
    }
    assert!(passed.is_some_and(|questions| questions > 10), "{passed:?}");
}

#[test]
fn progress_only_rises_and_tells_why_it_waits() {
    let place = Place::new();
    place.server.act(LARGE, 2, Act::Status(503, vec![]));
    let told = Mutex::new(Vec::new());
    online(async {
        let record = place.record().await;
        let on_progress = |progress| told.lock().expect("no panic").push(progress);
        place.downloader().fetch(&record, &CancellationToken::new(), on_progress).await.expect("installed");
    });
    let told = told.into_inner().expect("no panic");
    assert!(told.windows(2).all(|pair| pair[0].done <= pair[1].done), "{told:?}");
    let last = told.last().expect("something was told");
    assert_eq!((last.done, &last.phase), (last.total, &DownloadPhase::Installing));
    let waits = told.iter().any(|progress| match &progress.phase {
        DownloadPhase::Waiting { reason, .. } => reason.contains("503"),
        _ => false,
    });
    assert!(waits, "{told:?}");
}

#[test]
fn a_model_that_the_engine_refuses_is_not_installed() {
    let place = Place::new();
    let error = online(async {
        let record = place.record().await;
        let downloader = backend::Downloader::new(place.hub(), place.models());
        downloader.fetch(&record, &CancellationToken::new(), |_| {}).await.expect_err("noise is no graph")
    });
    assert!(matches!(error, Error::Engine(_)), "{error}");
    assert!(place.visible().is_empty());
}

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
fn eighty_names_are_taken_or_refused_alike_on_every_system() {
    let long = "a".repeat(101);
    let refused = [
        "",
        ".",
        "..",
        "/",
        "a/",
        "/a",
        "a//b",
        "./a",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        "..\\a",
        "a\\b",
        "\\a",
        "C:",
        "C:a",
        "C:/a",
        "C:\\a",
        "c:a.json",
        "D:foo",
        "\\\\host\\share",
        "//host/share",
        "\\\\?\\C:\\a",
        "\\\\.\\COM1",
        "a:b",
        "a.json:stream",
        "a.json::$DATA",
        "con",
        "CON",
        "Con.json",
        "prn",
        "aux",
        "AUX.onnx",
        "nul",
        "NUL.txt",
        "com1",
        "COM9.json",
        "lpt1",
        "LPT3.onnx",
        "a.",
        "a..",
        "a/b.",
        "a ",
        " a",
        "a b",
        "a\tb",
        "a\nb",
        "a\0",
        "a\0.json",
        "a?b",
        "a*b",
        "a<b",
        "a>b",
        "a|b",
        "a\"b",
        "~",
        "~/a",
        "$HOME",
        "%2e%2e",
        "%2e%2e/a",
        "ä.json",
        "．．",
        "a\u{202e}b",
        "a\u{200d}",
        "a\u{301}",
        "🔥",
        &long,
        "a/b/c/d/e",
        "a/b/c/d/e/f",
    ];
    let taken = [
        "a",
        "a.json",
        "onnx/model_q4.onnx",
        "model.onnx.data",
        "model.onnx_data_1",
        "..a",
        "a..b",
        ".hidden",
        "-a",
        "_a",
        "onnxruntime/cpu_and_mobile/cpu-int4-kld-block-128/model.onnx",
        "console",
        "nullable.json",
        "com10",
    ];
    assert!(refused.len() + taken.len() >= 80, "{} names", refused.len() + taken.len());
    for name in refused {
        assert!(check_path(name).is_err(), "{name:?} must be refused");
    }
    for name in taken {
        assert!(check_path(name).is_ok(), "{name:?} must be taken");
    }
    for (one, other) in [("a.json", "A.JSON"), ("a", "a/b"), ("A", "a/b"), ("a.json", "a.json")] {
        assert!(check_paths([one, other]).is_err(), "{one} and {other} cannot lie in one folder everywhere");
    }
    assert!(check_paths(["a.json", "b/a.json"]).is_ok());
    for code in [
        "run.py",
        "a.so",
        "a.dll",
        "a.dylib",
        "a.exe",
        "a.bin",
        "a.pt",
        "a.pkl",
        "a.safetensors",
        "a.sh",
        "model.hearth.onnx",
        "prepared.json",
    ] {
        assert!(!is_model_file(code), "{code} is nothing that a model needs");
    }
    for file in
        ["model.onnx", "model.onnx_data", "model.onnx_data_12", "model.onnx.data", "LICENSE", "a.jinja"]
    {
        assert!(is_model_file(file), "{file}");
    }
}

proptest! {
    #[test]
    fn a_path_that_is_taken_stays_in_its_folder(path in "[a-zA-Z0-9./\\\\:~ _%$-]{0,24}") {
        let folder = Path::new("/models/one");
        if check_path(&path).is_ok() {
            let joined = folder.join(&path);
            prop_assert!(joined.starts_with(folder) && joined != folder);
            let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
            prop_assert!(joined.components().all(plain), "{}", joined.display());
        }
    }

    #[test]
    fn a_record_survives_its_file(title in ".{0,20}", size in any::<u64>(), byte in any::<u8>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let record = ModelRecord {
            id: "a".into(),
            title,
            origin: backend::Origin::Folder { path: "/x".into() },
            licence: None,
            curated: true,
            files: vec![RecordedFile {
                path: "a.json".into(),
                source: "b/a.json".into(),
                size,
                digest: Digest::Sha256([byte; 32]),
            }],
        };
        let text = serde_json::to_vec(&record).expect("JSON");
        fs::write(folder.path().join("record.json"), &text).expect("written");
        prop_assert_eq!(serde_json::from_slice::<ModelRecord>(&text).expect("read"), record);
    }
}

/// A server of TLS that nobody vouches for.
mod certificate {
    use std::net::TcpListener;
    use std::sync::Arc;

    /// Its address.
    pub(crate) fn serve() -> String {
        let key = rcgen::generate_simple_self_signed(["wrong.example".to_owned()]).expect("a certificate");
        rustls::crypto::ring::default_provider().install_default().ok();
        let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret.into())
            .expect("key and certificate belong together");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
                // The client leaves as soon as it has seen the certificate.
                while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
            }
        });
        format!("https://{address}")
    }
}
