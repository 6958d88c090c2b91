"""Rows of units against events: do the tables say what the journal says? The second half of an offline check.

Units, their events, issuances, acts and receipts are each read in the order of the unit, and walked side by side:
memory stays flat, however many there are. A range of units is a piece of work of its own (``verify`` runs several).
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from station.ledger.chain import Progress
from station.ledger.damage import MALFORMED, Damage, Damages, Kind, differing, naming, read_facts
from station.ledger.replay_unit import ISSUANCE, LIFE_ACT, PROOF, RECEIPT, UNIT, UnitJournal, Values
from station.ledger.store import LedgerReader

STEP: Final = 2000
"""Units between two words about progress."""

_EVENTS: Final = (
    "SELECT unit_id, id, at, slot, step, facts FROM event INDEXED BY event_by_unit "
    "WHERE unit_id > ? AND unit_id <= ? AND kind = 'journal' ORDER BY unit_id, id"
)
_UNITS: Final = (
    "SELECT unit.id, hardware_id, production_order.name, product_serial, mac, model, firmware_version, "
    "firmware_sha256, state, life, attempts, slot, first_seen_at, changed_at, failure_code, failure_sentence, "
    "failure_step FROM unit "
    "LEFT JOIN production_order ON production_order.id = unit.order_id WHERE unit.id > ? AND unit.id <= ? "
    "ORDER BY unit.id"
)
_OF_ISSUANCE: Final = (
    "issuance.unit_id, issuance.id, issuance.state, issuance.spki_sha256, certificate_serial, tbs, tbs_sha256, "
    "signing_tries, certificate, certificate_sha256, intended_at, changed_at, void_reason, proof.issuance_id, "
    "challenge, message, signature, read_back_sha256, locks, seconds, proof.at, public_key.unit_id"
)
_ISSUANCES: Final = (
    f"SELECT {_OF_ISSUANCE} FROM issuance INDEXED BY {{index}} "  # noqa: S608 - our own names
    "LEFT JOIN proof ON proof.issuance_id = issuance.id LEFT JOIN public_key USING (spki_sha256) "
    "WHERE issuance.unit_id > ? AND issuance.unit_id <= ? AND issuance.state {state} 'void' ORDER BY issuance.unit_id"
)
_ACTS: Final = f"SELECT {', '.join(LIFE_ACT)} FROM life_act WHERE unit_id > ? AND unit_id <= ? ORDER BY unit_id, id"  # noqa: S608
_RECEIPTS: Final = f"SELECT {', '.join(RECEIPT)} FROM receipt WHERE unit_id > ? AND unit_id <= ? ORDER BY unit_id, id"  # noqa: S608

Row = tuple[Any, ...]


@dataclass(slots=True)
class ReplayResult:
    """What a range of units came to; added up over all of them it is compared with whole tables."""

    damages: Damages = field(default_factory=Damages)
    units: int = 0
    events: int = 0
    events_sum: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """Rows that were seen, by table."""
    taken: Counter[str] = field(default_factory=Counter)
    """Units that took a serial, by order."""
    returned: Counter[str] = field(default_factory=Counter)

    def join(self, other: "ReplayResult") -> None:
        """Add another range."""
        self.damages.join(other.damages)
        self.units += other.units
        self.events += other.events
        self.events_sum += other.events_sum
        for mine, theirs in ((self.rows, other.rows), (self.taken, other.taken), (self.returned, other.returned)):
            mine.update(theirs)


class _Reader(LedgerReader):
    """Texts as ``str``: what they are compared with comes out of JSON."""

    def __init__(self, path: Path, *, lenient: bool) -> None:
        super().__init__(path)
        self._db.conn.text_factory = _readable if lenient else str


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def replay(path: Path, after: int, until: int, progress: Progress) -> ReplayResult:
    """Compare the rows of a range of units with their events.

    Args:
        path: the manifest.
        after: the units with a greater id.
        until: and at most this one.
        progress: told now and then how many units more are done.
    """
    try:
        return _replay(path, after, until, progress, lenient=False)
    except Exception as error:  # a text that is not UTF-8 stops SQLite's own decoding; who wrote one is named then
        cause = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
        if "decode" not in str(cause):
            raise
        return _replay(path, after, until, progress, lenient=True)


def _replay(path: Path, after: int, until: int, progress: Progress, *, lenient: bool) -> ReplayResult:
    with _Reader(path, lenient=lenient) as reader:
        return _Replay(reader, after, until).run(progress)


class _Stream:
    """Rows in the order of their first column, taken a unit at a time."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.next: Row | None = next(rows, None)

    def of(self, unit_id: int) -> Iterator[Row]:
        """Iterate over the rows of a unit."""
        while self.next is not None and self.next[0] == unit_id:
            row, self.next = self.next, next(self._rows, None)
            yield row


