-- The manifest, schema 4: life after the pass. docs/life-after-pass.md says what each act means and does.
--
-- An act is a row of life_act, and writing the row is doing it: the triggers below change the unit, give its
-- certificate up and give budget back. Nothing is deleted, and what a unit was stays readable: a scrapped unit that
-- passed keeps its state, its proof and its certificates.

ALTER TABLE unit ADD COLUMN life TEXT NOT NULL DEFAULT 'normal'     -- follows from the newest act
    CHECK (life IN ('normal', 'rma', 'scrapped'));
-- With life, so that units are still counted by state from the index alone.
DROP INDEX unit_by_order;
CREATE INDEX unit_by_order ON unit (order_id, state, life);
-- A board that shows the certificate of another one is a copy of it; this finds whose.
CREATE INDEX issuance_by_certificate ON issuance (certificate_sha256) WHERE certificate_sha256 IS NOT NULL;

CREATE TABLE life_act (
    id            INTEGER PRIMARY KEY,
    unit_id       INTEGER NOT NULL REFERENCES unit (id),
    act           TEXT NOT NULL CHECK (act IN ('void', 'scrap', 'rework', 'rma', 'release', 'replace')),
    reason        TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    actor         TEXT NOT NULL CHECK (length(actor) BETWEEN 1 AND 64),     -- who says that he or she did it
    os_user       TEXT NOT NULL CHECK (length(os_user) BETWEEN 1 AND 64),   -- as whom the command ran
    issuance_id   INTEGER REFERENCES issuance (id),     -- the unit's live one when it was done; NULL: it had none
    other_unit_id INTEGER REFERENCES unit (id)          -- who takes its place
                  CHECK ((other_unit_id IS NOT NULL) = (act = 'replace') AND other_unit_id IS NOT unit_id),
    returned      INTEGER NOT NULL DEFAULT 0 CHECK (returned IN (0, 1))     -- whether the order got its budget back
                  CHECK (returned = 0 OR act IN ('scrap', 'replace')),
    at            TEXT NOT NULL
) STRICT;
CREATE INDEX life_act_by_unit ON life_act (unit_id);
CREATE UNIQUE INDEX life_act_replaced_once ON life_act (unit_id) WHERE act = 'replace';
CREATE UNIQUE INDEX life_act_by_other ON life_act (other_unit_id) WHERE other_unit_id IS NOT NULL;
CREATE INDEX life_act_by_issuance ON life_act (issuance_id) WHERE issuance_id IS NOT NULL;

-- What may be done to what.
CREATE TRIGGER life_act_no_replace BEFORE INSERT ON life_act WHEN EXISTS (SELECT 1 FROM life_act WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.life_final: an act is never replaced'); END;
CREATE TRIGGER life_act_on_scrapped BEFORE INSERT ON life_act   -- a scrapped unit may still get somebody in its place
WHEN NEW.act <> 'replace' AND EXISTS (SELECT 1 FROM unit WHERE id = NEW.unit_id AND life = 'scrapped')
BEGIN SELECT RAISE(ABORT, 'manifest.unit_scrapped: a unit that is scrapped stays so'); END;
CREATE TRIGGER life_act_fits BEFORE INSERT ON life_act
WHEN NOT EXISTS (SELECT 1 FROM unit WHERE id = NEW.unit_id AND CASE NEW.act
    WHEN 'void' THEN state <> 'passed' AND NEW.issuance_id IS NOT NULL
    WHEN 'rework' THEN state = 'passed'
    WHEN 'rma' THEN state = 'passed' AND life = 'normal'
    WHEN 'release' THEN life = 'rma'
    ELSE 1 END)
BEGIN SELECT RAISE(ABORT, 'manifest.life_state: the unit is not in a state for this act'); END;
CREATE TRIGGER life_act_names_certificate BEFORE INSERT ON life_act
WHEN NEW.issuance_id IS NOT (SELECT id FROM issuance WHERE unit_id = NEW.unit_id AND state <> 'void')
BEGIN SELECT RAISE(ABORT, 'manifest.life_certificate: an act names the live certificate of its unit'); END;
CREATE TRIGGER life_act_replaces BEFORE INSERT ON life_act
WHEN NEW.act = 'replace' AND (EXISTS (SELECT 1 FROM life_act WHERE unit_id = NEW.unit_id AND act = 'replace')
    OR EXISTS (SELECT 1 FROM life_act WHERE other_unit_id = NEW.other_unit_id)
    OR NOT EXISTS (SELECT 1 FROM unit WHERE id = NEW.other_unit_id AND life = 'normal' AND state = 'passed'))
BEGIN SELECT RAISE(ABORT, 'manifest.life_replace: one unit that passed takes the place of one other'); END;
CREATE TRIGGER life_act_returns BEFORE INSERT ON life_act
WHEN NEW.returned = 1 AND NOT EXISTS (
    SELECT 1 FROM unit JOIN production_order ON production_order.id = unit.order_id
    WHERE unit.id = NEW.unit_id AND life <> 'scrapped' AND product_serial IS NOT NULL AND returned < scrap_allowance)
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: the order gives no budget back for this unit'); END;
CREATE TRIGGER life_act_no_update BEFORE UPDATE ON life_act
BEGIN SELECT RAISE(ABORT, 'manifest.life_final: an act never changes'); END;
CREATE TRIGGER life_act_no_delete BEFORE DELETE ON life_act
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an act is never deleted'); END;

-- Writing it is doing it. The event comes first and tells the whole row; what follows from it:
--   unit.life         scrap, replace: 'scrapped'; rma: 'rma'; release, rework: 'normal'
--   unit.state        rework: 'open'; the others leave it
--   unit.changed_at   the time of the act, but for void, and for the replacing of what is scrapped already
--   issuance          void, scrap, rework, replace: 'void', with an event of its own
--   production_order  where returned is 1: reserved - 1, returned + 1
CREATE TRIGGER life_act_done AFTER INSERT ON life_act
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts) VALUES (
        NEW.at, NEW.unit_id, '', NEW.act, 'journal', json_object(
        'life_act', CAST(NEW.id AS TEXT), 'reason', NEW.reason, 'actor', NEW.actor, 'os_user', NEW.os_user,
        'issuance', coalesce(CAST(NEW.issuance_id AS TEXT), ''),
        'other_unit', coalesce(CAST(NEW.other_unit_id AS TEXT), ''),
        'other_hardware_id', coalesce((SELECT hardware_id FROM unit WHERE id = NEW.other_unit_id), ''),
        'returned', CAST(NEW.returned AS TEXT)));
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.at, NEW.other_unit_id, '', 'replaces', 'journal', json_object(
        'life_act', CAST(NEW.id AS TEXT), 'other_unit', CAST(NEW.unit_id AS TEXT), 'other_hardware_id', hardware_id)
    FROM unit WHERE id = NEW.unit_id AND NEW.other_unit_id IS NOT NULL;
    UPDATE production_order SET reserved = reserved - 1, returned = returned + 1
    WHERE NEW.returned = 1 AND id = (SELECT order_id FROM unit WHERE id = NEW.unit_id);
    UPDATE unit SET changed_at = NEW.at,
        life = CASE NEW.act WHEN 'rma' THEN 'rma' WHEN 'release' THEN 'normal' ELSE 'scrapped' END
    WHERE id = NEW.unit_id AND NEW.act NOT IN ('void', 'rework') AND life <> 'scrapped';
    UPDATE unit SET changed_at = NEW.at, life = 'normal', state = 'open' WHERE id = NEW.unit_id AND NEW.act = 'rework';
    UPDATE issuance SET state = 'void', void_reason = NEW.act || ': ' || NEW.reason, changed_at = NEW.at
    WHERE id = NEW.issuance_id AND NEW.act IN ('void', 'scrap', 'rework', 'replace');
