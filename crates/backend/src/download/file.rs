//! Fetches one file: resumes, waits, tries again, and ends with the right bytes or an error.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::part::{Part, Written};
use super::progress::{DownloadPhase, Meter};
use crate::error::{Error, Result};
use crate::hub::{Answer, Commit, Digest, Hub, HubFailure, RepositoryId};
use crate::store::RecordedFile;
use crate::store::files::DiskRules;

/// Chunks between the network and the disk. A chunk is what the socket gave, some hundred kilobytes at most.
const CHUNKS_AHEAD: usize = 8;
const TICK: Duration = Duration::from_secs(1);

/// What all files of a download share.
pub(super) struct Source<'s, 't> {
    pub(super) hub: &'s Hub,
    pub(super) repository: &'s RepositoryId,
    pub(super) commit: &'s Commit,
    pub(super) folder: &'s std::path::Path,
    pub(super) disk: &'s DiskRules,
    pub(super) meter: &'s Meter<'t>,
    pub(super) stop: &'s CancellationToken,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It lies in its place.
    Whole,
    Stopped,
}

/// One file on its way.
struct Fetch<'f, 's, 't> {
    source: &'f Source<'s, 't>,
    index: usize,
    file: &'f RecordedFile,
    /// Tries since there was progress.
    tried: u32,
    /// The most bytes that there ever were.
    best: u64,
    /// Whether a byte came in this run.
    came: bool,
    /// Whether everything was thrown away once already, as its digest was wrong.
    restarted: bool,
    /// Whether an answer could not be used since there was progress.
    contradicted: bool,
    /// Bytes that came and were thrown away because the server would not go on behind them.
    wasted: u64,
    /// Whether the server is trusted to send the rest of a file.
    ranges: bool,
}

/// How one answer ended.
enum Received {
    End,
    Stopped,
}

impl Source<'_, '_> {
    /// Fetches `file`, which is number `index` of the download.
    ///
    /// # Errors
    /// What keeps the file from coming. What there is of it stays for the next try.
    pub(super) async fn fetch(&self, index: usize, file: &RecordedFile) -> Result<Ended> {
        let (folder, expected, stop) = (self.folder.to_path_buf(), file.clone(), self.stop.clone());
        let Some(part) = blocking(move || Part::open(&folder, &expected, &stop)).await?? else {
            return Ok(Ended::Stopped);
        };
        let fetch = Fetch {
            source: self,
            index,
            file,
            tried: 0,
            best: part.length,
            came: false,
            restarted: false,
            contradicted: false,
            wasted: 0,
            ranges: true,
        };
        fetch.run(part).await
    }
}

