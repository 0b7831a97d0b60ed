//! History: every conversation, in SQLite.
//!
//! # How it holds
//! - One connection writes, each change as one transaction that is on the disk when the call returns; another one
//!   reads beside it, so that a list, a search or an export waits for no change, and no change for them. A second
//!   process may have the file open too; opening, checking and repairing it is done by one at a time.
//! - What the disk does not take goes on in tables in memory, with a notice, and moves back with the first
//!   change that the disk takes again; a file that did not open is tried again, and read where it cannot be
//!   written. Private conversations live there for good, and new ones until there is something to keep.
//! - A damaged file is exchanged for a new one when that is whole, and never for less.
//! - A reply under way is saved in pieces, each with its ids; the pieces become part of it when it ends, or when
//!   the next start finds that its run was cut off.

mod backups;
mod chat_gpt;
mod conversations;
mod database;
mod disk;
mod files;
mod import;
mod lenient;
mod memory;
mod messages;
mod migrations;
mod opened;
mod opening;
mod reader;
mod record;
mod replies;
mod runs;
mod salvage;
mod search;
mod stores;
mod title;
mod transfer;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, OnceLock};

use rusqlite::Transaction;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::Change;
use crate::conversation::{Conversation, ConversationSummary, Entry, Question, Reply, ReplyPiece, now};
use crate::error::{Error, Result};
use crate::notices::Notices;
use database::Attempt;
use messages::{Maker, Under};
use opened::Opened;
use runs::RunLock;
use stores::{Stores, Synced};

pub use search::{SearchHit, SnippetPart};
pub use transfer::{ExportFormat, ExportReport, ImportReport};

/// Every conversation. Cheap to clone. Its calls wait for the disk, so what must stay awake calls them from
/// another thread.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    notices: Arc<Notices>,
    /// Opened by whoever needs it first: many commands of the terminal never do.
    opened: OnceLock<Opened>,
    /// Whether the next run shows what this one showed last.
    remembers: bool,
    changes: broadcast::Sender<Change>,
}

impl History {
    /// The conversations in `folder`, opened when they are needed first. What is wrong with them becomes a
    /// notice then, and where nothing can be opened they live in memory.
    pub(crate) fn new(
        folder: PathBuf,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
        remembers: bool,
    ) -> Self {
        Self(Arc::new(Inner { folder, notices, opened: OnceLock::new(), remembers, changes }))
    }

    /// The conversation that this run shows: the one that was open last, or a new one.
    pub(crate) fn current(&self) -> Uuid {
        self.opened().shown()
    }

    /// Whether the conversation `id` lies on the disk: not before its first message, and never a private one.
    pub(crate) fn is_saved(&self, id: Uuid) -> bool {
        !self.opened().memory().has(id)
    }

    /// Begins a conversation and shows it. It is kept from its first message on; a private one never.
    pub fn begin(&self, private: bool) -> Result<Uuid> {
        let id = self.opened().memory().begin(private);
        self.opened().show(id);
        Ok(id)
    }

    /// Shows the conversation `id` in this run, and remembers it for the next one.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`].
    pub fn show(&self, id: Uuid) -> Result<()> {
        self.opened()
            .read(id, |connection| conversations::number(connection, id))
            .map_err(|fault| fault.while_doing("open a conversation"))?;
        self.opened().show(id);
        Ok(())
    }

