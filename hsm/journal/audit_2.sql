-- The CA's journal, set "audit", schema 2: tries on record that did not reach the token, and that somebody answers for.
-- As long as they stand open, as many signatures past the records would not be seen.

CREATE TABLE closed_tries (
    id          INTEGER PRIMARY KEY,
    spki_sha256 BLOB NOT NULL CHECK (length(spki_sha256) = 32),     -- of the key that was to sign
    tries       INTEGER NOT NULL CHECK (tries > 0),
    reason      TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 400),
    at          TEXT NOT NULL
) STRICT;

CREATE TRIGGER closed_tries_no_replace BEFORE INSERT ON closed_tries
WHEN EXISTS (SELECT 1 FROM closed_tries WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER closed_tries_no_update BEFORE UPDATE ON closed_tries
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER closed_tries_no_delete BEFORE DELETE ON closed_tries
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
