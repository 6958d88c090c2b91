"""How far the orders are by the journal alone: what their rows are held against when a station starts.

A row of an order, of a unit or of a desk serial can be changed or taken away behind the station's back. Events can't,
without the ledger telling, and every number that is taken, given back or closed off writes one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hsm.durable import Row
from station.manifest.rows import OrderTerms
from station.numbering import Numbering

_EVENTS: Final = """
SELECT unit_id, step, at, facts ->> iif(step = 'intent', '$.product_serial', '$.order'),
       iif(step = 'desk', facts ->> '$.product_serial', iif(step IN ('scrap', 'replace'), facts ->> '$.returned', NULL))
FROM event WHERE kind = 'journal' AND step IN ('begin', 'intent', 'desk', 'scrap', 'replace', 'order-close') ORDER BY id
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
    """Numbers that were given: to units, and to certificates of the desk."""
    returned: int = 0
    """Units that were scrapped and gave their budget back."""
    closed_at: str | None = None


class _Recount:
    """Events in, journals out. Numbers are given in their order, so the highest one tells how many were."""

    def __init__(self, orders: Iterable[OrderTerms]) -> None:
        self._numberings: dict[str | None, tuple[Numbering, int]] = {
            one.name: (one.numbering, one.first_number) for one in orders
        }
        self.journals = {str(name): OrderJournal() for name in self._numberings}
        self._begun: dict[int, str] = {}
        """Units that may take a serial with their next intent, and the order they would take it from."""

    def event(self, unit_id: int, step: str, at: str, told: str | None, more: str) -> None:
        if step == "begin" and told is not None:
            self._begun[unit_id] = told
        elif step == "intent":
            name = self._begun.pop(unit_id, None)
            if told is not None:  # a further try to sign takes no number
                self._take(name, told)
        elif step == "desk":
            self._take(told, more)
        elif told is not None and told in self.journals:
            self.journals[told].closed_at = at

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


def read_order_journals(rows: Callable[..., Iterator[Row]], orders: Iterable[OrderTerms]) -> dict[str, OrderJournal]:
    """Read all events once; memory stays flat.

    Args:
        rows: runs a query, as ``ManifestReader.rows`` does.
        orders: the terms of the rows; what other orders' events tell does not matter.

    Returns:
        For each order, by its name.
    """
    recount = _Recount(orders)
    for unit_id, step, at, told, more in rows(_EVENTS):
        if step not in {"scrap", "replace"}:
            recount.event(unit_id, step, at, told, more)
        elif more == "1":
            for (name,) in rows(_ORDER_OF_UNIT, unit_id):
                recount.give_back(name)
    return recount.journals
