"""How the steps of one board are run: each under its deadline and its retry rule, told to the watcher, and recorded.

Which steps there are, and what each does, stands in ``unit.py``. Who keeps no record takes ``tried`` and ``in_time``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from station.errors import StationError
from station.events import SlotChanged, SlotState, Watch
from station.line import policy
from station.line.policy import Party, Step
from station.manifest import Manifest, UnitRecord

T = TypeVar("T")


async def tried(
    step: Step, attempt: Callable[[], Awaitable[T]], again: Callable[[StationError], None] = lambda _error: None
) -> T:
    """Make as many attempts at a step as its retry rule allows; ``again`` is told why there is another one."""
    for tries_left in reversed(range(step.tries)):
        try:
            return await attempt()
        except StationError as error:
            if not (tries_left and policy.may_retry(error)):
                raise
            again(error)
    raise AssertionError(step)  # pragma: no cover - the loop returns or raises


async def in_time(step: Step, work: Callable[[], Awaitable[T]], party: Callable[[], Party]) -> T:
    """Wait for ``work`` until the step's deadline; ``party`` tells who is waited for when that comes."""
    try:
        async with asyncio.timeout(step.deadline):
            return await work()
    except TimeoutError:
        raise policy.deadline_error(step, party()) from None


class Stepping:
    """The steps of one board, one after the other."""

    def __init__(self, manifest: Manifest, slot: str, watch: Watch) -> None:
        """Begin before the first step.

        Args:
            manifest: where events go.
            slot: name of the slot.
            watch: told of each step and of the end.
        """
        self.hardware_id = ""
        self.product_serial = ""
        self._manifest = manifest
        self._slot = slot
        self._watch = watch
        self._unit: UnitRecord | None = None
        self._step = policy.IDENTIFY
        self._party = Party.BOARD

    async def _do(self, step: Step, work: Callable[[], Awaitable[T]]) -> T:
        """Run one step under its deadline and its retry rule."""
        self._step = step
        self._tell(SlotState.RUNNING, sentence=step.saying)
        began = monotonic()
        result = await tried(
            step,
            lambda: self._in_time(step, work),
            lambda error: self._note("retry", code=error.code, reason=error),
        )
        self._note("done", ms=round((monotonic() - began) * 1000))
        return result

    async def _in_time(self, step: Step, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for ``work`` until the step's deadline; what it waits for may change on the way (``_party``)."""
        self._party = step.party
        return await in_time(step, work, lambda: self._party)

    def _wait_for(self, party: Party) -> None:
        self._party = party

    def _note(self, kind: str, /, **facts: object) -> None:
        unit = None if self._unit is None else self._unit.id
        if self._unit is None and self.hardware_id:
            facts["hardware_id"] = self.hardware_id
        self._manifest.event(unit, self._slot, self._step.name, kind, facts)

    def _tell_percent(self, percent: int) -> None:
        """Tell how far the step at hand is."""
        self._tell(SlotState.RUNNING, sentence=self._step.saying, percent=percent)

    def _tell(
        self, state: SlotState, *, sentence: str, code: str = "", detail: str = "", percent: int | None = None
    ) -> SlotChanged:
        changed = SlotChanged(
            slot=self._slot,
            state=state,
            step=self._step.name,
            hardware_id=self.hardware_id,
            product_serial=self.product_serial,
            sentence=sentence,
            code=code,
            detail=detail,
            at=monotonic(),
            percent=percent,
        )
        self._watch(changed)
        return changed
