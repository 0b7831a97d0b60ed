//! A reply under way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

use crate::chat::ChatEvent;
use crate::conversation::{Conversation, ReplyStatus};
use crate::inference::Canceller;

/// A reply under way, as those see it who would stop it, wait for it or look at it.
#[derive(Default)]
pub(crate) struct Turn {
    stop: Mutex<StopState>,
    stopped: Notify,
    /// Told when the reply is part of the conversation, finished.
    ended: Notify,
    said: Mutex<SaidSoFar>,
}

/// What a reply under way has said: for those who read the conversation before the reply has ended.
#[derive(Default)]
struct SaidSoFar {
    reply: Uuid,
    text: String,
    thinking: String,
}

#[derive(Default)]
struct StopState {
    asked: bool,
    canceller: Option<Canceller>,
}

impl Turn {
    /// Keeps what an event says, so that a window that comes later sees it too.
    pub(crate) fn note(&self, event: &ChatEvent) {
        let mut said = lock(&self.said);
        match event {
            ChatEvent::Started { reply, .. } => said.reply = reply.id,
            ChatEvent::Text(text) => said.text.push_str(text),
            ChatEvent::Thinking(text) => said.thinking.push_str(text),
            ChatEvent::Prefill { .. } => {}
        }
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

    /// Adds what the reply has said to a conversation in which it still is as it began.
    pub(crate) fn add_to(&self, conversation: &mut Conversation) {
        let said = lock(&self.said);
        // The text of a reply that has ended meanwhile is whole.
        if let Some(reply) = conversation.reply_mut(said.reply)
            && reply.status == ReplyStatus::Generating
        {
            reply.text.push_str(&said.text);
            reply.thinking.push_str(&said.thinking);
        }
    }
}

/// What a panic left behind is still whole: every change is made in one step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
