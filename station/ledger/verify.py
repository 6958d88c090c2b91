"""The offline check of a manifest, or of a copy: with a public key, without an HSM and without the station.

1. The schema is the one of this version: no rule is missing, no table was added. Where more than a rule (a trigger)
   differs, the check ends here: what stands in place of a table could make every answer up.
2. Each checkpoint is signed by the key, of this log, and larger than the one before.
3. The events lead to each signed root (``chain.py``).
4. The rows of every table are those that the events tell (``replay.py``, ``replay_station.py``).

3 and 4 are independent, and 4 can be cut into ranges of units: they run in as many processes as there are processors.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from station.ledger.chain import ChainResult, Progress, SignedHead, check_chain
from station.ledger.checkpoint import open_checkpoint
from station.ledger.damage import Damage, Damages, Kind, naming
from station.ledger.errors import NoteInvalid
from station.ledger.note import LedgerPublicKey, VerifierKey
from station.ledger.replay import ReplayResult, replay
from station.ledger.replay_station import compare_orders
from station.ledger.store import LedgerReader
from station.manifest.schema import migrations

SMALL: Final = 20_000
"""Events up to which other processes cost more than they save."""

RANGES: Final = 8
"""Pieces in which units are handed out."""

LOOK_SECONDS: Final = 0.2
"""How often progress is told."""

Keys = Sequence[VerifierKey | LedgerPublicKey]
Told = Callable[[int, int], None]
"""Told how much is done, and of how much; events and units count as one each."""

SCHEMA_ROWS: Final = (
    "SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4'))"
)
"""Tables, indexes, triggers and views of a file, but for the statistics that ``ANALYZE`` in a shell leaves.

Names with ``sqlite_`` in front are looked at too: SQLite gives them, but whoever sets ``writable_schema`` can as well.
"""

_COUNTED: Final = ("unit", "public_key", "issuance", "proof", "life_act", "receipt")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check came to."""

    origin: str
    events: int
    units: int
    checkpoints: int
    """Those that are signed by the key, and whose root is right."""
    sealed: int
    """Events under the last of them; those after it are only as good as their rows."""
    damages: tuple[Damage, ...]
    """The first thousand."""
    damage_count: int

    @property
    def sound(self) -> bool:
        """Whether nothing was found, and something vouches for that."""
        return not self.damage_count and self.checkpoints > 0


def verify(path: Path, keys: Keys, *, outside: str | None = None, told: Told | None = None, jobs: int = 0) -> Verdict:
    """Check a manifest.

    Args:
        path: the file, in use or not.
        keys: who may have signed its checkpoints.
        outside: a checkpoint that was kept elsewhere (the text of the note): the manifest has to hold it.
        told: told how far it is.
        jobs: processes; 0 for as many as there are processors.

    Raises:
        NoteInvalid: no checkpoint is signed by one of the keys (``ledger.note_unknown_key``); or ``outside`` is not, or
            is of another log.
        ManifestError: the file is no manifest, of another version, or damaged.
    """
    damages = Damages()
    with LedgerReader(path) as reader:
        if not _check_schema(reader, damages):
            damages(Damage(Kind.UNPROVEN, "schema", "", "its tables are not ours, so no row was looked at"))
            return Verdict("", 0, 0, 0, 0, tuple(damages.named), damages.count)
        heads = _heads(reader, keys, damages)
        origin = reader.origin()
        if outside is not None:
            beyond = _outside(outside, keys, origin)
            if (beyond.size, beyond.root) not in {(head.size, head.root) for head in heads}:
                heads.append(beyond)
        events = reader.size()
        ((units,),) = reader.rows("SELECT coalesce(max(id), 0) FROM unit")
    heads.sort(key=lambda head: head.size)
    chain, replayed = _run(path, heads, events, units, told or (lambda _done, _all: None), jobs)
    with LedgerReader(path) as reader:  # first the few rows that many others hang on
        with naming(damages, "production_order"):
            compare_orders(reader, chain.station, replayed.taken, replayed.returned, damages)
        _check_counts(reader, chain, replayed, damages)
    damages.join(chain.damages)
    damages.join(replayed.damages)
    sealed = max((head.size for head in heads), default=0)
    return Verdict(origin, chain.events, replayed.units, chain.heads_right, sealed, tuple(damages.named), damages.count)


def _heads(reader: LedgerReader, keys: Keys, damages: Damages) -> list[SignedHead]:
    """Open the checkpoints' notes."""
    heads: list[SignedHead] = []
    strangers: list[NoteInvalid] = []
    origin = reader.origin()
    expected, notes = 1, 0
    for row in reader.checkpoints():
        if row.id != expected:
            which = str(expected) if row.id == expected + 1 else f"{expected} to {row.id - 1}"
            damages(Damage(Kind.REMOVED, "checkpoint", which, "their numbers begin with 1 and have no gap"))
        expected = row.id + 1
        if row.note is None:
            continue
        notes += 1
        try:
            checkpoint = open_checkpoint(row.note, keys).checkpoint
        except NoteInvalid as error:
            if error.code == "ledger.note_unknown_key":
                strangers.append(error)
            damages(Damage(Kind.CHANGED, "checkpoint", str(row.id), str(error)))
            continue
        if (checkpoint.size, checkpoint.root) != (row.tree_size, row.root):
            damages(Damage(Kind.CHANGED, "checkpoint", str(row.id), "tree_size and root are not those that are signed"))
        if checkpoint.origin != origin:
            detail = f"this log is {origin}, the checkpoint is of {checkpoint.origin}"
            damages(Damage(Kind.CHANGED, "manifest_identity", "1", detail))
        heads.append(SignedHead(f"{row.id}", checkpoint.size, checkpoint.root))
    if strangers and len(strangers) == notes:  # nothing was tampered with for all we know: it is another key's
        raise NoteInvalid(f"nothing was checked: each checkpoint ({notes}) is {strangers[-1]}", code=strangers[-1].code)
    return heads


