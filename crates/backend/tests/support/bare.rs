//! The application over a folder, without models: for what concerns its conversations only.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend::{AppDirs, Backend, Inference, Overrides, TokenStore};
use engine::scripted::ScriptedDecoder;
use engine::{Engine, LoadOptions, LoadedModel};

/// Opens the application in `data`.
pub(crate) fn open(data: &Path) -> Backend {
    Backend::open_with(directories(data), no_models())
}

/// The same, where `tokens` keeps the hub's access token.
pub(crate) fn open_with_tokens(data: &Path, tokens: Arc<dyn TokenStore>) -> Backend {
    Backend::open_with_tokens(directories(data), no_models(), tokens)
}

/// Opens the conversations in `data` as a command in the terminal does, and ends.
pub(crate) async fn run_shortly(data: &Path) {
    let backend = Backend::open_for_run(directories(data), no_models(), &Overrides::default());
    let backend = backend.expect("it opens");
    backend.history().conversations(0, 1).expect("listed");
    backend.close(Duration::ZERO).await.expect("closed");
}

fn directories(data: &Path) -> AppDirs {
    AppDirs { data: data.to_path_buf(), resources: Vec::new(), libraries: Vec::new() }
}

fn no_models() -> Inference {
    let none = |_: &Path, _: &LoadOptions| -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
        Err(engine::Error::Invalid { reason: "there are no models here".into() })
    };
    Inference::start_with(none)
}

/// What a number in the environment says, or how much is done without it.
pub(crate) fn count(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(otherwise)
}

/// Numbers that are the same in each run (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
