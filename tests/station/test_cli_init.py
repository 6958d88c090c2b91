"""``station init``, ``check`` and ``doctor``, with real tokens."""

import asyncio
import json
import os
import pty
import shutil
import sqlite3
import tty
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.durable import WriterLock
from station import config
from station.checks.preflight import port_rights
from station.cli.root import root
from station.config.languages import PERSONA_DRIVERS, PERSONA_PRODUCTS
from station.line import policy
from station.line.drivers import driver_maker
from station.manifest import Manifest
from station.manifest.schema import MANIFEST
from station.manifest.testing import provision
from station.testing import MemoryLink
from station.testing.orders import install_order


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def findings(command, folder, *, exit_code=0):
    """Return what an examination found: level and text by check."""
    result = station(command, "--json", "--config", folder / "station.toml", exit_code=exit_code)
    return {entry["check"]: entry for entry in map(json.loads, result.stdout.splitlines())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a folder for development, once."""
    folder = tmp_path_factory.mktemp("made") / "try it"
    station("init", folder, "--softhsm", "--rehearsal", "2")
    return folder


@pytest.fixture
def line(made):
    """Give the folder, and put back what a test changes in it."""
    saved = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    yield made
    for path in made.rglob("*"):
        if path.is_file() and path not in saved:
            path.unlink()
    for path, content in saved.items():
        path.write_bytes(content)


def edit_order(line, change):
    """Change the row of the order, as somebody with a database shell could."""
    with closing(sqlite3.connect(line / "manifest.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER order_keeps_terms")
        connection.execute(f"UPDATE production_order SET {change}")  # noqa: S608 - a test's own words


async def take_one(line, order):
    with closing(Manifest.open(line / "manifest.db")) as manifest:
        await provision(manifest, "a", order=order)


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def certificate(name, *, days=1, issuer=None, signed_by=None):
    """Return the certificate (PEM) of a CA that ends so many days from now; it signed itself, unless told."""
    key = ec.generate_private_key(ec.SECP256R1()) if issuer or not signed_by else signed_by
    subject, above = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer or name)
    )
    end = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder(above, subject, key.public_key(), 1, end - timedelta(days=2), end)
    return builder.sign(signed_by or key, hashes.SHA256()).public_bytes(Encoding.PEM)


def use_port(folder, port):
    """Let the line have one slot, at a port, instead of virtual boards."""
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text[: text.index("[rehearsal]")] + f'[[slot]]\nname = "1"\nport = "{port}"\n')


@pytest.fixture
def port():
    """Return the path of a tty that nobody has open."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    os.close(slave)
    yield Path(path)
    os.close(master)


def test_init_writes_a_configuration_that_passes_check(tmp_path):
    station("init", tmp_path / "line")

    assert {entry["level"] for entry in findings("check", tmp_path / "line").values()} <= {"ok", "warn"}


def test_init_names_the_station_like_its_folder(tmp_path):
    station("init", tmp_path / 'line "é" 1')

    assert config.load(tmp_path / 'line "é" 1' / "station.toml").station.name == 'line "é" 1'


def test_init_overwrites_nothing(tmp_path):
    (tmp_path / "station.toml").write_text("mine")

    result = station("init", tmp_path, exit_code=1)

    assert result.stderr == f"station: {tmp_path}/station.toml is there already; edit it, or name another folder\n"
    assert (tmp_path / "station.toml").read_text() == "mine"


def test_a_read_only_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()

    result = station("init", tmp_path / "file" / "line", exit_code=1)

    assert result.stderr == f"station: {tmp_path}/file/line: Not a directory; check path, owner and mode\n"


def test_init_with_softhsm_names_its_ca_development(made):
    names = ("root.pem", "intermediate.pem")
    certificates = [x509.load_pem_x509_certificate((made / "ca" / name).read_bytes()) for name in names]

    assert all("DEVELOPMENT" in certificate.subject.rfc4514_string() for certificate in certificates)


def test_init_again_after_the_configuration_was_deleted_keeps_the_ca(line):
    before = (line / "ca" / "root.pem").read_bytes()
    (line / "station.toml").unlink()

    station("init", line, "--softhsm", "--rehearsal", "2")

    assert (line / "ca" / "root.pem").read_bytes() == before
    findings("doctor", line)


def test_check_passes_what_init_made(line):
    assert {entry["level"] for entry in findings("check", line).values()} == {"ok"}


def test_check_writes_nothing(line):
    before = sorted(line.rglob("*"))

    findings("check", line)

    assert sorted(line.rglob("*")) == before


def test_check_lists_every_wrong_line(line):
    replace(line / "station.toml", "id = 1 ", "id = 0 ")
    replace(line / "station.toml", "[order]", "[ordre]")

    lines = station("check", "--config", line / "station.toml", exit_code=1).stdout.splitlines()

    assert [entry.split()[:2] for entry in lines] == [["fail", "configuration"]] * 3


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        (("libsofthsm2.so", "libnothing.so"), "module", "fail"),
        (("pins/intermediate", "pins/nothing"), "PIN source", "fail"),
        (("file:", "env:STATION_TEST_UNSET&x="), "configuration", "fail"),
        (("ca/root.pem", "ca/none.pem"), "root", "fail"),
        (("ca/root.pem", "station.toml"), "root", "fail"),
        (("ca/root.pem", "ca/intermediate.pem"), "chain", "fail"),
        (('"idevid"', '"./mine.toml"'), "profile", "fail"),
        (('"manifest.db"', '"ca"'), "manifest", "fail"),
        (("tokens/softhsm2.conf", "tokens/none.conf"), "environment", "fail"),
        (("tokens/softhsm2.conf", "station.toml"), "environment", "warn"),
    ],
)
def test_check_finds(line, change, check, level):
    replace(line / "station.toml", *change)

    assert findings("check", line, exit_code=int(level == "fail"))[check]["level"] == level


