-- The CA's journal, set "revocation", schema 2: whether the journal is the one that the published lists come from, and
-- whether the acts are those that the lists told of.

CREATE INDEX signed_crl_by_sha256 ON signed_crl (sha256);   -- to find the record of a published file

CREATE TABLE adopted_crl (              -- a published CRL that another copy of this journal signed, and that was taken over
    id         INTEGER PRIMARY KEY,
    revoker_id INTEGER NOT NULL REFERENCES revoker (id),
    sha256     BLOB NOT NULL CHECK (length(sha256) = 32),
    at         TEXT NOT NULL,
    UNIQUE (revoker_id, sha256)
) STRICT;

CREATE TABLE crl_head (                 -- head of the hash chain over the acts when this number was taken
    crl_id INTEGER PRIMARY KEY REFERENCES crl (id),
    head   BLOB NOT NULL CHECK (length(head) = 32)              -- hsm/revocation/chain.py
) STRICT;

CREATE TRIGGER adopted_crl_no_replace BEFORE INSERT ON adopted_crl
WHEN EXISTS (SELECT 1 FROM adopted_crl WHERE id = NEW.id OR (revoker_id = NEW.revoker_id AND sha256 = NEW.sha256))
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER crl_head_no_replace BEFORE INSERT ON crl_head WHEN EXISTS (SELECT 1 FROM crl_head WHERE crl_id = NEW.crl_id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER adopted_crl_no_update BEFORE UPDATE ON adopted_crl
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER crl_head_no_update BEFORE UPDATE ON crl_head
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER adopted_crl_no_delete BEFORE DELETE ON adopted_crl
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER crl_head_no_delete BEFORE DELETE ON crl_head
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
