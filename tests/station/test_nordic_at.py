"""The driver of Nordic's modems, against a script in memory."""

import re
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm import Csr
from station.devices import Attesting, Capability, Comparing, DeviceState, Locks
from station.devices.nordic_at import AtTimeouts, NordicAtDriver
from station.errors import DeviceError, Garbled, NoAnswer, Unplugged
from station.testing import ScriptedModem

TAG = 16842753
QUICK = AtTimeouts(query=(0.05, 0.05, 0.05, 0.05), offline=0.05, write=0.05, keygen=0.05)


@pytest.fixture
def modem():
    return ScriptedModem()


@pytest.fixture
async def driver(modem):
    return NordicAtDriver(modem.plug(), timeouts=QUICK)


async def test_a_blank_modem_says_who_it_is(driver, modem):
    identity = await driver.identify()
    assert identity.hardware_id == str(modem.uuid)
    assert (identity.model, identity.firmware_version) == ("nRF9151-LACA", "mfw_nrf91x1_2.0.2")
    assert identity.remarks["imei"] == modem.imei
    assert (identity.state, identity.kept_sha256) == (DeviceState.BLANK, None)


async def test_the_csr_is_the_one_that_the_modem_vouches_for(driver, modem):
    await driver.identify()
    csr = Csr.parse(await driver.make_key())
    assert csr.spki == modem.credentials[TAG, 2]
    assert csr.spki_sha256.hex()
    assert sha256(csr.der).hexdigest() in driver.key_statement["statement"]


async def test_the_identity_key_is_learned_from_two_statements(driver, modem):
    await driver.identify()
    await driver.make_key()
    learned = load_der_public_key(bytes.fromhex(driver.key_statement["identity_key"]))
    assert learned == modem.identity_key.public_key()


async def test_the_radio_is_off_before_a_key_is_made(driver, modem):
    await driver.identify()
    assert modem.is_active
    await driver.make_key()
    assert not modem.is_active


async def test_a_key_of_an_attempt_before_goes_after_its_certificate(driver, modem, make_chain):
    await driver.identify()
    await driver.install(make_chain(await driver.make_key()))
    first = modem.credentials[TAG, 2]
    await driver.make_key()
    deletions = [command for command in modem.commands if command.startswith("AT%CMNG=3")]
    assert deletions == [f"AT%CMNG=3,{TAG},1", f"AT%CMNG=3,{TAG},2"]
    assert modem.credentials[TAG, 2] != first


async def test_the_chain_is_written_as_pem_leaf_first(driver, modem, make_chain):
    await driver.identify()
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    written = modem.credentials[TAG, 1]
    assert written.count(b"-----BEGIN CERTIFICATE-----\r\n") == 2
    assert sha256(written).digest() in driver.kept(chain)
    assert await driver.read_back(chain) == chain[0]
    assert (await driver.identify()).kept_sha256 == sha256(written).digest()


async def test_a_host_that_strips_cr_is_understood(driver, modem, make_chain):
    await driver.identify()
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    modem.credentials[TAG, 1] = modem.credentials[TAG, 1].replace(b"\r", b"")
    assert await driver.read_back(chain) == chain[0]


async def test_the_attestation_is_signed_by_the_key_that_vouched_for_the_new_one(driver, modem, make_chain):
    await driver.identify()
    await driver.install(make_chain(await driver.make_key()))
    stated = await driver.attest(b"0123456789abcdef")
    assert b"0123456789abcdef" in stated.message
    assert stated.public_key.hex() == driver.key_statement["identity_key"]
    modem.identity_key.public_key().verify(stated.signature, stated.message, ec.ECDSA(SHA256()))


async def test_a_modem_that_passed_before_attests_to_a_driver_that_never_saw_its_key(driver, modem, make_chain):
    await driver.identify()
    await driver.install(make_chain(await driver.make_key()))
    later = NordicAtDriver(modem.plug(), timeouts=QUICK)
    await later.identify()
    stated = await later.attest(bytes(16))
    assert load_der_public_key(stated.public_key) == modem.identity_key.public_key()


