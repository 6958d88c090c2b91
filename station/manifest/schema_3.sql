-- Schema 3: the ledger. docs/ledger.md says what it proves and how others check it.
--
-- The events are the leaves of a Merkle tree (RFC 6962 2.1; leaf index = event.id - 1; station/ledger/leaf.py has the
-- bytes of a leaf). The tree's full tiles are kept here, its ragged edge is not: it is made again of the last events.
-- Checkpoints, the signed heads of the tree, are kept here too. And the journal is completed, so that every row of this
-- file can be made again from events: what no event tells, no checkpoint vouches for.

CREATE TABLE ledger_tile (              -- 256 nodes of one level: hash 256 * i is the root of 256^level leaves
    level  INTEGER NOT NULL CHECK (level BETWEEN 0 AND 7),
    number INTEGER NOT NULL CHECK (number >= 0),
    root   BLOB NOT NULL CHECK (length(root) = 32),        -- of the tile: a node of the level above
    hashes BLOB NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (level, number)
) STRICT;

CREATE TABLE ledger_edge (              -- the leaves after the last full tile, as they were at the last checkpoint
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    size   INTEGER NOT NULL CHECK (size > 0),              -- of the tree
    hashes BLOB NOT NULL CHECK (length(hashes) = 32 * (size % 256))
) STRICT;    -- nothing is built on it: an offline check names a changed event with it that no tile holds yet

CREATE TABLE checkpoint (               -- a head of the tree; asked for, and then signed
    id            INTEGER PRIMARY KEY,
    tree_size     INTEGER NOT NULL CHECK (tree_size > 0),
    root          BLOB NOT NULL CHECK (length(root) = 32),
    reason        TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 64 AND reason NOT GLOB '*[^ -~]*'),
    signing_tries INTEGER NOT NULL CHECK (signing_tries > 0),     -- counted before the token is asked
    note          TEXT,                 -- C2SP tlog-checkpoint; NULL: asked for, and never seen
    changed_at    TEXT NOT NULL
) STRICT;

-- Events: a leaf is lines, so no part of an event may hold a line feed.
CREATE TRIGGER event_is_lines BEFORE INSERT ON event
WHEN instr(NEW.slot, char(10)) OR instr(NEW.step, char(10)) OR instr(NEW.kind, char(10)) OR instr(NEW.facts, char(10))
BEGIN SELECT RAISE(ABORT, 'manifest.event_form: no part of an event holds a line feed'); END;

-- The ledger's own rows: appended.
CREATE TRIGGER ledger_tile_follows BEFORE INSERT ON ledger_tile
WHEN EXISTS (SELECT 1 FROM ledger_tile WHERE level = NEW.level AND number = NEW.number)
  OR (NEW.number > 0 AND NOT EXISTS (SELECT 1 FROM ledger_tile WHERE level = NEW.level AND number = NEW.number - 1))
BEGIN SELECT RAISE(ABORT, 'manifest.ledger_final: a tile follows the last one of its level'); END;
CREATE TRIGGER ledger_tile_no_update BEFORE UPDATE ON ledger_tile
BEGIN SELECT RAISE(ABORT, 'manifest.ledger_final: a tile never changes'); END;
CREATE TRIGGER ledger_tile_no_delete BEFORE DELETE ON ledger_tile
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a tile is never deleted'); END;
CREATE TRIGGER ledger_edge_grows BEFORE UPDATE ON ledger_edge WHEN NEW.id IS NOT OLD.id OR NEW.size <= OLD.size
BEGIN SELECT RAISE(ABORT, 'manifest.ledger_final: the edge of the ledger only grows'); END;
CREATE TRIGGER ledger_edge_no_replace BEFORE INSERT ON ledger_edge WHEN EXISTS (SELECT 1 FROM ledger_edge)
BEGIN SELECT RAISE(ABORT, 'manifest.ledger_final: the ledger has one edge'); END;
CREATE TRIGGER ledger_edge_no_delete BEFORE DELETE ON ledger_edge
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: the edge of the ledger is never deleted'); END;

-- Checkpoints: asked for once or more, then signed (final).
CREATE TRIGGER checkpoint_follows BEFORE INSERT ON checkpoint
WHEN NEW.signing_tries <> 1 OR NEW.note IS NOT NULL
  OR NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM checkpoint)      -- given by the writer: it has no value here else
  OR EXISTS (SELECT 1 FROM checkpoint WHERE id = NEW.id - 1 AND tree_size >= NEW.tree_size)
  OR NOT EXISTS (SELECT 1 FROM event WHERE id = NEW.tree_size)
