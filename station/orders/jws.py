"""JSON Web Signatures (RFC 7515) with ES256 (RFC 7518 3.4), and nothing else of that world.

Read: the general and the flattened JSON serialization (7.2.1, 7.2.2) and the compact one (7.1), since other tools write
one or the other. Written: the general one. The algorithm has to stand in the protected header and has to be ES256;
``crit`` is refused, as 4.1.11 wants of who knows no extension, and so is an unencoded payload (RFC 7797).

::

    {"payload": "<base64url>",
     "signatures": [{"protected": "<base64url of {"alg":"ES256","kid":"…"}>", "signature": "<base64url of r ‖ s>"}]}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools import es256
from station.errors import printable
from station.orders.errors import OrderError

MAX_JWS: Final = 64 * 1024
"""Characters of a file; what is larger is refused unread."""

MAX_SIGNATURES: Final = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a JWS; not verified yet."""

    protected: str
    """Protected header as it stands, base64url: part of what is signed."""
    value: bytes
    """r and s, 32 octets each."""
    kid: str | None
    """What the protected header says about the key; a hint, never trusted."""

    def is_of(self, key: ec.EllipticCurvePublicKey, payload: str) -> bool:
        """Whether a key made it.

        Args:
            key: on P-256.
            payload: base64url, as it stands.
        """
        return es256.is_by(key, self.value, es256.signing_input(self.protected, payload))


@dataclass(frozen=True, slots=True)
class Jws:
    """A payload and its signatures; not verified yet. Without signatures it is a payload that waits for them."""

    payload_text: str
    """base64url, as it stands."""
    signatures: tuple[Signature, ...]

    @property
    def payload(self) -> bytes:
        """What is signed."""
        return _decoded(self.payload_text, "payload")

    @classmethod
    def of(cls, payload: bytes) -> "Jws":
        """Make one without signatures."""
        return cls(es256.base64url(payload), ())

    def text(self) -> str:
        """Write the general JSON serialization (RFC 7515 7.2.1)."""
        signatures = [{"protected": one.protected, "signature": es256.base64url(one.value)} for one in self.signatures]
        return json.dumps({"payload": self.payload_text, "signatures": signatures}, indent=1) + "\n"

    def signed(self, protected: str, signature: bytes) -> "Jws":
        """Add a signature.

        Args:
            protected: from ``protected_header``.
            signature: ECDSA in DER, as X.509 has it.
        """
        value = es256.base64url(es256.of_der(signature))
        return Jws(self.payload_text, (*self.signatures, _signature(protected, value)))


def parse(text: str) -> Jws:
    """Read a JWS in any of its serializations.

    Raises:
        OrderError: it is none, or not one of the kind that orders are.
    """
    if len(text) > MAX_JWS:
        raise _malformed(f"it is longer than {MAX_JWS} characters")
    stripped = text.strip()
    if stripped.count(".") == 2 and not stripped.startswith("{"):  # noqa: PLR2004 - header.payload.signature
        protected, payload, signature = stripped.split(".")
        return _checked(payload, [_signature(protected, signature)])
    try:
        content = json.loads(stripped, object_pairs_hook=es256.unique)
    except (ValueError, RecursionError) as error:
        raise _malformed(printable(error, 80)) from None
    if not isinstance(content, dict):
        raise _malformed("it is not a JSON object")
    payload = _text(content, "payload")
    if "signatures" not in content:
        return _checked(payload, [_of_object(content)])
    members = content["signatures"]
    if "signature" in content or "protected" in content or "header" in content:
        raise _malformed("it mixes the general and the flattened form")
    if not isinstance(members, list) or len(members) > MAX_SIGNATURES:
        raise _malformed(f"'signatures' is no list of at most {MAX_SIGNATURES}")
    return _checked(payload, [_of_object(member) for member in members])


def protected_header(kid: str) -> str:
    """Return the protected header that we write, base64url."""
    return es256.base64url(json.dumps({"alg": "ES256", "kid": kid}, separators=(",", ":")).encode())


def _decoded(text: str, what: str) -> bytes:
    try:
        return es256.from_base64url(text)
    except ValueError:
        raise _malformed(f"its {what} is not base64url") from None


def _checked(payload: str, signatures: Sequence[Signature]) -> Jws:
    _decoded(payload, "payload")
    return Jws(payload, tuple(signatures))


def _of_object(member: object) -> Signature:
    if not isinstance(member, dict):
        raise _malformed("a signature is not a JSON object")
    return _signature(_text(member, "protected"), _text(member, "signature"), member.get("header"))


def _signature(protected: str, signature: str, header: object = None) -> Signature:
    try:
        said = json.loads(_decoded(protected, "protected header"), object_pairs_hook=es256.unique)
    except (ValueError, RecursionError):
        raise _malformed("its protected header is not JSON") from None
    if not isinstance(said, dict):
        raise _malformed("its protected header is not a JSON object")
    outside = header if isinstance(header, dict) else {}
    if said.keys() & outside.keys():
        raise _malformed("a name stands in both headers (RFC 7515 7.2.1)")
    if said.get("alg") != "ES256":
        raise _malformed(f"its algorithm is {printable(said.get('alg'), 20)!r} in the protected header, not 'ES256'")
    if {"crit", "b64"} & (said.keys() | outside.keys()):
        raise _malformed("it wants extensions ('crit') that are not known here")
    value = _decoded(signature, "signature")
    if len(value) != es256.SIGNATURE_SIZE:
        raise _malformed(f"an ES256 signature has {es256.SIGNATURE_SIZE} octets, this one {len(value)}")
    kid = said.get("kid")
    return Signature(protected, value, kid if isinstance(kid, str) else None)


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise _malformed(f"it has no {name!r}")
    return value


def _malformed(what: str) -> OrderError:
    return OrderError(
        f"not a JWS (RFC 7515) with ES256: {what}; give the file that the order came in", code="order.malformed"
    )
