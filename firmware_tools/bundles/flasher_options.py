"""Which options a bundle may give each flasher, and what it may lock; ``docs/firmware.md`` tells what they do."""

from collections.abc import Mapping
from typing import Final

from firmware_tools.bundles.manifest import LockStep, Option
from firmware_tools.flashers import FlasherKind

SMP_OPTIONS: Final[Mapping[str, type]] = {"erase_seconds": int, "boot_seconds": int}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "parity": ("even", "none"),
    "connect": ("halt", "pre-reset", "under-reset", "attach"),
}
"""What an option that is a text may be: it stands in a tool's command line."""

_LARGEST: Final[Mapping[str, int]] = {"erase_seconds": 3600, "boot_seconds": 3600, "frequency": 100_000_000}
"""Of options that are numbers; the smallest is 1."""


def options_of(kind: FlasherKind) -> Mapping[str, type]:
    """Return the options of a flasher, and the type of each."""
    # imported late: the flashers bring asyncio along, which who packs a bundle of another kind never needs
    match kind:
        case FlasherKind.SMP:
            return SMP_OPTIONS
        case FlasherKind.ESP:
            from firmware_tools.flashers.esp import OPTIONS as ESP_OPTIONS  # noqa: PLC0415

            return ESP_OPTIONS
        case FlasherKind.STM32:
            from firmware_tools.flashers.stm32 import OPTIONS as STM32_OPTIONS  # noqa: PLC0415

            return STM32_OPTIONS
        case FlasherKind.PROBE:
            from firmware_tools.flashers.probe import OPTIONS as PROBE_OPTIONS  # noqa: PLC0415

            return PROBE_OPTIONS


def options_fault(kind: FlasherKind, options: Mapping[str, Option]) -> str | None:
    """Return what is wrong with options for a flasher; None if nothing is."""
    known = options_of(kind)
    for name, value in options.items():
        if name not in known:
            return f"option {name!r} is unknown for {kind.value}; known: {', '.join(known)}"
        if type(value) is not known[name]:
            wanted = {bool: "true or false", int: "a whole number", str: "a text"}[known[name]]
            return f"option {name!r} is {wanted}"
        if isinstance(value, str) and value not in _CHOICES[name]:
            return f"option {name!r} is {value!r}; known: {', '.join(_CHOICES[name])}"
        if type(value) is int and not 1 <= value <= _LARGEST[name]:
            return f"option {name!r} is {value}; write a number from 1 to {_LARGEST[name]}"
    return None


def lock_fault(step: LockStep) -> str | None:
    """Return what is wrong with what a step of the lock-down tells a tool; None if nothing is."""
    if step.by != FlasherKind.ESP.value:
        return None  # none of it reaches a command line
    from firmware_tools.flashers.esp import burning_fault  # noqa: PLC0415 - as in options_of

    return burning_fault(step.arguments)
