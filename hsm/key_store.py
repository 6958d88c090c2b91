"""Keys in a token: made there, found there, and held to the rules.

A private key is found by its public key (``find_key``), never by its label alone: labels repeat, and an issuer
certificate belongs to one public key. What a key must be is written once, in ``RULES``; it is asked for when a key is
generated, and read back from the token then and whenever the key is opened.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import AttributeSensitive, AttributeTypeInvalid, FunctionFailed
from pkcs11.mechanisms import KeyType, Mechanism

from hsm.algorithms import KeyFamily, KeyKind, PublicKey, family_of
from hsm.errors import KeyMissing, KeyUnfit, Recovery
from hsm.keys import AnyTokenKey, EcTokenKey, Ed25519TokenKey, RsaTokenKey
from hsm.signer import Signer
from hsm.token import Handle, Session

RULES: Final[Mapping[Attribute, bool]] = MappingProxyType(
    {
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SIGN: True,
        Attribute.ALWAYS_SENSITIVE: True,
        Attribute.NEVER_EXTRACTABLE: True,
        Attribute.LOCAL: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
        Attribute.SIGN_RECOVER: False,
        Attribute.ALWAYS_AUTHENTICATE: False,  # would ask for the PIN before each signature
    }
)
"""What a CA's private key must be (PKCS#11 2.40, 4.9): it signs, it was born in the token, it can't leave it."""

ESSENTIAL: Final = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.TOKEN, Attribute.PRIVATE, Attribute.SIGN)
"""Rules that a token must confirm; some tokens don't report the others."""

_ASKED: Final = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.PRIVATE, Attribute.SIGN_RECOVER)
"""Rules that are written into the template; the others are the token's to set, or follow from the capabilities."""

_CURVES: Final[Mapping[KeyFamily, bytes]] = MappingProxyType(
    {
        KeyFamily.P256: bytes.fromhex("06082a8648ce3d030107"),
        KeyFamily.P384: bytes.fromhex("06052b81040022"),
        KeyFamily.ED25519: bytes.fromhex("130c656477617264733235353139"),  # PrintableString "edwards25519"
    }
)
"""``CKA_EC_PARAMS`` in DER (PKCS#11 3.0, 2.3.5 for Edwards curves)."""

_POINTS: Final = {KeyFamily.P256: 65, KeyFamily.P384: 97, KeyFamily.ED25519: 32}
"""Octets of a public point, uncompressed."""

_KEY_TYPES: Final = {
    KeyFamily.P256: KeyType.EC,
    KeyFamily.P384: KeyType.EC,
    KeyFamily.RSA: KeyType.RSA,
    KeyFamily.ED25519: KeyType.EC_EDWARDS,
}
_SIGN_ONLY: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY
_OCTET_STRING: Final = 0x04


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a token says about a private key."""

    label: str
    key_id: bytes
    attributes: Mapping[str, bool]
    """The attributes of ``RULES`` that the token reports, by name."""

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that the key breaks, as sentences."""
        wrong = [
            f"{name} is {str(have).lower()}"
            for name, have in self.attributes.items()
            if have is not RULES[Attribute[name]]
        ]
        unsaid = [f"the token does not say {rule.name}" for rule in ESSENTIAL if rule.name not in self.attributes]
        return (*wrong, *unsaid)


def generate_key(signer: Signer, kind: KeyKind, label: str) -> AnyTokenKey:
    """Make a key pair in the token. Blocks.

    Args:
        signer: opened ``writable``.
        kind: which key.
        label: ``CKA_LABEL``; must be free.

    Raises:
        KeyUnfit: the label is taken (``key.label_taken``), or the key that the token made breaks a rule; it is
            destroyed then.
        TokenError: the token can't make such a key.
    """
    key: AnyTokenKey = signer.call_blocking(lambda session: _generate(signer, session, kind, label))
    return key


def find_key(signer: Signer, public: PublicKey) -> AnyTokenKey:
    """Find the private key of a public key. Blocks.

    Raises:
        KeyMissing: the token does not hold it.
        KeyUnfit: it breaks a rule of ``RULES``.
    """
    key: AnyTokenKey = signer.call_blocking(lambda session: find_in_session(signer, session, public))
    return key


def label_taken(signer: Signer, label: str) -> bool:
    """Tell whether the token holds a key with this label. Blocks."""
    return signer.call_blocking(lambda session: any(True for _ in _objects(session, {Attribute.LABEL: label})))


def destroy_key(key: AnyTokenKey) -> None:
    """Destroy a key pair for good. Blocks; for the rollback of a ceremony."""

    def destroy(session: Session) -> None:
        wanted = {Attribute.LABEL: key.label, Attribute.ID: key.key_id}
        for found in _objects(session, wanted):
            found.destroy()

    key.signer.call_blocking(destroy)


def read_facts(key: AnyTokenKey) -> KeyFacts:
    """Read what the token says about a key. Blocks."""
    return key.signer.call_blocking(lambda _: _facts(key._handle))  # noqa: SLF001 - the two modules are one concern


