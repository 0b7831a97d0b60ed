//! The hub's access token: where it is kept, to whom it goes, and that it is nowhere else.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use backend::hub::{HubFailure, NetworkLedger, NetworkSettings, RepositoryId};
use backend::{
    AccessTokenState, Backend, CancellationToken, DownloadOutcome, Error, Settings, TokenKeeping, TokenStore,
};
use downloads::{REPOSITORY, online};
use server::{Act, COMMIT, HubServer};
use tempfile::TempDir;
use tracing_subscriber::fmt::MakeWriter;

const CANARY: &str = "hf_canaryCanaryCanaryCanary4711";

/// A keychain of a test: in memory, and out of order where it says why.
#[derive(Default)]
struct Drawer {
    token: Mutex<Option<String>>,
    trouble: Mutex<Option<&'static str>>,
    asked: AtomicUsize,
}

impl Drawer {
    fn holds(&self) -> Option<String> {
        self.token.lock().expect("no test panics while it looks").clone()
    }

    fn breaks(&self, why: Option<&'static str>) {
        *self.trouble.lock().expect("no test panics while it looks") = why;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn opened(&self) -> Result<std::sync::MutexGuard<'_, Option<String>>, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match *self.trouble.lock().expect("no test panics while it looks") {
            Some(why) => Err(why.to_owned()),
            None => Ok(self.token.lock().expect("no test panics while it looks")),
        }
    }
}

impl TokenStore for Drawer {
    fn read(&self) -> Result<Option<String>, String> {
        self.opened().map(|token| token.clone())
    }

    fn write(&self, token: &str) -> Result<(), String> {
        self.opened().map(|mut kept| *kept = Some(token.to_owned()))
    }

    fn remove(&self) -> Result<(), String> {
        self.opened().map(|mut kept| *kept = None)
    }
}

/// A gated repository with Ember, and an application with a drawer for its token.
struct Stage {
    server: HubServer,
    data: TempDir,
    drawer: Arc<Drawer>,
}

impl Stage {
    fn new() -> Self {
        let server = HubServer::start();
        server.store(REPOSITORY, &ember_files());
        server.change(REPOSITORY, |repository| repository.gated = true);
        server.accept_token(CANARY);
        let stage = Self { server, data: tempfile::tempdir().expect("a folder"), drawer: Arc::default() };
        let network = NetworkSettings { mirror: Some(stage.server.endpoint()), ..NetworkSettings::default() };
        let settings = Settings { network, ..Settings::default() };
        settings.save(&stage.settings()).expect("saved");
        stage
    }

    fn settings(&self) -> PathBuf {
        self.data.path().join("settings.json")
    }

    fn open(&self) -> Backend {
        bare::open_with_tokens(self.data.path(), Arc::clone(&self.drawer) as Arc<dyn TokenStore>)
    }
}

fn ember_files() -> Vec<(&'static str, Vec<u8>)> {
    let ember = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember");
    ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, fs::read(ember.join(name)).expect("part of Ember")))
        .into()
}

async fn fetch(backend: &Backend) -> backend::Result<DownloadOutcome> {
    let library = backend.library();
    let offer = library.offer(&RepositoryId::parse(REPOSITORY)?, Some(COMMIT)).await?;
    let record = offer.variants[0].record(&offer.repository);
    library.fetch(&record, &CancellationToken::new(), |_| {}).await
}

fn kind_of<T: std::fmt::Debug>(result: backend::Result<T>) -> HubFailure {
    match result.expect_err("it must fail") {
        Error::Hub { kind, .. } => kind,
        other => panic!("another failure: {other}"),
    }
}

fn set(keeping: TokenKeeping) -> AccessTokenState {
    AccessTokenState::Set { last_four: "4711".into(), keeping }
}

