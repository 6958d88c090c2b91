"""``station manifest export TARGET``, ``exports``, ``import-receipt``, ``import-list``: as somebody types them."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from station.cli.root import root
from station.config.folder import configuration
from station.manifest import Manifest
from station.manifest.testing import ORDER, provision

SLOTS = '[[slot]]\nname = "1"\nport = "/dev/ttyUSB0"\n'


async def fill(path):
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        for name in ("a", "b"):
            await provision(manifest, name)


@pytest.fixture
def line(tmp_path):
    (tmp_path / "station.toml").write_text(configuration(name="line", slots=SLOTS))
    asyncio.run(fill(tmp_path / "manifest.db"))
    return tmp_path


@pytest.fixture
def station(line):
    """Run a command for the line."""

    def run(*words, code=0):
        words = [str(word) for word in (*words, "--config", line / "station.toml")]
        done = CliRunner().invoke(root, words)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return run


def handed(station, line, number=1):
    return station("manifest", "export", "table", "--form", "jsonl", "--to", "erp", "-o", line / f"out-{number}")


def test_an_export_a_receipt_and_the_history_of_a_unit(station, line):
    assert "2 units, not signed; export 1 to erp" in handed(station, line).output
    (line / "said.csv").write_text("name,result,reason\nSN000001,ok,\nSN000002,rejected,exists\n")
    told = station("manifest", "import-receipt", line / "said.csv", "--export", "1").output
    assert told.endswith("said.csv: 1 accepted, 1 rejected; 2 new\n")
    (row,) = station("manifest", "exports", "--json").output.splitlines()
    assert (json.loads(row)["accepted"], json.loads(row)["rejected"]) == (1, 1)
    assert "to erp (jsonl, export 1): rejected exists" in station("unit", "show", "SN000002").output
    (given,) = json.loads(station("unit", "show", "SN000002", "--json").output)["handed_out"]
    assert given["outcome"] == "rejected"


def test_a_receipt_with_an_unknown_unit_writes_nothing_and_names_its_line(station, line):
    handed(station, line)
    (line / "said.csv").write_text("name,result\nSN000001,ok\nSN000777,ok\n")
    done = station("manifest", "import-receipt", line / "said.csv", "--export", "1", code=1)
    assert "said.csv:3: SN000777 is no unit of export 1" in done.output
    assert json.loads(station("manifest", "exports", "--json").output)["accepted"] == 0


def test_a_dry_run_of_a_receipt_writes_nothing(station, line):
    handed(station, line)
    (line / "said.csv").write_text("name,result\nSN000001,ok\n")
    done = station("manifest", "import-receipt", line / "said.csv", "--export", "1", "--dry-run")
    assert "1 accepted, 0 rejected; nothing was written" in done.output
    assert json.loads(station("manifest", "exports", "--json").output)["accepted"] == 0


def test_a_list_with_a_bad_row_is_not_imported(station, line):
    (line / "list.csv").write_text("product_serial,imei\nL1,490154203237518\nL2,490154203237519\nSN000001,\n")
    done = station("manifest", "import-list", line / "list.csv", "--name", "roll", code=1)
    assert "list.csv:3: imei '490154203237519'" in done.output
    assert "list.csv:4: unit a has product_serial SN000001 already" in done.output
    assert station("manifest", "lists", "--json").output == ""


def test_a_list_is_imported_once_and_counts_what_is_used(station, line):
    (line / "list.csv").write_text("product_serial\nSN000003\nSN000004\n")
    dry = station("manifest", "import-list", line / "list.csv", "--name", "roll", "--dry-run").output
    assert "2 good rows in form, 0 bad ones; nothing was imported" in dry
    station("manifest", "import-list", line / "list.csv", "--name", "roll")
    station("manifest", "import-list", line / "list.csv", "--name", "roll", code=1)

    async def one_more():
        with Manifest.open(line / "manifest.db") as manifest:
            await provision(manifest, "c")

    asyncio.run(one_more())
    found = json.loads(station("manifest", "lists", "--json").output)
    assert (found["rows"], found["used"]) == (2, 1)


WRONG = {
    "no such export": (("import-receipt", "said.csv", "--export", "9"), "no export 9 is on record"),
    "no such receipt": (("import-receipt", "none.csv", "--export", "1"), "can't be read"),
    "no such list": (("import-list", "none.csv", "--name", "x"), "can't be read"),
    "list without a name": (("import-list", "said.csv", "--name", ""), "1 to 64 printable"),
    "naming": (("export", "table", "-o", "x", "--name", "SN"), "names no unit"),
    "recipient": (("export", "table", "-o", "x", "--to", "ä"), "1 to 64 printable"),
    "folder that is there": (("export", "table", "-o", "."), "is there already"),
    "folder in no folder": (("export", "table", "-o", "no/such"), "can't be written"),
    "onboarding without a record": (("export", "matter", "-o", "x", "--onboarding"), "needs --to"),
    "jws without a key": (("export", "jws", "-o", "x", "--organization", "y"), "made of signatures"),
    "parcel that is none": (("check-export", ".", "--key", "said.csv"), "not a public key on P-256"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(station, line, monkeypatch, words, sentence):
    monkeypatch.chdir(line)
    (line / "said.csv").write_text("name,result\nSN000001,ok\n")
    handed(station, line)
    before = sorted(entry.name for entry in line.iterdir())
    config = () if words[0] == "check-export" else ("--config", str(line / "station.toml"))
    done = CliRunner().invoke(root, ["manifest", *words, *config])
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(entry.name for entry in line.iterdir()) == before


def test_a_recorded_export_waits_for_another_command(station, line):
    with Manifest.open(line / "manifest.db"):
        done = station("manifest", "export", "table", "--to", "erp", "-o", line / "out", code=1)
        assert "if another command has the manifest, wait for its end" in done.stderr
        station("manifest", "export", "table", "-o", line / "plain")
    assert not (line / "out").exists()
    assert (line / "plain" / "units.csv").exists()


@pytest.mark.parametrize("words", [("csv",), ("table", "-o", "out"), ("table", "--to", "erp", "-o", "out")])
def test_an_order_that_is_not_there_is_named_and_not_taken_for_one_without_units(station, words):
    done = station("manifest", "export", *words, "--order", "WO-9", code=1)
    assert "there is no order 'WO-9' in this manifest" in done.output
