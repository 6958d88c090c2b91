"""The manifest: what the line did, in one SQLite file, durable before anybody is told.

Lives here: the schema with the rules that no program can break (``schema_1.sql``; open it first), the writer
(``Manifest``) and the reader (``ManifestReader``), and ``handing.py`` for what was handed out and what came back. The
lock that keeps it one writer a file, and the thread that commits for several callers at once, are those of
``hsm.durable``.
``docs/manifest.md`` says what each row proves.

The way of one unit through it::

    unit = await manifest.begin(hardware_id=..., ..., slot="1", order="2026-07")
    intent = await manifest.reserve(unit.id, spki_sha256=csr.spki_sha256, draft=draft)   # draft(product_serial)
    recorded = await manifest.record(intent, await authority.issue(drafted))
    ...  # install recorded.der, read back, let the board prove, lock
    await manifest.passed(unit.id, proof, locks=locks, seconds=seconds)

After a crash ``begin`` returns the unit with its live ``issuance``: in state ``recorded`` it is installed again
(``manifest.recorded``), in state ``intent`` the same bytes are signed again (``manifest.attempt``), or it is given up
(``manifest.void``), and then it is listed for revocation.

Knows nothing of: tokens, ports, boards, and how a certificate is made.
"""

from hsm.durable import CLOCK_TOLERANCE
from station.manifest.errors import (
    ClockJumped,
    ClockWentBack,
    DuplicateHardware,
    DuplicateKey,
    ManifestError,
    ManifestLocked,
    ManifestUnwritable,
    NewerManifest,
    NotAManifest,
    OrderDiffers,
    OrderExhausted,
    RowRefused,
    SerialCollision,
)
from station.manifest.firmware import FirmwareRecord, FirmwareRelease
from station.manifest.life import Act, Holder, LifeAct, LifeRequest
from station.manifest.manifest import Manifest
from station.manifest.order_journal import OrderCount, OrderJournal
from station.manifest.reader import ManifestReader
from station.manifest.rows import (
    DeskRefusal,
    DraftLike,
    EventRecord,
    Intent,
    IssuanceRecord,
    IssuanceState,
    OrderRecord,
    OrderResume,
    OrderSeal,
    OrderTerms,
    PassedUnit,
    Proof,
    ProofKind,
    ProofRecord,
    RecordedCertificate,
    RevocationEntry,
    UnitHistory,
    UnitRecord,
    UnitState,
)

__all__ = [
    "CLOCK_TOLERANCE",
    "Act",
    "ClockJumped",
    "ClockWentBack",
    "DeskRefusal",
    "DraftLike",
    "DuplicateHardware",
    "DuplicateKey",
    "EventRecord",
    "FirmwareRecord",
    "FirmwareRelease",
    "Holder",
    "Intent",
    "IssuanceRecord",
    "IssuanceState",
    "LifeAct",
    "LifeRequest",
    "Manifest",
    "ManifestError",
    "ManifestLocked",
    "ManifestReader",
    "ManifestUnwritable",
    "NewerManifest",
    "NotAManifest",
    "OrderCount",
    "OrderDiffers",
    "OrderExhausted",
    "OrderJournal",
    "OrderRecord",
    "OrderResume",
    "OrderSeal",
    "OrderTerms",
    "PassedUnit",
    "Proof",
    "ProofKind",
    "ProofRecord",
    "RecordedCertificate",
    "RevocationEntry",
    "RowRefused",
    "SerialCollision",
    "UnitHistory",
    "UnitRecord",
    "UnitState",
]
