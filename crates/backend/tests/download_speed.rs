//! A download beside a plain copy of the same bytes: how quick it is, how much memory it takes, how often it tells
//! how far it is.
//!
//! Every test run does it with 48 MB, and compares bytes, memory and tellings. `cargo xtask bench download` does it
//! with 1 GB, on what it was built for, and compares the times too.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use backend::hub::{Commit, Digest, FileHasher, RepositoryId, Timing};
use backend::{DownloadOutcome, Downloader, ModelRecord, Origin, RecordedFile};
use downloads::{REPOSITORY, any_model, hub_at, noise, online, roomy, visible};
use server::COMMIT;
use tokio_util::sync::CancellationToken;

/// How much is downloaded where times are compared.
const BYTES: &str = "HEARTH_DOWNLOAD_BYTES";
const USUAL: u64 = 48_000_123;
/// Of the copy's speed, the least that a download has.
const LEAST_SHARE: f64 = 0.8;
/// Beyond what the program takes by itself.
const MOST_MEMORY: u64 = 64 << 20;
const TELLINGS_A_SECOND: f64 = 10.0;

/// Set for the program that downloads: the hub, the data folder, the file's length and digest.
const HUB: &str = "HEARTH_SPEED_HUB";
const DATA: &str = "HEARTH_SPEED_DATA";
const LENGTH: &str = "HEARTH_SPEED_LENGTH";
const DIGEST: &str = "HEARTH_SPEED_DIGEST";

/// Bytes without a pattern, again and again up to a length: as long as wanted in little memory.
struct Content {
    block: Vec<u8>,
    length: u64,
}

impl Content {
    fn new(length: u64) -> Self {
        Self { block: noise(4 << 20, 9), length }
    }

    /// Gives all bytes from `start` on, piece by piece.
    fn pieces(&self, start: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut at = start;
        while at < self.length {
            let rest = &self.block[(at % self.block.len() as u64) as usize..];
            let piece = &rest[..rest.len().min((self.length - at) as usize).min(1 << 20)];
            take(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        let mut hasher = FileHasher::like(&Digest::Sha256([0; 32]), self.length);
        let take = |piece: &[u8]| {
            hasher.update(piece);
            Ok(())
        };
        self.pieces(0, take).expect("nothing fails");
        hasher.finish()
    }

    /// Serves it at every address of a port of this machine, for as long as this program runs.
    fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
        let address = listener.local_addr().expect("a bound port has an address");
        let content = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let content = Arc::clone(&content);
                std::thread::spawn(move || content.send(stream).ok());
            }
        });
        format!("http://{address}")
    }

    fn send(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut start = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let line = line.to_ascii_lowercase();
            let range = line.strip_prefix("range: bytes=").and_then(|range| range.trim().strip_suffix('-'));
            start = range.and_then(|range| range.parse::<u64>().ok()).or(start);
        }
        let (status, range) = match start {
            None => ("200 OK", String::new()),
            Some(start) => {
                let end = self.length - 1;
                ("206 Partial Content", format!("Content-Range: bytes {start}-{end}/{}\r\n", self.length))
            }
        };
        let start = start.unwrap_or(0);
        let mut stream = reader.into_inner();
        let length = self.length - start;
        write!(stream, "HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
        self.pieces(start, |piece| stream.write_all(piece))
    }
}

/// What a download came to.
struct Measured {
    seconds: f64,
    /// Bytes of memory; `None` where the system does not tell.
    memory: Option<u64>,
    tellings: f64,
}

/// No test by itself: what the other one starts and measures.
#[test]
fn the_program_that_downloads() {
    let variables = [HUB, DATA, LENGTH, DIGEST].map(|name| std::env::var(name).ok());
    let [Some(hub), Some(data), Some(length), Some(digest)] = variables else { return };
    let data = Path::new(&data);
    let record = ModelRecord {
        id: "large".into(),
        title: "Large".into(),
        origin: Origin::Hub {
            repository: RepositoryId::parse(REPOSITORY).expect("an id"),
            commit: Commit::parse(COMMIT).expect("a commit"),
        },
        licence: None,
        curated: false,
        files: vec![RecordedFile {
            path: "model.onnx".into(),
            source: "model.onnx".into(),
            size: length.parse().expect("a length"),
            digest: Digest::try_from(digest).expect("a digest"),
        }],
    };
    let hub = hub_at(&hub, data, Timing::default());
    let downloader = any_model(Downloader::new(hub, data.join("models"))).with_disk(roomy());
    let mut tellings = 0;
    let (before, begin) = (peak_memory(), Instant::now());
    let outcome =
        online(async { downloader.fetch(&record, &CancellationToken::new(), |_| tellings += 1).await });
    let seconds = begin.elapsed().as_secs_f64();
    assert!(matches!(outcome, Ok(DownloadOutcome::Installed(_))), "{outcome:?}");
    let memory = peak_memory().zip(before).map(|(after, before)| after - before);
    let memory = memory.map_or("-".to_owned(), |memory| memory.to_string());
    fs::write(data.join("measured"), format!("{seconds} {memory} {tellings}")).expect("written");
}

