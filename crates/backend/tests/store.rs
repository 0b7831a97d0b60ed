//! Which models there are, and what they are called.

mod support;

use std::fs;

use backend::{Error, ModelSource, ModelStore};
use support::{Transport, World, directories, make_model, run};

#[test]
fn built_in_models_come_first_and_folders_that_are_none_do_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    make_model(&directories.models(), "zeta", "{}");
    make_model(&directories.models(), "eta", "{}");
    make_model(&directories.models(), ".unfinished", "{}");
    make_model(&directories.resources[0], "theta", "{}");
    fs::create_dir_all(directories.models().join("empty")).expect("made");
    fs::create_dir_all(directories.models().join("notes")).expect("made");
    fs::write(directories.models().join("notes/readme.txt"), "no model").expect("written");
    fs::write(directories.models().join("file"), "no folder").expect("written");
    let models = ModelStore::new(&directories).models();
    let found: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.source)).collect();
    use ModelSource::{BuiltIn, Installed};
    assert_eq!(found, [("theta", BuiltIn), ("eta", Installed), ("zeta", Installed)]);
}

#[test]
fn a_model_presents_itself_and_one_that_does_not_is_called_like_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    let presentation = r#"{"name":"Zeta","introduction":"Small.","suggestions":["Why?"],"unknown":1}"#;
    make_model(&directories.models(), "zeta", presentation);
    make_model(&directories.models(), "eta", "damaged");
    fs::write(directories.models().join("zeta/model.onnx"), vec![0; 1000]).expect("written");
    let models = ModelStore::new(&directories).models();
    let [eta, zeta] = models.as_slice() else { panic!("{models:?}") };
    assert_eq!((eta.name.as_str(), eta.introduction.as_deref(), eta.suggestions.len()), ("eta", None, 0));
    assert_eq!((zeta.name.as_str(), zeta.introduction.as_deref()), ("Zeta", Some("Small.")));
    assert_eq!(zeta.suggestions, ["Why?"]);
    assert_eq!(zeta.context_length, Some(512));
    let files: u64 = ["model.onnx", "config.json", "hearth.json"]
        .map(|file| fs::metadata(zeta.folder.join(file)).expect("there").len())
        .iter()
        .sum();
    assert_eq!(zeta.size, files);
}

#[test]
fn a_model_that_somebody_put_there_can_be_removed_whatever_it_is_called_and_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    let named = ["My Model (new)", "modèle", &"m".repeat(120)];
    for name in named {
        make_model(&directories.models(), name, "{}");
    }
    make_model(folder.path(), "beside", "{}");
    let store = ModelStore::new(&directories);
    for name in named {
        let model = store.find(name).expect("listed");
        store.remove(&model).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!model.folder.exists(), "{name}");
    }
    let beside = store.find(&folder.path().join("beside").display().to_string()).expect("by its path");
    let models = directories.models();
    for id in [beside.id.clone(), format!("{}/../beside", models.display()), "../beside".into(), ".".into()] {
        let model = backend::InstalledModel { id: id.clone(), ..beside.clone() };
        assert!(matches!(store.remove(&model), Err(Error::Unsupported { .. })), "{id}");
    }
    assert!(folder.path().join("beside").is_dir());
}

