"""A detached JWS is taken in one spelling only."""

import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.es256 import base64url, of_der, signing_input
from station.exports.signature import detached, is_signed

PAYLOAD = b'{"files": []}\n'
KEY = ec.generate_private_key(ec.SECP256R1())


class SoftSeal:
    """A seal whose key is in this process."""

    kid = "test"

    def sign(self, messages):
        return [of_der(KEY.sign(message, ec.ECDSA(hashes.SHA256()))) for message in messages]


def jws(header: str) -> str:
    """Sign under any header at all."""
    protected = base64url(header.encode())
    (signature,) = SoftSeal().sign([signing_input(protected, base64url(PAYLOAD))])
    return f"{protected}..{base64url(signature)}"


def test_what_is_sealed_is_signed():
    made = detached(SoftSeal(), PAYLOAD)
    assert is_signed(made, PAYLOAD, KEY.public_key())
    assert not is_signed(made, PAYLOAD + b" ", KEY.public_key())
    assert not is_signed(made, PAYLOAD, ec.generate_private_key(ec.SECP256R1()).public_key())


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none"}',
        '{"alg":"ES256","crit":["x"],"x":1}',
        '{"alg":"ES256","b64":false}',
        '{"alg":"none","alg":"ES256"}',
        '["ES256"]',
        "[" * 100_000,
        "not JSON",
    ],
    ids=["none", "crit", "b64", "twice", "list", "deep", "text"],
)
def test_another_header_is_refused(header):
    assert not is_signed(jws(header), PAYLOAD, KEY.public_key())


@pytest.mark.parametrize("more", ["=", "==", "\n", "é"])
def test_another_spelling_is_refused(more):
    made = jws(json.dumps({"alg": "ES256"}))
    protected, _, signature = made.partition("..")
    assert is_signed(made, PAYLOAD, KEY.public_key())
    assert not is_signed(f"{protected}{more}..{signature}", PAYLOAD, KEY.public_key())
    assert not is_signed(f"{protected}..{signature}{more}x", PAYLOAD, KEY.public_key())
