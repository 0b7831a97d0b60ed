//! A process that is killed at any moment loses nothing that it has acknowledged: while it sends, streams and
//! branches, and while it brings an older file to the newest schema.
//!
//! The kills are fewer than a release wants; `HEARTH_KILLS` asks for more.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/first_schema.rs"]
mod first_schema;
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use backend::{ChatEvent, Entry, ReplyOptions, ReplyStatus};
use bare::{Numbers, count, open};
use rusqlite::Connection;
use support::{Transport, World, ember_text, run};
use tempfile::TempDir;
use uuid::Uuid;

/// What the process that is to be killed is told: its data folder, its random numbers, and how many
/// microseconds its model takes for a token.
const FOLDER: &str = "HEARTH_KILL_FOLDER";
const SEED: &str = "HEARTH_KILL_SEED";
const PACE: &str = "HEARTH_KILL_PACE";

/// What a kill may cost of a reply: so many tokens, or what it said in so long.
const MOST_LOST_TOKENS: usize = 64;
const MOST_LOST_TIME: Duration = Duration::from_secs(1);

/// A folder takes so many kills; a longer history would only be slower to look through.
const KILLS_OF_A_FOLDER: usize = 100;

/// The kills that are asked for, in three parts: of sending and branching, of slow replies, of schema steps.
fn kills() -> [usize; 3] {
    let all = count("HEARTH_KILLS", 40);
    [all - 2 * (all / 4), all / 4, all / 4]
}

/// Long enough that a kill comes in its middle.
fn answer() -> String {
    "Hearth runs a model on this computer and keeps what was said. ".repeat(30)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Says something on stdout before the next thing is done.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).expect("somebody reads");
}

/// Says what the user of a turn gets to know.
#[derive(Default)]
struct Teller {
    reply: Uuid,
    told: usize,
}

impl Teller {
    fn tell(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Started { question, reply } => {
                (self.reply, self.told) = (reply.id, reply.text.len());
                if let Some(question) = question {
                    say(&format!("acknowledged {}", question.text));
                }
            }
            ChatEvent::Text { text, .. } => {
                self.told += text.len();
                say(&format!("told {} {}", self.reply, self.told));
            }
            ChatEvent::Thinking { .. } | ChatEvent::Prefill { .. } => {}
        }
    }
}

#[test]
fn the_process_that_is_killed() {
    let (Ok(folder), Some(seed), Some(pace)) = (std::env::var(FOLDER), number(SEED), number(PACE)) else {
        return;
    };
    run(async {
        let answer = answer();
        let answers: Vec<&str> = vec![&answer; 40];
        let world = World::with(Transport::Channel, &answers, 4096, |directories| {
            directories.data = folder.clone().into()
        });
        world.takes(Duration::from_micros(pace));
        let mut numbers = Numbers(seed);
        for step in 0.. {
            do_something(&world, &mut numbers, format!("message-{seed}-{step}"), pace > 0).await;
        }
    });
}

