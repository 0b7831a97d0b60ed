//! Moving the models to another folder: all of them are whole at the new place before the settings name it, and the
//! old place is whole until they do. What ends a move in its middle costs nothing but what was copied.
//!
//! `plan` finds out what is to be moved and whether it can be, `placing` brings it to the new place, file by file,
//! and `journal` is what the next start needs to clean up behind a move that was ended. On one file system no byte
//! is copied: each file gets its name at the new place before it loses the old one. A rename would leave the models
//! in two places for a while, of which the settings name one.

mod journal;
mod placing;
mod plan;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::Backend;
use crate::error::{Error, Result};
use crate::notices::Severity;
use crate::store::files::DiskRules;
pub(crate) use journal::settle;
use placing::Placing;
use plan::Plan;

/// What notices about the folder of models are about.
const NOTICE: &str = "library";

/// What is asked of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryMove {
    /// Where models are to be kept.
    pub folder: PathBuf,
    /// Whether downloads under way are paused for it; they go on afterwards.
    pub pauses_downloads: bool,
    /// Whether every byte is copied and compared, also where the file system could give files their new names.
    pub copies: bool,
}

/// What a move does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovePhase {
    /// Files come to the new place, and are compared there.
    Placing,
    /// A reply is waited for; then the new place counts.
    Switching,
    /// Files leave the old place.
    Deleting,
}

/// How far a move is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveProgress {
    pub phase: MovePhase,
    pub done: u64,
    pub total: u64,
}

/// How a move ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveOutcome {
    /// Models are kept here now.
    Moved(PathBuf),
    /// All is as it was.
    Cancelled,
}

/// The failure of a move.
fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Library { doing: "move the models to", path: path.into(), reason: reason.into().into() }
}

impl Backend {
    /// Moves the models, and what came of downloads, to another folder. Files that are none of them stay. `stop`
    /// ends it while files come to the new place. The model that answers is loaded anew from there, behind the reply
    /// under way; models can be used meanwhile, and are not prepared.
    ///
    /// # Errors
    /// [`Error::Library`] where the folder cannot be used, or something is under way that changes the models;
    /// [`Error::ModelChanged`] for a model that is not what was installed, which had better be repaired before;
    /// [`Error::DiskFull`]; [`Error::DataFolder`]. All is as it was then.
    pub async fn move_library(
        &self,
        wanted: &LibraryMove,
        stop: &CancellationToken,
        mut on_progress: impl FnMut(MoveProgress) + Send + 'static,
    ) -> Result<MoveOutcome> {
        let _held = self.downloads.hold(wanted.pauses_downloads).await?;
        if !self.removed_models().is_empty() {
            let reason = "removed models wait to be put back; put them back or delete them first";
            return Err(refused(&wanted.folder, reason));
        }
        let _unprepared = self.models.leave_unprepared()?;
        let store = self.models.store();
        store.require_folder()?;
        let (directories, request, stop) = (self.directories.clone(), wanted.clone(), stop.clone());
        let placed = waiting(move || {
            let plan = Plan::make(&directories, &store, &request.folder)?;
            let disk = DiskRules::default();
            let placing = Placing::begin(plan, request.copies, &disk, &stop)?;
            Ok((placing.run(&mut on_progress)?, on_progress))
        });
        let (Some(placed), mut on_progress) = placed.await? else { return Ok(MoveOutcome::Cancelled) };
        on_progress(placed.progress(MovePhase::Switching));
        let folder = placed.folder().to_path_buf();
        let chosen = (folder != self.directories.models()).then(|| folder.clone());
        if let Err(error) = self.switch_library(chosen).await {
            waiting(move || {
                placed.undo();
                Ok(())
            })
            .await?;
            return Err(error);
        }
        waiting(move || {
            placed.finish(&mut on_progress);
            Ok(())
        })
        .await?;
        self.follow_library(false);
        Ok(MoveOutcome::Moved(folder))
    }

    /// Where models are kept.
    pub fn library_folder(&self) -> PathBuf {
        self.models.library_folder()
    }

    /// Whether the folder that the user chose for models is away.
    pub fn is_library_away(&self) -> bool {
        self.models.store().is_away()
    }

    /// Looks again for the folder of models that was away.
    ///
    /// # Errors
    /// [`Error::Library`] where it still is.
    pub fn look_for_library(&self) -> Result<()> {
        self.models.store().require_folder()?;
        self.models.refresh();
        self.follow_library(false);
        Ok(())
    }

    /// Keeps models in the data folder's own place from now on. What lies in the other folder stays there.
    ///
    /// # Errors
    /// [`Error::DataFolder`]; all stays as it was then.
    pub async fn use_default_library(&self) -> Result<()> {
        self.switch_library(None).await?;
        self.follow_library(true);
        Ok(())
    }

    /// Keeps models in `folder` from now on, and loads the model that answers anew where one was loaded.
    async fn switch_library(&self, folder: Option<PathBuf>) -> Result<()> {
        self.chat.rest().await;
        let was_loaded = self.models.loaded().is_some();
        self.models.switch_library(folder).await?;
        if was_loaded {
            let models = self.models.clone();
            // What went wrong is the state of the model.
            tokio::spawn(async move { models.ready().await.ok() });
        }
        Ok(())
    }

    /// Takes up what lies in the folder of models now.
    fn follow_library(&self, is_another: bool) {
        self.notices.clear(NOTICE);
        self.changes.send(crate::Change::Notices).ok();
        self.downloads.find_begun(is_another);
    }

    /// Says that the folder of models is away, where it is.
    pub(crate) fn note_library(&self) {
        let settings = self.models.settings();
        let store = self.models.store();
        let folder = store.folder().display();
        if let Some(other) = settings.library.filter(|folder| !folder.is_absolute()) {
            let message = format!(
                "The settings name `{}` as the folder of models, which is no absolute path. `{folder}` is in use.",
                other.display()
            );
            self.notices.add(Severity::Warning, NOTICE, message);
        } else if store.is_away() {
            let message = format!(
                "The folder of models `{folder}` is not there, or empty. Nothing in it is lost: plug its disk in and \
                 look again under Models, or use the default folder."
            );
            self.notices.add(Severity::Warning, NOTICE, message);
        }
    }
}

/// Does work that waits for the disk, on a thread that may wait.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::InferenceEnded))
}
