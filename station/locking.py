"""What is closed on a board before it passes, and in which order: the lock-down plan of a product.

The plan has two halves. First the board's own lock command closes what its firmware knows (``Locks``); it is observed
through the same command. Then the chip's own tool burns what no firmware can undo, in the order of the bundle, the
irreversible steps last; it is observed by reading it back (``station.line.chip_locks``). Nothing of it begins before
every check that needs to read the board is done (``station.line.unit``).

======  ====================================  =========================================================================
by      arguments                             what it does
======  ====================================  =========================================================================
device  none; the name is one of ``Locks``    the board's own lock command
esp     ``("DIS_PAD_JTAG", "1")``             burns eFuses (espefuse): names and values by turns
stm32   ``("readout",)``                      turns read-out protection on (stm32loader)
======  ====================================  =========================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.flashers import FlasherKind
from firmware_tools.provisioning import Locks
from hsm.toml import nearest
from station.errors import ConfigError

__all__ = ["LockPlan", "plan_of", "said"]

DEVICE: Final = "device"
"""``LockStep.by`` of what the board's own command closes."""


READ_OUT: Final = "readout"
"""Argument of an ``stm32`` step: the flash can't be read any more (RDP)."""


@dataclass(frozen=True, slots=True)
class LockPlan:
    """What is closed, in two halves."""

    locks: Locks = Locks.NONE
    """By the board's own command."""
    chip: tuple[LockStep, ...] = ()
    """By the chip's tool, in this order."""

    def __bool__(self) -> bool:
        """Whether anything is closed."""
        return bool(self.locks or self.chip)


def plan_of(wanted: Locks, steps: Sequence[LockStep], kind: FlasherKind) -> LockPlan:
    """Put together what a product and its bundle want closed.

    Args:
        wanted: ``[product] locks``.
        steps: of the bundle.
        kind: of its flasher.

    Raises:
        ConfigError: ``lock.unknown``: a step that nobody here can do. ``lock.order``: a step that can be undone, or
            that the board does, stands behind one that can't be undone.
    """
    known = [lock.name.lower() for lock in Locks if lock.name]
    for step in steps:
        if step.by == DEVICE and step.name not in known:
            raise ConfigError(
                f"the bundle wants lock {step.name!r} closed by the board, which knows no such lock; "
                f"{nearest(step.name, known)}",
                code="lock.unknown",
            )
        if step.by not in {DEVICE, kind.value}:
            raise ConfigError(
                f"the bundle wants {step.name!r} done by {step.by!r}, and it flashes by {kind.value!r}; a step is done "
                f"by '{DEVICE}' or by the bundle's own flasher",
                code="lock.unknown",
            )
        if not _can_be_done(step):
            raise ConfigError(
                f"the bundle's lock step {step.name!r} can't be done by {step.by!r} with {list(step.arguments)}; "
                "docs/firmware.md has a table of what can",
                code="lock.unknown",
            )
    for one, two in pairwise(steps):
        if (one.irreversible and not two.irreversible) or (two.by == DEVICE and one.by != DEVICE):
            raise ConfigError(
                f"the bundle's lock plan does {two.name!r} after {one.name!r}; the board's own locks come first, and "
                "what can't be undone last",
                code="lock.order",
            )
    for step in steps:
        if step.by == DEVICE:
            wanted |= Locks[step.name.upper()]
    return LockPlan(wanted, tuple(step for step in steps if step.by != DEVICE))


def _can_be_done(step: LockStep) -> bool:
    match step.by:
        case "device":
            return not step.arguments
        case "esp":
            return bool(step.arguments) and len(step.arguments) % 2 == 0
        case "stm32":
            return step.arguments == (READ_OUT,)
        case _:
            return False


def said(plan: LockPlan) -> str:
    """Return what a plan closes, as words for people and for the record."""
    device = [lock.name.lower() for lock in Locks if lock.name and lock in plan.locks]
    chip = [f"{step.name} ({' '.join((step.by, *step.arguments))})" for step in plan.chip]
    return ", ".join((*device, *chip)) or "nothing"
