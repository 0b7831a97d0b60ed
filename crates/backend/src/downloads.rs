//! Downloads, repairs and imports under way: they go on while nobody looks, and can be stopped and taken up.
//!
//! What is on the disk of a download is its memory: one that a program's end interrupted is found there by the
//! next start, paused. Nothing begins by itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::Change;
use crate::download::{DownloadOutcome, DownloadPhase, DownloadProgress, RepairOutcome};
use crate::error::{Error, Result};
use crate::hub::RepositoryId;
use crate::import::ImportMode;
use crate::library::Library;
use crate::models::Models;
use crate::store::staging::sweep;
use crate::store::{InstalledModel, ModelRecord, Unfinished};

/// Models that come at the same time; further ones wait for their turn.
const AT_ONCE: usize = 2;
/// Between two tellings of a copy's progress.
const TELLING: Duration = Duration::from_millis(100);
/// Of a name that is made from that of a folder.
const LONGEST_NAME: usize = 80;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadKind {
    Download,
    /// Every byte of an installed model is compared, and what is wrong is fetched.
    Repair,
    /// A folder of this machine is copied or linked.
    Import,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq)]
pub enum DownloadState {
    /// Others come first.
    Queued,
    Running {
        phase: DownloadPhase,
        bytes_per_second: f64,
        /// `None` while nothing comes.
        seconds_left: Option<f64>,
    },
    /// Stopped; what came is kept.
    Paused,
    /// What came is kept.
    Failed(Error),
}

/// A model on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Download {
    /// The id that the model has when it is installed.
    pub id: String,
    pub title: String,
    pub kind: DownloadKind,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole; 0 where it is not known yet.
    pub total: u64,
    pub state: DownloadState,
}

/// The models on their way. Cheap to clone.
#[derive(Clone)]
pub struct Downloads(Arc<Inner>);

struct Inner {
    models: Models,
    changes: broadcast::Sender<Change>,
    items: Mutex<Vec<Item>>,
    turns: Arc<Semaphore>,
    /// Held while the folder of a model changes or all of them are moved.
    changing: Arc<tokio::sync::Mutex<()>>,
}

struct Item {
    about: Download,
    work: Work,
    running: Option<Running>,
}

impl Item {
    /// A download that an earlier run began and did not end.
    fn begun_before(begun: Unfinished) -> Self {
        let about = Download {
            id: begun.record.folder_name(),
            title: begun.record.title.clone(),
            kind: DownloadKind::Download,
            done: begun.bytes,
            total: begun.record.size(),
            state: DownloadState::Paused,
        };
        Self { about, work: Work::Fetch(begun.record), running: None }
    }
}

/// While it lives nothing comes.
pub(crate) struct Held {
    _turns: OwnedSemaphorePermit,
    _changing: OwnedMutexGuard<()>,
}

/// What there is to do, so that it can be done again.
#[derive(Clone)]
enum Work {
    Fetch(ModelRecord),
    Repair(InstalledModel),
    Import { folder: PathBuf, mode: ImportMode },
}

#[derive(Clone)]
struct Running {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// How a piece of work ended.
enum Ended {
    /// So many files were wrong, of a repair.
    Done(usize),
    Stopped,
}

impl Downloads {
    /// Finds the downloads that were begun before and not ended.
    pub(crate) fn new(models: Models, changes: broadcast::Sender<Change>) -> Self {
        let store = models.store();
        sweep(store.folder());
        let items = store.unfinished().into_iter().map(Item::begun_before);
        Self(Arc::new(Inner {
            models,
            changes,
            items: Mutex::new(items.collect()),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            changing: Arc::default(),
        }))
    }

    /// Every model on its way, the one that was asked for first at the top.
    pub fn list(&self) -> Vec<Download> {
        self.items().iter().map(|item| item.about.clone()).collect()
    }

    /// Fetches the listed model `name`. Returns the id that it has when it is installed.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], [`Error::Hub`], [`Error::Unsupported`].
    pub async fn start_entry(&self, name: &str) -> Result<String> {
        let library = self.library();
        let listed = library.find_listed(name).ok_or_else(|| Error::ModelUnknown {
            id: name.to_owned(),
            known: "it is in no list of models".into(),
        })?;
        let record = library.record_of(&listed).await?;
        Ok(self.start(record))
    }

