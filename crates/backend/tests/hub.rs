//! The hub's protocol: listings, searches, refusals, tokens, and the ledger of it all.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/hub.rs"]
mod server;

use std::net::TcpListener;

use backend::Error;
use backend::hub::{Hub, HubFailure, NetworkLedger, NetworkOptions, NetworkSettings, Purpose, RepositoryId};
use downloads::{Place, REPOSITORY, hub_at, online, timing};
use serde_json::json;
use server::{Act, COMMIT};

fn id(text: &str) -> RepositoryId {
    RepositoryId::parse(text).expect("a repository")
}

#[track_caller]
fn kind_of<T: std::fmt::Debug>(result: backend::Result<T>) -> HubFailure {
    match result.expect_err("it must fail") {
        Error::Hub { kind, .. } => kind,
        other => panic!("another failure: {other}"),
    }
}

#[test]
fn a_listing_of_many_pages_is_read_whole() {
    let place = Place::new();
    let files: Vec<(String, Vec<u8>)> = (0..25).map(|n| (format!("part-{n:02}.json"), vec![n; 10])).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    place.server.store(REPOSITORY, &files);
    place.server.page(10);
    online(async {
        let hub = place.hub();
        let repository = hub.repository(&id(REPOSITORY), None).await.expect("found");
        assert_eq!(repository.commit.as_str(), COMMIT);
        assert_eq!(repository.base_models, ["base/model"]);
        let listed = hub.files(&id(REPOSITORY), &repository.commit).await.expect("listed");
        assert_eq!(listed.len(), 25);
        assert!(
            listed.iter().all(|file| file.size == 10 && file.digest.to_string().starts_with("git-sha1:"))
        );
    });
    assert_eq!(place.server.take_seen().len(), 4, "one for the commit, three pages");
}

#[test]
fn a_search_names_repositories_with_their_licence() {
    let place = Place::new();
    place.server.change(REPOSITORY, |repository| repository.licence = Some("apache-2.0"));
    place.server.change("../evil", |_| {});
    online(async {
        let hits = place.hub().search("small model", 10).await.expect("an answer");
        assert!(hits.is_empty(), "words are sent as they were typed");
        let hits = place.hub().search("", 10).await.expect("an answer");
        let [hit] = hits.as_slice() else { panic!("an id that is none is left out: {hits:?}") };
        assert_eq!((hit.id.as_str(), hit.licence.as_deref()), (REPOSITORY, Some("apache-2.0")));
    });
}

#[test]
fn refusals_are_told_apart() {
    let place = Place::new();
    place.server.change(REPOSITORY, |repository| repository.gated = true);
    online(async {
        let hub = place.hub();
        assert_eq!(kind_of(hub.repository(&id("no/body"), None).await), HubFailure::Missing);
        assert!(hub.repository(&id(REPOSITORY), None).await.expect("its card is public").gated);
        assert_eq!(kind_of(place.fetch().await), HubFailure::Gated);
    });
}

#[test]
fn hostile_listings_end_in_an_error_that_says_so() {
    let place = Place::new();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let entry = json!({"type": "file", "path": "a.json", "size": 1, "oid": "0".repeat(40)}).to_string();
    let many = format!("[{}]", vec![entry.as_str(); 1_000_000].join(",")).into_bytes();
    let enough = format!("[{}]", vec![entry.as_str(); 10_001].join(",")).into_bytes();
    let no_digest = json!([{"type": "file", "path": "a.json", "size": 1, "oid": "../../x"}]).to_string();
    let cases: [(&str, Vec<u8>); 6] = [
        ("a depth of 100,000", deep),
        ("a million files", many),
        ("more files than any model has", enough),
        ("no digest", no_digest.into_bytes()),
        ("another form", b"{\"error\":\"no\"}".to_vec()),
        ("no JSON", b"<html>".to_vec()),
    ];
    for (name, listing) in cases {
        place.server.change(REPOSITORY, |repository| repository.listing = Some(listing));
        let kind = online(async { kind_of(place.fetch().await) });
        assert_eq!(kind, HubFailure::Protocol, "{name}");
        assert!(place.visible().is_empty());
    }
}

