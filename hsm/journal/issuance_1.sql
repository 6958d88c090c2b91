-- The CA's journal, set "issuance", schema 1: what was to be signed, each time the token was asked, and what came of it.
--
-- Every table only grows: a change is a new row, so the file is its own history. The rules stand here and not only in
-- Python, so that no program can break them without first taking them out. A refusal reads 'journal.code: sentence'.
--
-- That no row is replaced is a rule of its own because INSERT OR REPLACE removes rows without firing DELETE triggers
-- (unless recursive_triggers is on, which is not the default of the sqlite3 shell).

CREATE TABLE program_version (          -- which versions of the program wrote here; this table never changes its form
    id       INTEGER PRIMARY KEY,
    version  TEXT NOT NULL,             -- of the distribution provisioning-station
    "schema" INTEGER NOT NULL,          -- how many migrations that version knows
    since    TEXT NOT NULL              -- UTC
) STRICT;

CREATE TABLE issuer (
    id     INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),    -- of its certificate in DER
    at     TEXT NOT NULL
) STRICT;

CREATE TABLE batch (                    -- certificates that belong together: one recall, one shard of the CRL
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE      -- stands in URLs and file names
              CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^0-9A-Za-z._-]*' AND name NOT GLOB '[.-]*'),
    issuer_id INTEGER NOT NULL REFERENCES issuer (id),
    at        TEXT NOT NULL
) STRICT;

CREATE TABLE issuance (                 -- the intent to sign one certificate
    id          INTEGER PRIMARY KEY,
    issuer_id   INTEGER NOT NULL REFERENCES issuer (id),
    profile     TEXT NOT NULL CHECK (length(profile) BETWEEN 1 AND 128),
    subject     TEXT NOT NULL,          -- RFC 4514
    spki_sha256 BLOB NOT NULL CHECK (length(spki_sha256) = 32),     -- SHA-256 of SubjectPublicKeyInfo, RFC 5280 4.1
    batch_id    INTEGER REFERENCES batch (id),
    request     TEXT NOT NULL,          -- name of the request in its batch, or ''
    serial      TEXT NOT NULL UNIQUE    -- 20 octets as 40 hex digits: one spelling a number, sorts as a number
                CHECK (length(serial) = 40 AND serial NOT GLOB '*[^0-9a-f]*'),
    not_after   TEXT NOT NULL,          -- UTC
    tbs         BLOB NOT NULL CHECK (length(tbs) > 0),          -- TBSCertificate, the very bytes that the token signs
    tbs_sha256  BLOB NOT NULL CHECK (length(tbs_sha256) = 32),
    renews      INTEGER REFERENCES issuance (id),               -- the certificate that this key had before
    at          TEXT NOT NULL
) STRICT;
CREATE INDEX issuance_by_key ON issuance (spki_sha256);
CREATE INDEX issuance_by_subject ON issuance (subject);
CREATE INDEX issuance_by_batch ON issuance (batch_id, request) WHERE batch_id IS NOT NULL;
CREATE INDEX issuance_by_renewed ON issuance (renews) WHERE renews IS NOT NULL;

CREATE TABLE signature (                -- each time a token is asked, written before it is
    id          INTEGER PRIMARY KEY,
    issuer_id   INTEGER NOT NULL REFERENCES issuer (id),
    kind        TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32 AND kind NOT GLOB '*[^a-z0-9-]*'),
    issuance_id INTEGER REFERENCES issuance (id),
    at          TEXT NOT NULL,
    CHECK (issuance_id IS NULL OR kind = 'certificate')
) STRICT;
CREATE INDEX signature_by_issuance ON signature (issuance_id) WHERE issuance_id IS NOT NULL;

CREATE TABLE certificate (              -- what came of an intent; only what stands here may leave
    issuance_id INTEGER PRIMARY KEY REFERENCES issuance (id),
    der         BLOB NOT NULL,
    sha256      BLOB NOT NULL CHECK (length(sha256) = 32),
    at          TEXT NOT NULL
) STRICT;

CREATE TABLE void (                     -- an intent that was given up; it may have been signed, so it is to be revoked
    issuance_id INTEGER PRIMARY KEY REFERENCES issuance (id),
    reason      TEXT NOT NULL,
    at          TEXT NOT NULL
) STRICT;

