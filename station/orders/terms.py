"""What an order says; ``payload.py`` is how it is written, ``rules.py`` which orders make no sense."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hsm.durable import time_text
from station.manifest import OrderSeal, OrderTerms
from station.numbering import CheckScheme, mac_text
from station.orders.errors import OrderError


@dataclass(frozen=True, slots=True)
class Share:
    """One station's part of an order."""

    quantity: int
    first_number: int
    scrap_allowance: int = 0
    """So many scrapped units give their budget back; as many more numbers belong to the share."""
    key_sha256: bytes | None = None
    """SHA-256 of the SubjectPublicKeyInfo of a key in that station's token, its ledger key or issuing key; 32 bytes.
    None: whoever has the station's number may make the share."""

    @property
    def last_number(self) -> int:
        """The last number that may be given."""
        return self.first_number + self.quantity + self.scrap_allowance - 1


@dataclass(frozen=True, slots=True)
class MacRange:
    """EUI-48 addresses, as numbers; both ends count."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Order:
    """A production order."""

    name: str
    product: str
    """Model that the boards have to report."""
    profile: str
    """Name of the certificate profile."""
    profile_sha256: bytes
    """Of what the profile says (``hsm.Profile.sha256``); 32 bytes."""
    quantity: int
    stations: Mapping[int, Share]
    """By station id."""
    not_before: datetime
    not_after: datetime
    """The window is ``not_before <= now < not_after``."""
    created: datetime
    serial_format: str = "SN{number:06d}"
    check: CheckScheme = CheckScheme.NONE
    first_number: int = 1
    mac: MacRange | None = None
    firmware_version: str | None = None
    firmware_sha256: bytes | None = None
    """32 bytes."""
    bundle_sha256: bytes | None = None
    """Digest of the firmware bundle that boards get (``firmware_tools.bundles.bundle``); 32 bytes."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def last_number(self) -> int:
        """The last number of all shares."""
        return max(share.last_number for share in self.stations.values())

    def check_key(self, station_id: int, keys: Collection[bytes]) -> None:
        """Refuse a share that names a key which the station does not have.

        Args:
            station_id: of the station.
            keys: SHA-256 of the SubjectPublicKeyInfo of the keys in its tokens.

        Raises:
            OrderError: the order does not name it, or names another key (``order.wrong_key``).
        """
        key = self.share(station_id).key_sha256
        if key is not None and key not in keys:
            raise OrderError(
                f"order {self.name} is for the station {station_id} whose token holds key {key.hex()[:16]}…, and this "
                "one's does not; take it to the right station, or ask for an order that names this one's ledger key",
                code="order.wrong_key",
                operator="This order is for another station. Call the line engineer.",
            )

    def share(self, station_id: int) -> Share:
        """Return the share of a station.

        Raises:
            OrderError: the order does not name it (``order.wrong_station``).
        """
        if station_id not in self.stations:
            named = ", ".join(map(str, sorted(self.stations)))
            raise OrderError(
                f"order {self.name} is for station {named}, and this is station {station_id}; take it to the right "
                "station, or correct [station] id",
                code="order.wrong_station",
                operator="This order is for another station. Call the line engineer.",
            )
        return self.stations[station_id]

    def check_window(self, now: datetime) -> None:
        """Refuse an order before or after its time.

        Raises:
            OrderError: ``order.not_begun`` or ``order.over``.
        """
        if now < self.not_before:
            raise OrderError(
                f"order {self.name} begins on {_short(self.not_before)}, and it is {_short(now)} now; wait, or set "
                "this machine's clock",
                code="order.not_begun",
            )
        if now >= self.not_after:
            raise OrderError(
                f"order {self.name} ended on {_short(self.not_after)}, and it is {_short(now)} now; ask for a new "
                "order, or set this machine's clock",
                code="order.over",
                operator="This order is over. Call the line engineer.",
            )

    def terms(self, station_id: int, *, jws: str, payload_sha256: bytes) -> OrderTerms:
        """Return what the manifest keeps of the order: one station's share of it.

        Raises:
            OrderError: the order does not name the station.
        """
        share = self.share(station_id)
        mac = None if self.mac is None else mac_text(self.mac.first + share.first_number - self.first_number)
        return OrderTerms(
            name=self.name,
            product=self.product,
            profile=self.profile,
            quantity=share.quantity,
            serial_format=self.serial_format,
            first_number=share.first_number,
            check=self.check,
            mac_first=mac,
            scrap_allowance=share.scrap_allowance,
            seal=OrderSeal(
                uid=self.id,
                jws=jws,
                payload_sha256=payload_sha256,
                station_id=station_id,
                not_before=time_text(self.not_before),
                not_after=time_text(self.not_after),
            ),
        )


def _short(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
