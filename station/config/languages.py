"""The languages that boards speak, by the names that ``station.toml`` has for them.

A slot's ``driver`` is one of three things: a name of ours, the path of a driver file (``*.toml``,
``station.devices.description_file``), or a name that another Python package brings (the entry points ``GROUP``).
``station.line.drivers`` makes drivers of all of them.

A new driver of ours has its name here and its maker there; a new persona of the virtual boards has its name here and in
``firmware_tools.virtual_line.personas``, and its file in ``firmware_tools/reference_device/persona``.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

DEFAULT_DRIVER: Final = "smp"
"""What the reference device speaks."""

DRIVERS: Final = (DEFAULT_DRIVER, "nordic_at", "zephyr_shell")
"""Languages that boards speak; see ``station.devices``."""

DRIVER_FILE: Final = ".toml"
"""How the path of a driver file ends."""

EXAMPLES: Final = Path(__file__).parents[1] / "devices" / "drivers"
"""Driver files that come with the station."""

GROUP: Final = "provisioning_station.drivers"
"""Entry points of drivers in other packages; each is a callable of link and ``[product]`` that returns a ``Driver``."""

PERSONA_DRIVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "smp": "smp",
        "nrf91": "nordic_at",
        "nrf91-shell": "nordic_at",
        "nrf91-old": "nordic_at",
        "zephyr-shell": "zephyr_shell",
        "zephyr-shell-noisy": "zephyr_shell",
        "home-made": str(EXAMPLES / "home-made.toml"),
    }
)
"""Which driver speaks to the virtual boards of a persona (``firmware_tools.virtual_line.personas``)."""


class VirtualProduct(NamedTuple):
    """What ``[product]`` has to say for the virtual boards of a persona to pass."""

    model: str = "reference-device"
    locks: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()


_LOCKED: Final = VirtualProduct(locks=("debug", "credentials"))
_MODEM: Final = VirtualProduct("nRF9151-LACA", accepts=("digest", "attestation"))

PERSONA_PRODUCTS: Final[Mapping[str, VirtualProduct]] = MappingProxyType(
    {
        "smp": _LOCKED,
        "nrf91": _MODEM,
        "nrf91-shell": _MODEM,
        "nrf91-old": _MODEM,
        "zephyr-shell": VirtualProduct(),
        "zephyr-shell-noisy": VirtualProduct(),
        "home-made": _LOCKED,
    }
)
"""By persona."""


def installed_drivers() -> dict[str, EntryPoint]:
    """Return the drivers that other packages bring, by name; they can't take the place of ours."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: point for name, point in sorted(found.items()) if name not in DRIVERS}


def known_drivers() -> list[str]:
    """Return all names that a slot may have as ``driver``, files left out."""
    return [*DRIVERS, *installed_drivers()]
