-- The manifest, schema 5: what was handed out to whom, what came back, and lists from elsewhere. docs/cloud.md tells how
-- they come about. Nothing here asks for schema 2 to 4.
--
-- One event a unit would double the journal with each export. So an export and a list say beforehand how many rows they
-- have and what the SHA-256 of these rows is, in one event; the rows are appended behind it, in the order of their
-- numbers, and never change. What became of a unit at a recipient is an event of that unit.

CREATE TABLE export (                   -- units handed to a recipient, as one parcel of files
    id               INTEGER PRIMARY KEY,
    target           TEXT NOT NULL CHECK (length(target) BETWEEN 1 AND 32 AND target NOT GLOB '*[^a-z0-9-]*'),
    recipient        TEXT NOT NULL CHECK (length(recipient) BETWEEN 1 AND 64 AND recipient NOT GLOB '*[^ -~]*'),
    naming           TEXT NOT NULL CHECK (length(naming) BETWEEN 1 AND 64),   -- what the recipient calls a unit
    units            INTEGER NOT NULL CHECK (units > 0),
    units_sha256     BLOB NOT NULL CHECK (length(units_sha256) = 32),   -- of 'unit_id issuance_id\n' in order of number
    begun_at         TEXT NOT NULL,
    statement        TEXT CHECK (length(statement) > 0),     -- export.json of the parcel; NULL: never handed out
    statement_sha256 BLOB CHECK (length(statement_sha256) = 32),
    handed_at        TEXT,
    CHECK ((handed_at IS NULL) = (statement IS NULL) AND (handed_at IS NULL) = (statement_sha256 IS NULL))
) STRICT;
CREATE INDEX export_by_recipient ON export (recipient, target);