/// One thing that a user does, by chance. A slow model does nothing but answer at length.
async fn do_something(world: &World, numbers: &mut Numbers, text: String, is_slow: bool) {
    let (history, chat, id) = (world.backend.history(), world.chat(), world.chat().current());
    let most = if is_slow { 500 } else { 1 + numbers.below(300) };
    let options = ReplyOptions { max_tokens: Some(most), ..ReplyOptions::default() };
    let mut teller = Teller::default();
    let tell = |event| teller.tell(event);
    let entries = world.entries();
    let of_any =
        |numbers: &mut Numbers, found: Vec<Uuid>| found.get(numbers.below(found.len().max(1))).copied();
    let questions =
        entries.iter().filter(|entry| matches!(entry, Entry::Question(_))).map(Entry::id).collect();
    let replies = entries.iter().filter_map(|entry| match entry {
        Entry::Reply(reply) => Some(reply),
        _ => None,
    });
    let versions = replies.clone().flat_map(|reply| reply.versions.clone()).collect();
    let (question, reply) =
        (of_any(numbers, questions), of_any(numbers, replies.map(|reply| reply.id).collect()));
    let turn = match (if is_slow { 9 } else { numbers.below(10) }, question, reply) {
        (0, ..) => return drop(history.begin(false)),
        (1, ..) => {
            let listed = history.conversations(0, 20).expect("listed");
            if let Some(about) = listed.get(numbers.below(listed.len().max(1))) {
                history.show(about.id).expect("shown");
            }
            return;
        }
        (2, ..) => {
            if let Some(version) = of_any(numbers, versions) {
                history.select_branch(id, version).expect("switched");
            }
            return;
        }
        (6, ..) => {
            let draft = text.replacen("message", "draft", 1);
            history.set_draft(id, &draft).expect("kept");
            return say(&format!("drafted {id} {draft}"));
        }
        (3, Some(question), _) => chat.edit(id, question, text, options, tell).await,
        (4, _, Some(reply)) => chat.regenerate(id, reply, options, tell).await,
        (5, _, Some(_)) => chat.go_on(id, options, tell).await,
        _ => chat.send(id, text, options, tell).await,
    };
    if let Ok(reply) = turn
        && matches!(reply.status, ReplyStatus::Finished(_))
    {
        say(&format!("finished {} {}", reply.id, reply.text.len()));
    }
}

/// What a process said before it was killed.
#[derive(Default)]
struct Said {
    acknowledged: Vec<String>,
    /// Replies with the length of what was told of them, and when.
    told: Vec<(Instant, Uuid, usize)>,
    /// Replies that have ended, with their lengths.
    finished: Vec<(Uuid, usize)>,
    /// The conversation whose draft was kept last, and the draft, where nothing was sent after.
    drafted: Option<(Uuid, String)>,
    /// How long it took from its first word to `opened`.
    opened_after: Option<Duration>,
    killed: Option<Instant>,
}

impl Said {
    fn note(&mut self, at: Instant, began: Instant, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let of_reply = |id: &str, length: &str| Some((id.parse().ok()?, length.parse().ok()?));
        match words.as_slice() {
            ["acknowledged", text] => {
                self.acknowledged.push((*text).to_owned());
                self.drafted = None;
            }
            ["drafted", id, draft] => {
                self.drafted = Some((id.parse().expect("an id"), (*draft).to_owned()));
            }
            ["told", id, length] => {
                let (id, length) = of_reply(id, length).expect("a reply");
                self.told.push((at, id, length));
            }
            ["finished", id, length] => self.finished.extend(of_reply(id, length)),
            ["opened"] => self.opened_after = Some(at - began),
            _ => {}
        }
    }
}

/// Whether a line is one of those above, and not of the test runner.
fn is_said(line: &str) -> bool {
    ["acknowledged ", "drafted ", "told ", "finished ", "opening", "opened"]
        .iter()
        .any(|word| line.starts_with(word))
}

/// Runs `process` in `folder` and kills it so long after its first word.
fn run_and_kill(process: &str, folder: &Path, seed: usize, pace: u64, after: Duration) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", process, "--nocapture", "--test-threads", "2"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .env(PACE, pace.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| is_said(line)) {
            sender.send((Instant::now(), line)).ok();
        }
    });
    // It has begun to work with its first word; then the kill comes at any moment.
    let first = receiver.recv_timeout(Duration::from_secs(60)).expect("it says something");
    // Without its sender a channel would not wait.
    let (_nobody, never) = mpsc::channel::<()>();
    never.recv_timeout(after).ok();
    child.kill().expect("it is killed");
    let mut said = Said { killed: Some(Instant::now()), ..Said::default() };
    child.wait().expect("it has ended");
    reader.join().expect("all was read");
    let began = first.0;
    for (at, line) in std::iter::once(first).chain(receiver.try_iter()) {
        said.note(at, began, &line);
    }
    said
}

