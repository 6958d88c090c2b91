"""The writer's face of the manifest: what the daemon calls."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography import x509

from hsm.durable import Clock, OpenFile
from station.errors import ManifestError, printable
from station.manifest import firmware, life, operations, order_operations
from station.manifest.firmware import FirmwareRelease
from station.manifest.life import Holder, LifeAct, LifeRequest
from station.manifest.rows import DraftLike, Intent, OrderTerms, Proof, ProofRecord, RecordedCertificate, UnitRecord
from station.manifest.schema import MANIFEST

Result = TypeVar("Result")

JOURNAL: Final = "journal"
"""The kind of the events that the schema writes by itself."""


class Manifest(OpenFile):
    """The one writer of a manifest. Every awaited method returns when its rows are durable (I1), or raises.

    Cancelling a caller does not undo what it asked for. Methods may be called from any event loop and any thread; use
    ``ManifestReader`` to read.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        """Do the same as ``open``."""
        super().__init__(MANIFEST, path, clock=clock)
        self._identity: str = self._db.execute("SELECT uuid FROM manifest_identity").fetchone()[0]

    @classmethod
    def open(cls, path: Path, *, clock: Clock | None = None) -> Self:
        """Open the manifest for writing; make it if there is none, bring it up to date if it is older.

        Args:
            path: the SQLite file; its folder exists. ``<path>.lock`` is made beside it.
            clock: the time, aware of its zone; None: this computer's, as long as nobody sets it ahead.

        Raises:
            ManifestLocked: another process writes to it; names its PID.
            NewerManifest: a newer version wrote it; nothing was changed.
            NotAManifest: the file is something else or damaged; nothing was changed.
            ManifestUnwritable: read-only folder or file, disk full.
            ClockWentBack: the clock is behind the last event.
        """
        return cls(path, clock=clock)

    async def answer(self) -> None:
        """Return once the writing thread and the disk's lock have answered; nothing is written."""
        await self._writer.perform(lambda _connection, _at: None)

    @property
    def identity(self) -> str:
        """Random id of this manifest, 32 hexadecimal digits; a copy has the same, a new file another."""
        return self._identity

    async def open_order(self, terms: OrderTerms) -> bool:
        """Store an order, or find it stored. An order of schema 1, which has no seal, gets one afterwards.

        Returns:
            Whether something was written.

        Raises:
            OrderDiffers: it is stored with other terms; says which.
            ManifestError: the terms make no sense (``manifest.order_invalid``).
        """
        _check_terms(terms)
        return await self._writer.perform(partial(order_operations.open_order, terms=terms))

    async def close_order(self, name: str, reason: str) -> bool:
        """Close an order for good: no board and no request takes a serial of it any more.

        Returns:
            False where it was closed before.

        Raises:
            ManifestError: no such order (``manifest.order_unknown``).
        """
        return await self._writer.perform(partial(order_operations.close_order, name=name, reason=reason))

    async def resume_order(  # noqa: PLR0913 - what is decided, by name
        self, name: str, *, burned: int, reason: str, actor: str, os_user: str, damaged: Sequence[str] = ()
    ) -> None:
        """Burn numbers that this manifest does not know of, and let a suspended order go on.

        Args:
            name: of the order.
            burned: so many numbers after those that the row knows; 0 for none.
            reason: why, at most 200 characters.
            actor: who decides it.
            os_user: as whom the command runs.
            damaged: what stands in damaged notes that are replaced.

        Raises:
            ManifestError: no such order (``manifest.order_unknown``).
            RowRefused: nothing is to be decided, or the order has fewer numbers (``manifest.order_resume``).
        """
        decide = partial(order_operations.resume_order, name=name, burned=burned, reason=reason, actor=actor)
        await self._writer.perform(partial(decide, os_user=os_user, damaged=tuple(damaged)))

    def refuse_desk_request(self, spki_sha256: bytes, code: str, reason: str) -> bool:
        """Note why a request that took a serial got no certificate. Blocks.

        Returns:
            False where the key holds no serial, or its refusal was noted before.
        """
        operation = partial(order_operations.refuse_desk_request, spki_sha256=spki_sha256, code=code, reason=reason)
        return self._writer.submit(operation).result()

    def take_desk_serial(self, terms: OrderTerms, spki_sha256: bytes, *, taken: int = 0) -> tuple[str, str | None]:
        """Take a serial, and budget, for a certificate that ``station ca issue`` makes. Blocks.

        Asked again for the same key, it is the same.

        Args:
            terms: of the verified order.
            spki_sha256: of the request's key.
            taken: numbers that are known to have been taken.

        Returns:
            The product serial, and the MAC address if the order gives one.

        Raises:
            OrderExhausted, OrderDiffers, RowRefused: as ``reserve``.
        """
        operation = partial(order_operations.take_desk_serial, terms=terms, spki_sha256=spki_sha256, taken=taken)
        return self._writer.submit(operation).result()

    async def begin(  # noqa: PLR0913  # one argument a column, by name
        self,
        *,
        hardware_id: str,
        model: str,
        firmware_version: str,
        firmware_sha256: bytes,
        slot: str,
        order: str,
    ) -> UnitRecord:
        """Find the unit by its hardware id, or make it; open it and count the attempt.

        An id that differs from one on record in case alone is that board's; it keeps the spelling that came first.
        A unit that passed is returned as it is, and not counted. A unit that holds a product serial stays with the
        order it took it from (``UnitRecord.order``). ``UnitRecord.issuance`` says where to resume.

        Raises:
            ManifestError: the order is not open (``manifest.order_unknown``), or a value does not fit its column.
        """
        return await self._writer.perform(
            partial(
                operations.begin,
                hardware_id=hardware_id,
                model=model,
                firmware_version=firmware_version,
                firmware_sha256=firmware_sha256,
                slot=slot,
                order=order,
            )
        )

    async def known(self, hardware_id: str) -> UnitRecord | None:
        """Return the unit with this hardware id as it is, or None; nothing is counted."""
        return await self._writer.perform(partial(operations.known, hardware_id=hardware_id))

    async def take_up(self, release: FirmwareRelease, reason: str = "") -> bool:
        """Work by a bundle of firmware from now on; see ``firmware.take_up``.

        Raises:
            RowRefused: a newer version of the product was here (``manifest.rollback``).
        """
        return await self._writer.perform(partial(firmware.take_up, release=release, reason=reason))

    async def reserve(  # noqa: PLR0913  # what is taken, by name
        self,
        unit_id: int,
        *,
        spki_sha256: bytes,
        draft: Callable[[str], DraftLike],
        profile: str | None = None,
        order: OrderTerms | None = None,
        taken: int = 0,
    ) -> Intent:
        """Take serials and budget and write the intent to sign, in one transaction (I3); the first try is counted.

        Args:
            unit_id: an open unit without a live issuance.
            spki_sha256: SHA-256 of the SubjectPublicKeyInfo in its CSR, 32 bytes.
            draft: gets the product serial, returns what is to be signed. It runs in the writer's thread, inside the
                transaction: it must only compute. What it raises undoes everything and reaches the caller unchanged.
            profile: name of the profile that ``draft`` follows; has to be that of the unit's order. None: not checked.
            order: terms of the unit's order, of its verified JWS: they count, and a row that differs is refused.
                None: the row's.
            taken: numbers of the order that are known to have been taken: a row that has fewer is refused.

        Returns:
            The right to sign once, and what: the bytes that ``draft`` returned.

        Raises:
            DuplicateKey: another unit holds this public key; names it.
            DuplicateHardware: this unit has a live issuance for another public key; void it if the board was erased.
            OrderExhausted: "number 501 of 500".
            OrderDiffers: the unit has its serial from an order with another profile, or the order's row was edited
                (``manifest.order_edited``).
            SerialCollision: the certificate serial was given before; call again, with a new draft.
            RowRefused: it has a live issuance for this key (``manifest.issuance_live``: resume it), is not open
                (``manifest.unit_not_open``), the orders' serials overlap (``manifest.product_serial_taken``), or it
                had ``operations.ISSUANCES_LIMIT`` of them (``manifest.issuances_limit``). The order is closed
                (``manifest.order_closed``), over, not begun, or its count was lowered (``manifest.order_count``).
        """
        return await self._writer.perform(
            partial(
                operations.reserve,
                unit_id=unit_id,
                spki_sha256=spki_sha256,
                draft=draft,
                profile=profile,
                order=order,
                taken=taken,
            )
        )

    async def attempt(self, issuance_id: int) -> Intent:
        """Count one more try to sign, before the token is asked, and hand out the intent again.

        For a retry, and after a crash between intent and record: the same bytes are signed, so the board ends with the
        same certificate but for the signature, and the earlier one, if there was one, is lost for certain.

        Args:
            issuance_id: in state ``intent``.

        Raises:
            RowRefused: there is nothing to sign (``manifest.issuance_state``).
        """
        return await self._writer.perform(partial(operations.attempt, issuance_id=issuance_id))

    async def record(self, intent: Intent, certificate: bytes) -> RecordedCertificate:
        """Store the signed certificate; only then may it leave the station (I1). The same one twice is stored once.

        Args:
            intent: from ``reserve`` or ``attempt``.
            certificate: DER; its signature was verified by the caller.

        Raises:
            RowRefused: not the intended one (``manifest.certificate_differs``), or another is recorded.
            ManifestError: not a certificate (``manifest.certificate_malformed``).
        """
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            tbs, serial = parsed.tbs_certificate_bytes, parsed.serial_number
        except ValueError as error:
            raise ManifestError(f"not a certificate: {error}", code="manifest.certificate_malformed") from error
        return await self._writer.perform(
            partial(
                operations.record,
                issuance_id=intent.issuance_id,
                certificate=certificate,
                tbs_sha256=hashlib.sha256(tbs).digest(),
                certificate_serial=serial,
            )
        )

    async def recorded(self, issuance_id: int) -> RecordedCertificate:
        """Return a certificate that was recorded before, to install it again.

        Raises:
            RowRefused: it is not recorded, or void (``manifest.issuance_state``).
        """
        return await self._writer.perform(partial(operations.recorded, issuance_id=issuance_id))

    async def proof(self, issuance_id: int) -> ProofRecord | None:
        """Return the proof that the unit of an issuance passed with, or None."""
        return await self._writer.perform(partial(operations.proof, issuance_id=issuance_id))

    async def void(self, issuance_id: int, reason: str, *, shown: bytes | None = None) -> None:
        """Give an issuance up, signed or not: it is listed for revocation, and the unit may reserve again. Repeatable.

        Args:
            issuance_id: a live one.
            reason: for the record.
            shown: SHA-256 of the public key that the board shows, where it is given up on the word of a board.

        Raises:
            RowRefused: the unit passed with it (``manifest.already_passed``).
            DuplicateKey: another unit holds the key that the board shows; names it. Nothing was given up.
        """
        await self._writer.perform(partial(operations.void, issuance_id=issuance_id, reason=reason, shown=shown))

    async def act(self, request: LifeRequest) -> LifeAct:
        """Scrap, rework, hold, release or replace a unit, or give up what it has open; see ``life.Act``.

        Raises:
            ManifestError: no such unit (``manifest.unit_unknown``), or a text is missing (``manifest.life_text``).
            RowRefused: the unit is scrapped (``manifest.unit_scrapped``), or not in a state for it
                (``manifest.life_state``, ``manifest.life_replace``).
        """
        return await self._writer.perform(partial(life.act, request=request))

    async def holder(self, certificate_sha256: bytes) -> Holder | None:
        """Return which unit a certificate was issued for; None if it is none of this manifest's."""
        return await self._writer.perform(partial(life.holder, certificate_sha256=certificate_sha256))

    def event(self, unit_id: int | None, slot: str, step: str, kind: str, facts: Mapping[str, object]) -> None:
        """Append an event; durable with the next commit, half a second later at most.

        Args:
            unit_id: None for what belongs to a slot or the station.
            slot: its name, or "".
            step: of the way of one unit.
            kind: any word but ``journal``, which is the schema's own.
            facts: stored as text; each is cut and escaped as in error messages.

        Raises:
            ManifestUnwritable: ten thousand wait already (``manifest.overloaded``): the disk is full or dead.
            ClockWentBack: the clock is behind the last event.
            ClockJumped: it was set ahead.
        """
        if kind == JOURNAL:
            msg = "events of the kind 'journal' are written by the schema"
            raise ValueError(msg)
        texts = {name: printable(value) for name, value in facts.items()}
        self._writer.append(partial(operations.event, unit_id=unit_id, slot=slot, step=step, kind=kind, facts=texts))

    async def passed(self, unit_id: int, proof: Proof, locks: int, seconds: float) -> None:
        """Commit the pass with its evidence (I4).

        Args:
            unit_id: an open unit with a recorded certificate.
            proof: that the board holds the key of the certificate it gave back.
            locks: as observed, bits of ``firmware_tools.provisioning.Locks``.
            seconds: from plug to pass.

        Raises:
            RowRefused: the schema refuses: no recorded certificate, or another one was read back
                (``manifest.no_evidence``).
        """
        await self._writer.perform(
            partial(operations.passed, unit_id=unit_id, proof=proof, locks=locks, seconds=seconds)
        )

    async def failed(self, unit_id: int, code: str, sentence: str, step: str) -> None:
        """Commit the failure; the next ``begin`` opens the unit again.

        Raises:
            RowRefused: the unit passed (``manifest.already_passed``).
        """
        await self._writer.perform(partial(operations.failed, unit_id=unit_id, code=code, sentence=sentence, step=step))


def _check_terms(terms: OrderTerms) -> None:
    """Refuse terms whose serials could not be told apart."""
    last = terms.first_number + terms.numbers - 1
    if fault := terms.numbering.fault(terms.first_number, last):
        raise ManifestError(
            f"order {terms.name!r}: serial format {terms.serial_format!r} is not usable: {fault}; "
            "write it like SN{number:06d}",
            code="manifest.order_invalid",
        )
