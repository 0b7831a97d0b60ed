//! A reply under way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

use crate::chat::ChatEvent;
use crate::conversation::{Conversation, Reply, ReplyStatus};
use crate::inference::Canceller;

/// A reply under way, as those see it who would stop it, wait for it or look at it.
pub(crate) struct Turn {
    pub(crate) conversation: Uuid,
    stop: Mutex<StopState>,
    stopped: Notify,
    /// Told when the reply is part of the conversation, finished.
    ended: Notify,
    /// The reply with what was told of it; `None` before it began and after it ended.
    reply: Mutex<Option<Reply>>,
}

#[derive(Default)]
struct StopState {
    asked: bool,
    canceller: Option<Canceller>,
}

impl Turn {
    pub(crate) fn new(conversation: Uuid) -> Self {
        Self {
            conversation,
            stop: Mutex::default(),
            stopped: Notify::new(),
            ended: Notify::new(),
            reply: Mutex::default(),
        }
    }

    /// Keeps what an event says, so that a window that comes later sees it too.
    pub(crate) fn note(&self, event: &ChatEvent) {
        let mut known = lock(&self.reply);
        match (event, known.as_mut()) {
            (ChatEvent::Started { reply, .. }, _) => *known = Some(reply.clone()),
            (ChatEvent::Text { text, .. }, Some(reply)) => reply.text.push_str(text),
            (ChatEvent::Thinking { text, .. }, Some(reply)) => reply.thinking.push_str(text),
            _ => {}
        }
    }

    /// The reply as it was told until now, if it began and has not ended; from then on it is nobody's.
    pub(crate) fn take_reply(&self) -> Option<Reply> {
        lock(&self.reply).take()
    }

    pub(crate) fn stop(&self) {
        let mut state = lock(&self.stop);
        state.asked = true;
        if let Some(canceller) = &state.canceller {
            canceller.cancel();
        }
        self.stopped.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.stop).asked
    }

    /// Lets a stop reach the job, also one that was asked for before.
    pub(crate) fn stops(&self, canceller: Canceller) {
        let mut state = lock(&self.stop);
        if state.asked {
            canceller.cancel();
        }
        state.canceller = Some(canceller);
    }

    /// Until somebody stops it.
    pub(crate) fn stopped(&self) -> Notified<'_> {
        self.stopped.notified()
    }

    /// Until it has ended; what ended before this call is not told.
    pub(crate) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    pub(crate) fn end(&self) {
        self.ended.notify_waiters();
    }

    /// Puts what the reply has said into a conversation in which it is as it was saved last.
    pub(crate) fn add_to(&self, conversation: &mut Conversation) {
        if let Some(told) = lock(&self.reply).as_ref()
            && let Some(reply) = conversation.reply_mut(told.id)
            // The text of a reply that has ended meanwhile is whole.
            && reply.status == ReplyStatus::Generating
        {
            reply.text.clone_from(&told.text);
            reply.thinking.clone_from(&told.thinking);
        }
    }
}

/// What a panic left behind is still whole: every change is made in one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