fn database(folder: &Path) -> Connection {
    Connection::open(folder.join("conversations/conversations.sqlite")).expect("opens")
}

fn assert_whole(folder: &Path, kill: usize) -> Connection {
    let connection = database(folder);
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(verdict, "ok", "after kill {kill}");
    assert!(!folder.join("conversations/damaged").exists(), "nothing was taken for damaged");
    connection
}

/// One folder, and all that was said by those who were killed in it.
struct Place {
    folder: TempDir,
    acknowledged: Vec<String>,
    finished: HashMap<Uuid, usize>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, acknowledged: Vec::new(), finished: HashMap::new() }
    }

    /// Starts over after a kill, and sees whether all that was said is true. Returns the half replies, and the
    /// tokens that were lost of the last.
    fn look(&mut self, kill: usize, said: Said) -> (usize, usize) {
        // Opening ends what the kill left behind.
        let halves = look_through_the_application(self.folder.path());
        let connection = assert_whole(self.folder.path(), kill);
        let mut statement =
            connection.prepare("SELECT text FROM message WHERE role = 'user'").expect("asked");
        let mut found: HashMap<String, usize> = HashMap::new();
        for text in statement.query_map([], |row| row.get::<_, String>(0)).expect("read") {
            *found.entry(text.expect("text")).or_default() += 1;
        }
        self.acknowledged.extend(said.acknowledged);
        for text in &self.acknowledged {
            assert_eq!(found.get(text), Some(&1), "{text} after kill {kill}");
        }
        if let Some((id, draft)) = &said.drafted {
            assert_draft_is_kept(&connection, *id, draft, &found, kill);
        }
        let mut statement =
            connection.prepare("SELECT id, length(text) FROM message WHERE role <> 'user'").expect("asked");
        let saved: HashMap<Uuid, usize> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))
            .expect("read")
            .map(|row| row.expect("read"))
            .collect();
        // One that says nothing gives way to its next version.
        self.finished.extend(said.finished.into_iter().filter(|(_, length)| *length > 0));
        for (reply, length) in &self.finished {
            assert!(saved.get(reply).is_some_and(|saved| saved >= length), "{reply} after kill {kill}");
        }
        let lost = said.told.last().map(|&(_, reply, told)| {
            let saved = saved.get(&reply).copied().unwrap_or_default();
            let killed = said.killed.expect("it was killed");
            let is_old = |at: &Instant| killed.duration_since(*at) >= MOST_LOST_TIME;
            let old = said.told.iter().filter(|(at, id, _)| *id == reply && is_old(at));
            let old = old.map(|(.., told)| *told).max().unwrap_or_default();
            let lost = tokens_until(told).saturating_sub(tokens_until(saved));
            assert!(
                lost <= MOST_LOST_TOKENS || saved >= old,
                "kill {kill}: {saved} of {told} bytes are saved, and {old} were said long before"
            );
            lost
        });
        (halves, lost.unwrap_or_default())
    }
}

/// A draft is there, or what the same process did later with it: a newer one, or a message that was sent.
fn assert_draft_is_kept(
    connection: &Connection,
    id: Uuid,
    draft: &str,
    messages: &HashMap<String, usize>,
    kill: usize,
) {
    let step = |text: &str| -> Option<(String, usize)> {
        let (process, step) = text.split_once('-')?.1.split_once('-')?;
        Some((process.to_owned(), step.parse().ok()?))
    };
    let kept: String = connection
        .query_row("SELECT draft FROM conversation WHERE id = ?1", [id], |row| row.get(0))
        .expect("the conversation is there");
    let (process, at) = step(draft).expect("a draft of this test");
    let is_later = |text: &str| step(text).is_some_and(|(of, later)| of == process && later > at);
    let was_sent = kept.is_empty() && messages.keys().any(|text| is_later(text));
    assert!(kept == draft || is_later(&kept) || was_sent, "`{draft}` became `{kept}` after kill {kill}");
}