def test_check_finds_a_pin_file_that_is_open_to_others(line):
    pin = line / "tokens" / "pins" / "intermediate"
    pin.chmod(0o644)
    try:
        finding = findings("check", line, exit_code=1)["PIN source"]
    finally:
        pin.chmod(0o600)

    assert finding["advice"] == f"chmod 600 {pin}"


def test_check_finds_certificates_that_are_not_made_yet(line):
    shutil.rmtree(line / "ca")
    try:
        finding = findings("check", line)["certificates"]
    finally:
        (line / "ca").mkdir()

    assert (finding["level"], "station ca init" in finding["advice"]) == ("warn", True)


def test_check_finds_that_nothing_seals_the_manifest(line):
    sealed = findings("check", line)["ledger"]
    (line / "ca" / "ledger.pem").unlink()

    assert (sealed["level"], findings("check", line)["ledger"]["level"]) == ("ok", "warn")


def test_check_finds_an_issuer_that_has_ended(line):
    (line / "ca" / "intermediate.pem").write_bytes(certificate("DEVELOPMENT old", days=-1))

    assert "ended on" in findings("check", line, exit_code=1)["issuer"]["text"]


def test_check_finds_a_rehearsal_with_a_real_ca(line):
    key = ec.generate_private_key(ec.SECP256R1())
    (line / "ca" / "root.pem").write_bytes(certificate("Acme Root", signed_by=key))
    (line / "ca" / "intermediate.pem").write_bytes(certificate("Acme Devices", issuer="Acme Root", signed_by=key))

    found = findings("check", line, exit_code=1)

    assert [check for check, entry in found.items() if entry["level"] == "fail"] == ["rehearsal"]


def test_check_finds_a_port_that_is_not_there(line, tmp_path):
    use_port(line, tmp_path / "none")

    assert findings("check", line)["slot 1"]["level"] == "warn"


def test_check_finds_a_port_that_is_no_port(line):
    use_port(line, line / "station.toml")

    assert findings("check", line, exit_code=1)["slot 1"]["level"] == "fail"


def test_doctor_passes_what_init_made(line):
    found = findings("doctor", line)

    assert {entry["level"] for entry in found.values()} == {"ok"}
    assert {"versions", "disk", "space", "clock", "token", "PIN", "key", "signature", "lifetime"} <= set(found)


def test_doctor_says_that_the_key_can_not_leave_the_token(line):
    text = findings("doctor", line)["key"]["text"]

    assert "never_extractable" in text.split("; not ")[0]
    assert "extractable" in text.split("; not ")[1]


def test_doctor_tries_a_wrong_pin_once(line):
    (line / "tokens" / "pins" / "intermediate").write_text("0000000000\n")

    found = findings("doctor", line, exit_code=1)

    assert found["token"]["level"] == "fail"
    assert "0000000000" not in json.dumps(found)


def test_doctor_warns_after_a_wrong_pin(line):
    pin = line / "tokens" / "pins" / "intermediate"
    right = pin.read_bytes()
    pin.write_text("1111111111\n")  # the process remembers a PIN that was refused, and does not try it again
    findings("doctor", line, exit_code=1)
    pin.write_bytes(right)

    assert findings("doctor", line)["PIN"]["level"] == "warn"


