"""Leave to sign under one order, asked by the signer right before its token (``hsm.warrant``).

It knows nothing of the database but two counts, taken when it was made: how many numbers had been given, and how many
scrapped units had given their budget back. From then on it counts by itself. So whoever edits the manifest while the
line runs gets no certificate more than was signed for.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

from hsm import LintedTbs, Profile, WarrantError
from hsm.durable import time_text
from station.manifest import OrderTerms
from station.orders.terms import Order
from station.orders.trust import SignedOrder

_SERIAL_ALONE: str = "{product_serial}"
_RED: str = "The station's records and its order do not fit together. Stop the line and call the security officer."


def _now() -> datetime:
    return datetime.now(UTC)


class OrderWarrant:
    """What one order allows one station."""

    order: Order
    terms: OrderTerms
    """The share that the manifest's row has to be."""

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        signed: SignedOrder,
        *,
        share_of: int,
        station_id: int,
        taken: int = 0,
        returned: int = 0,
        closed: bool = False,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Make it of a verified order.

        Args:
            signed: the order.
            share_of: station whose share the manifest's row is.
            station_id: this station: a share of another is finished here, and never begun.
            taken: numbers of the share that were given.
            returned: scrapped units that gave their budget back.
            closed: no further number is given.
            now: the time.

        Raises:
            OrderError: the order does not name the station.
        """
        self.order = signed.order
        self.terms = signed.terms(share_of)
        self._numbering = self.terms.numbering
        self._may_begin = share_of == station_id and not closed
        self._closed = closed
        self._now = now
        self._lock = Lock()
        self._begun = taken
        """Numbers below this one were given before: their units are finished, whatever else is over."""
        self._taken = taken
        self._returned = min(returned, self.terms.scrap_allowance)
        self._holders: dict[int, str] = {}
        self._profile: tuple[Profile, bool] | None = None

    @property
    def taken(self) -> int:
        """Numbers that are known to have been given, as the signer saw them."""
        return self._taken

    def give_back(self) -> None:
        """Count a unit that was scrapped; the order's allowance is never exceeded."""
        with self._lock:
            self._returned = min(self._returned + 1, self.terms.scrap_allowance)

    def mac(self, product_serial: str) -> str | None:
        """Return the MAC address that goes with a serial, if the order gives one."""
        number = self._numbering.number(product_serial)
        return None if number is None else self.terms.mac(number - self.terms.first_number)

    def unit(self, product_serial: str, *, holder: str, product: str) -> "UnitWarrant":
        """Return the warrant for one unit.

        Args:
            product_serial: that it took.
            holder: what names the one who gets the certificate: a hardware id, or a key.
            product: its model.
        """
        return UnitWarrant(self, product_serial, holder, product)

    def check(self, draft: LintedTbs, product_serial: str, holder: str, product: str) -> None:
        """Return if this certificate may be signed now, and count it.

        Raises:
            WarrantError: it may not; the code says why.
        """
        self._check_kind(draft, product_serial, product)
        self._check_time()
        number = self._numbering.number(product_serial)
        index = -1 if number is None else number - self.terms.first_number
        if index < 0:
            raise WarrantError(
                f"serial {product_serial} is none of order {self.order.name}",
                code="warrant.foreign_serial",
                operator=_RED,
            )
        with self._lock:
            self._check_index(index)
            first = self._holders.setdefault(index, holder)
            if first != holder:
                raise WarrantError(
                    f"serial {product_serial} was signed for {first}, and is asked for {holder} now",
                    code="warrant.serial_twice",
                    operator=_RED,
                )
            self._taken = max(self._taken, index + 1)

    def _check_kind(self, draft: LintedTbs, product_serial: str, product: str) -> None:
        kind, wanted = draft.profile, (self.order.profile, self.order.profile_sha256)
        if (kind.name, kind.sha256) != wanted:
            same = "" if kind.name != self.order.profile else ", but its file says something else"
            raise WarrantError(
                f"order {self.order.name} is for certificates of profile {self.order.profile!r}, and this is one of "
                f"{kind.name!r}{same}; take the profile that was ordered",
                code="warrant.profile",
            )
        if product != self.order.product:
            raise WarrantError(
                f"order {self.order.name} is for {self.order.product!r}, and this is a {product!r}",
                code="warrant.product",
            )
        if self._names_serial(kind) and not _is_named(draft, product_serial):
            raise WarrantError(
                f"the certificate does not name serial {product_serial}", code="warrant.foreign_serial", operator=_RED
            )

    def _names_serial(self, profile: Profile) -> bool:
        """Whether certificates of a profile hold the serial; looked up once, since this is asked for each of them."""
        known = self._profile  # read once: tokens ask from several threads
        if known is None or known[0] is not profile:
            known = self._profile = profile, "product_serial" in profile.fields
        return known[1]

    def _check_time(self) -> None:
        now = self._now()
        if now < self.order.not_before:
            raise WarrantError(
                f"order {self.order.name} begins at {time_text(self.order.not_before)}, and it is {time_text(now)} now",
                code="warrant.not_begun",
            )
        if now >= self.order.not_after:
            raise WarrantError(
                f"order {self.order.name} ended at {time_text(self.order.not_after)}, and it is {time_text(now)} now; "
                "ask for a new order",
                code="warrant.over",
                operator="This order is over. Put the board aside and call the line engineer.",
            )

    def _check_index(self, index: int) -> None:
        limit = self.terms.quantity + self._returned
        if index >= limit:
            raise WarrantError(
                f"order {self.order.name}: this would be unit {index + 1} of {limit}",
                code="warrant.exhausted",
                operator="The order is complete: this board is one too many. Put it aside and call the line engineer.",
            )
        if index >= self._begun and not self._may_begin:
            why = "is closed" if self._closed else f"gives this share to station {self.terms.seal.station_id}"  # type: ignore[union-attr]  # it has one
            raise WarrantError(
                f"order {self.order.name} {why}: units that hold a serial are finished here, and no other is begun",
                code="warrant.closed" if self._closed else "warrant.wrong_station",
            )


def _is_named(draft: LintedTbs, product_serial: str) -> bool:
    """Whether a certificate names a serial: as a whole attribute where its profile has one, or else as a part."""
    parts = [part for part in draft.profile.subject_parts if part.template.text == _SERIAL_ALONE and not part.optional]
    if not parts:
        return product_serial.encode() in draft.tbs
    subject = draft.subject
    return all(
        [attribute.value for attribute in subject.get_attributes_for_oid(part.rule.oid)] == [product_serial]
        for part in parts
    )


class UnitWarrant:
    """Leave to sign for one unit; the ``hsm.Warrant`` that an authority is given."""

    def __init__(self, order: OrderWarrant, product_serial: str, holder: str, product: str) -> None:
        """Use ``OrderWarrant.unit``."""
        self._order = order
        self._product_serial = product_serial
        self._holder = holder
        self._product = product

    def allow(self, draft: LintedTbs) -> None:
        """Return if this draft may be signed now.

        Raises:
            WarrantError: it may not.
        """
        self._order.check(draft, self._product_serial, self._holder, self._product)
