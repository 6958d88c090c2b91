-- The manifest, schema 1. docs/manifest.md says what each row proves and how to read it.
--
-- The rules of the line stand here and not only in Python, so that no program, ours or another, can break them without
-- first taking them out: identities are unique for ever, nothing is deleted, what was written stays, a unit passes only
-- with its evidence, and every change writes its own event. A refusal reads 'manifest.code: sentence'.
--
-- Triggers named *_no_replace are there because INSERT OR REPLACE removes rows without firing DELETE triggers
-- (unless recursive_triggers is on, which is not the default of the sqlite3 shell). And a CHECK does not hold what a
-- trigger writes under INSERT or UPDATE OR IGNORE, which passes over the row in silence: unit_within_budget and
-- event_has_a_time refuse before that.

CREATE TABLE station_version (          -- which versions of the station wrote here; this table never changes its form
    id       INTEGER PRIMARY KEY,
    version  TEXT NOT NULL,             -- of the distribution provisioning-station
    "schema" INTEGER NOT NULL,          -- the newest schema that version knows
    since    TEXT NOT NULL              -- UTC
) STRICT;

CREATE TABLE production_order (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    product       TEXT NOT NULL,
    profile       TEXT NOT NULL,
    quantity      INTEGER NOT NULL CHECK (quantity > 0),
    serial_format TEXT NOT NULL,        -- a Python format with one field, {number}
    first_number  INTEGER NOT NULL CHECK (first_number >= 0),
    reserved      INTEGER NOT NULL DEFAULT 0,   -- units that took a product serial; the trigger unit_takes_budget counts
    opened_at     TEXT NOT NULL,
    CONSTRAINT budget CHECK (reserved BETWEEN 0 AND quantity)
) STRICT;

CREATE TABLE unit (
    id               INTEGER PRIMARY KEY,
    hardware_id      TEXT NOT NULL UNIQUE
                     CHECK (length(hardware_id) BETWEEN 1 AND 64 AND hardware_id NOT GLOB '*[^0-9A-Za-z._:-]*'),
    order_id         INTEGER NOT NULL REFERENCES production_order (id),
    product_serial   TEXT UNIQUE CHECK (length(product_serial) BETWEEN 1 AND 64),  -- NULL until a certificate is reserved
    model            TEXT NOT NULL CHECK (length(model) BETWEEN 1 AND 32 AND model NOT GLOB '*[^ -~]*'),
    firmware_version TEXT NOT NULL
                     CHECK (length(firmware_version) BETWEEN 1 AND 32 AND firmware_version NOT GLOB '*[^ -~]*'),
    firmware_sha256  BLOB NOT NULL CHECK (length(firmware_sha256) = 32),
    state            TEXT NOT NULL CHECK (state IN ('open', 'passed', 'failed')),
    attempts         INTEGER NOT NULL CHECK (attempts > 0),
    slot             TEXT NOT NULL,     -- where it was seen last
    first_seen_at    TEXT NOT NULL,
    changed_at       TEXT NOT NULL,
    failure_code     TEXT,
    failure_sentence TEXT,
    failure_step     TEXT,
    CHECK (state <> 'passed' OR product_serial IS NOT NULL),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL)),
    CHECK ((failure_code IS NULL) = (failure_sentence IS NULL) AND (failure_code IS NULL) = (failure_step IS NULL))
) STRICT;
CREATE INDEX unit_by_order ON unit (order_id, state);

