//! Gives every command of the application a permission of its own, so that the capability names what the
//! window may call.

include!("src/command_names.rs");

fn main() {
    // The interface is embedded while this crate is compiled, and nothing else says so.
    println!("cargo:rerun-if-changed=../ui/dist");
    let manifest = tauri_build::AppManifest::new().commands(COMMANDS);
    tauri_build::try_build(tauri_build::Attributes::new().app_manifest(manifest))
        .expect("the window's configuration and capabilities fit together");
}