/// `VmHWM` of this program in bytes, where the system tells it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn download(hub: &str, content: &Content, digest: &Digest) -> Measured {
    let data = folder();
    let ended = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_program_that_downloads"])
        .env(HUB, hub)
        .env(DATA, data.path())
        .env(LENGTH, content.length.to_string())
        .env(DIGEST, digest.to_string())
        .output()
        .expect("the program starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    let models = visible(&data.path().join("models"));
    let [model] = models.as_slice() else { panic!("one model is visible: {models:?}") };
    assert_same(&model.join("model.onnx"), content);
    let text = fs::read_to_string(data.path().join("measured")).expect("it was left");
    let [seconds, memory, tellings] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    Measured {
        seconds: seconds.parse().expect("a time"),
        memory: memory.parse().ok(),
        tellings: tellings.parse().expect("a count"),
    }
}

/// Compares every byte, by other means than those of the download.
fn assert_same(path: &Path, content: &Content) {
    let mut file = File::open(path).expect("it is there");
    assert_eq!(file.metadata().expect("told").len(), content.length);
    let mut found = vec![0; 1 << 20];
    let compare = |piece: &[u8]| {
        file.read_exact(&mut found[..piece.len()])?;
        assert!(found[..piece.len()] == *piece, "another byte than was sent");
        Ok(())
    };
    content.pieces(0, compare).expect("read");
}

/// Copies a file as simple programs do, until it is on the disk; returns the seconds. The copy is deleted.
fn copy(source: &Path, target: &Path) -> f64 {
    let begin = Instant::now();
    let mut from = File::open(source).expect("it is there");
    let mut to = File::create_new(target).expect("made");
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer).expect("read") {
            0 => break,
            length => to.write_all(&buffer[..length]).expect("written"),
        }
    }
    to.sync_all().expect("on the disk");
    let seconds = begin.elapsed().as_secs_f64();
    fs::remove_file(target).expect("removed");
    seconds
}

/// On the disk of the build: a temporary folder may lie in memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// Lets the disk come to rest after files were deleted.
fn rest(folder: &Path) {
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn a_download_is_about_as_quick_as_a_copy_takes_little_memory_and_tells_now_and_then() {
    let asked: Option<u64> = std::env::var(BYTES).ok().and_then(|bytes| bytes.parse().ok());
    let content = Arc::new(Content::new(asked.unwrap_or(USUAL)));
    let (hub, digest) = (content.serve(), content.digest());
    let source = folder();
    let (original, target) = (source.path().join("original"), source.path().join("copy"));
    let mut file = File::create(&original).expect("made");
    content.pieces(0, |piece| file.write_all(piece)).expect("written");
    file.sync_all().expect("on the disk");
    let (mut copies, mut downloads) = (Vec::new(), Vec::new());
    for _ in 0..if asked.is_some() { 3 } else { 1 } {
        rest(source.path());
        copies.push(copy(&original, &target));
        rest(source.path());
        downloads.push(download(&hub, &content, &digest));
    }
    let memory = downloads.iter().filter_map(|download| download.memory).max();
    let seconds = median(downloads.iter().map(|download| download.seconds).collect());
    let (copied, megabytes) = (median(copies), content.length as f64 / 1e6);
    let share = copied / seconds;
    println!(
        "{megabytes:.0} MB: copied in {copied:.2} s ({:.0} MB/s), downloaded and checked in {seconds:.2} s \
         ({:.0} MB/s), {:.0} % of the copy's speed; {:.1} MB of memory",
        megabytes / copied,
        megabytes / seconds,
        100.0 * share,
        memory.unwrap_or_default() as f64 / 1e6,
    );
    for Measured { seconds, tellings, .. } in &downloads {
        let most = 5.0 + seconds * TELLINGS_A_SECOND;
        assert!(*tellings <= most, "{tellings} tellings in {seconds:.2} s: a window has other work too");
    }
    assert!(memory.is_none_or(|memory| memory <= MOST_MEMORY), "{memory:?} bytes more");
    // Of so short a time, and of a program that is not built for speed, the share says nothing.
    assert!(asked.is_none() || share >= LEAST_SHARE, "{share:.2} of the copy's speed");
}
