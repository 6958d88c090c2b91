"""The export key, and what it signs: statements about parcels, and the objects of a JWS manifest.

Detached JWS and not CMS: every language that a cloud team writes has a JWS library that verifies it in three lines, and
ES256 is the one algorithm in it, so nothing is negotiated (RFC 7515 appendix F, RFC 7518 3.4). ``export.jws`` holds the
compact serialization with the payload left out; the payload is ``export.json``, byte by byte.

The key is of its own: P-256, born in the token of ``[ca]``, never to leave it, found by its public half in
``export.pem`` beside the CA's certificate. It signs nothing that begins like a certificate: a signing input begins with
base64url.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from firmware_tools.es256 import SIGNATURE_SIZE, base64url, from_base64url, is_by, of_der, signing_input, unique
from hsm import EcTokenKey, KeyFamily, KeyKind, Signer, find_key
from hsm.files import write_new
from hsm.key_store import find_or_generate
from hsm.keys import Signing
from station.exports.target import ExportError

KEY_FILE: Final = "export.pem"
KEY_LABEL: Final = "export"

_COORDINATE: Final = 32


class Seal(Protocol):
    """What signs an export."""

    @property
    def kid(self) -> str:
        """The key's id: its JWK thumbprint (RFC 7638)."""

    def sign(self, messages: Sequence[bytes]) -> list[bytes]:
        """Sign messages; return r and s of each, 64 octets."""


class TokenSeal:
    """The export key in its token."""

    def __init__(self, key: EcTokenKey) -> None:
        self._key = key
        self.kid = thumbprint(key.public_key())

    def sign(self, messages: Sequence[bytes]) -> list[bytes]:
        """Sign messages, several under way at once; each signature is verified before it is returned.

        Raises:
            TokenError: the token refused.
            ExportError: what it returned does not verify.
        """

        async def run() -> list[bytes]:
            return await asyncio.gather(*(self._key.sign_message(message) for message in messages))

        public = self._key.public_key()
        signatures = asyncio.run(run())
        try:
            for message, signature in zip(messages, signatures, strict=True):
                public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise ExportError("the token returned a signature that does not verify", code="export.signature") from None
        return [of_der(signature) for signature in signatures]


def make_export_key(signer: Signer, path: Path) -> ec.EllipticCurvePublicKey:
    """Make the export key in a token, or find it there, and write its public half. Blocks.

    Args:
        signer: opened ``writable``.
        path: of the new file; what is there is never overwritten.

    Raises:
        HsmError: the token can't make it, or holds a key of this label that breaks a rule.
        ExportError: the file is there, or can't be written.
    """
    if path.exists():
        raise ExportError(f"{path} is there already, and is never overwritten: move it away first")

    public = _checked(find_or_generate(signer, KeyKind.P256, KEY_LABEL, (KeyFamily.P256,)).public_key())
    try:
        write_new(path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        raise ExportError(
            f"{path}: can't be written ({error.strerror}); try again: the key stays in the token"
        ) from error
    return public


def open_seal(signer: Signing, path: Path) -> TokenSeal:
    """Find the export key in a token. Blocks.

    Raises:
        HsmError: the token does not hold it.
        ExportError: the file can't be read.
    """
    key = find_key(signer, read_export_key(path))
    assert isinstance(key, EcTokenKey)  # noqa: S101 - found by a public key on P-256
    return TokenSeal(key)


def read_export_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read the public half of an export key.

    Raises:
        ExportError: the file can't be read, or holds something else.
    """
    try:
        return _checked(load_pem_public_key(path.read_bytes()))
    except OSError as error:
        raise ExportError(f"{path}: can't be read ({error.strerror}); check the path", code="export.key") from error
    except ValueError as error:
        raise ExportError(
            f"{path}: not a public key on P-256 (PEM); 'station manifest export-key' writes one", code="export.key"
        ) from error


def detached(seal: Seal, payload: bytes) -> str:
    """Return a JWS over a payload, in compact form, without the payload."""
    protected = base64url(json.dumps({"alg": "ES256", "kid": seal.kid}, separators=(",", ":")).encode())
    (signature,) = seal.sign([signing_input(protected, base64url(payload))])
    return f"{protected}..{base64url(signature)}\n"


def is_signed(jws: str, payload: bytes, key: ec.EllipticCurvePublicKey) -> bool:
    """Tell whether a key made a detached JWS over a payload."""
    parts = jws.strip().split(".")
    try:
        protected, empty, signature = parts
        header = json.loads(from_base64url(protected), object_pairs_hook=unique)
        value = from_base64url(signature)
    except (ValueError, RecursionError):
        return False
    if empty or not isinstance(header, dict) or header.get("alg") != "ES256" or {"crit", "b64"} & header.keys():
        return False
    return len(value) == SIGNATURE_SIZE and is_by(key, value, signing_input(protected, base64url(payload)))


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the JWK thumbprint of a key on P-256 (RFC 7638 3.2)."""
    numbers = key.public_numbers()
    x, y = (base64url(number.to_bytes(_COORDINATE)) for number in (numbers.x, numbers.y))
    return base64url(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())


def _checked(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key on P-256")  # noqa: TRY004 - the file holds something else
    return key
