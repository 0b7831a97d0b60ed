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

use backend::hub::{HubFailure, Timing};
use backend::{DiskRules, DownloadOutcome, DownloadPhase, Error, Manifest, ModelStore};
use downloads::{Place, REPOSITORY, files, noise, online, timing};
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
        ("an address of a server behind the hub that is no longer good", 1, Act::StatusBehind(403)),
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
fn a_file_that_goes_on_asks_for_the_rest_whatever_tag_the_server_has_now() {
    let place = Place::new();
    let (path, bytes) = &files()[0];
    place.server.act(path, 1, Act::CutAfter(100_000));
    place.server.act(path, 1, Act::Tag("that-of-another-server"));
    online(place.fetch()).expect("installed");
    let seen = place.server.take_seen();
    let ranges: Vec<_> = seen.iter().filter(|seen| seen.at_files && seen.target.contains(path)).collect();
    let [first, second] = ranges.as_slice() else { panic!("two requests: {ranges:?}") };
    assert_eq!(first.header("range"), None);
    assert_eq!(second.header("range"), Some("bytes=100000-"));
    assert_eq!(second.header("if-range"), None);
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
        // Listed with patience: what is impatient here is to meet the file, and nothing before it.
        let record = online(place.record());
        let soon = Duration::from_millis(150);
        place.timing = Timing { answer: soon, stall: soon, tries: 2, ..timing() };
        place.server.act(LARGE, usize::MAX, act);
        place.server.take_seen();
        let error = online(async {
            place.downloader().fetch(&record, &CancellationToken::new(), |_| {}).await.expect_err(name)
        });
        assert!(matches!(error, Error::Hub { kind: HubFailure::Unreachable, .. }), "{name}: {error}");
        let seen = place.server.take_seen();
        assert!(seen.iter().any(|seen| seen.target.contains("model_q4")), "{name}: the file was asked for");
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
fn an_answer_that_cannot_be_used_costs_no_byte_of_what_came() {
    for (name, act) in [
        ("a status that nobody knows", Act::Status(400, vec![])),
        ("a login page", Act::LoginPage),
        ("another commit", Act::OtherCommit),
        ("gzip", Act::Gzip),
    ] {
        let place = Place::new();
        place.server.act(LARGE, 1, Act::CutAfter(150_000));
        let error = fetch_with(&place, usize::MAX, act).expect_err(name);
        assert!(matches!(error, Error::Hub { kind: HubFailure::Protocol, .. }), "{name}: {error}");
        place.server.behave();
        place.server.take_seen();
        online(place.fetch()).expect("the next try goes on");
        place.assert_installed();
        let seen = place.server.take_seen();
        let range = seen.iter().find_map(|seen| seen.header("range"));
        assert_eq!(range, Some("bytes=150000-"), "{name}: what came was kept");
    }
}

#[test]
fn a_server_that_cannot_go_on_and_breaks_off_each_time_is_not_read_for_ever() {
    let mut place = Place::new();
    place.timing = Timing { probe: Some(Duration::from_millis(1)), ..timing() };
    let length = files()[0].1.len();
    let error = fetch_with(&place, usize::MAX, Act::WholeForRangeCutAfter(length / 3)).expect_err("it ends");
    assert!(matches!(error, Error::Hub { kind: HubFailure::Protocol, .. }), "{error}");
    let others: u64 = files()[1..].iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let served = place.server.served() - others;
    assert!(served <= 3 * length as u64 && served > length as u64, "{served} bytes of {length}");
    assert!(place.visible().is_empty());
}

#[test]
fn a_network_that_was_not_there_in_this_run_is_told_and_not_waited_for() {
    let mut place = Place::new();
    place.server.act(LARGE, 1, Act::CutAfter(100_000));
    fetch_with(&place, usize::MAX, Act::Status(404, vec![])).expect_err("it is gone");
    place.server.behave();
    let record = online(place.record());
    place.timing = Timing { probe: Some(Duration::from_millis(1)), ..timing() };
    place.server.act(LARGE, usize::MAX, Act::CutAfter(0));
    let error = online(async {
        place.downloader().fetch(&record, &CancellationToken::new(), |_| {}).await.expect_err("nothing comes")
    });
    assert!(matches!(error, Error::Hub { kind: HubFailure::Unreachable, .. }), "{error}");
}

#[test]
fn names_that_this_application_writes_are_taken_from_no_repository() {
    for name in ["plan.json", "manifest.json", "linked.json", "tokenizer.json.part.json", "onnx/Plan.JSON"] {
        let mut all = files();
        all.push((name, b"{\"folder\": \"/tmp\"}".to_vec()));
        let place = Place::with(&all);
        let error = online(place.fetch()).expect_err(name);
        assert!(matches!(error, Error::Name { .. }), "{name}: {error}");
        assert_eq!(place.server.served(), 0, "{name}: not a byte came");
    }
}

/// What somebody does to a file.
type Change = Box<dyn Fn(&Path) + Send + Sync>;

/// After its digest was right and before the model is visible.
#[test]
fn what_is_done_to_a_file_that_was_right_keeps_the_model_from_being_visible() {
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret");
    fs::write(&secret, &files()[2].1).expect("written");
    let gone = |path: &Path| fs::remove_file(path).expect("removed");
    let short = |path: &Path| fs::write(path, "{").expect("written");
    let cases: Vec<(&str, Change)> = vec![
        ("it is gone", Box::new(gone)),
        ("it is shorter", Box::new(short)),
        #[cfg(unix)]
        (
            "it is another name of a file outside",
            Box::new({
                let secret = secret.clone();
                move |path: &Path| {
                    fs::remove_file(path).expect("removed");
                    fs::hard_link(&secret, path).expect("named");
                }
            }),
        ),
    ];
    for (name, change) in cases {
        let place = Place::new();
        let staged = place.models().join(format!(".staging/small-model@{}/config.json", &COMMIT[..12]));
        let error = online(async {
            let record = place.record().await;
            let on_progress = |progress: backend::DownloadProgress| {
                if progress.phase == DownloadPhase::Installing {
                    change(&staged);
                }
            };
            place.downloader().fetch(&record, &CancellationToken::new(), on_progress).await.expect_err(name)
        });
        assert!(matches!(error, Error::Library { doing: "install", .. }), "{name}: {error}");
        assert!(place.visible().is_empty(), "{name}");
        online(place.fetch()).expect("the next try works");
        place.assert_installed();
    }
    assert!(secret.is_file());
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

    // It is looked at before, with the first bytes, and then every so many: it fills in the middle.
    let looked = AtomicU64::new(0);
    let filling =
        move |_: &Path| Ok(if looked.fetch_add(1, Ordering::Relaxed) < 3 { 2 << 30 } else { 100 << 20 });
    place.disk = DiskRules { available: Arc::new(filling), ..DiskRules::default() };
    let error = online(place.fetch()).expect_err("it fills");
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    let served = place.server.served();
    place.disk = downloads::roomy();
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
        place.disk = downloads::roomy();
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
