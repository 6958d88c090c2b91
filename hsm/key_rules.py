"""What a CA's key must be, and how its private half is found in a token.

A private key is found by its public key, never by its label alone: labels repeat, and an issuer certificate belongs to
one public key. The rules are asked for when a key is generated, and read back from the token then and whenever the key
is found. All functions here run on the signer's thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import AttributeSensitive, AttributeTypeInvalid, FunctionFailed
from pkcs11.mechanisms import KeyType

from hsm.algorithms import KeyFamily, PublicKey, family_of
from hsm.errors import KeyMissing, KeyUnfit, Recovery
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

BACKED_UP: Final[Mapping[Attribute, bool]] = MappingProxyType(
    {
        rule: wanted
        for rule, wanted in RULES.items()
        if rule not in {Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE, Attribute.LOCAL}
    }
)
"""``RULES`` without those about a key's past: for a key that a ceremony copied into a second token, and for the copy.

Neither can leave its token any more; that both could once stands in the ceremony's transcript (``hsm.ceremony``).
"""

ESSENTIAL: Final = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.TOKEN, Attribute.PRIVATE, Attribute.SIGN)
"""Rules that a token must confirm; some tokens don't report the others."""

CURVES: Final[Mapping[KeyFamily, bytes]] = MappingProxyType(
    {
        KeyFamily.P256: bytes.fromhex("06082a8648ce3d030107"),
        KeyFamily.P384: bytes.fromhex("06052b81040022"),
        KeyFamily.ED25519: bytes.fromhex("130c656477617264733235353139"),  # PrintableString "edwards25519"
    }
)
"""``CKA_EC_PARAMS`` in DER (PKCS#11 3.0, 2.3.5 for Edwards curves)."""

KEY_TYPES: Final[Mapping[KeyFamily, KeyType]] = MappingProxyType(
    {
        KeyFamily.P256: KeyType.EC,
        KeyFamily.P384: KeyType.EC,
        KeyFamily.RSA: KeyType.RSA,
        KeyFamily.ED25519: KeyType.EC_EDWARDS,
    }
)

_POINTS: Final = {KeyFamily.P256: 65, KeyFamily.P384: 97, KeyFamily.ED25519: 32}
"""Octets of a public point, uncompressed."""

