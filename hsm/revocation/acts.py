"""Revoking, holding and releasing certificates: rows of the CA's journal.

==========  =================  =====================================================================================
is          may become         by
==========  =================  =====================================================================================
good        revoked, held      ``revoke``, ``hold``
held        revoked            ``revoke``; it keeps the date of the hold (X.509 8.5.2.2)
held        good               ``release``
revoked     revoked            ``revoke`` with ``keyCompromise``: that a key was stolen may become known later
==========  =================  =====================================================================================

The schema has the same rules (``hsm/journal/revocation_1.sql``); here they are checked first, to say which certificate
it is and what to do. An act is on record before anybody is told; CRLs and OCSP answers follow from it.
"""

import datetime as dt
import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.durable import Reader, time_text
from hsm.errors import RevocationError
from hsm.journal import CaJournal
from hsm.revocation.reasons import FINAL, Reason
from hsm.serials import serial_text, shown


class Act(StrEnum):
    """What can be done to a certificate."""

    REVOKE = "revoke"
    HOLD = "hold"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Target:
    """A certificate that something is done to."""

    serial: int
    shard: str | None = None
    """The shard that its certificate names; None: it stands in the full CRL only."""
    not_after: dt.datetime | None = None
    """When it expires; a CRL need not tell of it for ever then."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest act on a certificate."""

    serial: int
    act: Act
    reason: Reason
    revoked_at: dt.datetime
    invalid_since: dt.datetime | None
    not_after: dt.datetime | None
    shard: str | None
    act_id: int

    @property
    def is_revoked(self) -> bool:
        """Whether it is on the CRL, revoked or held."""
        return self.act is not Act.RELEASE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an act on several certificates."""

    done: tuple[int, ...]
    """Serial numbers."""
    unchanged: tuple[int, ...]
    """Those that were so already, or are revoked for good."""


STANDING: Final = "serial, act, reason, revoked_at, invalid_since, not_after, shard, max(id)"
"""Columns for ``standing_of``. With ``max`` SQLite takes the others from the same row, the newest one."""

_NEWEST: Final = (
    f"SELECT {STANDING} FROM revocation WHERE revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) "  # noqa: S608 - our own columns
    "AND serial = ? GROUP BY serial"
)

Row = tuple[str, str, int, str, str | None, str | None, str | None, int]


def revoker_of(issuer: x509.Certificate) -> bytes:
    """Return what names an issuer here: SHA-256 of its SubjectPublicKeyInfo. A renewed certificate changes nothing."""
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


@lru_cache(maxsize=4096)
def moment(text: str) -> dt.datetime:
    """Return a time of the journal in whole seconds, as CRLs and OCSP answers have it."""
    return dt.datetime.fromisoformat(text).replace(microsecond=0)


def standing_of(row: Row) -> Standing:
    """Parse a row of ``STANDING``."""
    serial, act, reason, revoked_at, invalid_since, not_after, shard, act_id = row
    return Standing(
        int(serial, 16),
        Act(act),
        Reason(reason),
        moment(revoked_at),
        moment(invalid_since) if invalid_since else None,
        moment(not_after) if not_after else None,
        shard,
        act_id,
    )


def standing(reader: Reader, revoker: bytes, serial: int) -> Standing | None:
    """Return the newest act on a certificate, or None if there never was one."""
    rows = [*reader.rows(_NEWEST, revoker, serial_text(serial))]  # to its end, where the reader sees what is stale
    return standing_of(rows[0]) if rows else None


def standings(reader: Reader, revoker: bytes) -> Iterable[Standing]:
    """Iterate over the newest acts on all certificates of an issuer, by serial number."""
    sql = (
        f"SELECT {STANDING} FROM revocation WHERE revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) "  # noqa: S608
        "GROUP BY serial ORDER BY serial"
    )
    return (standing_of(row) for row in reader.rows(sql, revoker))


def revoke(
    journal: CaJournal,
    revoker: bytes,
    targets: Sequence[Target],
    reason: Reason,
    *,
    invalid_since: dt.datetime | None = None,
) -> Outcome:
    """Revoke certificates for good, in one transaction. Blocks.

    Args:
        journal: open for writing.
        revoker: from ``revoker_of``.
        targets: the certificates; with more than one, those that are revoked already are left as they are.
        reason: not ``certificateHold`` and not ``removeFromCRL``.
        invalid_since: since when they are not to be trusted; the date of revocation is now (RFC 5280 5.3.2).

    Raises:
        RevocationError: the reason is not for this, ``invalid_since`` lies in the future, or the one certificate is
            revoked already (``revocation.final``).
        JournalError: nothing was written.
    """
    if reason not in FINAL:
        raise RevocationError(
            f"{reason.text} is no reason to revoke: that is what 'hold' and 'release' are for", code="revocation.reason"
        )
    wanted = _Wanted(Act.REVOKE, reason, invalid_since)
    return journal.perform_blocking(partial(_perform, revoker=revoker, targets=targets, wanted=wanted))


def hold(journal: CaJournal, revoker: bytes, targets: Sequence[Target]) -> Outcome:
    """Put certificates on hold (``certificateHold``), in one transaction. Blocks.

    Raises:
        RevocationError: the one certificate is held (``revocation.held``) or revoked (``revocation.final``).
    """
    wanted = _Wanted(Act.HOLD, Reason.CERTIFICATE_HOLD, None)
    return journal.perform_blocking(partial(_perform, revoker=revoker, targets=targets, wanted=wanted))


def release(journal: CaJournal, revoker: bytes, targets: Sequence[Target]) -> Outcome:
    """End a hold (``removeFromCRL`` in delta CRLs), in one transaction. Blocks.

    Raises:
        RevocationError: the one certificate is not on hold (``revocation.not_held``), or revoked.
    """
    wanted = _Wanted(Act.RELEASE, Reason.REMOVE_FROM_CRL, None)
    return journal.perform_blocking(partial(_perform, revoker=revoker, targets=targets, wanted=wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    act: Act
    reason: Reason
    invalid_since: dt.datetime | None


def revoker_id(connection: sqlite3.Connection, at: str, revoker: bytes) -> int:
    """Find or make the row of an issuing key."""
    found = connection.execute("SELECT id FROM revoker WHERE spki_sha256 = ?", (revoker,)).fetchone()
    if found is None:
        sql = "INSERT INTO revoker (spki_sha256, at) VALUES (?, ?) RETURNING id"
        found = connection.execute(sql, (revoker, at)).fetchone()
    return int(found[0])


def _perform(
    connection: sqlite3.Connection, at: str, *, revoker: bytes, targets: Sequence[Target], wanted: _Wanted
) -> Outcome:
    if wanted.invalid_since is not None and wanted.invalid_since > dt.datetime.fromisoformat(at):
        raise RevocationError(
            f"{wanted.invalid_since:%Y-%m-%d %H:%M:%S}Z lies in the future; a date says since when a certificate has "
            "not been to be trusted",
            code="revocation.future",
        )
    owner = revoker_id(connection, at, revoker)
    done, unchanged = [], []
    for target in targets:
        before = connection.execute(_NEWEST, (revoker, serial_text(target.serial))).fetchone()
        known = None if before is None else standing_of(before)
        if (fault := _fault(known, target, wanted)) is not None:
            if len(targets) == 1:
                raise fault
            unchanged.append(target.serial)
            continue
        insert(connection, at, owner, target, Revocation(wanted.act, wanted.reason, wanted.invalid_since), before)
        done.append(target.serial)
    return Outcome(tuple(done), tuple(unchanged))


@dataclass(frozen=True, slots=True)
class Revocation:
    """One act, as it is written."""

    act: Act
    reason: Reason
    invalid_since: dt.datetime | None = None
    revoked_at: str | None = None
    """None: now."""


def insert(  # noqa: PLR0913, PLR0917 - what a row is made of
    connection: sqlite3.Connection, at: str, owner: int, target: Target, made: Revocation, before: Row | None
) -> None:
    """Write one act.

    Args:
        connection: inside a transaction.
        at: the time.
        owner: row of the issuing key.
        target: the certificate.
        made: the act.
        before: the newest act on this certificate, a row of ``STANDING``: what is known stays known.
    """
    held = before is not None and before[1] != Act.RELEASE and made.act is Act.REVOKE
    connection.execute(
        "INSERT INTO revocation (revoker_id, serial, act, reason, revoked_at, invalid_since, not_after, shard, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            owner,
            serial_text(target.serial),
            made.act.value,
            int(made.reason),
            before[3] if held and before is not None else made.revoked_at or at,
            time_text(made.invalid_since) if made.invalid_since else (before[4] if held and before else None),
            before[5] if before is not None else (time_text(target.not_after) if target.not_after else None),
            before[6] if before is not None else target.shard,
            at,
        ),
    )


def _fault(known: Standing | None, target: Target, wanted: _Wanted) -> RevocationError | None:
    """Return why nothing can be done to a certificate, or None."""
    name = shown(target.serial)
    if known is not None and known.act is Act.REVOKE:
        if wanted.reason is Reason.KEY_COMPROMISE is not known.reason:
            return None
        return RevocationError(
            f"certificate {name} was revoked at {known.revoked_at:%Y-%m-%d %H:%M:%S}Z ({known.reason.text}), and that "
            "is for good",
            code="revocation.final",
            serial=name,
        )
    is_held = known is not None and known.act is Act.HOLD
    if wanted.act is Act.HOLD and is_held and known is not None:
        since = f"{known.revoked_at:%Y-%m-%d %H:%M:%S}Z"
        return RevocationError(f"certificate {name} is on hold since {since}", code="revocation.held", serial=name)
    if wanted.act is Act.RELEASE and not is_held:
        return RevocationError(f"certificate {name} is not on hold", code="revocation.not_held", serial=name)
    return None
