//! A hub on this machine: it speaks the hub's protocol over loopback, and misbehaves as a test asks.
//!
//! Large files are redirected to a second port, as a hub sends its clients to other servers; small ones to
//! another path of the first. Each request for a file takes the next [`Act`] that was set for its path.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use backend::hub::{Digest, FileHasher};
use serde_json::{Value, json};

pub(crate) const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/// Files from this size on are kept apart, as large ones.
const LARGE: usize = 1000;

/// How a request for a file is answered.
#[derive(Debug, Clone, Default)]
pub(crate) enum Act {
    #[default]
    Right,
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// The length in the header is so much off.
    LengthOff(i64),
    /// No length; chunks, and whether their end comes.
    Chunked {
        ends: bool,
    },
    /// This bit of the body is wrong.
    BitFlipped(usize),
    Zeros,
    Empty,
    /// 200 and everything, whatever range was asked for.
    WholeForRange,
    /// The same, and the connection ends after so many bytes of it.
    WholeForRangeCutAfter(usize),
    /// 206 with a range so much off.
    OtherRange(i64),
    NoContentRange,
    Unsatisfiable,
    /// Right, under this tag.
    Tag(&'static str),
    /// A tag that nobody promises equal bytes by, no commit, no length of the linked file.
    BareMirror,
    OtherCommit,
    LinkedSize(u64),
    LinkedDigest(String),
    RedirectLoop,
    Redirect(String),
    /// One byte, a little later another one.
    Drip,
    Silent,
    /// A header of so many bytes.
    HugeHeader(usize),
    /// The body goes on for ever.
    Endless,
    Gzip,
    LoginPage,
    Status(u16, Vec<(&'static str, &'static str)>),
    /// The same from the server that the hub names, for a large file.
    StatusBehind(u16),
}

/// A repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) gated: bool,
    pub(crate) licence: Option<&'static str>,
    /// What the listing says in the place of the truth.
    pub(crate) listing: Option<Vec<u8>>,
    /// Where the further pages of the listing are said to be, in the place of here.
    pub(crate) pages_at: Option<String>,
    /// What is said of the repository itself in the place of the truth.
    pub(crate) answer: Option<Vec<u8>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Whether it came to the port of the large files.
    pub(crate) at_files: bool,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Stored>,
    acts: HashMap<String, VecDeque<(usize, Act)>>,
    /// Those that the other port is to perform.
    pending: Vec<Act>,
    seen: Vec<Seen>,
    served: u64,
    page: usize,
    token: Option<String>,
    ended: bool,
}

struct Shared {
    state: Mutex<State>,
    served: Condvar,
    hub: SocketAddr,
    files: SocketAddr,
}

/// The hub. It ends with the value.
pub(crate) struct HubServer(Arc<Shared>);

