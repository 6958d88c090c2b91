-- The manifest, schema 2: signed orders (docs/orders.md), on top of schema_1.sql.
--
-- An order's row holds the JWS (RFC 7515) that it came from, and its terms spelled out for this station's share. The
-- station works by the terms of the JWS, which it verifies again whenever it starts; the columns are there to be
-- counted, joined and compared with it. A row without uid is an order of schema 1, which nobody signed: its units stay,
-- and no certificate is signed for it any more until its order is signed and imported with the same terms.

CREATE TABLE manifest_identity (        -- one row: a token remembers in which manifest an order is used
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL CHECK (length(uuid) = 32 AND uuid NOT GLOB '*[^0-9a-f]*')    -- 128 random bits
) STRICT;
INSERT INTO manifest_identity (id, uuid) VALUES (1, lower(hex(randomblob(16))));
CREATE TRIGGER manifest_identity_one BEFORE INSERT ON manifest_identity
BEGIN SELECT RAISE(ABORT, 'manifest.identity: a manifest has one identity, for ever'); END;
CREATE TRIGGER manifest_identity_no_update BEFORE UPDATE ON manifest_identity
BEGIN SELECT RAISE(ABORT, 'manifest.identity: a manifest keeps its identity'); END;
CREATE TRIGGER manifest_identity_no_delete BEFORE DELETE ON manifest_identity
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: the identity of a manifest is never deleted'); END;

ALTER TABLE production_order ADD COLUMN uid TEXT        -- the order's own id: 128 random bits, in the signed payload
    CHECK (length(uid) = 32 AND uid NOT GLOB '*[^0-9a-f]*');
ALTER TABLE production_order ADD COLUMN jws TEXT CHECK (length(jws) > 0);
ALTER TABLE production_order ADD COLUMN jws_sha256 BLOB CHECK (length(jws_sha256) = 32);          -- of the column jws
ALTER TABLE production_order ADD COLUMN payload_sha256 BLOB CHECK (length(payload_sha256) = 32);  -- of what is signed
ALTER TABLE production_order ADD COLUMN station_id INTEGER CHECK (station_id BETWEEN 1 AND 127);  -- whose share it is
ALTER TABLE production_order ADD COLUMN not_before TEXT;    -- UTC; the window is not_before <= now < not_after
ALTER TABLE production_order ADD COLUMN not_after TEXT CHECK (not_after > not_before);
ALTER TABLE production_order ADD COLUMN check_scheme TEXT NOT NULL DEFAULT ''   -- what {check} in serial_format is
    CHECK (check_scheme IN ('', 'luhn', 'mod37-36'));
ALTER TABLE production_order ADD COLUMN mac_first TEXT      -- EUI-48 of the first number; NULL: the order gives none
    CHECK (length(mac_first) = 17);
ALTER TABLE production_order ADD COLUMN scrap_allowance INTEGER NOT NULL DEFAULT 0 CHECK (scrap_allowance >= 0);
ALTER TABLE production_order ADD COLUMN returned INTEGER NOT NULL DEFAULT 0     -- scrapped units that gave budget back
    CHECK (returned BETWEEN 0 AND scrap_allowance);
ALTER TABLE production_order ADD COLUMN signed_at TEXT;     -- when the signed order was imported
ALTER TABLE production_order ADD COLUMN closed_reason TEXT CHECK (length(closed_reason) > 0);
ALTER TABLE production_order ADD COLUMN closed_at TEXT
    CHECK ((closed_at IS NULL) = (closed_reason IS NULL))
    CHECK ((uid IS NULL) = (jws IS NULL) AND (uid IS NULL) = (jws_sha256 IS NULL)
       AND (uid IS NULL) = (payload_sha256 IS NULL) AND (uid IS NULL) = (station_id IS NULL)
       AND (uid IS NULL) = (not_before IS NULL) AND (uid IS NULL) = (not_after IS NULL)
       AND (uid IS NULL) = (signed_at IS NULL));
CREATE UNIQUE INDEX order_by_uid ON production_order (uid) WHERE uid IS NOT NULL;

ALTER TABLE unit ADD COLUMN mac TEXT    -- EUI-48, lower case with colons: the order's number as its serial, or NULL
    CHECK (length(mac) = 17 AND mac NOT GLOB '*[^0-9a-f:]*');
CREATE UNIQUE INDEX unit_by_mac ON unit (mac) WHERE mac IS NOT NULL;
-- Counting what an order gave reads this index alone, however many units there are.
CREATE INDEX unit_with_serial ON unit (order_id) WHERE product_serial IS NOT NULL;

