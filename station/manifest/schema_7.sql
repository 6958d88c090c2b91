-- The manifest, schema 7: firmware. Which bundles this line worked by, in the order of time; docs/firmware.md tells what
-- a bundle is. What happened to one board is an event of it (step 'flash'), and no row here. Nothing here asks for
-- schema 2 to 6.

CREATE TABLE firmware (                 -- from now on boards of this product get this bundle
    id            INTEGER PRIMARY KEY,
    product       TEXT NOT NULL CHECK (length(product) BETWEEN 1 AND 32),
    version       TEXT NOT NULL CHECK (length(version) BETWEEN 1 AND 64),
    rank          TEXT NOT NULL     -- the version, written so that texts sort as versions do
                  CHECK (length(rank) BETWEEN 1 AND 512 AND rank NOT GLOB '*[^ -~]*'),
    bundle_sha256 BLOB NOT NULL CHECK (length(bundle_sha256) = 32),     -- what an order names it by
    reason        TEXT NOT NULL CHECK (length(reason) <= 200),  -- why an older version may come back; '': it is none
    at            TEXT NOT NULL
) STRICT;
CREATE INDEX firmware_by_product ON firmware (product, rank);

CREATE TRIGGER firmware_no_replace BEFORE INSERT ON firmware WHEN EXISTS (SELECT 1 FROM firmware WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.firmware_final: what boards got is never replaced'); END;
CREATE TRIGGER firmware_no_rollback BEFORE INSERT ON firmware
WHEN NEW.reason = '' AND EXISTS (SELECT 1 FROM firmware WHERE product = NEW.product AND rank > NEW.rank)
BEGIN SELECT RAISE(ABORT, 'manifest.rollback: a newer version of this product was here'); END;
CREATE TRIGGER firmware_no_update BEFORE UPDATE ON firmware
BEGIN SELECT RAISE(ABORT, 'manifest.firmware_final: what boards got never changes'); END;
CREATE TRIGGER firmware_no_delete BEFORE DELETE ON firmware
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: what boards got is never deleted'); END;
CREATE TRIGGER firmware_journal AFTER INSERT ON firmware
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.at, '', 'firmware', 'journal', json_object(
        'firmware', CAST(NEW.id AS TEXT), 'product', NEW.product, 'version', NEW.version, 'rank', NEW.rank,
        'bundle_sha256', lower(hex(NEW.bundle_sha256)), 'reason', NEW.reason));
END;