def _generate(signer: Signer, session: Session, kind: KeyKind, label: str) -> AnyTokenKey:
    if _objects(session, {Attribute.LABEL: label}):
        raise KeyUnfit(
            f"token {signer.token.label!r} holds a key called {label!r} already; "
            "choose another label, or destroy that key with the vendor's tool if nothing was signed with it",
            code="key.label_taken",
        )
    wanted = {rule: RULES[rule] for rule in _ASKED}
    common = {
        "id": secrets.token_bytes(16),
        "label": label,
        "store": True,
        "capabilities": _SIGN_ONLY,
        "private_template": wanted,
    }
    if (bits := kind.rsa_bits) is not None:
        public, private = session.generate_keypair(KeyType.RSA, bits, **common)
    else:
        parameters = session.create_domain_parameters(
            _KEY_TYPES[kind.family], {Attribute.EC_PARAMS: _CURVES[kind.family]}, local=True
        )
        mechanism = Mechanism.EC_EDWARDS_KEY_PAIR_GEN if kind.family is KeyFamily.ED25519 else Mechanism.EC_KEY_PAIR_GEN
        public, private = parameters.generate_keypair(mechanism=mechanism, **common)
    try:
        return _checked(signer, private, _public_key(public, kind.family))
    except BaseException:
        private.destroy()
        public.destroy()
        raise


def find_in_session(signer: Signer, session: Session, public: PublicKey) -> AnyTokenKey:
    """Do as ``find_key``, on the signer's thread: for ``signer.call``."""
    family = family_of(public)
    if family is None:
        raise KeyUnfit("a CA's key is P-256, P-384, RSA or Ed25519", code="key.type")
    ids = {
        found[Attribute.ID] for template in _public_templates(public, family) for found in _objects(session, template)
    }
    # Some tokens drop the public half; by custom CKA_ID is then the SHA-1 of the public key, as in a certificate's SKI.
    ids.add(x509.SubjectKeyIdentifier.from_public_key(public).digest)
    private = [
        found
        for key_id in ids
        for found in _objects(
            session,
            {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: _KEY_TYPES[family],
                Attribute.ID: key_id,
            },
        )
    ]
    if not private:
        held = [found[Attribute.LABEL] for found in _objects(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY})]
        raise KeyMissing(
            f"token {signer.token.label!r} does not hold the private key of the issuer's certificate; "
            f"it holds: {', '.join(map(repr, held)) or 'no private key'}",
            recovery=Recovery.PERMANENT,
        )
    if len(private) > 1:
        raise KeyMissing(
            f"token {signer.token.label!r} holds {len(private)} private keys under one CKA_ID; remove all but one",
            code="key.ambiguous",
        )
    return _checked(signer, private[0], public)


def _checked(signer: Signer, private: Handle, public: PublicKey) -> AnyTokenKey:
    facts = _facts(private)
    if facts.broken:
        raise KeyUnfit(
            f"the key {facts.label!r} in token {signer.token.label!r} breaks the rules of a signing key: "
            + "; ".join(facts.broken),
            code="key.attributes",
        )
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EcTokenKey(signer, private, public, label=facts.label, key_id=facts.key_id)
    if isinstance(public, rsa.RSAPublicKey):
        return RsaTokenKey(signer, private, public, label=facts.label, key_id=facts.key_id)
    return Ed25519TokenKey(signer, private, public, label=facts.label, key_id=facts.key_id)


def _facts(private: Handle) -> KeyFacts:
    reported: dict[str, bool] = {}
    for rule in RULES:
        try:
            reported[rule.name] = bool(private[rule])
        except (AttributeTypeInvalid, AttributeSensitive, FunctionFailed):
            continue  # the token has no such attribute; KeyFacts.broken knows which must not be missing
    return KeyFacts(private[Attribute.LABEL], bytes(private[Attribute.ID]), MappingProxyType(reported))


def _objects(session: Session, template: Mapping[Attribute, object]) -> Sequence[Handle]:
    """Return all objects that fit; the search is always finished, or the session stays busy with it."""
    return list(session.get_objects(dict(template)))


def _public_key(found: Handle, family: KeyFamily) -> PublicKey:
    """Read a public key off the token."""
    if family is KeyFamily.RSA:
        numbers = rsa.RSAPublicNumbers(
            int.from_bytes(found[Attribute.PUBLIC_EXPONENT]), int.from_bytes(found[Attribute.MODULUS])
        )
        return numbers.public_key()
    point = bytes(found[Attribute.EC_POINT])
    size = _POINTS[family]
    if len(point) == size + 2 and point[:2] == bytes((_OCTET_STRING, size)):
        point = point[2:]  # most tokens wrap it in an OCTET STRING, some hand it out bare
    if family is KeyFamily.ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(point)
    curve = ec.SECP256R1() if family is KeyFamily.P256 else ec.SECP384R1()
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


def _public_templates(public: PublicKey, family: KeyFamily) -> Sequence[Mapping[Attribute, object]]:
    """Return what a search for the public key asks for: points wrapped in an OCTET STRING, and bare."""
    common = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: _KEY_TYPES[family]}
    if isinstance(public, rsa.RSAPublicKey):
        modulus = public.public_numbers().n
        return [{**common, Attribute.MODULUS: modulus.to_bytes((modulus.bit_length() + 7) // 8)}]
    if isinstance(public, ec.EllipticCurvePublicKey):
        form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    else:
        form = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    point = public.public_bytes(*form)
    return [{**common, Attribute.EC_POINT: value} for value in (bytes([_OCTET_STRING, len(point)]) + point, point)]
