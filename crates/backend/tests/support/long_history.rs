//! A long history, made past the application, which would take hours.
#![allow(dead_code, reason = "each file that includes it uses its part")]

use std::path::Path;

use rusqlite::Connection;
use uuid::Uuid;

use crate::bare::{Numbers, open};

pub(crate) const MESSAGES_EACH: usize = 20;
pub(crate) const LONG: usize = 2000;
pub(crate) const LONGEST: usize = 10_000;
/// Stands in a few messages.
pub(crate) const RARE: &str = "zanzibarium";

/// The newest conversation, in microseconds since 1970, and how far those before it lie apart.
const NEWEST: i64 = 1_790_000_000_000_000;
const APART: i64 = 60_000_000;

/// Texts of words as frequent as in a language: a few very often, most of them seldom.
struct Texts {
    numbers: Numbers,
    words: Vec<String>,
}

impl Texts {
    fn new() -> Self {
        let mut numbers = Numbers(11);
        let mut words: Vec<String> =
            ["the", "of", "and", "to", "a", "in", "is", "it", "you", "that"].map(String::from).to_vec();
        while words.len() < 8000 {
            let syllables = 2 + numbers.below(3);
            let syllable = |numbers: &mut Numbers| {
                let consonant = b"bcdfghklmnprstvw"[numbers.below(16)] as char;
                let vowel = b"aeiou"[numbers.below(5)] as char;
                [consonant, vowel].iter().collect::<String>()
            };
            words.push((0..syllables).map(|_| syllable(&mut numbers)).collect());
        }
        Self { numbers, words }
    }

    /// So many words.
    fn of(&mut self, length: usize) -> String {
        let words = (0..length).map(|_| {
            let most = 1 + self.numbers.below(self.words.len());
            let most = 1 + self.numbers.below(most);
            self.words[self.numbers.below(most)].as_str()
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn message(&mut self) -> String {
        let length = 10 + self.numbers.below(50);
        self.of(length)
    }
}

/// A conversation that was made, and its last message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MadeConversation {
    pub(crate) id: Uuid,
    pub(crate) last: Uuid,
}

/// What was made: conversations of `LONGEST`, of `LONG` and of `MESSAGES_EACH` messages, the newest in this order
/// behind the pinned ones, and all the others.
pub(crate) struct Made {
    pub(crate) longest: MadeConversation,
    pub(crate) long: MadeConversation,
    pub(crate) short: MadeConversation,
    pub(crate) messages: usize,
}

/// Fills a data folder with two more than so many conversations.
pub(crate) fn fill(data: &Path, conversations: usize) -> Made {
    open(data).history().conversations(0, 1).expect("listed");
    let mut connection = Connection::open(data.join("conversations/conversations.sqlite")).expect("opens");
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").expect("set");
    let mut texts = Texts::new();
    let change = connection.transaction().expect("begun");
    let (mut made, mut messages) = (Vec::new(), 0);
    for conversation in 0..conversations + 2 {
        let length = match conversation {
            0 => LONGEST,
            1 => LONG,
            _ => MESSAGES_EACH,
        };
        let mut one = MadeConversation { id: Uuid::new_v4(), last: Uuid::nil() };
        let at = NEWEST - conversation as i64 * APART;
        change
            .prepare_cached(
                "INSERT INTO conversation (id, title, created, updated, clock, pinned)
                 VALUES (?1, ?2, ?3, ?3, '', ?4)",
            )
            .and_then(|mut insert| insert.execute((one.id, texts.of(6), at, conversation % 1000 == 999)))
            .expect("written");
        let number = change.last_insert_rowid();
        let mut parent: Option<i64> = None;
        for message in 0..length {
            let mut text = texts.message();
            if message == 3 && conversation % (conversations / 3).max(1) == 2 {
                text.push_str(&format!(" {RARE}"));
            }
            let role = if message % 2 == 0 { "user" } else { "assistant" };
            one.last = Uuid::new_v4();
            change
                .prepare_cached(
                    "INSERT INTO message (id, conversation, parent, role, text, status, created)
                     VALUES (?1, ?2, ?3, ?4, ?5, 'complete', ?6)",
                )
                .and_then(|mut insert| insert.execute((one.last, number, parent, role, text, at)))
                .expect("written");
            parent = Some(change.last_insert_rowid());
            messages += 1;
        }
        made.push(one);
    }
    change.commit().expect("written");
    // A real history has long been on the disk: a start must not be timed with the writing of this one.
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("on the disk");
    std::fs::File::open(data.join("conversations/conversations.sqlite"))
        .and_then(|file| file.sync_all())
        .expect("on the disk");
    Made { longest: made[0], long: made[1], short: made[2], messages }
}