BEGIN SELECT RAISE(ABORT, 'manifest.checkpoint_order: a checkpoint is asked for once, and of a larger tree'); END;
CREATE TRIGGER checkpoint_keeps BEFORE UPDATE ON checkpoint
WHEN NEW.id IS NOT OLD.id OR NEW.tree_size IS NOT OLD.tree_size OR NEW.root IS NOT OLD.root
  OR NEW.reason IS NOT OLD.reason OR OLD.note IS NOT NULL
  OR NOT ((NEW.note IS NULL AND NEW.signing_tries = OLD.signing_tries + 1)
       OR (NEW.note IS NOT NULL AND NEW.signing_tries = OLD.signing_tries AND NEW.changed_at IS OLD.changed_at))
BEGIN SELECT RAISE(ABORT, 'manifest.checkpoint_final: what a checkpoint says never changes'); END;
CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a checkpoint is never deleted'); END;
CREATE TRIGGER checkpoint_journal AFTER INSERT ON checkpoint
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.changed_at, '', 'checkpoint', 'journal', json_object(
        'checkpoint', CAST(NEW.id AS TEXT), 'tree_size', CAST(NEW.tree_size AS TEXT), 'root', lower(hex(NEW.root)),
        'reason', NEW.reason, 'signing_tries', '1'));
END;
CREATE TRIGGER checkpoint_journal_again AFTER UPDATE OF signing_tries ON checkpoint
WHEN NEW.signing_tries > OLD.signing_tries
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.changed_at, '', 'checkpoint', 'journal', json_object(
        'checkpoint', CAST(NEW.id AS TEXT), 'tree_size', CAST(NEW.tree_size AS TEXT), 'root', lower(hex(NEW.root)),
        'reason', NEW.reason, 'signing_tries', CAST(NEW.signing_tries AS TEXT)));
END;

-- The trigger of schema 1 did not tell what the proof itself says. It does now: whoever gets the event of the pass with
-- its place in the tree can check the board's own signature. Seconds have 17 digits: as many as a double needs.
DROP TRIGGER proof_passes;
CREATE TRIGGER proof_passes AFTER INSERT ON proof
BEGIN
    UPDATE unit SET state = 'passed', changed_at = NEW.at
    WHERE id = (SELECT unit_id FROM issuance WHERE id = NEW.issuance_id);
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.at, unit.id, slot, 'pass', 'journal', json_object(
        'issuance', CAST(NEW.issuance_id AS TEXT), 'product_serial', product_serial, 'hardware_id', hardware_id,
        'certificate_sha256', lower(hex(NEW.read_back_sha256)), 'locks', CAST(NEW.locks AS TEXT),
        'challenge', lower(hex(NEW.challenge)), 'message', lower(hex(NEW.message)),
        'signature', lower(hex(NEW.signature)), 'seconds', printf('%!.17g', NEW.seconds))
    FROM unit JOIN issuance ON issuance.unit_id = unit.id WHERE issuance.id = NEW.issuance_id;
END;

-- What older versions wrote without an event gets one now, at the time of the last event.
INSERT INTO event (at, unit_id, slot, step, kind, facts)
SELECT (SELECT at FROM event ORDER BY id DESC LIMIT 1), issuance.unit_id, '', 'proof', 'journal', json_object(
    'issuance', CAST(proof.issuance_id AS TEXT), 'challenge', lower(hex(challenge)), 'message', lower(hex(message)),
    'signature', lower(hex(signature)), 'seconds', printf('%!.17g', seconds))
FROM proof JOIN issuance ON issuance.id = proof.issuance_id ORDER BY proof.issuance_id;
INSERT INTO event (at, slot, step, kind, facts)
SELECT max(since, coalesce((SELECT at FROM event ORDER BY id DESC LIMIT 1), since)), '', 'version', 'journal',
    json_object('id', CAST(id AS TEXT), 'version', version, 'schema', CAST("schema" AS TEXT), 'since', since)
FROM station_version ORDER BY id;

-- Versions write an event from now on; with it goes what sqlite-utils notes of migrations.
CREATE TRIGGER station_version_journal AFTER INSERT ON station_version
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (
        max(NEW.since, coalesce((SELECT at FROM event ORDER BY id DESC LIMIT 1), NEW.since)), '', 'version', 'journal',
        json_object('id', CAST(NEW.id AS TEXT), 'version', NEW.version, 'schema', CAST(NEW."schema" AS TEXT),
            'since', NEW.since, 'migrations', (SELECT group_concat(name || ' ' || applied_at, '; ') FROM (
                SELECT name, applied_at FROM _sqlite_migrations ORDER BY rowid))));
END;