    /// Fetches a variant of any repository at `commit`. Returns the id that it has when it is installed.
    ///
    /// # Errors
    /// [`Error::Hub`]; [`Error::Unsupported`] for a variant that is not there or cannot run here.
    pub async fn start_variant(
        &self,
        repository: &RepositoryId,
        commit: &str,
        variant: &str,
    ) -> Result<String> {
        // Looked up again: what is fetched depends on nothing that a window says but names.
        let offer = self.library().look_up(repository, Some(commit)).await?;
        let refused = |reason: String| Error::Unsupported { what: format!("`{repository}`"), reason };
        let found = offer.variants.iter().find(|known| known.name == variant);
        let chosen = found.ok_or_else(|| refused(format!("it has no variant `{variant}`")))?;
        match &chosen.unsupported {
            Some(reason) => Err(refused(format!("`{variant}`: {reason}"))),
            None => Ok(self.start(chosen.record(&offer.repository))),
        }
    }

    /// Fetches the model of `record`, or goes on with it. Returns the id that it has when it is installed.
    pub fn start(&self, record: ModelRecord) -> String {
        let id = record.folder_name();
        let about = Download {
            id: id.clone(),
            title: record.title.clone(),
            kind: DownloadKind::Download,
            done: 0,
            total: record.size(),
            state: DownloadState::Queued,
        };
        self.add(about, Work::Fetch(record));
        self.run(&id);
        id
    }

    /// Compares every byte of an installed model and fetches what is wrong. Returns how many files were wrong,
    /// or `None` where it was stopped.
    ///
    /// # Errors
    /// As [`Library::repair`]; it stands in the list too.
    pub(crate) async fn repair(&self, model: InstalledModel) -> Result<Option<usize>> {
        let about = Download {
            id: model.id.clone(),
            title: model.name.clone(),
            kind: DownloadKind::Repair,
            done: 0,
            total: model.size,
            state: DownloadState::Queued,
        };
        let id = model.id.clone();
        self.add(about, Work::Repair(model));
        match self.run(&id) {
            Some(ended) => ended.await.unwrap_or(Err(Error::InferenceEnded)),
            None => Err(Error::Unsupported {
                what: format!("`{id}`"),
                reason: "it is on its way already; wait for that or cancel it".into(),
            }),
        }
    }

    /// Takes a folder of this machine in, under its own name or one like it. Returns the name.
    pub fn import(&self, folder: &Path, mode: ImportMode) -> String {
        let id = self.free_name(folder);
        let about = Download {
            id: id.clone(),
            title: id.clone(),
            kind: DownloadKind::Import,
            done: 0,
            total: 0,
            state: DownloadState::Queued,
        };
        self.add(about, Work::Import { folder: folder.to_path_buf(), mode });
        self.run(&id);
        id
    }

    /// Stops a download and waits until it has. What came is kept.
    pub async fn pause(&self, id: &str) {
        let running =
            self.items().iter().find(|item| item.about.id == id).and_then(|item| item.running.clone());
        if let Some(Running { stop, ended }) = running {
            stop.cancel();
            ended.cancelled().await;
        }
    }

    /// Stops all that come over the network; returns them.
    pub(crate) async fn pause_all(&self) -> Vec<String> {
        let is_fetching = |item: &&Item| item.running.is_some() && item.about.kind != DownloadKind::Import;
        let ids: Vec<String> =
            self.items().iter().filter(is_fetching).map(|item| item.about.id.clone()).collect();
        for id in &ids {
            self.pause(id).await;
        }
        ids
    }

    /// Goes on with what was stopped or has failed.
    pub fn resume(&self, id: &str) {
        self.run(id);
    }

    /// Stops a download and deletes what came of it.
    ///
    /// # Errors
    /// [`Error::Library`] where another program works on it, or it cannot be deleted.
    pub async fn cancel(&self, id: &str) -> Result<()> {
        self.pause(id).await;
        let work = self.items().iter().find(|item| item.about.id == id).map(|item| item.work.clone());
        let _unmoved = self.unmoved().await;
        let (library, downloads) = (self.library(), self.clone());
        let discarded = tokio::task::spawn_blocking(move || match work {
            Some(Work::Fetch(record)) => library.discard(&record),
            Some(Work::Repair(model)) => library.discard_repair(&downloads.as_it_lies(model)),
            // Nothing is left of an import that was stopped.
            Some(Work::Import { .. }) | None => Ok(()),
        });
        discarded.await.unwrap_or(Err(Error::InferenceEnded))?;
        self.items().retain(|item| item.about.id != id);
        self.changed();
        Ok(())
    }