class _Replay:
    """One range."""

    def __init__(self, reader: LedgerReader, after: int, until: int) -> None:
        self._result = ReplayResult()
        self._report = self._result.damages
        self._units = _Stream(reader.rows(_UNITS, after, until))
        self._events = _Stream(reader.rows(_EVENTS, after, until))
        live = _ISSUANCES.format(index="one_live_issuance", state="<>")
        void = _ISSUANCES.format(index="void_issuance", state="=")
        self._issuances = [_Stream(reader.rows(sql, after, until)) for sql in (live, void)]
        acts = ((row[1], *row) for row in reader.rows(_ACTS, after, until))
        self._acts = _Stream(acts)
        receipts = ((row[2], *row) for row in reader.rows(_RECEIPTS, after, until))
        self._receipts = _Stream(receipts)

    def run(self, progress: Progress) -> ReplayResult:
        done = 0
        while (unit_id := self._next_unit()) is not None:
            self._unit(unit_id)
            done += 1
            if done % STEP == 0:
                progress(STEP)
        progress(done % STEP)
        return self._result

    def _next_unit(self) -> int | None:
        streams = (self._units, self._events, self._acts, self._receipts, *self._issuances)
        return min((stream.next[0] for stream in streams if stream.next is not None), default=None)

    def _unit(self, unit_id: int) -> None:
        result = self._result
        journal = UnitJournal(unit_id)
        told = False
        for _, number, at, slot, step, facts in self._events.of(unit_id):
            told = True
            result.events += 1
            result.events_sum += number
            try:
                journal.event(at, slot, step, read_facts(facts))
            except MALFORMED as error:
                why = f"the journal has no such event ({type(error).__name__}: {error})"
                self._report(Damage(Kind.CHANGED, "event", str(number), why))
        with naming(self._report, "unit", str(unit_id)):
            self._compare("unit", next(self._units.of(unit_id), None), journal.rows() if told else None, UNIT, unit_id)
            self._check_issuances(journal)
            self._check_told(self._acts, "life_act", LIFE_ACT, journal.acts, unit_id)
            self._check_told(self._receipts, "receipt", RECEIPT, journal.receipts, unit_id)
        for stream in (
            self._units,
            self._acts,
            self._receipts,
            *self._issuances,
        ):  # what a malformed row kept from being looked at
            for _ in stream.of(unit_id):
                pass
        result.units += 1
        if journal.product_serial is not None:
            result.taken[journal.order] += 1
        if journal.returned:
            result.returned[journal.order] += journal.returned

    def _check_issuances(self, journal: UnitJournal) -> None:
        result = self._result
        missing, missing_proofs = set(journal.issuances), set(journal.proofs)
        keys = set()
        for stream in self._issuances:
            for row in stream.of(journal.unit_id):
                issuance, proof, holder = row[:13], row[13:21], row[21]
                number = issuance[1]
                missing.discard(number)
                tbs, certificate = issuance[5], issuance[8]
                # digests stand for the bytes; an altered digest of altered bytes differs from the event's
                found = (
                    number, issuance[0], *issuance[2:5], _digest(tbs), issuance[6], issuance[7], _digest(certificate),
                    *issuance[9:],
                )  # fmt: skip
                self._compare("issuance", found, journal.issuance(number), ISSUANCE, number)
                if holder == journal.unit_id:
                    keys.add(issuance[3])
                elif holder is not None:
                    detail = f"unit_id is {holder}, the events say {journal.unit_id}"
                    self._report(Damage(Kind.CHANGED, "public_key", show_key(issuance[3]), detail))
                    keys.add(issuance[3])
                if proof[0] is not None:
                    missing_proofs.discard(number)
                    self._compare("proof", proof, journal.proof(number), PROOF, number)
        for number in missing:
            self._report(Damage(Kind.REMOVED, "issuance", str(number), "events tell of it"))
        for number in missing_proofs:
            self._report(Damage(Kind.REMOVED, "proof", str(number), "an event tells of it"))
        for key in journal.keys - keys:
            self._report(Damage(Kind.REMOVED, "public_key", show_key(key), "an event tells of it"))
        result.rows["public_key"] += len(keys)

    def _check_told(
        self, stream: _Stream, table: str, columns: tuple[str, ...], told: list[Values], unit_id: int
    ) -> None:
        expected = {values[0]: values for values in told}
        for row in stream.of(unit_id):
            self._compare(table, row[1:], expected.pop(row[1], None), columns, row[1])
        for number in expected:
            self._report(Damage(Kind.REMOVED, table, str(number), "an event tells of it"))

    def _compare(
        self, table: str, found: Row | None, expected: Row | None, columns: tuple[str, ...], number: int
    ) -> None:
        if found is not None:
            self._result.rows[table] += 1
        if found == expected:
            return
        if found is None:
            self._report(Damage(Kind.REMOVED, table, str(number), "events tell of it"))
        elif expected is None:
            self._report(Damage(Kind.INSERTED, table, str(number), "no event tells of it"))
        else:
            self._report(Damage(Kind.CHANGED, table, str(number), differing(columns, expected, found)))


def _digest(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return sha256(value).digest()
    return None if value is None else b"not bytes"


def show_key(key: object) -> str:
    """Return a public key's digest as people find it."""
    return key.hex() if isinstance(key, bytes) else repr(key)
