-- The manifest, schema 6: numbers that were burned, orders that wait for a decision, requests that the desk refused, and
-- hardware ids that differ in case alone.
--
-- A manifest that is not the newest one does not know which numbers its order gave since (docs/orders.md). So an order
-- is suspended when somebody accepts such a manifest, and goes on when somebody says from which number: a row of
-- order_resume, and writing it is doing it. Those between are burned: boards may have them, so nobody gets them again.
-- From here on reserved + returned + burned are the numbers that were taken.

ALTER TABLE production_order ADD COLUMN burned INTEGER NOT NULL DEFAULT 0 CHECK (burned >= 0);
ALTER TABLE production_order ADD COLUMN suspended_at TEXT;
ALTER TABLE production_order ADD COLUMN suspended_reason TEXT CHECK (length(suspended_reason) > 0)
    CHECK ((suspended_at IS NULL) = (suspended_reason IS NULL));

CREATE TABLE order_resume (
    id       INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL REFERENCES production_order (id),
    taken    INTEGER NOT NULL CHECK (taken >= 0),       -- numbers that the row knew of
    burned   INTEGER NOT NULL CHECK (burned >= 0),      -- so many after them are given to nobody
    reason   TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    actor    TEXT NOT NULL CHECK (length(actor) BETWEEN 1 AND 64),      -- who says that he or she decided it
    os_user  TEXT NOT NULL CHECK (length(os_user) BETWEEN 1 AND 64),    -- as whom the command ran
    at       TEXT NOT NULL
) STRICT;
CREATE INDEX order_resume_by_order ON order_resume (order_id);

CREATE TRIGGER order_resume_no_replace BEFORE INSERT ON order_resume
WHEN EXISTS (SELECT 1 FROM order_resume WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.order_resume_final: a decision is never replaced'); END;
CREATE TRIGGER order_resume_fits BEFORE INSERT ON order_resume
WHEN NOT EXISTS (
    SELECT 1 FROM production_order WHERE id = NEW.order_id AND closed_at IS NULL
    AND NEW.taken = reserved + returned + burned AND NEW.taken + NEW.burned <= quantity + scrap_allowance
    AND (NEW.burned > 0 OR suspended_at IS NOT NULL))
BEGIN SELECT RAISE(ABORT, 'manifest.order_resume: there is nothing to decide here, or not this'); END;
CREATE TRIGGER order_resume_no_update BEFORE UPDATE ON order_resume
BEGIN SELECT RAISE(ABORT, 'manifest.order_resume_final: a decision never changes'); END;
CREATE TRIGGER order_resume_no_delete BEFORE DELETE ON order_resume
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a decision is never deleted'); END;
CREATE TRIGGER order_resume_done AFTER INSERT ON order_resume
BEGIN
    INSERT INTO event (at, slot, step, kind, facts)
    SELECT NEW.at, '', 'order-resume', 'journal', json_object(
        'order_resume', CAST(NEW.id AS TEXT), 'order', name, 'taken', CAST(NEW.taken AS TEXT),
        'burned', CAST(NEW.burned AS TEXT), 'reason', NEW.reason, 'actor', NEW.actor, 'os_user', NEW.os_user)
    FROM production_order WHERE id = NEW.order_id;
    UPDATE production_order SET burned = burned + NEW.burned, suspended_at = NULL, suspended_reason = NULL
    WHERE id = NEW.order_id;
END;

CREATE TRIGGER order_burned_by_decision BEFORE UPDATE OF burned ON production_order
WHEN NEW.burned IS NOT OLD.burned
 AND NEW.burned IS NOT (SELECT sum(burned) FROM order_resume WHERE order_id = OLD.id)
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: numbers are burned by a decision with a reason and an actor'); END;
CREATE TRIGGER order_waits_for_decision BEFORE UPDATE OF suspended_at, suspended_reason ON production_order
WHEN OLD.suspended_at IS NOT NULL
 AND (NEW.suspended_at IS NOT OLD.suspended_at OR NEW.suspended_reason IS NOT OLD.suspended_reason)
 AND NOT (NEW.suspended_at IS NULL AND EXISTS (
    SELECT 1 FROM order_resume WHERE order_id = OLD.id AND at >= OLD.suspended_at))
BEGIN SELECT RAISE(ABORT, 'manifest.order_suspended: it waits for a decision'); END;
CREATE TRIGGER order_starts_undecided BEFORE INSERT ON production_order
WHEN NEW.burned <> 0 OR NEW.suspended_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: an order starts with nothing burned'); END;
CREATE TRIGGER order_journal_suspended AFTER UPDATE OF suspended_at ON production_order
WHEN OLD.suspended_at IS NULL AND NEW.suspended_at IS NOT NULL
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.suspended_at, '', 'order-suspend', 'journal',
        json_object('order', NEW.name, 'reason', NEW.suspended_reason));
