"""What is done to the rows: one function an operation, each inside a transaction of the writer.

Every function gets the connection and the time first. What it checks is checked by the schema again; it checks to say
*which* certificate stands in the way.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final

from hsm.columns import each
from hsm.der import DerError, split_signed
from hsm.durable import time_text
from hsm.durable.refusal import refusal
from hsm.errors import HsmError, printable
from hsm.journal.errors import JournalError, KeyCertified, RowRefused
from hsm.journal.rows import Intent, IntentDraft, Issued, Reservation
from hsm.journal.schema import JOURNAL
from hsm.serials import serial_text

_LIVE: Final = """
SELECT i.id, i.serial, i.subject, batch.name, i.request, certificate.at FROM issuance AS i
LEFT JOIN batch ON batch.id = i.batch_id LEFT JOIN certificate ON certificate.issuance_id = i.id
WHERE i.spki_sha256 = ? AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = i.id) ORDER BY i.id DESC LIMIT 1
"""

_INSERT_ISSUANCE: Final = (
    "INSERT INTO issuance (issuer_id, profile, subject, spki_sha256, batch_id, request, serial, not_after, tbs, "
    "tbs_sha256, renews, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
TALLIED: Final = frozenset({"ocsp"})
"""Kinds of signatures that anybody can ask for: one row a day counts them."""

_INSERT_TRY: Final = "INSERT INTO signature (issuer_id, kind, issuance_id, at) VALUES (?, 'certificate', ?, ?)"
_INSERT_FIRST_TRIES: Final = """
INSERT INTO signature (issuer_id, kind, issuance_id, at)
SELECT issuer_id, 'certificate', id, at FROM issuance WHERE id BETWEEN ? AND ?
"""


def issuer_id(connection: sqlite3.Connection, at: str, issuer: bytes) -> int:
    """Find or make the row of an issuer."""
    found = connection.execute("SELECT id FROM issuer WHERE sha256 = ?", (issuer,)).fetchone()
    if found is None:
        found = connection.execute(
            "INSERT INTO issuer (sha256, at) VALUES (?, ?) RETURNING id", (issuer, at)
        ).fetchone()
    return int(found[0])


def _batch_id(connection: sqlite3.Connection, at: str, issuer: int, name: str) -> int:
    found = connection.execute("SELECT id FROM batch WHERE name = ?", (name,)).fetchone()
    if found is None:
        found = connection.execute(
            "INSERT INTO batch (name, issuer_id, at) VALUES (?, ?, ?) RETURNING id", (name, issuer, at)
        ).fetchone()
    return int(found[0])


def _places(connection: sqlite3.Connection, at: str, wanted: Reservation) -> tuple[int, int | None]:
    """Return the rows of the issuer and of the batch."""
    issuer = issuer_id(connection, at, wanted.issuer)
    return issuer, None if wanted.batch is None else _batch_id(connection, at, issuer, wanted.batch)


def reserve(connection: sqlite3.Connection, at: str, *, wanted: Reservation) -> Intent:
    """Write the intent to sign, and count the first try."""
    intent = _intend(connection, at, wanted, _places(connection, at, wanted))
    _count_first_tries(connection, [intent])
    return intent


def _count_first_tries(connection: sqlite3.Connection, intents: Sequence[Intent]) -> None:
    """Count a try for each of some intents, which are all that were made since the first of them."""
    if intents:
        connection.execute(_INSERT_FIRST_TRIES, (intents[0].issuance_id, intents[-1].issuance_id))


def _intend(connection: sqlite3.Connection, at: str, wanted: Reservation, places: tuple[int, int | None]) -> Intent:
    """Write an intent; its first try is still to be counted."""
    issuer, batch = places
    draft: IntentDraft = wanted.draft
    tbs = draft.tbs
    if hashlib.sha256(tbs).digest() != draft.tbs_sha256:
        raise JournalError("the draft's digest is not that of its bytes", code="journal.draft_invalid")
    row = (
        *(issuer, wanted.profile, wanted.subject, wanted.spki_sha256, batch, wanted.request),
        *(serial_text(draft.serial), time_text(draft.not_after), tbs, draft.tbs_sha256),
        *(_renewed(connection, wanted) if wanted.renew else None, at),
    )
    try:
        cursor = connection.execute(_INSERT_ISSUANCE, row)
    except sqlite3.IntegrityError:
        _renewed(connection, wanted)  # says which certificate stands in the way, if that is the matter
        raise
    issuance_id = cursor.lastrowid
    assert issuance_id is not None  # noqa: S101 - for mypy: an INSERT has one
    return Intent(issuance_id, draft.serial, tbs, draft.tbs_sha256, 1)


def reserve_all(connection: sqlite3.Connection, at: str, *, wanted: Sequence[Reservation]) -> list[Intent]:
    """Do as ``reserve``, for several: all or none."""
    return [reserve(connection, at, wanted=one) for one in wanted]


def reserve_each(connection: sqlite3.Connection, at: str, *, wanted: Sequence[Reservation]) -> list[Intent | HsmError]:
    """Do as ``reserve``, for several of one issuer and batch: each for itself.

    What refuses one is returned in its place.
    """
    places = _places(connection, at, wanted[0]) if wanted else (0, None)

    def intend(one: Reservation) -> Intent:
        try:
            return _intend(connection, at, one, places)
        except sqlite3.IntegrityError as error:
            raise refusal(JOURNAL, error, "the journal") from error

    found = each(intend, wanted)
    _count_first_tries(connection, [one for one in found if isinstance(one, Intent)])
    return found


def _renewed(connection: sqlite3.Connection, wanted: Reservation) -> int | None:
    """Return the row that is renewed, if any."""
    live = connection.execute(_LIVE, (wanted.spki_sha256,)).fetchone()
    if live is None:
        return None
    found, serial, subject, batch, request, recorded_at = live
    where = f" in batch {batch} (request {request!r})" if batch else ""
    if recorded_at is None:
        raise RowRefused(
            f"a certificate for this key is intended{where} and not signed: {subject}, serial {serial}; "
            "resume it, or give it up",
            code="journal.issuance_open",
            issuance=found,
        )
    if not wanted.renew:
        raise KeyCertified(
            f"this key has a certificate since {recorded_at}{where}: {subject}, serial {serial}; "
            "renew it on purpose (--renew), or make a new key",
            serial=serial,
            subject=subject,
        )
    return int(found)


def attempt(connection: sqlite3.Connection, at: str, *, issuance_id: int) -> Intent:
    """Count one more try to sign what was intended, and hand it out again."""
    row = connection.execute(
        "SELECT issuer_id, serial, tbs, tbs_sha256 FROM issuance WHERE id = ?", (issuance_id,)
    ).fetchone()
    if row is None:
        raise _unknown(issuance_id)
    issuer, serial, tbs, tbs_sha256 = row
    connection.execute(_INSERT_TRY, (issuer, issuance_id, at))
    (tries,) = connection.execute("SELECT count(*) FROM signature WHERE issuance_id = ?", (issuance_id,)).fetchone()
    return Intent(issuance_id, int(serial, 16), tbs, tbs_sha256, tries)


def _unknown(issuance_id: int) -> JournalError:
    return JournalError(f"no issuance {issuance_id} in the journal", code="journal.issuance_unknown")


def record(connection: sqlite3.Connection, at: str, *, intent: Intent, certificate: bytes) -> Issued:
    """Store the certificate of an intent; the same one twice is stored once."""
    try:
        tbs = split_signed(certificate).tbs
    except DerError as error:
        raise JournalError(f"not a certificate: {error}", code="journal.certificate_malformed") from error
    if tbs != intent.tbs:
        raise RowRefused("the certificate is not the one that was intended", code="journal.certificate_differs")
    sha256 = hashlib.sha256(certificate).digest()
    issued = Issued(intent.issuance_id, intent.serial, certificate, sha256)
    try:
        connection.execute(
            "INSERT INTO certificate (issuance_id, der, sha256, at) VALUES (?, ?, ?, ?)",
            (intent.issuance_id, certificate, sha256, at),
        )
    except sqlite3.IntegrityError:
        found = connection.execute(
            "SELECT sha256 FROM certificate WHERE issuance_id = ?", (intent.issuance_id,)
        ).fetchone()
        if found is None or found[0] != sha256:
            raise
    return issued


def record_all(connection: sqlite3.Connection, at: str, *, signed: Sequence[tuple[Intent, bytes]]) -> list[Issued]:
    """Do as ``record``, for several: all or none."""
    return [record(connection, at, intent=intent, certificate=certificate) for intent, certificate in signed]


def void(connection: sqlite3.Connection, at: str, *, issuance_id: int, reason: str) -> None:
    """Give an intent up, once."""
    execute = connection.execute
    if execute("SELECT 1 FROM issuance WHERE id = ?", (issuance_id,)).fetchone() is None:
        raise _unknown(issuance_id)
    if execute("SELECT 1 FROM void WHERE issuance_id = ?", (issuance_id,)).fetchone() is None:
        execute("INSERT INTO void (issuance_id, reason, at) VALUES (?, ?, ?)", (issuance_id, printable(reason), at))


def count_signature(connection: sqlite3.Connection, at: str, *, kind: str, issuer: bytes) -> int:
    """Count a signature that is about to be asked for; returns its row, or how many there are today (``TALLIED``)."""
    if kind in TALLIED:
        return tally_signatures(connection, at, kind=kind, issuer=issuer, number=1)
    cursor = connection.execute(
        "INSERT INTO signature (issuer_id, kind, at) VALUES (?, ?, ?)", (issuer_id(connection, at, issuer), kind, at)
    )
    assert cursor.lastrowid is not None  # noqa: S101 - for mypy: an INSERT has one
    return cursor.lastrowid


def tally_signatures(connection: sqlite3.Connection, at: str, *, kind: str, issuer: bytes, number: int) -> int:
    """Count signatures that are about to be asked for in the row of the day; returns how many there are today."""
    named = (issuer_id(connection, at, issuer), kind, at[: len("2026-01-31")])
    where = "WHERE issuer_id = ? AND kind = ? AND day = ? RETURNING tries"
    sql = f"UPDATE signature_tally SET tries = tries + ?, at = ? {where}"  # noqa: S608 - our own text
    found = connection.execute(sql, (number, at, *named)).fetchone()
    if found is None:
        sql = "INSERT INTO signature_tally (issuer_id, kind, day, tries, at) VALUES (?, ?, ?, ?, ?) RETURNING tries"
        found = connection.execute(sql, (*named, number, at)).fetchone()
    return int(found[0])
