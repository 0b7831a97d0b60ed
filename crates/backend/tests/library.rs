//! The model library: the catalogue, the models of any repository, and folders of this machine.

#[path = "support/downloads.rs"]
mod downloads;
#[path = "support/ember.rs"]
mod ember;
#[path = "support/hub.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use backend::hub::{Digest, NetworkSettings, RepositoryFile, RepositoryId, RepositoryLink};
use backend::{
    AppDirs, Backend, CancellationToken, Catalog, DownloadOutcome, Downloader, Error, Fit, ImportMode,
    Inference, Library, LoadOptions, LoadedModel, MANIFEST, Manifest, Memory, MemoryNeed, ModelStore, Pins,
    Precision, variants,
};
use downloads::{Place, REPOSITORY, online};
use ember::{ember, ember_files};
use engine::Engine;
use engine::scripted::ScriptedDecoder;
use server::{Act, COMMIT, HubServer};

fn listed(path: &str, size: u64) -> RepositoryFile {
    RepositoryFile { path: path.into(), size, digest: Digest::Sha256([1; 32]) }
}

fn directories(data: &Path) -> AppDirs {
    AppDirs { data: data.to_path_buf(), resources: Vec::new(), libraries: Vec::new() }
}

fn library(data: &Path) -> Library {
    Library::open(&directories(data), &NetworkSettings { offline: true, ..NetworkSettings::default() })
}

#[test]
fn the_catalogue_pins_each_model_and_knows_its_terms() {
    let catalog = Catalog::built_in();
    assert!((8..=12).contains(&catalog.entries().len()), "{}", catalog.entries().len());
    for entry in catalog.entries() {
        assert!(!entry.base_licence.is_empty() && !entry.parameters.is_empty(), "{}", entry.id);
        assert!(entry.memory().is_some(), "{} tells how much memory it takes", entry.id);
        let weights = entry.files.iter().filter(|file| file.path.ends_with(".onnx")).count();
        assert_eq!(weights, 1, "{} has one graph", entry.id);
        match entry.record(None) {
            Ok(record) => {
                assert!(!entry.needs_listing(), "{}", entry.id);
                assert_eq!(Some(record.size()), entry.size());
                assert!(record.curated, "{}", entry.id);
                assert!(record.files.iter().all(|file| matches!(file.digest, Digest::Sha256(_))));
                assert!(record.files.iter().any(|file| file.path == "tokenizer.json"), "{}", entry.id);
            }
            Err(error) => assert!(entry.needs_listing(), "{}: {error}", entry.id),
        }
    }
    assert!(catalog.entries().iter().filter(|entry| !entry.needs_listing()).count() >= 6);
    assert_eq!(Catalog::read(&catalog.to_text()).expect("read"), catalog, "it is what it writes");
}

#[test]
fn damaged_catalogues_are_refused() {
    let text = Catalog::built_in().to_text();
    let changes = [
        ("\"format\": 1", "\"format\": 2"),
        ("da1453100cf3ff33ef56d17983fc7a8648706db6", "main"),
        ("onnx-community/Qwen3-0.6B-ONNX", "../../x"),
        ("\"qwen3-0.6b-cpu-int4\"", "\"qwen3-1.7b-cpu-int4\""),
        ("\"qwen3-0.6b-cpu-int4\"", "\"../x\""),
        ("35fe34321ea9b1ea", "../../etc/passwd"),
        ("\"config.json\"", "\"C:config.json\""),
        // A key that is misspelt would unpin a file without a word.
        ("\"sha256\"", "\"sha_256\""),
        ("\"hasTerms\"", "\"terms\": 1, \"hasTerms\""),
    ];
    for (from, to) in changes {
        let damaged = text.replacen(from, to, 1);
        assert_ne!(damaged, text, "{from} is there");
        assert!(Catalog::read(&damaged).is_err(), "{from} → {to}");
    }
}

