"""How far the orders were at some event, kept where it can't be changed: as an event itself, under a signed checkpoint.

A station that starts holds the rows of its orders against the journal (``manifest.order_journal``), which takes ten
seconds for a million units. So before a checkpoint the ledger now and then writes what the events up to then come to,
as one more event, and the next start goes on from there. It believes that event only if its leaf leads to the root of a
checkpoint that the ledger key signed: who changes it, or writes one of his own, has no such checkpoint.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from station.errors import StationError
from station.ledger.checkpoint import open_checkpoint
from station.ledger.leaf import leaf_of
from station.ledger.note import LedgerPublicKey
from station.ledger.store import LedgerReader
from station.ledger.tiles import Tree
from station.ledger.tree import leaf_hash, root_of_path
from station.manifest import OrderCount, OrderJournal

STEP: Final = "orders"
KIND: Final = "counted"

EVERY: Final = 20_000
"""Events between two counts: what a start reads at most, some hundredths of a second, beside those since the last
checkpoint."""

_THROUGH: Final = "through"
_ORDER: Final = "order "
_NONE: Final = "-"

_NEWEST: Final = "SELECT id FROM event WHERE id <= ? AND step = ? AND kind = ? ORDER BY id DESC LIMIT 1"


def facts_of(count: OrderCount) -> Mapping[str, str]:
    """Write a count as facts of an event."""
    return {_THROUGH: str(count.through)} | {
        f"{_ORDER}{name}": " ".join(
            (
                *map(str, (one.taken, one.returned, one.burned)),
                one.closed_at or _NONE,
                one.suspended_at or _NONE,
            )
        )
        for name, one in count.journals.items()
    }


def read_facts(facts: Mapping[str, str]) -> OrderCount:
    """Read a count from the facts of an event.

    Raises:
        ValueError, KeyError: it is none.
    """
    journals = {}
    for name, said in facts.items():
        if name.startswith(_ORDER):
            taken, returned, burned, closed_at, suspended_at = said.split(" ")
            times = [None if at == _NONE else at for at in (closed_at, suspended_at)]
            journals[name.removeprefix(_ORDER)] = OrderJournal(
                int(taken), int(returned), times[0], int(burned), times[1]
            )
    return OrderCount(int(facts[_THROUGH]), MappingProxyType(journals))


def newest_count(path: Path, public: LedgerPublicKey) -> OrderCount | None:
    """Return the newest count that the ledger key vouches for; None where there is none, or it can't be believed.

    Costs at most 256 events and 255 hashes a level of the tree, and those after the count.

    Args:
        path: the manifest.
        public: the ledger key.

    Raises:
        ManifestError: it can't be read.
    """
    with LedgerReader(path) as reader:
        newest = reader.newest_checkpoint()
        row = next(reader.rows(_NEWEST, newest.tree_size, STEP, KIND), None) if newest else None
        event = None if row is None else reader.event(int(row[0]))
        if newest is None or newest.note is None or event is None:
            return None
        try:
            head = open_checkpoint(newest.note, [public]).checkpoint
            way = Tree(reader).inclusion(event[0] - 1, head.size)
            root = root_of_path(leaf_hash(leaf_of(event)), event[0] - 1, head.size, way)
            if root != head.root or head.origin != reader.origin():
                return None
            return read_facts(json.loads(event[-1]))
        except (StationError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None  # 'station manifest verify' tells; the station reads all events instead


__all__ = ["EVERY", "KIND", "STEP", "facts_of", "newest_count", "read_facts"]
