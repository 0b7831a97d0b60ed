//! Disks that take nothing: full ones, writes that fail at any byte, places that may not be written. What was
//! acknowledged stays, and goes to the disk in the same run as soon as it takes it.
//!
//! The failing writes are fewer than a release wants; `HEARTH_KILLS` asks for more.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use backend::{Backend, Entry, Error, Notice, ReplyOptions, ReplyStatus};
use bare::{Numbers, count, open};
use rusqlite::Connection;
use support::{Transport, World, texts};

/// Names the data folder to a process that is run for one test.
const FOLDER: &str = "HEARTH_REFUSED_FOLDER";

const OLD: &str = "from before";

fn answer() -> String {
    "Hearth runs a model on this computer and keeps what was said. ".repeat(10)
}

fn notice(backend: &Backend) -> Option<Notice> {
    backend.notices().into_iter().find(|notice| notice.code == "history")
}

fn titles(backend: &Backend) -> Vec<String> {
    let listed = backend.history().conversations(0, usize::MAX).expect("listed");
    let mut titles: Vec<String> = listed.into_iter().map(|about| about.title).collect();
    titles.sort();
    titles
}

/// A data folder with one conversation.
fn with_one(data: &Path) {
    let backend = open(data);
    let id = backend.history().begin(false).expect("begun");
    backend.history().rename(id, OLD).expect("named");
}

/// Starts where the place is in the way of the conversations, works, takes what is in the way away, and works on.
fn goes_on_after(data: &Path, readable: &[&str], advice: &str, clear: impl FnOnce()) {
    let backend = open(data);
    let history = backend.history();
    let id = history.begin(false).expect("begun");
    history.rename(id, "meanwhile").expect("it goes on in memory");
    assert_eq!(titles(&backend), [readable, &["meanwhile"]].concat(), "what can be read is listed");
    assert!(!history.conversation(id, 10).expect("read").about.saved);
    let told = notice(&backend).expect("it is told").message;
    assert!(told.contains("not saved") && told.contains(advice), "{told}");
    let unknown = history.rename(uuid::Uuid::new_v4(), "nothing").expect_err("it is not here");
    let is_seen = !readable.is_empty() && matches!(unknown, Error::ConversationUnknown { .. });
    assert!(is_seen || unknown.to_string().contains(advice), "the reason, and what to do: {unknown}");
    clear();
    let next = history.begin(false).expect("begun");
    history.rename(next, "afterwards").expect("named");
    assert_eq!(titles(&backend), ["afterwards", OLD, "meanwhile"]);
    for about in history.conversations(0, 10).expect("listed") {
        assert!(about.saved, "{}", about.title);
    }
    assert_eq!(notice(&backend), None, "it is over");
    drop(backend);
    assert_eq!(titles(&open(data)), ["afterwards", OLD, "meanwhile"]);
    assert!(!data.join("conversations/damaged").exists(), "nothing was taken for damaged");
}

#[test]
fn a_place_that_something_else_takes_is_used_as_soon_as_it_is_free() {
    let folder = tempfile::tempdir().expect("a folder");
    with_one(folder.path());
    let (kept, aside) = (folder.path().join("conversations"), folder.path().join("aside"));
    std::fs::rename(&kept, &aside).expect("moved");
    std::fs::write(&kept, "a file in the place of the folder").expect("written");
    goes_on_after(folder.path(), &[], "allow writing", || {
        std::fs::remove_file(&kept).expect("removed");
        std::fs::rename(&aside, &kept).expect("moved");
    });

    let folder = tempfile::tempdir().expect("a folder");
    with_one(folder.path());
    let file = folder.path().join("conversations/conversations.sqlite");
    let aside = folder.path().join("aside");
    std::fs::rename(&file, &aside).expect("moved");
    std::fs::create_dir(&file).expect("made");
    goes_on_after(folder.path(), &[], "allow writing", || {
        std::fs::remove_dir(&file).expect("removed");
        std::fs::rename(&aside, &file).expect("moved");
    });

    let folder = tempfile::tempdir().expect("a folder");
    with_one(folder.path());
    let log = folder.path().join("conversations/conversations.sqlite-wal");
    std::fs::create_dir(&log).expect("made");
    goes_on_after(folder.path(), &[], "allow writing", || std::fs::remove_dir(&log).expect("removed"));
}

