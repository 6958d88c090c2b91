"""The data of one unit, read by what others wrote: Matter's own TLV reader, and cbor2."""

import cbor2
from chip.tlv import TLVReader, uint

from firmware_tools.bundles.manifest import UnitEntry, UnitFile, UnitFormat
from firmware_tools.unit_files import UnitFacts, make_unit_file

FACTS = UnitFacts({"product_serial": "SN000001", "certificate": bytes(range(256)) * 3})
ENTRIES = {
    "0": ("string", "{product_serial}", "SN000001"),
    "1": ("u8", "7", 7),
    "2": ("u16", "300", 300),
    "3": ("u32", "70000", 70000),
    "4": ("u64", "5000000000", 5_000_000_000),
    "5": ("i8", "-128", -128),
    "6": ("i64", "-129", -129),
    "7": ("bytes", "{certificate}", bytes(range(256)) * 3),
    "255": ("bytes", "hex:", b""),
}


def content(form):
    entries = tuple(UnitEntry(key, kind, value) for key, (kind, value, _) in ENTRIES.items())
    return make_unit_file(UnitFile("f", form, 0, 0x1000, entries), FACTS).content


def test_matters_own_reader_finds_the_values():
    read = TLVReader(content(UnitFormat.MATTER_TLV).rstrip(b"\xff")).get()["Any"]
    assert read == {int(key): value for key, (_, _, value) in ENTRIES.items()}
    assert [type(read[tag]) for tag in (1, 5)] == [uint, int]


def test_cbor_ends_where_erased_flash_begins():
    with_flash_behind = content(UnitFormat.CBOR)
    assert cbor2.loads(with_flash_behind) == {key: value for key, (_, _, value) in ENTRIES.items()}
