//! A disk that fills while a model comes: nothing wrong is visible, what came is kept, and conversations go on.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/namespaces.rs"]
mod namespaces;
#[path = "support/hub.rs"]
mod server;
mod support;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use backend::{DiskRules, DownloadOutcome, Downloader, Entry, Error, ModelRecord, ModelStore, ReplyStatus};
use bare::{Numbers, count, open};
use downloads::{REPOSITORY, any_model, assert_whole, files, hub_at, roomy, timing, visible};
use server::{HubServer, Seen};
use support::{Transport, World};
use tokio_util::sync::CancellationToken;

/// Names the data folder to a process that is run for the test: a small disk of its own.
const FOLDER: &str = "HEARTH_FULL_DISK_FOLDER";
const DISK: &str = "24m";

fn moments() -> usize {
    count("HEARTH_KILLS", 300) / 6
}

/// A disk with so much room that a download and a conversation may share.
struct Disk<'d>(&'d Path);

impl Disk<'_> {
    fn free(&self) -> u64 {
        fs4::available_space(self.0).expect("the system tells it")
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.join("ballast")
    }

    /// Leaves so many bytes free.
    fn leave(&self, bytes: u64) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("made");
        let piece = vec![1; 64 << 10];
        let mut left = self.free().saturating_sub(bytes);
        while left > 0 {
            let length = left.min(piece.len() as u64);
            ballast.write_all(&piece[..length as usize]).expect("there is room for it");
            left -= length;
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.ballast()).expect("removed");
    }
}

/// A download and a conversation on one disk.
struct Stage<'d> {
    disk: Disk<'d>,
    server: HubServer,
    record: ModelRecord,
    world: World,
    /// The messages that were sent.
    said: Vec<String>,
}

impl Stage<'_> {
    /// What a user would see as models: all of them whole.
    fn see(&self) -> usize {
        let visible = visible(&self.disk.0.join("models"));
        visible.iter().for_each(|folder| assert_whole(folder));
        visible.len()
    }

    async fn fetch(&self, disk: DiskRules) -> backend::Result<DownloadOutcome> {
        let hub = hub_at(&self.server.endpoint(), self.disk.0, timing());
        let downloader = any_model(Downloader::new(hub, self.disk.0.join("models"))).with_disk(disk);
        downloader.fetch(&self.record, &CancellationToken::new(), |_| {}).await
    }

    async fn say(&self, text: &str) {
        let (reply, _) = self.world.ask(text).await;
        assert!(matches!(reply.status, ReplyStatus::Finished(_)), "{text}: {:?}", reply.status);
        assert!(!reply.text.is_empty(), "{text}");
    }

    /// Bytes of files that these requests asked for.
    fn asked(&self, seen: &[Seen]) -> u64 {
        let of_files = seen.iter().filter(|seen| seen.at_files || seen.target.contains("/resolve-cache/"));
        let rest = |seen: &Seen| {
            let path = seen.target.split('?').next().unwrap_or_default();
            let file =
                self.record.files.iter().find(|file| path.ends_with(&file.path)).expect("a file of it");
            let range =
                seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
            file.size - range.map_or(0, |start| start.parse::<u64>().expect("a place"))
        };
        of_files.map(rest).sum()
    }

    /// Lets the disk fill after `room` bytes, makes room again, and lets the download end. Returns how many bytes
    /// were kept meanwhile, where it filled.
    async fn fill(&mut self, moment: usize, room: u64, rules: DiskRules) -> Option<u64> {
        let name = format!("moment {moment}, {room} bytes left");
        if moment.is_multiple_of(5) {
            self.world.backend.history().begin(false).expect("begun");
        }
        let texts = ["meanwhile", "afterwards"].map(|when| format!("{when}-{moment}"));
        self.disk.leave(room);
        let (outcome, ()) = tokio::join!(self.fetch(rules), self.say(&texts[0]));
        let filled = match outcome {
            Ok(DownloadOutcome::Installed(_)) => false,
            Err(Error::DiskFull { .. }) => true,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(self.see(), usize::from(!filled), "{name}");
        self.say(&texts[1]).await;
        self.said.extend(texts);
        self.disk.clear();
        let history = self.world.backend.history();
        history.set_draft(self.world.chat().current(), &name).expect("kept");
        let notices = self.world.backend.notices();
        assert!(notices.iter().all(|notice| notice.code != "history"), "{name}: {notices:?}");

        let kept: u64 =
            ModelStore::new(&self.world.directories).unfinished().iter().map(|begun| begun.bytes).sum();
        self.server.take_seen();
        let outcome = self.fetch(roomy()).await;
        assert!(matches!(outcome, Ok(DownloadOutcome::Installed(_))), "{name}: {outcome:?}");
        assert_eq!(self.see(), 1, "{name}");
        if filled {
            let asked = self.asked(&self.server.take_seen());
            assert_eq!(asked, self.record.size() - kept, "{name}: what came is not asked for again");
        }
        for folder in visible(&self.disk.0.join("models")) {
            std::fs::remove_dir_all(folder).expect("removed for the next moment");
        }
        filled.then_some(kept)
    }
}