#[test]
fn a_link_is_followed_once_and_only_from_a_folder_that_holds_no_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    let (models, elsewhere) = (directories.models(), folder.path().join("elsewhere"));
    make_model(&elsewhere, "real", "{}");
    let real = elsewhere.join("real");
    let link = |name: &str, target: &std::path::Path| {
        fs::create_dir_all(models.join(name)).expect("made");
        let text = serde_json::json!({ "folder": target }).to_string();
        fs::write(models.join(name).join("linked.json"), text).expect("written");
    };
    link("a-link", &real);
    fs::write(models.join("a-link/desktop.ini"), "").expect("written");
    make_model(&models, "brought", "{}");
    link("brought", &real);
    make_model(&models, "listed", "{}");
    fs::remove_file(models.join("listed/config.json")).expect("removed");
    fs::write(models.join("listed/manifest.json"), "{}").expect("written");
    link("listed", &real);
    link("chain", &models.join("a-link"));
    link("cycle", &models.join("cycle"));
    link("relative", std::path::Path::new("../elsewhere/real"));
    let found = ModelStore::new(&directories).models();
    let found: Vec<_> = found.iter().map(|model| (model.id.as_str(), model.folder.clone())).collect();
    let expected = [
        ("a-link", real),
        ("brought", models.join("brought")),
        ("chain", models.join("a-link")),
        ("cycle", models.join("cycle")),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_a_model_says_of_itself_is_bounded_and_does_not_rename_what_was_fetched() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    let models = directories.models();
    let long = serde_json::json!({
        "name": "ä".repeat(1000), "introduction": "x".repeat(10_000), "suggestions": vec!["y".repeat(1000); 20],
    });
    make_model(&models, "loud", &long.to_string());
    make_model(&models, "huge", &format!(r#"{{"name":"Huge","x":"{}"}}"#, "x".repeat(1 << 20)));
    make_model(&models, "fetched", r#"{"name":"Ember"}"#);
    let manifest = serde_json::json!({
        "format": 1, "installed": "2026-01-01T00:00:00Z", "id": "fetched", "title": "small-model (q4)",
        "origin": {"kind": "folder", "path": "/x"}, "licence": null, "curated": false,
        "files": [{"path": "config.json", "source": "config.json", "size": 31,
                   "digest": format!("sha256:{}", "0".repeat(64))}],
    });
    fs::write(models.join("fetched/manifest.json"), manifest.to_string()).expect("written");
    let store = ModelStore::new(&directories);
    let loud = store.find("loud").expect("found");
    assert_eq!(loud.name.chars().count(), 80);
    assert_eq!(loud.introduction.map(|text| text.len()), Some(300));
    assert_eq!(loud.suggestions.iter().map(String::len).collect::<Vec<_>>(), [300; 6]);
    assert_eq!(store.find("huge").expect("found").name, "huge");
    assert_eq!(store.find("fetched").expect("found").name, "small-model (q4)");
}

#[test]
fn an_installed_model_never_takes_the_place_of_a_built_in_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut directories = directories(folder.path());
    directories.resources.push(folder.path().join("checkout"));
    make_model(&directories.resources[0], "ember", r#"{"name":"first"}"#);
    make_model(&directories.resources[1], "ember", r#"{"name":"second"}"#);
    make_model(&directories.models(), "ember", r#"{"name":"mine"}"#);
    let store = ModelStore::new(&directories);
    let names: Vec<_> = store.models().into_iter().map(|model| (model.id, model.name)).collect();
    let expected = [("ember", "first"), ("installed/ember", "mine")];
    assert_eq!(names, expected.map(|(id, name)| (id.to_owned(), name.to_owned())));
    assert_eq!(store.find("installed/ember").expect("found").name, "mine");
    assert_eq!(store.find("ember").expect("found").name, "first");
}

#[test]
fn a_model_is_found_by_the_path_of_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    make_model(&directories.resources[0], "ember", r#"{"name":"built in"}"#);
    make_model(&folder.path().join("elsewhere"), "ember", r#"{"name":"elsewhere"}"#);
    let store = ModelStore::new(&directories);
    let path = folder.path().join("elsewhere/ember").display().to_string();
    let found = store.find(&path).expect("found");
    assert_eq!((found.name.as_str(), found.id.as_str()), ("elsewhere", path.as_str()));
    assert_eq!(store.preferred(Some(&path)).expect("found").name, "elsewhere");
    let known = store.find(&directories.resources[0].join("ember").display().to_string()).expect("found");
    assert_eq!((known.id.as_str(), known.source), ("ember", ModelSource::BuiltIn));
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("made");
    let bare = store.find(&empty.display().to_string()).expect("it fails by name when it is loaded");
    assert_eq!(bare.name, "empty");
}

#[test]
fn a_model_chosen_by_its_path_answers_though_another_has_its_name() {
    run(async {
        let world = World::new(Transport::Channel, &["Hello."]);
        let elsewhere = world.directories.data.join("elsewhere");
        make_model(&elsewhere, "alpha", r#"{"name":"Another alpha"}"#);
        let path = elsewhere.join("alpha").display().to_string();
        let ready = world.backend.select_model(&path).await.expect("it loads");
        assert_eq!(ready.model.name, "Another alpha");
        assert_eq!(world.ask("Who are you?").await.0.model, "Another alpha");
        assert!(world.backend.models().all().iter().any(|(model, _)| model.id == path));
    });
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let directories = directories(folder.path());
    let store = ModelStore::new(&directories);
    assert!(store.models().is_empty());
    let error = store.find("ember").expect_err("there is none");
    assert!(error.to_string().contains("none is installed"), "{error}");
    let error = store.preferred(None).expect_err("there is none");
    assert_eq!(error, Error::NoModel { folder: directories.models() });
    make_model(&directories.models(), "eta", "{}");
    let error = store.find("ember").expect_err("there is none");
    assert!(error.to_string().contains("`ember`") && error.to_string().contains("`eta`"), "{error}");
    assert_eq!(store.preferred(Some("ember")).expect("the first").id, "eta");
}

#[test]
fn a_model_that_must_be_known_is_never_a_folder() {
    run(async {
        let world = World::new(Transport::Channel, &["Hello."]);
        let elsewhere = world.directories.data.join("elsewhere");
        make_model(&elsewhere, "alpha", r#"{"name":"Another alpha"}"#);
        let path = elsewhere.join("alpha").display().to_string();
        let refused = world.backend.select_known_model(&path).await.expect_err("it is in no list");
        assert!(matches!(refused, Error::ModelUnknown { .. }), "{refused}");
        assert_eq!(world.loads(), Vec::<String>::new(), "nothing of it is loaded");
        assert_eq!(world.backend.select_known_model("beta").await.expect("it loads").model.id, "beta");
    });
}
