"""Leave to sign under one order, asked by the signer right before its token (``hsm.warrant``).

It knows nothing of the database but two counts, taken when it was made: how many numbers had been given, and how many
scrapped units had given their budget back. From then on it counts by itself. So whoever edits the manifest while the
line runs gets no certificate more than was signed for. And before a number is signed for the first time, the token is
told that it was taken (``taken.py``).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

from hsm import LintedTbs, Profile, WarrantError
from hsm.durable import time_text
from station.manifest import OrderTerms
from station.orders.errors import OrderError
from station.orders.taken import Remembered, TakenNotes
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
        suspended: bool = False,
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
            suspended: the same, until somebody decides from where on.
            now: the time.

        Raises:
            OrderError: the order does not name the station.
        """
        self.order = signed.order
        self.terms = signed.terms(share_of)
        self._numbering = self.terms.numbering
        self._refusal = _refusal(self.order.name, share_of, station_id, closed=closed, suspended=suspended)
        """Code and reason why no number is begun here; empty: one may be."""
        self._key = signed.order.share(share_of).key_sha256
        self._keys: frozenset[bytes] = frozenset()
        self._notes: TakenNotes | None = None
        self._now = now
        self._lock = Lock()
        self._begun = taken
        """Numbers below this one were given before: their units are finished, whatever else is over."""
        self._taken = taken
        self._given = taken
        """Numbers that the manifest has given, durably, as far as warrants were asked for."""
        self._returned = min(returned, self.terms.scrap_allowance)
        self._holders: dict[int, str] = {}
        self._profile: tuple[Profile, bool] | None = None

    @property
    def taken(self) -> int:
        """Numbers that are known to have been given, as the signer saw them."""
        return self._taken

    def at_station(self, keys: frozenset[bytes], notes: TakenNotes) -> None:
        """Say where it is used.

        Args:
            keys: SHA-256 of the SubjectPublicKeyInfo of each key that the station's tokens hold: a share that names a
                key is begun with no other.
            notes: what the tokens know of this order; they are told of each number before it is signed for.
        """
        self._keys, self._notes = keys, notes

    def check_newest(self) -> None:
        """Refuse a manifest that knows of fewer numbers than the tokens do. Blocks.

        Raises:
            OrderError: it is an older copy (``order.rolled_back``); or as ``TakenNotes.read``.
            HsmError: a token refuses.
        """
        told = self.told()
        if told > self._taken:
            lost = f"{told - self._taken} numbers, {self.serials(self._taken, told)},"
            raise OrderError(
                f"the token remembers that {told} numbers of order {self.order.name} were taken, and this manifest "
                f"knows of {self._taken}: it is an older copy, and boards may hold the {lost} that it does not know. "
                f"Put the newest manifest back; if it is lost, 'station order resume {self.order.name}' burns them",
                code="order.rolled_back",
                operator="The manifest is not the one this station wrote last. Stop, and call the security officer.",
                expected=told,
                got=self._taken,
            )

    def told(self) -> int:
        """Return how many numbers the tokens know to be taken; as ``TakenNotes.read``. Blocks."""
        return 0 if self._notes is None else self._notes.read(self.terms.numbers)

    def survey(self) -> Remembered:
        """Return the same, and the notes that are damaged; as ``TakenNotes.survey``. Blocks."""
        return Remembered(0) if self._notes is None else self._notes.survey(self.terms.numbers)

    def tell_decided(self, taken: int) -> None:
        """Let the tokens know how many numbers are taken by somebody's decision, as ``TakenNotes.tell_all``. Blocks."""
        if self._notes is not None:
            self._notes.tell_all(taken)

    def serials(self, first: int, end: int) -> str:
        """Name the serials of some numbers, counted from the share's first; ``end`` is the one after the last."""
        return " to ".join(dict.fromkeys(self.terms.product_serial(index) for index in (first, end - 1)))

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
        number = self._numbering.number(product_serial)
        if number is not None:
            self._given = max(self._given, number - self.terms.first_number + 1)  # the serial is durable by now
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
        if self._notes is not None:
            self._notes.tell(index, max(self._given, index + 1))

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
        if index >= self._begun:
            self.check_begins()

    def check_begins(self) -> None:
        """Refuse to begin one more; asked before the manifest gives a number, and again by the gate.

        Raises:
            WarrantError: the order is closed, suspended, or another station's.
        """
        code, why = self._refusal
        if not code and self._key is not None and self._key not in self._keys:
            code, why = "warrant.wrong_key", "gives this share to a station with another key"
        if code:
            raise WarrantError(
                f"order {self.order.name} {why}: units that hold a serial are finished here, and no other is begun",
                code=code,
            )


def _refusal(name: str, share_of: int, station_id: int, *, closed: bool, suspended: bool) -> tuple[str, str]:
    if closed:
        return "warrant.closed", "is closed"
    if suspended:
        return "warrant.suspended", f"waits for a decision ('station order resume {name}')"
    if share_of != station_id:
        return "warrant.wrong_station", f"gives this share to station {share_of}"
    return "", ""


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
