"""CRL numbers, and which CRLs there are: rows of the CA's journal.

A number is taken before anything is signed under it, so it is never used twice, whatever dies in between. All CRLs of
an issuer share one sequence, and those that are made together share a number: a complete CRL and a delta CRL of one
moment must (RFC 5280 5.2.4), and a shard may.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hsm.durable import Reader, time_text
from hsm.journal import CaJournal
from hsm.revocation import chain
from hsm.revocation.acts import STANDING, Act, moment, revoker_id, standing_of
from hsm.revocation.crl import Revoked
from hsm.revocation.reasons import Reason
from hsm.revocation.scopes import Scope

_MINE: Final = "revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?)"


@dataclass(frozen=True, slots=True)
class CrlRecord:
    """A CRL that was signed."""

    scope: Scope
    number: int
    base: int | None
    last_act: int
    """The newest act that it tells."""
    this_update: dt.datetime
    next_update: dt.datetime
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A CRL that is to be made."""

    scope: Scope
    this_update: dt.datetime
    next_update: dt.datetime
    base: CrlRecord | None = None
    """For a delta: the complete CRL that it adds to."""
    skip_expired_before: dt.datetime | None = None
    """Certificates that expired before this are left out."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A CRL that may be signed now, under its number."""

    crl_id: int
    plan: Plan
    number: int
    last_act: int


def reserve(journal: CaJournal, revoker: bytes, plans: Sequence[Plan]) -> list[Reserved]:
    """Take one number for CRLs that are made together. Blocks.

    Raises:
        JournalError: nothing was written.
    """
    return journal.perform_blocking(partial(_reserve, revoker=revoker, plans=plans))


def record(journal: CaJournal, reserved: Reserved, *, entries: int, sha256: bytes) -> None:
    """Write what was signed. Blocks."""
    journal.perform_blocking(partial(_record, crl_id=reserved.crl_id, entries=entries, sha256=sha256))


def _reserve(connection: sqlite3.Connection, at: str, *, revoker: bytes, plans: Sequence[Plan]) -> list[Reserved]:
    owner = revoker_id(connection, at, revoker)
    sql = "SELECT coalesce(max(number), 0) + 1 FROM crl WHERE revoker_id = ?"
    (number,) = connection.execute(sql, (owner,)).fetchone()
    sql = "SELECT coalesce(max(id), 0) FROM revocation WHERE revoker_id = ?"
    (last_act,) = connection.execute(sql, (owner,)).fetchone()
    head = chain.head_now(connection, revoker)
    made = []
    for plan in plans:
        base = plan.base.number if plan.base else None
        row = (owner, str(plan.scope), number, base, last_act, time_text(plan.this_update), time_text(plan.next_update))
        cursor = connection.execute(
            "INSERT INTO crl (revoker_id, scope, number, base, last_act, this_update, next_update, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, at),
        )
        connection.execute("INSERT INTO crl_head (crl_id, head) VALUES (?, ?)", (cursor.lastrowid, head))
        made.append(Reserved(cursor.lastrowid or 0, plan, number, last_act))
    return made


def _record(connection: sqlite3.Connection, at: str, *, crl_id: int, entries: int, sha256: bytes) -> None:
    connection.execute(
        "INSERT INTO signed_crl (crl_id, entries, sha256, at) VALUES (?, ?, ?, ?)", (crl_id, entries, sha256, at)
    )


_CRL: Final = (
    "SELECT scope, number, base, last_act, this_update, next_update, sha256 FROM crl "  # noqa: S608 - our own text
    f"JOIN signed_crl ON signed_crl.crl_id = crl.id WHERE {_MINE}"
)
_NEWEST: Final = f"""
{_CRL} AND number = (SELECT max(number) FROM crl AS c WHERE c.revoker_id = crl.revoker_id AND c.scope = crl.scope
                     AND EXISTS (SELECT 1 FROM signed_crl WHERE crl_id = c.id))
"""  # noqa: S608 - our own text


