"""Files with the data of one unit: what is known of it arrives at whoever reads them."""

import base64
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import cbor2
import pytest

from firmware_tools.bundles.manifest import UnitEntry, UnitFile, UnitFormat
from firmware_tools.unit_files import (
    FACTS,
    UnitFacts,
    UnitFileError,
    check_unit_file,
    make_unit_file,
    needed_facts,
    values_of,
)
from firmware_tools.unit_files.esp_nvs import as_csv
from firmware_tools.unit_files.matter_setup import MatterSetup, new_setup
from firmware_tools.unit_files.zephyr_nvs import crc8

CERTIFICATE = bytes(range(256)) * 3
SETUP = new_setup()
KNOWN = UnitFacts(
    {
        "product_serial": "SN000001",
        "hardware_id": "HW-1",
        "mac": "02:00:5e:00:00:01",
        "model": "sensor",
        "order": "WO-1",
        "firmware_version": "1.4.2",
        "certificate": CERTIFICATE,
        "issuer_certificate": CERTIFICATE[:400],
        **SETUP.facts(),
    }
)


def plan(form, *entries, size=0x6000, **options):
    return UnitFile("factory-data", form, 0x9000, size, tuple(UnitEntry(*entry) for entry in entries), options)


def refused(code, call, *arguments):
    with pytest.raises(UnitFileError) as caught:
        call(*arguments)
    assert (caught.value.code, "\n" in str(caught.value)) == (code, False)
    return str(caught.value)


ESP = plan(
    UnitFormat.ESP_NVS,
    ("chip-factory/serial-num", "string", "{product_serial}"),
    ("chip-factory/discriminator", "u32", "{matter_discriminator}"),
    ("chip-factory/dac-cert", "bytes", "{certificate}"),
    ("line/station", "i16", "-7"),
    ("chip-factory/label", "string", "{model} {mac}"),
)


# What all formats share


def test_a_file_fills_what_the_bundle_gives_it():
    placed = make_unit_file(ESP, KNOWN)
    assert (len(placed.content), placed.address, placed.name) == (0x6000, 0x9000, "factory-data")


def test_a_file_with_a_passcode_is_a_secret():
    form = UnitFormat.CBOR
    assert make_unit_file(plan(form, ("passcode", "u32", "{matter_passcode}")), KNOWN).is_secret
    assert not make_unit_file(plan(form, ("sn", "string", "{product_serial}")), KNOWN).is_secret


def test_no_secret_is_shown_by_a_repr():
    secret = plan(UnitFormat.CBOR, ("p", "u32", "{matter_passcode}"), ("v", "bytes", "{matter_verifier}"))
    shown = f"{values_of(secret, KNOWN)!r} {make_unit_file(secret, KNOWN)!r} {SETUP!r} {KNOWN!r}"
    assert str(SETUP.passcode) not in shown
    assert repr(SETUP.verifier)[2:20] not in shown


def test_a_fact_that_is_not_known_yet_is_told():
    facts = UnitFacts({"hardware_id": "HW-1"})
    assert "product_serial" in refused("unit_file.fact_missing", make_unit_file, ESP, facts)


def test_a_line_can_see_before_which_facts_it_needs():
    assert needed_facts(ESP) == {"product_serial", "matter_discriminator", "certificate", "model", "mac"}


def test_a_fact_that_does_not_fit_its_type_is_told():
    small = plan(UnitFormat.CBOR, ("d", "u8", "{matter_passcode}"))
    refused("unit_file.value", make_unit_file, small, UnitFacts({"matter_passcode": 300}))


@pytest.mark.parametrize("kind", ["string", "bytes"])
def test_a_fact_that_can_not_be_written_is_told(kind):
    broken = b"SN\xff".decode(errors="surrogateescape")  # as it comes in from a command line
    wanted = plan(UnitFormat.CBOR, ("serial", kind, "{product_serial}"))
    refused("unit_file.value", make_unit_file, wanted, UnitFacts({"product_serial": broken}))


def test_every_fact_can_be_named():
    kinds = {str: "string", int: "u32", bytes: "bytes"}
    entries = [(name, kinds[kind], f"{{{name}}}") for name, kind in FACTS.items()]
    made = cbor2.loads(make_unit_file(plan(UnitFormat.CBOR, *entries), KNOWN).content)
    assert made == dict(KNOWN.values)


