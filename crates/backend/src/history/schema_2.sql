-- Whether the model is given a message also after its turn has left a full window.
ALTER TABLE message ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;

-- The ids of a piece as generated, as those of a message; NULL where they are not known.
ALTER TABLE chunk ADD COLUMN tokens BLOB;
