-- Ids are the 16 bytes of a UUID, times microseconds since 1970. `number` names rows within this file only.

CREATE TABLE conversation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    title TEXT NOT NULL DEFAULT '',
    -- none, rule (from the first message), user, import
    title_origin TEXT NOT NULL DEFAULT 'none',
    pinned INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    -- When it was deleted; it can be restored until it is purged.
    deleted INTEGER,
    system_prompt TEXT,
    model TEXT,
    draft TEXT NOT NULL DEFAULT '',
    -- The time that chat templates print, frozen.
    clock TEXT NOT NULL
) STRICT;

CREATE INDEX conversation_by_recency ON conversation (deleted, pinned, updated);

CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    conversation INTEGER NOT NULL REFERENCES conversation (number) ON DELETE CASCADE,
    parent INTEGER REFERENCES message (number) ON DELETE CASCADE,
    -- Of the messages with one parent, the one that the current branch goes through.
    chosen INTEGER NOT NULL DEFAULT 1,
    -- user, assistant
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    thinking TEXT NOT NULL DEFAULT '',
    -- generating, complete, stopped, interrupted, failed
    status TEXT NOT NULL,
    -- Why a reply ended, and the failure of one that failed.
    finish TEXT,
    failure TEXT,
    -- The ids as generated, four bytes each, the lowest first.
    tokens BLOB,
    model TEXT,
    -- What was asked of the reply, and the sampling that came of it.
    settings TEXT,
    seed INTEGER,
    prompt_tokens INTEGER,
    reused_tokens INTEGER,
    -- Of the reused ones, those that came from the disk.
    restored_tokens INTEGER,
    -- Why not more were reused, as JSON.
    reuse_limit TEXT,
    new_tokens INTEGER,
    prefill_seconds REAL,
    decode_seconds REAL,
    first_token_seconds REAL,
    -- The id of the first message that the model saw, where it did not see all.
    memory_begins BLOB,
    -- The run of the application that writes this reply.
    run BLOB,
    created INTEGER NOT NULL,
    ended INTEGER
) STRICT;

CREATE INDEX message_tree ON message (conversation, parent);
CREATE INDEX message_parent ON message (parent);
CREATE INDEX message_under_way ON message (status) WHERE status = 'generating';

-- What a reply under way has said since it began, in pieces, so that saving one never rewrites another.
CREATE TABLE chunk (
    message INTEGER NOT NULL REFERENCES message (number) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    text TEXT NOT NULL,
    thinking TEXT NOT NULL,
    PRIMARY KEY (message, place)
) STRICT, WITHOUT ROWID;

-- Lines between messages. `after` is the message above, or NULL at the very beginning.
CREATE TABLE mark (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    conversation INTEGER NOT NULL REFERENCES conversation (number) ON DELETE CASCADE,
    after INTEGER REFERENCES message (number) ON DELETE CASCADE,
    -- reset
    kind TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE INDEX mark_of_conversation ON mark (conversation);
CREATE INDEX mark_after ON mark (after);

CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIRTUAL TABLE message_words USING fts5 (
    text, content = 'message', content_rowid = 'number', prefix = '2 3',
    tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE title_words USING fts5 (
    title, content = 'conversation', content_rowid = 'number', prefix = '2 3',
    tokenize = 'unicode61 remove_diacritics 2'
);
-- What is deleted leaves the indexes' files too.
INSERT INTO message_words (message_words, rank) VALUES ('secure-delete', 1);
INSERT INTO title_words (title_words, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER message_inserted AFTER INSERT ON message BEGIN
    INSERT INTO message_words (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER message_deleted AFTER DELETE ON message BEGIN
    INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.number, old.text);
END;
CREATE TRIGGER message_changed AFTER UPDATE OF text ON message BEGIN
    INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.number, old.text);
    INSERT INTO message_words (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER conversation_inserted AFTER INSERT ON conversation BEGIN
    INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
END;
CREATE TRIGGER conversation_deleted AFTER DELETE ON conversation BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
END;
CREATE TRIGGER conversation_titled AFTER UPDATE OF title ON conversation BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
    INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
END;
