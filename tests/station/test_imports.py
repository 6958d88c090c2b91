"""Receipts and lists: every bad row is named, and then nothing is written."""

import json
from dataclasses import replace
from functools import partial

import pytest

from station.errors import StationError
from station.exports.handover import Terms, hand_over
from station.exports.naming import Naming
from station.exports.tables import Form, Table
from station.imports.lists import ImportRefused, read_list
from station.imports.matching import Part, match
from station.imports.receipts import read_receipt
from station.manifest import Manifest, ManifestReader
from station.manifest.book import OwnBook
from station.manifest.handing import Lacking, ListRow, Outcome, add_list, export_of, lists, taken
from station.manifest.testing import ORDER, provision


@pytest.fixture
async def line(tmp_path):
    """A manifest with one export of three units, called ``dev-a`` to ``dev-c``."""
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        for name in ("a", "b", "c"):
            await provision(manifest, name)
        with ManifestReader(path) as reader:
            units = reader.export(lacking=Lacking("jsonl", "cloud"))
            target = Table(Form.JSONL, Naming.parse("dev-{hardware_id}"))
            hand_over(target, units, tmp_path / "out", Terms("cloud"), book=OwnBook(manifest))
    return path


@pytest.fixture
def receive(line, tmp_path):
    """Match a receipt's text with the export."""

    def run(text, **part):
        file = tmp_path / "receipt"
        file.write_text(text, newline="")
        with ManifestReader(line) as reader:
            return match(reader, export_of(reader, 1), read_receipt(file), Part(**part))

    return run


def said(matched):
    return {verdict.member.hardware_id: (verdict.outcome.value, verdict.reason) for verdict in matched.verdicts}


