-- The CA's journal, set "order", schema 1: in which manifest a production order is used, for tokens that keep no notes
-- (hsm/data_objects.py); one that does is better, since this file can be left behind.

CREATE TABLE order_use (
    uid            TEXT PRIMARY KEY CHECK (length(uid) = 32),       -- of the order
    manifest       TEXT NOT NULL CHECK (length(manifest) = 32),     -- identity of the manifest
    payload_sha256 BLOB NOT NULL CHECK (length(payload_sha256) = 32),
    at             TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER order_use_no_replace BEFORE INSERT ON order_use
WHEN EXISTS (SELECT 1 FROM order_use WHERE uid = NEW.uid)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER order_use_no_update BEFORE UPDATE ON order_use
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER order_use_no_delete BEFORE DELETE ON order_use
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