    /// The conversation `id` with the last `most` messages of its current branch.
    ///
    /// # Errors
    /// [`Error::ConversationUnknown`], [`Error::History`].
    pub fn conversation(&self, id: Uuid, most: usize) -> Result<Conversation> {
        let read = self.opened().read(id, |connection| {
            let header = conversations::find(connection, id)?.filter(|header| header.deleted.is_none());
            let header = header.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() })?;
            Ok(messages::read(connection, header, most)?)
        });
        let mut conversation = read.map_err(|fault| fault.while_doing("read a conversation"))?;
        self.opened().memory().note_place(&mut conversation.about);
        conversation.add_lines();
        Ok(conversation)
    }

    /// Conversations in which something was said, the pinned ones first, then the newest: `most` of them
    /// after the first `skip`.
    ///
    /// # Errors
    /// [`Error::History`].
    pub fn conversations(&self, skip: usize, most: usize) -> Result<Vec<ConversationSummary>> {
        self.opened().list(skip, most).map_err(|fault| fault.while_doing("list the conversations"))
    }

    /// Where `words` stand in titles and messages: titles first, then the newest messages. The last word may
    /// be the beginning of one, from its second letter on.
    ///
    /// # Errors
    /// [`Error::History`].
    pub fn search(&self, words: &str, most: usize) -> Result<Vec<SearchHit>> {
        self.opened().search(words, most).map_err(|fault| fault.while_doing("search"))
    }

    /// Why what is on the disk cannot be read, where it cannot: then nothing of it is listed or found.
    pub fn trouble(&self) -> Option<Error> {
        self.opened().trouble()
    }

    /// Lets the disk go, after a last try to write what it did not take; where nothing was opened, nothing is.
    /// From now on nothing is kept.
    pub(crate) fn close(&self) {
        if let Some(opened) = self.0.opened.get() {
            opened.close();
        }
    }

    /// Gives a title; an empty one lets the first message name the conversation again.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn rename(&self, id: Uuid, title: &str) -> Result<()> {
        self.change(id, "rename a conversation", |change| conversations::rename(change, id, title))
    }

    /// Keeps a conversation at the top of the list, or no longer.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn pin(&self, id: Uuid, pinned: bool) -> Result<()> {
        self.change(id, "pin a conversation", |change| conversations::set(change, id, "pinned", &pinned))
    }

    /// Keeps the message `message` in what the model is given when its turn leaves a full window, or no longer.
    ///
    /// # Errors
    /// As [`History::conversation`], and [`Error::MessageUnknown`].
    pub fn pin_message(&self, id: Uuid, message: Uuid, pinned: bool) -> Result<()> {
        self.change(id, "pin a message", |change| messages::pin(change, id, message, pinned))
    }

    /// Takes a conversation out of the list. It can be restored for a day; a private one is gone for good.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn delete(&self, id: Uuid) -> Result<()> {
        let removed = self.opened().memory().remove_private(id);
        if removed.map_err(|fault| fault.while_doing("delete a conversation"))? {
            self.tell();
            return Ok(());
        }
        self.change(id, "delete a conversation", |change| conversations::set_deleted(change, id, Some(now())))
    }

    /// Undoes [`History::delete`].
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn restore(&self, id: Uuid) -> Result<()> {
        self.change(id, "restore a conversation", |change| conversations::set_deleted(change, id, None))
    }

    /// Copies a conversation with all its branches; the copy is called the same.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn duplicate(&self, id: Uuid) -> Result<Uuid> {
        let mut stores = self.stores();
        let copy = stores.duplicate(id).map_err(|fault| fault.while_doing("duplicate a conversation"))?;
        drop(stores);
        self.tell();
        Ok(copy)
    }

    /// What the model is told before the conversation.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn set_system_prompt(&self, id: Uuid, text: Option<&str>) -> Result<()> {
        let text = text.filter(|text| !text.trim().is_empty());
        self.change(id, "set a system prompt", |change| {
            conversations::set(change, id, "system_prompt", &text)
        })
    }

    /// Remembers which model answers in a conversation.
    pub(crate) fn set_model(&self, id: Uuid, model: &str) -> Result<()> {
        let set = |change: &Transaction<'_>| conversations::set(change, id, "model", &model);
        let mut stores = self.stores();
        // A conversation in which nothing was said is not kept for this.
        let made = if stores.is_fresh(id) {
            stores.change_in_place(id, set, Synced::Now)
        } else {
            stores.change(id, set)
        };
        drop(stores);
        made.map_err(|fault| fault.while_doing("remember a model"))?;
        self.tell();
        Ok(())
    }

    /// Keeps what stands in the composer.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn set_draft(&self, id: Uuid, text: &str) -> Result<()> {
        // A draft that was taken back before anything was kept leaves nothing.
        let mut stores = self.stores();
        if text.is_empty() && stores.is_fresh(id) {
            return Ok(());
        }
        stores
            .change(id, |change| conversations::set(change, id, "draft", &text))
            .map_err(|fault| fault.while_doing("keep a draft"))
    }

    /// Lets the current branch go through the message `message`.
    ///
    /// # Errors
    /// As [`History::conversation`], and [`Error::MessageUnknown`].
    pub fn select_branch(&self, id: Uuid, message: Uuid) -> Result<()> {
        self.change(id, "switch the branch", |change| messages::choose(change, id, message))
    }

    /// What a file with the conversation `id`, or with all of them, may be called.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn export_name(&self, id: Option<Uuid>, format: ExportFormat) -> Result<String> {
        let title = id.map(|id| self.conversation(id, 0)).transpose()?.map(|read| read.about.title);
        Ok(transfer::file_name(title.as_deref(), format))
    }

    /// One conversation as text: its current branch as Markdown, or everything as JSON.
    ///
    /// # Errors
    /// As [`History::conversation`].
    pub fn export_text(&self, id: Uuid, format: ExportFormat) -> Result<String> {
        let text = self.opened().read(id, |connection| Ok(transfer::text(connection, id, format)?));
        let text = text.map_err(|fault| fault.while_doing("export a conversation"))?;
        text.ok_or_else(|| Error::ConversationUnknown { id: id.to_string() })
    }

    /// Writes the conversation `id`, or all but the private ones, into a file: whole or not at all. Of all of
    /// them those are left out and counted that cannot be read.
    ///
    /// # Errors
    /// As [`History::conversation`], also where none can be read; [`Error::Export`].
    pub fn export(&self, id: Option<Uuid>, format: ExportFormat, path: &Path) -> Result<ExportReport> {
        let ids = match id {
            Some(id) => vec![id],
            None => self.stores().ids().map_err(|fault| fault.while_doing("list the conversations"))?,
        };
        let mut report = ExportReport::default();
        let mut left = ids.into_iter();
        // One at a time, so that replies are saved in between.
        transfer::write_file(path, format, || {
            while let Some(known) = left.next() {
                match self.export_text(known, format) {
                    Ok(text) => {
                        report.written += 1;
                        return Ok(Some(text));
                    }
                    Err(error) if id.is_some() => return Err(error),
                    Err(Error::ConversationUnknown { .. }) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a conversation was not exported");
                        report.refused += 1;
                        if left.len() == 0 && report.written == 0 {
                            return Err(error);
                        }
                    }
                }
            }
            Ok(None)
        })?;
        Ok(report)
    }

    /// Takes over the conversations of a file. Nothing that is here is replaced: of a conversation that is
    /// known only the messages that are not are added.
    ///
    /// # Errors
    /// [`Error::Import`], [`Error::History`].
    pub fn import(&self, path: &Path) -> Result<ImportReport> {
        let mut report = ImportReport::default();
        let read = import::read_file(path, |record| {
            let Some(record) = record else {
                report.refused += 1;
                return Ok(());
            };
            // One at a time, so that replies are saved in between.
            let is_new = self.stores().import(&record).map_err(|fault| fault.while_doing("import"))?;
            *(if is_new { &mut report.imported } else { &mut report.unchanged }) += 1;
            Ok(())
        });
        // What came before a failure is here all the same.
        self.tell();
        read.map(|()| report)
    }

    /// Every conversation that is kept, deleted ones left out; `None` where the disk cannot be read.
    ///
    /// # Errors
    /// [`Error::History`].
    pub(crate) fn kept_ids(&self) -> Result<Option<Vec<Uuid>>> {
        if self.trouble().is_some() {
            return Ok(None);
        }
        self.stores().ids().map(Some).map_err(|fault| fault.while_doing("list the conversations"))
    }

    /// How many tokens a second the model named `model` read lately.
    pub(crate) fn reading_rate(&self, model: &str) -> Option<f64> {
        self.opened().look(|connection| Ok(messages::reading_rate(connection, model)?)).ok().flatten()
    }

    /// Adds a question and the beginning of its reply by the model `model`. Returns every version of the
    /// question.
    pub(crate) fn ask(
        &self,
        id: Uuid,
        under: Option<Uuid>,
        question: &Question,
        reply: &Reply,
        model: Option<&str>,
    ) -> Result<Vec<Uuid>> {
        let under = under.map_or(Under::Branch, Under::Beside);
        let maker = Maker { model, run: self.run().map(|run| run.id) };
        self.change(id, "keep a message", |change| messages::ask(change, id, under, question, reply, maker))
    }

    /// Begins another version of a reply. Returns every version.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process makes the old one.
    pub(crate) fn answer_again(
        &self,
        id: Uuid,
        old: &Reply,
        reply: &Reply,
        model: Option<&str>,
    ) -> Result<Vec<Uuid>> {
        let run = self.run();
        let maker = Maker { model, run: run.as_ref().map(|run| run.id) };
        let is_elsewhere = |id| run.as_ref().is_some_and(|run| run.id != id && run.is_alive(id));
        self.change(id, "begin a reply", |change| {
            messages::answer_again(change, id, old, reply, maker, &is_elsewhere)
        })
    }

    /// Lets a reply go on.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process makes it.
    pub(crate) fn go_on(&self, id: Uuid, reply: Uuid, model: Option<&str>) -> Result<()> {
        let run = self.run();
        let maker = Maker { model, run: run.as_ref().map(|run| run.id) };
        let is_elsewhere = |id| run.as_ref().is_some_and(|run| run.id != id && run.is_alive(id));
        self.change(id, "let a reply go on", |change| replies::go_on(change, id, reply, maker, &is_elsewhere))
    }

    /// Keeps what a reply under way goes on from, where it is not what was kept of it: its model, the ids of
    /// what it has said, and where its memory begins. The ids that are saved from now on follow these.
    pub(crate) fn note_beginning(&self, id: Uuid, reply: &Reply) -> Result<()> {
        self.stores()
            .change(id, |change| replies::note_beginning(change, reply))
            .map_err(|fault| fault.while_doing("begin a reply"))
    }

    /// Saves more of a reply under way. After a power cut it is there as soon as [`History::sync`] has come back.
    pub(crate) fn append(&self, id: Uuid, reply: Uuid, more: &ReplyPiece) -> Result<()> {
        self.stores()
            .change_in_place(id, |change| replies::append(change, reply, more), Synced::Later)
            .map_err(|fault| fault.while_doing("save a reply"))
    }

    /// Waits until all that was saved is on the disk, and lets others go on meanwhile: a disk may take its time.
    pub(crate) fn sync(&self) {
        if let Err(error) = self.opened().sync() {
            // Whatever is saved next tells the user.
            tracing::warn!(%error, "the end of a reply may not outlast a power cut");
        }
    }

    /// Keeps a reply as it ended. Returns whether it was pinned meanwhile.
    pub(crate) fn finish(&self, id: Uuid, reply: &Reply, settings: Option<&str>) -> Result<bool> {
        self.change(id, "save a reply", |change| replies::finish(change, id, reply, settings))
    }

    /// Ends a reply that could not be finished with what was saved of it.
    pub(crate) fn give_up(&self, id: Uuid, reply: Uuid) -> Result<()> {
        self.change(id, "end a reply", |change| replies::give_up(change, reply))
    }

    pub(crate) fn reset(&self, id: Uuid) -> Result<Entry> {
        let (mark, at) = (Uuid::new_v4(), now());
        self.change(id, "reset the memory", |change| messages::reset(change, id, mark, at))?;
        Ok(Entry::MemoryReset { id: mark, at })
    }

    pub(crate) fn undo_reset(&self, id: Uuid, reset: Uuid) -> Result<()> {
        self.change(id, "undo a reset", |change| messages::undo_reset(change, id, reset))
    }

    /// This run, where it writes.
    fn run(&self) -> Option<Arc<RunLock>> {
        self.stores().run()
    }

    fn change<T>(
        &self,
        id: Uuid,
        doing: &'static str,
        change: impl Fn(&Transaction<'_>) -> Attempt<T>,
    ) -> Result<T> {
        let made = self.stores().change(id, change).map_err(|fault| fault.while_doing(doing))?;
        self.tell();
        Ok(made)
    }

    fn tell(&self) {
        // Without listeners there is nobody to tell.
        self.0.changes.send(Change::Conversations).ok();
    }

    fn opened(&self) -> &Opened {
        let Inner { folder, notices, changes, remembers, .. } = &*self.0;
        let open = || Opened::open(folder.clone(), Arc::clone(notices), changes.clone(), *remembers);
        self.0.opened.get_or_init(open)
    }

    fn stores(&self) -> MutexGuard<'_, Stores> {
        self.opened().stores()
    }
}