#[test]
fn the_process_on_a_full_disk() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let data = Path::new(&folder);
    with_one(data);
    let backend = open(data);
    let history = backend.history();
    let file = data.join("all.json");
    history.export(None, backend::ExportFormat::Json, &file).expect("there is room");
    let mut ballast = std::fs::File::create(data.join("ballast")).expect("made");
    // Down to the last byte.
    for size in [4096, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
    let id = history.begin(false).expect("begun");
    history.rename(id, "meanwhile").expect("it goes on in memory");
    assert_eq!(titles(&backend), [OLD, "meanwhile"], "what is on the disk can be read");
    let told = notice(&backend).expect("it is told").message;
    assert!(told.contains("make room on the disk"), "{told}");
    let refused = history.import(&file).expect_err("the disk takes nothing");
    assert!(matches!(refused, Error::History { full: true, .. }), "{refused}");
    assert!(refused.to_string().contains("make room on the disk"), "{refused}");
    std::fs::remove_file(data.join("ballast")).expect("removed");
    drop(ballast);
    history.set_draft(id, "more").expect("kept");
    assert!(history.conversation(id, 1).expect("read").about.saved);
    assert_eq!(notice(&backend), None, "it is over");
    drop(backend);
    assert_eq!(titles(&open(data)), [OLD, "meanwhile"]);
}

#[test]
fn a_full_disk_is_told_as_one_and_used_when_it_has_room() {
    let folder = tempfile::tempdir().expect("a folder");
    // A disk of its own, which nobody else sees.
    let shell = format!("mount -t tmpfs -o size=2m none '{}' && exec \"$0\" \"$@\"", folder.path().display());
    let mut process = Command::new("unshare");
    process.args(["--map-root-user", "--mount", "sh", "-c"]);
    let may_mount = Command::new("unshare")
        .args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"])
        .arg(folder.path())
        .status();
    if !may_mount.is_ok_and(|status| status.success()) {
        println!("skipped: this system gives no small disk");
        return;
    }
    process.arg(shell).arg(std::env::current_exe().expect("this program"));
    process.args(["--exact", "the_process_on_a_full_disk", "--nocapture"]);
    assert_succeeds(&process.env(FOLDER, folder.path()).output().expect("it starts"));
}

#[cfg(unix)]
mod of_another_user {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;

    use super::*;

    /// Rights bind every user but this one, in whose place nobody works.
    const ROOT: u32 = 0;
    const NOBODY: u32 = 65_534;

    fn owner(path: &Path) -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).expect("there").uid()
    }

    fn give_away(path: &Path) {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("given");
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("read") {
                give_away(&entry.expect("read").path());
            }
        }
    }

    #[test]
    fn the_process_that_may_not_write() {
        let Ok(folder) = std::env::var(FOLDER) else { return };
        let file = Path::new(&folder).join("conversations/conversations.sqlite");
        let allow = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
        allow(0o400).expect("it is ours");
        goes_on_after(Path::new(&folder), &[OLD], "allow writing", || allow(0o600).expect("it is ours"));
    }

    #[test]
    fn a_file_that_may_not_be_written_is_written_as_soon_as_it_may() {
        let folder = tempfile::tempdir().expect("a folder");
        with_one(folder.path());
        let mut process = Command::new(std::env::current_exe().expect("this program"));
        process.args(["--exact", "of_another_user::the_process_that_may_not_write", "--nocapture"]);
        if owner(folder.path()) == ROOT {
            give_away(folder.path());
            process.uid(NOBODY).gid(NOBODY);
        }
        assert_succeeds(&process.env(FOLDER, folder.path()).output().expect("it starts"));
    }
}

fn assert_succeeds(output: &Output) {
    let [said, failed] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}\n{said}\n{failed}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}

/// Lets no file of this process grow beyond so many bytes; writes beyond fail as on a failing disk, those that
/// begin before it in their middle.
fn limit_files(bytes: Option<u64>) {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let limited = Command::new("prlimit")
        .args([format!("--pid={}", std::process::id()), format!("--fsize={limit}:")])
        .status()
        .expect("it starts");
    assert!(limited.success());
}