-- The rules of a new row, in one trigger a table: to start a trigger costs more than to ask most of these.
CREATE TRIGGER issuance_rules BEFORE INSERT ON issuance
BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM issuance WHERE id = NEW.id)
        THEN RAISE(ABORT, 'journal.final: a row is never replaced')
    WHEN EXISTS (SELECT 1 FROM issuance WHERE serial = NEW.serial)
        THEN RAISE(ABORT, 'journal.serial_collision: this serial number was given before; draft again')
    -- One key, one certificate: another one has to say which one it renews, and that has to be the newest of this key.
    WHEN NEW.renews IS NOT (SELECT max(i.id) FROM issuance AS i WHERE i.spki_sha256 = NEW.spki_sha256
                            AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = i.id))
        THEN RAISE(ABORT, 'journal.key_certified: this key has a certificate; renew that one')
    WHEN NEW.renews IS NOT NULL AND NOT EXISTS (SELECT 1 FROM certificate WHERE issuance_id = NEW.renews)
        THEN RAISE(ABORT, 'journal.issuance_open: the certificate before is intended and not signed; resume it')
    WHEN NEW.batch_id IS NOT NULL AND NEW.issuer_id <> (SELECT issuer_id FROM batch WHERE id = NEW.batch_id)
        THEN RAISE(ABORT, 'journal.batch_differs: this batch belongs to another issuer')
    WHEN NEW.batch_id IS NOT NULL AND NEW.request <> ''
     AND EXISTS (SELECT 1 FROM issuance AS i WHERE i.batch_id = NEW.batch_id AND i.request = NEW.request
                 AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = i.id))
        THEN RAISE(ABORT, 'journal.request_signed: this request of the batch has a certificate; give it another name')
END; END;

CREATE TRIGGER signature_rules BEFORE INSERT ON signature
BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM signature WHERE id = NEW.id)
        THEN RAISE(ABORT, 'journal.final: a row is never replaced')
    WHEN NEW.issuance_id IS NOT NULL AND (EXISTS (SELECT 1 FROM certificate WHERE issuance_id = NEW.issuance_id)
                                          OR EXISTS (SELECT 1 FROM void WHERE issuance_id = NEW.issuance_id))
        THEN RAISE(ABORT, 'journal.issuance_state: there is nothing to sign any more')
END; END;

CREATE TRIGGER certificate_rules BEFORE INSERT ON certificate
BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM certificate WHERE issuance_id = NEW.issuance_id)
        THEN RAISE(ABORT, 'journal.final: a row is never replaced')
    -- a certificate is SEQUENCE { tbs, algorithm, signature }: the tbs starts after 2 to 6 octets of header
    WHEN NOT EXISTS (SELECT 1 FROM issuance WHERE id = NEW.issuance_id AND instr(NEW.der, tbs) BETWEEN 3 AND 7)
        THEN RAISE(ABORT, 'journal.certificate_differs: the certificate is not the one that was intended')
    WHEN NOT EXISTS (SELECT 1 FROM signature WHERE issuance_id = NEW.issuance_id)
        THEN RAISE(ABORT, 'journal.not_counted: no signature was counted for this certificate')
    WHEN EXISTS (SELECT 1 FROM void WHERE issuance_id = NEW.issuance_id)
        THEN RAISE(ABORT, 'journal.issuance_state: this issuance was given up')
END; END;

CREATE TRIGGER void_rules BEFORE INSERT ON void
BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM void WHERE issuance_id = NEW.issuance_id)
        THEN RAISE(ABORT, 'journal.final: a row is never replaced')
    WHEN EXISTS (SELECT 1 FROM certificate WHERE issuance_id = NEW.issuance_id)
        THEN RAISE(ABORT, 'journal.issuance_state: it is signed and recorded: revoke it')
END; END;

-- Rows stay as they are.
CREATE TRIGGER issuer_no_replace BEFORE INSERT ON issuer
WHEN EXISTS (SELECT 1 FROM issuer WHERE id = NEW.id OR sha256 = NEW.sha256)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER batch_no_replace BEFORE INSERT ON batch
WHEN EXISTS (SELECT 1 FROM batch WHERE id = NEW.id OR name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER program_version_no_replace BEFORE INSERT ON program_version
WHEN EXISTS (SELECT 1 FROM program_version WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;

CREATE TRIGGER issuer_no_update BEFORE UPDATE ON issuer
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER batch_no_update BEFORE UPDATE ON batch
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER issuance_no_update BEFORE UPDATE ON issuance
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER signature_no_update BEFORE UPDATE ON signature
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER certificate_no_update BEFORE UPDATE ON certificate
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER void_no_update BEFORE UPDATE ON void
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER program_version_no_update BEFORE UPDATE ON program_version
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;

CREATE TRIGGER issuer_no_delete BEFORE DELETE ON issuer
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER batch_no_delete BEFORE DELETE ON batch
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER issuance_no_delete BEFORE DELETE ON issuance
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER signature_no_delete BEFORE DELETE ON signature
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER certificate_no_delete BEFORE DELETE ON certificate
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER void_no_delete BEFORE DELETE ON void
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER program_version_no_delete BEFORE DELETE ON program_version
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
