"""A workshop for benchmarks and tests that need no configuration: one order, one product, one authority."""

from typing import Any, Final

from firmware_tools.provisioning import Locks
from hsm import Authority, Profile
from station.config import OrderSection, ProductSection
from station.line.workshop import Workshop
from station.manifest import Manifest
from station.testing.orders import open_signed

MODEL: Final = "reference-device"

PRODUCT: Final = ProductSection(
    model=MODEL, firmware_version=None, firmware_sha256=None, locks=Locks.DEBUG | Locks.CREDENTIALS
)
"""Any firmware; both locks."""

STATION: Final = 7

_ORDER: Final = OrderSection(name="BENCH")
_QUANTITY: Final = 10_000_000


async def shop_of(
    manifest: Manifest,
    authority: Authority,
    *,
    shown: Manifest | None = None,
    signer: Any = None,
    product: ProductSection = PRODUCT,
) -> Workshop:
    """Sign and open an order for ten million units, and return a workshop for it.

    Args:
        manifest: gets the order.
        authority: signs.
        shown: what stands before the manifest.
        signer: what stands before the authority.
        product: what boards have to be.
    """
    orders = await open_signed(
        manifest,
        name=_ORDER.name,
        product=product.model,
        quantity=_QUANTITY,
        serial_format="SN{number:08d}",
        station_id=STATION,
    )
    return Workshop(
        manifest=shown or manifest,
        authority=signer or authority,
        profile=Profile.load("idevid"),
        product=product,
        order=_ORDER,
        orders=orders,
        station_id=STATION,
    )
