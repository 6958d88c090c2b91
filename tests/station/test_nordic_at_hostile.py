"""Modems that lie, and wires that harm: nothing of it becomes a certificate."""

import re
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import Csr, CsrError
from station.devices.nordic_at import AtTimeouts, NordicAtDriver
from station.devices.nordic_at_errors import MEANINGS
from station.devices.nordic_at_statement import Statement
from station.errors import DeviceError, Garbled, LinkError, NoAnswer
from station.ports.link_buffer import HAND_OUT
from station.testing import ScriptedModem
from station.testing.scripted_modem import sign1, statement

TAG = 16842753
QUICK = AtTimeouts(query=(0.05, 0.05, 0.05), offline=0.05, write=0.05, keygen=0.002)
KEYGEN = "AT%KEYGEN"


@pytest.fixture
def modem():
    return ScriptedModem()


@pytest.fixture
async def driver(modem):
    driver = NordicAtDriver(modem.plug(), timeouts=QUICK)
    await driver.identify()
    return driver


async def refused(driver, modem, raw):
    """Answer a key with these bytes, and return the error that this ends with."""
    modem.say(KEYGEN, raw)
    with pytest.raises((LinkError, DeviceError)) as caught:
        await driver.make_key()
    assert driver.key_statement == {}
    return caught.value


@pytest.mark.parametrize("end", [b"", b"\r\nOK\r\n", b'"\r\nOK\r\n'], ids=["silence", "an end", "a quote and an end"])
async def test_an_answer_cut_at_every_byte_gives_no_key(driver, modem, end):
    sent = []
    size = 0

    def cut(answer):
        sent[:] = [answer]
        return answer[:size] + end

    modem.twist(KEYGEN, cut)
    while True:
        try:
            await driver.make_key()
        except (LinkError, DeviceError):
            size += 1
        else:
            break
    # it was taken where nothing of the statement was missing, and not before
    assert sent[0][:size].startswith(re.match(rb'%KEYGEN: "[^"]*', sent[0])[0])