#[test]
fn what_the_catalogue_does_not_know_comes_from_the_listing_of_the_pinned_commit() {
    let catalog = Catalog::built_in();
    let entry = catalog.entries().iter().find(|entry| entry.needs_listing()).expect("one is not known whole");
    let mut listing: Vec<RepositoryFile> = entry
        .files
        .iter()
        .map(|file| RepositoryFile {
            path: file.path.clone(),
            size: file.size.unwrap_or(77),
            digest: file
                .sha256
                .as_deref()
                .map_or(Digest::GitSha1([3; 20]), |digits| Digest::sha256(digits).expect("a digest")),
        })
        .collect();
    let record = entry.record(Some(&listing)).expect("all is known now");
    assert!(!record.curated, "a listing may be a mirror's word");
    assert!(record.files.iter().any(|file| file.digest == Digest::GitSha1([3; 20])));
    assert_eq!(entry.compare(&listing), []);
    let lists = BTreeMap::from([(entry.id.clone(), listing.clone())]);
    let filled = catalog.clone().filled(&lists);
    let whole = filled.find(&entry.id).expect("there");
    assert!(whole.size().is_some() && !whole.needs_listing(), "sizes and digests were filled in");
    assert!(whole.record(None).expect("nothing is to be asked").curated);
    assert_eq!(Catalog::read(&filled.to_text()).expect("read"), filled, "git digests are written and read");
    let small =
        listing.iter().position(|file| matches!(file.digest, Digest::GitSha1(_))).expect("one is small");
    let mut other = listing.clone();
    other[small].digest = Digest::GitSha1([4; 20]);
    assert_eq!(whole.compare(&other).len(), 1, "another git digest is another file");
    let known = entry.files.iter().position(|file| file.size.is_some()).expect("one is known");
    listing[known].size += 1;
    let error = entry.record(Some(&listing)).expect_err("the hub has another file");
    assert!(error.to_string().contains(&entry.files[known].path), "{error}");
    listing.remove(known);
    assert!(entry.record(Some(&listing)).is_err(), "a file is gone");
}

#[test]
fn pins_are_compared_with_the_hub_and_filled_from_it() {
    let place = Place::new();
    let text = r#"{"format": 1, "models": [{
        "id": "small", "title": "Small", "repository": "REPOSITORY", "commit": "COMMIT", "folder": "",
        "parameters": "1", "context": 1, "licence": null, "baseModel": "a/b", "baseLicence": "MIT",
        "hasTerms": false, "sampling": null, "kvBytesPerToken": null, "reportedWeightBytes": null, "notes": [],
        "files": [{"path": "onnx/model_q4.onnx", "size": 300000, "sha256": null},
                  {"path": "tokenizer.json", "size": null, "sha256": null},
                  {"path": "config.json", "size": null, "sha256": null}]}]}"#;
    let catalog =
        Catalog::read(&text.replace("REPOSITORY", REPOSITORY).replace("COMMIT", COMMIT)).expect("read");
    let pins = online(Pins::of(&catalog, &place.hub()));
    assert!(pins.are_right(), "{pins:?}");
    let filled = catalog.filled(&pins.listings);
    let files = &filled.entries()[0].files;
    assert!(!filled.entries()[0].needs_listing(), "{files:?}");
    let capitals = filled.to_text().replace(&server::sha256(&downloads::files()[0].1), &{
        server::sha256(&downloads::files()[0].1).to_uppercase()
    });
    let capitals = Catalog::read(&capitals).expect("digits are digits");
    assert!(online(Pins::of(&capitals, &place.hub())).are_right(), "digests are compared, not their texts");
    assert_eq!(files[0].sha256, Some(server::sha256(&downloads::files()[0].1)));
    place.server.store(REPOSITORY, &[("tokenizer.json", vec![1; 5])]);
    let pins = online(Pins::of(&filled, &place.hub()));
    let differing: Vec<_> = pins.differences.iter().map(|(_, difference)| difference.path.as_str()).collect();
    assert_eq!(differing, ["onnx/model_q4.onnx", "tokenizer.json", "config.json"]);
}

#[test]
fn a_model_fits_is_tight_or_is_too_large() {
    let memory = Memory { total: 8_000_000_000, available: 0, resident: 0, peak_resident: 0 };
    let fit = |weights: u64| MemoryNeed::of(weights, None, 0).fit(&memory);
    assert_eq!(fit(1_000_000_000), Fit::Fits);
    assert_eq!(fit(5_500_000_000), Fit::Tight);
    assert_eq!(fit(7_000_000_000), Fit::TooLarge);
    assert_eq!(fit(u64::MAX), Fit::TooLarge);
    let need = MemoryNeed::of(0, Some(1000), 1_000_000);
    assert_eq!(need.bytes, 300_000_000 + 4096 * 1000, "a conversation of 4,096 tokens");
}

