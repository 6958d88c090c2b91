"""What a token turns out to be like, for ``station doctor``: seen, beside what ``hsm.quirks`` knows."""

from dataclasses import dataclass
from typing import Final

from pkcs11.mechanisms import Mechanism

from hsm.algorithms import KeyFamily, PublicKey, family_of
from hsm.key_rules import point_form
from hsm.pkcs11_token import Pkcs11Token
from hsm.quirks import NEEDED, Quirks, families
from hsm.signer import Signer
from hsm.token import Session

_UNAVAILABLE: Final = (1 << 64) - 1
"""``CK_UNAVAILABLE_INFORMATION`` (PKCS#11 2.40, 3.3) where a ``CK_ULONG`` has 64 bits."""

_UNAVAILABLE_32: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What was seen."""

    library: str
    """Manufacturer and description of the library, and its version."""
    quirks: Quirks
    families: tuple[KeyFamily, ...]
    """Kinds of key that it says it can sign with."""
    detours: tuple[str, ...]
    """Mechanisms that it lacks, and what is used in their place."""
    sessions: int | None
    """Open now, ours included; None: it does not say."""
    max_sessions: int | None
    """None: it does not say, or has no limit."""
    point: str | None
    """How it hands out the issuer's public point: ``wrapped``, ``bare``; None: not at all, or RSA."""
    has_random: bool


def survey(signer: Signer, public: PublicKey | None) -> Survey | None:
    """Look at a token. Blocks; None for a port that is no PKCS#11 module.

    Args:
        signer: awake.
        public: the issuer's key; None if there is none yet.
    """
    port = signer.port
    if not isinstance(port, Pkcs11Token):
        return None
    return signer.call_blocking(lambda session: _look(port, session, signer.token.slot_id, public))


def _look(port: Pkcs11Token, session: Session, slot_id: int, public: PublicKey | None) -> Survey:
    counts = port.module.token_counts(slot_id)
    major, minor = port.module.library.library_version
    return Survey(
        library=f"{port.library} {major}.{minor}",
        quirks=port.quirks,
        families=families(port.mechanisms),
        detours=() if public is None else _detours(port.mechanisms, family_of(public)),
        sessions=None if counts is None else _told(counts.sessions),
        max_sessions=(None if counts is None else _told(counts.max_sessions) or None) or port.quirks.max_sessions,
        point=None if public is None else point_form(session, public),
        has_random=port.has_random,
    )


def _detours(mechanisms: frozenset[Mechanism], family: KeyFamily | None) -> tuple[str, ...]:
    if family is None:
        return ()
    first, *others = NEEDED[family][0]
    instead = next((other for other in others if other in mechanisms), None)
    if first in mechanisms or instead is None:
        return ()
    return (f"{instead.name} in place of {first.name}",)


def _told(number: int) -> int | None:
    return None if number in {_UNAVAILABLE, _UNAVAILABLE_32} else number
