"""Taking over what published CRLs say: the way on when only an older copy of the journal is left."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hsm.durable import time_text
from hsm.errors import CrlError
from hsm.journal import CaJournal
from hsm.revocation.acts import STANDING, Act, Revocation, Target, insert, revoker_id, revoker_of, standing_of
from hsm.revocation.folder import number_of
from hsm.revocation.reasons import Reason
from hsm.revocation.scopes import Scope
from hsm.serials import serial_text

_REASONS: Final = {flag: Reason.parse(flag.value) for flag in x509.ReasonFlags if flag.value in set(Reason.texts())}

_NEWEST: Final = f"SELECT {STANDING} FROM revocation WHERE revoker_id = ? AND serial = ? GROUP BY serial"  # noqa: S608

_KNOWN: Final = """
SELECT 1 FROM adopted_crl WHERE revoker_id = ?1 AND sha256 = ?2
UNION ALL SELECT 1 FROM signed_crl JOIN crl ON crl.id = crl_id WHERE revoker_id = ?1 AND sha256 = ?2
"""

Crls = Mapping[Scope, x509.CertificateRevocationList]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it."""

    number: int
    """Later CRLs have higher ones."""
    added: int
    """Acts that the journal did not know."""


def adopt(
    journal: CaJournal, issuer: x509.Certificate, crls: Crls, target_of: Callable[[int], Target], now: dt.datetime
) -> Adopted:
    """Write into the journal what it lacks of published CRLs: their numbers, and who is revoked in them. Blocks.

    Args:
        journal: open for writing.
        issuer: who signed the CRLs; the caller has verified that (``CrlFolder.read``).
        crls: all that are published.
        target_of: what is known about a certificate; its shard is the one whose CRL it stands in, if it does.
        now: the time.

    Raises:
        CrlError: one was made in the future (``crl.from_the_future``).
    """
    for scope, crl in crls.items():
        if crl.last_update_utc > now:
            raise CrlError(
                f"{scope.file} was made at {crl.last_update_utc:%Y-%m-%d %H:%M:%S}Z, later than it is now; check the "
                "clock",
                code="crl.from_the_future",
            )
    shards = {entry.serial_number: scope.shard for scope, crl in crls.items() if scope.shard for entry in crl}

    def known(serial: int) -> Target:
        target = target_of(serial)
        return replace(target, shard=shards.get(serial, target.shard))

    return journal.perform_blocking(partial(_adopt, revoker=revoker_of(issuer), crls=crls, target_of=known))


def _adopt(
    connection: sqlite3.Connection, at: str, *, revoker: bytes, crls: Crls, target_of: Callable[[int], Target]
) -> Adopted:
    owner = revoker_id(connection, at, revoker)
    sql = "SELECT coalesce(max(number), 0) FROM crl WHERE revoker_id = ?"
    (journal_number,) = connection.execute(sql, (owner,)).fetchone()
    digests = {crl.fingerprint(hashes.SHA256()): crl for crl in crls.values()}
    news = sorted(
        (digest for digest in digests if not connection.execute(_KNOWN, (owner, digest)).fetchall()),
        key=lambda digest: (number_of(digests[digest]), -len(digests[digest])),
    )  # the journal knows what one says that it signed itself, or took over before
    added = sum(_take(connection, at, owner, entry, target_of) for digest in news for entry in digests[digest])
    sql = "INSERT INTO adopted_crl (revoker_id, sha256, at) VALUES (?, ?, ?)"
    connection.executemany(sql, [(owner, digest, at) for digest in news])
    last = digests[news[-1]] if news else None
    number = journal_number
    if last is not None and number_of(last) > journal_number:  # taken, and not signed here: no delta will add to it
        number = number_of(last)
        until = last.next_update_utc or last.last_update_utc + dt.timedelta(seconds=1)
        connection.execute(
            "INSERT INTO crl (revoker_id, scope, number, last_act, this_update, next_update, at) "
            "VALUES (?, 'full', ?, 0, ?, ?, ?)",
            (owner, number, time_text(last.last_update_utc), time_text(until), at),
        )
    return Adopted(number, added)


def _take(
    connection: sqlite3.Connection,
    at: str,
    owner: int,
    entry: x509.RevokedCertificate,
    target_of: Callable[[int], Target],
) -> bool:
    """Write one entry of a CRL, if it is news."""
    before = connection.execute(_NEWEST, (owner, serial_text(entry.serial_number))).fetchone()
    known = None if before is None else standing_of(before).act
    made = _act_of(entry)
    is_news = known is Act.HOLD if made.act is Act.RELEASE else known is not Act.REVOKE and known is not made.act
    if is_news:
        insert(connection, at, owner, target_of(entry.serial_number), made, before)
    return is_news


def _act_of(entry: x509.RevokedCertificate) -> Revocation:
    reason, since = Reason.UNSPECIFIED, None
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            reason = _REASONS[extension.value.reason]
        elif isinstance(extension.value, x509.InvalidityDate):
            since = extension.value.invalidity_date_utc
    acts = {Reason.REMOVE_FROM_CRL: Act.RELEASE, Reason.CERTIFICATE_HOLD: Act.HOLD}
    return Revocation(acts.get(reason, Act.REVOKE), reason, since, time_text(entry.revocation_date_utc))
