"""Signing an order with a key in a token: the OEM's, at the OEM's."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools import es256
from hsm import EcTokenKey, KeyFamily, KeyKind, Signer, TokenUri, find_key, generate_key
from hsm.key_store import labelled
from hsm.root_mark import root_in
from station.orders import jws
from station.orders.errors import OrderError
from station.orders.payload import read_order
from station.orders.trust import key_id

KEY_LABEL: Final = "order-key"
"""Label of the key, where the token's URI names no ``object``."""


def make_key(uri: TokenUri, out: Path, *, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """Make a key for orders in a token, and write its public half. Blocks.

    Args:
        uri: the token; ``object=`` names the key.
        out: gets the public key in PEM; must not be there.
        environment: variables that the module reads.

    Returns:
        The key's id, as headers and lists name it.

    Raises:
        OrderError: the file is there, or the token holds the key of a root (``order.root_token``).
        HsmError: the token can't make it, or holds a key of this label.
        OSError: the file can't be written.
    """
    if out.exists():
        raise OrderError(f"{out} is there already; name another file", code="order.file_exists")
    with Signer.open(uri, environment=environment, writable=True) as signer:
        _refuse_root(signer)
        key = generate_key(signer, KeyKind.P256, uri.object or KEY_LABEL)
        public = key.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        with out.open("xb") as file:
            file.write(pem)
    assert isinstance(public, ec.EllipticCurvePublicKey)  # noqa: S101 - a P-256 key
    return key_id(public)


def sign_order(text: str, uri: TokenUri, *, environment: Mapping[str, str] = MappingProxyType({})) -> tuple[str, str]:
    """Add a signature to an order. Blocks.

    Args:
        text: the order's file: a JWS, with or without signatures.
        uri: the token; ``object=`` names the key.
        environment: variables that the module reads.

    Returns:
        The JWS with one signature more, and the id of the key.

    Raises:
        OrderError: no order; this key signed it before (``order.signed_before``); or the token holds the key of a root.
        HsmError: the token can't be used, or does not hold the key.
    """
    envelope = jws.parse(text)
    read_order(envelope.payload)  # nobody signs what no station would take
    with Signer.open(uri, environment=environment) as signer:
        _refuse_root(signer)
        public = named_key(signer, uri)
        if public is None:
            raise OrderError(
                f"token {signer.name!r} does not hold one P-256 key called {uri.object or KEY_LABEL!r}; name the key "
                "with object=… in the URI, or make one with 'station order key'",
                code="order.key",
            )
        kid = key_id(public)
        if any(one.is_of(public, envelope.payload_text) for one in envelope.signatures):
            raise OrderError(
                f"key {kid[:16]}… signed this order before; a second approver signs with a key of their own",
                code="order.signed_before",
            )
        key = find_key(signer, public)
        assert isinstance(key, EcTokenKey)  # noqa: S101 - found by a public key on P-256
        protected = jws.protected_header(kid)
        signature = key.sign_message_blocking(es256.signing_input(protected, envelope.payload_text))
    signed = envelope.signed(protected, signature)
    if not signed.signatures[-1].is_of(public, signed.payload_text):
        raise OrderError("the token returned a signature that does not verify; nothing was written", code="order.token")
    return signed.text(), kid


def _refuse_root(signer: Signer) -> None:
    """See that a token holds no root's key: those are for ceremonies only. Blocks."""
    if (label := root_in(signer)) is not None:
        raise OrderError(
            f"token {signer.name!r} holds {label!r}, the key of a root, and root tokens are opened by "
            "'station ca ceremony' only; name another token for orders, and put this one back into its safe",
            code="order.root_token",
        )


def named_key(signer: Signer, uri: TokenUri) -> ec.EllipticCurvePublicKey | None:
    """Find the public half of the key that a URI names; None if there is none, or more than one. Blocks."""
    try:
        found = labelled(signer, uri.object or KEY_LABEL, (KeyFamily.P256,))
    except ValueError:
        return None  # a point on another curve
    key = found[0] if len(found) == 1 else None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None