/// How many of the answer's tokens end within so many bytes.
fn tokens_until(bytes: usize) -> usize {
    static ENDS: OnceLock<Vec<usize>> = OnceLock::new();
    let ends = ENDS.get_or_init(|| {
        let tokenizer = ember_text().tokenizer;
        let ids = tokenizer.encode_content(&answer()).expect("encodes");
        (1..=ids.len()).map(|count| tokenizer.decode(&ids[..count]).expect("decodes").len()).collect()
    });
    ends.partition_point(|end| *end <= bytes)
}

/// Reads everything as the application does; returns how many half replies there are.
fn look_through_the_application(folder: &Path) -> usize {
    let (backend, answer, mut halves) = (open(folder), answer(), 0);
    for about in backend.history().conversations(0, usize::MAX).expect("listed") {
        let conversation = backend.history().conversation(about.id, usize::MAX).expect("read");
        for entry in &conversation.entries {
            let Entry::Reply(reply) = entry else { continue };
            assert_ne!(reply.status, ReplyStatus::Generating, "nobody makes it any longer");
            assert!(answer.starts_with(reply.text.as_str()), "{:?}", reply.text);
            assert_eq!(reply.tokens.len(), tokens_until(reply.text.len()), "it has the ids of its text");
            halves += usize::from(reply.status == ReplyStatus::Interrupted);
        }
    }
    halves
}

#[test]
fn no_kill_loses_or_doubles_an_acknowledged_message() {
    let (mut numbers, [kills, ..]) = (Numbers(7), kills());
    let (mut place, mut acknowledged, mut halves) = (Place::new(), 0, 0);
    for kill in 0..kills {
        if kill % KILLS_OF_A_FOLDER == 0 {
            acknowledged += place.acknowledged.len();
            place = Place::new();
        }
        let after = Duration::from_millis(numbers.below(400) as u64);
        let said = run_and_kill("the_process_that_is_killed", place.folder.path(), kill, 0, after);
        halves += place.look(kill, said).0;
    }
    acknowledged += place.acknowledged.len();
    println!("{kills} kills, {acknowledged} acknowledged messages, {halves} sightings of half replies");
    assert!(acknowledged > kills / 2, "the processes worked: {acknowledged}");
}

#[test]
fn no_kill_costs_more_of_a_reply_than_its_last_second_or_64_tokens() {
    let (mut numbers, [_, kills, _]) = (Numbers(8), kills());
    let (mut place, mut most_lost, mut told) = (Place::new(), 0, 0);
    for kill in 0..kills {
        if kill % KILLS_OF_A_FOLDER == 0 {
            place = Place::new();
        }
        // From a few tokens a second to some hundred, and long enough that a whole second may be lost.
        let pace = 2_000 << numbers.below(6);
        let after = Duration::from_millis(numbers.below(2500) as u64);
        let said = run_and_kill("the_process_that_is_killed", place.folder.path(), kill, pace, after);
        told += usize::from(!said.told.is_empty());
        most_lost = most_lost.max(place.look(kill, said).1);
    }
    println!("{kills} kills, {told} of them in replies that had begun, at most {most_lost} tokens lost");
    assert!(told > kills / 2, "the processes answered: {told}");
}

const CONVERSATIONS: usize = 300;
const MESSAGES: usize = 6;
const HALF: &str = "Hearth runs a model";

/// A data folder of the first schema, whose run was cut off in the middle of a reply.
fn make_first_schema(data: &Path) {
    let mut old = first_schema::make(data);
    let change = old.transaction().expect("begun");
    for conversation in 1..=CONVERSATIONS {
        let at = 1_700_000_000_000_000 + conversation as i64;
        let number = first_schema::add_conversation(&change, &format!("old-{conversation}"), at);
        let mut parent = None;
        for message in 0..MESSAGES {
            let is_half = (conversation, message) == (1, MESSAGES - 1);
            let text = if is_half { String::new() } else { old_text(conversation, message) };
            parent = Some(first_schema::add_message(&change, number, parent, &text));
        }
        if conversation == 1 {
            first_schema::add_piece(&change, parent.expect("a reply"), 1, HALF);
        }
    }
    change.commit().expect("written");
}

