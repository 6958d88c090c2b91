"""The order that a line runs under, opened and held against its configuration."""

from dataclasses import replace
from datetime import UTC, datetime

from hsm import Issuers, Profile, Signer, TokenGroup
from station.config import Config, ProductSection
from station.manifest import ManifestReader, OrderTerms
from station.orders import Order, OrderBook, OrderError, Trust
from station.orders.binding import check_bound


def open_book(config: Config) -> OrderBook:
    """Take the orders that the manifest holds now; each is verified when it is asked for.

    Raises:
        OrderError: a key of ``[order] trusted`` can't be used.
        ManifestError: the manifest can't be read.
    """
    trust = Trust.load(config.order.trusted, config.order.approvals)
    with ManifestReader(config.station.manifest) as reader:
        return OrderBook(
            reader.orders(),
            reader.order_journals(),
            trust,
            station_id=config.station.id,
            now=lambda: datetime.now(UTC),
        )


def product_under(order: Order, config: Config, profile: Profile) -> ProductSection:
    """Return what a board has to be: as configured, and as ordered.

    Raises:
        OrderError: the two contradict each other (``order.configuration``).
    """
    product = config.product
    pairs = (
        ("[product] model", product.model, order.product),
        ("[ca] profile", profile.name, order.profile),
        ("the SHA-256 of [ca] profile", profile.sha256, order.profile_sha256),
        ("[product] firmware_version", product.firmware_version, order.firmware_version),
        ("[product] firmware_sha256", product.firmware_sha256, order.firmware_sha256),
    )
    for key, here, ordered in pairs:
        if here is not None and ordered is not None and here != ordered:
            said = [value.hex() if isinstance(value, bytes) else value for value in (here, ordered)]
            raise OrderError(
                f"{key} is {said[0]!r}, and order {order.name} is for {said[1]!r}; correct the one, or run another "
                "order",
                code="order.configuration",
            )
    return replace(
        product,
        firmware_version=product.firmware_version or order.firmware_version,
        firmware_sha256=product.firmware_sha256 or order.firmware_sha256,
    )


def check_token_knows(config: Config, issuers: Issuers, terms: OrderTerms, manifest: str) -> None:
    """Refuse an order that the issuing tokens know from another manifest, or not at all. Blocks.

    Raises:
        OrderError: ``order.replayed``, or ``order.not_bound``.
        HsmError: a token refuses.
    """
    signer = issuers.issuers[0].authority.key.signer
    if terms.seal is not None and isinstance(signer, Signer | TokenGroup):
        check_bound(signer, config.ca.journal, terms.seal, manifest)
