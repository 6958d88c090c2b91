"""What stands in the place of a proof: judged by values, without a line."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from station.devices import Attestation
from station.devices.nordic_at import AtTimeouts, NordicAtDriver
from station.errors import DeviceError
from station.line.evidence import Evidence, attestation_nonce
from station.line.proof import verify_attestation
from station.manifest import ProofKind, ProofRecord
from station.testing import ScriptedModem


def stated(message, key):
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Attestation(message, key.sign(message, ec.ECDSA(SHA256())), spki)


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def test_a_statement_over_our_nonce_by_its_key_is_taken(key):
    verify_attestation(stated(b"before 0123456789abcdef after", key), b"0123456789abcdef")


def test_a_statement_over_another_nonce_is_unbound(key):
    with pytest.raises(DeviceError) as caught:
        verify_attestation(stated(b"before 0123456789abcdef after", key), b"fedcba9876543210")
    assert caught.value.code == "device.proof_unbound"


def test_a_statement_by_another_key_is_invalid(key):
    right = stated(b"0123456789abcdef", key)
    other = stated(b"0123456789abcdef", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(DeviceError) as caught:
        verify_attestation(Attestation(right.message, other.signature, right.public_key), b"0123456789abcdef")
    assert caught.value.code == "device.proof_invalid"


def test_the_nonce_commits_to_challenge_and_certificate():
    one = attestation_nonce(bytes(32), b"leaf")
    assert len(one) == 16
    assert one != attestation_nonce(bytes(31) + b"\1", b"leaf")
    assert one != attestation_nonce(bytes(32), b"another leaf")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"provisioning-station proof v1\0" + bytes(64), ProofKind.CHALLENGE),
        (b"\x84\x6aSignature1\x43\xa1\x01\x26\x40", ProofKind.ATTESTATION),
    ],
)
def test_a_proof_says_by_itself_what_it_is(message, kind):
    at = datetime.now(UTC).isoformat()
    assert ProofRecord(1, bytes(32), message, b"s", bytes(32), 0, 1.0, at).kind is kind


class TestDigests:
    @pytest.fixture
    async def held(self, make_chain):
        """A modem that holds a chain, its driver, the chain, and what it says of itself."""
        modem = ScriptedModem()
        driver = NordicAtDriver(modem.plug(), timeouts=AtTimeouts(query=(0.2,)))
        await driver.identify()
        chain = make_chain(await driver.make_key())
        await driver.install(chain)
        return driver, chain, await driver.identify()

    async def test_the_digest_of_the_recorded_chain_names_its_leaf(self, held):
        driver, chain, identity = held
        issuer = type("Issuer", (), {"chain": chain[1:]})()
        evidence = Evidence(driver, lambda _leaf: issuer)
        assert evidence.compared(identity, chain[0]).leaf_sha256 == sha256(chain[0]).digest()
        assert await evidence.read_back(None) == chain[0]

    @pytest.mark.parametrize("recorded", [True, False])
    async def test_any_other_digest_is_that_of_a_foreign_leaf(self, held, recorded):
        driver, chain, identity = held
        compared = Evidence(driver, lambda _leaf: None).compared(identity, chain[0] if recorded else None)
        assert compared.leaf_sha256 == identity.kept_sha256