CREATE TABLE export_unit (              -- what an export holds
    export_id   INTEGER NOT NULL REFERENCES export (id),
    number      INTEGER NOT NULL,       -- 1, 2, 3, ...: its place in the files
    unit_id     INTEGER NOT NULL REFERENCES unit (id),
    issuance_id INTEGER NOT NULL REFERENCES issuance (id),
    PRIMARY KEY (export_id, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX export_unit_by_issuance ON export_unit (issuance_id, export_id);

CREATE TABLE receipt (                  -- what a recipient made of one unit of an export; the newest one counts
    id            INTEGER PRIMARY KEY,
    export_id     INTEGER NOT NULL REFERENCES export (id),
    unit_id       INTEGER NOT NULL REFERENCES unit (id),
    issuance_id   INTEGER NOT NULL REFERENCES issuance (id),
    outcome       TEXT NOT NULL CHECK (outcome IN ('accepted', 'rejected')),
    reason        TEXT NOT NULL CHECK (length(reason) <= 200),
    source_sha256 BLOB NOT NULL CHECK (length(source_sha256) = 32),   -- of the file that said so
    at            TEXT NOT NULL
) STRICT;
CREATE INDEX receipt_by_issuance ON receipt (issuance_id, export_id);
CREATE INDEX receipt_by_export ON receipt (export_id);
CREATE INDEX receipt_by_unit ON receipt (unit_id);

CREATE TABLE list (                     -- identities that others gave out: a label roll, the ERP
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^ -~]*'),
    rows          INTEGER NOT NULL CHECK (rows > 0),
    rows_sha256   BLOB NOT NULL CHECK (length(rows_sha256) = 32),   -- of 'product_serial,mac,imei\n' in order of number
    source_sha256 BLOB NOT NULL CHECK (length(source_sha256) = 32), -- of the file
    at            TEXT NOT NULL
) STRICT;

CREATE TABLE list_row (
    list_id        INTEGER NOT NULL REFERENCES list (id),
    number         INTEGER NOT NULL,
    product_serial TEXT CHECK (length(product_serial) BETWEEN 1 AND 64),
    mac            TEXT CHECK (length(mac) = 17 AND mac NOT GLOB '*[^0-9a-f:]*'),
    imei           TEXT CHECK (length(imei) = 15 AND imei NOT GLOB '*[^0-9]*'),
    PRIMARY KEY (list_id, number),
    CHECK (product_serial IS NOT NULL OR mac IS NOT NULL OR imei IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX list_row_by_serial ON list_row (product_serial) WHERE product_serial IS NOT NULL;
CREATE UNIQUE INDEX list_row_by_mac ON list_row (mac) WHERE mac IS NOT NULL;
CREATE UNIQUE INDEX list_row_by_imei ON list_row (imei) WHERE imei IS NOT NULL;
-- A list asks for each of its addresses whether the desk gave it out.
CREATE INDEX desk_serial_by_mac ON desk_serial (mac) WHERE mac IS NOT NULL;

-- Exports: begun, filled, handed out (final).
CREATE TRIGGER export_no_replace BEFORE INSERT ON export WHEN EXISTS (SELECT 1 FROM export WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.export_final: an export is never replaced'); END;
CREATE TRIGGER export_starts_begun BEFORE INSERT ON export WHEN NEW.handed_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'manifest.export_state: an export is begun, filled, and handed out then'); END;
CREATE TRIGGER export_keeps BEFORE UPDATE ON export
WHEN OLD.handed_at IS NOT NULL OR NEW.handed_at IS NULL OR NEW.id IS NOT OLD.id OR NEW.target IS NOT OLD.target
  OR NEW.recipient IS NOT OLD.recipient OR NEW.naming IS NOT OLD.naming OR NEW.units IS NOT OLD.units
  OR NEW.units_sha256 IS NOT OLD.units_sha256 OR NEW.begun_at IS NOT OLD.begun_at
BEGIN SELECT RAISE(ABORT, 'manifest.export_final: what an export says never changes'); END;
CREATE TRIGGER export_is_full BEFORE UPDATE OF handed_at ON export
WHEN NOT EXISTS (SELECT 1 FROM export_unit WHERE export_id = OLD.id AND number = OLD.units)
BEGIN SELECT RAISE(ABORT, 'manifest.export_state: not all units of the export are on record'); END;
CREATE TRIGGER export_no_delete BEFORE DELETE ON export
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an export is never deleted'); END;
CREATE TRIGGER export_journal AFTER INSERT ON export
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.begun_at, '', 'export', 'journal', json_object(
        'export', CAST(NEW.id AS TEXT), 'target', NEW.target, 'recipient', NEW.recipient, 'naming', NEW.naming,
        'units', CAST(NEW.units AS TEXT), 'units_sha256', lower(hex(NEW.units_sha256))));
END;
CREATE TRIGGER export_journal_handed AFTER UPDATE OF handed_at ON export
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.handed_at, '', 'export-handed', 'journal', json_object(
        'export', CAST(NEW.id AS TEXT), 'statement_sha256', lower(hex(NEW.statement_sha256))));
END;

CREATE TRIGGER export_unit_follows BEFORE INSERT ON export_unit
WHEN NOT EXISTS (SELECT 1 FROM export WHERE id = NEW.export_id AND handed_at IS NULL AND NEW.number BETWEEN 1 AND units)
  OR EXISTS (SELECT 1 FROM export_unit WHERE export_id = NEW.export_id AND number = NEW.number)
  OR (NEW.number > 1 AND NOT EXISTS (
      SELECT 1 FROM export_unit WHERE export_id = NEW.export_id AND number = NEW.number - 1))
BEGIN SELECT RAISE(ABORT, 'manifest.export_state: units follow each other in an export that is begun'); END;
CREATE TRIGGER export_unit_certified BEFORE INSERT ON export_unit
WHEN NOT EXISTS (
    SELECT 1 FROM issuance WHERE id = NEW.issuance_id AND unit_id = NEW.unit_id AND certificate_sha256 IS NOT NULL)
  OR EXISTS (SELECT 1 FROM export_unit WHERE issuance_id = NEW.issuance_id AND export_id = NEW.export_id)
BEGIN SELECT RAISE(ABORT, 'manifest.export_unit: an export holds certificates of units, each once'); END;
CREATE TRIGGER export_unit_no_update BEFORE UPDATE ON export_unit
BEGIN SELECT RAISE(ABORT, 'manifest.export_final: what an export holds never changes'); END;
CREATE TRIGGER export_unit_no_delete BEFORE DELETE ON export_unit
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a unit of an export is never deleted'); END;

-- Receipts: appended.
CREATE TRIGGER receipt_no_replace BEFORE INSERT ON receipt WHEN EXISTS (SELECT 1 FROM receipt WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.receipt_final: a receipt is never replaced'); END;
CREATE TRIGGER receipt_of_export BEFORE INSERT ON receipt
WHEN NOT EXISTS (SELECT 1 FROM export WHERE id = NEW.export_id AND handed_at IS NOT NULL) OR NOT EXISTS (
    SELECT 1 FROM export_unit
    WHERE issuance_id = NEW.issuance_id AND export_id = NEW.export_id AND unit_id = NEW.unit_id)
BEGIN SELECT RAISE(ABORT, 'manifest.receipt_unknown: a receipt is about a unit of an export that was handed out'); END;
CREATE TRIGGER receipt_no_update BEFORE UPDATE ON receipt
BEGIN SELECT RAISE(ABORT, 'manifest.receipt_final: a receipt never changes'); END;
CREATE TRIGGER receipt_no_delete BEFORE DELETE ON receipt
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a receipt is never deleted'); END;
CREATE TRIGGER receipt_journal AFTER INSERT ON receipt
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.at, NEW.unit_id, '', 'receipt', 'journal', json_object(
        'receipt', CAST(NEW.id AS TEXT), 'export', CAST(NEW.export_id AS TEXT), 'target', target,
        'recipient', recipient, 'issuance', CAST(NEW.issuance_id AS TEXT), 'outcome', NEW.outcome,
        'reason', NEW.reason, 'source_sha256', lower(hex(NEW.source_sha256)))
    FROM export WHERE id = NEW.export_id;
END;

-- Lists: appended, with their rows in the same transaction.
CREATE TRIGGER list_no_replace BEFORE INSERT ON list WHEN EXISTS (SELECT 1 FROM list WHERE id = NEW.id OR name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'manifest.list_exists: a list is never replaced'); END;
CREATE TRIGGER list_no_update BEFORE UPDATE ON list
BEGIN SELECT RAISE(ABORT, 'manifest.list_final: a list never changes'); END;
CREATE TRIGGER list_no_delete BEFORE DELETE ON list
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a list is never deleted'); END;
CREATE TRIGGER list_journal AFTER INSERT ON list
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.at, '', 'list', 'journal', json_object(
        'list', CAST(NEW.id AS TEXT), 'name', NEW.name, 'rows', CAST(NEW.rows AS TEXT),
        'rows_sha256', lower(hex(NEW.rows_sha256)), 'source_sha256', lower(hex(NEW.source_sha256))));
END;
CREATE TRIGGER list_row_follows BEFORE INSERT ON list_row
WHEN NOT EXISTS (SELECT 1 FROM list WHERE id = NEW.list_id AND NEW.number BETWEEN 1 AND rows)
  OR EXISTS (SELECT 1 FROM list_row WHERE list_id = NEW.list_id AND number = NEW.number)
  OR (NEW.number > 1 AND NOT EXISTS (
      SELECT 1 FROM list_row WHERE list_id = NEW.list_id AND number = NEW.number - 1))
BEGIN SELECT RAISE(ABORT, 'manifest.list_final: rows follow each other in a list that says how many it has'); END;
CREATE TRIGGER list_row_no_replace BEFORE INSERT ON list_row
WHEN EXISTS (SELECT 1 FROM list_row WHERE product_serial = NEW.product_serial)
  OR EXISTS (SELECT 1 FROM list_row WHERE mac = NEW.mac) OR EXISTS (SELECT 1 FROM list_row WHERE imei = NEW.imei)
BEGIN SELECT RAISE(ABORT, 'manifest.list_identity: this identity is in a list already'); END;
CREATE TRIGGER list_row_no_update BEFORE UPDATE ON list_row
BEGIN SELECT RAISE(ABORT, 'manifest.list_final: a row of a list never changes'); END;
CREATE TRIGGER list_row_no_delete BEFORE DELETE ON list_row
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a row of a list is never deleted'); END;
