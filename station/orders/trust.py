"""Whose signatures make an order valid."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from station.manifest import OrderTerms
from station.orders import jws
from station.orders.errors import OrderError
from station.orders.payload import read_order
from station.orders.terms import Order
from station.public_key_file import read_public_key


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return how a key is named in headers and lists: the SHA-256 of its SubjectPublicKeyInfo, hex."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order whose signatures were verified; made by ``Trust.verified`` only."""

    order: Order
    jws: str
    payload_sha256: bytes
    approvers: tuple[str, ...]
    """Names of the keys that signed."""

    def terms(self, station_id: int) -> OrderTerms:
        """Return what the manifest keeps: one station's share.

        Raises:
            OrderError: the order does not name the station.
        """
        return self.order.terms(station_id, jws=self.jws, payload_sha256=self.payload_sha256)


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys that may sign orders, and how many of them have to."""

    keys: tuple[tuple[str, ec.EllipticCurvePublicKey], ...]
    """Each with its name (of its file), and each once."""
    approvals: int = 1

    @classmethod
    def of(cls, keys: Iterable[tuple[str, ec.EllipticCurvePublicKey]], approvals: int = 1) -> Self:
        """Trust keys.

        Raises:
            OrderError: fewer different keys than approvals: nothing could ever be approved.
        """
        once = {key_id(key): (name, key) for name, key in reversed(list(keys))}
        if len(once) < approvals:
            raise OrderError(
                f"[order] trusted names {len(once)} different key{'' if len(once) == 1 else 's'}, and approvals = "
                f"{approvals} needs as many; name the public key of each approver",
                code="order.trust",
            )
        return cls(tuple(reversed(once.values())), approvals)

    @classmethod
    def load(cls, paths: Sequence[Path], approvals: int = 1) -> Self:
        """Read the files of ``[order] trusted``.

        Raises:
            OrderError: a file can't be used, or there are too few.
        """
        return cls.of(((path.name, load_key(path)) for path in paths), approvals)

    def verified(self, text: str) -> SignedOrder:
        """Read a signed order.

        Args:
            text: a JWS.

        Raises:
            OrderError: malformed, not approved by enough of these keys, or its terms make no sense.
        """
        envelope = jws.parse(text)
        approvers = self._approvers(envelope)
        order = read_order(envelope.payload)
        if len(approvers) < self.approvals:
            raise OrderError(
                f"order {order.name} is approved by {', '.join(approvers)}, and {self.approvals} different keys of "
                "[order] trusted have to sign it; 'station order sign' adds a signature",
                code="order.approvals",
                operator="This order lacks an approval. Call the line engineer.",
            )
        return SignedOrder(order, text, hashlib.sha256(envelope.payload).digest(), approvers)

    def _approvers(self, envelope: jws.Jws) -> tuple[str, ...]:
        """Return the names of the keys that signed.

        Raises:
            OrderError: none did.
        """
        if not envelope.signatures:
            raise OrderError("nobody signed this order; 'station order sign' does", code="order.signature_invalid")
        known = {key_id(key): (name, key) for name, key in self.keys}  # two files may have one name
        for signature in envelope.signatures:
            name, key = known.get(signature.kid or "", ("", None))
            if key is not None and not signature.is_of(key, envelope.payload_text):
                raise OrderError(
                    f"the signature that says it is of {name} does not verify: the order was changed after it was "
                    "signed; ask its sender for the file again",
                    code="order.signature_invalid",
                )
        found = tuple(
            name
            for name, key in self.keys
            if any(signature.is_of(key, envelope.payload_text) for signature in envelope.signatures)
        )
        if not found:
            trusted = ", ".join(name for name, _ in self.keys)
            raise OrderError(
                f"no signature of this order verifies with a key of [order] trusted ({trusted}): it was changed, or "
                "somebody else signed it",
                code="order.signature_invalid",
                operator="This order is not genuine. Call the security officer.",
            )
        return found


def load_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read a public key, or that of a certificate, in PEM.

    Raises:
        OrderError: it can't be read, or is not on P-256.
    """
    try:
        key = read_public_key(path)
    except OSError as error:
        raise OrderError(
            f"{path}: {error.strerror}; put the public key of who signs your orders there, or correct [order] trusted",
            code="order.trust",
        ) from None
    except ValueError:
        raise OrderError(
            f"{path}: neither a public key nor a certificate in PEM; 'station order key' writes one", code="order.trust"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise OrderError(f"{path}: orders are signed with ES256, and this key is not on P-256", code="order.trust")
    return key
