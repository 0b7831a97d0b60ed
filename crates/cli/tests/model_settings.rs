//! `hearth models set` and `hearth models move`: what a model takes, and where all of them are kept.

mod support;

use std::fs;

use serde_json::Value;
use support::{Hearth, Ran, ember};

#[track_caller]
fn last(ran: &Ran) -> Value {
    ran.lines().pop().unwrap_or_else(|| panic!("there is a line: {}", ran.stderr))
}

#[test]
fn what_was_set_for_a_model_holds_for_its_replies_and_is_shown_with_its_reason() {
    let hearth = Hearth::new();
    let set = |values: &[&str]| hearth.run([&["models", "set", "ember", "--json"], values].concat());
    let shown = last(&set(&["temperature=0", "max-tokens=3", "system=You are a parrot."]).succeeded());
    assert_eq!(shown["type"], "settings");
    assert_eq!(shown["settings"]["max_tokens"]["chosen"], 3);
    let own = last(&hearth.run(["models", "show", "ember", "--json"]).succeeded())["settings"].clone();
    assert_eq!(own, shown["settings"], "`show` tells the same");
    let temperature = &own["temperature"];
    assert_eq!((&temperature["chosen"], &temperature["least"]), (&0.0.into(), &0.0.into()));
    assert!(temperature["otherwise"].is_number() && temperature["source"].is_string(), "{temperature}");

    let chat = ["chat", "--json", "--prompt", "What is Hearth?"];
    let finish = hearth.run(chat).succeeded().finish();
    assert_eq!(finish["token_ids"].as_array().expect("ids").len(), 3);
    let longer = hearth.run([&chat[..], &["--max-tokens", "5"]].concat()).succeeded().finish();
    assert_eq!(longer["token_ids"].as_array().expect("ids").len(), 5, "the command line goes before it");

    let plain = hearth.run(["models", "show", "ember"]).succeeded().stdout;
    assert!(
        plain.contains("You are a parrot.") && plain.contains("max-tokens          3 (otherwise"),
        "{plain}"
    );
    set(&["max-tokens="]).succeeded();
    let all = hearth.run(chat).succeeded().finish();
    assert!(all["token_ids"].as_array().expect("ids").len() > 5, "the model's own holds again");
    set(&["--reset"]).succeeded();
    let settings = fs::read_to_string(hearth.data.path().join("settings.json")).expect("read");
    assert!(!settings.contains("parrot"), "{settings}");
}

#[test]
fn values_that_cannot_be_are_refused_by_name_and_range() {
    let hearth = Hearth::new();
    for (value, parts) in [
        ("temperature=-1", ["temperature", "between 0 and 100"]),
        ("top_p=2", ["top-p", "between 0 and 1"]),
        ("threads=1.5", ["threads", "whole number"]),
        ("top-k=many", ["top-k", "not a number"]),
        ("tone=mild", ["tone", "repetition-penalty"]),
    ] {
        let ran = hearth.run(["models", "set", "ember", "--json", value]);
        let line = last(&ran);
        assert_eq!((ran.code, &line["code"]), (Some(2), &"wrong_usage".into()), "{value}: {line}");
        let message = line["message"].as_str().expect("text");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(!hearth.data.path().join("settings.json").exists(), "nothing was set");
    assert_eq!(hearth.run(["models", "set", "ember", "temperature"]).code, Some(2), "it is no KEY=VALUE");
}

#[test]
fn the_models_are_moved_and_found_where_they_are() {
    let hearth = Hearth::new();
    let folder = ember().to_string_lossy().into_owned();
    hearth.run(["models", "import", folder.as_str(), "--name", "copied"]).succeeded();
    let place = tempfile::tempdir().expect("a folder");
    let target = place.path().join("models").to_string_lossy().into_owned();
    for more in [&[][..], &["--copy"][..]] {
        let goal = if more.is_empty() { target.clone() } else { format!("{target}-2") };
        let moved =
            last(&hearth.run([&["models", "move", goal.as_str(), "--json"], more].concat()).succeeded());
        assert_eq!((&moved["type"], moved["folder"].as_str()), (&"moved".into(), Some(goal.as_str())));
        hearth.run(["models", "verify", "copied"]).succeeded();
        let listed = hearth.run(["models", "list", "--json"]).succeeded().lines();
        let copied = listed.iter().find(|line| line["id"] == "copied").expect("it is listed");
        assert!(copied["folder"].as_str().expect("a path").starts_with(&goal), "{copied}");
    }
    let chat = ["chat", "--json", "--prompt", "What is Hearth?", "--max-tokens", "2", "--model", "copied"];
    hearth.run(chat).succeeded().finish();
    let ran =
        hearth.run(["models", "move", hearth.data.path().join("logs").to_str().expect("text"), "--json"]);
    assert_eq!((ran.code, &last(&ran)["code"]), (Some(1), &"library".into()));
    fs::rename(format!("{target}-2"), place.path().join("away")).expect("moved away");
    let list = hearth.run(["models", "list", "--json"]).succeeded();
    assert!(list.stdout.contains("look again") || list.stderr.contains("look again"), "{}", list.stdout);
    assert!(list.lines().iter().any(|line| line["id"] == "ember"), "the built-in one answers");
    let import = hearth.run(["models", "import", folder.as_str(), "--name", "other", "--json"]);
    assert_eq!((import.code, &last(&import)["code"]), (Some(1), &"library".into()));
}
