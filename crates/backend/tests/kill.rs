//! The program is killed again and again while it downloads: what is visible is whole and right.
//!
//! `HEARTH_KILLS=5000 cargo test -p backend --test kill` kills more often.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backend::Downloader;
use downloads::{Place, assert_whole, files, online, timing, visible};
use tokio_util::sync::CancellationToken;

/// Set for the program that is to be killed: the hub and the data folder.
const HUB: &str = "HEARTH_KILL_HUB";
const DATA: &str = "HEARTH_KILL_DATA";

/// No test by itself: what the other one starts and kills.
#[test]
fn the_program_that_is_killed() {
    let (Ok(hub), Ok(data)) = (std::env::var(HUB), std::env::var(DATA)) else { return };
    let hub = downloads::hub_at(&hub, Path::new(&data), timing());
    online(async {
        let record = downloads::record(&hub).await.expect("listed");
        let downloader = downloads::any_model(Downloader::new(hub, Path::new(&data).join("models")));
        downloader.fetch(&record, &CancellationToken::new(), |_| {}).await.expect("installed");
    });
}

#[test]
fn what_is_visible_after_a_kill_is_whole_and_right() {
    let kills: u64 = std::env::var("HEARTH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(300);
    let place = Place::new();
    let whole: u64 = files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let program = std::env::current_exe().expect("this program");
    let (mut installed, mut interrupted, mut kill) = (0, 0, 0);
    // On a fast machine many a program ends before it is killed: there, more are started.
    while kill < kills || interrupted <= kills / 4 && kill < 8 * kills {
        kill += 1;
        let mut child = Command::new(&program)
            .args(["--exact", "the_program_that_is_killed", "--nocapture"])
            .env(HUB, place.server.endpoint())
            .env(DATA, place.data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        // After so many bytes, and a little later.
        let random = noise(kill);
        let bytes = place.server.served() + random % (whole + whole / 4);
        let most = Instant::now() + Duration::from_secs(5);
        let mut has_ended = || child.try_wait().expect("it can be asked").is_some();
        while place.server.served() < bytes && !has_ended() && Instant::now() < most {
            place.server.wait_served(bytes, Duration::from_millis(5));
        }
        // While it writes the last bytes, hashes, renames, writes the manifest: so many looks at it later.
        for _ in 0..random / 7 % 4_000 {
            if has_ended() {
                break;
            }
        }
        let ended = child.try_wait().expect("it can be asked").is_some();
        child.kill().ok();
        child.wait().expect("it ends");
        interrupted += u64::from(!ended);
        for folder in visible(&place.models()) {
            assert_whole(&folder);
            std::fs::remove_dir_all(&folder).expect("removed for the next round");
            installed += 1;
        }
    }
    assert!(interrupted > kills / 4, "{interrupted} of {kill} kills met a program at work");
    assert!(installed > 0, "some downloads were finished in spite of {kills} kills");
    online(place.fetch()).expect("after all of it a download works");
    place.assert_installed();
}

#[test]
fn of_two_programs_that_fetch_one_model_each_installs_it_whole_or_leaves_it_to_the_other() {
    let place = Place::new();
    let program = std::env::current_exe().expect("this program");
    for round in 0..20 {
        let start = || {
            Command::new(&program)
                .args(["--exact", "the_program_that_is_killed", "--nocapture"])
                .env(HUB, place.server.endpoint())
                .env(DATA, place.data.path())
                .stderr(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("the program starts")
        };
        let ended = [start(), start()].map(|child| child.wait_with_output().expect("it ends"));
        assert!(ended.iter().any(|output| output.status.success()), "round {round}");
        for output in ended.iter().filter(|output| !output.status.success()) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("under way"), "round {round}: {said}");
        }
        std::fs::remove_dir_all(place.assert_installed()).expect("removed for the next round");
    }
}

fn noise(seed: u64) -> u64 {
    downloads::noise(16, seed + 1).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
