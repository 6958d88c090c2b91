"""Signatures of release keys over ``bundle.toml``: the member ``signature.json`` of a bundle.

JSON Web Signatures (RFC 7515) in the general serialization with detached content (appendix F): ES256 and nothing else.
The payload is ``bundle.toml`` itself, which stands beside it in the bundle::

    {"signatures": [{"protected": "<base64url of {"alg":"ES256","kid":"…","typ":"firmware-bundle"}>",
                     "signature": "<base64url of r ‖ s>"}]}

``typ`` has to be there: a key that also signs other things signs a bundle only where it says so. ``kid`` is a hint.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools import es256
from firmware_tools.errors import BundleError

PublicKey: TypeAlias = ec.EllipticCurvePublicKey
"""A release key's public half; on P-256."""

TYPE: Final = "firmware-bundle"
MAX_SIGNATURES: Final = 16
MAX_SIGNATURE_FILE: Final = 64 * 1024
"""Bytes of ``signature.json``."""


@dataclass(frozen=True, slots=True)
class ReleaseSignature:
    """One signature; not verified yet."""

    protected: str
    """Protected header as it stands, base64url: part of what is signed."""
    value: bytes
    """r and s, 32 octets each."""
    kid: str
    """What it says about the key; a hint, or empty."""

    @classmethod
    def of(cls, protected: str, der: bytes) -> "ReleaseSignature":
        """Make one of what a token returned.

        Args:
            protected: from ``protected_header``.
            der: ECDSA signature over ``signing_input``.
        """
        return _signature({"protected": protected, "signature": es256.base64url(es256.of_der(der))})

    def is_of(self, key: PublicKey, manifest: bytes) -> bool:
        """Whether a key made it over a manifest."""
        return es256.is_by(key, self.value, signing_input(self.protected, manifest))


def key_id(key: PublicKey) -> str:
    """Return how a key is named: the SHA-256 of its SubjectPublicKeyInfo, hex."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def protected_header(kid: str) -> str:
    """Return the protected header that we write, base64url."""
    return es256.base64url(json.dumps({"alg": "ES256", "kid": kid, "typ": TYPE}, separators=(",", ":")).encode())


def signing_input(protected: str, manifest: bytes) -> bytes:
    """Return what is signed (RFC 7515 5.1, step 5).

    Args:
        protected: from ``protected_header``.
        manifest: bytes of ``bundle.toml``.
    """
    return es256.signing_input(protected, es256.base64url(manifest))


def write_signatures(signatures: Iterable[ReleaseSignature]) -> bytes:
    """Write ``signature.json``."""
    members = [{"protected": one.protected, "signature": es256.base64url(one.value)} for one in signatures]
    return (json.dumps({"signatures": members}, indent=1) + "\n").encode()


def read_signatures(content: bytes) -> tuple[ReleaseSignature, ...]:
    """Read ``signature.json``.

    Raises:
        BundleError: it is none (``bundle.signature``).
    """
    if len(content) > MAX_SIGNATURE_FILE:
        raise _malformed(f"it is longer than {MAX_SIGNATURE_FILE} bytes")
    said = _object(content, "signature.json")
    members = said.get("signatures")
    if set(said) != {"signatures"} or not isinstance(members, list) or not 0 < len(members) <= MAX_SIGNATURES:
        raise _malformed(f"'signatures' is no list of 1 to {MAX_SIGNATURES}")
    return tuple(_signature(member) for member in members)


def signers(signatures: Sequence[ReleaseSignature], manifest: bytes, keys: Sequence[PublicKey]) -> tuple[str, ...]:
    """Return the ids of the keys that signed a manifest."""
    return tuple(key_id(key) for key in keys if any(one.is_of(key, manifest) for one in signatures))


def _signature(member: object) -> ReleaseSignature:
    if not isinstance(member, dict) or set(member) != {"protected", "signature"}:
        raise _malformed("a signature has 'protected' and 'signature', and nothing else")
    protected, value = member["protected"], _decoded(member["signature"])
    header = _object(_decoded(protected), "a protected header")
    if (header.get("alg"), header.get("typ")) != ("ES256", TYPE):
        raise _malformed(f"a protected header does not say alg ES256 and typ {TYPE}")
    if header.keys() - {"alg", "typ", "kid"}:
        raise _malformed("a protected header wants extensions that are not known here")
    if len(value) != es256.SIGNATURE_SIZE:
        raise _malformed(f"an ES256 signature has {es256.SIGNATURE_SIZE} octets, one here {len(value)}")
    kid = header.get("kid", "")
    return ReleaseSignature(str(protected), value, kid if isinstance(kid, str) else "")


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        said = json.loads(content.decode(), object_pairs_hook=es256.unique)
    except (ValueError, RecursionError):
        raise _malformed(f"{what} is not JSON") from None
    if not isinstance(said, dict):
        raise _malformed(f"{what} is not a JSON object")
    return said


def _decoded(text: object) -> bytes:
    try:
        if isinstance(text, str):
            return es256.from_base64url(text)
    except ValueError:
        pass
    raise _malformed("something in it is not base64url")


def _malformed(what: str) -> BundleError:
    return BundleError(
        f"signature.json can't be read: {what}; ask for the bundle again, or sign it with 'station firmware sign'",
        code="bundle.signature",
    )
