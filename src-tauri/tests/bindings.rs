//! Writes the interface's bindings, and checks what was checked in.

use std::path::Path;

use specta_typescript::Typescript;

#[test]
fn the_bindings_of_the_interface_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/lib/ipc/bindings.ts");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    hearth_window::interface().export(Typescript::default(), &path).expect("the bindings are written");
    let after = std::fs::read_to_string(&path).expect("the bindings were written");
    assert!(before == after, "`{}` was out of date and is written anew: commit it", path.display());
}

#[test]
fn the_capability_grants_every_command_and_nothing_more_than_events() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("capabilities/main.json");
    let text = std::fs::read_to_string(path).expect("the capability is there");
    let capability: serde_json::Value = serde_json::from_str(&text).expect("the capability is JSON");
    let mut granted: Vec<String> = serde_json::from_value(capability["permissions"].clone()).expect("names");
    let mut expected: Vec<String> = hearth_window::COMMANDS
        .iter()
        .map(|command| format!("allow-{}", command.replace('_', "-")))
        .collect();
    expected.extend(["core:event:allow-listen".to_owned(), "core:event:allow-unlisten".to_owned()]);
    granted.sort();
    expected.sort();
    assert_eq!(granted, expected);
}

#[test]
fn the_content_security_policy_lets_nothing_in_from_outside() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tauri.conf.json");
    let text = std::fs::read_to_string(path).expect("the configuration is there");
    let configuration: serde_json::Value = serde_json::from_str(&text).expect("the configuration is JSON");
    let security = &configuration["app"]["security"];
    let expected = serde_json::json!({
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "font-src": "'self'",
        "connect-src": "ipc: http://ipc.localhost",
        "frame-src": "'none'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'"
    });
    assert_eq!(security["csp"], expected);
    assert_eq!(security["freezePrototype"], true);
    assert_eq!(configuration["app"]["withGlobalTauri"], false);
    assert!(security["assetProtocol"].is_null(), "the asset protocol stays off");
}
