from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from station.errors import DeviceError
from station.line.proof import verify_proof

CHALLENGE = bytes(range(32))


def certificate_for(key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a board")])
    issuer = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(issuer, SHA256()).public_bytes(Encoding.DER)


def sign(key, message: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(message, padding.PKCS1v15(), SHA256())
        case _:
            return key.sign(message)


@pytest.fixture(params=["p256", "p384", "rsa", "ed25519"], scope="module")
def key(request):
    return {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[request.param]()


@pytest.fixture
def certificate(key):
    return certificate_for(key)


@pytest.fixture
def message(certificate):
    return b"domain" + CHALLENGE + sha256(certificate).digest()


def test_a_signature_by_the_key_of_the_certificate_is_a_proof(key, certificate, message):
    verify_proof(certificate, CHALLENGE, message, sign(key, message))


def test_a_signature_by_another_key_is_none(key, message):
    other = certificate_for(ec.generate_private_key(ec.SECP256R1()))
    bound = message + sha256(other).digest()
    with pytest.raises(DeviceError) as refused:
        verify_proof(other, CHALLENGE, bound, sign(key, bound))
    assert refused.value.code == "device.proof_invalid"


def test_a_signature_over_another_challenge_is_none(key, certificate):
    replayed = b"domain" + bytes(32) + sha256(certificate).digest()
    with pytest.raises(DeviceError) as refused:
        verify_proof(certificate, CHALLENGE, replayed, sign(key, replayed))
    assert refused.value.code == "device.proof_unbound"


def test_a_signature_that_does_not_name_the_certificate_is_none(key, certificate):
    loose = b"domain" + CHALLENGE
    with pytest.raises(DeviceError) as refused:
        verify_proof(certificate, CHALLENGE, loose, sign(key, loose))
    assert refused.value.code == "device.proof_unbound"


def test_garbage_is_none(certificate, message):
    with pytest.raises(DeviceError):
        verify_proof(certificate, CHALLENGE, message, b"\x30\x03\x02\x01")