def _outside(note: str, keys: Keys, origin: str) -> SignedHead:
    checkpoint = open_checkpoint(note, keys).checkpoint
    if checkpoint.origin != origin:
        raise NoteInvalid(
            f"the checkpoint is of the log {checkpoint.origin}, and this manifest is {origin}", code="ledger.other_log"
        )
    return SignedHead("the checkpoint that was kept outside", checkpoint.size, checkpoint.root)


@cache
def _schema() -> Mapping[tuple[str, str], str | None]:
    """Return what this version makes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrations.apply(Database(connection, execute_plugins=False))
        return {(kind, name): text for kind, name, text in connection.execute(SCHEMA_ROWS)}
    finally:
        connection.close()


def _check_schema(reader: LedgerReader, damages: Damages) -> bool:
    """Compare tables, indexes and triggers with those that this version makes; whether its rows can be looked at."""
    expected = _schema()
    found: dict[tuple[str, str], str | None] = {}
    twice = set()
    for kind, name, text in (map(_decoded, row) for row in reader.rows(SCHEMA_ROWS)):
        if (kind, name) in found:
            twice.add((kind, name))
        found[str(kind), str(name)] = text
    for kind, name in expected.keys() - found.keys():
        damages(Damage(Kind.REMOVED, "schema", f"{kind} {name}", "this version makes it"))
    for kind, name in found.keys() - expected.keys():
        damages(Damage(Kind.INSERTED, "schema", f"{kind} {name}", "this version makes no such thing"))
    for kind, name in sorted(found.keys() & expected.keys()):
        if found[kind, name] != expected[kind, name]:
            damages(Damage(Kind.CHANGED, "schema", f"{kind} {name}", "it is not as this version makes it"))
    for kind, name in twice:
        damages(Damage(Kind.INSERTED, "schema", f"{kind} {name}", "there are two of this name"))
    differing = {key for key in found.keys() | expected.keys() if found.get(key, "") != expected.get(key, "")} | twice
    return all(kind == "trigger" for kind, _ in differing)


def _decoded(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else repr(value)


def _check_counts(reader: LedgerReader, chain: ChainResult, replayed: ReplayResult, damages: Damages) -> None:
    """See that the two halves looked at the same, and that no row stands outside of all units."""
    if (chain.unit_events, chain.unit_events_sum) != (replayed.events, replayed.events_sum):
        detail = f"it shows {replayed.events} journal events of units, the table has {chain.unit_events}"
        damages(Damage(Kind.CHANGED, "event", "(index event_by_unit)", detail))
    for table in _COUNTED:
        ((count,),) = reader.rows(f"SELECT count(*) FROM {table} NOT INDEXED")  # noqa: S608 - our own names
        if count != replayed.rows[table]:
            detail = f"it has {count} rows, the events tell of {replayed.rows[table]}"
            damages(Damage(Kind.INSERTED, table, "", detail))


_counter: "Synchronized[int] | None" = None


def _adopt(counter: "Synchronized[int]") -> None:
    global _counter  # noqa: PLW0603 - how a pool hands something to its processes
    _counter = counter


def _count(more: int) -> None:
    assert _counter is not None  # noqa: S101 - adopted
    with _counter.get_lock():
        _counter.value += more


def _chain_job(path: Path, heads: Sequence[SignedHead]) -> ChainResult:
    return check_chain(path, heads, _count)


def _replay_job(path: Path, after: int, until: int) -> ReplayResult:
    return replay(path, after, until, _count)


def _run(  # noqa: PLR0913, PLR0917 - what is done, and how
    path: Path, heads: Sequence[SignedHead], events: int, units: int, told: Told, jobs: int
) -> tuple[ChainResult, ReplayResult]:
    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1 or events <= SMALL:
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            told(done, events + units)

        return check_chain(path, heads, progress), replay(path, 0, _ALL, progress)
    context = get_context("spawn")  # a fork would copy threads' locks
    counter = context.Value("q", 0)
    edges = [units * piece // RANGES for piece in range(RANGES)] + [_ALL]
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_adopt, initargs=(counter,)) as pool:
        first: Future[ChainResult] = pool.submit(_chain_job, path, heads)
        others = [pool.submit(_replay_job, path, after, until) for after, until in pairwise(edges)]
        waiting: set[Future[Any]] = {first, *others}
        while waiting:
            waiting = wait(waiting, timeout=LOOK_SECONDS).not_done
            told(counter.value, events + units)
        replayed = ReplayResult()
        for other in others:
            replayed.join(other.result())
        return first.result(), replayed


_ALL: Final = (1 << 63) - 1
"""The largest id that SQLite knows."""

__all__ = ["SCHEMA_ROWS", "Progress", "Verdict", "verify"]
