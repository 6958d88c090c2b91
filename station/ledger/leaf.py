r"""The bytes of a leaf: one event, as text that a person can read and hash by hand.

Eight lines in UTF-8, with a line feed between two and none at the end::

    event/1
    8                            id, decimal; leaf index = id - 1
    2026-11-24T05:42:01.120Z     at
    3                            unit_id, decimal; an empty line where the event belongs to no unit
    1                            slot
    pass                         step
    journal                      kind
    {"issuance":"3", ...}        facts, the very bytes that are stored

No part may hold a line feed (the schema refuses one), so two different events never have the same bytes. Every column
of the row is in it. The leaf's hash is SHA-256(0x00 || leaf) (RFC 6962 2.1)::

    (printf '\0'; cat leaf.txt) | sha256sum
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from station.ledger.errors import ProofInvalid

VERSION: Final = b"event/1"
LINES: Final = 8

COLUMNS: Final = "id, at, unit_id, slot, step, kind, facts"
"""Of the table ``event``, in the order of the leaf; to be read with ``text_factory = bytes``."""

EventRow = tuple[int, bytes, int | None, bytes, bytes, bytes, bytes]
"""A row of ``COLUMNS``."""


def leaf_of(row: EventRow) -> bytes:
    """Return the leaf of an event."""
    number, at, unit_id, slot, step, kind, facts = row
    unit = b"" if unit_id is None else b"%d" % unit_id
    return b"event/1\n%d\n%s\n%s\n%s\n%s\n%s\n%s" % (number, at, unit, slot, step, kind, facts)


def is_well_formed(leaf: bytes) -> bool:
    """Whether a leaf has the lines it should; a row with a line feed in a column makes more."""
    return leaf.count(b"\n") == LINES - 1


@dataclass(frozen=True, slots=True)
class Event:
    """What a leaf says."""

    id: int
    at: str
    unit_id: int | None
    slot: str
    step: str
    kind: str
    facts: Mapping[str, str]


def parse_leaf(leaf: bytes) -> Event:
    """Read a leaf.

    Raises:
        ProofInvalid: it is none.
    """
    try:
        version, number, at, unit, slot, step, kind, facts = leaf.decode().split("\n")
        if version != VERSION.decode():
            raise ProofInvalid(
                f"the entry is of the form {version!r}, not {VERSION.decode()}", code="ledger.proof_form"
            )
        said = json.loads(facts)
        event = Event(int(number), at, int(unit) if unit else None, slot, step, kind, said)
        row = (event.id, at.encode(), event.unit_id, slot.encode(), step.encode(), kind.encode(), facts.encode())
    except (ValueError, RecursionError) as error:
        raise ProofInvalid("the entry is not an event of a manifest", code="ledger.proof_form") from error
    if leaf_of(row) != leaf or not isinstance(said, dict):
        raise ProofInvalid("the entry is not an event of a manifest", code="ledger.proof_form")
    return event
