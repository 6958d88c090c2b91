"""Comparing what tokens were asked for with what is on record.

Two counts are made of each signature, and neither knows of the other. A journal writes each *try* before the signer is
asked; the signer counts each *asking* before it asks the token (``hsm.counting``). What a record shows for certain, a
certificate, was asked for at least once. So for each key::

    certain  <=  asked  <=  tries

- ``asked > tries``: the key signed something that no record knows of.
- ``asked < certain``: something on record was signed without being counted: by another program, or elsewhere, or the
  count was put back.
- ``tries > asked``: normal. A try is on record, and the token was not asked: the station was stopped at that moment, or
  the HSM was away. This is told, and is no difference. As long as such tries stand open, as many signatures past the
  records would not be seen, so they are closed together with differences (``accept``), while nobody signs.

Signatures that a power cut may have hidden (``lost_at_most``) count in favour. Pure: takes values, returns values.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from hsm.counting import SignatureCount


@dataclass(frozen=True, slots=True)
class Claim:
    """What one record says of one key."""

    source: str
    """Which record, and which kind of signature: ``manifest``, ``ca.db: crl``."""
    tries: int
    """How often the signer was about to be asked."""
    certain: int
    """How many signatures are there to be seen."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What does not fit."""

    code: str
    sentence: str
    signatures: int
    """How many; positive: counted and not on record; negative: on record and not counted."""


@dataclass(frozen=True, slots=True)
class KeyAudit:
    """One key, compared."""

    spki_sha256: bytes
    name: str
    """Whose key it is: the subject of its certificate; empty where none is known."""
    asked: int
    probes: int
    lost_at_most: int
    accepted: int
    """The differences that were accepted before, added up."""
    closed: int
    """The tries that did not reach the token and were closed before."""
    claims: tuple[Claim, ...]
    differences: tuple[Difference, ...]

    @property
    def tries(self) -> int:
        """All tries on record, without those that were closed."""
        return sum(claim.tries for claim in self.claims) - self.closed

    @property
    def certain(self) -> int:
        """All signatures that are there to be seen."""
        return sum(claim.certain for claim in self.claims)

    @property
    def unasked(self) -> int:
        """Tries that did not reach the token."""
        return max(self.tries - (self.asked - self.accepted), 0)

    @property
    def differing(self) -> int:
        """The differences, added up."""
        return sum(one.signatures for one in self.differences)

    @property
    def closable(self) -> int:
        """Tries that did not reach the token, once the differences are accepted."""
        return max(self.tries - (self.asked - self.accepted - self.differing), 0)


def compare(  # noqa: PLR0913 - each by name
    spki_sha256: bytes,
    *,
    name: str,
    before: SignatureCount | None,
    claims: Sequence[Claim],
    after: SignatureCount | None,
    accepted: int = 0,
    closed: int = 0,
) -> KeyAudit:
    """Compare the count of a key with what is on record.

    Args:
        spki_sha256: SHA-256 of its SubjectPublicKeyInfo.
        name: whose key it is.
        before: the count, read before the records; None: there is none.
        claims: what the records say.
        after: the count, read after them: while a station runs, what is recorded was counted earlier.
        accepted: sum of the differences that somebody answers for.
        closed: tries on record that did not reach the token, and that somebody answers for.
    """
    tries, certain = (sum(claim.tries for claim in claims) - closed, sum(claim.certain for claim in claims))
    early = (0 if before is None else before.signatures) - accepted
    late = (0 if after is None else after.signatures + after.lost_at_most) - accepted
    differences = []
    if not name and early > 0:
        differences.append(
            Difference(
                "audit.unknown_key",
                f"a key was asked for {early} signatures, and no certificate here is its own; "
                "name it with --certificate",
                early,
            )
        )
    elif early > tries:
        differences.append(
            Difference(
                "audit.unrecorded",
                f"the key was asked for {early} signatures, and {tries} are on record: "
                f"{early - tries} more than anybody knows of",
                early - tries,
            )
        )
    if late < certain:
        differences.append(
            Difference(
                "audit.uncounted",
                f"{certain} signatures are on record, and {late} were counted: {certain - late} were made by another "
                "program, or the count is not the one of this CA",
                late - certain,
            )
        )
    return KeyAudit(
        spki_sha256,
        name,
        asked=0 if after is None else after.signatures,
        probes=0 if after is None else after.probes,
        lost_at_most=0 if after is None else after.lost_at_most,
        accepted=accepted,
        closed=closed,
        claims=tuple(claims),
        differences=tuple(differences),
    )


def accept(connection: sqlite3.Connection, at: str, *, keys: Sequence[KeyAudit], reason: str) -> None:
    """Write that somebody answers for differences and for tries that stand open; for ``CaJournal.perform``.

    Args:
        connection: the journal's.
        at: UTC.
        keys: compared while nobody signs: a try on its way to the token would be closed too.
        reason: why they are in order; 1 to 400 characters.
    """
    connection.executemany(
        "INSERT INTO accepted_difference (spki_sha256, signatures, reason, at) VALUES (?, ?, ?, ?)",
        [(key.spki_sha256, one.signatures, reason, at) for key in keys for one in key.differences],
    )
    connection.executemany(
        "INSERT INTO closed_tries (spki_sha256, tries, reason, at) VALUES (?, ?, ?, ?)",
        [(key.spki_sha256, key.closable, reason, at) for key in keys if key.closable],
    )


ACCEPTED = "SELECT spki_sha256, sum(signatures) FROM accepted_difference GROUP BY spki_sha256"
"""SQL for what was accepted, for a ``JournalReader``."""

CLOSED = "SELECT spki_sha256, sum(tries) FROM closed_tries GROUP BY spki_sha256"
"""SQL for the tries that were closed, for a ``JournalReader``."""
