"""The persona of a Nordic modem: what it answers, what it keeps, and that no input hurts it."""

import base64
import random
import re
import subprocess
from hashlib import sha256

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_tools.errors import LineError
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.personas import DEFAULT_PERSONA, PERSONAS

UUID = "50503631-3544-4e39-8017-1b1464017d02"
TAG = 16842753
MODEL = ("--model", "nRF9151-LACA", "--quiet")
END = re.compile(r"OK|ERROR|\+CME ERROR: \d+")


def ask(board, command, *, in_shell=False):
    """Send a command and return its lines, the last one included."""
    board.wire.sendall((f"at '{command}'" if in_shell else command).encode() + b"\r\n")
    lines = []
    while not lines or END.fullmatch(lines[-1]) is None:
        line = re.sub(r"\x1b\[[0-9;]*m", "", board.line().decode()).replace("mosh:~$ ", "").strip()
        if line and not line.startswith("at '"):
            lines.append(line)
    return lines


def parts(line):
    """Return the body of a statement and its COSE, decoded."""
    texts = re.search(r'"(.*)"', line)[1].split(".")
    body, cose = (base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in texts)
    return body, cbor2.loads(cose).value


@pytest.fixture
def modem(plain, power_on):
    board = power_on(plain, "--persona", "nrf91", *MODEL)
    ask(board, "AT+CMEE=1")
    return board


@pytest.fixture
def offline(modem):
    ask(modem, "AT+CFUN=4")
    return modem


def test_a_hardware_id_that_is_a_uuid_is_the_device_uuid(plain, tmp_path, board_class):
    board = board_class(plain, tmp_path / "b", "--persona", "nrf91", *MODEL, "--hardware-id", UUID)
    assert ask(board, "AT%DEVICEUUID") == [f"%DEVICEUUID: {UUID}", "OK"]
    board.unplug()


def test_keys_and_credentials_change_only_while_the_radio_is_off(modem):
    for command in (f"AT%KEYGEN={TAG},2,0", f'AT%CMNG=0,{TAG},1,"text"', f"AT%CMNG=3,{TAG},1"):
        assert ask(modem, command) == ["+CME ERROR: 518"]


def test_errors_have_numbers_only_where_they_were_asked_for(modem):
    ask(modem, "AT+CMEE=0")
    assert ask(modem, f"AT%KEYGEN={TAG},2,0") == ["ERROR"]


def test_a_client_key_is_made_once(offline):
    assert ask(offline, f"AT%KEYGEN={TAG},2,0")[-1] == "OK"
    assert ask(offline, f"AT%KEYGEN={TAG},2,0") == ["+CME ERROR: 519"]


def test_an_endorsement_key_is_told_again(offline):
    first, second = (parts(ask(offline, f"AT%KEYGEN={TAG},8")[0])[0] for _ in range(2))
    assert first == second


def test_the_csr_has_the_wishes_of_the_command(offline):
    body, _ = parts(ask(offline, f'AT%KEYGEN={TAG},2,0,"O=Acme,CN=dev1,C=NO","101010000"')[0])
    csr = x509.load_der_x509_csr(body)
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "C=NO,CN=dev1,O=Acme"
    usage = csr.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_encipherment, usage.value.key_agreement) == (
        True,
        True,
        True,
    )
    assert not usage.value.content_commitment


def test_token_and_key_are_signed_by_one_identity_key(offline):
    body, token = parts(ask(offline, f'AT%ATTESTTOKEN="{bytes(range(16)).hex()}"')[0])
    csr, key = parts(ask(offline, f"AT%KEYGEN={TAG},2,0")[0])
    kind, uuid, tag, digest, _nonce = cbor2.loads(key[2])
    assert (kind, cbor2.loads(tag), digest) == (9, TAG, sha256(csr).digest())
    assert cbor2.loads(body)[1] == uuid
    assert cbor2.loads(body)[4] == bytes(range(16))
    # the list shows the digest of the identity key; both statements have to be by one key, which nobody is told
    assert token[3] != key[3]
    assert [line for line in ask(offline, "AT%CMNG=1") if line.startswith("%CMNG: 4294967294,6,")]


def test_the_list_tells_the_digest_of_what_was_written(offline):
    text = "-----BEGIN CERTIFICATE-----\r\nMIIB\r\n-----END CERTIFICATE-----\r\n"
    assert ask(offline, f'AT%CMNG=0,{TAG},1,"{text}"') == ["OK"]
    digest = sha256(text.encode()).hexdigest().upper()
    assert ask(offline, f"AT%CMNG=1,{TAG}") == [f'%CMNG: {TAG},1,"{digest}"', "OK"]
    assert ask(offline, f"AT%CMNG=1,{TAG},0") == ["OK"]