/// Every byte that this process logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// The files below `folder` that hold `text`, and how many were looked at.
fn files_with(folder: &Path, text: &str) -> (Vec<PathBuf>, usize) {
    let (mut found, mut looked, mut pending) = (Vec::new(), 0, vec![folder.to_path_buf()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            looked += 1;
            let bytes = fs::read(&path).expect("readable");
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    (found, looked)
}

#[test]
fn a_token_opens_a_gated_repository_and_is_in_no_file_log_ledger_or_redirect() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    // Of the whole process: the keychain is asked on a thread of its own.
    subscriber.try_init().ok();
    tracing::warn!("the log is written");
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        assert_eq!(backend.access_token().state().await, AccessTokenState::Unset);
        let refused = fetch(&backend).await;
        let told = refused.as_ref().expect_err("it is gated").to_string();
        let page = format!("{}/{REPOSITORY}", stage.server.endpoint());
        assert!(told.contains(&page), "where the conditions are accepted is said: {told}");
        assert_eq!(kind_of(refused), HubFailure::Gated);
        backend.access_token().set(&format!(" {CANARY}\n"), TokenKeeping::Keychain).await.expect("kept");
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::Keychain));
        stage.server.take_seen();
        assert!(matches!(fetch(&backend).await, Ok(DownloadOutcome::Installed(_))));
        backend.close(std::time::Duration::ZERO).await.expect("closed");
    });
    let seen = stage.server.take_seen();
    assert!(seen.iter().any(|seen| seen.at_files), "large files come from elsewhere");
    for seen in &seen {
        let sent = seen.header("authorization");
        assert_eq!(sent.is_some_and(|sent| sent.contains(CANARY)), !seen.at_files, "{}", seen.target);
        assert!(!seen.target.contains(CANARY), "in no address");
    }
    let (found, looked) = files_with(stage.data.path(), CANARY);
    assert_eq!(found, Vec::<PathBuf>::new());
    assert!(looked >= 8, "the model, the settings and the ledger were looked at: {looked}");
    assert!(NetworkLedger::new(stage.data.path()).entries().len() >= seen.len());
    let log = String::from_utf8_lossy(&log.0.lock().expect("no writer panics")).into_owned();
    assert!(log.contains("the log is written"), "there is a log");
    assert!(!log.contains(CANARY));
    assert_eq!(stage.drawer.holds().as_deref(), Some(CANARY), "the keychain has it");
}

#[test]
fn the_keychain_is_asked_by_the_first_request_after_a_restart_and_once() {
    let stage = Stage::new();
    online(async {
        stage.open().access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        let before = stage.drawer.asked();
        let backend = stage.open();
        backend.library().listed();
        assert_eq!(stage.drawer.asked(), before, "nothing asks at start");
        fetch(&backend).await.expect("it opens");
        assert_eq!(stage.drawer.asked(), before + 1);
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::Keychain));
        assert_eq!(stage.drawer.asked(), before + 1);
    });
}

#[test]
fn without_a_token_the_keychain_is_never_asked() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        assert_eq!(kind_of(fetch(&backend).await), HubFailure::Gated);
        backend.access_token().remove().await.expect("there is nothing to remove");
        assert_eq!(backend.access_token().state().await, AccessTokenState::Unset);
    });
    assert_eq!(stage.drawer.asked(), 0);
}

#[test]
fn without_a_keychain_a_token_is_kept_for_one_run_and_the_next_one_says_so() {
    let stage = Stage::new();
    stage.drawer.breaks(Some("no Secret Service is running"));
    online(async {
        let backend = stage.open();
        let refused = backend.access_token().set(CANARY, TokenKeeping::Keychain).await;
        let Err(Error::Keychain { reason, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(&**reason, "no Secret Service is running");
        assert_eq!(backend.access_token().state().await, AccessTokenState::Unset, "nothing was kept");
        assert_eq!(kind_of(fetch(&backend).await), HubFailure::Gated);
        backend.access_token().set(CANARY, TokenKeeping::ThisRun).await.expect("this needs no keychain");
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::ThisRun));
        fetch(&backend).await.expect("it opens");

        let next = stage.open();
        assert_eq!(next.access_token().state().await, AccessTokenState::Forgotten);
        next.access_token().remove().await.expect("the note about it goes");
        assert_eq!(stage.open().access_token().state().await, AccessTokenState::Unset);
    });
    assert_eq!(files_with(stage.data.path(), CANARY).0, Vec::<PathBuf>::new());
}