FORMS = {
    "csv by name": "device_id,result,reason\ndev-a,accepted,\ndev-b,rejected,exists\n",
    "csv by serial": "reason,product_serial,result\n,SN000001,OK\nexists,SN000002,error\n",
    "csv by hardware id": 'hardware_id,result,reason\r\n"a",Success,\r\n"b",Failed,exists\r\n',
    "nrf cloud utils": "dev-a,OK\ndev-b,exists\n",
    "aws": '{"lineNumber":1,"response":{}}\n{"lineNumber":2,"errorMessage":"exists"}\n',
    "azure": json.dumps(
        {
            "isSuccessful": False,
            "errors": [
                {"registrationId": "dev-a", "errorCode": 200, "errorStatus": "Succeeded"},
                {"registrationId": "dev-b", "errorStatus": "exists"},
            ],
        }
    ),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_receipt_in_the_form_of_its_cloud_is_brought_to_its_units(receive, text):
    matched = receive(text)
    assert matched.faults == ()
    assert said(matched) == {"a": ("accepted", ""), "b": ("rejected", "exists")}


def test_a_summary_of_errors_counts_rows_from_0_and_leaves_the_rest_to_be_said(receive):
    text = json.dumps({"errors": ["[1]: Device already exists", "[2]: bad certificate"]})
    wanted = {"b": ("rejected", "Device already exists"), "c": ("rejected", "bad certificate")}
    assert said(receive(text)) == wanted
    assert said(receive(text, rest=Outcome.ACCEPTED)) == {**wanted, "a": ("accepted", "")}


UNKNOWN = {
    "name": ("device_id,result\ndev-a,ok\ndev-z,ok\nz,ok\n", [3, 4]),
    "serial": ("product_serial,result\nSN000009,ok\n", [2]),
    "row": (json.dumps({"errors": ["[3]: x"]}), [1]),
    "twice": ("device_id,result\ndev-a,ok\ndev-a,rejected\n", [3]),
    "no result": ("device_id,result\ndev-a,perhaps\n", [2]),
    "cells": ("device_id,result\ndev-a\n", [2]),
    "no index": (json.dumps({"errors": ["x"]}), [1]),
    "no line number": ('{"lineNumber":true}\n', [1]),
}


@pytest.mark.parametrize(("text", "lines"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_a_receipt_says_of_nobody_is_named_with_its_line(receive, text, lines):
    assert [fault.line for fault in receive(text).faults] == lines


@pytest.mark.parametrize(
    "text", ["", "name\nx\n", "{", "a,b,c\n", '{"x":1}\n[]\n{', "\udce9".encode("utf-8", "surrogatepass")]
)
def test_what_is_no_receipt_is_refused(receive, tmp_path, text):
    file = tmp_path / "receipt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ImportRefused):
        read_receipt(file)


def test_a_receipt_about_one_of_several_files_has_to_say_which(line, tmp_path):
    file = tmp_path / "receipt"
    file.write_text(json.dumps({"errors": ["[0]: x"]}))
    with ManifestReader(line) as reader:
        record = export_of(reader, 1)
        large = type(record)(1, "nrfcloud", "x", "{hardware_id}", 2001, "", "", 0, 0)
        with pytest.raises(StationError, match="say which with --file"):
            match(reader, large, read_receipt(file), Part())
        with pytest.raises(StationError, match="has 3 files, no file 4"):
            match(reader, large, read_receipt(file), Part(file=4))


def listed(tmp_path, text):
    file = tmp_path / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(file)


def test_a_list_is_read_in_one_spelling(tmp_path):
    text = "\ufeffmac,product_serial,imei\r\n02-AA-BB-CC-DD-01,SN1,490154203237518\r\n02aa.bbcc.dd02,,\r\n\r\n,SN3,\r\n"
    found = listed(tmp_path, text)
    assert found.faults == ()
    assert [row for _, row in found.rows] == [
        ListRow("SN1", "02:aa:bb:cc:dd:01", "490154203237518"),
        ListRow(None, "02:aa:bb:cc:dd:02", None),
        ListRow("SN3", None, None),
    ]


BAD_ROWS = {
    "imei digit": ("imei\n490154203237519\n", "check digit"),
    "imei short": ("imei\n4901542032\n", "15 digits"),
    "mac multicast": ("mac\n01:00:5e:00:00:01\n", "no address of one device"),
    "mac zero": ("mac\n00:00:00:00:00:00\n", "no address of one device"),
    "mac mixed": ("mac\n02-aa:bb-cc-dd-01\n", "six pairs"),
    "serial too long": (f"product_serial\n{'S' * 65}\n", "1 to 64"),
    "serial control": ("product_serial\nS\x1b[2J\n", "1 to 64"),
    "cells": ("product_serial,mac\nSN1\n", "has 1 cells"),
    "nothing": ("product_serial,mac\nSN1,\n , \n,\n", None),
    "same serial": ("product_serial\nSN1\nSN1\n", "stands in line 2 already"),
    "same mac": ("mac\n02aabbccdd01\n02:AA:bb:cc:dd:01\n", "stands in line 2 already"),
}


@pytest.mark.parametrize(("text", "why"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_with_its_line(tmp_path, text, why):
    found = listed(tmp_path, text)
    assert [why in fault.text for fault in found.faults] == ([] if why is None else [True])
    assert all(fault.text.isprintable() for fault in found.faults)


@pytest.mark.parametrize(
    "text",
    ["", "serial\nx\n", "product_serial,product_serial\n", b"product_serial\n\xff\n", 'product_serial\n"x', "note\n"],
)
def test_what_is_no_list_is_refused(tmp_path, text):
    with pytest.raises(ImportRefused):
        listed(tmp_path, text)


def test_identities_that_are_on_record_are_named(line):
    rows = [(2, ListRow("SN000001", None, None)), (3, ListRow("SN000777", None, None))]
    with ManifestReader(line) as reader:
        assert list(taken(reader, rows)) == [(2, "unit a has product_serial SN000001 already")]


async def test_addresses_and_serials_of_units_and_of_the_desk_are_named(tmp_path):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        terms = replace(ORDER, mac_first="02:00:00:00:00:01")
        await manifest.open_order(terms)
        await provision(manifest, "a")
        manifest.take_desk_serial(terms, b"k" * 32)
        rows = [ListRow(None, "02:00:00:00:00:01", None), ListRow("SN000002", "02:00:00:00:00:02", None)]
        with ManifestReader(path) as reader:
            assert list(taken(reader, enumerate(rows, 2))) == [
                (2, "unit a has mac 02:00:00:00:00:01 already"),
                (3, "the desk of order order-1 gave out product_serial SN000002 already"),
                (3, "the desk of order order-1 gave out mac 02:00:00:00:00:02 already"),
            ]
        manifest.perform_blocking(partial(add_list, name="roll", rows=rows, source=bytes(32)))
    with ManifestReader(path) as reader:
        assert [record.used for record in lists(reader)] == [2]
