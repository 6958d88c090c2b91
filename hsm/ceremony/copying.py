"""Taking a private key from one token to another, so that it is never in the clear between them.

PKCS#11 2.40 has one way, ``C_WrapKey`` and ``C_UnwrapKey``, and it asks for ``CKA_EXTRACTABLE`` of the key that leaves.
A key that was made without it can never be copied by any call of the standard (vendors have ways of their own, outside
of it). So a key with ``backup = true`` is born extractable, is copied, and is *closed*: ``CKA_EXTRACTABLE`` goes to
false, which the standard lets nobody take back (4.9, footnotes 8 and 12: "can only be changed to CK_FALSE").

1. The target makes an RSA key pair that may unwrap, as a session object: it is gone with the session.
2. The source gets the public half, and makes an AES-256 key that may wrap, as a session object too.
3. The AES key travels under RSA-OAEP, the private key under AES key wrap with padding (RFC 5649).
4. The target unwraps both; the copy is sensitive and not extractable from its first moment on.

What remains to be seen of this is ``CKA_NEVER_EXTRACTABLE`` false in the source, and in the copy ``CKA_LOCAL`` and
``CKA_ALWAYS_SENSITIVE`` false as well: ``hsm.key_store.BACKED_UP`` is ``RULES`` without these three.

OAEP is used with SHA-1 because SoftHSM 2.6 answers ``CKR_ARGUMENTS_BAD`` to any other hash; OAEP does not rest on its
resistance to collisions.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from hsm.algorithms import PublicKey
from hsm.der import OCTET_STRING, encode
from hsm.errors import CeremonyError, HsmError, KeyUnfit
from hsm.key_rules import BACKED_UP, CURVES, KEY_TYPES, objects, public_key
from hsm.key_store import find_key
from hsm.keys import AnyTokenKey
from hsm.root_mark import copy_key_id
from hsm.signer import Signer
from hsm.token import Handle, Session

OPEN: Final[Mapping[Attribute, bool]] = MappingProxyType({**BACKED_UP, Attribute.EXTRACTABLE: True})
"""What a key must be that waits for its copy."""

TRANSPORT_BITS: Final = 3072
"""As strong as the AES key needs with P-384 and RSA-4096 behind it (NIST SP 800-57, table 2: 128 bits)."""

_ASKED: Final = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.PRIVATE, Attribute.SIGN_RECOVER)
"""What is asked of the copy; the rest follows, or is the token's to set."""

_OAEP: Final = (Mechanism.SHA_1, pkcs11.MGF.SHA1, None)
_ADVICE: Final = {
    "token.key_unextractable": "the key was made so that it can't leave its token (no backup = true), and nothing can "
    "change that; use the vendor's own backup if there is one, or roll over to a new key",
    "token.key_not_wrappable": "the token does not wrap this kind of key",
    "token.mechanism_invalid": "the token knows no RSA-OAEP or AES key wrap; use the vendor's own backup",
}


def copy_key(source: AnyTokenKey, target: Signer, label: str) -> AnyTokenKey:
    """Copy a key into another token, under the same public key. Blocks.

    Args:
        source: extractable.
        target: opened ``writable``; the label must be free in it.
        label: of the copy.

    Raises:
        CeremonyError: a token does not allow it; nothing is left in the target.
    """
    public = source.public_key()
    key_id = copy_key_id(source)
    try:
        transport_public, transport_private = target.call_blocking(_transport_pair)
        number = transport_public[Attribute.MODULUS], transport_public[Attribute.PUBLIC_EXPONENT]
        wrapped_aes, wrapped_key = source.signer.call_blocking(lambda session: _wrap(session, source, *number))
        common = {"label": label, "id": key_id}
        quirks = target.port.quirks
        curve = quirks.curves.get(source.family, CURVES.get(source.family, b""))
        target.call_blocking(lambda session: _public_half(session, public, curve, common))
        private = {rule: BACKED_UP[rule] for rule in _ASKED if rule not in quirks.refused}
        wrapped = wrapped_aes, wrapped_key
        target.call_blocking(lambda _: _unwrap(transport_private, wrapped, KEY_TYPES[source.family], private, common))
        return find_key(target, public, rules=BACKED_UP)
    except HsmError as error:
        discard(target, label, key_id)
        raise CeremonyError(
            f"{source.label!r} can't be copied from token {source.signer.token.label!r} to {target.token.label!r}: "
            f"{_ADVICE.get(error.code, str(error))}",
            code="ceremony.backup" if error.code in _ADVICE else error.code,
        ) from error


def close_key(key: AnyTokenKey) -> AnyTokenKey:
    """Let a key never leave its token again; return it as it is found then. Blocks.

    Raises:
        CeremonyError: the token does not say so afterwards (``ceremony.not_closed``).
        HsmError: the token refuses.
    """

    def close(session: Session) -> None:
        _handle(session, key)[Attribute.EXTRACTABLE] = False

    key.signer.call_blocking(close)
    try:
        return find_key(key.signer, key.public_key(), rules=BACKED_UP)
    except KeyUnfit as error:
        raise CeremonyError(f"the key did not close: {error}", code="ceremony.not_closed") from error