#[test]
fn a_listing_that_goes_on_page_after_page_is_left() {
    let place = Place::new();
    let files: Vec<(String, Vec<u8>)> = (0..60).map(|n| (format!("part-{n:02}.json"), vec![n; 10])).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    place.server.store(REPOSITORY, &files);
    place.server.page(1);
    assert_eq!(kind_of(online(place.fetch())), HubFailure::Protocol);
    let pages = place.server.take_seen().iter().filter(|seen| seen.target.contains("/tree/")).count();
    assert_eq!(pages, 50);
}

#[test]
fn pages_that_together_have_more_files_than_any_model_are_left() {
    let place = Place::new();
    place.server.change(REPOSITORY, |repository| {
        repository.files = (0..10_500).map(|n| (format!("part-{n:05}.json"), b"{}".to_vec())).collect();
    });
    assert_eq!(kind_of(online(place.fetch())), HubFailure::Protocol);
    let pages = place.server.take_seen().iter().filter(|seen| seen.target.contains("/tree/")).count();
    assert_eq!(pages, 11, "of 1,000 files each, and none after the one that goes beyond 10,000");
}

/// Mirrors pass on what the hub says of the next page, its own address included.
#[test]
fn the_next_page_is_asked_of_whom_the_first_one_was() {
    let place = Place::new();
    let files: Vec<(String, Vec<u8>)> = (0..25).map(|n| (format!("part-{n:02}.json"), vec![n; 10])).collect();
    place.server.change(REPOSITORY, |repository| repository.files = files.into_iter().collect());
    place.server.page(10);
    place.server.change(REPOSITORY, |repository| repository.pages_at = Some("https://hub.invalid".into()));
    online(async {
        let hub = place.hub();
        let repository = hub.repository(&id(REPOSITORY), None).await.expect("found");
        let listed = hub.files(&id(REPOSITORY), &repository.commit).await.expect("listed");
        assert_eq!(listed.len(), 25);
    });
    let entries = NetworkLedger::new(place.data.path()).entries();
    assert!(entries.iter().all(|entry| entry.host == "127.0.0.1"), "{entries:?}");
}

#[test]
fn a_card_may_have_any_form() {
    let place = Place::new();
    let cases = [
        (json!({"sha": COMMIT}), None, 0, false),
        (json!({"sha": COMMIT, "gated": null, "cardData": null}), None, 0, false),
        (json!({"sha": COMMIT, "gated": 7, "cardData": [1, {"a": 2}]}), None, 0, false),
        (
            json!({"sha": COMMIT, "gated": "auto", "cardData": {"license": ["mit"], "base_model": 3}}),
            None,
            0,
            true,
        ),
        (
            json!({"sha": COMMIT, "gated": false, "cardData": {"license": "mit", "base_model": "a/b"}}),
            Some("mit"),
            1,
            false,
        ),
        (
            json!({"sha": COMMIT, "cardData": {"base_model": ["a/b", "c/d"]}, "tags": ["x", "license:mit"]}),
            Some("mit"),
            2,
            false,
        ),
    ];
    for (answer, licence, models, gated) in cases {
        place
            .server
            .change(REPOSITORY, |repository| repository.answer = Some(answer.to_string().into_bytes()));
        let found = online(async { place.hub().repository(&id(REPOSITORY), None).await }).expect("read");
        let read = (found.licence.as_deref(), found.base_models.len(), found.gated);
        assert_eq!(read, (licence, models, gated), "{answer}");
    }
}