    fn library(&self) -> Library {
        self.0.models.library()
    }

    /// An installed model where it lies now: its folder may have been moved.
    fn as_it_lies(&self, model: InstalledModel) -> InstalledModel {
        self.0.models.store().find(&model.id).unwrap_or(model)
    }

    /// Waits for the end of a move; none begins while the returned value lives.
    pub(crate) async fn unmoved(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0.changing).lock_owned().await
    }

    /// Lets nothing come while the returned value lives. What comes over the network is paused first, where that is
    /// wanted, and goes on afterwards, as what is asked for meanwhile does.
    ///
    /// # Errors
    /// [`Error::Library`] where something comes that may not be paused.
    pub(crate) async fn hold(&self, pauses: bool) -> Result<Held> {
        let busy = |reason: &str| Error::Library {
            doing: "move the models from",
            path: self.0.models.library_folder().into(),
            reason: reason.into(),
        };
        let changing = Arc::clone(&self.0.changing).try_lock_owned();
        let _changing =
            changing.map_err(|_| busy("they are being moved, or one is being removed or put back"))?;
        let coming: Vec<DownloadKind> =
            self.items().iter().filter(|item| item.running.is_some()).map(|item| item.about.kind).collect();
        if coming.contains(&DownloadKind::Import) {
            return Err(busy("a folder is being imported into it; wait until that has ended"));
        }
        if !coming.is_empty() && !pauses {
            return Err(busy("models are on their way into it; pause them first"));
        }
        let paused = self.pause_all().await;
        let turns = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        // Nobody closes it.
        let held = Arc::clone(&self.0.turns).acquire_many_owned(turns).await;
        paused.iter().for_each(|id| self.resume(id));
        let _turns = held.map_err(|_| Error::InferenceEnded)?;
        Ok(Held { _turns, _changing })
    }

    /// Looks again for downloads that were begun and not ended. Where models are kept in another folder now, those
    /// of the other one are forgotten; they stay there.
    pub(crate) fn find_begun(&self, is_another_folder: bool) {
        let found = self.0.models.store().unfinished();
        let mut items = self.items();
        if is_another_folder {
            items.retain(|item| item.running.is_some());
        }
        for begun in found {
            let item = Item::begun_before(begun);
            if !items.iter().any(|known| known.about.id == item.about.id) {
                items.push(item);
            }
        }
        drop(items);
        self.changed();
    }

    /// Puts it into the list, in the place of one that does not run.
    fn add(&self, about: Download, work: Work) {
        let mut items = self.items();
        match items.iter_mut().find(|item| item.about.id == about.id) {
            Some(item) if item.running.is_some() => {}
            Some(item) => {
                // The bytes that are there are known until the download counts them itself.
                let done = if item.about.kind == about.kind { item.about.done } else { 0 };
                *item = Item { about: Download { done, ..about }, work, running: None };
            }
            None => items.push(Item { about, work, running: None }),
        }
    }

