"""Firmware bundles: what one says is what it is, and a hostile one ends in one line."""

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.bundles.archive import MAX_MEMBERS, MAX_TOTAL, unzipped, zipped
from firmware_tools.bundles.bundle import Bundle, BundleError, pack, read_contents
from firmware_tools.bundles.manifest_toml import read_manifest, write_manifest
from firmware_tools.bundles.release_signature import read_signatures
from firmware_tools.flashers import FlasherKind
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.testing import signed_bundle, unsigned_image

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
IMAGE = unsigned_image((1, 4, 2, 0))
PLAN = """
product = "sensor"
version = "1.4.2"
minimum_bootloader = "1.0.0"

[flash]
kind = "smp"
chip = "sensor"

[[image]]
name = "app"
file = "build/app.bin"
address = 0
"""
FILES = {"build/app.bin": IMAGE}
FULL = (
    PLAN
    + """
[[unit_data]]
name = "factory-data"
format = "zephyr-nvs"
address = 1
size = 0x2000
[unit_data.options]
sector_size = 4096
[[unit_data.entry]]
key = "factory/serial"
type = "string"
value = "{product_serial}"

[[lock]]
name = "debug"
by = "device"
irreversible = true
[[lock]]
name = "read-out protection"
by = "stm32"
arguments = ["readout", "1"]
irreversible = true
"""
)
ESP_HEADER = bytes((0xE9, 1, 2, 0)) + bytes(8) + bytes((5, 0)) + bytes(10)


@pytest.fixture
def path(tmp_path):
    """Where a bundle is written that is made of members."""
    file = tmp_path / "sensor.bundle"

    def write(content):
        file.write_bytes(content)
        return file

    return write


def members(plan=PLAN, files=FILES):
    with zipfile.ZipFile(io.BytesIO(signed_bundle(plan, files, KEY))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def opened(file):
    return Bundle.open(file, [KEY.public_key()])


def refused(file, code):
    """Return the one line of a refusal."""
    with pytest.raises(BundleError) as caught:
        opened(file)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What a bundle is


def test_a_bundle_says_what_its_plan_said(path):
    bundle = opened(path(signed_bundle(FULL, FILES, KEY)))
    assert (bundle.product, str(bundle.version), str(bundle.minimum_bootloader)) == ("sensor", "1.4.2", "1.0.0")
    assert [(image.name, image.content, image.address) for image in bundle.payload.images] == [("app", IMAGE, 0)]
    assert [(step.name, step.by, step.arguments) for step in bundle.lock_plan] == [
        ("debug", "device", ()),
        ("read-out protection", "stm32", ("readout", "1")),
    ]
    assert bundle.unit_files[0].entries[0].value == "{product_serial}"


def test_a_board_that_runs_it_is_known_by_the_hash_in_its_trailer(path):
    payload = opened(path(signed_bundle(PLAN, FILES, KEY))).payload
    assert (payload.kind, payload.running) == (FlasherKind.SMP, read_mcuboot(IMAGE).sha256)


def test_a_manifest_is_written_so_that_it_is_read_the_same():
    manifest = pack(FULL.encode(), FILES.__getitem__).manifest
    assert read_manifest(write_manifest(manifest)) == manifest


def test_a_bundle_that_is_zipped_again_is_the_same_bundle(path):
    again = io.BytesIO()
    with zipfile.ZipFile(again, "w", zipfile.ZIP_STORED) as archive:
        for name, content in reversed(members().items()):
            archive.writestr(name, content)
    digest = opened(path(signed_bundle(PLAN, FILES, KEY))).digest
    assert opened(path(again.getvalue())).digest == digest


def test_a_signature_more_leaves_it_the_same_bundle(path):
    contents = read_contents(path(signed_bundle(PLAN, FILES, KEY)))
    signature = read_contents(path(signed_bundle(PLAN, FILES, OTHER))).signatures[0]
    bundle = opened(path(contents.signed(signature).packed()))
    assert (bundle.digest, len(bundle.contents.signatures)) == (contents.digest, 2)


def test_the_same_plan_packs_to_the_same_bytes():
    assert pack(PLAN.encode(), FILES.__getitem__).packed() == pack(PLAN.encode(), FILES.__getitem__).packed()


def test_images_that_are_no_secret_are_shown_by_no_repr(path):
    assert len(repr(opened(path(signed_bundle(PLAN, FILES, KEY))))) < 2000


# Who signed it


def test_a_bundle_that_nobody_signed_is_refused(path):
    assert "station firmware sign" in refused(path(pack(PLAN.encode(), FILES.__getitem__).packed()), "bundle.unsigned")


def test_a_bundle_of_another_signer_is_refused(path):
    refused(path(signed_bundle(PLAN, FILES, OTHER)), "bundle.signature")


def test_no_trusted_key_trusts_nobody(path):
    file = path(signed_bundle(PLAN, FILES, KEY))
    with pytest.raises(BundleError, match="none"):
        Bundle.open(file, [])


def test_a_changed_manifest_is_refused(path):
    changed = members()
    changed["bundle.toml"] = changed["bundle.toml"].replace(b'version = "1.4.2"', b'version = "1.4.3"')
    refused(path(zipped(changed)), "bundle.signature")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"signatures": []}',
        b'{"signatures": [{"protected": "e30", "signature": "AA"}]}',
        b'{"signatures": [{"protected": 1, "signature": "AA"}]}',
        b'{"signatures": 1, "signatures": 2}',
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_signature_is_refused(content):
    with pytest.raises(BundleError) as caught:
        read_signatures(content)
    assert caught.value.code == "bundle.signature"


