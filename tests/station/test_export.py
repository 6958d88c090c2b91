"""Exports: whole, safe to open in a spreadsheet, and the same as the manifest when read back."""

import csv
import dataclasses
import io
import json
import os
import sys
import tracemalloc
from itertools import repeat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from station.exports import csv as csv_export
from station.exports import jsonl
from station.exports.target import ExportError
from station.exports.units import COLUMNS, locks_text
from station.manifest import Manifest, ManifestReader
from station.manifest.testing import FIRMWARE, ORDER, provision

FORMATS = pytest.mark.parametrize("export", [csv_export.export, jsonl.export], ids=["csv", "jsonl"])


@pytest.fixture
async def units(tmp_path):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        for name in ("a", "b"):
            await provision(manifest, name)
        await manifest.begin(
            hardware_id="open", model="m", firmware_version="1", firmware_sha256=FIRMWARE, slot="1", order=ORDER.name
        )
    with ManifestReader(path) as reader:
        return tuple(reader.export(state=None))


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def read_jsonl(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipe_or_device_is_written_to_and_stays(units, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert jsonl.export(units, pipe) == 3
        assert len(read_jsonl(os.read(reading, 1 << 16).decode())) == 3
    finally:
        os.close(reading)
    assert pipe.is_fifo()


def test_a_symbolic_link_stays_and_its_file_is_replaced(units, tmp_path):
    link, file = tmp_path / "link", tmp_path / "file"
    file.write_text("old")
    link.symlink_to(file)
    jsonl.export(units, link)
    assert link.is_symlink()
    assert len(read_jsonl(file.read_text())) == 3


@pytest.mark.parametrize(("export", "read"), [(csv_export.export, read_csv), (jsonl.export, read_jsonl)])
def test_export_read_back_is_what_the_manifest_has(units, tmp_path, export, read):
    target = tmp_path / "units"
    assert export(units, target) == 3
    with target.open(encoding="utf-8", newline="") as file:
        rows = read(file.read())
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    for row, unit in zip(rows[:2], units[:2], strict=True):
        certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
        assert certificate.public_bytes(Encoding.DER) == unit.certificate
        assert int(row["certificate_serial"], 16) == certificate.serial_number
        assert (row["spki_sha256"], row["firmware_sha256"]) == (unit.spki_sha256.hex(), FIRMWARE.hex())
        assert (row["product_serial"], row["hardware_id"]) == (unit.product_serial, unit.hardware_id)
        assert (row["passed_at"], row["locks"]) == (unit.passed_at, "debug credentials")
        assert not row["mac"]
    assert not rows[2]["certificate"]
    assert not rows[2]["passed_at"]


@FORMATS
def test_a_unit_is_exported_with_its_mac_address(units, export):
    stream = io.StringIO(newline="")
    export([dataclasses.replace(units[0], mac="02:00:00:00:00:01")], stream)
    (row,) = (read_csv if export is csv_export.export else read_jsonl)(stream.getvalue())
    assert row["mac"] == "02:00:00:00:00:01"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_has_no_cell_that_a_spreadsheet_runs(units, start):
    hostile = dataclasses.replace(units[0], model=f"{start}HYPERLINK(1)", hardware_id=f"{start}1")
    stream = io.StringIO(newline="")
    csv_export.export([hostile], stream)
    (row,) = read_csv(stream.getvalue())
    assert row["model"] == f"'{start}HYPERLINK(1)"
    assert row["hardware_id"] == f"'{start}1"


@given(st.text())
def test_csv_cell_is_recovered_by_taking_one_apostrophe_off(text):
    assert csv_export.cell(text).removeprefix("'") == text


@given(st.text())
def test_csv_cell_never_starts_a_formula(text):
    assert not csv_export.cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@FORMATS
def test_export_goes_to_a_stream(units, export, capsys):
    assert export(units, sys.stdout) == 3
    assert "a" in capsys.readouterr().out


@FORMATS
def test_export_that_breaks_off_leaves_the_old_file(units, tmp_path, export):
    target = tmp_path / "units"
    target.write_text("old")

    def broken():
        yield units[0]
        raise LookupError

    with pytest.raises(LookupError):
        export(broken(), target)
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir() if "units" in file.name] == ["units"]


@FORMATS
def test_export_into_a_missing_folder_is_one_clear_line(units, tmp_path, export):
    with pytest.raises(ExportError, match="can't be written"):
        export(units, tmp_path / "missing" / "units")


@FORMATS
def test_export_can_be_read_by_others(units, tmp_path, export):
    export(units, tmp_path / "units")
    assert (tmp_path / "units").stat().st_mode & 0o777 == 0o644


@FORMATS
def test_memory_does_not_grow_with_the_count_of_units(units, tmp_path, export):
    def peak(count):
        tracemalloc.start()
        export((unit for unit, _ in zip(repeat(units[0]), range(count), strict=False)), tmp_path / "units")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(100)
    assert peak(5000) < few + 50_000


@pytest.mark.parametrize(
    ("locks", "text"), [(0, ""), (1, "debug"), (2, "credentials"), (3, "debug credentials"), (9, "debug 0x8")]
)
def test_locks_have_names(locks, text):
    assert locks_text(locks) == text