fn old_text(conversation: usize, message: usize) -> String {
    format!("old {conversation} {message} {}", "with a few more words ".repeat(10))
}

#[test]
fn the_process_that_is_killed_in_a_step_of_the_schema() {
    let (Ok(folder), Some(seed)) = (std::env::var(FOLDER), number(SEED)) else { return };
    let backend = open(Path::new(&folder));
    say("opening");
    backend.history().conversations(0, 1).expect("listed");
    say("opened");
    for title in 0.. {
        let id = backend.history().begin(false).expect("begun");
        let title = format!("new-{seed}-{title}");
        backend.history().rename(id, &title).expect("named");
        say(&format!("acknowledged {title}"));
    }
}

#[test]
fn no_kill_in_a_step_of_the_schema_costs_anything() {
    let (mut numbers, [.., kills]) = (Numbers(9), kills());
    let template = tempfile::tempdir().expect("a folder");
    make_first_schema(template.path());
    let bytes = std::fs::read(template.path().join("conversations/conversations.sqlite")).expect("read");
    let (mut before, mut longest) = (0, Duration::from_millis(200));
    for kill in 0..kills {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = folder.path().join("conversations");
        std::fs::create_dir_all(kept.join("runs")).expect("made");
        std::fs::write(kept.join("runs/11111111-1111-4111-8111-111111111111.run"), "").expect("written");
        std::fs::write(kept.join("conversations.sqlite"), &bytes).expect("written");
        // The first is not hurried, and shows how long a step takes here.
        let after = match kill {
            0 => Duration::from_secs(3),
            _ => longest.mul_f64(numbers.below(1500) as f64 / 1000.0),
        };
        let process = "the_process_that_is_killed_in_a_step_of_the_schema";
        let said = run_and_kill(process, folder.path(), kill, 0, after);
        if kill == 0 {
            longest = said.opened_after.expect("three seconds are enough");
        }
        let version = |connection: &Connection| -> i64 {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("asked")
        };
        before += usize::from(version(&database(folder.path())) == 1);

        let backend = open(folder.path());
        let listed = backend.history().conversations(0, usize::MAX).expect("listed");
        let titles =
            |beginning: &str| listed.iter().filter(|about| about.title.starts_with(beginning)).count();
        assert_eq!(titles("old-"), CONVERSATIONS, "after kill {kill}");
        for title in &said.acknowledged {
            assert_eq!(listed.iter().filter(|about| about.title == *title).count(), 1, "{title}");
        }
        assert!(
            !backend.notices().iter().any(|notice| notice.code.starts_with("history")),
            "nothing is wrong"
        );
        drop(backend);
        let connection = assert_whole(folder.path(), kill);
        assert_eq!(version(&connection), 2, "after kill {kill}");
        let mut statement = connection.prepare("SELECT text FROM message ORDER BY number").expect("asked");
        let texts = statement.query_map([], |row| row.get::<_, String>(0)).expect("read");
        let texts: Vec<String> = texts.map(|text| text.expect("text")).collect();
        let expected = (1..=CONVERSATIONS).flat_map(|conversation| {
            (0..MESSAGES).map(move |message| match (conversation, message) {
                (1, last) if last == MESSAGES - 1 => HALF.to_owned(),
                _ => old_text(conversation, message),
            })
        });
        assert!(texts.into_iter().eq(expected), "every message once, after kill {kill}");
    }
    println!("{kills} kills, {before} of them before the step was taken, which takes {longest:?}");
    assert!(before > 0, "some of them come in time");
}
