"""Whether the acts on record are still those that the CRLs told of.

Each number that is taken for a CRL has the head of a hash chain over all acts of its issuing key so far::

    head_0 = SHA-256 of the key's SubjectPublicKeyInfo        head_n = SHA-256(head_n-1 || act n)

An act that is changed, removed or put in later breaks every head after it. There is no key in this: whoever computes
the heads anew as well, with rules and triggers out of the way, is not seen here but by what is published, which the
token signed.

Knows nothing of: tokens, files, and who wants to know.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from hsm.durable import Reader

_ACTS: Final = (
    "SELECT id, serial, act, reason, revoked_at, invalid_since, not_after, shard, at FROM revocation "
    "WHERE revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) AND id > ? ORDER BY id"
)
_LAST: Final = (
    "SELECT crl.last_act, crl_head.head FROM crl_head JOIN crl ON crl.id = crl_head.crl_id "
    "WHERE crl.revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) ORDER BY crl.id DESC LIMIT 1"
)
_HEADS: Final = (
    "SELECT crl.last_act, crl_head.head, crl.number FROM crl LEFT JOIN crl_head ON crl_head.crl_id = crl.id "
    "WHERE crl.revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) ORDER BY crl.last_act, crl.id"
)

NUMBERED: Final = ("issuance", "signature", "revocation", "crl", "accepted_difference", "closed_tries")
"""Tables whose rows have the numbers 1, 2, 3 … without a gap, since none is ever removed."""


def _follow(head: bytes, acts: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, bytes]]:
    """Iterate over the acts: number, and the head after it."""
    for act in acts:
        head = hashlib.sha256(head + json.dumps(act).encode()).digest()
        yield act[0], head


def head_now(connection: sqlite3.Connection, revoker: bytes) -> bytes:
    """Return the head over all acts so far; inside a transaction. Goes on from the newest one on record."""
    last_act, head = connection.execute(_LAST, (revoker,)).fetchone() or (0, revoker)
    for _, after in _follow(head, connection.execute(_ACTS, (revoker, last_act))):
        head = after
    return bytes(head)


def faults(reader: Reader) -> Iterator[str]:
    """Tell what does not fit in a journal: rows that are missing, and acts that are not those that CRLs told of."""
    for table in NUMBERED:
        ((rows, last),) = reader.rows(f"SELECT count(*), coalesce(max(id), 0) FROM {table}")  # noqa: S608 - our own names
        if rows != last:
            yield f"table {table} has {rows} rows, and the last one has number {last}: {last - rows} were removed"
    for (revoker,) in [*reader.rows("SELECT spki_sha256 FROM revoker ORDER BY id")]:
        yield from _broken(reader, revoker)


def _broken(reader: Reader, revoker: bytes) -> Iterator[str]:
    acts = _follow(revoker, reader.rows(_ACTS, revoker, 0))
    act, head = 0, revoker
    for last_act, wanted, number in [*reader.rows(_HEADS, revoker)]:
        while act < last_act:
            act, head = next(acts, (last_act + 1, b""))
        if act > last_act:
            yield f"CRL {number} told of the acts up to {last_act}, and that act is gone"
            return
        if wanted is not None and head != wanted:
            yield f"the acts up to {last_act} are not those that CRL {number} told of: some were changed or removed"
            return