impl Fetch<'_, '_, '_> {
    async fn run(mut self, mut part: Part) -> Result<Ended> {
        loop {
            self.source.meter.set(self.index, part.length);
            if part.is_complete() {
                if part.found() == self.file.digest {
                    blocking(move || part.finish()).await??;
                    return Ok(Ended::Whole);
                }
                self.begin_anew(&mut part)?;
                continue;
            }
            if self.source.stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let (returned, result) = self.receive(part).await?;
            part = returned;
            self.source.meter.set(self.index, part.length);
            let error = match result {
                Ok(Received::Stopped) => return Ok(Ended::Stopped),
                Ok(Received::End) if part.is_complete() => continue,
                Ok(Received::End) => self.failure(HubFailure::Unreachable, "the answer ended too early"),
                Err(error) => error,
            };
            if part.length >= self.best.saturating_add(self.source.hub.transport().timing.progress) {
                self.best = part.length;
                self.tried = 0;
                self.contradicted = false;
            }
            self.tried += 1;
            match &error {
                Error::Hub { kind: HubFailure::Protocol, .. } => {
                    // Such an answer says nothing of the bytes that are there: their digest will. It is asked for
                    // once more, and costs none of them.
                    if std::mem::replace(&mut self.contradicted, true) {
                        return Err(error);
                    }
                }
                Error::Hub { kind, .. } => {
                    let Some(pause) = self.pause_after(*kind) else { return Err(error) };
                    if self.wait(pause, &error).await == Ended::Stopped {
                        return Ok(Ended::Stopped);
                    }
                }
                _ => return Err(error),
            }
        }
    }

    /// Throws away what has the wrong digest, once. The second time is an error.
    fn begin_anew(&mut self, part: &mut Part) -> Result<()> {
        let found = part.found();
        part.restart()?;
        if self.restarted {
            return Err(Error::WrongFile {
                file: self.file.source.clone().into(),
                expected: self.file.digest.to_string().into(),
                found: found.to_string().into(),
            });
        }
        self.restarted = true;
        self.best = 0;
        Ok(())
    }

    /// Throws away what there is because the server sends everything anew. One that breaks off each time would be
    /// read for ever: after twice the file that is an error.
    fn throw_away(&mut self, part: &mut Part) -> Result<()> {
        self.wasted = self.wasted.saturating_add(part.length);
        part.restart()?;
        if self.wasted <= self.file.size.saturating_mul(2) {
            return Ok(());
        }
        let reason = "the server breaks off each time and cannot go on where it did";
        Err(self.failure(HubFailure::Protocol, reason))
    }

    fn pause_after(&self, kind: HubFailure) -> Option<Duration> {
        let timing = &self.source.hub.transport().timing;
        let pause = self.source.hub.transport().pause_after(kind, self.tried)?;
        if self.tried < timing.tries {
            return Some(pause);
        }
        // A network that was there will come back. One that never was may be a mistake, and is told.
        timing.probe.filter(|_| kind == HubFailure::Unreachable && self.came)
    }

    async fn wait(&self, pause: Duration, error: &Error) -> Ended {
        self.source
            .meter
            .phase(DownloadPhase::Waiting { seconds: pause.as_secs_f64(), reason: error.to_string() });
        tokio::select! {
            biased;
            () = self.source.stop.cancelled() => Ended::Stopped,
            () = tokio::time::sleep(pause) => Ended::Whole,
        }
    }

    /// Asks once, and takes what comes. The outer failure is one of this machine.
    async fn receive(&mut self, mut part: Part) -> Result<(Part, Result<Received>)> {
        if !self.ranges && part.length > 0 {
            self.throw_away(&mut part)?;
        }
        let source = self.source;
        let asked = source.hub.file(source.repository, source.commit, &self.file.source, part.length);
        let answer = tokio::select! {
            biased;
            () = source.stop.cancelled() => return Ok((part, Ok(Received::Stopped))),
            answer = asked => answer,
        };
        let answer = match answer.and_then(|answer| self.check(&answer, part.length).map(|()| answer)) {
            Ok(answer) => answer,
            Err(error) => return Ok((part, Err(error))),
        };
        match answer.status.as_u16() {
            206 if self.goes_on(&answer, &part) => {}
            // Some mirrors send the rest of a file under the status of a whole one.
            200 if part.length > 0 && self.goes_on(&answer, &part) => {}
            200 => {
                if part.length > 0 {
                    self.throw_away(&mut part)?;
                }
            }
            206 | 416 => {
                // From here on everything is asked for at once: this server cannot do better.
                self.ranges = false;
                return Ok((part, Err(answer.broken("it sent another part of the file than was asked for"))));
            }
            _ => return Ok((part, Err(answer.failure()))),
        }
        self.take_body(part, answer).await
    }

    /// Whether the answer is the rest of what is there. Its tag says nothing: the file is that of one commit, the
    /// servers that send it have tags of their own, and the digest decides.
    fn goes_on(&self, answer: &Answer, part: &Part) -> bool {
        answer.content_range() == Some((part.length, self.file.size))
    }

    /// Refuses an answer that contradicts what is known of the file, of which `there` bytes are there.
    fn check(&self, answer: &Answer, there: u64) -> Result<()> {
        if !answer.status.is_success() {
            return Ok(());
        }
        if answer.hub_header("x-repo-commit").is_some_and(|commit| commit != self.source.commit.as_str()) {
            return Err(answer.broken("the file is of another commit"));
        }
        let size = answer.hub_header("x-linked-size").and_then(|size| size.parse::<u64>().ok());
        if size.is_some_and(|size| size != self.file.size) {
            return Err(answer.broken("the file has another size than the listing says"));
        }
        // Only a SHA-256 can be compared; the tags of the servers behind the hub look like one and are none.
        let tag = answer.hub_header("x-linked-etag").and_then(|tag| Digest::sha256(tag).ok());
        if tag.is_some_and(|tag| matches!(self.file.digest, Digest::Sha256(_)) && tag != self.file.digest) {
            return Err(answer.broken("the file has another digest than the listing says"));
        }
        if let Some(encoding) = answer.encoding() {
            return Err(answer.broken(&format!("it sent `{encoding}` in the place of the bytes")));
        }
        // Some servers say so of any text: one of the right length is for the digest to judge.
        let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let is_long_enough =
            length.is_some_and(|length| [self.file.size, self.file.size - there].contains(&length));
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) && !is_long_enough
        {
            return Err(
                answer.broken("a web page came in the place of the file; does this network ask for a login?")
            );
        }
        Ok(())
    }

    async fn take_body(&mut self, part: Part, mut answer: Answer) -> Result<(Part, Result<Received>)> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let disk = self.source.disk.clone();
        let writer = tokio::task::spawn_blocking(move || part.take_all(chunks, &disk));
        let timing = &self.source.hub.transport().timing;
        let (mut window, mut came) = (Instant::now(), 0);
        let ended = loop {
            if window.elapsed() >= timing.stall {
                if came < timing.stall_bytes {
                    break Err(self.failure(HubFailure::Unreachable, "the server fell silent"));
                }
                (window, came) = (Instant::now(), 0);
            }
            let left = timing.stall.saturating_sub(window.elapsed());
            let chunk = tokio::select! {
                biased;
                () = self.source.stop.cancelled() => break Ok(Received::Stopped),
                chunk = answer.chunk() => chunk,
                () = tokio::time::sleep(left.min(TICK)) => {
                    self.source.meter.tick();
                    continue;
                }
            };
            match chunk {
                Ok(Some(chunk)) => {
                    let length = chunk.as_ref().len() as u64;
                    came += length;
                    self.came = true;
                    let before = Instant::now();
                    if sender.send(chunk).await.is_err() {
                        // The writer has ended, and says why.
                        break Ok(Received::End);
                    }
                    // The disk's time is not the server's.
                    window += before.elapsed();
                    self.source.meter.came(self.index, length);
                }
                Ok(None) => break Ok(Received::End),
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        let (part, written) = writer.await.map_err(|_| panicked())?;
        let result = match written {
            Ok(Written::All) => ended,
            Ok(Written::TooMuch) => Err(answer.broken("the file is longer than the listing says")),
            Err(error) => Err(error),
        };
        Ok((part, result))
    }

    fn failure(&self, kind: HubFailure, reason: &str) -> Error {
        let doing = format!("fetch `{}` of `{}`", self.file.source, self.source.repository);
        Error::Hub { doing: doing.into(), kind, reason: reason.into() }
    }
}

/// Runs `work`, which waits for the disk, beside the tasks that wait for the network.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| panicked())
}

fn panicked() -> Error {
    Error::Library {
        doing: "work on",
        path: std::path::Path::new(".").into(),
        reason: "the program failed".into(),
    }
}
