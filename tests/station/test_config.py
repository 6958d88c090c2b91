"""``station.config``: each bad file has its exact line."""

import re
from pathlib import Path

import pytest

from firmware_tools.virtual_line.personas import PERSONAS
from station import config
from station.config import languages
from station.config.languages import PERSONA_DRIVERS
from station.devices import Capability, Locks
from station.errors import ConfigError
from station.line.drivers import DRIVERS

GOOD = """\
# A station.
[station]
id = 7
name = "line-1"
manifest = "manifest.db"
transcripts = "/var/log/station"

[ca]
token = "pkcs11:token=intermediate?pin-source=file:/etc/station/pin"
certificate = "ca/intermediate.pem"
root = "ca/root.pem"
profile = "idevid"
environment = { SOFTHSM2_CONF = "tokens/softhsm2.conf", LOG = "3" }

[order]
name = "WO-1001"
trusted = ["oem.pem"]
approvals = 1

[product]
model = "reference-device"
firmware_version = "1.2.0"
locks = ["debug", "credentials"]

[[slot]]
name = "1"
port = "/dev/ttyUSB0"  # the left one

[[slot]]
name = "2"
usb = "1-1.4:1.0"
baud = 921600
"""


def line_of(text: str) -> int:
    """Return the number of the line of ``GOOD`` that begins with a text."""
    return next(number for number, line in enumerate(GOOD.split("\n"), start=1) if line.startswith(text))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file as station.toml into the folder where the test stands."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str | bytes) -> Path:
        path = Path("station.toml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def test_a_whole_file_is_read(write, tmp_path):
    read = config.load(write(GOOD))

    assert read == config.Config(
        path=tmp_path / "station.toml",
        station=config.StationSection(
            id=7, name="line-1", manifest=tmp_path / "manifest.db", transcripts=Path("/var/log/station")
        ),
        ca=config.CaSection(
            token="pkcs11:token=intermediate?pin-source=file:/etc/station/pin",  # noqa: S106 (a URI)
            certificate=tmp_path / "ca/intermediate.pem",
            root=tmp_path / "ca/root.pem",
            profile="idevid",
            environment={"SOFTHSM2_CONF": str(tmp_path / "tokens/softhsm2.conf"), "LOG": "3"},
            journal=tmp_path / "ca/ca.db",
            tokens=config.TokensSection(("pkcs11:token=intermediate?pin-source=file:/etc/station/pin",)),
        ),
        order=config.OrderSection(name="WO-1001", trusted=(tmp_path / "oem.pem",), approvals=1),
        product=config.ProductSection(
            model="reference-device",
            firmware_version="1.2.0",
            firmware_sha256=None,
            locks=Locks.DEBUG | Locks.CREDENTIALS,
        ),
        slots=(
            config.SlotConfig(name="1", port="/dev/ttyUSB0", usb=None, baud=115200, driver="smp"),
            config.SlotConfig(name="2", port=None, usb="1-1.4:1.0", baud=921600, driver="smp"),
        ),
        rehearsal=None,
        ledger=config.LedgerSection(key=tmp_path / "ca/ledger.pem"),
    )


def test_a_product_of_modems_says_what_it_accepts_and_where_keys_go(write):
    more = 'locks = []\naccepts = ["attestation", "digest"]\nsec_tag = 42\n'
    text = GOOD.replace('locks = ["debug", "credentials"]\n', more).replace("baud = 921600", 'driver = "nordic_at"')
    read = config.load(write(text))
    assert read.product.accepts == Capability.COMPARE | Capability.ATTEST
    assert read.product.sec_tag == 42
    assert read.slots[1].driver == "nordic_at"


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ('accepts = ["atestation"]', "'atestation' can't be accepted; did you mean 'attestation'?"),
        ("accepts = true", "'accepts' in [product] must be a list, not true or false"),
        ("sec_tag = 4294967294", "'sec_tag' in [product] is 4294967294; write a number from 0 to 2147483647"),
    ],
)
def test_what_a_product_can_not_accept_is_named(write, key, fault):
    text = GOOD.replace('locks = ["debug', f'{key}\nlocks = ["debug')
    with pytest.raises(ConfigError) as refused:
        config.load(write(text))
    assert fault in str(refused.value)


