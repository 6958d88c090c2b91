"""What the units of a line share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hsm import Authority, Issuers, Profile
from station.config import OrderSection, ProductSection
from station.errors import UnitRefused
from station.ledger.ledger import Ledger
from station.locking import LockPlan
from station.manifest import Manifest
from station.orders import OrderBook, OrderWarrant
from station.product_firmware import ProductFirmware


@dataclass(slots=True)
class Claims:
    """Which slot works on which hardware id right now: the same id in two slots is a cloned board."""

    _slots: dict[str, str] = field(default_factory=dict)

    def take(self, hardware_id: str, slot: str) -> None:
        """Claim a board for a slot.

        Raises:
            UnitRefused: another slot holds a board with this hardware id.
        """
        holder = self._slots.setdefault(_folded(hardware_id), slot)
        if holder != slot:
            raise UnitRefused(
                f"hardware id {hardware_id} is in slot {holder} at the same time",
                code="unit.twice_on_the_line",
                operator=f"Slot {holder} has a board with the same number. Stop and call the line engineer.",
            )

    def release(self, hardware_id: str, slot: str) -> None:
        """Give a claim back; only the slot that holds it can."""
        if self._slots.get(_folded(hardware_id)) == slot:
            del self._slots[_folded(hardware_id)]


def _folded(hardware_id: str) -> str:
    """Return what ids have in common that differ in case alone: they are one board's, as in the manifest."""
    return hardware_id.lower()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all units of a line share."""

    manifest: Manifest
    authority: Authority
    profile: Profile
    product: ProductSection
    order: OrderSection
    station_id: int
    """First byte of the certificate serials made here, 1 to 127."""
    issuers: Issuers | None = None
    """Where several CAs sign: who signs what. None: ``authority`` signs everything."""
    orders: OrderBook | None = None
    """The orders of the manifest, verified. None: nothing is signed that needs an order."""
    ledger: Ledger | None = None
    """The manifest's ledger. None: there is no ledger key, and nobody seals the events."""
    firmware: ProductFirmware | None = None
    """What boards are flashed with. None: they come flashed."""
    ca_holder: Callable[[bytes], str | None] = lambda _: None
    """Tells which certificate the CA made for a key (SHA-256 of its SubjectPublicKeyInfo) besides those of units."""
    claims: Claims = field(default_factory=Claims)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def plan(self) -> LockPlan:
        """What is closed on a board before it passes."""
        return LockPlan(self.product.locks) if self.firmware is None else self.firmware.plan

    @property
    def signers(self) -> Issuers:
        """Who signs."""
        return self.issuers or Issuers.only(self.authority)

    def warrant(self, order: str) -> OrderWarrant | None:
        """Return the warrant of an order of the manifest.

        Raises:
            OrderError: it is not genuine, or its row was changed.
        """
        return None if self.orders is None else self.orders.warrant(order)

    def issuer_of(self, certificate: bytes) -> Authority | None:
        """Return the authority of this line that signed a certificate (DER); None if none of them did."""
        issuers = (issuer.authority for issuer in self.signers.issuers)
        return next((authority for authority in issuers if authority.issued(certificate)), None)