CREATE TABLE public_key (               -- a public key belongs to one unit, for ever, whatever becomes of its certificates
    spki_sha256 BLOB PRIMARY KEY CHECK (length(spki_sha256) = 32),     -- SHA-256 of SubjectPublicKeyInfo, RFC 5280 4.1
    unit_id     INTEGER NOT NULL REFERENCES unit (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE issuance (                 -- one certificate that was, or may have been, signed
    id                 INTEGER PRIMARY KEY,
    unit_id            INTEGER NOT NULL REFERENCES unit (id),
    state              TEXT NOT NULL CHECK (state IN ('intent', 'recorded', 'void')),
    spki_sha256        BLOB NOT NULL REFERENCES public_key (spki_sha256),
    certificate_serial TEXT NOT NULL UNIQUE     -- 20 octets as 40 hex digits: one spelling a number, sorts as a number
                       CHECK (length(certificate_serial) = 40 AND certificate_serial NOT GLOB '*[^0-9a-f]*'),
    tbs                BLOB NOT NULL CHECK (length(tbs) > 0),    -- TBSCertificate, the very bytes that the token signs
    tbs_sha256         BLOB NOT NULL CHECK (length(tbs_sha256) = 32),
    signing_tries      INTEGER NOT NULL CHECK (signing_tries > 0),   -- counted before the token is asked
    certificate        BLOB,            -- DER
    certificate_sha256 BLOB CHECK (length(certificate_sha256) = 32),
    intended_at        TEXT NOT NULL,
    changed_at         TEXT NOT NULL,
    void_reason        TEXT,
    CHECK ((certificate IS NULL) = (certificate_sha256 IS NULL)),
    CHECK (CASE state WHEN 'intent' THEN certificate IS NULL WHEN 'recorded' THEN certificate IS NOT NULL ELSE 1 END),
    CHECK ((state = 'void') = (void_reason IS NOT NULL)),
    -- a certificate is SEQUENCE { tbs, algorithm, signature }: the tbs starts after 2 to 6 octets of header
    CONSTRAINT holds_tbs CHECK (certificate IS NULL OR instr(certificate, tbs) BETWEEN 3 AND 7)
) STRICT;
-- A query finds the live one through this index only if it says state <> 'void' in these words.
CREATE UNIQUE INDEX one_live_issuance ON issuance (unit_id) WHERE state <> 'void';
CREATE INDEX void_issuance ON issuance (unit_id) WHERE state = 'void';

CREATE TABLE proof (                    -- the evidence of a pass; writing it is passing
    issuance_id      INTEGER PRIMARY KEY REFERENCES issuance (id),
    challenge        BLOB NOT NULL CHECK (length(challenge) >= 16),
    message          BLOB NOT NULL CHECK (length(message) > 0),      -- what the board signed
    signature        BLOB NOT NULL CHECK (length(signature) > 0),
    read_back_sha256 BLOB NOT NULL CHECK (length(read_back_sha256) = 32),   -- of the certificate that the board gave back
    locks            INTEGER NOT NULL CHECK (locks >= 0),   -- as observed, a bit each: 1 debug port, 2 credential slot
    seconds          REAL NOT NULL CHECK (seconds >= 0),    -- from plug to pass
    at               TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    id      INTEGER PRIMARY KEY,        -- 1, 2, 3, ... without a gap: the leaf index of the ledger is id - 1
    at      TEXT NOT NULL CHECK (at IS strftime('%Y-%m-%dT%H:%M:%fZ', at)),  -- UTC, milliseconds; IS: no time is NULL
    unit_id INTEGER REFERENCES unit (id),
    slot    TEXT NOT NULL,
    step    TEXT NOT NULL,
    kind    TEXT NOT NULL,              -- 'journal' is written by the triggers below and by nobody else
    facts   TEXT NOT NULL CHECK (json_valid(facts))
) STRICT;
CREATE INDEX event_by_unit ON event (unit_id) WHERE unit_id IS NOT NULL;

-- Events: appended, in the order of time, never touched again.
CREATE TRIGGER event_no_replace BEFORE INSERT ON event WHEN EXISTS (SELECT 1 FROM event WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.event_final: an event is never replaced'); END;
CREATE TRIGGER event_has_a_time BEFORE INSERT ON event WHEN NEW.at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.at)
BEGIN SELECT RAISE(ABORT, 'manifest.event_time: the time of an event is UTC with milliseconds, ending in Z'); END;
CREATE TRIGGER event_follows AFTER INSERT ON event
WHEN NEW.id <> 1 AND NOT EXISTS (SELECT 1 FROM event WHERE id = NEW.id - 1 AND at <= NEW.at)
BEGIN SELECT RAISE(ABORT, 'manifest.event_order: an event follows the last one, and is not older than it'); END;
CREATE TRIGGER event_no_update BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'manifest.event_final: an event never changes'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an event is never deleted'); END;

-- Versions: appended.
CREATE TRIGGER station_version_no_replace BEFORE INSERT ON station_version
WHEN EXISTS (SELECT 1 FROM station_version WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.version_final: a version row is never replaced'); END;
CREATE TRIGGER station_version_no_update BEFORE UPDATE ON station_version
BEGIN SELECT RAISE(ABORT, 'manifest.version_final: a version row never changes'); END;
CREATE TRIGGER station_version_no_delete BEFORE DELETE ON station_version
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a version row is never deleted'); END;

-- Orders: the terms stay, the budget only falls.
CREATE TRIGGER order_no_replace BEFORE INSERT ON production_order
WHEN EXISTS (SELECT 1 FROM production_order WHERE id = NEW.id OR name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exists: an order is never replaced'); END;
CREATE TRIGGER order_starts_unused BEFORE INSERT ON production_order WHEN NEW.reserved <> 0
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: an order starts with nothing reserved'); END;
CREATE TRIGGER order_keeps_terms BEFORE UPDATE ON production_order
WHEN NEW.id IS NOT OLD.id OR NEW.name IS NOT OLD.name OR NEW.product IS NOT OLD.product
  OR NEW.profile IS NOT OLD.profile OR NEW.quantity IS NOT OLD.quantity OR NEW.serial_format IS NOT OLD.serial_format
  OR NEW.first_number IS NOT OLD.first_number OR NEW.opened_at IS NOT OLD.opened_at
BEGIN SELECT RAISE(ABORT, 'manifest.order_differs: the terms of an order never change'); END;
CREATE TRIGGER order_budget_only_falls BEFORE UPDATE ON production_order WHEN NEW.reserved < OLD.reserved
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: what is reserved stays reserved'); END;
CREATE TRIGGER order_no_delete BEFORE DELETE ON production_order
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an order is never deleted'); END;
CREATE TRIGGER order_journal AFTER INSERT ON production_order
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.opened_at, '', 'order', 'journal', json_object(
        'order', NEW.name, 'product', NEW.product, 'profile', NEW.profile, 'quantity', CAST(NEW.quantity AS TEXT),
        'serial_format', NEW.serial_format, 'first_number', CAST(NEW.first_number AS TEXT)));
END;

-- Units: open -> passed (final), open -> failed -> open again.
CREATE TRIGGER unit_no_replace BEFORE INSERT ON unit
WHEN EXISTS (SELECT 1 FROM unit WHERE id = NEW.id OR hardware_id = NEW.hardware_id)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_hardware: this hardware id has a row'); END;
CREATE TRIGGER unit_starts_open BEFORE INSERT ON unit
WHEN NEW.state <> 'open' OR NEW.product_serial IS NOT NULL OR NEW.attempts <> 1
BEGIN SELECT RAISE(ABORT, 'manifest.unit_start: a unit starts open, without a product serial'); END;
CREATE TRIGGER unit_keeps_identity BEFORE UPDATE ON unit
WHEN NEW.id IS NOT OLD.id OR NEW.hardware_id IS NOT OLD.hardware_id OR NEW.first_seen_at IS NOT OLD.first_seen_at
  OR NEW.attempts < OLD.attempts
BEGIN SELECT RAISE(ABORT, 'manifest.unit_identity: a unit keeps its hardware id and its count of attempts'); END;
CREATE TRIGGER unit_keeps_serial BEFORE UPDATE ON unit
WHEN OLD.product_serial IS NOT NULL
 AND (NEW.product_serial IS NOT OLD.product_serial OR NEW.order_id IS NOT OLD.order_id)
BEGIN SELECT RAISE(ABORT, 'manifest.unit_identity: a unit keeps its product serial and the order it came from'); END;
CREATE TRIGGER unit_serial_no_replace BEFORE UPDATE OF product_serial ON unit
WHEN EXISTS (SELECT 1 FROM unit WHERE product_serial = NEW.product_serial AND id <> OLD.id)
BEGIN SELECT RAISE(ABORT, 'manifest.product_serial_taken: another unit has this product serial'); END;
CREATE TRIGGER unit_passed_is_final BEFORE UPDATE ON unit WHEN OLD.state = 'passed'
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: a unit that passed does not change'); END;
CREATE TRIGGER unit_pass_needs_evidence BEFORE UPDATE OF state ON unit
WHEN NEW.state = 'passed' AND (OLD.state <> 'open' OR NOT EXISTS (
    SELECT 1 FROM issuance JOIN proof ON proof.issuance_id = issuance.id
    WHERE issuance.unit_id = OLD.id AND issuance.state <> 'void' AND issuance.state = 'recorded'
      AND proof.read_back_sha256 = issuance.certificate_sha256))
BEGIN SELECT RAISE(ABORT, 'manifest.no_evidence: a unit passes with the proof of its recorded certificate'); END;
CREATE TRIGGER unit_within_budget BEFORE UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND reserved < quantity)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exhausted: the quantity of the order is reached'); END;
CREATE TRIGGER unit_takes_budget AFTER UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
BEGIN UPDATE production_order SET reserved = reserved + 1 WHERE id = NEW.order_id; END;
CREATE TRIGGER unit_no_delete BEFORE DELETE ON unit
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a unit is never deleted'); END;
CREATE TRIGGER unit_journal_first AFTER INSERT ON unit
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.id, NEW.slot, 'begin', 'journal', json_object(
        'hardware_id', NEW.hardware_id, 'order', name, 'model', NEW.model, 'firmware_version', NEW.firmware_version,
        'firmware_sha256', lower(hex(NEW.firmware_sha256)), 'attempts', '1')
    FROM production_order WHERE id = NEW.order_id;
END;
CREATE TRIGGER unit_journal_again AFTER UPDATE OF attempts ON unit WHEN NEW.attempts > OLD.attempts
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.id, NEW.slot, 'begin', 'journal', json_object(
        'hardware_id', NEW.hardware_id, 'order', name, 'model', NEW.model, 'firmware_version', NEW.firmware_version,
        'firmware_sha256', lower(hex(NEW.firmware_sha256)), 'attempts', CAST(NEW.attempts AS TEXT))
    FROM production_order WHERE id = NEW.order_id;
END;
CREATE TRIGGER unit_journal_fail AFTER UPDATE OF state ON unit WHEN NEW.state = 'failed'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts) VALUES (
        NEW.changed_at, NEW.id, NEW.slot, 'fail', 'journal', json_object(
        'code', NEW.failure_code, 'sentence', NEW.failure_sentence, 'step', NEW.failure_step));
END;

-- Public keys: a key never moves to another unit.
CREATE TRIGGER public_key_no_replace BEFORE INSERT ON public_key
WHEN EXISTS (SELECT 1 FROM public_key WHERE spki_sha256 = NEW.spki_sha256)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: this public key has a unit'); END;
CREATE TRIGGER public_key_no_update BEFORE UPDATE ON public_key
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: a public key stays with its unit'); END;
CREATE TRIGGER public_key_no_delete BEFORE DELETE ON public_key
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a public key is never deleted'); END;

-- Issuances: intent -> recorded, either -> void (final).
CREATE TRIGGER issuance_no_replace BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_final: an issuance is never replaced'); END;
CREATE TRIGGER issuance_serial_no_replace BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE certificate_serial = NEW.certificate_serial)
BEGIN SELECT RAISE(ABORT, 'manifest.serial_collision: this certificate serial was given before'); END;
CREATE TRIGGER issuance_one_live BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE unit_id = NEW.unit_id AND state <> 'void')
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_live: the unit has an issuance that is not void'); END;
CREATE TRIGGER issuance_starts_as_intent BEFORE INSERT ON issuance
WHEN NEW.state <> 'intent' OR NEW.signing_tries <> 1 OR NOT EXISTS (
    SELECT 1 FROM unit WHERE id = NEW.unit_id AND state = 'open' AND product_serial IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_start: an issuance starts as intent, for an open unit with a serial'); END;
CREATE TRIGGER issuance_key_is_the_units BEFORE INSERT ON issuance
WHEN NOT EXISTS (SELECT 1 FROM public_key WHERE spki_sha256 = NEW.spki_sha256 AND unit_id = NEW.unit_id)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: the public key is not one of this unit'); END;
CREATE TRIGGER issuance_keeps_content BEFORE UPDATE ON issuance
WHEN NEW.id IS NOT OLD.id OR NEW.unit_id IS NOT OLD.unit_id OR NEW.spki_sha256 IS NOT OLD.spki_sha256
  OR NEW.certificate_serial IS NOT OLD.certificate_serial OR NEW.tbs IS NOT OLD.tbs
  OR NEW.tbs_sha256 IS NOT OLD.tbs_sha256 OR NEW.intended_at IS NOT OLD.intended_at
  OR (OLD.certificate IS NOT NULL AND (NEW.certificate IS NOT OLD.certificate
                                       OR NEW.certificate_sha256 IS NOT OLD.certificate_sha256))
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_final: what an issuance says never changes'); END;
CREATE TRIGGER issuance_moves_on BEFORE UPDATE ON issuance
WHEN NOT CASE OLD.state
    WHEN 'intent' THEN (NEW.state = 'intent' AND NEW.signing_tries = OLD.signing_tries + 1)
                    OR (NEW.state = 'recorded' AND NEW.signing_tries = OLD.signing_tries)
                    OR (NEW.state = 'void' AND NEW.signing_tries = OLD.signing_tries AND NEW.certificate IS NULL)
    WHEN 'recorded' THEN NEW.state = 'void' AND NEW.signing_tries = OLD.signing_tries
    ELSE 0 END
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_state: an issuance goes from intent to recorded to void, never back'); END;
CREATE TRIGGER issuance_passed_stays BEFORE UPDATE OF state ON issuance
WHEN NEW.state = 'void' AND EXISTS (SELECT 1 FROM unit WHERE id = OLD.unit_id AND state = 'passed')
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: the certificate of a unit that passed is not voided'); END;
CREATE TRIGGER issuance_no_delete BEFORE DELETE ON issuance
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an issuance is never deleted'); END;
CREATE TRIGGER issuance_journal_intent AFTER INSERT ON issuance
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'intent', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'product_serial', product_serial,
        'certificate_serial', NEW.certificate_serial, 'spki_sha256', lower(hex(NEW.spki_sha256)),
        'tbs_sha256', lower(hex(NEW.tbs_sha256)), 'signing_tries', '1')
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_again AFTER UPDATE OF signing_tries ON issuance
WHEN NEW.signing_tries > OLD.signing_tries
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'intent', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial,
        'signing_tries', CAST(NEW.signing_tries AS TEXT))
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_record AFTER UPDATE OF state ON issuance WHEN NEW.state = 'recorded'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'record', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial,
        'certificate_sha256', lower(hex(NEW.certificate_sha256)))
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_void AFTER UPDATE OF state ON issuance WHEN NEW.state = 'void'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'void', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial, 'reason', NEW.void_reason)
    FROM unit WHERE id = NEW.unit_id;
END;

-- Proofs: the unit passes with it, or it is refused with the unit (unit_pass_needs_evidence, unit_passed_is_final).
CREATE TRIGGER proof_no_update BEFORE UPDATE ON proof
BEGIN SELECT RAISE(ABORT, 'manifest.proof_final: a proof never changes'); END;
CREATE TRIGGER proof_no_delete BEFORE DELETE ON proof
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a proof is never deleted'); END;
CREATE TRIGGER proof_passes AFTER INSERT ON proof
BEGIN
    UPDATE unit SET state = 'passed', changed_at = NEW.at
    WHERE id = (SELECT unit_id FROM issuance WHERE id = NEW.issuance_id);
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.at, unit.id, slot, 'pass', 'journal', json_object(
        'issuance', CAST(NEW.issuance_id AS TEXT), 'product_serial', product_serial,
        'certificate_sha256', lower(hex(NEW.read_back_sha256)), 'locks', CAST(NEW.locks AS TEXT))
    FROM unit JOIN issuance ON issuance.unit_id = unit.id WHERE issuance.id = NEW.issuance_id;
END;