def test_a_persona_that_is_none_is_named(write):
    text = GOOD[: GOOD.index("[[slot]]")] + '[rehearsal]\nboards = 3\npersona = "nrf92"\n'
    with pytest.raises(ConfigError, match="unknown persona 'nrf92'; did you mean 'nrf91'"):
        config.load(write(text))


def test_each_driver_and_each_persona_of_the_file_is_there():
    assert set(DRIVERS) == set(languages.DRIVERS)
    assert PERSONA_DRIVERS.keys() == PERSONAS.keys()
    files = {name for name in PERSONA_DRIVERS.values() if Path(name).is_file()}
    assert set(PERSONA_DRIVERS.values()) <= set(DRIVERS) | files


def test_a_driver_file_is_relative_to_the_configuration(write, tmp_path):
    read = config.load(write(GOOD.replace("baud = 921600", 'driver = "drivers/widget.toml"')))
    assert read.slots[1].driver == str(tmp_path / "drivers" / "widget.toml")


def test_a_driver_that_is_none_is_named(write):
    text = GOOD.replace("baud = 921600", 'driver = "zephyr_shel"')
    with pytest.raises(ConfigError, match="did you mean 'zephyr_shell'"):
        config.load(write(text))


def test_a_rehearsal_needs_no_slots(write, tmp_path):
    text = GOOD[: GOOD.index("[[slot]]")] + "[rehearsal]\nboards = 3\n"

    read = config.load(write(text))

    assert read.slots == ()
    assert read.rehearsal == config.RehearsalSection(boards=3, directory=tmp_path / "boards")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("./module.conf", "{folder}/module.conf"),
        ("tokens/softhsm2.conf", "{folder}/tokens/softhsm2.conf"),
        ("/etc/softhsm2.conf", "/etc/softhsm2.conf"),
        ("file:tokens/x", "file:tokens/x"),
        ("http://127.0.0.1:12345/x", "http://127.0.0.1:12345/x"),
        ("module.conf", "module.conf"),
    ],
)
def test_an_environment_value_is_a_path_by_its_form_alone(write, tmp_path, value, meaning):
    text = GOOD.replace("tokens/softhsm2.conf", value)

    assert config.load(write(text)).ca.environment["SOFTHSM2_CONF"] == meaning.format(folder=tmp_path)


def test_the_limits_of_a_station_are_read(write):
    text = GOOD.replace("[ca]", "transcripts_limit = 64\nnew_units_per_minute = 40\n\n[ca]", 1)

    station = config.load(write(text)).station

    assert (station.transcripts_limit, station.new_units_per_minute) == (64 << 20, 40)


@pytest.mark.parametrize("line", ["transcripts_limit = 1", "new_units_per_minute = 0", 'new_units_per_minute = "many"'])
def test_a_limit_that_would_stop_the_line_is_refused(write, line):
    with pytest.raises(ConfigError, match=line.split()[0]):
        config.load(write(GOOD.replace("[ca]", f"{line}\n\n[ca]", 1)))


@pytest.mark.parametrize("port", ["socket://127.0.0.1:4000", "rfc2217://host:2217"])
def test_a_port_may_be_a_url(write, port):
    assert config.load(write(GOOD.replace("/dev/ttyUSB0", port))).slots[0].port == port