def test_a_signature_made_for_something_else_is_none():
    with pytest.raises(BundleError, match="typ"):  # {"alg":"ES256"}
        read_signatures(b'{"signatures": [{"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AA"}]}')


# Hostile zips


def with_member(name, content=b"x", **changes):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for one, held in members().items():
            archive.writestr(one, held)
        info = zipfile.ZipInfo(name)
        for attribute, value in changes.items():
            setattr(info, attribute, value)
        archive.writestr(info, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "..", ".hidden", "C:\\evil", "a//b", "evil\n", "é", "a" * 200]
)
def test_a_member_that_may_lead_elsewhere_is_refused(path, name):
    refused(path(with_member(name)), "bundle.member")


def test_a_name_that_ends_at_a_null_byte_is_refused(path):
    content = with_member("app2.bin").replace(b"app2.bin", b"ap\x00.evil"[:8])
    refused(path(content), "bundle.member")


def test_a_member_that_the_manifest_does_not_name_is_refused(path):
    assert "app2.bin" in refused(path(with_member("app2.bin")), "bundle.member")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(path):
    refused(path(with_member("app.bin")), "bundle.member")


def test_a_link_is_refused(path):
    content = with_member("link", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert "link" in refused(path(content), "bundle.member")


def test_an_encrypted_member_is_refused(path):
    content = bytearray(with_member("secret"))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.rindex(mark)
        content[at + offset] |= 1
    assert "encrypted" in refused(path(bytes(content)), "bundle.member")


def test_two_names_that_differ_in_case_only_are_refused(path):
    assert "twice" in refused(path(zipped(members() | {"App.bin": b"x"})), "bundle.member")


def test_a_way_of_packing_that_eats_memory_is_refused(path):
    refused(path(with_member("x.bin", bytes(1000), compress_type=zipfile.ZIP_LZMA)), "bundle.member")


def test_a_zip_bomb_is_refused_before_it_takes_memory(path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"bomb{number}", bytes(MAX_TOTAL // 3))
    file = path(out.getvalue())
    tracemalloc.start()
    try:
        refused(file, "bundle.too_large")
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(path):
    content = bytearray(zipped({"bundle.toml": bytes(1_000_000)}))
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<L", content, content.index(mark) + offset, 100)
        struct.pack_into("<L", content, content.index(mark) + offset - 8, zlib.crc32(bytes(100)))
    contents = unzipped(bytes(content), "bomb")
    assert len(contents["bundle.toml"]) == 100


def test_more_members_than_a_bundle_has_are_refused(path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(MAX_MEMBERS + 1):
            archive.writestr(f"m{number}", b"")
    refused(path(out.getvalue()), "bundle.too_large")


def test_a_directory_of_many_megabytes_is_not_read(path):
    entry = b"PK\1\2" + bytes(42)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 200_000 * len(entry), 2, 0)
    refused(path(b"PK" + entry * 200_000 + end), "bundle.too_large")


def test_no_cut_off_bundle_passes(path):
    whole = signed_bundle(PLAN, FILES, KEY)
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        with pytest.raises(BundleError):
            opened(path(whole[:size]))


def test_no_changed_byte_changes_what_is_flashed(path):
    whole = signed_bundle(PLAN, FILES, KEY)
    good = opened(path(whole))
    for at in range(0, len(whole), max(1, len(whole) // 400)):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        with suppress(BundleError):
            bundle = opened(path(bytes(changed)))
            assert bundle.payload == good.payload  # a time stamp, or something else that nobody reads


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", bytes(5000), b"PK\5\6" + bytes(18)])
def test_what_is_no_zip_is_refused(path, content):
    with pytest.raises(BundleError):
        opened(path(content))


def test_a_file_of_signatures_of_megabytes_is_not_read(path):
    many = b'{"signatures": [' + b" " * 100_000 + b"]}"
    assert "longer than 65536" in refused(path(zipped(members() | {"signature.json": many})), "bundle.signature")


def test_a_file_that_is_not_there_is_told():
    refused(Path("/nowhere/sensor.bundle"), "bundle.unreadable")


# Images


def test_a_missing_image_is_refused(path):
    held = members()
    del held["app.bin"]
    assert "app.bin" in refused(path(zipped(held)), "bundle.missing_image")


def test_another_image_than_the_one_that_was_signed_is_refused(path):
    held = members() | {"app.bin": unsigned_image((9, 9, 9, 0))}
    refused(path(zipped(held)), "bundle.digest")


def packed_fault(plan, files):
    with pytest.raises(BundleError) as caught:
        pack(plan.encode(), files.__getitem__, name="plan.toml")
    return caught.value.code, str(caught.value)


def test_an_image_that_is_not_for_mcuboot_is_not_packed():
    assert packed_fault(PLAN, {"build/app.bin": bytes(5000)})[0] == "bundle.image"


def test_a_damaged_image_is_not_packed():
    damaged = bytearray(IMAGE)
    damaged[1000] ^= 1
    assert "damaged" in packed_fault(PLAN, {"build/app.bin": bytes(damaged)})[1]


@pytest.mark.parametrize("size", [4, 31, 40, 4127, 4131, 4160])
def test_a_cut_off_image_is_not_packed(size):
    assert packed_fault(PLAN, {"build/app.bin": IMAGE[:size]})[0] == "bundle.image"


def test_an_image_for_another_chip_is_not_packed():
    plan = PLAN.replace('"smp"', '"esp"').replace('chip = "sensor"', 'chip = "esp32s3"')
    code, said = packed_fault(plan, {"build/app.bin": ESP_HEADER + bytes(1000)})
    assert (code, "esp32c3" in said) == ("bundle.image", True)


def test_an_image_for_the_right_chip_is_packed():
    plan = PLAN.replace('"smp"', '"esp"').replace('chip = "sensor"', 'chip = "esp32c3"')
    contents = pack(plan.encode(), {"build/app.bin": ESP_HEADER + bytes(1000)}.__getitem__)
    assert (contents.payload.chip, contents.payload.running) == ("esp32c3", None)


def test_two_files_of_one_name_in_two_folders_are_packed():
    second = '[[image]]\nname = "network"\nfile = "net core/app.bin"\naddress = 1\n'
    contents = pack((PLAN + second).encode(), (FILES | {"net core/app.bin": IMAGE}).__getitem__)
    assert [image.file for image in contents.manifest.images] == ["app.bin", "network.bin"]


def test_images_that_overlap_are_not_packed():
    second = '[[image]]\nname = "data"\nfile = "d"\naddress = 0x10\n'
    plan = PLAN.replace('"smp"', '"stm32"') + second
    assert "overlap" in packed_fault(plan, FILES | {"d": b"x"})[1]


def test_numbers_of_images_are_no_addresses():
    second = '[[image]]\nname = "network"\nfile = "n"\naddress = 1\n'
    contents = pack((PLAN + second).encode(), (FILES | {"n": IMAGE}).__getitem__)
    assert [image.address for image in contents.payload.images] == [0, 1]


WRONG_PLANS = {
    "no TOML": ("= 1", "not TOML"),
    "no image": (PLAN[: PLAN.index("[[image]]")], "no image"),
    "an unknown key": (PLAN.replace("minimum_bootloader", "min_bootloader"), "min_bootloader"),
    "no version": (PLAN.replace('version = "1.4.2"\n', ""), "'version' is missing"),
    "a version that is none": (PLAN.replace("1.4.2", "v1.4"), "1.4.2-rc.1"),
    "an unknown loader": (PLAN.replace('"smp"', '"jtag"'), "known: smp, esp, stm32, probe"),
    "a negative address": (PLAN.replace("address = 0", "address = -1"), "address"),
    "an address that is a text": (PLAN.replace("address = 0", 'address = "0"'), "address"),
    "two images of one name": (PLAN + '[[image]]\nname = "app"\nfile = "b"\naddress = 1\n', "name 'app'"),
    "a size that is wrong": (PLAN + "size = 5\n", "not what bundle.toml lists"),
    "a lock that is not said to be for good or not": (PLAN + '[[lock]]\nname = "x"\nby = "esp"\n', "irreversible"),
    "a lock of nobody": (PLAN + '[[lock]]\nname = "x"\nby = "me"\nirreversible = true\n', "known: device"),
    "an option that is a table": (PLAN.replace("[[image]]", "[flash.options.a]\nb = 1\n[[image]]"), "'a'"),
    "an option of another loader": (
        PLAN.replace("[[image]]", "[flash.options]\nencrypt = true\n[[image]]"),
        "boot_seconds",
    ),
    "an option of another type": (
        PLAN.replace("[[image]]", '[flash.options]\nboot_seconds = "5"\n[[image]]'),
        "number",
    ),
    "deep nesting": ("a = " + "[" * 5000, "not TOML"),
    "unit data with an unknown fact": (FULL.replace("{product_serial}", "{serial}"), "no fact 'serial'"),
    "a number of thousands of digits": (PLAN.replace("address = 0", "address = " + "9" * 5000), "not TOML"),
    "a number of thousands of hexadecimal digits": (
        PLAN.replace("address = 0", "address = 0x" + "f" * 5000),
        "is too large; write a number from 0 to 4294967295",
    ),
    "a key of thousands of parts": (PLAN + "a." * 5000 + "b = 1", "dots"),
    "an image that ends beyond 32 bits": (
        PLAN.replace('"smp"', '"stm32"').replace("address = 0", "address = 0xfffffff0"),
        "'app' ends beyond 0xffffffff",
    ),
    "unit data in the last sector of an image": (
        PLAN.replace('kind = "smp"\nchip = "sensor"', 'kind = "esp"\nchip = "esp32c3"').replace(
            "address = 0", "address = 0x10000"
        )
        + '[[unit_data]]\nname = "d"\nformat = "cbor"\naddress = 0x11800\nsize = 256\n'
        + '[[unit_data.entry]]\nkey = "a"\ntype = "u8"\nvalue = "1"\n',
        "'app' and 'd' share a sector of 4096 bytes at 0x11800",
    ),
    "a chip that looks like an option": (
        PLAN.replace('kind = "smp"\nchip = "sensor"', 'kind = "probe"\nchip = "--script=x.py"'),
        "'chip' in [flash] is '--script=x.py'",
    ),
    "an option that looks like one of the tool": (
        PLAN.replace('"smp"', '"probe"').replace("[[image]]", '[flash.options]\nconnect = "--x"\n[[image]]'),
        "known: halt, pre-reset",
    ),
    "a board that is waited for for ever": (
        PLAN.replace("[[image]]", "[flash.options]\nboot_seconds = 4294967295\n[[image]]"),
        "write a number from 1 to 3600",
    ),
    "a lock step with another command in it": (
        PLAN + '[[lock]]\nname = "x"\nby = "esp"\nirreversible = true\n'
        'arguments = ["DIS_PAD_JTAG", "1", "burn-key", "BLOCK_KEY0"]\n',
        "[[lock]] 'x': 'burn-key', 'BLOCK_KEY0' are not the name of an eFuse",
    ),
    "one tag of Matter in two spellings": (
        PLAN + '[[unit_data]]\nname = "d"\nformat = "matter-tlv"\naddress = 1\nsize = 256\n'
        '[[unit_data.entry]]\nkey = "1"\ntype = "u8"\nvalue = "1"\n'
        '[[unit_data.entry]]\nkey = "01"\ntype = "u8"\nvalue = "1"\n',
        "'01' is no context tag",
    ),
    "a name that is not printable": (PLAN.replace('"sensor"', '"sen\\u001bsor"', 1), "printable"),
}


@pytest.mark.parametrize(("plan", "told"), WRONG_PLANS.values(), ids=WRONG_PLANS)
def test_a_plan_that_makes_no_sense_is_told_where(plan, told):
    code, said = packed_fault(plan, FILES | {"b": IMAGE})
    assert code in {"bundle.manifest", "bundle.digest"}
    assert told in said
    assert "\n" not in said
