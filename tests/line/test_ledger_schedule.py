"""The line seals its own events, and does not run on a manifest that is not the newest one."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from hsm.data_objects import write_note
from station.config import load
from station.config.folder import make_line
from station.ledger.errors import LedgerError, LedgerForked, RolledBack
from station.ledger.keying import read_ledger_key
from station.ledger.ledger import Ledger
from station.ledger.verify import verify
from station.line.daemon import run_station
from station.testing.orders import reorder


@pytest.fixture
def line(tmp_path):
    """A line with one virtual board."""
    make_line(tmp_path / "line", ca_name="DEVELOPMENT ONLY", boards=1)
    return load(tmp_path / "line" / "station.toml")


def test_a_batch_ends_with_a_checkpoint_over_all_of_it(line):
    assert run_station(line, once=True).passed == 1
    verdict = verify(line.station.manifest, [read_ledger_key(line.ledger.key)])
    assert verdict.sound
    assert verdict.events - verdict.sealed == 1  # the event of the checkpoint itself


def test_a_line_with_a_manifest_of_yesterday_refuses_to_run(line):
    manifest = line.station.manifest
    run_station(line, once=True)
    shutil.copy(manifest, manifest.with_name("yesterday"))
    run_station(line, once=True)
    shutil.copy(manifest.with_name("yesterday"), manifest)
    with pytest.raises(RolledBack, match="older copy"):
        run_station(line, once=True)


def test_a_second_copy_of_the_manifest_at_work_with_the_token_stops_the_line(line, monkeypatch):
    run_station(line, once=True)
    seal = Ledger.seal

    def after_the_twin(ledger, reason):
        if reason == "interval":  # as if a copy of the manifest sealed elsewhere, once this line was checked
            anchors = ledger.anchors
            for signer in anchors._signers:
                write_note(signer, anchors._label, b"the twin's")
        return seal(ledger, reason)

    monkeypatch.setattr(Ledger, "seal", after_the_twin)
    with pytest.raises(LedgerForked):
        run_station(line)


def test_a_line_without_a_ledger_key_runs_and_seals_nothing(line):
    line.ledger.key.unlink()  # to which the rehearsal's order was bound
    reorder(line.path, "WO-2")
    assert run_station(load(line.path), once=True).passed == 1
    assert not line.station.manifest.with_name("manifest.db.checkpoint").exists()


def forget_checkpoints(manifest):
    """Take the checkpoints out, as a database shell can; the triggers stay as they were."""
    with closing(sqlite3.connect(manifest, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM checkpoint")
        for _, sql in triggers:
            connection.execute(sql)


def test_a_line_whose_ledger_key_is_gone_refuses_a_manifest_that_was_sealed(line):
    run_station(line, once=True)
    line.ledger.key.unlink()
    forgets = (
        lambda: None,
        lambda: forget_checkpoints(line.station.manifest),
        line.station.manifest.with_name("manifest.db.checkpoint").unlink,  # the token remembers
    )
    for forget in forgets:
        forget()
        with pytest.raises(LedgerError) as gone:
            run_station(line, once=True)
        assert gone.value.code == "ledger.key_gone"
