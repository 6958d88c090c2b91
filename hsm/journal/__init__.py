"""The CA's journal: what a CA signed, in one SQLite file, durable before the token is asked.

::

    with CaJournal.open(Path("ca/ca.db")) as journal:
        intent = await journal.reserve(issuer=sha256, profile="tls-server", subject=..., spki_sha256=..., draft=draft)
        issued = await journal.record(intent, await authority.issue(draft))
        await journal.count_signature("crl", sha256)  # before a token signs anything that is no certificate

After a crash between intent and record the same bytes are signed again: ``attempt`` counts the try, ``redraft`` lints.

Open first ``issuance_1.sql``: the tables, and the rules that no program can break. Then ``journal.py`` (the writer's
face), ``operations.py`` (what is done to the rows), ``reader.py`` (``JournalReader``, also beside a writer).

Every concern has a migration set of its own in this file; a set is its files ``<set>_1.sql``, ``<set>_2.sql``, … here,
named in ``schema.py``. A concern's own operations take ``(connection, at, ...)`` and run through ``CaJournal.perform``.

Knows nothing of: tokens, profiles, and how a certificate is made.
"""

from hsm.journal.errors import (
    ClockJumped,
    ClockWentBack,
    JournalError,
    JournalLocked,
    JournalUnwritable,
    KeyCertified,
    NewerJournal,
    NotAJournal,
    RowRefused,
    SerialCollision,
)
from hsm.journal.journal import CaJournal
from hsm.journal.reader import JournalReader
from hsm.journal.rows import (
    BatchRecord,
    Intent,
    IntentDraft,
    IssuanceRecord,
    IssuanceState,
    Issued,
    Reservation,
    certificate_sha256,
    shard_name,
)

__all__ = [
    "BatchRecord",
    "CaJournal",
    "ClockJumped",
    "ClockWentBack",
    "Intent",
    "IntentDraft",
    "IssuanceRecord",
    "IssuanceState",
    "Issued",
    "JournalError",
    "JournalLocked",
    "JournalReader",
    "JournalUnwritable",
    "KeyCertified",
    "NewerJournal",
    "NotAJournal",
    "Reservation",
    "RowRefused",
    "SerialCollision",
    "certificate_sha256",
    "shard_name",
]