#[test]
fn a_repository_offers_what_suits_a_cpu_first_and_says_why_the_rest_does_not() {
    let files: Vec<RepositoryFile> = [
        ("onnx/model.onnx", 1_000),
        ("onnx/model_q4.onnx", 300_000),
        ("onnx/model_q4.onnx_data", 900_000_000),
        ("onnx/model_q4.onnx_data_1", 100_000_000),
        ("onnx/model_q4f16.onnx", 700_000_000),
        ("onnx/model_quantized.onnx", 800_000_000),
        ("onnx/model_bnb4.onnx", 700_000_000),
        ("onnx/decoder_model_merged.onnx", 700_000_000),
        ("onnx/vision_encoder.onnx", 700_000_000),
        ("cuda/cuda-int4/model.onnx", 500_000_000),
        ("cuda/cuda-int4/genai_config.json", 500),
        ("cuda/cuda-int4/tokenizer.json", 500),
        ("cpu/cpu-int4-rtn/model.onnx", 200_000),
        ("cpu/cpu-int4-rtn/model.onnx.data", 1_200_000_000),
        ("cpu/cpu-int4-rtn/genai_config.json", 500),
        ("cpu/cpu-int4-rtn/tokenizer.json", 500),
        ("cpu/cpu-int4-rtn/run.py", 500),
        ("tokenizer.json", 1000),
        ("config.json", 100),
        ("chat_template.jinja", 100),
        ("README.md", 100),
        ("LICENSE", 100),
        ("model.safetensors", 2_000_000_000),
        ("../config.json", 1),
    ]
    .map(|(path, size)| listed(path, size))
    .into();
    let offered = variants(&files);
    let usable: Vec<_> = offered
        .iter()
        .filter(|one| one.unsupported.is_none())
        .map(|one| (one.name.as_str(), one.precision))
        .collect();
    use Precision::{Int8, Q4, Q4F16};
    assert_eq!(usable, [("q4", Q4), ("cpu-int4-rtn", Q4), ("quantized", Int8), ("q4f16", Q4F16)]);
    let q4 = &offered[0];
    assert_eq!(
        q4.size,
        1_000_300_000 + 1000 + 100 + 100 + 100,
        "weights, tokenizer, configuration, template, licence"
    );
    for (name, reason) in [
        ("onnx/model.onnx", "no weights"),
        ("onnx/model_bnb4.onnx", "form"),
        ("onnx/decoder_model_merged.onnx", "several graphs"),
        ("onnx/vision_encoder.onnx", "several graphs"),
        ("cuda/cuda-int4/model.onnx", "other hardware"),
    ] {
        let variant = offered.iter().find(|variant| variant.graph == name).expect("listed");
        let said = variant.unsupported.as_deref().unwrap_or_default();
        assert!(said.contains(reason), "{name}: {said}");
    }
    let no_tokenizer = variants(&[listed("onnx/model.onnx", 10), listed("config.json", 1)]);
    assert!(no_tokenizer[0].unsupported.as_deref().is_some_and(|reason| reason.contains("tokenizer")));
    assert!(variants(&[listed("model.safetensors", 1)]).is_empty());
}

#[test]
fn a_repository_is_named_by_its_id_or_by_a_link_to_it_at_the_hub() {
    let commit = "0123456789012345678901234567890123456789";
    let at_commit = format!("https://hf.co/someone/small-model/commit/{commit}");
    for (text, revision) in [
        ("someone/small-model", None),
        (" someone/small-model ", None),
        ("https://huggingface.co/someone/small-model", None),
        ("https://huggingface.co/someone/small-model/", None),
        ("https://HuggingFace.co/someone/small-model?library=onnx#files", None),
        ("https://huggingface.co/someone/small-model/tree/v1.0", Some("v1.0")),
        ("https://huggingface.co/someone/small-model/tree/main/onnx?x=1#y", Some("main")),
        ("https://huggingface.co/someone/small-model/blob/main/onnx/model.onnx", Some("main")),
        ("https://huggingface.co/someone/small-model/resolve/v2/config.json?download=true", Some("v2")),
        ("https://huggingface.co/someone/small-model/discussions/3", None),
        (&at_commit, Some(commit)),
        ("https://mirror.example:8443/someone/small-model/tree/v1.0", Some("v1.0")),
        ("hf://someone/small-model", None),
    ] {
        let link = RepositoryLink::parse(text, Some("mirror.example:8443")).expect(text);
        assert_eq!((link.id.as_str(), link.revision.as_deref()), (REPOSITORY, revision), "{text}");
    }
    for text in [
        "",
        "small-model",
        "a/b/c",
        "../a",
        "a/..",
        "a//b",
        "/a/b",
        "https://huggingface.co/",
        "https://huggingface.co/someone",
        "https://huggingface.co/datasets/someone/small-model",
        "https://huggingface.co/someone/small-model/tree/refs%2Fpr%2F1",
        "https://huggingface.co.example/someone/small-model",
        "https://huggingface.co@evil.example/someone/small-model",
        "https://user@huggingface.co/someone/small-model",
        "https://github.com/someone/small-model",
        "https://modelscope.cn/models/someone/small-model",
        "https://mirror.example/someone/small-model",
        "file:///a/b",
        "a b/c",
        "C:/a",
    ] {
        assert!(RepositoryLink::parse(text, Some("mirror.example:8443")).is_err(), "{text}");
    }
}