#[test]
fn the_process_whose_disk_fills() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let data = Path::new(&folder);
    let answer = "Hearth keeps what was said, and what came of a model. ".repeat(4);
    let answers = vec![answer.as_str(); 40];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let said = runtime.block_on(async {
        let server = HubServer::start();
        server.store(REPOSITORY, &files());
        let world = World::with(Transport::Channel, &answers, 4096, |directories| {
            directories.data = data.to_path_buf();
        });
        let hub = hub_at(&server.endpoint(), data, timing());
        let record = downloads::record(&hub).await.expect("listed");
        let mut stage = Stage { disk: Disk(data), server, record, world, said: Vec::new() };
        stage.say("before").await;
        let (mut numbers, mut kept) = (Numbers(5), Vec::new());
        let most = stage.record.size() + stage.record.size() / 4;
        for moment in 0..moments() {
            let room = numbers.below(most as usize) as u64;
            // In turn, a disk that is asked before, and one that says at some byte that it is full.
            let asked = DiskRules { margin: 0, reserve: 0, ..DiskRules::default() };
            let rules = if moment.is_multiple_of(3) { asked } else { roomy() };
            kept.extend(stage.fill(moment, room, rules).await);
        }
        let parts = kept.iter().filter(|&&kept| kept > 0).count();
        println!(
            "{} moments, in {} the disk filled, in {parts} behind a part of the model",
            moments(),
            kept.len()
        );
        assert!(kept.len() > moments() / 2, "{} of {}", kept.len(), moments());
        assert!(parts > kept.len() / 3, "{parts} of {}", kept.len());
        let Stage { said, world, .. } = stage;
        drop(world);
        said
    });
    let backend = open(data);
    let mut found: HashMap<String, usize> = HashMap::new();
    for about in backend.history().conversations(0, usize::MAX).expect("listed") {
        for entry in backend.history().conversation(about.id, usize::MAX).expect("read").entries {
            match entry {
                Entry::Question(question) => *found.entry(question.text).or_default() += 1,
                Entry::Reply(reply) => assert!(matches!(reply.status, ReplyStatus::Finished(_))),
                _ => {}
            }
        }
    }
    for text in said {
        assert_eq!(found.get(&text), Some(&1), "{text} is kept, once");
    }
    assert!(!data.join("conversations/damaged").exists(), "nothing was taken for damaged");
}

#[test]
fn at_whatever_moment_the_disk_fills_models_are_whole_and_conversations_go_on() {
    let Some(mut command) = namespaces::in_namespaces(&["--mount"]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let shell =
        format!("mount -t tmpfs -o size={DISK} none '{}' && exec \"$0\" \"$@\"", folder.path().display());
    command.args(["sh", "-c", &shell]).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "the_process_whose_disk_fills", "--nocapture"]);
    let output = command.env(FOLDER, folder.path()).output().expect("it starts");
    let [said, failed] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}\n{said}\n{failed}", output.status);
    assert!(said.contains("1 passed"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("moments")).unwrap_or_default());
}