@pytest.mark.parametrize("form", UnitFormat)
def test_data_that_do_not_fit_are_told(form):
    keys = {UnitFormat.ESP_NVS: "a/{}", UnitFormat.MATTER_TLV: "{}"}
    entries = [(keys.get(form, "k{}").format(number), "bytes", "{certificate}") for number in range(60)]
    small = plan(form, *entries, size=0x3000)
    check_unit_file(small)
    refused("unit_file.too_large", make_unit_file, small, KNOWN)


WRONG = {
    "nothing in it": plan(UnitFormat.CBOR),
    "a key twice": plan(UnitFormat.CBOR, ("a", "u8", "1"), ("a", "u8", "2")),
    "an unknown type": plan(UnitFormat.CBOR, ("a", "float", "1")),
    "an unknown fact": plan(UnitFormat.CBOR, ("a", "string", "{serial}")),
    "a certificate as a text": plan(UnitFormat.CBOR, ("a", "string", "{certificate}")),
    "a certificate as a number": plan(UnitFormat.CBOR, ("a", "u8", "{certificate}")),
    "two facts in a number": plan(UnitFormat.CBOR, ("a", "u8", "{mac}{mac}")),
    "bytes that are no hex": plan(UnitFormat.CBOR, ("a", "bytes", "hex:zz")),
    "a number too large": plan(UnitFormat.CBOR, ("a", "u8", "256")),
    "a negative number without a sign": plan(UnitFormat.CBOR, ("a", "u8", "-1")),
    "an option of another format": plan(UnitFormat.CBOR, ("a", "u8", "1"), sector_size=4096),
    "no namespace": plan(UnitFormat.ESP_NVS, ("serial", "u8", "1")),
    "a key too long for ESP-IDF": plan(UnitFormat.ESP_NVS, ("a/sixteen-letters1", "u8", "1")),
    "a part of a page": plan(UnitFormat.ESP_NVS, ("a/b", "u8", "1"), size=0x5800),
    "no tag": plan(UnitFormat.MATTER_TLV, ("serial", "u8", "1")),
    "a tag too large": plan(UnitFormat.MATTER_TLV, ("256", "u8", "1")),
    "one sector": plan(UnitFormat.ZEPHYR_NVS, ("a", "u8", "1"), size=4096),
    "a part of a sector": plan(UnitFormat.ZEPHYR_NVS, ("a", "u8", "1"), size=9000),
    "a write block that flash does not have": plan(UnitFormat.ZEPHYR_NVS, ("a", "u8", "1"), write_block=3),
    "a CRC that is a number": plan(UnitFormat.ZEPHYR_NVS, ("a", "u8", "1"), data_crc=1),
    "an unknown option": plan(UnitFormat.ZEPHYR_NVS, ("a", "u8", "1"), sectors=4),
    "a name with '='": plan(UnitFormat.ZEPHYR_NVS, ("a=b", "u8", "1")),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_plan_that_could_make_no_file_is_refused_before_there_is_a_unit(wrong):
    assert "factory-data" in refused("unit_file.invalid", check_unit_file, wrong)


# ESP-IDF


def test_espressifs_generator_makes_the_same_partition_of_our_csv(tmp_path):
    (tmp_path / "in.csv").write_text(as_csv(values_of(ESP, KNOWN)))
    command = [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", "in.csv", "out.bin", "0x6000"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "out.bin").read_bytes() == make_unit_file(ESP, KNOWN).content


def test_the_values_stand_in_the_partition():
    content = make_unit_file(ESP, KNOWN).content
    assert all(held in content for held in (b"SN000001\0", CERTIFICATE, b"chip-factory\0", b"sensor 02:00:5e"))


# Zephyr: read as its nvs_mount and settings_nvs_load do


class Nvs:
    """Reads an NVS, as subsys/fs/nvs of Zephyr does after it was mounted."""

    def __init__(self, content, sector, block=4, *, has_crc=False):
        self.has_crc = has_crc
        self.entries = {}
        self.sectors = [content[at : at + sector] for at in range(0, len(content), sector)]
        step = -(-8 // block) * block
        for held in self.sectors:
            at = sector - 2 * step
            while at >= 0 and held[at : at + 8] != b"\xff" * 8:
                number, offset, length, part, crc = struct.unpack_from("<HHHBB", held, at)
                assert (part, crc) == (0xFF, crc_of(held[at : at + 7]))
                assert offset % block == 0
                assert offset + length < at
                self.entries[number] = self.checked(held[offset : offset + length])
                at -= step
        self.closed = [held[-step:][:8] != b"\xff" * 8 for held in self.sectors]

    def checked(self, stored):
        if not self.has_crc or not stored:
            return stored
        assert zlib.crc32(stored[:-4]) == int.from_bytes(stored[-4:], "little")
        return stored[:-4]

    def settings(self):
        last = int.from_bytes(self.entries[0x8000], "little")
        names = range(0x8001, last + 1)
        return {self.entries[number].decode(): self.entries[number + 0x4000] for number in names}


def crc_of(data):
    """CRC-8 as a polynomial division over GF(2), so that it is not the code under test once more."""
    number = int.from_bytes(data) << 8 ^ 0xFF << 8 * len(data)
    for bit in range(8 * len(data) + 7, 7, -1):
        if number >> bit & 1:
            number ^= 0x107 << bit - 8
    return number


ZEPHYR = plan(
    UnitFormat.ZEPHYR_NVS,
    ("factory/serial", "string", "{product_serial}"),
    ("factory/number", "u32", "70000"),
    ("factory/certificate", "bytes", "{certificate}"),
)
SETTINGS = {
    "factory/serial": b"SN000001",
    "factory/number": (70000).to_bytes(4, "little"),
    "factory/certificate": CERTIFICATE,
}


@pytest.mark.parametrize(("data", "crc"), [(b"\0", 0xF3), (b"A", 0x33), (b"123456789", 0xFB)])
def test_the_crc_is_the_one_that_zephyrs_own_tests_have(data, crc):
    assert (crc8(data), crc_of(data)) == (crc, crc)


@pytest.mark.parametrize("block", [1, 4, 8, 16])
@pytest.mark.parametrize("has_crc", [False, True])
def test_zephyr_finds_its_settings(block, has_crc):
    held = make_unit_file(replace(ZEPHYR, options={"write_block": block, "data_crc": has_crc}), KNOWN).content
    store = Nvs(held, 4096, block, has_crc=has_crc)
    assert store.settings() == SETTINGS
    assert store.closed == [False] * 6


def test_settings_that_fill_a_sector_go_on_in_the_next():
    entries = [(f"certificate/{number}", "bytes", "{certificate}") for number in range(9)]
    store = Nvs(make_unit_file(plan(UnitFormat.ZEPHYR_NVS, *entries, size=0x4000), KNOWN).content, 4096)
    assert store.settings() == {name: CERTIFICATE for name, _, _ in entries}
    assert store.closed == [True, False, False, False]


def test_one_sector_stays_free_for_zephyrs_garbage_collection():
    entries = [(f"certificate/{number}", "bytes", "{certificate}") for number in range(9)]
    refused("unit_file.too_large", make_unit_file, plan(UnitFormat.ZEPHYR_NVS, *entries, size=0x2000), KNOWN)


def test_an_empty_setting_is_refused():
    empty = plan(UnitFormat.ZEPHYR_NVS, ("a", "bytes", "hex:"))
    refused("unit_file.value", make_unit_file, empty, KNOWN)


# Matter


def test_the_verifier_is_that_of_matters_own_tool():
    """Passcode, salt and verifier stand in connectedhomeip's guide for NXP; its spake2p made the verifier."""
    salt = base64.b64decode("UXKLzwHdN3DZZLBaL2iVGhQi/OoQwIwJRQV4rpEalbA=")
    verifier = base64.b64decode(
        "ivD5n3L2t5+zeFt6SjW7BhHRF30gFXWZVvvXgDxgCNcE+BGuTA5AUaVm3qDZBcMMKn1a6CakI4SxyPUnJr0CpJ4pwpr0DvpTlkQKqaRvkOQf"
        "AQ1XDyf55DuavM5KVGdDrg=="
    )
    assert MatterSetup(14014, 1000, salt, 10_000).verifier == verifier


def test_no_passcode_is_one_that_everybody_guesses():
    drawn = iter([11_111_110, 12_345_677, 0, 0, 0])
    assert new_setup(lambda _: next(drawn)).passcode == 1


def test_two_units_share_neither_passcode_nor_salt():
    one, two = new_setup(), new_setup()
    assert one.salt != two.salt
    assert one.passcode != two.passcode
