"""How far the orders are by the journal alone: what their rows are held against when a station starts.

A row of an order, of a unit or of a desk serial can be changed or taken away behind the station's back. Events can't,
without the ledger telling, and every number that is taken, given back, burned or closed off writes one.

Reading all of them takes ten seconds for a million units. So a count can go on from an earlier one (``OrderCount``),
which has to be as good as the events that it stands for; ``station.ledger.counted`` keeps one that can't be changed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from hsm.durable import Row
from station.manifest.rows import OrderTerms
from station.numbering import Numbering

_EVENTS: Final = """
SELECT unit_id, step, at, facts ->> iif(step = 'intent', '$.product_serial', '$.order'), CASE step
       WHEN 'desk' THEN facts ->> '$.product_serial' WHEN 'scrap' THEN facts ->> '$.returned'
       WHEN 'replace' THEN facts ->> '$.returned'
       WHEN 'order-resume' THEN (facts ->> '$.taken') || ' ' || (facts ->> '$.burned') END
FROM event WHERE id > ? AND id <= ? AND kind = 'journal' AND step IN (
    'begin', 'intent', 'desk', 'scrap', 'replace', 'order-close', 'order-suspend', 'order-resume') ORDER BY id
"""

# The order that a unit took its serial from: that of its last begin before its first intent.
_ORDER_OF_UNIT: Final = """
SELECT facts ->> '$.order' FROM event WHERE unit_id = ?1 AND step = 'begin' AND kind = 'journal' AND id < (
    SELECT min(id) FROM event WHERE unit_id = ?1 AND step = 'intent' AND kind = 'journal')
ORDER BY id DESC LIMIT 1
"""


@dataclass(slots=True)
class OrderJournal:
    """What the events tell of one order."""

    taken: int = 0
    """Numbers that were given, to units and to certificates of the desk, or burned."""
    returned: int = 0
    """Units that were scrapped and gave their budget back."""
    closed_at: str | None = None
    burned: int = 0
    """Numbers that nobody gets, by somebody's decision."""
    suspended_at: str | None = None


@dataclass(frozen=True, slots=True)
class OrderCount:
    """What the events up to one of them tell of all orders."""

    through: int = 0
    """Id of the last event that was counted."""
    journals: Mapping[str, OrderJournal] = field(default_factory=lambda: MappingProxyType({}))
    """By the order's name."""


class _Recount:
    """Events in, journals out. Numbers are given in their order, so the highest one tells how many were."""

    def __init__(self, orders: Iterable[OrderTerms], before: OrderCount, order_of: Callable[[int], str | None]) -> None:
        self._order_of = order_of
        self._numberings: dict[str | None, tuple[Numbering, int]] = {
            one.name: (one.numbering, one.first_number) for one in orders
        }
        self.journals = {
            str(name): replace(before.journals.get(str(name), OrderJournal())) for name in self._numberings
        }
        self._begun: dict[int, str] = {}
        """Units that may take a serial with their next intent, and the order they would take it from."""

    def event(self, unit_id: int, step: str, at: str, told: str | None, more: str) -> None:
        if step == "begin" and told is not None:
            self._begun[unit_id] = told
        elif step == "intent":
            name = self._begun.pop(unit_id, None)
            if told is not None:  # a further try to sign takes no number
                self._take(
                    name or self._order_of(unit_id), told
                )  # it may have begun before the count that we go on from
        elif step == "desk":
            self._take(told, more)
        elif told is not None and told in self.journals:
            self._decide(self.journals[told], step, at, more)

    def _decide(self, journal: OrderJournal, step: str, at: str, more: str) -> None:
        if step == "order-close":
            journal.closed_at = at
        elif step == "order-suspend":
            journal.suspended_at = at
        else:
            taken, burned = map(int, more.split())
            journal.taken, journal.suspended_at = max(journal.taken, taken + burned), None
            journal.burned += burned

    def give_back(self, name: str) -> None:
        if name in self.journals:
            self.journals[name].returned += 1

    def _take(self, name: str | None, product_serial: str) -> None:
        if name is None or name not in self.journals:
            return
        numbering, first = self._numberings[name]
        number = numbering.number(product_serial)
        if number is not None:
            self.journals[name].taken = max(self.journals[name].taken, number - first + 1)


def count_orders(
    rows: Callable[..., Iterator[Row]], orders: Iterable[OrderTerms], before: OrderCount | None = None
) -> OrderCount:
    """Read the events that come after an earlier count, or all of them; memory stays flat.

    Args:
        rows: runs a query, as ``ManifestReader.rows`` does.
        orders: the terms of the rows; what other orders' events tell does not matter.
        before: an earlier count of this manifest; it is trusted.
    """
    begin = before or OrderCount()
    ((last,),) = rows("SELECT coalesce(max(id), 0) FROM event")

    def order_of(unit_id: int) -> str | None:
        return next((name for (name,) in rows(_ORDER_OF_UNIT, unit_id)), None)

    recount = _Recount(orders, begin, order_of)
    for unit_id, step, at, told, more in rows(_EVENTS, begin.through, last):
        if step not in {"scrap", "replace"}:
            recount.event(unit_id, step, at, told, more)
        elif more == "1" and (name := order_of(unit_id)) is not None:
            recount.give_back(name)
    return OrderCount(last, MappingProxyType(recount.journals))
