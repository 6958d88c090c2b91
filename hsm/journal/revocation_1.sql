-- The CA's journal, set "revocation", schema 1: what was revoked, held and released, and which CRLs tell of it.
--
-- As everywhere in this file, tables only grow. What a certificate's state is follows from its newest act.

CREATE TABLE revoker (                  -- whose certificates: an issuing key, whatever certificates it has or gets
    id          INTEGER PRIMARY KEY,
    spki_sha256 BLOB NOT NULL UNIQUE CHECK (length(spki_sha256) = 32),  -- SHA-256 of its SubjectPublicKeyInfo
    at          TEXT NOT NULL
) STRICT;

CREATE TABLE revocation (               -- one act on one certificate
    id            INTEGER PRIMARY KEY,
    revoker_id    INTEGER NOT NULL REFERENCES revoker (id),
    serial        TEXT NOT NULL         -- as in issuance; the certificate may stand in a manifest instead
                  CHECK (length(serial) = 40 AND serial NOT GLOB '*[^0-9a-f]*'),
    act           TEXT NOT NULL CHECK (act IN ('revoke', 'hold', 'release')),
    reason        INTEGER NOT NULL      -- CRLReason, RFC 5280 5.3.1
                  CHECK (CASE act WHEN 'hold' THEN reason = 6 WHEN 'release' THEN reason = 8
                         ELSE reason IN (0, 1, 2, 3, 4, 5, 9, 10) END),
    revoked_at    TEXT NOT NULL,        -- the date on the CRL: of this act, or of the hold that it makes final
    invalid_since TEXT,                 -- InvalidityDate, RFC 5280 5.3.2
    not_after     TEXT,                 -- when the certificate expires, if that is known
    shard         TEXT                  -- the CRL that its certificate names, if it names one of its own
                  CHECK (shard IS NULL OR (length(shard) BETWEEN 1 AND 64 AND shard NOT GLOB '*[^0-9A-Za-z._-]*'
                                           AND shard NOT GLOB '[.-]*')),
    at            TEXT NOT NULL
) STRICT;
CREATE INDEX revocation_by_serial ON revocation (revoker_id, serial, id);
CREATE INDEX revocation_by_shard ON revocation (revoker_id, shard, id) WHERE shard IS NOT NULL;

CREATE TABLE crl (                      -- a number that was taken, before anything is signed under it
    id          INTEGER PRIMARY KEY,
    revoker_id  INTEGER NOT NULL REFERENCES revoker (id),
    scope       TEXT NOT NULL CHECK (scope IN ('full', 'delta') OR scope GLOB 'shard:?*'),
    number      INTEGER NOT NULL CHECK (number > 0),            -- CRLNumber, RFC 5280 5.2.3
    base        INTEGER CHECK ((base IS NOT NULL) = (scope = 'delta')),
    last_act    INTEGER NOT NULL,       -- the newest act that it tells
    this_update TEXT NOT NULL,
    next_update TEXT NOT NULL CHECK (next_update > this_update),
    at          TEXT NOT NULL,
    UNIQUE (revoker_id, scope, number)
) STRICT;
CREATE INDEX crl_by_number ON crl (revoker_id, number);

CREATE TABLE signed_crl (               -- what was signed under it
    crl_id  INTEGER PRIMARY KEY REFERENCES crl (id),
    entries INTEGER NOT NULL CHECK (entries >= 0),
    sha256  BLOB NOT NULL CHECK (length(sha256) = 32),
    at      TEXT NOT NULL
) STRICT;

-- What may follow what. A revocation is for good; a hold may end, or become one and keep its date (X.509 8.5.2.2).
CREATE TRIGGER revocation_is_final BEFORE INSERT ON revocation
WHEN (SELECT act FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial ORDER BY id DESC LIMIT 1)
     = 'revoke'
     -- that a key was stolen may become known later
     AND NOT (NEW.act = 'revoke' AND NEW.reason = 1 AND 1 <>
              (SELECT reason FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial
               ORDER BY id DESC LIMIT 1))
BEGIN SELECT RAISE(ABORT, 'journal.revocation_final: this certificate is revoked, and that is for good'); END;
CREATE TRIGGER revocation_hold_once BEFORE INSERT ON revocation
WHEN NEW.act = 'hold' AND (SELECT act FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial
                           ORDER BY id DESC LIMIT 1) = 'hold'
BEGIN SELECT RAISE(ABORT, 'journal.revocation_held: this certificate is on hold already'); END;
CREATE TRIGGER revocation_release_of_hold BEFORE INSERT ON revocation
WHEN NEW.act = 'release'
     AND (SELECT act FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial ORDER BY id DESC LIMIT 1)
         IS NOT 'hold'
BEGIN SELECT RAISE(ABORT, 'journal.revocation_not_held: this certificate is not on hold'); END;
CREATE TRIGGER revocation_keeps_date BEFORE INSERT ON revocation
WHEN (SELECT revoked_at FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial AND act <> 'release'
      AND id = (SELECT max(id) FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial))
     <> NEW.revoked_at AND NEW.act <> 'release'
BEGIN SELECT RAISE(ABORT, 'journal.revocation_date: the date of a hold or revocation stays'); END;
CREATE TRIGGER revocation_keeps_shard BEFORE INSERT ON revocation
WHEN EXISTS (SELECT 1 FROM revocation WHERE revoker_id = NEW.revoker_id AND serial = NEW.serial
             AND shard IS NOT NEW.shard)
BEGIN SELECT RAISE(ABORT, 'journal.revocation_shard: a certificate stays in its shard'); END;

CREATE TRIGGER crl_number_goes_up BEFORE INSERT ON crl
WHEN NEW.number < (SELECT max(number) FROM crl WHERE revoker_id = NEW.revoker_id)
BEGIN SELECT RAISE(ABORT, 'journal.crl_number: the number of a CRL never goes back'); END;

-- Rows stay as they are.
CREATE TRIGGER revoker_no_replace BEFORE INSERT ON revoker
WHEN EXISTS (SELECT 1 FROM revoker WHERE id = NEW.id OR spki_sha256 = NEW.spki_sha256)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER revocation_no_replace BEFORE INSERT ON revocation WHEN EXISTS (SELECT 1 FROM revocation WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER crl_no_replace BEFORE INSERT ON crl
WHEN EXISTS (SELECT 1 FROM crl WHERE id = NEW.id
             OR (revoker_id = NEW.revoker_id AND scope = NEW.scope AND number = NEW.number))
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;
CREATE TRIGGER signed_crl_no_replace BEFORE INSERT ON signed_crl
WHEN EXISTS (SELECT 1 FROM signed_crl WHERE crl_id = NEW.crl_id)
BEGIN SELECT RAISE(ABORT, 'journal.final: a row is never replaced'); END;

CREATE TRIGGER revoker_no_update BEFORE UPDATE ON revoker
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER revocation_no_update BEFORE UPDATE ON revocation
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER crl_no_update BEFORE UPDATE ON crl
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;
CREATE TRIGGER signed_crl_no_update BEFORE UPDATE ON signed_crl
BEGIN SELECT RAISE(ABORT, 'journal.final: a row never changes'); END;

CREATE TRIGGER revoker_no_delete BEFORE DELETE ON revoker
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER revocation_no_delete BEFORE DELETE ON revocation
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER crl_no_delete BEFORE DELETE ON crl
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
CREATE TRIGGER signed_crl_no_delete BEFORE DELETE ON signed_crl
BEGIN SELECT RAISE(ABORT, 'journal.never_deleted: a row is never deleted'); END;
