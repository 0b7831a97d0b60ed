//! A hub on this machine, and a downloader that asks it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backend::hub::{Hub, NetworkLedger, NetworkOptions, NetworkSettings, RepositoryId, Timing};
use backend::{DiskRules, DownloadOutcome, Downloader, Manifest, ModelRecord, Origin, RecordedFile};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::server::HubServer;

pub(crate) const REPOSITORY: &str = "someone/small-model";

/// Files that look like those of a model: a large one, a middle one and small ones.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("onnx/model_q4.onnx", noise(300_000, 1)),
        ("tokenizer.json", noise(40_000, 2)),
        ("config.json", b"{\"max_position_embeddings\":512}".to_vec()),
    ]
}

/// Bytes without a pattern.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Patience for a server on this machine.
pub(crate) fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        stall_bytes: 64,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        longest_wait: Duration::from_secs(2),
        tries: 4,
        progress: 10_000,
        probe: None,
    }
}

pub(crate) fn hub_at(endpoint: &str, data: &Path, timing: Timing) -> Hub {
    let settings = NetworkSettings { mirror: Some(endpoint.to_owned()), ..NetworkSettings::default() };
    let options = NetworkOptions::new(&settings, |_| None).expect("an address on this machine");
    Hub::new(options, NetworkLedger::new(data), timing)
}

/// A disk with room enough: that of the machine has as much as it has.
pub(crate) fn roomy() -> DiskRules {
    DiskRules { available: Arc::new(|_| Ok(1 << 40)), ..DiskRules::default() }
}

/// Nothing is looked at: the files of most tests are noise.
pub(crate) fn any_model(downloader: Downloader) -> Downloader {
    downloader.with_inspect(Arc::new(|_| Ok(())))
}

/// A hub with one model, and a place to download it to.
pub(crate) struct Place {
    pub(crate) server: HubServer,
    pub(crate) data: TempDir,
    pub(crate) timing: Timing,
    pub(crate) disk: DiskRules,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(&files())
    }

    pub(crate) fn with(files: &[(&str, Vec<u8>)]) -> Self {
        let server = HubServer::start();
        server.store(REPOSITORY, files);
        let data = tempfile::tempdir().expect("a folder");
        Self { server, data, timing: timing(), disk: roomy() }
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.data.path().join("models")
    }

    pub(crate) fn hub(&self) -> Hub {
        hub_at(&self.server.endpoint(), self.data.path(), self.timing.clone())
    }

    pub(crate) fn downloader(&self) -> Downloader {
        any_model(Downloader::new(self.hub(), self.models())).with_disk(self.disk.clone())
    }

    pub(crate) async fn record(&self) -> ModelRecord {
        record(&self.hub()).await.expect("the hub answers")
    }

    pub(crate) async fn fetch(&self) -> backend::Result<DownloadOutcome> {
        let record = record(&self.hub()).await?;
        self.downloader().fetch(&record, &CancellationToken::new(), |_| {}).await
    }

    /// The folder of the installed model; fails unless every byte is right.
    #[track_caller]
    pub(crate) fn assert_installed(&self) -> PathBuf {
        let visible = self.visible();
        let [folder] = visible.as_slice() else { panic!("one model is visible: {visible:?}") };
        assert_whole(folder);
        folder.clone()
    }

    /// What a user would see as models.
    pub(crate) fn visible(&self) -> Vec<PathBuf> {
        visible(&self.models())
    }
}

pub(crate) fn visible(models: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(models).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !path.file_name().expect("a name").to_string_lossy().starts_with('.'))
        .collect()
}

/// Fails unless `folder` holds exactly the files of [`files`] and a manifest.
#[track_caller]
pub(crate) fn assert_whole(folder: &Path) {
    assert!(Manifest::read(folder).expect("readable").is_some(), "a visible model has its manifest");
    for (path, bytes) in files() {
        assert!(std::fs::read(folder.join(path)).expect("there") == bytes, "`{path}` is visible and wrong");
    }
    let mut count = 0;
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            if entry.path().is_dir() { pending.push(entry.path()) } else { count += 1 }
        }
    }
    assert_eq!(count, files().len() + 1, "nothing is left over");
}

/// The model as the hub lists it.
pub(crate) async fn record(hub: &Hub) -> backend::Result<ModelRecord> {
    let id = RepositoryId::parse(REPOSITORY)?;
    let repository = hub.repository(&id, None).await?;
    let files = hub.files(&id, &repository.commit).await?;
    Ok(ModelRecord {
        id: "small-model".into(),
        title: "Small model".into(),
        origin: Origin::Hub { repository: id, commit: repository.commit },
        licence: repository.licence,
        curated: false,
        files: files
            .into_iter()
            .map(|file| RecordedFile {
                source: file.path.clone(),
                path: file.path,
                size: file.size,
                digest: file.digest,
            })
            .collect(),
    })
}

/// Runs `check` where the network can be waited for, and fails where it hangs.
pub(crate) fn online<T>(check: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(120), check).await };
    runtime.block_on(limited).expect("the check ends")
}
