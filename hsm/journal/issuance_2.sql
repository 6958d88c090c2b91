-- The CA's journal, set "issuance", schema 2: signatures that anybody can ask for. A row each would let strangers fill the
-- disk, so they share one a day; what was answered is kept nowhere anyway.

CREATE TABLE signature_tally (          -- how often a token was asked, written before it is
    issuer_id INTEGER NOT NULL REFERENCES issuer (id),
    kind      TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32 AND kind NOT GLOB '*[^a-z0-9-]*'),
    day       TEXT NOT NULL CHECK (length(day) = 10),           -- UTC
    tries     INTEGER NOT NULL CHECK (tries > 0),
    at        TEXT NOT NULL,            -- of the last one
    PRIMARY KEY (issuer_id, kind, day)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER signature_tally_no_replace BEFORE INSERT ON signature_tally
WHEN EXISTS (SELECT 1 FROM signature_tally WHERE issuer_id = NEW.issuer_id AND kind = NEW.kind AND day = NEW.day)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER signature_tally_only_grows BEFORE UPDATE ON signature_tally
WHEN NEW.tries <= OLD.tries OR NEW.at < OLD.at OR NEW.issuer_id <> OLD.issuer_id OR NEW.kind <> OLD.kind OR NEW.day <> OLD.day
BEGIN SELECT RAISE(ABORT, 'journal.final: a count only grows'); END;
CREATE TRIGGER signature_tally_no_delete BEFORE DELETE ON signature_tally
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
