//! After a reply: what the next turn will begin with is read while the user reads.

use engine::FinishReason;
use uuid::Uuid;

use crate::context::{self, Room, Wanted};
use crate::conversation::{Reply, ReplyStatus};
use crate::history::History;
use crate::inference::Inference;
use crate::messages::NextTurn;
use crate::reply_options::ReplyOptions;

/// Has the inference side read ahead behind `reply`, for a model with `window` tokens. Nobody waits for it.
///
/// Only behind a reply that ended by itself: one that was cut off may go on, and then its ids are needed as they
/// were generated.
pub(crate) fn read_ahead(
    inference: &Inference,
    history: &History,
    window: usize,
    conversation: Uuid,
    reply: &Reply,
    options: &ReplyOptions,
) {
    let has_ended =
        matches!(reply.status, ReplyStatus::Finished(FinishReason::EndOfTurn | FinishReason::StopString));
    if !has_ended {
        return;
    }
    // Where the conversation cannot be read the next turn says so.
    let Ok(now) = history.conversation(conversation, usize::MAX) else { return };
    let Some(place) = now.place_of(reply.id) else { return };
    let room = Room::new(window, options.max_new_tokens());
    let wanted = Wanted {
        conversation: &now,
        end: place + 1,
        system: options.system.as_deref().or(now.system_prompt.as_deref()),
        options: now.render_options(options.thinking),
        said: 0,
        began: reply.memory_begins,
    };
    inference.read_ahead(NextTurn {
        messages: context::before_next_turn(&wanted),
        options: wanted.options.clone(),
        most_tokens: room.window - room.reserved,
    });
}