async def test_other_tags_are_left_alone(modem, make_chain):
    modem.credentials[7, 1] = modem.credentials[7, 2] = b"mine"
    driver = NordicAtDriver(modem.plug(), sec_tag=42, timeouts=QUICK)
    assert (await driver.identify()).state is DeviceState.BLANK
    await driver.install(make_chain(await driver.make_key()))
    assert {place for place, _ in modem.credentials.items()} == {(7, 1), (7, 2), (42, 1), (42, 2)}


async def test_what_it_cant_do_is_said_by_its_capabilities(driver):
    assert not driver.capabilities & (Capability.PROVE | Capability.READ_BACK | Capability.LOCK)
    assert isinstance(driver, Comparing)
    assert isinstance(driver, Attesting)
    assert await driver.lock_state() is Locks.NONE
    with pytest.raises(DeviceError, match="signs no challenge"):
        await driver.prove(bytes(32))


async def test_unsolicited_results_between_the_lines_are_passed_over(driver, modem):
    modem.twist("AT+CG", lambda answer: b'+CEREG: 5\r\n\r\n%XTIME: ,"2"\r\n' + answer)
    assert (await driver.identify()).model == "nRF9151-LACA"


async def test_ok_within_an_answer_is_not_its_end(driver, modem):
    modem.twist("AT+CGMM", lambda answer: b"OKAY\r\nnot OK\r\n OK or not\r\n" + answer)
    assert (await driver.identify()).model == "nRF9151-LACA"


async def test_an_answer_that_is_late_is_not_taken_for_the_next_one(driver, modem):
    await driver.identify()
    held = []
    modem.twist("AT%CMNG=1", held.append, times=1)
    modem.twist("AT%ATTESTTOKEN", lambda answer: (held.pop() if held else b"") + answer)
    assert (await driver.identify()).state is DeviceState.BLANK


async def test_a_quotation_that_the_wire_opened_is_closed_again(driver, modem):
    modem._hear(b'AT%CMNG=0,1,1,"-----BEGIN')
    assert (await driver.identify()).hardware_id == str(modem.uuid)


async def test_another_modem_in_the_same_fixture_introduces_itself(modem):
    link = modem.plug()
    driver = NordicAtDriver(link, timeouts=QUICK)
    await driver.identify()
    other = ScriptedModem("7f1b3c60-9d5e-4c11-a3a5-0b7a6b8f1a55")
    other.link = link
    link.connect(other._hear)
    assert (await driver.identify()).hardware_id == str(other.uuid)
    assert await driver.make_key()


async def test_a_modem_swapped_between_two_verbs_is_refused(modem):
    link = modem.plug()
    driver = NordicAtDriver(link, timeouts=QUICK)
    await driver.identify()
    other = ScriptedModem("7f1b3c60-9d5e-4c11-a3a5-0b7a6b8f1a55")
    other.link = link
    link.connect(other._hear)
    other.is_active = False
    with pytest.raises(DeviceError) as caught:
        await driver.make_key()
    assert caught.value.code in {"device.statement_signature", "device.swapped"}


async def test_silence_is_told_from_talk(driver, modem):
    modem.hush("AT")
    with pytest.raises(NoAnswer):
        await driver.identify()
    modem.say("AT", b"Segmentation fault\r\n")
    with pytest.raises(Garbled):
        await driver.identify()


async def test_a_modem_that_leaves_is_unplugged(driver, modem):
    modem.twist("AT+CGMR", lambda _answer: modem.link.unplug())
    with pytest.raises(Unplugged):
        await driver.identify()


async def test_no_command_carries_a_secret_into_an_error(driver, modem, make_chain):
    await driver.identify()
    chain = make_chain(await driver.make_key())
    modem.refuse("AT%CMNG=0", 515)
    with pytest.raises(DeviceError) as caught:
        await driver.install(chain)
    assert re.search("BEGIN CERTIFICATE", str(caught.value)) is None
