//! What a hub sends costs little memory, whatever it is. Each case is measured in a program of its own.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;

use backend::Downloader;
use backend::hub::{Commit, RepositoryId};
use downloads::{Place, REPOSITORY, hub_at, online, timing};
use server::{Act, COMMIT};
use tokio_util::sync::CancellationToken;

const LARGE: &str = "onnx/model_q4.onnx";
/// Beyond what the program takes by itself.
const MOST: u64 = 64 << 20;

/// Set for the program that is measured: the hub, the data folder, and what it asks for.
const HUB: &str = "HEARTH_MEMORY_HUB";
const DATA: &str = "HEARTH_MEMORY_DATA";
const WHAT: &str = "HEARTH_MEMORY_WHAT";

/// No test by itself: what the others start and measure. It leaves what it took, and whether all went well.
#[test]
fn the_program_that_is_measured() {
    let (Ok(hub), Ok(data), Ok(what)) = (std::env::var(HUB), std::env::var(DATA), std::env::var(WHAT)) else {
        return;
    };
    let data = Path::new(&data);
    let hub = hub_at(&hub, data, timing());
    let (id, commit) =
        (RepositoryId::parse(REPOSITORY).expect("an id"), Commit::parse(COMMIT).expect("a commit"));
    let before = peak_memory();
    let went_well = online(async {
        match what.as_str() {
            "listing" => hub.files(&id, &commit).await.is_ok(),
            "repository" => hub.repository(&id, None).await.is_ok(),
            "search" => hub.search("", 10).await.is_ok(),
            _ => {
                let record = downloads::record(&hub).await.expect("listed");
                let downloader = downloads::any_model(Downloader::new(hub, data.join("models")));
                downloader.fetch(&record, &CancellationToken::new(), |_| {}).await.is_ok()
            }
        }
    });
    let grown = peak_memory() - before;
    fs::write(data.join("measured"), format!("{grown} {went_well}")).expect("written");
}

/// What the program took for `what`, in bytes, and whether it went well; `None` where the system does not tell.
#[expect(clippy::print_stdout, reason = "whoever reads the log must see that a test was skipped")]
fn measure(place: &Place, what: &str) -> Option<(u64, bool)> {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: this system does not tell the memory of a program");
        return None;
    }
    let ended = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_program_that_is_measured"])
        .env(HUB, place.server.endpoint())
        .env(DATA, place.data.path())
        .env(WHAT, what)
        .output()
        .expect("the program starts");
    assert!(ended.status.success(), "{what}: {}", String::from_utf8_lossy(&ended.stdout));
    let measured = fs::read_to_string(place.data.path().join("measured")).expect("it was left");
    let (grown, went_well) = measured.split_once(' ').expect("two words");
    Some((grown.parse().expect("a number"), went_well == "true"))
}

/// `VmHWM` of this program in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it was there before");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let kilobytes = line.split_whitespace().next().expect("a number");
    kilobytes.parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_file_is_never_held_in_memory() {
    let place = Place::with(&[(LARGE, vec![7; 96 << 20]), ("config.json", b"{}".to_vec())]);
    let Some((grown, went_well)) = measure(&place, "fetch") else { return };
    assert!(went_well);
    assert!(grown < MOST, "{grown} bytes more");
}

#[test]
fn bodies_and_headers_without_end_cost_little() {
    for act in [Act::Endless, Act::HugeHeader(10 << 20), Act::Gzip] {
        let place = Place::new();
        place.server.act(LARGE, usize::MAX, act.clone());
        let Some((grown, went_well)) = measure(&place, "fetch") else { return };
        assert!(!went_well, "{act:?}");
        assert!(grown < MOST, "{act:?}: {grown} bytes more");
    }
}

/// JSON takes many times its text where it is read as a tree.
#[test]
fn answers_of_another_form_cost_little() {
    let zeros = |bytes: usize| vec!["0"; bytes / 2].join(",");
    let entry = r#"{"type":"file","path":"a","oid":""}"#;
    let cases = [
        ("listing", format!("[{}]", zeros((4 << 20) - 10))),
        ("listing", format!("[{}]", vec![entry; ((4 << 20) - 10) / (entry.len() + 1)].join(","))),
        ("listing", format!("[{}]", zeros(20 << 20))),
        ("repository", format!("[{}]", zeros((1 << 20) - 10))),
        ("repository", format!(r#"{{"sha":1,"cardData":[{}]}}"#, zeros((1 << 20) - 100))),
        ("repository", format!(r#"{{"tags":[{}],"sha":1}}"#, vec![r#""""#; 349_000].join(","))),
    ];
    for (what, text) in cases {
        let place = Place::new();
        place.server.change(REPOSITORY, |repository| match what {
            "listing" => repository.listing = Some(text.clone().into_bytes()),
            _ => repository.answer = Some(text.clone().into_bytes()),
        });
        let Some((grown, went_well)) = measure(&place, what) else { return };
        assert!(!went_well, "{what}: {}…", &text[..60]);
        assert!(grown < MOST, "{what}, {}…: {grown} bytes more", &text[..60]);
    }
}