def test_a_certificate_is_not_handed_out(offline):
    ask(offline, f'AT%CMNG=0,{TAG},1,"text"')
    assert ask(offline, f"AT%CMNG=2,{TAG},1") == ["+CME ERROR: 514"]


def test_what_is_not_there_is_not_deleted(offline):
    assert ask(offline, f"AT%CMNG=3,{TAG},1") == ["+CME ERROR: 513"]


def test_a_full_memory_is_told_and_keeps_what_it_has(offline):
    ask(offline, f'AT%CMNG=0,{TAG},0,"{"a" * 4000}"')
    assert ask(offline, f'AT%CMNG=0,{TAG},1,"{"b" * 4000}"') == ["+CME ERROR: 515"]
    assert len(ask(offline, f"AT%CMNG=1,{TAG}")) == 2


def test_behind_a_shell_the_same_text_has_the_same_digest(plain, power_on):
    board = power_on(plain, "--persona", "nrf91-shell", *MODEL)
    ask(board, "AT+CFUN=4", in_shell=True)
    assert ask(board, f'AT%CMNG=0,{TAG},1,"one\\ntwo\\n"', in_shell=True) == ["OK"]
    digest = sha256(b"one\r\ntwo\r\n").hexdigest().upper()
    assert digest in ask(board, f"AT%CMNG=1,{TAG}", in_shell=True)[0]


def test_the_old_modem_writes_null_parameters(plain, power_on):
    board = power_on(plain, "--persona", "nrf91-old", *MODEL)
    ask(board, "AT+CFUN=4")
    body, _ = parts(ask(board, f"AT%KEYGEN={TAG},2,0")[0])
    assert bytes.fromhex("300c06082a8648ce3d0403020500") in body


def test_an_unknown_persona_is_one_clear_line(plain, tmp_path, board_class):
    board = board_class(plain, tmp_path / "b", "--persona", "nrf92")
    board.wire.close()
    _, errors = board.process.communicate(timeout=10)
    assert (board.process.returncode, errors) == (
        2,
        "reference-device: there is no persona 'nrf92'; --help names them\n",
    )


def test_the_program_knows_every_persona_that_the_line_offers(plain):
    said = subprocess.run([plain, "--help"], capture_output=True, text=True, check=True).stdout
    offered = re.search(r"--persona NAME.*?: (.*)", said)[1].split(", ")
    assert set(offered) == PERSONAS.keys() - {DEFAULT_PERSONA}


def test_a_line_without_that_persona_is_refused(plain, tmp_path):
    with pytest.raises(LineError, match="there are smp, nrf91"):
        VirtualLine(plain, tmp_path, 1, persona="nrf92")


@pytest.mark.parametrize("operation", range(1, 12))
def test_a_power_cut_keeps_what_was_told(plain, power_on, board_class, tmp_path, operation):
    """The key whose CSR was handed out is there, and the identity is what it was, wherever the power goes away."""
    told, identity = None, None
    board = board_class(plain, tmp_path / "b", "--persona", "nrf91", *MODEL, "--die-after-writes", str(operation))
    try:
        identity = ask(board, "AT%CMNG=1,4294967294")[0]
        ask(board, "AT+CFUN=4")
        told = parts(ask(board, f"AT%KEYGEN={TAG},2,0")[0])[0]
        ask(board, f'AT%CMNG=0,{TAG},1,"{"x" * 900}"')
    except (ConnectionResetError, BrokenPipeError):
        pass
    board.kill()
    again = power_on(plain, "--persona", "nrf91", *MODEL, storage="b")
    listed = ask(again, "AT%CMNG=1")
    if identity is not None:
        assert identity in listed
    if told is not None:
        spki = x509.load_der_x509_csr(told).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert f'%CMNG: {TAG},2,"{sha256(spki).hexdigest().upper()}"' in listed


def test_noise_and_endless_lines_end_as_errors(sanitized, power_on):
    """Under the sanitizers: the device ends by itself and without a word on stderr, or the fixture fails."""
    noise = random.Random(1)  # noqa: S311  # the same noise each time
    board = power_on(sanitized, "--persona", "nrf91", *MODEL)
    pieces = ["AT%CMNG=", "AT%KEYGEN=", "AT%ATTESTTOKEN=", '"', ",", "0", "1", "2", "8", "16842753", "4294967296"]
    pieces += ["CN=", "O=", "\r\n", "é", "'", "101010000"]
    ask(board, "AT+CFUN=4")
    for _ in range(400):
        board.wire.sendall("".join(noise.choices(pieces, k=noise.randrange(1, 12))).encode() + b"\r\n")
    board.wire.sendall(b'"\r\n' + b"A" * 20000 + b'\r\n"\r\n')
    board.wire.sendall(b"AT%DEVICEUUID\r\n" * 2 + b'"\r\nAT%DEVICEUUID\r\n')
    while not board.line().startswith(b"%DEVICEUUID"):
        pass
