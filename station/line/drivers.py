"""What makes the driver that a slot's ``driver`` names: a class of ours, a driver file, or another package's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from firmware_tools.smp_framing import Framing
from station.config import ProductSection
from station.config.languages import DEFAULT_DRIVER, DRIVER_FILE, installed_drivers, known_drivers
from station.config.section import nearest
from station.devices import Driver
from station.devices.described import DescribedDriver
from station.devices.description_file import load
from station.devices.nordic_at import NordicAtDriver
from station.devices.smp import SmpDriver
from station.devices.zephyr_shell import ZephyrShellDriver
from station.errors import ConfigError
from station.ports.link import Link

Maker: TypeAlias = Callable[[Link, ProductSection], Driver]
"""Makes the driver of an open link, which the caller closes; some languages need to know where things go."""

DRIVERS: Final[Mapping[str, Maker]] = MappingProxyType(
    {
        "smp": lambda link, _product: SmpDriver(link),
        "nordic_at": lambda link, product: NordicAtDriver(link, sec_tag=product.sec_tag),
        "zephyr_shell": lambda link, product: ZephyrShellDriver(link, sec_tag=product.sec_tag),
    }
)
"""Makers of drivers, by the names of ``station.config.languages.DRIVERS``."""


def driver_maker(name: str, framing: Framing = Framing.BASE64) -> Maker:
    """Return the maker of a language. A driver file is read now, once, and not again for each board.

    Args:
        name: as the configuration has it: a name, or the path of a driver file.
        framing: how SMP goes over the wire of the slot.

    Raises:
        ConfigError: the file can't be used, the package's driver can't be imported, or there is no such driver.
    """
    if name == DEFAULT_DRIVER and framing is not Framing.BASE64:
        return lambda link, _product: SmpDriver(link, framing=framing)
    if name in DRIVERS:
        return DRIVERS[name]
    if name.endswith(DRIVER_FILE):
        description = load(Path(name))
        return lambda link, product: DescribedDriver(link, description, sec_tag=product.sec_tag)
    point = installed_drivers().get(name)
    if point is None:
        raise ConfigError(f"there is no driver '{name}'; {nearest(name, known_drivers())}, or name a file{DRIVER_FILE}")
    try:
        maker: Maker = point.load()
    except Exception as error:  # whatever another package does when it is imported
        raise ConfigError(f"driver '{name}' ({point.value}) can't be imported: {error!r}") from error
    if not callable(maker):
        raise ConfigError(f"driver '{name}' ({point.value}) can't be called with a link and a product")
    return maker