CREATE TABLE desk_serial (  -- a serial that 'station ca issue --order' took: its certificate is in the CA's journal
    product_serial TEXT PRIMARY KEY CHECK (length(product_serial) BETWEEN 1 AND 64),
    order_id       INTEGER NOT NULL REFERENCES production_order (id),
    spki_sha256    BLOB NOT NULL UNIQUE CHECK (length(spki_sha256) = 32),   -- of the request: asking again takes none
    mac            TEXT CHECK (length(mac) = 17),
    at             TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX desk_serial_by_order ON desk_serial (order_id);
CREATE TRIGGER desk_serial_no_replace BEFORE INSERT ON desk_serial
WHEN EXISTS (SELECT 1 FROM desk_serial WHERE product_serial = NEW.product_serial OR spki_sha256 = NEW.spki_sha256)
  OR EXISTS (SELECT 1 FROM unit WHERE product_serial = NEW.product_serial)
BEGIN SELECT RAISE(ABORT, 'manifest.product_serial_taken: this product serial was given before'); END;
CREATE TRIGGER desk_serial_key BEFORE INSERT ON desk_serial
WHEN EXISTS (SELECT 1 FROM public_key WHERE spki_sha256 = NEW.spki_sha256)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: this public key has a unit'); END;
CREATE TRIGGER desk_serial_within_budget BEFORE INSERT ON desk_serial
WHEN NOT EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND reserved < quantity)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exhausted: the quantity of the order is reached'); END;
CREATE TRIGGER desk_serial_order_closed BEFORE INSERT ON desk_serial
WHEN EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND closed_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.order_closed: the order is closed'); END;
CREATE TRIGGER desk_serial_takes_budget AFTER INSERT ON desk_serial
BEGIN
    UPDATE production_order SET reserved = reserved + 1 WHERE id = NEW.order_id;
    INSERT INTO event (at, slot, step, kind, facts)
    SELECT NEW.at, '', 'desk', 'journal', json_object(
        'order', name, 'product_serial', NEW.product_serial, 'mac', coalesce(NEW.mac, ''),
        'spki_sha256', lower(hex(NEW.spki_sha256)))
    FROM production_order WHERE id = NEW.order_id;
END;
CREATE TRIGGER desk_serial_no_update BEFORE UPDATE ON desk_serial
BEGIN SELECT RAISE(ABORT, 'manifest.desk_final: a serial that was taken never changes'); END;
CREATE TRIGGER desk_serial_no_delete BEFORE DELETE ON desk_serial
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a serial that was taken is never deleted'); END;

-- Units and desk share the numbers of an order.
CREATE TRIGGER unit_serial_not_of_desk BEFORE UPDATE OF product_serial ON unit
WHEN NEW.product_serial IS NOT OLD.product_serial
 AND EXISTS (SELECT 1 FROM desk_serial WHERE product_serial = NEW.product_serial)
BEGIN SELECT RAISE(ABORT, 'manifest.product_serial_taken: a certificate of the desk has this product serial'); END;
CREATE TRIGGER unit_order_closed BEFORE UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
 AND EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND closed_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.order_closed: the order is closed'); END;
CREATE TRIGGER unit_keeps_mac BEFORE UPDATE ON unit
WHEN NEW.mac IS NOT OLD.mac
 AND (OLD.mac IS NOT NULL OR OLD.product_serial IS NOT NULL OR NEW.product_serial IS NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.unit_identity: a unit keeps its MAC address'); END;
CREATE TRIGGER unit_starts_without_mac BEFORE INSERT ON unit WHEN NEW.mac IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'manifest.unit_start: a unit starts without a MAC address'); END;

-- Of schema 1: the terms stay. Now also those that were signed; an unsigned order may be signed once.
DROP TRIGGER order_keeps_terms;
CREATE TRIGGER order_keeps_terms BEFORE UPDATE ON production_order
WHEN NEW.id IS NOT OLD.id OR NEW.name IS NOT OLD.name OR NEW.product IS NOT OLD.product
  OR NEW.profile IS NOT OLD.profile OR NEW.quantity IS NOT OLD.quantity OR NEW.serial_format IS NOT OLD.serial_format
  OR NEW.first_number IS NOT OLD.first_number OR NEW.opened_at IS NOT OLD.opened_at
  OR NEW.check_scheme IS NOT OLD.check_scheme
  OR ((OLD.uid IS NOT NULL OR NEW.uid IS NULL)
      AND (NEW.uid IS NOT OLD.uid OR NEW.jws IS NOT OLD.jws OR NEW.jws_sha256 IS NOT OLD.jws_sha256
        OR NEW.payload_sha256 IS NOT OLD.payload_sha256 OR NEW.station_id IS NOT OLD.station_id
        OR NEW.not_before IS NOT OLD.not_before OR NEW.not_after IS NOT OLD.not_after
        OR NEW.signed_at IS NOT OLD.signed_at OR NEW.mac_first IS NOT OLD.mac_first
        OR NEW.scrap_allowance IS NOT OLD.scrap_allowance))
  OR (OLD.closed_at IS NOT NULL
      AND (NEW.closed_at IS NOT OLD.closed_at OR NEW.closed_reason IS NOT OLD.closed_reason))