#[test]
fn the_memory_of_a_repositorys_models_has_their_kv_cache_in_it_as_far_as_they_tell() {
    let server = HubServer::start();
    let config = br#"{"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 3072,
        "max_position_embeddings": 131072}"#;
    let files = [
        ("onnx/model_q4.onnx", vec![1; 5000]),
        ("onnx/model_q4f16.onnx", vec![2; 5000]),
        ("tokenizer.json", vec![b' '; 10]),
        ("config.json", config.to_vec()),
    ];
    server.store(REPOSITORY, &files);
    let data = tempfile::tempdir().expect("a folder");
    let settings = NetworkSettings { mirror: Some(server.endpoint()), ..NetworkSettings::default() };
    let library = Library::open(&directories(data.path()), &settings);
    let id = RepositoryId::parse(REPOSITORY).expect("an id");
    let needs = || {
        let offer = online(library.offer(&id, None)).expect("listed");
        offer.variants.iter().map(|variant| (variant.precision, variant.memory)).collect::<Vec<_>>()
    };
    // Keys and values of 32 layers of 32 heads of 96 elements, for 4,096 tokens.
    let kv = |element: u64| 2 * 32 * 32 * 96 * element * 4096;
    for (precision, need) in needs() {
        let element = if precision == Precision::Q4 { 4 } else { 2 };
        assert!(need.includes_kv_cache, "{precision:?}");
        assert_eq!(need.bytes, 300_000_000 + 5000 + kv(element), "{precision:?}");
    }
    let asked = server.take_seen().iter().filter(|seen| seen.target.contains("config.json")).count();
    assert_eq!(asked, 2, "once for both, and where that leads");
    for (name, act) in [("gone", Act::Status(404, vec![])), ("wrong", Act::BitFlipped(99))] {
        server.act("config.json", 1, act);
        for (precision, need) in needs() {
            assert!(!need.includes_kv_cache, "{name}: {precision:?}");
            assert_eq!(need.bytes, 300_000_000 + 5000, "{name}: {precision:?}");
        }
    }
}

#[test]
fn a_model_of_a_repository_comes_checked_by_the_engine_and_is_found() {
    let place = Place::with(&ember_files());
    online(async {
        let id = RepositoryId::parse(REPOSITORY).expect("an id");
        let repository = place.hub().repository(&id, Some("main")).await.expect("found");
        let files = place.hub().files(&id, &repository.commit).await.expect("listed");
        let offered = variants(&files);
        let [variant] = offered.as_slice() else { panic!("{offered:?}") };
        assert_eq!(variant.unsupported, None);
        let record = variant.record(&repository);
        let downloader = Downloader::new(place.hub(), place.models());
        let outcome = downloader.fetch(&record, &CancellationToken::new(), |_| {}).await.expect("installed");
        assert!(matches!(outcome, DownloadOutcome::Installed(_)));
    });
    let store = ModelStore::new(&directories(place.data.path()));
    let model = store.find("small-model-model").expect("found without its commit");
    assert_eq!(model.id, format!("small-model-model@{}", &COMMIT[..12]));
    assert_eq!(model.name, "small-model (model)");
    let checked = store.verify(&model, &CancellationToken::new(), &mut |_| {}).expect("it has a manifest");
    assert!(checked.expect("not stopped").iter().all(|file| file.state.is_right()));
    store.remove(&model).expect("removed");
    assert!(store.models().is_empty() && place.visible().is_empty());
}

