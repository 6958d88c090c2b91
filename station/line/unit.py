"""The way of one unit: from a board that has just been plugged in to a row that proves it.

::

   [flash]
       │
    identify ─ known and done? ── read back ── prove ── locks seen ──────────► DONE BEFORE (nothing is written)
       │
      key ── CSR checked ── issue: reserve ─ sign ─ record ── install ── read back ── prove ── lock ── pass

The steps, with their deadlines and retry rules, stand in ``policy.py``; how a board is flashed, in ``flashing.py``.
Each may be cut off at any moment, by a deadline, an unplugged cable or a power cut, and begun again by another run on
another day: what has been reached stands in the manifest and on the board, never only in here (invariant I5).

Two borders are kept by types. Only ``Manifest.record`` and ``Manifest.recorded`` make a ``RecordedCertificate``, and
only that is ever handed to a board (I1). Only ``Authority.draft`` and ``Authority.redraft`` make a ``LintedTbs``, and
only that is ever signed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from time import monotonic

from hsm import Authority, Csr, HsmError
from station.devices import Attesting, Capability, Driver, Identity, Locks
from station.errors import DeviceError, Explained, StationError, on_record
from station.events import SlotChanged, SlotState, Watch
from station.line import policy
from station.line.chip_locks import lock_chip
from station.line.evidence import Evidence
from station.line.flashing import Flashing
from station.line.issuing import UnitIssuance
from station.line.policy import Way
from station.line.seat import Seat
from station.line.stepping import Stepping
from station.line.unit_data import UnitData
from station.line.workshop import Workshop
from station.locking import LockPlan, said
from station.manifest import Proof, RecordedCertificate, UnitRecord, UnitState
from station.product_firmware import ProductFirmware


class UnitRun(Stepping):
    """One attempt to bring one board to its end."""

    def __init__(  # noqa: PLR0913 - what takes part
        self,
        workshop: Workshop,
        driver: Driver,
        slot: str,
        watch: Watch,
        *,
        admit: Callable[[], None] = lambda: None,
        seat: Seat | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            workshop: what the line shares.
            driver: the board, reached through an open link that this run does not close.
            slot: name of the slot.
            watch: told of each step and of the end.
            admit: asked before a board that was never seen gets anything; raises ``UnitRefused`` to stop it.
            seat: where the board sits, for a line that flashes boards or locks chips.
        """
        super().__init__(workshop.manifest, slot, watch)
        self._shop = workshop
        self._driver = driver
        self._evidence = Evidence(driver, workshop.issuer_of)
        self._admit = admit
        self._began = monotonic()
        self._seen = 0.0
        """When the board last showed which one it is (monotonic seconds)."""
        self._seat = seat
        self._is_done = False
        """Whether the board, when it came, was one that is finished: it is not flashed."""
        self._came_as = ""
        """Hardware id of the board, when it came, if that is one of a finished unit, or of one with a certificate."""
        self._flashed: Mapping[str, object] = {}
        """What was flashed, until there is a unit to write it down for."""
        self._disturbances = 0
        """What the driver had counted when the board last said which one it is."""

    async def run(self) -> SlotChanged:
        """Go the whole way.

        Returns:
            The end, as it was told to the watcher: passed, done before, or failed with the reason.

        Raises:
            asyncio.CancelledError: the station was told to stop; the unit can be resumed.
        """
        try:
            end = await self._go()
        except (StationError, HsmError) as error:
            end = await self._fail(error)
        except asyncio.CancelledError:
            with suppress(StationError):  # nothing may stand in the way of stopping
                self._note("stopped")
            self._tell(SlotState.STOPPED, sentence="Stopped. Plug this board in again later.", code="unit.stopped")
            raise
        finally:
            if self.hardware_id:
                self._shop.claims.release(self.hardware_id, self._slot)
        return end

    async def _go(self) -> SlotChanged:
        shop = self._shop
        policy.check_driver(self._driver, shop.product.locks, shop.product.accepts)
        if shop.firmware is not None and self._seat is not None:
            await self._bring(Flashing(shop.firmware, self._seat, self._tell_percent))
        identity = await self._do(policy.IDENTIFY, self._identify)
        unit = self._unit = await self._in_time(policy.BEGIN, lambda: self._begin(identity))
        self._note_flash()
        if unit.attempts == 1:
            self._admit()
        self.product_serial = unit.product_serial or ""
        recorded = None if unit.issuance is None else unit.issuance.certificate
        identity = self._evidence.compared(identity, recorded)
        if identity.remarks:
            self._note("said", **identity.remarks)
        identity = await self._known(identity, unit, recorded)
        way = policy.choose_way(identity, passed=unit.state is UnitState.PASSED, certificate=recorded)
        if way is Way.DONE_BEFORE and recorded is not None:
            await self._still_holds(unit, recorded)
            return self._tell(SlotState.DONE_BEFORE, sentence=f"Done before, as {self.product_serial}. Take it out.")

        csr = await self._do(policy.KEY, self._make_key)
        if Capability.REPEAT_CSR not in self._driver.capabilities:
            # The key is a new one, and its certificate went with the old.
            identity = replace(identity, leaf_sha256=None)
        certificate = await self._certified(unit, csr, installed=identity.leaf_sha256 is not None)
        self.product_serial = certificate.product_serial
        if shop.firmware is not None and shop.firmware.bundle.unit_files and self._seat is not None:
            await self._write_unit_data(shop.firmware, self._seat, certificate.der)
        held = await self._install(certificate.der, identity)
        proof = await self._do(policy.PROVE, lambda: self._prove(held))
        if stands_in := self._evidence.stands_in():
            self._note("stands in", **stands_in)
        if shop.product.dry_run_locks:
            return await self._would_lock(shop.plan)
        locks = await self._do(policy.LOCK, lambda: self._lock(held))
        if shop.plan.chip:
            await self._do(policy.FUSES, lambda: self._lock_chip(held))
        seconds = monotonic() - self._began
        await self._do(policy.PASS, lambda: shop.manifest.passed(unit.id, proof, locks=int(locks), seconds=seconds))
        return self._tell(SlotState.PASSED, sentence=f"{self.product_serial} is done. Take it out.")

    async def _bring(self, flashing: Flashing) -> None:
        """Let the board run the product's firmware; what a finished unit runs by now is left as it is."""
        identity = await self._do(policy.ASK, flashing.look)
        known = None
        if identity is not None:
            policy.check_product(identity, model=self._shop.product.model, version=None, digest=None)
            self._claim(identity)
            known = await self._in_time(policy.BEGIN, lambda: self._shop.manifest.known(identity.hardware_id))
            self._is_done = known is not None and known.state not in {UnitState.OPEN, UnitState.FAILED}
            if known is not None and (self._is_done or known.issuance is not None):
                self._came_as = identity.hardware_id
            if self._is_done:
                return
        report = None
        if identity is None or not flashing.is_right(identity, known):
            report = await self._do(flashing.step, flashing.flash)
            self._sit_down(flashing.seat)
        self._flashed = flashing.facts(report, identity)

    async def _write_unit_data(self, firmware: ProductFirmware, seat: Seat, leaf: bytes) -> None:
        """Write the files that the bundle has for each unit, now that its serial and its certificate are on record."""
        record = await self._in_time(policy.BEGIN, lambda: self._shop.manifest.known(self.hardware_id))
        assert record is not None  # noqa: S101 - its certificate was recorded a moment ago
        issuer = self._shop.issuer_of(leaf)
        data = UnitData(firmware, seat, self._tell_percent, record, None if issuer is None else issuer.chain[0])
        report = await self._do(data.step, data.flash)
        self._note("written", skipped=report.skipped, **data.written())
        await self._sit_down_again(seat)

    async def _sit_down_again(self, seat: Seat, certificate: bytes | None = None) -> None:
        """Go on with a board whose port was given up meanwhile, if it is the same board."""
        self._sit_down(seat)
        self._seen = 0.0
        await self._is_same(certificate)

    def _sit_down(self, seat: Seat) -> None:
        """Speak to the board through the driver that its seat has now."""
        self._driver = seat.driver
        self._evidence = Evidence(seat.driver, self._shop.issuer_of)

    def _claim(self, identity: Identity) -> None:
        if self.hardware_id not in {"", identity.hardware_id}:  # other firmware may name the board otherwise
            self._shop.claims.release(self.hardware_id, self._slot)
        self._shop.claims.take(identity.hardware_id, self._slot)
        self.hardware_id = identity.hardware_id

    async def _identify(self) -> Identity:
        identity = await self._driver.identify()
        product = self._shop.product
        if self._came_as:  # one in a finished one's place would pass with any firmware; one with two names gets two
            policy.check_same_board(identity, hardware_id=self._came_as)
        if self._is_done:
            product = replace(product, firmware_version=None, firmware_sha256=None)
        self._check_flashed(identity)
        policy.check_product(
            identity, model=product.model, version=product.firmware_version, digest=product.firmware_sha256
        )
        self._claim(identity)
        self._seen = monotonic()
        self._disturbances = self._driver.disturbances
        return identity

    def _check_flashed(self, identity: Identity) -> None:
        """Hold a board that was flashed, or found flashed, to it; one that is finished may run what it wants."""
        firmware = self._shop.firmware
        if firmware is not None and self._seat is not None and not self._is_done:
            policy.check_flashed(identity, firmware.bundle.payload)

    async def _known(self, identity: Identity, unit: UnitRecord, recorded: bytes | None) -> Identity:
        """Find out whose certificate a board holds, where it is not the one on record.

        Returns:
            What the board says of itself; without the leaf, where that is one of its own that was given up, or what
            harm on the wire has left of the one on record.

        Raises:
            UnitRefused: a copy of another board, a certificate from elsewhere, or one that has to be erased first.
        """
        held = identity.leaf_sha256
        if held is None or (recorded is not None and sha256(recorded).digest() == held):
            return identity
        holder = await self._in_time(policy.BEGIN, lambda: self._shop.manifest.holder(held))
        if holder is None and policy.is_half_installed(identity, unit):
            self._note("half installed", holds=held)
            return replace(identity, leaf_sha256=None)
        policy.check_holder(identity, identity.hardware_id, holder)
        return replace(identity, leaf_sha256=None)

    async def _begin(self, identity: Identity) -> UnitRecord:
        return await self._shop.manifest.begin(
            hardware_id=identity.hardware_id,
            model=identity.model,
            firmware_version=identity.firmware_version,
            firmware_sha256=identity.firmware_sha256,
            slot=self._slot,
            order=self._shop.order.name,
        )

    async def _make_key(self) -> Csr:
        csr = Csr.parse(await self._driver.make_key())
        if isinstance(self._driver, Attesting):
            self._note("attested", **self._driver.key_statement)
        await self._is_same()
        return csr

    async def _is_same(self, certificate: bytes | None = None) -> None:
        """Ask again who the board is, where the time was long enough to put another one into its place.

        A relay, or a hand that pulls, needs less time than that; but then an answer was missing or damaged.
        """
        disturbed = self._driver.disturbances != self._disturbances
        if disturbed or monotonic() - self._seen > policy.SWAP:
            again = self._evidence.compared(await self._driver.identify(), certificate)
            policy.check_same_board(again, hardware_id=self.hardware_id, certificate=certificate)
            self._check_flashed(again)  # a board that restarted may have gone back to other firmware
            self._seen = monotonic()
            self._disturbances = self._driver.disturbances

    async def _install(self, leaf: bytes, identity: Identity) -> bytes:
        """Bring the board to hold the chain, and return the leaf as it holds it.

        A board that came with its leaf, and with another chain behind it, gets the right one once more: nobody else
        would mend it, and its certificate stays the same. So does a board that has something else after it was written:
        one without checksums takes what the wire makes of it. Once, in either case.
        """
        issuer = self._shop.issuer_of(leaf)  # None: another one signed it, whose chain is not here
        chain = None if issuer is None else (leaf, *issuer.chain)
        if identity.leaf_sha256 is None and chain is not None:
            await self._do(policy.INSTALL, lambda: self._hand_over(chain))
        try:
            return await self._do(policy.READ_BACK, lambda: self._read_back(leaf, chain))
        except DeviceError as error:
            if chain is None or not policy.may_install_again(error, identity):
                raise
            self._note("install again", **on_record(error))
        await self._do(policy.INSTALL, lambda: self._hand_over(chain))
        return await self._do(policy.READ_BACK, lambda: self._read_back(leaf, chain))

    async def _hand_over(self, chain: Sequence[bytes]) -> None:
        await self._is_same()
        await self._driver.install(chain)

    async def _certified(self, unit: UnitRecord, csr: Csr, *, installed: bool) -> RecordedCertificate:
        """Get the certificate; while the HSM is asleep, wait for it."""
        issuance = UnitIssuance(self._shop, unit, csr, installed=installed, waiting_for=self._wait_for)
        sleeping = issuance.sleeping()
        if sleeping is not None and (error := sleeping.key.signer.unavailable) is not None:
            await self._hsm_wakes(sleeping, error)  # nothing is reserved before somebody can sign it
        for waits_left in reversed(range(policy.HSM_WAITS)):
            try:
                return await self._do(policy.ISSUE, issuance.certificate)
            except HsmError as failure:
                if not (waits_left and policy.may_wait_for(failure)):
                    raise
                await self._hsm_wakes(issuance.signing, failure)
        raise AssertionError(policy.ISSUE)  # pragma: no cover - the loop returns or raises

    async def _hsm_wakes(self, authority: Authority, error: HsmError) -> None:
        """Wait until a token is back that can sign for this unit.

        Raises:
            HsmError: waiting is of no use: a human is needed.
        """
        self._note("asleep", code=error.code, reason=error)
        while True:
            self._tell(SlotState.RUNNING, sentence=error.operator, code=error.code, detail=str(error))
            try:
                await authority.key.signer.awake()
            except HsmError as still:
                if not policy.may_wait_for(still):
                    raise
                error = still
            else:
                self._note("awake")
                return

    async def _still_holds(self, unit: UnitRecord, recorded: bytes) -> None:
        """Hold a board that was done before to its claim: anybody can copy a digest, only one board has the key."""
        # The chain behind its leaf is that of the day it passed; the issuer may have been renewed since.
        held = await self._do(policy.READ_BACK, lambda: self._read_back(recorded, None))
        await self._do(policy.PROVE, lambda: self._prove(held))
        if self._evidence.attestation is not None and unit.issuance is not None:
            self._evidence.check_signer(await self._shop.manifest.proof(unit.issuance.id))
        await self._do(policy.LOCK, lambda: self._observe_locks(held))

    async def _read_back(self, recorded: bytes, chain: Sequence[bytes] | None) -> bytes:
        held = await self._evidence.read_back(chain)
        if held != recorded:
            raise DeviceError(
                "the certificate read back is not the one that was issued",
                code="device.read_back_differs",
                expected=recorded,
                got=held,
            )
        return held

    async def _prove(self, held: bytes) -> Proof:
        proof = await self._evidence.proof(held)
        self._seen = monotonic()
        return proof

    async def _lock(self, held: bytes) -> Locks:
        if wanted := self._shop.product.locks:
            await self._driver.lock(wanted)
        return await self._observe_locks(held)

    async def _lock_chip(self, held: bytes) -> None:
        """Close what the chip's tool closes, and see that it was closed on this board."""
        if (firmware := self._shop.firmware) is None or (seat := self._seat) is None:
            raise AssertionError(policy.FUSES)  # pragma: no cover - a plan for the chip comes with a bundle
        self._note("observed", **await lock_chip(firmware, seat))
        await self._sit_down_again(seat, held)

    async def _would_lock(self, plan: LockPlan) -> SlotChanged:
        """Say what would be closed now, and end: a board that is open does not pass (I4)."""
        observed = await self._do(policy.LOCK, self._driver.lock_state) if plan.locks else Locks.NONE
        closed = said(LockPlan(observed))
        self._note("would lock", plan=said(plan), closed=closed)
        return self._tell(
            SlotState.STOPPED,
            sentence="Dry run: all is well, and nothing was locked. Take it out.",
            code="unit.dry_run",
            detail=f"would lock: {said(plan)}; closed by now: {closed}",
        )

    async def _observe_locks(self, held: bytes) -> Locks:
        observed = await self._driver.lock_state()
        policy.check_locks(self._shop.product.locks, observed)
        await self._is_same(held)
        return observed

    async def _fail(self, error: Explained) -> SlotChanged:
        with suppress(StationError):
            self._note_flash()
        if self._unit is None:
            with suppress(StationError):  # a manifest that can't be written may be the very error
                self._note("failed", **on_record(error))
        else:
            unit, step = self._unit, self._step
            try:
                self._note("failed", **on_record(error))
                await self._in_time(
                    policy.RECORD_FAILURE,
                    lambda: self._shop.manifest.failed(unit.id, error.code, str(error), step.name),
                )
            except StationError as second:  # the first error stays the one to show; the board can be resumed either way
                with suppress(StationError):
                    self._note("unrecorded", code=second.code, reason=second)
        return self._tell(SlotState.FAILED, sentence=error.operator, code=error.code, detail=str(error))

    def _note_flash(self) -> None:
        """Write down what was flashed, once."""
        facts, self._flashed = self._flashed, {}
        if facts:
            unit = None if self._unit is None else self._unit.id
            who = {"hardware_id": self.hardware_id} if unit is None and self.hardware_id else {}
            self._shop.manifest.event(unit, self._slot, policy.FLASH.name, "flashed", {**who, **facts})
