"""The orders of one manifest, each verified again whenever the station starts."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from station.manifest import OrderCount, OrderJournal, OrderRecord, OrderSeal
from station.manifest.order_operations import differences
from station.orders.errors import OrderError
from station.orders.taken import TakenNotes
from station.orders.trust import SignedOrder, Trust
from station.orders.warrant import OrderWarrant

_EDITED: str = "The station's records were changed. Stop the line and call the security officer."


class OrderBook:
    """Warrants of the orders that a manifest holds. An order is verified when it is first asked for."""

    def __init__(
        self,
        records: Iterable[OrderRecord],
        count: OrderCount,
        trust: Trust,
        *,
        station_id: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the rows as they are now.

        Args:
            records: ``ManifestReader.orders``.
            count: ``ManifestReader.count_orders``: what the rows are held against.
            trust: whose signatures count.
            station_id: of this station.
            now: the time.
        """
        self._records = {record.terms.name: record for record in records}
        self._journals = count.journals
        self._trust = trust
        self._station_id = station_id
        self._now = now
        self._warrants: dict[str, OrderWarrant] = {}
        self._place: Callable[[OrderWarrant], None] = lambda _: None

    def at_station(self, keys: frozenset[bytes], notes: Callable[[OrderSeal], TakenNotes]) -> None:
        """Say where the orders are used, once the tokens are open; see ``OrderWarrant.at_station``.

        Args:
            keys: of the station's tokens.
            notes: what these know of an order.
        """

        def place(warrant: OrderWarrant) -> None:
            if warrant.terms.seal is not None:
                warrant.at_station(keys, notes(warrant.terms.seal))

        self._place = place
        for warrant in self._warrants.values():
            place(warrant)

    def warrant(self, name: str) -> OrderWarrant:
        """Return the warrant of an order: for units that run under it, and for those that are half done.

        Raises:
            OrderError: not imported, unsigned, not approved (any more), or its row was changed.
        """
        if name not in self._warrants:
            record, signed, seal = self._verified(name)
            self._warrants[name] = OrderWarrant(
                signed,
                share_of=seal.station_id,
                station_id=self._station_id,
                taken=record.taken,
                returned=record.returned,
                closed=record.closed_at is not None,
                suspended=record.suspended_at is not None,
                now=self._now,
            )
            self._place(self._warrants[name])
        return self._warrants[name]

    def check_begins(self, name: str) -> OrderWarrant:
        """Return the warrant of an order that the line is to run under now.

        A share of another station is no reason to refuse here: boards that hold a serial are finished, and the first
        that would begin is refused.

        Raises:
            OrderError: as ``warrant``; or closed, suspended, before or after its window.
        """
        warrant = self.warrant(name)
        record = self._records[name]
        if record.closed_at is not None:
            raise OrderError(
                f"order {name} was closed at {record.closed_at} ({record.closed_reason}); run another order",
                code="order.closed",
                operator="This order is closed. Call the line engineer.",
            )
        if record.suspended_at is not None:
            raise OrderError(
                f"order {name} waits for a decision since {record.suspended_at} ({record.suspended_reason}): boards "
                f"may hold numbers that this manifest does not know. 'station order resume {name}' burns them, and "
                "lets the order go on",
                code="order.suspended",
                operator="This order waits for the security officer. Call the line engineer.",
            )
        warrant.order.check_window(self._now())
        return warrant

    def check_newest(self) -> None:
        """Refuse a manifest that knows of fewer numbers of any order than the tokens do: it is an older copy. Blocks.

        Closed ones give no number any more, nor do those that nobody can verify, or whose note is damaged.

        Raises:
            OrderError: it is (``order.rolled_back``).
            HsmError: a token refuses.
        """
        for name, record in self._records.items():
            if record.terms.seal is None or record.closed_at is not None:
                continue
            try:
                self.warrant(name).check_newest()
            except OrderError as error:
                if error.code == "order.rolled_back":
                    raise

    def _verified(self, name: str) -> tuple[OrderRecord, SignedOrder, OrderSeal]:
        record = self._records.get(name)
        if record is None:
            known = ", ".join(self._records) or "none yet"
            raise OrderError(
                f"order {name!r} is not in the manifest ({known}); import its file with 'station order import FILE'",
                code="order.not_imported",
            )
        seal = record.terms.seal
        if seal is None:
            raise OrderError(
                f"nobody signed order {name!r}: it is from before orders were signed; import a signed one with the "
                "same terms, and its units go on",
                code="order.unsigned",
            )
        signed = self._trust.verified(seal.jws)
        wanted = signed.terms(seal.station_id)
        differing = differences(record.terms, wanted)
        if wanted.name != name:
            differing.insert(0, f"the name is {name!r} there and {wanted.name!r} here")
        if differing:
            raise OrderError(
                f"the row of order {name} is not what was signed: {'; '.join(differing)}. Somebody changed the "
                "database: keep it as it is, and compare it with its backup",
                code="order.edited",
                operator=_EDITED,
            )
        given = record.taken - record.burned
        if given < record.holders:
            raise OrderError(
                f"the row of order {name} says that {given} numbers were given, and {record.holders} are held. "
                "Somebody changed the database: keep it as it is, and compare it with its backup",
                code="order.count",
                operator=_EDITED,
            )
        self._check_journal(record)
        return record, signed, seal

    def _check_journal(self, record: OrderRecord) -> None:
        """Refuse a row that is not what the events say: rows can be changed together, and agree."""
        name, journal = record.terms.name, self._journals.get(record.terms.name, OrderJournal())
        kept = "Somebody changed the database: keep it as it is, and compare it with its backup"
        for what, there, told in (
            ("numbers were taken", record.taken, journal.taken),
            ("units gave their budget back", record.returned, journal.returned),
            ("numbers were burned", record.burned, journal.burned),
        ):
            if there != told:
                raise OrderError(
                    f"the row of order {name} says that {there} {what}, and the journal tells of {told}. {kept}",
                    code="order.count",
                    operator=_EDITED,
                )
        for what, at, told_at in (
            ("closed", record.closed_at, journal.closed_at),
            ("suspended", record.suspended_at, journal.suspended_at),
        ):
            if at != told_at:
                raise OrderError(
                    f"the row of order {name} says that it was {what} at {at or 'no time'}, and the journal says at "
                    f"{told_at or 'no time'}. {kept}",
                    code="order.edited",
                    operator=_EDITED,
                )