END;
CREATE TRIGGER unit_order_suspended BEFORE UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
 AND EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND suspended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.order_suspended: the order waits for a decision'); END;
CREATE TRIGGER desk_serial_order_suspended BEFORE INSERT ON desk_serial
WHEN EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND suspended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.order_suspended: the order waits for a decision'); END;

-- Of schema 1 and 2: the budget. Now a burned number takes some: a board may have it.
DROP TRIGGER unit_within_budget;
CREATE TRIGGER unit_within_budget BEFORE UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND reserved + burned < quantity)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exhausted: the quantity of the order is reached'); END;
DROP TRIGGER desk_serial_within_budget;
CREATE TRIGGER desk_serial_within_budget BEFORE INSERT ON desk_serial
WHEN NOT EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND reserved + burned < quantity)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exhausted: the quantity of the order is reached'); END;

CREATE TABLE desk_refusal (     -- why a request that took a serial got no certificate; its key keeps the serial
    product_serial TEXT PRIMARY KEY REFERENCES desk_serial (product_serial),
    code           TEXT NOT NULL CHECK (length(code) BETWEEN 1 AND 64),
    reason         TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 400),
    at             TEXT NOT NULL
) STRICT, WITHOUT ROWID;        -- the first refusal counts; whether the key got one later, the CA's journal says
CREATE TRIGGER desk_refusal_no_replace BEFORE INSERT ON desk_refusal
WHEN EXISTS (SELECT 1 FROM desk_refusal WHERE product_serial = NEW.product_serial)
BEGIN SELECT RAISE(ABORT, 'manifest.desk_final: a refusal is written once'); END;
CREATE TRIGGER desk_refusal_no_update BEFORE UPDATE ON desk_refusal
BEGIN SELECT RAISE(ABORT, 'manifest.desk_final: a refusal never changes'); END;
CREATE TRIGGER desk_refusal_no_delete BEFORE DELETE ON desk_refusal
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a refusal is never deleted'); END;
CREATE TRIGGER desk_refusal_journal AFTER INSERT ON desk_refusal
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.at, '', 'desk-refused', 'journal', json_object(
        'product_serial', NEW.product_serial, 'code', NEW.code, 'reason', NEW.reason));
END;

-- Of schema 1: a hardware id has one row. Now also one that is written in another case: firmware that says AB12 today
-- and ab12 tomorrow is the same board. No unique index: a file from before may hold both, and keeps them.
CREATE INDEX unit_by_hardware_id ON unit (hardware_id COLLATE NOCASE);
DROP TRIGGER unit_no_replace;
CREATE TRIGGER unit_no_replace BEFORE INSERT ON unit
WHEN EXISTS (SELECT 1 FROM unit WHERE id = NEW.id)
  OR EXISTS (SELECT 1 FROM unit WHERE hardware_id = NEW.hardware_id COLLATE NOCASE)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_hardware: this hardware id has a row'); END;