#[test]
fn a_locked_keychain_lets_requests_leave_without_the_token_and_is_not_asked_by_each() {
    let stage = Stage::new();
    stage.server.change(REPOSITORY, |repository| repository.gated = false);
    online(async {
        stage.open().access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        stage.drawer.breaks(Some("it is locked"));
        stage.server.take_seen();
        let (backend, before) = (stage.open(), stage.drawer.asked());
        fetch(&backend).await.expect("nobody asks for a token here");
        assert_eq!(stage.drawer.asked(), before + 1);
        assert!(stage.server.take_seen().iter().all(|seen| seen.header("authorization").is_none()));
        let notices = backend.notices();
        assert!(notices.iter().any(|notice| notice.message.contains("it is locked")), "{notices:?}");
        let state = backend.access_token().state().await;
        assert!(matches!(state, AccessTokenState::Unreadable(Error::Keychain { .. })), "{state:?}");
        stage.drawer.breaks(None);
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::Keychain));
        assert!(backend.notices().iter().all(|notice| notice.code != "accessToken"));
    });
}

#[test]
fn a_token_that_the_hub_does_not_know_is_given_up_and_told_of() {
    let stage = Stage::new();
    let invalid = vec![("X-Error-Message", "Invalid credentials in Authorization header")];
    online(async {
        let backend = stage.open();
        backend.access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        stage.server.act("api", 1, Act::Status(401, invalid));
        assert_eq!(kind_of(fetch(&backend).await), HubFailure::TokenRefused);
        assert_eq!(
            backend.access_token().state().await,
            AccessTokenState::Refused { last_four: "4711".into() }
        );
        let notices = backend.notices();
        let told = notices.iter().find(|notice| notice.code == "accessToken").expect("it is told");
        assert!(told.message.contains("4711") && !told.message.contains(CANARY), "{}", told.message);
        stage.server.take_seen();
        assert_eq!(kind_of(fetch(&backend).await), HubFailure::Gated, "as without a token");
        assert!(stage.server.take_seen().iter().all(|seen| seen.header("authorization").is_none()));
    });
    assert_eq!(stage.drawer.holds(), None, "it is no use to anybody");
    assert_eq!(Settings::open(&stage.settings()).0.access_token, None);
}

#[test]
fn a_repository_that_the_account_may_not_read_costs_no_token() {
    let stage = Stage::new();
    stage.server.accept_token("hf_another");
    online(async {
        let backend = stage.open();
        backend.access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        let refused = fetch(&backend).await;
        let told = refused.as_ref().expect_err("it is gated").to_string();
        assert!(told.contains("the account of the access token has no access"), "{told}");
        assert_eq!(kind_of(refused), HubFailure::Gated);
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::Keychain));
    });
}

#[test]
fn what_is_no_token_is_refused_without_repeating_it() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        let long = "x".repeat(513);
        for text in ["", "  \n", "two words", "line\nbreak", "hf_ümlaut", "hf_\u{0}", long.as_str()] {
            let refused = backend.access_token().set(text, TokenKeeping::ThisRun).await;
            let error = refused.expect_err("it is none");
            assert!(matches!(error, Error::TokenForm { .. }), "{error}");
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()), "{error}");
        }
        assert_eq!(backend.access_token().state().await, AccessTokenState::Unset);
        backend.access_token().set("short", TokenKeeping::ThisRun).await.expect("it may be one");
        let state = AccessTokenState::Set { last_four: String::new(), keeping: TokenKeeping::ThisRun };
        assert_eq!(
            backend.access_token().state().await,
            state,
            "four of five characters would tell too much"
        );
    });
}

#[test]
fn a_token_is_replaced_and_removed() {
    let stage = Stage::new();
    online(async {
        let backend = stage.open();
        backend.access_token().set("hf_first_of_two_1111", TokenKeeping::Keychain).await.expect("kept");
        backend.access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        assert_eq!(stage.drawer.holds().as_deref(), Some(CANARY));
        backend.access_token().set(CANARY, TokenKeeping::ThisRun).await.expect("kept");
        assert_eq!(stage.drawer.holds(), None, "nobody would know of it any more");
        backend.access_token().set(CANARY, TokenKeeping::Keychain).await.expect("kept");
        stage.drawer.breaks(Some("it is locked"));
        assert!(backend.access_token().remove().await.is_err());
        assert_eq!(backend.access_token().state().await, set(TokenKeeping::Keychain), "it is still there");
        stage.drawer.breaks(None);
        backend.access_token().remove().await.expect("removed");
        assert_eq!(
            (stage.drawer.holds(), backend.access_token().state().await),
            (None, AccessTokenState::Unset)
        );
        assert_eq!(kind_of(fetch(&backend).await), HubFailure::Gated);
    });
}