struct Request {
    seen: Seen,
    path: Vec<String>,
    query: HashMap<String, String>,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
        let (hub, files) = (bind(), bind());
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State { page: 1000, ..State::default() }),
            served: Condvar::new(),
            hub: address(&hub),
            files: address(&files),
        });
        for (listener, at_files) in [(hub, false), (files, true)] {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.state().ended {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || {
                        // A client that leaves is what many tests are about.
                        shared.answer(stream, at_files).ok();
                    });
                }
            });
        }
        Self(shared)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.0.hub)
    }

    /// Puts a repository of these files in place.
    pub(crate) fn store(&self, id: &str, files: &[(&str, Vec<u8>)]) {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        self.change(id, |repository| repository.files = files);
    }

    /// Puts a repository of the files in `folder` in place.
    pub(crate) fn store_folder(&self, id: &str, folder: &Path) {
        let entries = std::fs::read_dir(folder).expect("a folder of a model").flatten();
        let files = entries.filter(|entry| entry.path().is_file()).map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file of a model"))
        });
        self.change(id, |repository| repository.files = files.collect());
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Stored)) {
        change(self.0.state().repositories.entry(id.to_owned()).or_default());
    }

    /// The next `times` requests for the file at `path` are answered so.
    pub(crate) fn act(&self, path: &str, times: usize, act: Act) {
        self.0.state().acts.entry(path.to_owned()).or_default().push_back((times, act));
    }

    /// Forgets the acts that are left.
    pub(crate) fn behave(&self) {
        self.0.state().acts.clear();
    }

    pub(crate) fn page(&self, files: usize) {
        self.0.state().page = files;
    }

    /// Gated repositories open to this token.
    pub(crate) fn accept_token(&self, token: &str) {
        self.0.state().token = Some(token.to_owned());
    }

    /// The requests since the last call.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.state().seen)
    }

    /// Bytes of files that were sent so far.
    pub(crate) fn served(&self) -> u64 {
        self.0.state().served
    }

    /// Waits until so many bytes of files were sent, or for `most`.
    pub(crate) fn wait_served(&self, bytes: u64, most: Duration) {
        let state = self.0.state();
        let waited = self.0.served.wait_timeout_while(state, most, |state| state.served < bytes);
        drop(waited.expect("no thread of the hub panics while it counts"));
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.0.state().ended = true;
        for address in [self.0.hub, self.0.files] {
            TcpStream::connect(address).ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the hub panics while it answers")
    }

    fn answer(&self, stream: TcpStream, at_files: bool) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        let Some(request) = read_request(&mut reader, at_files)? else { return Ok(()) };
        self.state().seen.push(request.seen.clone());
        let stream = reader.into_inner();
        let parts: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["large", owner, name, path @ ..] if at_files => {
                let act = request.query.get("act").and_then(|number| number.parse::<usize>().ok());
                let act = self.state().pending[act.expect("the hub named an act")].clone();
                self.send_file(&stream, &request, &format!("{owner}/{name}"), &path.join("/"), &act)
            }
            ["api", "resolve-cache", "models", owner, name, _, path @ ..] => {
                let act = request.query.get("act").and_then(|number| number.parse::<usize>().ok());
                let act = self.state().pending[act.expect("the hub named an act")].clone();
                self.send_file(&stream, &request, &format!("{owner}/{name}"), &path.join("/"), &act)
            }
            ["api", "models"] => self.send_search(&stream, &request),
            ["api", "models", owner, name, "revision", _] => {
                self.send_repository(&stream, &format!("{owner}/{name}"))
            }
            ["api", "models", owner, name, "tree", _] => {
                self.send_tree(&stream, &request, &format!("{owner}/{name}"))
            }
            [owner, name, "resolve", commit, path @ ..] => {
                self.resolve(&stream, &request, &format!("{owner}/{name}"), commit, &path.join("/"))
            }
            _ => send(&stream, 404, &[], b"nothing is here"),
        }
    }

    fn send_search(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let words = request.query.get("search").cloned().unwrap_or_default().to_lowercase();
        let hits: Vec<Value> = self
            .state()
            .repositories
            .iter()
            .filter(|(id, _)| id.to_lowercase().contains(&words))
            .map(|(id, stored)| {
                let tags: Vec<String> =
                    stored.licence.iter().map(|licence| format!("license:{licence}")).collect();
                json!({"id": id, "downloads": 7, "likes": 1, "gated": stored.gated, "tags": tags})
            })
            .collect();
        send(stream, 200, &[], Value::Array(hits).to_string().as_bytes())
    }

    fn send_repository(&self, stream: &TcpStream, id: &str) -> std::io::Result<()> {
        if let Act::Status(status, headers) = self.next_act("api") {
            return send(stream, status, &headers, b"no");
        }
        let Some(stored) = self.state().repositories.get(id).cloned() else { return missing(stream) };
        if let Some(answer) = stored.answer {
            return send(stream, 200, &[], &answer);
        }
        let gated: Value = if stored.gated { "manual".into() } else { false.into() };
        let answer = json!({
            "sha": COMMIT, "gated": gated,
            "cardData": {"license": stored.licence, "base_model": "base/model"},
        });
        send(stream, 200, &[], answer.to_string().as_bytes())
    }

    fn send_tree(&self, stream: &TcpStream, request: &Request, id: &str) -> std::io::Result<()> {
        let (stored, page) = {
            let state = self.state();
            (state.repositories.get(id).cloned(), state.page)
        };
        let Some(stored) = stored else { return missing(stream) };
        if let Some(listing) = stored.listing {
            return send(stream, 200, &[], &listing);
        }
        let from: usize = request.query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let entries: Vec<Value> =
            stored.files.iter().skip(from).take(page).map(|(path, bytes)| tree_entry(path, bytes)).collect();
        let next = format!(
            "<{}/api/models/{id}/tree/{COMMIT}?recursive=true&cursor={}>; rel=\"next\"",
            stored.pages_at.clone().unwrap_or_else(|| format!("http://{}", self.hub)),
            from + page
        );
        let headers: Vec<(&str, &str)> =
            if from + page < stored.files.len() { vec![("Link", &next)] } else { Vec::new() };
        send(stream, 200, &headers, Value::Array(entries).to_string().as_bytes())
    }

    fn resolve(
        &self,
        stream: &TcpStream,
        request: &Request,
        id: &str,
        commit: &str,
        path: &str,
    ) -> std::io::Result<()> {
        let act = self.next_act(path);
        let (stored, token) = {
            let state = self.state();
            (state.repositories.get(id).cloned(), state.token.clone())
        };
        let Some(stored) = stored else { return missing(stream) };
        let bearer = request.seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if stored.gated && (bearer.is_none() || bearer != token.as_deref()) {
            let headers = [("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Access is restricted")];
            return send(stream, if bearer.is_none() { 401 } else { 403 }, &headers, b"");
        }
        let Some(bytes) = stored.files.get(path).filter(|_| commit == COMMIT) else {
            return send(stream, 404, &[("X-Error-Code", "EntryNotFound")], b"");
        };
        match &act {
            Act::Status(status, headers) => return send(stream, *status, headers, b"no"),
            Act::RedirectLoop => return send(stream, 302, &[("Location", &request.seen.target)], b""),
            Act::Redirect(to) => return send(stream, 302, &[("Location", to)], b""),
            Act::Silent => return wait_for_the_end(stream),
            _ => {}
        }
        let number = {
            let mut state = self.state();
            state.pending.push(act.clone());
            state.pending.len() - 1
        };
        let large = bytes.len() >= LARGE;
        let size = match act {
            Act::LinkedSize(size) => size.to_string(),
            _ => bytes.len().to_string(),
        };
        let tag = match &act {
            Act::LinkedDigest(digest) => format!("\"{digest}\""),
            _ if large => format!("\"{}\"", sha256(bytes)),
            _ => format!("\"{}\"", git_sha1(bytes)),
        };
        let commit = if matches!(act, Act::OtherCommit) { "0".repeat(40) } else { COMMIT.to_owned() };
        let mut headers =
            vec![("X-Repo-Commit", commit.as_str()), ("X-Linked-Size", &size), ("X-Linked-Etag", &tag)];
        if matches!(act, Act::BareMirror) {
            headers.clear();
        }
        let location = if large {
            format!("http://{}/large/{id}/{path}?act={number}", self.files)
        } else {
            format!("/api/resolve-cache/models/{id}/{COMMIT}/{path}?act={number}")
        };
        headers.push(("Location", &location));
        send(stream, if large { 302 } else { 307 }, &headers, b"redirected")
    }

    fn next_act(&self, path: &str) -> Act {
        let mut state = self.state();
        let Some(acts) = state.acts.get_mut(path) else { return Act::Right };
        let Some((times, act)) = acts.front_mut() else { return Act::Right };
        let act = act.clone();
        *times = times.saturating_sub(1);
        if *times == 0 {
            acts.pop_front();
        }
        act
    }

    fn send_file(
        &self,
        stream: &TcpStream,
        request: &Request,
        id: &str,
        path: &str,
        act: &Act,
    ) -> std::io::Result<()> {
        let bytes = self.state().repositories[id].files[path].clone();
        // Tags of the servers behind a hub look like a digest and are none.
        let tag = match act {
            Act::Tag(tag) => format!("\"{tag}\""),
            _ => format!("\"{}\"", sha256(sha256(&bytes).as_bytes())),
        };
        let asked = request
            .seen
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        if let Act::StatusBehind(status) = act {
            return send(stream, *status, &[], b"no");
        }
        let is_whole = matches!(act, Act::WholeForRange | Act::WholeForRangeCutAfter(_));
        let start = asked.filter(|_| !is_whole);
        if matches!(act, Act::Unsatisfiable) || start.is_some_and(|start| start >= bytes.len()) {
            return send(stream, 416, &[], b"");
        }
        let mut body = bytes[start.unwrap_or(0)..].to_vec();
        let mut headers = vec![("Content-Type".to_owned(), "application/octet-stream".to_owned())];
        if !matches!(act, Act::BareMirror) {
            headers.push(("ETag".to_owned(), tag));
        }
        let mut length = body.len() as i64;
        if let Some(start) = start
            && !matches!(act, Act::NoContentRange)
        {
            let shift = if let Act::OtherRange(shift) = act { *shift } else { 0 };
            let end = bytes.len() - 1;
            let range = format!("bytes {}-{end}/{}", start as i64 + shift, bytes.len());
            headers.push(("Content-Range".to_owned(), range));
        }
        match act {
            Act::LengthOff(off) => length += off,
            // The same bit of the file, wherever the answer begins.
            Act::BitFlipped(bit) if bit / 8 >= start.unwrap_or(0) => {
                body[bit / 8 - start.unwrap_or(0)] ^= 1 << (bit % 8);
            }
            Act::Zeros => body.fill(0),
            Act::Empty => (body, length) = (Vec::new(), 0),
            Act::Gzip => headers.push(("Content-Encoding".to_owned(), "gzip".to_owned())),
            Act::LoginPage => {
                body = b"<html>Please log in</html>".to_vec();
                length = body.len() as i64;
                headers[0].1 = "text/html; charset=utf-8".to_owned();
            }
            Act::HugeHeader(size) => headers.push(("X-Huge".to_owned(), "x".repeat(*size))),
            _ => {}
        }
        let is_chunked = matches!(act, Act::Chunked { .. } | Act::Endless);
        if is_chunked {
            headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
        } else if !matches!(act, Act::BareMirror) {
            headers.push(("Content-Length".to_owned(), length.to_string()));
        }
        let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut writer = stream;
        writer.write_all(format!("HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n").as_bytes())?;
        self.send_body(stream, &body, act)
    }

    fn send_body(&self, stream: &TcpStream, body: &[u8], act: &Act) -> std::io::Result<()> {
        let mut writer = stream;
        match act {
            Act::Drip => {
                for byte in body {
                    writer.write_all(&[*byte])?;
                    // Paced by the clock: the slowness is what is tested.
                    std::thread::park_timeout(Duration::from_millis(30));
                }
            }
            Act::Chunked { .. } | Act::Endless => {
                let piece = if body.is_empty() { &[0][..] } else { body };
                loop {
                    writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    self.write(stream, piece)?;
                    writer.write_all(b"\r\n")?;
                    if !matches!(act, Act::Endless) {
                        break;
                    }
                }
                if matches!(act, Act::Chunked { ends: true }) {
                    writer.write_all(b"0\r\n\r\n")?;
                }
            }
            Act::CutAfter(bytes) | Act::WholeForRangeCutAfter(bytes) => {
                self.write(stream, &body[..body.len().min(*bytes)])?
            }
            _ => self.write(stream, body)?,
        }
        writer.flush()
    }

    fn write(&self, mut stream: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        for piece in bytes.chunks(16 << 10) {
            stream.write_all(piece)?;
            self.state().served += piece.len() as u64;
            self.served.notify_all();
        }
        Ok(())
    }
}

