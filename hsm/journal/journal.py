"""The writer's face of the journal."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from hsm.durable import Clock, OpenFile
from hsm.journal import operations
from hsm.journal.reader import JournalReader
from hsm.journal.rows import Intent, IntentDraft, Issued, Reservation
from hsm.journal.schema import JOURNAL

Result = TypeVar("Result")


class CaJournal(OpenFile):
    """The one writer of a journal. Every method returns when its rows are durable, or raises.

    Methods may be called from any event loop and any thread; what several callers want at once shares a commit.
    Cancelling a caller does not undo what it asked for. Each has a twin that blocks, for callers without a loop.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        """Do the same as ``open``."""
        super().__init__(JOURNAL, path, clock=clock)

    @classmethod
    def open(cls, path: Path, *, clock: Clock | None = None) -> Self:
        """Open the journal for writing; make it if there is none, bring it up to date if it is older.

        Args:
            path: the SQLite file; its folder exists. ``<path>.lock`` is made beside it.
            clock: the time, aware of its zone; None: this computer's, as long as nobody sets it ahead.

        Raises:
            JournalLocked: another process writes to it; names its PID.
            NewerJournal: a newer version wrote it; nothing was changed.
            NotAJournal: the file is something else or damaged; nothing was changed.
            JournalUnwritable: read-only folder or file, disk full.
            ClockWentBack: the clock is behind the last entry.
        """
        return cls(path, clock=clock)

    def reader(self) -> JournalReader:
        """Open a reader beside; the caller closes it."""
        return JournalReader(self.path)

    # -- issuing

    async def reserve(  # noqa: PLR0913 - one argument a column, by name
        self,
        *,
        issuer: bytes,
        profile: str,
        subject: str,
        spki_sha256: bytes,
        draft: IntentDraft,
        batch: str | None = None,
        request: str = "",
        renew: bool = False,
    ) -> Intent:
        """Write the intent to sign; the first try is counted.

        Args:
            issuer: SHA-256 of the issuer's certificate.
            profile: its name.
            subject: RFC 4514.
            spki_sha256: SHA-256 of the SubjectPublicKeyInfo, 32 bytes.
            draft: what is to be signed.
            batch: name of the batch that it belongs to; the batch is made if it is new.
            request: name of the request in its batch.
            renew: the key has a certificate, and gets another one.

        Raises:
            KeyCertified: the key has a certificate, and this is no renewal; names it.
            SerialCollision: the serial number was given before; draft again.
            RowRefused: a certificate for this key is intended and not signed (``journal.issuance_open``: resume it),
                or the batch belongs to another issuer (``journal.batch_differs``).
        """
        wanted = Reservation(issuer, profile, subject, spki_sha256, draft, batch, request, renew)
        return await self.perform(partial(operations.reserve, wanted=wanted))

    def reserve_blocking(self, wanted: Reservation) -> Intent:
        """Do as ``reserve``, and block this thread meanwhile."""
        return self.perform_blocking(partial(operations.reserve, wanted=wanted))

    async def reserve_all(self, wanted: Sequence[Reservation]) -> list[Intent]:
        """Do as ``reserve``, for several in one commit: all or none."""
        return await self.perform(partial(operations.reserve_all, wanted=wanted))

    async def attempt(self, issuance_id: int) -> Intent:
        """Count one more try to sign, before the token is asked, and hand out the intent again.

        Raises:
            RowRefused: there is nothing to sign (``journal.issuance_state``).
        """
        return await self.perform(partial(operations.attempt, issuance_id=issuance_id))

    def attempt_blocking(self, issuance_id: int) -> Intent:
        """Do as ``attempt``, and block this thread meanwhile."""
        return self.perform_blocking(partial(operations.attempt, issuance_id=issuance_id))

    async def record(self, intent: Intent, der: bytes) -> Issued:
        """Store the signed certificate; only then may it leave. The same one twice is stored once.

        Args:
            intent: from ``reserve`` or ``attempt``.
            der: the certificate; its signature was verified by the caller.

        Raises:
            RowRefused: not the intended one (``journal.certificate_differs``), or another is recorded.
            JournalError: not a certificate (``journal.certificate_malformed``).
        """
        return await self.perform(partial(operations.record, intent=intent, certificate=der))

    def record_blocking(self, intent: Intent, der: bytes) -> Issued:
        """Do as ``record``, and block this thread meanwhile."""
        return self.perform_blocking(partial(operations.record, intent=intent, certificate=der))

    async def record_all(self, signed: Sequence[tuple[Intent, bytes]]) -> list[Issued]:
        """Do as ``record``, for several in one commit: all or none."""
        return await self.perform(partial(operations.record_all, signed=signed))

    async def void(self, issuance_id: int, reason: str) -> None:
        """Give an intent up; the key is free again, and what may have been signed is to be revoked. Repeatable.

        Raises:
            RowRefused: it is signed and recorded (``journal.issuance_state``): revoke it.
        """
        await self.perform(partial(operations.void, issuance_id=issuance_id, reason=reason))

    def void_blocking(self, issuance_id: int, reason: str) -> None:
        """Do as ``void``, and block this thread meanwhile."""
        self.perform_blocking(partial(operations.void, issuance_id=issuance_id, reason=reason))

    # -- what else a token signs

    async def count_signature(self, kind: str, issuer: bytes) -> int:
        """Count a signature BEFORE the token is asked for it; certificates are counted by ``reserve`` and ``attempt``.

        Args:
            kind: ``probe``, ``crl``, ``ocsp``, ``transcript``, …: lower-case letters, digits, hyphens.
            issuer: SHA-256 of the certificate of the key that signs.

        Returns:
            The number of its row.
        """
        return await self.perform(partial(operations.count_signature, kind=kind, issuer=issuer))

    def count_signature_blocking(self, kind: str, issuer: bytes) -> int:
        """Do as ``count_signature``, and block this thread meanwhile."""
        return self.perform_blocking(partial(operations.count_signature, kind=kind, issuer=issuer))
