-- The CA's journal, set "audit", schema 1: differences between the signer's count and the records that somebody has
-- looked into and answers for. The next audit begins where they end; hsm/audit.py says what a difference is.

CREATE TABLE accepted_difference (
    id          INTEGER PRIMARY KEY,
    spki_sha256 BLOB NOT NULL CHECK (length(spki_sha256) = 32),     -- of the key that signed
    signatures  INTEGER NOT NULL CHECK (signatures <> 0),           -- counted and not on record; negative: the reverse
    reason      TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 400),
    at          TEXT NOT NULL
) STRICT;
CREATE INDEX accepted_difference_by_key ON accepted_difference (spki_sha256);

CREATE TRIGGER accepted_difference_no_replace BEFORE INSERT ON accepted_difference
WHEN EXISTS (SELECT 1 FROM accepted_difference WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER accepted_difference_no_update BEFORE UPDATE ON accepted_difference
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER accepted_difference_no_delete BEFORE DELETE ON accepted_difference
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