def test_doctor_finds_a_token_that_is_not_there(line):
    replace(line / "station.toml", "token=intermediate", "token=elsewhere")

    finding = findings("doctor", line, exit_code=1)["token"]

    assert (finding["level"], "elsewhere" in finding["text"]) == ("fail", True)


def test_doctor_finds_the_token_of_a_root(line):
    replace(line / "station.toml", "token=intermediate", "token=root")
    replace(line / "station.toml", "pins/intermediate", "pins/root")

    (failed,) = [one for one in findings("doctor", line, exit_code=1).values() if one["level"] == "fail"]
    assert "root" in failed["text"]


def test_doctor_leaves_the_token_to_a_station_that_runs(line):
    with WriterLock(line / "manifest.db", MANIFEST):
        finding = findings("doctor", line)["token"]

    assert (finding["level"], str(os.getpid()) in finding["text"]) == ("warn", True)


def test_doctor_does_not_wake_the_token_while_check_fails(line):
    replace(line / "station.toml", "ca/root.pem", "ca/none.pem")

    assert findings("doctor", line, exit_code=1)["token"]["text"] == "not examined"


def test_check_finds_that_the_folder_of_the_tokens_was_moved(line):
    replace(line / "tokens" / "softhsm2.conf", f"{line}/tokens", "/moved/away")

    assert "/moved/away" in findings("check", line, exit_code=1)["environment"]["text"]


def test_doctor_finds_an_order_with_other_terms_than_on_record(line):
    edit_order(line, "quantity = 99")

    assert findings("doctor", line, exit_code=1)["order"]["level"] == "fail"


def test_doctor_tells_how_far_an_order_is(line):
    assert findings("doctor", line)["order"]["text"].startswith("WO-0001: 0 of 100 units are begun, until ")


def test_doctor_tells_that_an_order_is_complete(line):
    replace(line / "station.toml", '"WO-0001"', '"WO-0002"')
    install_order(line / "station.toml", quantity=1, serial_format="Q{number}")
    asyncio.run(take_one(line, "WO-0002"))

    assert findings("doctor", line)["order"]["level"] == "warn"


def test_nobody_is_told_to_join_the_group_of_root(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open anything

    assert "dialout" in port_rights("slot 1", Path("/dev/null")).advice


def test_a_port_that_may_not_be_used_is_said_once(line, port, monkeypatch):
    use_port(line, port)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(port) and may(path, mode))

    result = station("doctor", "--config", line / "station.toml", exit_code=1)
    assert result.stdout.count("slot 1") == 1


def test_doctor_opens_a_port(line, port):
    use_port(line, port)

    assert findings("doctor", line)["slot 1"]["text"] == f"{port} can be opened"


def test_doctor_names_who_holds_a_port(line, port):
    use_port(line, port)
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        finding = findings("doctor", line, exit_code=1)["slot 1"]
    finally:
        os.close(descriptor)

    assert f"(process {os.getpid()})" in finding["text"]


def test_doctor_tries_a_tcp_port(line):
    use_port(line, "socket://127.0.0.1:1")

    assert findings("doctor", line, exit_code=1)["slot 1"]["level"] == "fail"


def test_doctor_finds_a_clock_before_the_last_event(line):
    async def fill():
        tomorrow = datetime.now(UTC) + timedelta(1)
        with closing(Manifest.open(line / "manifest.db", clock=lambda: tomorrow)) as manifest:
            manifest.event(None, "1", "tomorrow", "note", {})

    asyncio.run(fill())

    assert findings("doctor", line, exit_code=1)["clock"]["level"] == "fail"


@pytest.mark.parametrize("persona", PERSONA_PRODUCTS)
async def test_a_line_of_each_persona_is_one_that_such_boards_can_pass(tmp_path, persona):
    words = ["init", "--rehearsal", "2", "--persona", persona, str(tmp_path / "line")]
    assert CliRunner().invoke(root, words).exit_code == 0
    made = config.load(tmp_path / "line" / "station.toml")
    assert made.rehearsal.persona == persona
    driver = driver_maker(PERSONA_DRIVERS[persona])(MemoryLink(), made.product)
    policy.check_driver(driver, made.product.locks, made.product.accepts)


def test_a_persona_without_virtual_boards_is_refused(tmp_path):
    done = CliRunner().invoke(root, ["init", "--persona", "nrf91", str(tmp_path / "line")])
    assert (done.exit_code, "add --rehearsal BOARDS" in done.output) == (1, True)
    assert not (tmp_path / "line").exists()