#[test]
fn a_folder_is_copied_whole_or_linked_and_checked_either_way() {
    let data = tempfile::tempdir().expect("a folder");
    let library = library(data.path());
    let stop = CancellationToken::new();
    let mut copied = 0;
    let folder = library
        .import(&ember(), Some("mine"), ImportMode::Copy, &stop, &mut |bytes, _| copied += bytes)
        .expect("Ember is sound")
        .expect("not stopped");
    let manifest = Manifest::read(&folder).expect("readable").expect("there");
    assert_eq!(copied, manifest.record.size());
    #[cfg(unix)]
    for made in [&folder, &data.path().join("models")] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(made).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o700, "{} is nobody else's", made.display());
    }
    for file in &manifest.record.files {
        assert!(
            fs::read(folder.join(&file.path)).expect("there")
                == fs::read(ember().join(&file.path)).expect("there")
        );
    }
    library.import(&ember(), Some("linked"), ImportMode::Link, &stop, &mut |_, _| {}).expect("sound");
    let model = library.store().find("linked").expect("found");
    assert_eq!(model.folder, ember());
    assert!(model.parameters.is_some(), "its configuration is read where it lies");
    library.store().remove(&model).expect("removed");
    assert!(ember().join("model.onnx").is_file(), "a link goes, what it names stays");
    let again = library.import(&ember(), Some("mine"), ImportMode::Copy, &stop, &mut |_, _| {});
    assert!(again.expect_err("the name is taken").to_string().contains("another name"));
    assert_eq!(library.ledger().entries(), [], "nothing of it asked the network");
}

/// Writes a file as somebody does so many seconds after the model was installed.
fn write_later(path: &Path, bytes: &[u8], seconds: u64) {
    fs::write(path, bytes).expect("written");
    let file = fs::File::options().append(true).open(path).expect("opened");
    file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).expect("dated");
}

#[test]
fn a_model_whose_files_changed_is_not_loaded_and_its_error_says_repair() {
    let data = tempfile::tempdir().expect("a folder");
    let library = library(data.path());
    let stop = CancellationToken::new();
    let imported = library.import(&ember(), Some("mine"), ImportMode::Copy, &stop, &mut |_, _| {});
    let folder = imported.expect("Ember is sound").expect("not stopped");
    let model = library.store().find("mine").expect("found");
    let check = || ModelStore::check_before_load(&model);
    assert_eq!(check(), Ok(()));
    let path = folder.join("tokenizer.json");
    let kept = fs::read(&path).expect("read");
    let mut flipped = kept.clone();
    flipped[1000] ^= 1;
    let fails = |found: &str| {
        let error = check().expect_err("it is another file");
        assert!(matches!(error, Error::ModelChanged { .. }), "{error:?}");
        let told = error.to_string();
        assert!(["tokenizer.json", "mine", found, "repair"].iter().all(|part| told.contains(part)), "{told}");
    };
    write_later(&path, &kept[1..], 0);
    fails("another size");
    write_later(&path, &flipped, 10);
    fails("other bytes");
    fs::remove_file(&path).expect("removed");
    fails("missing");
    // Nothing reaches the engine.
    let opened = |_: &Path, _: &LoadOptions| -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
        panic!("the model is opened all the same")
    };
    let backend = Backend::open_with(directories(data.path()), Inference::start_with(opened));
    let error = online(async { backend.select_model("mine").await }).expect_err("it is not loaded");
    assert!(matches!(error, Error::ModelChanged { .. }), "{error:?}");
    // What was written again and is right is read once.
    write_later(&path, &kept, 20);
    assert_eq!(check(), Ok(()));
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).expect("dated");
    assert!(written(&folder.join(MANIFEST)) >= written(&path), "it is noted that it is right");
}