END;

-- A unit's life follows from its newest act, and from nothing else.
CREATE TRIGGER unit_starts_normal BEFORE INSERT ON unit WHEN NEW.life <> 'normal'
BEGIN SELECT RAISE(ABORT, 'manifest.unit_start: a unit starts with nothing behind it'); END;
CREATE TRIGGER unit_life_follows BEFORE UPDATE OF life ON unit
WHEN NEW.life IS NOT OLD.life AND NEW.life IS NOT (
    SELECT CASE act WHEN 'rma' THEN 'rma' WHEN 'scrap' THEN 'scrapped' WHEN 'replace' THEN 'scrapped' ELSE 'normal' END
    FROM life_act WHERE unit_id = OLD.id ORDER BY id DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'manifest.life_state: what becomes of a unit is an act with a reason and an actor'); END;
CREATE TRIGGER unit_scrapped_is_final BEFORE UPDATE ON unit WHEN OLD.life = 'scrapped'
BEGIN SELECT RAISE(ABORT, 'manifest.unit_scrapped: a unit that is scrapped stays so'); END;

-- Of schema 1: a unit that passed does not change. Now but for its newest act: it changes what the act says and nothing
-- else, and a rework opens it once, as long as the certificate that it gives up is not void.
DROP TRIGGER unit_passed_is_final;
CREATE TRIGGER unit_passed_is_final BEFORE UPDATE ON unit
WHEN OLD.state = 'passed' AND NOT (
    NEW.model IS OLD.model AND NEW.firmware_version IS OLD.firmware_version
    AND NEW.firmware_sha256 IS OLD.firmware_sha256 AND NEW.attempts IS OLD.attempts AND NEW.slot IS OLD.slot
    AND NEW.failure_code IS NULL
    AND EXISTS (
        SELECT 1 FROM life_act WHERE id = (SELECT max(id) FROM life_act WHERE unit_id = OLD.id)
        AND at = NEW.changed_at AND act <> 'void' AND CASE act WHEN 'rework' THEN NEW.state = 'open' AND EXISTS (
                SELECT 1 FROM issuance WHERE id = life_act.issuance_id AND state = 'recorded')
            ELSE NEW.state = 'passed' END))
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: a unit that passed does not change'); END;
-- Of schema 1: the certificate of a unit that passed is not voided. Now but for one that is scrapped.
DROP TRIGGER issuance_passed_stays;
CREATE TRIGGER issuance_passed_stays BEFORE UPDATE OF state ON issuance
WHEN NEW.state = 'void' AND EXISTS (SELECT 1 FROM unit WHERE id = OLD.unit_id AND state = 'passed' AND life <> 'scrapped')
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: the certificate of a unit that passed is not voided'); END;
CREATE TRIGGER issuance_of_the_living BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM unit WHERE id = NEW.unit_id AND life <> 'normal')
BEGIN SELECT RAISE(ABORT, 'manifest.unit_scrapped: a unit that is scrapped or came back gets no certificate'); END;