#[test]
fn offline_opens_no_connection_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("possible");
    let data = tempfile::tempdir().expect("a folder");
    let mirror = Some(format!("http://{}", listener.local_addr().expect("an address")));
    for (offline, variables) in [(true, vec![]), (false, vec!["HF_HUB_OFFLINE"])] {
        let settings = NetworkSettings { mirror: mirror.clone(), offline, ..NetworkSettings::default() };
        let variable = |name: &str| variables.contains(&name).then(|| "1".to_owned());
        let options = NetworkOptions::new(&settings, variable).expect("options");
        let ledger = NetworkLedger::new(data.path());
        let hub = Hub::new(options, ledger.clone(), timing());
        online(async {
            assert_eq!(kind_of(hub.search("x", 1).await), HubFailure::Offline);
            assert_eq!(kind_of(hub.repository(&id(REPOSITORY), None).await), HubFailure::Offline);
        });
        assert!(listener.accept().is_err(), "nobody connected");
        assert_eq!(ledger.entries(), [], "nothing left, so nothing is in the ledger");
    }
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let data = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hub = hub_at(&format!("http://{port}"), data.path(), timing());
    online(async { assert_eq!(kind_of(hub.search("x", 1).await), HubFailure::Unreachable) });
}

#[test]
fn a_token_goes_to_the_hub_and_to_no_server_that_it_names() {
    let place = Place::new();
    place.server.change(REPOSITORY, |repository| repository.gated = true);
    place.server.accept_token("hf_secret");
    let settings = NetworkSettings {
        mirror: Some(place.server.endpoint()),
        environment_token: true,
        ..NetworkSettings::default()
    };
    let variable = |name: &str| (name == "HF_TOKEN").then(|| "hf_secret".to_owned());
    let options = NetworkOptions::new(&settings, variable).expect("options");
    let ledger = NetworkLedger::new(place.data.path());
    let hub = Hub::new(options, ledger.clone(), timing());
    online(async {
        let record = downloads::record(&hub).await.expect("listed");
        let downloader = downloads::any_model(backend::Downloader::new(hub.clone(), place.models()));
        downloader.fetch(&record, &Default::default(), |_| {}).await.expect("the token opens it");
    });
    place.assert_installed();
    let seen = place.server.take_seen();
    assert!(seen.iter().any(|seen| seen.at_files), "large files come from elsewhere");
    for seen in &seen {
        assert_eq!(seen.header("authorization").is_some(), !seen.at_files, "{}", seen.target);
        assert!(!seen.target.contains("secret"));
    }
    for name in ["network.jsonl", "network.lock"] {
        let text = std::fs::read_to_string(place.data.path().join(name)).expect("there");
        assert!(!text.contains("secret"), "{name}");
    }
    assert!(!format!("{hub:?}").contains("secret"));
}

#[test]
fn a_token_that_is_refused_is_told_as_such() {
    let place = Place::new();
    let settings = NetworkSettings {
        mirror: Some(place.server.endpoint()),
        environment_token: true,
        ..NetworkSettings::default()
    };
    let variable = |name: &str| (name == "HF_TOKEN").then(|| "hf_expired".to_owned());
    let options = NetworkOptions::new(&settings, variable).expect("options");
    let hub = Hub::new(options, NetworkLedger::new(place.data.path()), timing());
    place.server.act("config.json", usize::MAX, Act::Status(401, vec![]));
    let error = online(async {
        let record = downloads::record(&hub).await.expect("listed");
        let downloader = downloads::any_model(backend::Downloader::new(hub.clone(), place.models()));
        downloader.fetch(&record, &Default::default(), |_| {}).await.expect_err("the token is refused")
    });
    assert!(error.to_string().contains("token is refused"), "{error}");
    assert_eq!(kind_of(Err::<(), _>(error)), HubFailure::TokenRefused);
    assert_eq!(kind_of(online(place.fetch())), HubFailure::Missing, "without a token it may not exist");
}

#[test]
fn a_list_is_not_waited_for_as_long_as_a_download() {
    let mut place = Place::new();
    place.timing.longest_wait = std::time::Duration::from_secs(600);
    place.server.act("api", 1, Act::Status(429, vec![("Retry-After", "300")]));
    let kind = kind_of(online(async { place.hub().repository(&id(REPOSITORY), None).await }));
    assert_eq!(kind, HubFailure::RateLimited { retry_after: Some(std::time::Duration::from_secs(300)) });
}

