"""What ``station check`` looks at in firmware: the bundle, its signature, the order that names it, and its tools."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Final

from firmware_tools.flashers import FlasherKind
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config
from station.errors import StationError
from station.locking import said
from station.manifest import ManifestReader
from station.manifest.firmware import rank_of
from station.ordering import open_book
from station.orders import Order
from station.product_firmware import ProductFirmware, firmware_under, read_bundle

_TOOLS: Final = {FlasherKind.ESP: ("esptool", "esp"), FlasherKind.STM32: ("stm32loader", "stm32")}
"""Which package a kind of loader needs, and the extra that brings it."""

_PROBE: Final = ("pyocd", "probe")


def examine(config: Config) -> Iterator[Finding]:
    """Examine ``[product] firmware``; nothing is said of a line whose boards come flashed."""
    try:
        firmware = read_bundle(config.product)
        order = _order(config)
        firmware = firmware if order is None else firmware_under(order, firmware)
    except StationError as error:
        yield fail("firmware", str(error), "")
        return
    if firmware is None:
        return
    bundle = firmware.bundle
    yield ok(
        "firmware",
        f"{config.product.firmware}: {bundle.product} {bundle.version}, by {bundle.payload.kind.value}, "
        f"digest {bundle.digest.hex()}",
    )
    if order is not None and order.bundle_sha256 is None:
        yield warn(
            "firmware",
            f"order {order.name} names no bundle: any that the release key signed is taken",
            "name it in the next order: bundle_sha256",
        )
    yield from _rollback(config, firmware)
    dry = " (dry run: nothing is)" if config.product.dry_run_locks else ""
    yield ok("locks", f"closed before a board passes: {said(firmware.plan)}{dry}")
    yield from _tools(config, bundle.payload.kind)


def _order(config: Config) -> Order | None:
    """Return the order that runs; what is wrong with it is said elsewhere."""
    if not config.station.manifest.exists():
        return None
    try:
        order = open_book(config).warrant(config.order.name).order
        order.check_window(datetime.now(UTC))
    except StationError:
        return None
    return order


def _rollback(config: Config, firmware: ProductFirmware) -> Iterator[Finding]:
    if not config.station.manifest.exists():
        return
    try:
        with ManifestReader(config.station.manifest) as reader:
            newest = reader.newest_firmware(firmware.bundle.product)
    except StationError:
        return  # an older manifest, which has none; or one that can't be read, as is said elsewhere
    if newest is None or newest[0] <= rank_of(firmware.bundle.version):
        return
    text = f"{firmware.bundle.version} is older than {newest[1]}, which was here before"
    if firmware.rollback_reason:
        yield warn("firmware", f"{text}; it may come back: {firmware.rollback_reason}", "")
    else:
        yield fail("firmware", text, "take a newer bundle, or write in [product] allow_rollback why it may come back")


def _tools(config: Config, kind: FlasherKind) -> Iterator[Finding]:
    if kind is FlasherKind.SMP:
        return
    package, extra = _TOOLS.get(kind, _PROBE)
    if find_spec(package) is None:
        yield fail("flasher", f"{package} is missing", f"pip install 'provisioning-station[{extra}]'")
    for slot in config.slots:
        if slot.fixture:
            yield warn(
                f"slot {slot.name}",
                "a blank board in a fixture is silent, and nobody sees that it came",
                "let the port come and go with its board, or flash boards before this line",
            )
    if kind is FlasherKind.PROBE:
        for slot in config.slots:
            if slot.probe is None:
                yield fail(f"slot {slot.name}", "it names no debug probe", 'add probe = "<serial number>"')
