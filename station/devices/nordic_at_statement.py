r"""What a Nordic modem states of itself, and the identity key that signs it.

``AT%KEYGEN`` and ``AT%ATTESTTOKEN`` answer with ``base64url(body) "." base64url(cose)``. The second part is a
COSE_Sign1 (RFC 9052 4.2, ES256) by the *identity key*, which its maker put into each modem::

    18([ {alg: ES256}, {kid: -2}, payload, r || s ])

- ``%KEYGEN``: the body is a CSR in DER. The payload is ``[9, device UUID, sec_tag (CBOR in a byte string),
  SHA-256(body), nonce]``: the modem states that it made this key, in this tag.
- ``%ATTESTTOKEN``: the body is ``55799([1, device UUID, kind of chip, firmware UUID, nonce])``; the COSE holds no
  payload, the body is it. The nonce is the one that was asked for.

What is signed is the Sig_structure of RFC 9052 4.4, ``["Signature1", protected, h'', payload]``.

Nordic does not publish the identity keys. But a signature of ECDSA narrows its public key down to two (SEC 1, 4.1.6),
and a second signature, over something else, fits one of them or none. So the key is *learned* from what the modem
states first, and everything that it states later has to be by the same one: neither damage on the wire, nor another
modem, nor a CSR of another origin passes. That the key is Nordic's own can be asked of Nordic's identity service, with
the token that the manifest keeps.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_tools import strict_cbor
from station.errors import DeviceError, Garbled

TEXT: Final = r"[0-9A-Za-z_-]{16,6000}\.[0-9A-Za-z_-]{16,1000}"
"""A statement on the wire, as a regular expression."""

NONCE_SIZE: Final = 16
"""Bytes of a nonce, and of a UUID."""

SIG_STRUCTURE: Final = b"\x84\x6aSignature1"
"""How every signed message of a COSE_Sign1 begins."""

_SIGN1: Final = b"\xd2"
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
_DEPTH: Final = 3
_ES256: Final = {1: -7}
_DIGEST: Final = 32
_SCALAR: Final = 32

# P-256, SEC 2 2.4.2.
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class StatementRefused(DeviceError):
    """A statement is by another key than the ones before, or about something else. Or the wire harmed it."""

    code = "device.statement_signature"
    operator = "Take the board out and put it in again; if it fails twice, put it into the red bin."

    def __init__(self, statement: "Statement", text: str | None = None, *, code: str | None = None) -> None:
        """Say what is wrong with a statement."""
        super().__init__(
            f"the modem's statement {text or 'is not signed by the identity key that signed the ones before'}",
            code=code,
            payload=statement.payload,
            signature=statement.signature,
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """A body and who signed it; the signature is not checked yet."""

    body: bytes
    payload: bytes
    """What the COSE holds; the body where it holds nothing."""
    message: bytes
    """What is signed."""
    signature: bytes
    """ECDSA-Sig-Value, DER."""
    r: int
    s: int

    @classmethod
    def parse(cls, text: str) -> "Statement":
        """Take a statement apart.

        Raises:
            Garbled: it is none; most likely the wire harmed it.
        """
        if re.fullmatch(TEXT, text) is None:
            raise Garbled("the modem's statement is not two parts in base64url", got=text)
        try:
            body, cose = (base64.b64decode(f"{part}{'=' * (-len(part) % 4)}", b"-_", True) for part in text.split("."))
        except binascii.Error as error:
            raise Garbled(f"the modem's statement is not base64url: {error}", got=text) from error
        if ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (body, cose)) != text:
            raise Garbled("the modem's statement ends with bits that are no byte", got=text)
        match _item(cose.removeprefix(_SIGN1)):
            case [bytes(protected), dict(), bytes() | None as held, bytes(raw)] if len(raw) == 2 * _SCALAR:
                payload = body if held is None else held
            case _:
                raise Garbled("the modem's statement has no COSE_Sign1", got=cose)
        if _item(protected) != _ES256:
            raise Garbled("the modem's statement is not signed with ES256", got=protected)
        r, s = int.from_bytes(raw[:_SCALAR]), int.from_bytes(raw[_SCALAR:])
        message = cbor2.dumps(["Signature1", protected, b"", payload])
        return cls(body, payload, message, encode_dss_signature(r, s), r, s)


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """What ``%KEYGEN`` signs: that this key was made in this modem."""

    uuid: bytes
    sec_tag: int
    csr_sha256: bytes
    nonce: bytes

    @classmethod
    def of(cls, statement: Statement) -> "KeyStatement":
        """Read the payload.

        Raises:
            Garbled: it is no statement about a CSR.
        """
        match _item(statement.payload):
            case [9, bytes(uuid), bytes(tag), bytes(digest), bytes(nonce)] if (
                len(uuid) == NONCE_SIZE and len(digest) == _DIGEST
            ):
                number = _item(tag)
                if type(number) is int:
                    # a tag above 2^31 comes as a negative number
                    return cls(uuid, number & 0xFFFFFFFF, digest, nonce)
        raise Garbled("the modem's statement is not about a CSR", got=statement.payload)


@dataclass(frozen=True, slots=True)
class IdentityStatement:
    """What ``%ATTESTTOKEN`` signs: which modem it is."""

    uuid: bytes
    chip: int
    """1 to 3 nRF9160, 4 nRF9161, 5 nRF9131, 6 nRF9151."""
    firmware: bytes
    """UUID of the modem firmware's build."""
    nonce: bytes

    @classmethod
    def of(cls, statement: Statement) -> "IdentityStatement":
        """Read the payload.

        Raises:
            Garbled: it is no statement of identity.
        """
        match _item(statement.payload.removeprefix(_SELF_DESCRIBED)):
            case [1, bytes(uuid), int(chip), bytes(firmware), bytes(nonce)] if {
                len(uuid),
                len(firmware),
                len(nonce),
            } == {NONCE_SIZE}:
                return cls(uuid, chip, firmware, nonce)
        raise Garbled("the modem's token is no statement of identity", got=statement.payload)