#[test]
fn the_process_whose_writes_fail() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let answer = answer();
    let answers: Vec<&str> = vec![&answer; 40];
    let (mut numbers, mut refused) = (Numbers(3), 0);
    let steps = count("HEARTH_KILLS", 40) * 2;
    // The limit of a check is for short ones.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::with(Transport::Channel, &answers, 4096, |directories| {
            directories.data = folder.clone().into()
        });
        world.ask("before").await;
        let (history, chat) = (world.backend.history(), world.chat());
        let kept = world.directories.conversations();
        for step in 0..steps {
            let sizes = ["", "-wal"].map(|ending| {
                let file = kept.join(format!("conversations.sqlite{ending}"));
                std::fs::metadata(file).map_or(0, |file| file.len())
            });
            let largest = sizes.into_iter().max().unwrap_or_default() + 20_000;
            limit_files(Some(numbers.below(largest as usize) as u64));
            if step % 5 == 0 {
                history.begin(false).expect("begun");
            }
            let options =
                ReplyOptions { max_tokens: Some(1 + numbers.below(140)), ..ReplyOptions::default() };
            let (id, text) = (chat.current(), format!("message-{step}"));
            let (reply, _) = world.ask_with(&text, options.clone()).await;
            assert!(matches!(reply.status, ReplyStatus::Finished(_)), "{:?}", reply.status);
            let question = world.entries()[0].id();
            match step % 4 {
                1 => drop(
                    chat.edit(id, question, format!("edit-{step}"), options, |_| {}).await.expect("sent"),
                ),
                2 => drop(chat.regenerate(id, reply.id, options, |_| {}).await.expect("made again")),
                3 => history.pin_message(id, question, true).expect("pinned"),
                _ => history.rename(id, &format!("title {step}")).expect("named"),
            }
            let said = texts(&world.entries());
            refused += usize::from(notice(&world.backend).is_some());
            limit_files(None);
            history.set_draft(id, &format!("draft {step}")).expect("kept");
            assert_eq!(notice(&world.backend), None, "step {step}: there is room again");
            assert_eq!(texts(&world.entries()), said, "step {step}");
            for about in history.conversations(0, usize::MAX).expect("listed") {
                assert!(about.saved, "step {step}: {}", about.title);
            }
        }
        println!("{steps} steps, {refused} of them in which the disk refused something");
        assert!(refused > steps / 8, "{refused} of {steps}");
    });
}

#[test]
fn writes_that_fail_at_any_byte_lose_and_double_nothing() {
    // A process that is told so by the system would end; what it inherits as ignored it ignores.
    let shell = "trap '' XFSZ; exec \"$0\" \"$@\"";
    if !cfg!(target_os = "linux") || Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: `prlimit` of Linux makes writes fail");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("sh")
        .args(["-c", shell])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_whose_writes_fail", "--nocapture", "--test-threads", "2"])
        .env(FOLDER, folder.path())
        .output()
        .expect("it starts");
    assert_succeeds(&output);
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().find(|line| line.contains("refused")).unwrap_or_default());

    let backend = open(folder.path());
    let mut found: HashMap<String, usize> = HashMap::new();
    for about in backend.history().conversations(0, usize::MAX).expect("listed") {
        let conversation = backend.history().conversation(about.id, usize::MAX).expect("read");
        for entry in &conversation.entries {
            let Entry::Reply(reply) = entry else { continue };
            assert!(matches!(reply.status, ReplyStatus::Finished(_)), "{:?}", reply.status);
            assert!(answer().starts_with(&reply.text));
        }
    }
    drop(backend);
    let connection =
        Connection::open(folder.path().join("conversations/conversations.sqlite")).expect("opens");
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(verdict, "ok");
    assert!(!folder.path().join("conversations/damaged").exists(), "nothing was taken for damaged");
    let mut statement = connection.prepare("SELECT text FROM message WHERE role = 'user'").expect("asked");
    for text in statement.query_map([], |row| row.get::<_, String>(0)).expect("read") {
        *found.entry(text.expect("text")).or_default() += 1;
    }
    for step in 0..count("HEARTH_KILLS", 40) * 2 {
        assert_eq!(found.get(&format!("message-{step}")), Some(&1), "message-{step}");
        if step % 4 == 1 {
            assert_eq!(found.get(&format!("edit-{step}")), Some(&1), "edit-{step}");
        }
    }
}
