"""How PKCS#11 libraries differ, as data.

The signing path asks no vendor's name. It works with what every token must have, and with what a token says of itself:
its list of mechanisms chooses between two ways to one signature (``hsm.request``), a public point is read whether it is
wrapped or bare, a token without a random generator is kept awake by a search. What a token says *wrongly*, or refuses,
can't be asked from it: that stands here, one row a library, found by what the library and its tokens are called.

``station doctor`` shows the row, and what it saw. ``docs/real-hsm.md`` tells how to write one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pkcs11.constants import Attribute
from pkcs11.mechanisms import Mechanism

from hsm.algorithms import KeyFamily


@dataclass(frozen=True, slots=True)
class Quirks:
    """What is peculiar about a library's tokens."""

    name: str
    """For people."""
    library: str = ""
    """Regular expression for what ``C_GetInfo`` says: manufacturer, a blank, description. Empty: any."""
    model: str = ""
    """Regular expression for the token's model. Empty: any."""
    unreliable: frozenset[Attribute] = frozenset()
    """Attributes of private keys that are reported wrongly; they are neither trusted nor held against a key."""
    refused: frozenset[Attribute] = frozenset()
    """Attributes that it refuses to see in the template of a new key; they are read back and held to the rules."""
    init_reserved: str = ""
    """What ``x-init-reserved`` looks like, where ``C_Initialize`` wants a text."""
    curves: Mapping[KeyFamily, bytes] = field(default_factory=dict)
    """``CKA_EC_PARAMS`` (DER), where it wants other ones than ``hsm.key_rules.CURVES``."""
    max_sessions: int | None = None
    """Sessions that it can have open, where it does not say so itself."""
    idle_seconds: float | None = None
    """After so long without a call it drops a session."""
    ran: str = ""
    """With which version our tests run; empty for a row from documents only."""
    note: str = ""


NONE: Final = Quirks("nothing peculiar is known")
"""A library that is in no row."""

KNOWN: Final = (
    Quirks(
        "SoftHSM",
        library="SoftHSM",
        ran="2.6.1",
        note="a general error stays until the module is initialised again; two processes on one token break each other",
    ),
    Quirks(
        "NSS softokn",
        library="Mozilla Foundation .*NSS",
        unreliable=frozenset({Attribute.LOCAL}),
        init_reserved="configdir='sql:/path' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
        ran="3.87",
        note="CKA_LOCAL is false for keys that were generated in it; every token's serial is 0000000000000000",
    ),
    Quirks(
        "YubiHSM 2",
        library="Yubico.*YubiHSM",
        max_sessions=16,
        idle_seconds=30,
        note="drops idle sessions, which only C_Finalize cures; does one thing at a time",
    ),
)
"""The rows; the first that fits counts."""


def quirks_of(library: str, model: str) -> Quirks:
    """Return the row of a token.

    Args:
        library: manufacturer and description of the library, with a blank between them.
        model: the token's.
    """
    for row in KNOWN:
        if re.search(row.library, library) and re.search(row.model, model):
            return row
    return NONE


NEEDED: Final[Mapping[KeyFamily, tuple[tuple[Mechanism, ...], ...]]] = MappingProxyType(
    {
        KeyFamily.P256: ((Mechanism.ECDSA,), (Mechanism.EC_KEY_PAIR_GEN,)),
        KeyFamily.P384: ((Mechanism.ECDSA,), (Mechanism.EC_KEY_PAIR_GEN,)),
        KeyFamily.RSA: (
            (Mechanism.SHA256_RSA_PKCS, Mechanism.RSA_PKCS),
            (Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.RSA_X9_31_KEY_PAIR_GEN),
        ),
        KeyFamily.ED25519: ((Mechanism.EDDSA,), (Mechanism.EC_EDWARDS_KEY_PAIR_GEN,)),
    }
)
"""What a token needs to sign with a key, and to make one: one mechanism of each pair of brackets."""


def families(mechanisms: frozenset[Mechanism]) -> tuple[KeyFamily, ...]:
    """Return the kinds of key that a token with these mechanisms can sign with."""
    return tuple(family for family, (signing, _) in NEEDED.items() if mechanisms.intersection(signing))
