"""Checkpoints of the ledger on a schedule, beside the line.

Every ``[ledger] interval`` seconds the events since the last time become part of the tree, and the token signs its
head; once more when the line stops. This is work for a thread of its own, over a connection of its own: boards wait for
the one signature at most. A failure is told once, and tried again; the events are safe meanwhile. Only a second copy of
the manifest at work with the same token ends the line: each board more would stand in one of two histories.
"""

import asyncio
import time
from typing import Final

from hsm import HsmError
from station.errors import StationError
from station.events import Notice, Watch
from station.ledger.errors import LedgerForked
from station.ledger.ledger import Ledger

SUBJECT: Final = "ledger"


class LedgerSchedule:
    """Seals what happened, for as long as it runs."""

    def __init__(self, ledger: Ledger, interval: float, watch: Watch) -> None:
        """Begin with nothing to tell.

        Args:
            ledger: checked.
            interval: seconds between two checkpoints.
            watch: is told what failed.
        """
        self._ledger = ledger
        self._interval = interval
        self._watch = watch
        self._failure = ""
        self.fork: LedgerForked | None = None
        """Why the line has to stop."""

    async def run(self) -> None:
        """Seal, wait; until it is cancelled, or ``fork`` says why the line stops.

        A checkpoint that is being made when it is cancelled is finished first.
        """
        while True:
            await self.seal("interval")
            if self.fork is not None:
                return
            await asyncio.sleep(self._interval)

    async def seal(self, reason: str) -> None:
        """Make a checkpoint if something happened. What fails is told and not raised."""
        work: asyncio.Future[object] = asyncio.ensure_future(asyncio.to_thread(self._seal, reason))
        try:
            await asyncio.wait([work])
        finally:
            if not work.done():  # the line stops: a signature that was asked for is kept
                await asyncio.wait([work])
            self._tell_outcome(work)

    def _seal(self, reason: str) -> object:
        return self._ledger.seal(reason)

    def _tell_outcome(self, work: "asyncio.Future[object]") -> None:
        try:
            work.result()
        except LedgerForked as error:
            self.fork = error
            self._tell(f"{error}; the line stops", error.code)
            return
        except (HsmError, StationError) as error:
            if str(error) != self._failure:
                self._failure = str(error)
                self._tell(f"{error}; tried again in {self._interval:.0f} s, the line goes on", error.code)
            return
        if self._failure:
            self._failure = ""
            self._tell("checkpoints are made again")
        for refusal in self._ledger.anchors.take_refusals():
            self._tell(
                f"the checkpoint is not in every token: {refusal}; the file beside the manifest has it", refusal.code
            )

    def _tell(self, sentence: str, code: str = "") -> None:
        self._watch(Notice(SUBJECT, sentence, code, time.monotonic()))