BEGIN SELECT RAISE(ABORT, 'manifest.order_differs: the terms of an order never change'); END;
-- Of schema 1: what is reserved stays reserved. Now a scrapped unit may give its budget back, never its number:
-- reserved is the budget in use, reserved + returned the numbers that were taken, and that sum only grows.
DROP TRIGGER order_budget_only_falls;
CREATE TRIGGER order_budget_only_falls BEFORE UPDATE ON production_order
WHEN NEW.returned < OLD.returned OR NEW.reserved + NEW.returned < OLD.reserved + OLD.returned
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: what is reserved stays reserved'); END;
CREATE TRIGGER order_returns_one BEFORE UPDATE OF returned ON production_order
WHEN NEW.returned > OLD.returned AND (NEW.returned <> OLD.returned + 1 OR NEW.reserved <> OLD.reserved - 1)
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: a scrapped unit gives back the budget of one'); END;
CREATE TRIGGER order_starts_whole BEFORE INSERT ON production_order
WHEN NEW.returned <> 0 OR NEW.closed_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: an order starts open, with nothing returned'); END;
CREATE TRIGGER order_uid_no_replace BEFORE INSERT ON production_order
WHEN EXISTS (SELECT 1 FROM production_order WHERE uid = NEW.uid)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exists: this order was imported before'); END;

-- Of schema 1: an order's event. Now with all that its row says.
DROP TRIGGER order_journal;
CREATE TRIGGER order_journal AFTER INSERT ON production_order
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.opened_at, '', 'order', 'journal', json_object(
        'order', NEW.name, 'product', NEW.product, 'profile', NEW.profile, 'quantity', CAST(NEW.quantity AS TEXT),
        'serial_format', NEW.serial_format, 'first_number', CAST(NEW.first_number AS TEXT),
        'check_scheme', NEW.check_scheme, 'uid', coalesce(NEW.uid, ''),
        'payload_sha256', lower(hex(coalesce(NEW.payload_sha256, x''))),
        'jws_sha256', lower(hex(coalesce(NEW.jws_sha256, x''))),
        'station_id', coalesce(CAST(NEW.station_id AS TEXT), ''),
        'not_before', coalesce(NEW.not_before, ''), 'not_after', coalesce(NEW.not_after, ''),
        'mac_first', coalesce(NEW.mac_first, ''), 'scrap_allowance', CAST(NEW.scrap_allowance AS TEXT),
        'manifest', (SELECT uuid FROM manifest_identity)));
END;
CREATE TRIGGER order_journal_signed AFTER UPDATE OF uid ON production_order WHEN OLD.uid IS NULL AND NEW.uid IS NOT NULL
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.signed_at, '', 'order-signed', 'journal', json_object(
        'order', NEW.name, 'uid', NEW.uid, 'payload_sha256', lower(hex(NEW.payload_sha256)),
        'jws_sha256', lower(hex(NEW.jws_sha256)), 'station_id', CAST(NEW.station_id AS TEXT),
        'not_before', NEW.not_before, 'not_after', NEW.not_after, 'mac_first', coalesce(NEW.mac_first, ''),
        'scrap_allowance', CAST(NEW.scrap_allowance AS TEXT), 'manifest', (SELECT uuid FROM manifest_identity)));
END;
CREATE TRIGGER order_journal_closed AFTER UPDATE OF closed_at ON production_order
WHEN OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.closed_at, '', 'order-close', 'journal', json_object(
        'order', NEW.name, 'reason', NEW.closed_reason, 'reserved', CAST(NEW.reserved AS TEXT)));
END;

-- Of schema 1: the event of an intent. Now with the MAC address that the unit took with its serial.
DROP TRIGGER issuance_journal_intent;
CREATE TRIGGER issuance_journal_intent AFTER INSERT ON issuance
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'intent', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'product_serial', product_serial, 'mac', coalesce(mac, ''),
        'certificate_serial', NEW.certificate_serial, 'spki_sha256', lower(hex(NEW.spki_sha256)),
        'tbs_sha256', lower(hex(NEW.tbs_sha256)), 'signing_tries', '1')
    FROM unit WHERE id = NEW.unit_id;
END;