    /// Begins with what stands in the list as `id`, unless it runs; the receiver is told how it ended.
    fn run(&self, id: &str) -> Option<tokio::sync::oneshot::Receiver<Result<Option<usize>>>> {
        let running = Running { stop: CancellationToken::new(), ended: CancellationToken::new() };
        let work = {
            let mut items = self.items();
            let item = items.iter_mut().find(|item| item.about.id == id && item.running.is_none())?;
            item.running = Some(running.clone());
            item.about.state = DownloadState::Queued;
            item.work.clone()
        };
        self.changed();
        let (tell, ended) = tokio::sync::oneshot::channel();
        let (downloads, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            // Also where the work panics: whoever waits for its end must not wait for ever.
            let _ended = running.ended.drop_guard();
            let turn = tokio::select! {
                biased;
                () = running.stop.cancelled() => None,
                turn = Arc::clone(&downloads.0.turns).acquire_owned() => turn.ok(),
            };
            let result = match turn {
                Some(_turn) => downloads.work(&id, work, &running.stop).await,
                None => Ok(Ended::Stopped),
            };
            let told = match &result {
                Ok(Ended::Done(files)) => Ok(Some(*files)),
                Ok(Ended::Stopped) => Ok(None),
                Err(error) => Err(error.clone()),
            };
            downloads.settle(&id, result);
            // Most are waited for by nobody.
            tell.send(told).ok();
        });
        Some(ended)
    }

    async fn work(&self, id: &str, work: Work, stop: &CancellationToken) -> Result<Ended> {
        let library = self.library();
        let told = |progress: DownloadProgress| self.progress(id, progress);
        match work {
            Work::Fetch(record) => Ok(match library.fetch(&record, stop, told).await? {
                DownloadOutcome::Installed(_) => Ended::Done(0),
                DownloadOutcome::Paused => Ended::Stopped,
            }),
            Work::Repair(model) => Ok(match library.repair(&self.as_it_lies(model), stop, told).await? {
                RepairOutcome::Repaired(files) => Ended::Done(files.len()),
                RepairOutcome::Paused => Ended::Stopped,
            }),
            Work::Import { folder, mode } => {
                let (downloads, id, stop) = (self.clone(), id.to_owned(), stop.clone());
                let copied = tokio::task::spawn_blocking(move || {
                    let mut on_bytes = downloads.copying(&id);
                    library.import(&folder, Some(&id), mode, &stop, &mut on_bytes)
                });
                let imported = copied.await.unwrap_or(Err(Error::InferenceEnded))?;
                Ok(if imported.is_some() { Ended::Done(0) } else { Ended::Stopped })
            }
        }
    }

    /// Adds up what was copied, and tells it now and then.
    fn copying<'d>(&'d self, id: &'d str) -> impl FnMut(u64, u64) + 'd {
        let (mut done, mut told) = (0, None::<Instant>);
        move |bytes, total| {
            done += bytes;
            if done < total && told.is_some_and(|told| told.elapsed() < TELLING) {
                return;
            }
            told = Some(Instant::now());
            let phase = if done < total { DownloadPhase::Downloading } else { DownloadPhase::Installing };
            self.progress(
                id,
                DownloadProgress { phase, done, total, bytes_per_second: 0.0, seconds_left: None },
            );
        }
    }

    fn progress(&self, id: &str, progress: DownloadProgress) {
        let DownloadProgress { phase, done, total, bytes_per_second, seconds_left } = progress;
        if let Some(item) = self.items().iter_mut().find(|item| item.about.id == id) {
            // While the bytes of before are counted, fewer are known than are there.
            let counts = phase != DownloadPhase::Checking;
            item.about.done = if counts { done } else { item.about.done.max(done) };
            item.about.total = total;
            item.about.state = DownloadState::Running { phase, bytes_per_second, seconds_left };
        }
        self.changed();
    }

    fn settle(&self, id: &str, result: Result<Ended>) {
        if matches!(result, Ok(Ended::Done(_))) {
            // First it is among the models, then it is no longer on its way: it is never nowhere.
            self.0.models.refresh();
        }
        {
            let mut items = self.items();
            let is_import = |item: &Item| item.about.kind == DownloadKind::Import;
            items.retain(|item| match &result {
                Ok(Ended::Done(_)) => item.about.id != id,
                // Nothing is left of an import that was stopped.
                Ok(Ended::Stopped) => item.about.id != id || !is_import(item),
                Err(_) => true,
            });
            if let Some(item) = items.iter_mut().find(|item| item.about.id == id) {
                item.running = None;
                item.about.state = match result {
                    Err(error) => {
                        tracing::warn!(model = id, %error, "a model does not come");
                        DownloadState::Failed(error)
                    }
                    Ok(_) => DownloadState::Paused,
                };
            }
        }
        self.changed();
    }

    /// A plain name like that of `folder`, which no model and nothing on its way has.
    fn free_name(&self, folder: &Path) -> String {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        let plain: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '-' }).collect();
        let plain = plain.trim_matches(['.', '-']);
        let plain = if plain.is_empty() { "model" } else { &plain[..plain.len().min(LONGEST_NAME)] };
        let models = self.0.models.library_folder();
        let is_free = |name: &String| {
            engine::is_plain_file_name(name)
                && models.join(name).symlink_metadata().is_err()
                && !self.items().iter().any(|item| item.about.id == *name && item.running.is_some())
        };
        let numbered = (2..).map(|number: u32| format!("{plain}-{number}"));
        // There are more numbers than folders.
        std::iter::once(plain.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }

    fn changed(&self) {
        // Without listeners there is nobody to tell.
        self.0.changes.send(Change::Downloads).ok();
    }

    fn items(&self) -> MutexGuard<'_, Vec<Item>> {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