def _crl_of(row: tuple[str, int, int | None, int, str, str, bytes]) -> CrlRecord:
    scope, number, base, last_act, this_update, next_update, sha256 = row
    return CrlRecord(Scope.parse(scope), number, base, last_act, moment(this_update), moment(next_update), sha256)


def newest(reader: Reader, revoker: bytes) -> Mapping[Scope, CrlRecord]:
    """Return the newest CRL of each scope that was signed."""
    found = (_crl_of(row) for row in reader.rows(_NEWEST, revoker))
    return {record.scope: record for record in found}


def signed_as(reader: Reader, revoker: bytes, sha256: bytes) -> CrlRecord | None:
    """Return the record of the CRL with this digest, or None if this journal did not sign it."""
    return next((_crl_of(row) for row in reader.rows(f"{_CRL} AND sha256 = ?", revoker, sha256)), None)


def knows(reader: Reader, revoker: bytes, sha256: bytes) -> bool:
    """Whether a CRL with this digest was signed here, or was taken over."""
    sql = f"SELECT 1 FROM adopted_crl WHERE {_MINE} AND sha256 = ?"  # noqa: S608
    return signed_as(reader, revoker, sha256) is not None or bool([*reader.rows(sql, revoker, sha256)])


def base_for_delta(reader: Reader, revoker: bytes, now: dt.datetime) -> CrlRecord | None:
    """Return the oldest complete CRL that somebody may still hold: what a delta has to add to."""
    sql = f"{_CRL} AND scope = 'full' AND next_update > ? ORDER BY number LIMIT 1"
    rows = [*reader.rows(sql, revoker, time_text(now))]
    return _crl_of(rows[0]) if rows else None


def highest_number(reader: Reader, revoker: bytes) -> int:
    """Return the highest number that was taken, or 0."""
    ((number,),) = reader.rows(f"SELECT coalesce(max(number), 0) FROM crl WHERE {_MINE}", revoker)  # noqa: S608
    return int(number)


def newest_act(reader: Reader, revoker: bytes, shard: str | None = None) -> int:
    """Return the newest act on certificates of an issuer, or of one shard of them; 0 if there is none."""
    sql = f"SELECT coalesce(max(id), 0) FROM revocation WHERE {_MINE}"  # noqa: S608
    rows = reader.rows(sql, revoker) if shard is None else reader.rows(f"{sql} AND shard = ?", revoker, shard)
    ((act_id,),) = rows
    return int(act_id)


def shards(reader: Reader, revoker: bytes) -> set[str]:
    """Return the shards that something was revoked in, and those that a CRL was made for."""
    revoked = reader.rows(f"SELECT DISTINCT shard FROM revocation WHERE {_MINE} AND shard IS NOT NULL", revoker)  # noqa: S608
    made = reader.rows(f"SELECT DISTINCT substr(scope, 7) FROM crl WHERE {_MINE} AND scope GLOB 'shard:*'", revoker)  # noqa: S608
    return {shard for (shard,) in (*revoked, *made)}


def entries(reader: Reader, revoker: bytes, reserved: Reserved) -> Iterator[Revoked]:
    """Iterate over the entries of a CRL, by serial number."""
    plan = reserved.plan
    where, parameters = f"{_MINE} AND id <= ?", [revoker, reserved.last_act]
    if plan.scope.shard is not None:
        where += " AND shard = ?"
        parameters.append(plan.scope.shard)
    if plan.base is not None:
        where += f" AND serial IN (SELECT serial FROM revocation WHERE {_MINE} AND id > ?)"  # noqa: S608
        parameters += [revoker, plan.base.last_act]
    keep = time_text(plan.skip_expired_before) if plan.skip_expired_before else ""
    having = "(act <> 'release' OR ?) AND (not_after IS NULL OR not_after >= ?)"
    sql = f"SELECT {STANDING} FROM revocation WHERE {where} GROUP BY serial HAVING {having} ORDER BY serial"  # noqa: S608
    for row in reader.rows(sql, *parameters, plan.base is not None, keep):
        found = standing_of(row)
        reason = Reason.REMOVE_FROM_CRL if found.act is Act.RELEASE else found.reason
        yield Revoked(found.serial, found.revoked_at, reason, found.invalid_since)
