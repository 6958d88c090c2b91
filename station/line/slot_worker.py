"""One slot of the line: waits for a board, runs its unit, waits until it is taken out, and so on.

::

    EMPTY ── port arrives ──► open ── unit run ──► PASSED | DONE BEFORE | FAILED ── port leaves ──► EMPTY

The port is opened once and held until the board leaves, since opening resets many boards. A *fixture* is a slot whose
adapter stays when the board leaves; there the board itself is asked again and again whether it is still the same. A
board that passed and is silent has left: EMPTY. One that failed and is silent may just be broken: the slot stays FAILED
until a board answers.

A board that invents a new hardware id at each visit would turn the whole order into certificates. In a fixture, where
it is seen all the time, a new id without a silence before it is a failure. Everywhere, more new boards than hands can
put in stop the slot, until a human releases it: the board decides when its USB port comes and goes, so no absence of it
proves that a hand was there.

Waits are bounded by ``asyncio.timeout``: ``wait_for`` of Python 3.11 swallows a cancellation that comes in the same
moment as the event, and the slot would go on for ever.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic

from station.config import SlotConfig
from station.errors import LinkError, StationError, UnitRefused, Unplugged, on_record
from station.events import SlotChanged, SlotState, Watch
from station.line import policy
from station.line.drivers import driver_maker
from station.line.quarantine import Verdict
from station.line.seat import COME_BACK, Seat
from station.line.unit import UnitRun
from station.line.workshop import Workshop
from station.ports.link import OPEN_HANGS, Link, open_link
from station.ports.transcript_folder import SlotTape, TranscriptFolder

LOG = logging.getLogger(__name__)

OPEN_PATIENCE = 2.0
"""Seconds in which a fresh port may still refuse: udev sets its permissions, ModemManager lets go of it."""

REOPEN = 1.0
"""Seconds between two tries to open a port that somebody else holds."""

SILENCE = 1.0
"""Seconds without an answer after which a fixture is empty."""


class SlotWorker:
    """One slot and the board in it."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        slot: SlotConfig,
        shop: Workshop,
        transcripts: TranscriptFolder,
        watch: Watch,
        *,
        pace: int | None = None,
        judge: Callable[[SlotChanged], None] = lambda _end: None,
    ) -> None:
        """Make the worker of a slot.

        Args:
            slot: name, port, speed and language.
            shop: what the line shares.
            transcripts: folder for the wire's transcripts, a file a unit run.
            watch: told of every change.
            pace: new boards a minute that hands can put in; None for virtual boards.
            judge: told of each board's end; may stop this slot, or all of them, by ``stop``.

        Raises:
            ConfigError: the slot's driver can't be used.
        """
        self.slot = slot
        maker = driver_maker(slot.driver, slot.framing)
        self._make_driver = lambda link: maker(link, shop.product)
        self.ends: Counter[SlotState] = Counter()
        """How many boards of this slot ended how."""
        self.began: float | None = None
        """When the first board arrived (monotonic seconds)."""
        self.ended: float | None = None
        """When the last board ended (monotonic seconds)."""
        self._shop = shop
        self._transcripts = transcripts
        self._watch = watch
        self._pace = pace
        self._new_boards: deque[float] = deque(maxlen=pace)
        """When the last new boards came (monotonic seconds)."""
        self._judge = judge
        self._is_stopped = False
        self._verdict: Verdict | None = None
        """Why it is stopped; None where its last board's end says so."""
        self._device: str | None = None
        self._arrivals = 0
        """How often the port came: one that is swapped for another under the same name came twice."""
        self._served = 0
        """Which arrival is being served."""
        self._moved = asyncio.Event()
        self._draining = False

    # What the daemon tells the worker.

    def arrived(self, device: str) -> None:
        """The port of this slot is there."""
        self._device = device
        self._arrivals += 1
        self._moved.set()

    def left(self) -> None:
        """The port of this slot is gone."""
        self._device = None
        self._moved.set()

    def drain(self) -> None:
        """Begin with no further board."""
        self._draining = True
        self._moved.set()

    def stop(self, verdict: Verdict) -> None:
        """Begin with no further board until ``release``; one that is being worked on is finished."""
        self._is_stopped = True
        self._verdict = verdict
        self._moved.set()

    def release(self) -> None:
        """Go on after a stop; a board that is in the slot is begun again."""
        self._is_stopped = False
        self._verdict = None
        self._new_boards.clear()
        self._moved.set()

    @property
    def is_stopped(self) -> bool:
        """Whether it serves nobody until it is released."""
        return self._is_stopped

    @property
    def is_idle(self) -> bool:
        """Whether no port is there."""
        return self._device is None

    # The life of the slot.

    async def run(self, *, once: bool = False) -> None:
        """Serve boards until told to drain; with ``once``, until one board has ended."""
        self._tell(SlotState.EMPTY)
        while (device := await self._next_port()) is not None:
            if self._is_stopped:
                if once:
                    return
                await self._stay_stopped()
                continue
            if self.began is None:
                self.began = monotonic()
            tape = SlotTape(lambda: self._transcripts.begin(self.slot.name))
            try:
                link = await self._open(device, tape, patient=not once)
            except LinkError as error:
                self._end(self._tell_error(error))
                if once:
                    return
                await self._port_leaves()
                continue
            if link is None:
                continue
            seat = Seat(self.slot, link, self._make_driver, partial(self._open_again, tape), tape.upload)
            try:
                await self._serve(seat, tape, once=once)
            finally:
                seat.close()
            if once:
                return
            if not self._is_stopped:
                self._tell(SlotState.EMPTY)

    async def _serve(self, seat: Seat, tape: SlotTape, *, once: bool) -> None:
        """Run units on an open port until the board has gone; more than one where the adapter stays."""
        while True:
            end = await self._run_unit(seat)
            if once or self._is_stopped:
                return
            if end.code == Unplugged.code:
                await self._event_follows()
                return
            with suppress(LinkError):  # a flasher that was stopped left it closed
                await seat.open_again()
            try:
                if self.slot.fixture:
                    tape.rest()
                    await self._board_swapped(seat, end)
                else:
                    await self._board_leaves(seat)
                    return
            except Unplugged:
                return
            if self._draining or self._is_stopped:
                return
            tape.next_unit()

    async def _run_unit(self, seat: Seat) -> SlotChanged:
        run = UnitRun(self._shop, seat.driver, self.slot.name, self._watch, admit=self._admit, seat=seat)
        try:
            end = await run.run()
        except asyncio.CancelledError:
            self._end(SlotChanged(self.slot.name, SlotState.STOPPED, hardware_id=run.hardware_id, at=monotonic()))
            raise
        except Exception as bug:  # one slot's bug must not stop the other slots
            LOG.exception("slot %s: a bug in the station", self.slot.name)
            end = self._tell(
                SlotState.FAILED,
                sentence="The station made a mistake. Call the line engineer.",
                code="station.bug",
                detail=repr(bug),
            )
        self._end(end)
        self._judge(end)
        return end

    def _admit(self) -> None:
        """Take a board that was never seen before, unless hands can't have put it in."""
        try:
            policy.check_pace(self._new_boards, monotonic(), self._pace)
        except UnitRefused:
            self._is_stopped = True
            raise
        self._new_boards.append(monotonic())

    async def _open(self, device: str, tape: SlotTape, *, patient: bool) -> Link | None:
        """Open the port; None when it left before it could be opened.

        Raises:
            LinkError: it can't be opened, and (when not ``patient``) will not be tried again.
        """
        give_up = monotonic() + OPEN_PATIENCE
        shown = False
        while self._device == device and not self._draining and not self._is_stopped:
            self._served = self._arrivals
            tape.next_unit()
            try:
                return await open_link(device, self.slot.baud, transcript=tape)
            except LinkError as error:
                if error.code == OPEN_HANGS:  # each further try would leave one more thread behind
                    raise
                if monotonic() > give_up:
                    if not patient:
                        raise
                    if not shown:
                        self._tell_error(error)
                        shown = True
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(REOPEN if shown else 0.1):
                    await self._moved.wait()
        return None

    async def _open_again(self, tape: SlotTape) -> Link:
        """Open the port of the board at work once more; see ``Seat``."""
        try:
            async with asyncio.timeout(COME_BACK):
                while True:
                    self._moved.clear()
                    device, self._served = self._device, self._arrivals
                    try:
                        if device is not None:
                            tape.next_unit()  # the closed link ended the transcript
                            return await open_link(device, self.slot.baud, transcript=tape)
                    except LinkError as error:
                        if error.code == OPEN_HANGS:
                            raise
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await self._moved.wait()
        except TimeoutError:
            raise Unplugged(f"the port of slot {self.slot.name} did not come back in {COME_BACK:g} s") from None

    async def _next_port(self) -> str | None:
        """Wait for a port, or for a stop; None when draining, or nothing where it stopped without a port."""
        while self._device is None and not self._draining and not self._is_stopped:
            self._moved.clear()
            await self._moved.wait()
        return None if self._draining else self._device or ""

    @property
    def _is_there(self) -> bool:
        return self._device is not None and self._arrivals == self._served

    async def _port_leaves(self) -> None:
        while self._is_there and not self._draining:
            self._moved.clear()
            await self._moved.wait()

    async def _stay_stopped(self) -> None:
        """Serve nobody until the slot is released or the station ends."""
        told: Verdict | None = None
        while self._is_stopped and not self._draining:
            if self._verdict is not None and self._verdict is not told:
                told = self._verdict
                self._tell(SlotState.FAILED, sentence=told.sentence, code=told.code, detail=told.reason)
            self._moved.clear()
            await self._moved.wait()
        if not self._draining:
            self._tell(SlotState.EMPTY)

    async def _board_leaves(self, seat: Seat) -> None:
        """Wait until the port is gone, by its event or by the end of the line, whichever comes first."""
        leaving = asyncio.ensure_future(self._port_leaves())
        hanging_up = asyncio.ensure_future(seat.hangs_up())
        try:
            await asyncio.wait((leaving, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            hanging_up.cancel()
            await asyncio.gather(leaving, hanging_up, return_exceptions=True)
        if hanging_up.done():
            await self._event_follows()

    async def _event_follows(self) -> None:
        """Wait a moment, after the line hung up, for the hotplug event of the same unplugging.

        Without it the port that is about to vanish would be opened again, and one that hangs up at every opening (a
        terminal server without its board) would be opened as fast as the station can.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(REOPEN):
                await self._port_leaves()

    async def _board_swapped(self, seat: Seat, end: SlotChanged) -> None:
        """Wait in a fixture until another board answers, or the same one again after a silence.

        Raises:
            Unplugged: the adapter itself is gone.
        """
        hardware_id = end.hardware_id
        is_failed = end.state is SlotState.FAILED
        # one that never answered is as good as gone: its first word begins a unit
        gone = is_failed and not hardware_id and end.code.startswith(("link.", "step.", "flash.no_answer"))
        changed = False
        heard = monotonic()
        while not self._draining and not self._is_stopped:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(policy.LOOK):
                    await self._moved.wait()
            if not self._is_there:
                raise Unplugged(f"the adapter of slot {self.slot.name} is gone")
            try:
                async with asyncio.timeout(SILENCE):
                    identity = await seat.driver.identify()
            except Unplugged:
                raise
            except (TimeoutError, LinkError):
                if not gone and not is_failed:
                    self._tell(SlotState.EMPTY)
                gone = True
                continue
            except StationError:  # it answers, and not as it should: a blank board, where boards are flashed
                if gone and self._shop.firmware is not None:
                    return
                heard = monotonic()
                continue
            gap, heard = monotonic() - heard, monotonic()
            if gone or (identity.hardware_id != hardware_id and gap >= policy.SWAP):
                return
            if hardware_id and identity.hardware_id != hardware_id and not changed:
                self._tell_changed(hardware_id, identity.hardware_id)
                is_failed = changed = True
            hardware_id = identity.hardware_id

    # What the slot says.

    def _end(self, end: SlotChanged) -> None:
        self.ends[end.state] += 1
        self.ended = end.at

    def _tell_changed(self, before: str, now: str) -> None:
        """Say that the board in a fixture took another hardware id; it gets nothing for it."""
        error = UnitRefused(
            f"board {before} says that it is {now}, without a silence in which it could have been swapped",
            code="unit.changed_identity",
            operator="The board changed its number. Take it out for three seconds; if it comes again, red bin.",
            expected=before,
            got=now,
        )
        with suppress(StationError):  # a manifest that can't be written stops the next unit by itself
            self._shop.manifest.event(None, self.slot.name, policy.IDENTIFY.name, "failed", on_record(error))
        self._end(self._tell_error(error))

    def _tell_error(self, error: StationError) -> SlotChanged:
        return self._tell(SlotState.FAILED, sentence=error.operator, code=error.code, detail=str(error))

    def _tell(self, state: SlotState, *, sentence: str = "", code: str = "", detail: str = "") -> SlotChanged:
        changed = SlotChanged(self.slot.name, state, sentence=sentence, code=code, detail=detail, at=monotonic())
        self._watch(changed)
        return changed