class IdentityKey:
    """A modem's identity key, as far as it is known: two candidates after one statement, one after two."""

    def __init__(self, known: Iterable[ec.EllipticCurvePublicKey] = ()) -> None:
        """Begin with keys that are known from elsewhere, or with none."""
        self._candidates = list(known)

    def check(self, statement: Statement) -> None:
        """Hold a statement to the key; the first one teaches it.

        Raises:
            StatementRefused: by another key than what this modem stated before.
        """
        fitting = [key for key in self._candidates or _signers(statement) if _is_by(key, statement)]
        if not fitting:
            raise StatementRefused(statement)
        self._candidates = fitting

    @property
    def is_learned(self) -> bool:
        """Whether two statements agreed on it."""
        return len(self._candidates) == 1

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo (DER) of a learned key."""
        return self._candidates[0].public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _item(data: bytes) -> object:
    try:
        return strict_cbor.decode(data, depth=_DEPTH, integer_keys=True)
    except ValueError as error:
        raise Garbled(f"the modem's statement is not CBOR: {error}", got=data) from error


def _is_by(key: ec.EllipticCurvePublicKey, statement: Statement) -> bool:
    try:
        key.verify(statement.signature, statement.message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _signers(statement: Statement) -> list[ec.EllipticCurvePublicKey]:
    """Return the keys that a signature may be by (SEC 1, 4.1.6): ``(s/r) R - (e/r) G`` for both points R with this x.

    The two products come from the library: the first one as a Diffie-Hellman secret, of which the sign is lost, which
    is the very freedom that R has; the second as a key pair. A remainder is left out: x may have been above the group's
    order, once in 2^128 signatures.
    """
    r, s = statement.r, statement.s
    y = _root(r)
    if y is None or not (0 < r < _N and 0 < s < _N):
        return []
    inverse = pow(r, -1, _N)
    e = int.from_bytes(sha256(statement.message).digest())
    try:
        point = ec.EllipticCurvePublicNumbers(r, y, ec.SECP256R1()).public_key()
        secret = ec.derive_private_key(s * inverse % _N, ec.SECP256R1()).exchange(ec.ECDH(), point)
        base = ec.derive_private_key(-e * inverse % _N, ec.SECP256R1()).public_key().public_numbers()
    except ValueError:  # a zero among the numbers: nobody signed that
        return []
    x = int.from_bytes(secret)
    half = _root(x)
    if half is None or x == base.x:
        return []
    return [_sum(base.x, base.y, x, sign) for sign in (half, _P - half)]


def _root(x: int) -> int | None:
    """Return a y of the curve for this x, or None: ``y^2 = x^3 - 3x + b``."""
    square = (x * x * x - 3 * x + _B) % _P
    y = pow(square, (_P + 1) // 4, _P)
    return y if x < _P and y * y % _P == square else None


def _sum(x1: int, y1: int, x2: int, y2: int) -> ec.EllipticCurvePublicKey:
    """Add two points with different x (SEC 1, 2.2.1)."""
    slope = (y2 - y1) * pow(x2 - x1, -1, _P) % _P
    x = (slope * slope - x1 - x2) % _P
    return ec.EllipticCurvePublicNumbers(x, (slope * (x1 - x) - y1) % _P, ec.SECP256R1()).public_key()
