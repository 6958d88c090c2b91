"""The second half of a lock-down: what the chip's own tool closes, and what is read back of it.

A flasher finds a step done that was done before, so a plan that was cut off goes on where it was. What was closed is
what was read back, not what a tool said that it did.
"""

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FirmwareToolsError
from firmware_tools.flashers import FlasherKind
from station.errors import DeviceError
from station.line.seat import Seat
from station.product_firmware import ProductFirmware

_RDP: Final = "RDP"
_ON: Final = "on"
_WORDS: Final = {"true": 1, "false": 0, "enable": 1, "disable": 0}


@runtime_checkable
class ChipLocker(Protocol):
    """What a flasher offers besides, where its loader can close something for good."""

    async def lock(self, step: LockStep) -> Mapping[str, str]:
        """Carry one step out, or find it done, and return the state as it was read afterwards, by the vendor's names.

        Raises:
            FlashError: it can't be done.
        """


async def lock_chip(firmware: ProductFirmware, seat: Seat) -> dict[str, str]:
    """Carry out the chip's half of a plan; everything that reads the board is done by now.

    Returns:
        What was read back of each step, by its name.

    Raises:
        DeviceError: ``device.lock_open``: something is read back as open; or a code of the flasher.
        LinkError: the port does not come back.
    """
    observed: dict[str, str] = {}
    try:
        async with seat.flasher(firmware.bundle.payload) as flasher:
            assert isinstance(flasher, ChipLocker)  # noqa: S101 - plan_of lets no other kind through
            for step in firmware.plan.chip:
                observed[step.name] = seen(step, await flasher.lock(step))
    except FirmwareToolsError as error:
        raise DeviceError.of(error) from error
    return observed


def seen(step: LockStep, state: Mapping[str, str]) -> str:
    """Return what was read back of a step, as a text.

    Raises:
        DeviceError: ``device.lock_open``: something reads otherwise than it was set.
    """
    wanted = _wanted(step)
    for name, value in wanted.items():
        got = state.get(name)
        if got is None or _number(got) != _number(value):
            raise DeviceError(
                f"{step.name}: {name} reads {got or 'nothing'} after it was set to {value}",
                code="device.lock_open",
                expected=value,
                got=got or "nothing",
            )
    return ", ".join(f"{name}={state[name]}" for name in wanted)


def _wanted(step: LockStep) -> Mapping[str, str]:
    """Return what has to be read after a step."""
    if step.by == FlasherKind.STM32.value:
        return {_RDP: _ON}
    return dict(zip(step.arguments[::2], step.arguments[1::2], strict=True))


def _number(text: str) -> int | str:
    """Read a value; tools write numbers and truth in several ways."""
    word = text.strip().lower()
    try:
        return _WORDS[word] if word in _WORDS else int(word, 0)
    except ValueError:
        return word
