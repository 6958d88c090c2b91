"""The bundle that a line flashes: read and verified once, and held against the product and the order.

The bundle stays in memory, so what was verified is what every board gets, whatever becomes of the file meanwhile.
"""

from dataclasses import dataclass

from firmware_tools.bundles.bundle import Bundle
from firmware_tools.errors import BundleError
from station.agreement import contradiction
from station.config import ProductSection
from station.errors import ConfigError
from station.firmware_keys import load_release_key
from station.locking import LockPlan, plan_of
from station.manifest import FirmwareRelease
from station.orders import Order, OrderError
from station.unit_facts import check_unit_data


@dataclass(frozen=True, slots=True)
class ProductFirmware:
    """What boards are flashed with, and what is closed then."""

    bundle: Bundle
    plan: LockPlan
    rollback_reason: str = ""
    """Why an older version than was here before may come back; empty: it may not."""

    @property
    def release(self) -> FirmwareRelease:
        """What the manifest keeps of it."""
        return FirmwareRelease(self.bundle.product, self.bundle.version, self.bundle.digest)


def read_bundle(product: ProductSection) -> ProductFirmware | None:
    """Read and verify the bundle of ``[product]``; None where boards come flashed. Blocks.

    Raises:
        ConfigError: it can't be used (the code is that of ``BundleError``), is for another product, or wants locks
            that can't be closed; the message is one line.
    """
    if product.firmware is None or product.release_key is None:
        return None
    key = load_release_key(product.release_key)
    try:
        bundle = Bundle.open(product.firmware, [key])
    except BundleError as error:
        raise ConfigError.of(error) from error
    return checked(bundle, product)


def checked(bundle: Bundle, product: ProductSection) -> ProductFirmware:
    """Hold a bundle against ``[product]``; see ``read_bundle``."""
    where = f"{product.firmware}: " if product.firmware else ""
    if bundle.product != product.model:
        raise ConfigError(
            f"{where}the bundle is for {bundle.product!r}, and [product] model is {product.model!r}; correct the one, "
            "or take the right bundle",
            code="config.firmware",
        )
    check_unit_data(bundle)
    pairs = (
        ("firmware_version", product.firmware_version, str(bundle.version)),
        ("firmware_sha256", product.firmware_sha256, bundle.payload.running),
    )
    if (found := contradiction(pairs)) is not None:
        key, here, there = found
        raise ConfigError(
            f"{where}[product] {key} is {here}, and that of the bundle is {there}; delete the key, the bundle says it",
            code="config.firmware",
        )
    plan = plan_of(product.locks, bundle.lock_plan, bundle.payload.kind)
    return ProductFirmware(bundle, plan, product.allow_rollback)


def firmware_under(order: Order, firmware: ProductFirmware | None) -> ProductFirmware | None:
    """Hold the bundle of a line against the order that it runs.

    Raises:
        OrderError: ``order.configuration``: the order names another bundle, version or image.
    """
    wanted = order.bundle_sha256
    if firmware is None:
        if wanted is None:
            return None
        raise OrderError(
            f"order {order.name} is for boards flashed with bundle {wanted.hex()}; name its file in [product] "
            "firmware, and its release_key",
            code="order.configuration",
        )
    bundle = firmware.bundle
    pairs = (
        ("bundle", wanted, bundle.digest),
        ("firmware_version", order.firmware_version, str(bundle.version)),
        ("firmware_sha256", order.firmware_sha256, bundle.payload.running),
    )
    if (found := contradiction(pairs)) is not None:
        what, ordered, here = found
        raise OrderError(
            f"order {order.name} is for {what} {ordered}, and that of [product] firmware is {here}; take the bundle "
            "that was ordered",
            code="order.configuration",
        )
    reason = reason_of(order.name, wanted, bundle.digest) or firmware.rollback_reason
    return ProductFirmware(bundle, firmware.plan, reason)


def reason_of(order: str, named: bytes | None, digest: bytes) -> str:
    """Say why an older bundle may come back: a signed order names exactly this one. Empty where none does.

    A station takes no bundle that is older than the newest it ever worked by, for each product; whoever signs orders
    decides otherwise, by digest, and nobody else can name one bundle more exactly.

    Args:
        order: name of the order that the line runs under.
        named: its ``bundle_sha256``.
        digest: of the bundle.
    """
    return f"order {order} names this bundle" if named == digest else ""
