"""A line of virtual nRF91 modems, from the configuration to the manifest."""

import json
import re

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.manifest import ManifestReader, ProofKind, UnitState
from station.testing.orders import reorder

MODEL = "nRF9151-LACA"


@pytest.fixture
def modems(line):
    """Make a fresh line one of modems: ``modems(persona)``."""

    def prepare(persona="nrf91", accepts='["digest", "attestation"]'):
        text = line.config.read_text()
        text = re.sub(r"(?m)^model = .*$", f'model = "{MODEL}"', text)
        text = re.sub(r"(?m)^locks = .*$", f"locks = []\naccepts = {accepts}", text)
        text = text.replace("[rehearsal]\n", f'[rehearsal]\npersona = "{persona}"\n')
        line.config.write_text(text)
        reorder(line.config, "WO-2")
        return line

    return prepare


def history_of(line, **wanted):
    with ManifestReader(line.manifest) as reader:
        unit = next(reader.units(**wanted))
        return reader.unit(unit.hardware_id)


@pytest.mark.parametrize("persona", ["nrf91", "nrf91-shell", "nrf91-old"])
def test_modems_are_provisioned_and_come_back_as_done(modems, persona):
    line = modems(persona)
    first = line.station("run", "--once")
    assert "4 passed, 0 failed" in first.stdout, first.stdout + first.stderr
    second = line.station("run", "--once")
    assert "4 done before" in second.stdout, second.stdout
    with ManifestReader(line.manifest) as reader:
        assert reader.counts()[UnitState.PASSED] == 4


def test_the_manifest_says_what_stood_in_the_place_of_the_proof(modems):
    line = modems()
    line.station("run", "--once")
    history = history_of(line)
    assert history.proof.kind is ProofKind.ATTESTATION
    events = {event.kind: event.facts for event in history.events}
    assert events["stands in"]["read_back"] == "digest"
    assert events["stands in"]["identity_key"] == events["attested"]["identity_key"]
    assert re.fullmatch(r"\d{15}", events["said"]["imei"])
    shown = line.station("unit", "show", "WO-2-000001").stdout
    assert "by attestation" in shown
    assert json.loads(line.station("unit", "show", "WO-2-000001", "--json").stdout)["proof"]["kind"] == "attestation"


def test_an_auditor_can_check_both_statements_with_the_manifest_alone(modems):
    line = modems()
    line.station("run", "--once")
    history = history_of(line)
    facts = {event.kind: event.facts for event in history.events}["attested"]
    key = load_der_public_key(bytes.fromhex(facts["identity_key"]))
    payload = bytes.fromhex(facts["statement"])
    message = cbor2.dumps(["Signature1", b"\xa1\x01\x26", b"", payload])
    key.verify(bytes.fromhex(facts["signature"]), message, ec.ECDSA(SHA256()))
    key.verify(history.proof.signature, history.proof.message, ec.ECDSA(SHA256()))
    assert cbor2.loads(payload)[1].hex() == history.unit.hardware_id.replace("-", "")


def test_a_product_that_accepts_nothing_less_gets_no_modem(modems):
    line = modems(accepts='["digest"]')
    done = line.station("run", "--once", "--json")
    codes = {json.loads(text).get("code") for text in done.stdout.splitlines()}
    assert "unit.not_accepted" in codes
    assert 'accepts = ["attestation"]' in done.stdout.replace('\\"', '"')
    assert done.returncode == 1


@pytest.mark.parametrize("after", [900, 1900, 2600])
def test_a_modem_cut_off_on_its_way_ends_with_one_live_certificate(modems, after):
    line = modems()
    cut = Wire(cut=Cut(kind=CutKind.UNPLUG, direction=Direction.TO_DEVICE, after=after))
    with line.virtual_line(persona="nrf91", model=MODEL, wire={"slot1": cut}) as boards:
        line.name_slots([board.port for board in boards.boards], driver='"nordic_at"')
        first = line.station("run", "--once")
        assert "passed" in first.stdout
        for board in boards.boards:
            board.plug()
        last = line.station("run", "--once")
    assert last.returncode == 0, first.stdout + last.stdout
    with ManifestReader(line.manifest) as reader:
        assert reader.counts()[UnitState.PASSED] == 4
        for unit in list(reader.units()):
            issuances = reader.unit(unit.hardware_id).issuances
            assert [issuance.state.value for issuance in issuances].count("recorded") == 1


def test_a_modem_that_copies_another_ones_uuid_is_not_taken_for_it(modems, tmp_path):
    """Same UUID, same certificate, another identity key: nobody is told that it was done before."""
    line = modems()
    line.station("run", "--once")
    with ManifestReader(line.manifest) as reader:
        victim = next(reader.units(state=UnitState.PASSED))
        leaf = victim.issuance.certificate
    storage = line.slots / victim.hardware_id
    flash = storage / "flash.bin"
    flash.unlink()
    issuer = x509.load_pem_x509_certificate((line.folder / "ca" / "intermediate.pem").read_bytes())
    chain = [x509.load_der_x509_certificate(leaf), issuer]
    pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain).replace("\n", "\r\n")
    with line.virtual_line(persona="nrf91", model=MODEL) as boards:
        clone = next(board for board in boards.boards if board.hardware_id == victim.hardware_id)
        with open(clone.port, "r+b", buffering=0) as port:  # noqa: PTH123  # a tty, unbuffered
            for command in ("AT+CFUN=4", "AT%KEYGEN=16842753,2,0", f'AT%CMNG=0,16842753,1,"{pem}"'):
                port.write(command.encode() + b"\r\n")
                heard = b""
                while not heard.endswith(b"OK\r\n"):
                    heard += port.read(4096)
        line.name_slots([clone.port], driver='"nordic_at"')
        done = line.station("run", "--once", "--json")
    codes = {json.loads(text).get("code") for text in done.stdout.splitlines()}
    assert "device.other_signer" in codes, done.stdout