BAD = {
    "unknown key": (
        ("baud = 921600", "baudrate = 921600"),
        "station.toml:<baud>: unknown key 'baudrate' in [[slot]]; did you mean 'baud'?",
    ),
    "unknown key with no likeness": (
        ('name = "WO-1001"', 'name = "WO-1001"\nzzz = 1'),
        "station.toml:<trusted>: unknown key 'zzz' in [order]; known: name, trusted, approvals, numbers_per_note",
    ),
    "unknown section": (
        ("[order]", "[orders]"),
        "station.toml:<[order]>: unknown section 'orders' at the top of the file; did you mean 'order'?",
    ),
    "wrong type": (
        ("id = 7", 'id = "7"'),
        "station.toml:<id>: 'id' in [station] must be a whole number, not text; write id = 1",
    ),
    "a truth value is no number": (
        ("id = 7", "id = true"),
        "station.toml:<id>: 'id' in [station] must be a whole number, not true or false; write id = 1",
    ),
    "a date is no text": (
        ('"line-1"', "2026-01-01"),
        "station.toml:<name>: 'name' in [station] must be text, not a date or time",
    ),
    "a table is no section list": (
        ("[product]", "[[product]]"),
        "station.toml:<[product]>: 'product' must be a section, not a list",
    ),
    "out of range": (
        ("id = 7", "id = 128"),
        "station.toml:<id>: 'id' in [station] is 128; write a number from 1 to 127",
    ),
    "a term of the order": (
        ("approvals = 1", "quantity = 500"),
        (
            "station.toml:<approvals>: 'quantity' does not stand here any more: it is a term of the signed order. "
            "Delete it, and import the order's file with 'station order import FILE' ('station order create --help' "
            "makes one)"
        ),
    ),
    "more approvals than keys": (
        ("approvals = 1", "approvals = 2"),
        (
            "station.toml:<trusted>: 'trusted' names 1 key, and 2 have to sign an order; name the public key of each "
            "approver"
        ),
    ),
    "missing key": (
        ('trusted = ["oem.pem"]\n', ""),
        "station.toml:<[order]>: [order] has no 'trusted'; add trusted = [\"oem.pem\"]",
    ),
    "missing locks": (
        ('locks = ["debug", "credentials"]\n', ""),
        (
            "station.toml:<[product]>: [product] has no 'locks'; "
            'add locks = ["debug", "credentials"], or [] to close nothing'
        ),
    ),
    "duplicate slot name": (
        ('name = "2"', 'name = "1"'),
        "station.toml:<name = \"2>: name '1' is that of the slot in line <[[slot]]>; each needs its own",
    ),
    "duplicate port": (
        ('usb = "1-1.4:1.0"', 'port = "/dev/ttyUSB0"'),
        "station.toml:<usb>: port '/dev/ttyUSB0' is that of the slot in line <[[slot]]>; each needs its own",
    ),
    "unknown lock": (
        ('"credentials"]', '"credential"]'),
        "station.toml:<locks>: unknown lock 'credential'; did you mean 'credentials'?",
    ),
    "locks of numbers": (
        ('["debug", "credentials"]', "[1]"),
        (
            "station.toml:<locks>: 'locks' in [product] must be a list of texts; "
            'write locks = ["debug", "credentials"], or [] to close nothing'
        ),
    ),
    "firmware digest": (
        ('firmware_version = "1.2.0"', 'firmware_sha256 = "abc"'),
        "station.toml:<firmware>: 'firmware_sha256' is not a SHA-256; write its 64 hexadecimal digits",
    ),
    "port and usb": (
        ('port = "/dev/ttyUSB0"', 'port = "/dev/ttyUSB0"\nusb = "1-1.2"'),
        "station.toml:28: a slot has a 'port' or a 'usb' path, not both; delete one of them",
    ),
    "neither port nor usb": (
        ('usb = "1-1.4:1.0"\n', ""),
        'station.toml:29: the slot has no port; add usb = "1-1.2" (\'station slots list\') or port = "/dev/ttyUSB0"',
    ),
    "port that is no path": (
        ("/dev/ttyUSB0", "ttyUSB0"),
        "station.toml:<port>: 'ttyUSB0' is not a path; write \"/dev/ttyUSB0\"",
    ),
    "port of an unknown scheme": (
        ("/dev/ttyUSB0", "sockets://a:1"),
        "station.toml:<port>: unknown kind of port 'sockets://'; did you mean 'socket'?",
    ),
    "port without a number": (
        ("/dev/ttyUSB0", "socket://host"),
        "station.toml:<port>: 'socket://host' needs host and port; write \"socket://host:4000\"",
    ),
    "port out of range": (
        ("/dev/ttyUSB0", "socket://host:99999"),
        "station.toml:<port>: 'socket://host:99999' has no usable host and port; write \"socket://host:4000\"",
    ),
    "usb path": (
        ("1-1.4:1.0", "ttyUSB0"),
        "station.toml:<usb>: 'ttyUSB0' is not a USB path; write it as 'station slots list' does, like \"1-1.2:1.0\"",
    ),
    "bad baud": (
        ("921600", "11520"),
        "station.toml:<baud>: 11520 is not a baud rate in use; did you mean 115200?",
    ),
    "unknown driver": (
        ("baud = 921600", 'driver = "spm"'),
        "station.toml:<baud>: unknown driver 'spm'; did you mean 'smp'?",
    ),
    "unknown profile": (
        ('"idevid"', '"idevidd"'),
        "station.toml:<profile>: unknown profile 'idevidd'; did you mean 'idevid'?",
    ),
    "token that is no URI": (
        ('"pkcs11:token=intermediate?pin-source=file:/etc/station/pin"', '"intermediate"'),
        "station.toml:<token>: a token is named by a URI that starts with 'pkcs11:', like 'pkcs11:token=intermediate'",
    ),
    "PIN in the file": (
        ("pin-source=file:/etc/station/pin", "pin-value=1234"),
        (
            "station.toml:<token>: pin-value is not accepted: a PIN in a URI ends up in files, logs and process lists; "
            "put it into a file of mode 0600 and write pin-source=file:/path"
        ),
    ),
    "environment of numbers": (
        ('LOG = "3"', "LOG = 3"),
        "station.toml:<environment>: 'LOG' in [ca.environment] must be text, not a whole number",
    ),
    "environment with an impossible name": (
        ("LOG =", '"LO=G" ='),
        "station.toml:<environment>: 'LO=G' can't be the name of an environment variable; write letters, digits and _",
    ),
    "terminal escape in a name": (
        ('"line-1"', '"\\u001b[2J"'),
        "station.toml:<name>: 'name' in [station] must have 1 to 64 printable characters",
    ),
    "empty model": (
        ('"reference-device"', '""'),
        "station.toml:<model>: 'model' in [product] must have 1 to 32 printable characters",
    ),
    "not TOML": (
        ("id = 7", "id = "),
        "station.toml:<id>: not TOML: Invalid value; check quotes, brackets and '=' in this line",
    ),
    "key twice": (
        ("id = 7", "id = 7\nid = 8"),
        "station.toml:<name>: not TOML: Cannot overwrite a value; check quotes, brackets and '=' in this line",
    ),
}