def discard(signer: Signer, label: str, key_id: bytes) -> int:
    """Destroy the objects of a key; return how many there were. Blocks."""
    wanted = {Attribute.LABEL: label, Attribute.ID: key_id}

    def destroy(session: Session) -> int:
        found = list(session.get_objects(wanted))
        for each in found:
            each.destroy()
        return len(found)

    return signer.call_blocking(destroy)


@dataclass(frozen=True, slots=True)
class LeftKey:
    """A key that is in a token."""

    token: str
    """The token's label."""
    label: str
    key_id: str
    """``CKA_ID``, in hex."""
    spki_sha256: str | None
    """Of its public half, in hex; None: the token does not hold that, or tells no kind that we know."""


def left_key(signer: Signer, label: str, key_id: bytes) -> LeftKey | None:
    """Return what a token says of a key now; None if it is not there. Blocks."""

    def look(session: Session) -> tuple[bool, str | None]:
        found = objects(session, {Attribute.LABEL: label, Attribute.ID: key_id})
        halves = [one for one in found if one[Attribute.CLASS] == ObjectClass.PUBLIC_KEY]
        return bool(found), next((_digest(one) for one in halves), None)

    is_there, digest = signer.call_blocking(look)
    return LeftKey(signer.token.label, label, key_id.hex(), digest) if is_there else None


def _digest(public: Handle) -> str | None:
    kinds = [family for family, kind in KEY_TYPES.items() if kind == public[Attribute.KEY_TYPE]]
    for family in kinds:
        try:
            key = public_key(public, family)
        except ValueError:  # EC keys differ by their curve
            continue
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(key.public_bytes(*form)).hexdigest()
    return None


def _transport_pair(session: Session) -> tuple[Handle, Handle]:
    pair: tuple[Handle, Handle] = session.generate_keypair(
        KeyType.RSA,
        TRANSPORT_BITS,
        store=False,
        capabilities=MechanismFlag.WRAP | MechanismFlag.UNWRAP,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    return pair


def _wrap(session: Session, source: AnyTokenKey, modulus: bytes, exponent: bytes) -> tuple[bytes, bytes]:
    """Return the AES key under the transport key, and the private key under the AES key."""
    transport = session.create_object(
        {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.MODULUS: modulus,
            Attribute.PUBLIC_EXPONENT: exponent,
            Attribute.TOKEN: False,
            Attribute.PRIVATE: False,
            Attribute.WRAP: True,
        }
    )
    wrapping = session.generate_key(
        KeyType.AES,
        256,
        store=False,
        capabilities=MechanismFlag.WRAP,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True},
    )
    wrapped_aes = transport.wrap_key(wrapping, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=_OAEP)
    wrapped_key = wrapping.wrap_key(_handle(session, source), mechanism=Mechanism.AES_KEY_WRAP_PAD)
    wrapping.destroy()
    transport.destroy()
    return wrapped_aes, wrapped_key


def _unwrap(
    transport: Handle,
    wrapped: tuple[bytes, bytes],
    kind: KeyType,
    private: Mapping[Attribute, bool],
    common: dict[str, Any],
) -> None:
    wrapped_aes, wrapped_key = wrapped
    wrapping = transport.unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.AES,
        wrapped_aes,
        mechanism=Mechanism.RSA_PKCS_OAEP,
        mechanism_param=_OAEP,
        store=False,
        capabilities=MechanismFlag.UNWRAP,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    # python-pkcs11 writes every capability into the template; a private key has no such attributes
    no_private = dict.fromkeys((Attribute.ENCRYPT, Attribute.VERIFY, Attribute.WRAP), DEFAULT)
    wrapping.unwrap_key(
        ObjectClass.PRIVATE_KEY,
        kind,
        wrapped_key,
        mechanism=Mechanism.AES_KEY_WRAP_PAD,
        store=True,
        capabilities=MechanismFlag.SIGN,
        template={**no_private, **private},
        **common,
    )
    wrapping.destroy()
    transport.destroy()


def _public_half(session: Session, public: PublicKey, curve: bytes, common: dict[str, Any]) -> None:
    template: dict[Attribute, object] = {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: False,
        Attribute.VERIFY: True,
        Attribute.LABEL: common["label"],
        Attribute.ID: common["id"],
    }
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        template |= {
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8),
        }
    elif isinstance(public, ec.EllipticCurvePublicKey):
        form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        template |= {
            Attribute.KEY_TYPE: KeyType.EC,
            Attribute.EC_PARAMS: curve,
            Attribute.EC_POINT: encode(OCTET_STRING, public.public_bytes(*form)),
        }
    session.create_object(template)


def _handle(session: Session, key: AnyTokenKey) -> Handle:
    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: key.label, Attribute.ID: key.key_id}
    (found,) = list(session.get_objects(wanted))
    return found
