//! Saves a reply while it is made, so that a cut costs a second of it at most.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::conversation::ReplyPiece;
use crate::history::History;

/// What was said is saved at least this often,
const SAVE_EVERY: Duration = Duration::from_millis(900);
/// and after so many tokens, so that those which come while they are written do not become too many.
const MOST_TOKENS: usize = 48;

/// How long until somebody looks again whether what is under way has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What of a reply is saved already.
pub(crate) struct Saving {
    history: History,
    conversation: Uuid,
    reply: Uuid,
    /// How much of each is saved or on its way to the disk.
    text: usize,
    thinking: usize,
    tokens: usize,
    /// Tokens that are not; 0 where nothing is to be saved.
    unsaved: usize,
    last: Instant,
    /// One piece at a time, so that they are saved in order.
    under_way: Option<JoinHandle<()>>,
    /// Whether there are pieces that a power cut would cost, and the wait for the disk that ends that. Pieces do not
    /// wait for it: a disk that is busy otherwise may take a second and more.
    is_unsynced: bool,
    syncing: Option<JoinHandle<()>>,
}

impl Saving {
    pub(crate) fn new(history: History, conversation: Uuid, reply: Uuid) -> Self {
        let last = Instant::now();
        Self {
            history,
            conversation,
            reply,
            text: 0,
            thinking: 0,
            tokens: 0,
            unsaved: 0,
            last,
            under_way: None,
            is_unsynced: false,
            syncing: None,
        }
    }

    /// Notes that there is more to save, of so many tokens.
    pub(crate) fn note_more(&mut self, tokens: usize) {
        if self.unsaved == 0 {
            self.last = Instant::now();
        }
        // The ids of a text may have come with the thinking before it.
        self.unsaved += tokens.max(1);
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sync = self.is_unsynced.then(|| Instant::now() + LOOK_AGAIN);
        self.piece_due().into_iter().chain(sync).min()
    }

    /// When what is not saved yet must be.
    fn piece_due(&self) -> Option<Instant> {
        match self.unsaved {
            0 => None,
            MOST_TOKENS.. if !is_busy(&self.under_way) => Some(self.last),
            _ if is_busy(&self.under_way) => Some(Instant::now().max(self.last + SAVE_EVERY) + LOOK_AGAIN),
            _ => Some(self.last + SAVE_EVERY),
        }
    }

    /// Saves what is due of `said`, elsewhere than on this thread.
    pub(crate) fn save_if_due(&mut self, said: &ReplyPiece) {
        if is_busy(&self.under_way) {
            return;
        }
        self.sync_if_due();
        if self.piece_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let (history, conversation, reply) = (self.history.clone(), self.conversation, self.reply);
        let more = ReplyPiece {
            text: said.text[self.text..].to_owned(),
            thinking: said.thinking[self.thinking..].to_owned(),
            tokens: said.tokens[self.tokens..].to_vec(),
        };
        (self.text, self.thinking, self.tokens) = (said.text.len(), said.thinking.len(), said.tokens.len());
        self.unsaved = 0;
        self.is_unsynced = true;
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = history.append(conversation, reply, &more) {
                tracing::warn!(%error, "a part of a reply was not saved");
            }
        }));
    }

    /// Has the pieces that are saved brought to the disk.
    fn sync_if_due(&mut self) {
        if self.is_unsynced && !is_busy(&self.syncing) {
            self.is_unsynced = false;
            let history = self.history.clone();
            self.syncing = Some(tokio::task::spawn_blocking(move || history.sync()));
        }
    }

    /// Waits for what is being saved. The end of the reply, which is saved next, brings all of it to the disk.
    pub(crate) async fn settle(&mut self) {
        if let Some(saving) = self.under_way.take() {
            // A panic there was told of there; the end of the reply is saved all the same.
            saving.await.ok();
        }
    }
}

fn is_busy(work: &Option<JoinHandle<()>>) -> bool {
    work.as_ref().is_some_and(|work| !work.is_finished())
}