@pytest.mark.parametrize(("change", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_has_its_line(write, change, expected):
    text = GOOD.replace(*change, 1)
    assert text != GOOD

    with pytest.raises(ConfigError) as caught:
        config.load(write(text))

    assert str(caught.value) == re.sub("<(.+?)>", lambda match: str(line_of(match[1])), expected)


@pytest.mark.parametrize("name", ["station", "ca", "order", "product"])
def test_a_missing_section_is_asked_for_once(write, name):
    start = GOOD.index(f"[{name}]")
    end = GOOD.index("\n[", start) + 1

    found = [str(problem) for problem in config.problems(write(GOOD[:start] + GOOD[end:]))]

    assert len(found) == 1
    assert f"section [{name}] is missing; add [{name}] with " in found[0]


def test_a_file_without_slots_is_refused_at_its_end(write):
    text = GOOD[: GOOD.index("[[slot]]")]

    with pytest.raises(ConfigError) as caught:
        config.load(write(text))

    assert str(caught.value) == (
        f"station.toml:{text.count(chr(10)) - 1}: there is no [[slot]]; "
        "add one for each board cable ('station slots suggest' prints them)"
    )


def test_all_problems_are_listed_by_line(write):
    text = GOOD.replace("id = 7", "id = 0").replace("baud = 921600", "boud = 1").replace('"debug"', '"debog"')

    assert [int(problem.facts["line"]) for problem in config.problems(write(text))] == [
        line_of("id"),
        line_of("locks"),
        line_of("baud"),
    ]


def test_a_good_file_has_no_problems(write):
    assert config.problems(write(GOOD)) == []


def test_a_file_from_a_windows_editor_is_read(write):
    text = GOOD if isinstance(GOOD, str) else GOOD.decode()
    assert config.problems(write(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe", "station.toml:1: not UTF-8 text; save it as UTF-8"),
        (b"[station]\n# \xe4\n", "station.toml:2: not UTF-8 text; save it as UTF-8"),
        (None, "station.toml: no such file; make one with 'station init'"),
    ],
)
def test_a_file_that_cannot_be_read_has_its_line(write, content, expected):
    path = Path("station.toml") if content is None else write(content)

    assert [str(problem) for problem in config.problems(path)] == [expected]


def test_a_folder_is_not_a_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
        config.load(tmp_path)


def test_profiles_are_those_that_hsm_brings():
    assert {"idevid", "tls-client"} <= set(config.profiles())