#[test]
fn a_folder_that_is_no_sound_model_leaves_nothing_behind() {
    let data = tempfile::tempdir().expect("a folder");
    let source = tempfile::tempdir().expect("a folder");
    let (library, stop) = (library(data.path()), CancellationToken::new());
    let import = |name: &str, stop: &CancellationToken| {
        library.import(source.path(), Some(name), ImportMode::Copy, stop, &mut |_, _| {})
    };
    assert!(matches!(import("a", &stop), Err(Error::Unsupported { .. })), "an empty folder");
    for (name, bytes) in ember_files() {
        fs::write(source.path().join(name), bytes).expect("written");
    }
    for name in ["", "..", "a/b", "C:x", ".hidden", "nul"] {
        assert!(matches!(import(name, &stop), Err(Error::Name { .. })), "{name}");
    }
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert!(matches!(import("a", &stopped), Ok(None)));
    fs::write(source.path().join("model.onnx"), b"no graph").expect("written");
    let error = import("a", &stop).expect_err("the preflight refuses it");
    assert!(matches!(error, Error::Engine(_)), "{error}");
    assert!(downloads::visible(&data.path().join("models")).is_empty());
    assert_eq!(fs::read_dir(data.path().join("models/.staging")).expect("there").count(), 0);
}

#[test]
fn a_folder_that_changes_while_it_is_copied_is_not_taken_in() {
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    // What another program does to the folder when it is asked the first time, and whenever.
    let rewrites = |folder: &Path, first: bool| {
        if first {
            let config = fs::read(folder.join("config.json")).expect("there");
            fs::write(folder.join("config.json"), config).expect("written");
        }
    };
    let grows = |folder: &Path, _: bool| {
        let mut file = fs::File::options().append(true).open(folder.join("tokenizer.json")).expect("there");
        std::io::Write::write_all(&mut file, &vec![b' '; 1 << 20]).expect("written");
    };
    type Change<'a> = &'a dyn Fn(&Path, bool);
    for (name, change) in [("rewritten", &rewrites as Change<'_>), ("growing", &grows)] {
        let data = tempfile::tempdir().expect("a folder");
        let source = tempfile::tempdir().expect("a folder");
        for (name, bytes) in ember_files() {
            fs::write(source.path().join(name), bytes).expect("written");
            let file = fs::File::options().append(true).open(source.path().join(name)).expect("there");
            file.set_modified(hour_ago).expect("possible");
        }
        let whole: u64 = ember_files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut copied = 0;
        let mut on_bytes = |bytes: u64, _: u64| {
            change(source.path(), copied == 0);
            copied += bytes;
            assert!(copied <= whole, "{name}: more is copied than there was");
        };
        let stop = CancellationToken::new();
        let import =
            library(data.path()).import(source.path(), Some("a"), ImportMode::Copy, &stop, &mut on_bytes);
        let error = import.expect_err(name);
        assert!(error.to_string().contains("changed while it was copied"), "{name}: {error}");
        assert!(downloads::visible(&data.path().join("models")).is_empty(), "{name}");
    }
}

#[test]
fn an_address_that_may_not_be_asked_disturbs_nothing_that_needs_no_network() {
    for mirror in [
        "hf-mirror.example",
        "http://mirror.example",
        "https://user:secret@mirror.example/x?y=z",
        "u:secret@m",
    ] {
        let data = tempfile::tempdir().expect("a folder");
        let settings = NetworkSettings { mirror: Some(mirror.into()), ..NetworkSettings::default() };
        let library = Library::open(&directories(data.path()), &settings);
        let stop = CancellationToken::new();
        let imported = library.import(&ember(), Some("mine"), ImportMode::Copy, &stop, &mut |_, _| {});
        imported.expect("no network is needed").expect("not stopped");
        let model = library.store().find("mine").expect("found");
        library.store().verify(&model, &stop, &mut |_| {}).expect("it can be read");
        library.store().remove(&model).expect("removed");
        let error = online(async { library.hub().search("x", 1).await }).expect_err("it may not be asked");
        assert!(matches!(&error, Error::Hub { .. }), "{mirror}: {error}");
        assert!(!format!("{error} {error:?} {:?}", library.hub()).contains("secret"), "{mirror}: {error}");
        assert_eq!(library.ledger().entries(), [], "{mirror}");
    }
    let data = tempfile::tempdir().expect("a folder");
    let empty = Some(" ".to_owned());
    let settings =
        NetworkSettings { mirror: empty.clone(), proxy: empty, offline: true, ..NetworkSettings::default() };
    let library = Library::open(&directories(data.path()), &settings);
    let error = online(async { library.hub().search("x", 1).await }).expect_err("it is offline");
    assert!(error.to_string().contains("switched off"), "an empty field says nothing: {error}");
}
