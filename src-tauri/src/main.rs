//! Hearth's window.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

fn main() {
    #[expect(unsafe_code, reason = "no other thread runs yet, so nothing can read the environment meanwhile")]
    // SAFETY: this is the first statement of the program.
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
    hearth_window::run();
}