async def test_a_statement_about_another_csr_is_refused(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr, other = modem.csr(), modem.csr()
    signed = sign1(modem.identity_key, modem.key_statement(other, TAG))
    error = await refused(driver, modem, f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode())
    assert error.code == "device.statement_digest"


async def test_a_statement_signed_by_another_key_is_refused(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr = modem.csr()
    signed = sign1(ec.generate_private_key(ec.SECP256R1()), modem.key_statement(csr, TAG))
    error = await refused(driver, modem, f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode())
    assert error.code == "device.statement_signature"


async def test_a_statement_signed_by_the_new_key_itself_is_refused(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr = modem.csr()
    signed = sign1(modem.key, modem.key_statement(csr, TAG))
    error = await refused(driver, modem, f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode())
    assert error.code == "device.statement_signature"


async def test_a_statement_about_another_tag_is_refused(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr = modem.csr()
    signed = sign1(modem.identity_key, modem.key_statement(csr, 7))
    error = await refused(driver, modem, f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode())
    assert error.code == "device.statement_content"


async def test_a_statement_about_another_modem_is_refused(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr, other = modem.csr(), ScriptedModem("7f1b3c60-9d5e-4c11-a3a5-0b7a6b8f1a55")
    signed = sign1(modem.identity_key, other.key_statement(csr, TAG))
    error = await refused(driver, modem, f'%KEYGEN: "{statement(csr, signed)}"\r\nOK\r\n'.encode())
    assert error.code == "device.statement_content"


async def test_a_csr_that_the_modem_vouches_for_and_did_not_sign_is_no_csr(driver, modem):
    modem.key = ec.generate_private_key(ec.SECP256R1())
    csr = bytearray(modem.csr())
    csr[-1] ^= 1
    signed = sign1(modem.identity_key, modem.key_statement(bytes(csr), TAG))
    modem.say(KEYGEN, f'%KEYGEN: "{statement(bytes(csr), signed)}"\r\nOK\r\n'.encode(), times=1)
    taken = await driver.make_key()
    with pytest.raises(CsrError, match="signature"):
        Csr.parse(taken)


@pytest.mark.parametrize("place", range(12, 510, 45))
async def test_one_other_letter_in_a_statement_is_noticed(driver, modem, place):
    def harm(answer):
        letter = b"A" if answer[place : place + 1] != b"A" else b"B"
        return answer[:place] + letter + answer[place + 1 :]

    modem.twist(KEYGEN, harm)
    with pytest.raises((LinkError, DeviceError)):
        await driver.make_key()


@pytest.mark.parametrize("number", [*sorted(MEANINGS), 512, 65535])
@pytest.mark.parametrize("command", [KEYGEN, "AT%CMNG=1", "AT+CFUN=4"])
async def test_each_error_number_tells_the_operator_what_to_do(driver, modem, number, command):
    modem.refuse(command, number)
    with pytest.raises(DeviceError) as caught:
        await driver.make_key()
    meaning = MEANINGS.get(number)
    assert caught.value.code == f"device.{meaning.name if meaning else f'cme_{number}'}"
    assert f"+CME ERROR: {number}" in str(caught.value)
    assert caught.value.operator.endswith(".")


async def test_a_plain_error_is_an_error(driver, modem):
    modem.say(KEYGEN, b"ERROR\r\n")
    with pytest.raises(DeviceError) as caught:
        await driver.make_key()
    assert caught.value.code == "device.error"


async def test_a_certificate_that_arrives_harmed_is_written_once_more(driver, modem, make_chain):
    chain = make_chain(await driver.make_key())
    modem.twist("AT%CMNG=0", lambda answer: modem.credentials.update({(TAG, 1): b"harmed"}) or answer, times=1)
    await driver.install(chain)
    assert await driver.read_back(chain) == chain[0]


async def test_a_digest_that_never_fits_is_refused(driver, modem, make_chain):
    chain = make_chain(await driver.make_key())
    modem.twist("AT%CMNG=0", lambda answer: modem.credentials.update({(TAG, 1): b"harmed"}) or answer)
    with pytest.raises(DeviceError) as caught:
        await driver.install(chain)
    assert caught.value.code == "device.chain_differs"


async def test_a_certificate_changed_behind_our_back_is_not_read_back(driver, modem, make_chain):
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    modem.credentials[TAG, 1] = b"another"
    with pytest.raises(DeviceError) as caught:
        await driver.read_back(chain)
    assert caught.value.code == "device.chain_differs"


async def test_a_key_replaced_behind_our_back_attests_nothing(driver, modem, make_chain):
    await driver.install(make_chain(await driver.make_key()))
    modem.credentials[TAG, 2] = b"another"
    with pytest.raises(DeviceError) as caught:
        await driver.attest(bytes(16))
    assert caught.value.code == "device.key_replaced"


async def test_a_token_over_another_challenge_is_refused(driver, modem, make_chain):
    await driver.install(make_chain(await driver.make_key()))
    modem.say("AT%ATTESTTOKEN", f'%ATTESTTOKEN: "{modem.token(bytes(16))}"\r\nOK\r\n'.encode())
    with pytest.raises(DeviceError) as caught:
        await driver.attest(secrets.token_bytes(16))
    assert caught.value.code == "device.statement_content"


async def test_a_uuid_that_the_token_does_not_confirm_is_refused(modem):
    modem.say("AT%DEVICEUUID", b"%DEVICEUUID: 00000000-0000-4000-8000-000000000000\r\nOK\r\n")
    with pytest.raises(DeviceError) as caught:
        await NordicAtDriver(modem.plug(), timeouts=QUICK).identify()
    assert caught.value.code == "device.identity_differs"


async def test_two_modems_on_one_wire_are_noticed(modem):
    other = ScriptedModem("7f1b3c60-9d5e-4c11-a3a5-0b7a6b8f1a55")
    link = modem.plug()
    other.link = link
    link.connect(lambda data: (modem._hear(data), other._hear(data)))
    with pytest.raises(DeviceError) as caught:
        await NordicAtDriver(link, timeouts=QUICK).identify()
    assert caught.value.code == "device.two_boards"
    assert "Take one out" in caught.value.operator


async def test_two_modems_that_talk_at_the_same_time_are_not_one(modem):
    """Their bytes mixed: no statement survives that."""
    other = ScriptedModem("7f1b3c60-9d5e-4c11-a3a5-0b7a6b8f1a55")
    link = modem.plug()
    modem.twist("AT", lambda answer: bytes(byte for pair in zip(answer, answer[::-1], strict=True) for byte in pair))
    with pytest.raises((LinkError, DeviceError)):
        await NordicAtDriver(link, timeouts=QUICK).identify()
    assert other.commands == []


@pytest.mark.parametrize("flood", [b"A", b"\n", b"\r\nlog line\r\n", b'%KEYGEN: "', b"\x1b[31m"])
async def test_a_flood_ends(driver, modem, flood):
    modem.say("AT", flood * (5 * HAND_OUT))
    with pytest.raises((Garbled, NoAnswer)):
        await driver.identify()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("AT+CGMM", b"nRF9151\x07\r\nOK\r\n"),
        ("AT+CGMM", b"nRF" + b"9" * 60 + b"\r\nOK\r\n"),
        ("AT+CGMR", b"mfw_nrf91x1_2.0.3\r\nOK\r\n"),
        ("AT+CGSN", b"350457790000003\r\nOK\r\n"),
        ("AT%DEVICEUUID", b"%DEVICEUUID: ../../../etc/passwd\r\nOK\r\n"),
        ("AT%CMNG=1", b'%CMNG: 16842753,1,"abc"\r\n%CMNG: 16842753\r\nOK'),
    ],
)
async def test_texts_that_are_none_are_not_taken(modem, command, answer):
    modem.say(command, answer)
    with pytest.raises((LinkError, DeviceError)):
        await NordicAtDriver(modem.plug(), timeouts=QUICK).identify()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "A" * 40,
        f"{'A' * 40}.{'A' * 39}=",
        f"{'A' * 40}.{'A' * 40}.{'A' * 40}",
        statement(b"x" * 30, b"\xd2\x84" + b"\xff" * 30),
        statement(b"x" * 30, b"\xd2\x84\x43\xa1\x01\x26\xa0\xf6\x58\x3f" + bytes(63)),
        statement(b"x" * 30, b"\xd2\x84\x43\xa1\x01\x38\xa0\xf6\x58\x40" + bytes(64)),
        statement(b"x" * 30, b"\x81" * 200),
    ],
)
def test_a_statement_that_is_none_is_garbled(text):
    with pytest.raises(Garbled):
        Statement.parse(text)


@pytest.mark.parametrize("raw", [bytes(64), b"\xff" * 64, bytes(31) + b"\x01" + bytes(32), bytes(63) + b"\x01"])
async def test_numbers_that_no_signature_has_fit_no_key(modem, raw):
    whole = modem.token(bytes(16)).partition(".")[0]
    modem.twist("AT%ATTESTTOKEN", lambda answer: re.sub(rb"(\.0oRDoQEmoQRBIfZYQ)[^\"]*", _with(raw), answer))
    assert whole
    with pytest.raises((LinkError, DeviceError)):
        await NordicAtDriver(modem.plug(), timeouts=QUICK).identify()


def _with(raw):
    """Return a replacement that puts other numbers into a token."""
    cose = statement(b"x" * 30, b"\xd2\x84\x43\xa1\x01\x26\xa1\x04\x41\x21\xf6\x58\x40" + raw).partition(".")[2]
    return f".{cose}".encode()
