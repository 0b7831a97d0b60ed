/// Every command that the window may call, for the build script, the capability and their test.
pub const COMMANDS: &[&str] = &[
    "continue_reply",
    "dismiss_notice",
    "measure_draft",
    "open_link",
    "reset_memory",
    "retry_reply",
    "select_model",
    "send_message",
    "skip_preparation",
    "snapshot",
    "stop_reply",
];