_OCTET_STRING: Final = 0x04


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a token says about a private key."""

    label: str
    key_id: bytes
    attributes: Mapping[str, bool]
    """The attributes of ``RULES`` that the token reports, by name."""
    unreliable: frozenset[Attribute] = frozenset()
    """Attributes that this token reports wrongly (``hsm.quirks``); they are not held against the key."""

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules of ``RULES`` that the key breaks, as sentences."""
        return self.broken_of(RULES)

    def broken_of(self, rules: Mapping[Attribute, bool]) -> tuple[str, ...]:
        """Return which of some rules the key breaks, as sentences."""
        wrong = [
            f"{name} is {str(have).lower()}"
            for name, have in self.attributes.items()
            if have is not rules.get(Attribute[name], have) and Attribute[name] not in self.unreliable
        ]
        unsaid = [f"the token does not say {rule.name}" for rule in ESSENTIAL if rule.name not in self.attributes]
        return (*wrong, *unsaid)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A private key in the open session."""

    handle: Handle
    facts: KeyFacts


def locate(
    session: Session,
    public: PublicKey,
    *,
    token: str,
    rules: Mapping[Attribute, bool] = RULES,
    unreliable: frozenset[Attribute] = frozenset(),
) -> FoundKey:
    """Find the private key of a public key.

    Args:
        session: logged in.
        public: as it stands in the issuer's certificate.
        token: the token's label, for messages.
        rules: what the key must be.
        unreliable: attributes that this token reports wrongly.

    Raises:
        KeyMissing: the token does not hold it, or holds it twice.
        KeyUnfit: it breaks a rule.
    """
    family = family_of(public)
    if family is None:
        raise KeyUnfit("a CA's key is P-256, P-384, RSA or Ed25519", code="key.type")
    ids = {
        found[Attribute.ID] for template in _public_templates(public, family) for found in objects(session, template)
    }
    # Some tokens drop the public half; by custom CKA_ID is then the SHA-1 of the public key, as in a certificate's SKI.
    ids.add(x509.SubjectKeyIdentifier.from_public_key(public).digest)
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KEY_TYPES[family]}
    private = [found for key_id in ids for found in objects(session, {**template, Attribute.ID: key_id})]
    if not private:
        held = [found[Attribute.LABEL] for found in objects(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY})]
        raise KeyMissing(
            f"token {token!r} does not hold the private key of the issuer's certificate; "
            f"it holds: {', '.join(map(repr, held)) or 'no private key'}",
            recovery=Recovery.PERMANENT,
        )
    if len(private) > 1:
        raise KeyMissing(
            f"token {token!r} holds {len(private)} private keys under one CKA_ID; remove all but one",
            code="key.ambiguous",
        )
    return checked(private[0], token=token, rules=rules, unreliable=unreliable)


def checked(
    private: Handle, *, token: str, rules: Mapping[Attribute, bool], unreliable: frozenset[Attribute]
) -> FoundKey:
    """Hold a private key to the rules.

    Raises:
        KeyUnfit: it breaks one.
    """
    facts = facts_of(private, unreliable)
    if broken := facts.broken_of(rules):
        raise KeyUnfit(
            f"the key {facts.label!r} in token {token!r} breaks the rules of a signing key: " + "; ".join(broken),
            code="key.attributes",
        )
    return FoundKey(private, facts)


def facts_of(private: Handle, unreliable: frozenset[Attribute] = frozenset()) -> KeyFacts:
    """Read what a token says about a private key."""
    reported: dict[str, bool] = {}
    for rule in RULES:
        try:
            reported[rule.name] = bool(private[rule])
        except (AttributeTypeInvalid, AttributeSensitive, FunctionFailed):
            continue  # the token has no such attribute; KeyFacts.broken knows which must not be missing
    return KeyFacts(
        private[Attribute.LABEL], bytes(private[Attribute.ID]), MappingProxyType(reported), unreliable & set(RULES)
    )


def objects(session: Session, template: Mapping[Attribute, object]) -> Sequence[Handle]:
    """Return all objects that fit; the search is always finished, or the session stays busy with it."""
    return list(session.get_objects(dict(template)))


def public_key(found: Handle, family: KeyFamily) -> PublicKey:
    """Read a public key off the token."""
    if family is KeyFamily.RSA:
        numbers = rsa.RSAPublicNumbers(
            int.from_bytes(found[Attribute.PUBLIC_EXPONENT]), int.from_bytes(found[Attribute.MODULUS])
        )
        return numbers.public_key()
    point = bytes(found[Attribute.EC_POINT])
    if is_wrapped(point, family):
        point = point[2:]  # most tokens wrap it in an OCTET STRING, some hand it out bare
    if family is KeyFamily.ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(point)
    curve = ec.SECP256R1() if family is KeyFamily.P256 else ec.SECP384R1()
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


def is_wrapped(point: bytes, family: KeyFamily) -> bool:
    """Whether a ``CKA_EC_POINT`` is wrapped in an OCTET STRING."""
    size = _POINTS[family]
    return len(point) == size + 2 and point[:2] == bytes((_OCTET_STRING, size))


def point_form(session: Session, public: PublicKey) -> str | None:
    """Return how a token hands out the point of a public key that it holds: ``wrapped``, ``bare``; None: it does not.

    For ``station doctor``.
    """
    family = family_of(public)
    if family is None or family is KeyFamily.RSA:
        return None
    for template in _public_templates(public, family):
        for found in objects(session, template):
            return "wrapped" if is_wrapped(bytes(found[Attribute.EC_POINT]), family) else "bare"
    return None


def _public_templates(public: PublicKey, family: KeyFamily) -> Sequence[Mapping[Attribute, object]]:
    """Return what a search for the public key asks for: points wrapped in an OCTET STRING, and bare."""
    common = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: KEY_TYPES[family]}
    if isinstance(public, rsa.RSAPublicKey):
        modulus = public.public_numbers().n
        return [{**common, Attribute.MODULUS: modulus.to_bytes((modulus.bit_length() + 7) // 8)}]
    if isinstance(public, ec.EllipticCurvePublicKey):
        form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    else:
        form = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    point = public.public_bytes(*form)
    return [{**common, Attribute.EC_POINT: value} for value in (bytes([_OCTET_STRING, len(point)]) + point, point)]