pub(crate) fn tree_entry(path: &str, bytes: &[u8]) -> Value {
    let git = git_sha1(bytes);
    let size = bytes.len();
    if size >= LARGE {
        let sha256 = sha256(bytes);
        json!({"type": "file", "path": path, "size": size, "oid": git,
            "lfs": {"oid": sha256, "size": size, "pointerSize": 130}})
    } else {
        json!({"type": "file", "path": path, "size": size, "oid": git})
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hash(Digest::Sha256([0; 32]), bytes)
}

fn git_sha1(bytes: &[u8]) -> String {
    hash(Digest::GitSha1([0; 20]), bytes)
}

fn hash(kind: Digest, bytes: &[u8]) -> String {
    let mut hasher = FileHasher::like(&kind, bytes.len() as u64);
    hasher.update(bytes);
    hasher.finish().to_string().split_once(':').expect("a digest names its kind").1.to_owned()
}

fn missing(stream: &TcpStream) -> std::io::Result<()> {
    send(stream, 404, &[("X-Error-Code", "RepoNotFound"), ("X-Error-Message", "Repository not found")], b"")
}

fn send(mut stream: &TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<()> {
    let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Told\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Says nothing until the client leaves.
fn wait_for_the_end(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0]).map(|_| ())
}

fn read_request(reader: &mut BufReader<TcpStream>, at_files: bool) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(target) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = path.trim_start_matches('/').split('/').map(str::to_owned).collect();
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace('+', " ")))
        .collect();
    Ok(Some(Request { seen: Seen { at_files, target: target.clone(), headers }, path, query }))
}