#[test]
fn every_request_is_in_the_ledger_with_its_bytes() {
    let place = Place::new();
    online(async { place.fetch().await.expect("installed") });
    let entries = NetworkLedger::new(place.data.path()).entries();
    let seen = place.server.take_seen();
    assert_eq!(entries.len(), seen.len(), "as many as the server saw");
    assert!(entries.iter().all(|entry| entry.host == "127.0.0.1" && entry.bytes.is_some()), "{entries:?}");
    let files = entries.iter().filter(|entry| entry.purpose == Purpose::ModelFile);
    let sizes: Vec<u64> = files.filter_map(|entry| entry.bytes).filter(|bytes| *bytes > 0).collect();
    let expected: u64 = downloads::files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(sizes.iter().sum::<u64>(), expected, "the bytes of the files, not of the redirects");
    assert_eq!(entries.iter().filter(|entry| entry.purpose == Purpose::Repository).count(), 1);
}

#[test]
fn the_ledger_is_bounded_and_survives_damage() {
    let data = tempfile::tempdir().expect("a folder");
    let line = json!({"id": "00000000-0000-4000-8000-000000000000", "time": "2026-01-01T00:00:00Z", "host": "old.example", "purpose": "search"});
    let line = format!("{line}\n");
    let text = line.repeat((1 << 20) / line.len() + 1);
    // Bytes that are no text before everything else, and the beginning of a line at the end, as a kill leaves it.
    let damaged = [b"\xff\xfe\n".as_slice(), text.as_bytes(), b"{\"id\":"].concat();
    std::fs::write(data.path().join("network.jsonl"), damaged).expect("written");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hub = hub_at(&format!("http://{port}"), data.path(), backend::hub::Timing { tries: 1, ..timing() });
    online(async { hub.search("x", 1).await.expect_err("nobody is there") });
    let entries = NetworkLedger::new(data.path()).entries();
    assert_eq!(entries.last().expect("an entry").host, "127.0.0.1");
    assert!(entries.len() > 1000, "the older ones are still there");
    let newer = std::fs::metadata(data.path().join("network.jsonl")).expect("there").len();
    assert!(newer < 10_000, "a file that is full is put aside");
}

#[test]
fn half_a_line_in_the_ledger_does_not_swallow_the_next_one() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join("network.jsonl"), b"{\"id\":").expect("written");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hub = hub_at(&format!("http://{port}"), data.path(), backend::hub::Timing { tries: 1, ..timing() });
    online(async { hub.search("x", 1).await.expect_err("nobody is there") });
    let entries = NetworkLedger::new(data.path()).entries();
    assert_eq!(entries.len(), 1, "{entries:?}");
}

#[test]
fn a_proxy_of_the_settings_is_asked_and_nobody_else() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let data = tempfile::tempdir().expect("a folder");
    let settings = NetworkSettings {
        mirror: Some("https://hub.invalid".into()),
        proxy: Some(format!("http://{}", proxy.local_addr().expect("an address"))),
        ..NetworkSettings::default()
    };
    let asked = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        let (stream, _) = proxy.accept().expect("a connection");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        reader.get_mut().write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").expect("sent");
        line
    });
    let options = NetworkOptions::new(&settings, |_| None).expect("options");
    let timing = backend::hub::Timing { tries: 1, ..timing() };
    let hub = Hub::new(options, NetworkLedger::new(data.path()), timing);
    online(async { hub.search("x", 1).await.expect_err("the proxy refuses") });
    assert_eq!(asked.join().expect("no panic"), "CONNECT hub.invalid:443 HTTP/1.1\r\n");
}

#[test]
fn too_many_requests_are_waited_for_as_long_as_the_server_says() {
    let place = Place::new();
    let act = Act::Status(429, vec![("RateLimit", "\"resolvers\";r=0;t=0")]);
    place.server.act("tokenizer.json", 2, act);
    online(async { place.fetch().await.expect("installed") });
    place.assert_installed();
    assert_eq!(
        place
            .server
            .take_seen()
            .iter()
            .filter(|seen| seen.target.contains("resolve/") && seen.target.contains("tokenizer"))
            .count(),
        3
    );
}
