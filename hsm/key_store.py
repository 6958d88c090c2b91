"""Keys in a token: made there, found there, and held to the rules (``hsm.key_rules``).

A private key is found by its public key (``find_key``), never by its label alone.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from hsm.algorithms import KeyFamily, KeyKind, PublicKey
from hsm.errors import KeyUnfit
from hsm.key_rules import BACKED_UP, CURVES, ESSENTIAL, KEY_TYPES, RULES, KeyFacts, checked, objects, public_key
from hsm.keys import AnyTokenKey, Signing, key_of
from hsm.request import KeyName
from hsm.signer import Signer
from hsm.token import Session

__all__ = [
    "BACKED_UP",
    "ESSENTIAL",
    "RULES",
    "KeyFacts",
    "destroy_key",
    "find",
    "find_in_session",
    "find_key",
    "find_or_generate",
    "generate_key",
    "label_taken",
    "labelled",
    "read_facts",
]

_ASKED: Final = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.PRIVATE, Attribute.SIGN_RECOVER)
"""Rules that are written into the template; the others are the token's to set, or follow from the capabilities."""

_SIGN_ONLY: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY


def generate_key(
    signer: Signer,
    kind: KeyKind,
    label: str,
    *,
    rules: Mapping[Attribute, bool] = RULES,
    key_id: bytes | None = None,
) -> AnyTokenKey:
    """Make a key pair in the token. Blocks.

    Args:
        signer: opened ``writable``.
        kind: which key.
        label: ``CKA_LABEL``; must be free.
        rules: what is asked for and read back.
        key_id: ``CKA_ID``; random if left out.

    Raises:
        KeyUnfit: the label is taken (``key.label_taken``), or the key that the token made breaks a rule; it is
            destroyed then.
        TokenError: the token can't make such a key.
    """
    key: AnyTokenKey = signer.call_blocking(
        lambda session: _generate(signer, session, kind, label, rules, key_id or secrets.token_bytes(16))
    )
    return key


def find_key(signer: Signing, public: PublicKey, *, rules: Mapping[Attribute, bool] = RULES) -> AnyTokenKey:
    """Find the private key of a public key. Blocks.

    Raises:
        KeyMissing: the token does not hold it.
        KeyUnfit: it breaks a rule.
    """
    name = KeyName.of(public, rules)
    facts = signer.find_blocking(name)
    return key_of(signer, name, label=facts.label, key_id=facts.key_id)


async def find(signer: Signing, public: PublicKey, *, rules: Mapping[Attribute, bool] = RULES) -> AnyTokenKey:
    """Do as ``find_key``, in an event loop."""
    name = KeyName.of(public, rules)
    facts = await signer.find(name)
    return key_of(signer, name, label=facts.label, key_id=facts.key_id)


def find_in_session(
    signer: Signing,
    session: Session,  # noqa: ARG001 - the signer knows its session; the argument shows whose thread this is
    public: PublicKey,
    *,
    rules: Mapping[Attribute, bool] = RULES,
) -> AnyTokenKey:
    """Do as ``find_key``, on the signer's thread: for ``signer.call``."""
    return find_key(signer, public, rules=rules)


def labelled(signer: Signer, label: str, families: Sequence[KeyFamily]) -> list[PublicKey]:
    """Return the public keys under a label, those of the first family first. Blocks.

    Raises:
        ValueError: one is on a curve that none of the families has.
    """

    def find_all(session: Session) -> list[PublicKey]:
        return [
            public_key(found, family)
            for family in families
            for found in objects(
                session,
                {
                    Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                    Attribute.KEY_TYPE: KEY_TYPES[family],
                    Attribute.LABEL: label,
                },
            )
        ]

    return signer.call_blocking(find_all)


def find_or_generate(signer: Signer, kind: KeyKind, label: str, families: Sequence[KeyFamily]) -> AnyTokenKey:
    """Find the key of a label, of one of the families, or make one of a kind. Blocks.

    Raises:
        ValueError, KeyMissing: the label is that of another kind of key, or of half a pair.
        KeyUnfit, TokenError: as ``generate_key``; or the key that is there breaks a rule.
    """
    held = labelled(signer, label, families)
    return find_key(signer, held[0]) if held else generate_key(signer, kind, label)


def label_taken(signer: Signer, label: str) -> bool:
    """Tell whether the token holds a key with this label. Blocks."""
    return signer.call_blocking(lambda session: bool(objects(session, {Attribute.LABEL: label})))


def destroy_key(key: AnyTokenKey) -> None:
    """Destroy a key pair for good. Blocks; for the rollback of a ceremony."""

    def destroy(session: Session) -> None:
        wanted = {Attribute.LABEL: key.label, Attribute.ID: key.key_id}
        for found in objects(session, wanted):
            found.destroy()

    key.signer.call_blocking(destroy)


def read_facts(key: AnyTokenKey) -> KeyFacts:
    """Read what the token says about a key. Blocks."""
    return key.signer.find_blocking(key.name)


def _generate(  # noqa: PLR0913, PLR0917 - what generate_key was given
    signer: Signer, session: Session, kind: KeyKind, label: str, rules: Mapping[Attribute, bool], key_id: bytes
) -> AnyTokenKey:
    if objects(session, {Attribute.LABEL: label}):
        raise KeyUnfit(
            f"token {signer.name!r} holds a key called {label!r} already; "
            "choose another label, or destroy that key with the vendor's tool if nothing was signed with it",
            code="key.label_taken",
        )
    quirks = signer.port.quirks
    common = {
        "id": key_id,
        "label": label,
        "store": True,
        "capabilities": _SIGN_ONLY,
        "private_template": {rule: rules[rule] for rule in _ASKED if rule not in quirks.refused},
    }
    if (bits := kind.rsa_bits) is not None:
        public, private = session.generate_keypair(KeyType.RSA, bits, **common)
    else:
        curve = quirks.curves.get(kind.family, CURVES[kind.family])
        parameters = session.create_domain_parameters(KEY_TYPES[kind.family], {Attribute.EC_PARAMS: curve}, local=True)
        mechanism = Mechanism.EC_EDWARDS_KEY_PAIR_GEN if kind.family is KeyFamily.ED25519 else Mechanism.EC_KEY_PAIR_GEN
        public, private = parameters.generate_keypair(mechanism=mechanism, **common)
    try:
        facts = checked(private, token=signer.name, rules=rules, unreliable=quirks.unreliable).facts
        name = KeyName.of(public_key(public, kind.family), rules)
    except BaseException:
        private.destroy()
        public.destroy()
        raise
    return key_of(signer, name, label=facts.label, key_id=facts.key_id)
