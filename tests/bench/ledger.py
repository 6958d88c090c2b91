"""The ledger over many events: sealing them, what one more costs, opening, and the offline check of all of them.

The manifest is made through the schema (``big_manifest.py``), five events a unit. The first seal reads all events at
once, as after the update of an old manifest; the next ones are what a line at work pays once a minute. ``verify`` uses
the cores that the benchmark may use; its limit is that of five million events, in proportion.
"""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from bench.big_manifest import fill
from bench.figures import BenchError, Effort, Figure
from hsm import KeyKind, Signer, TokenUri
from hsm.key_store import generate_key
from softhsm import make_tokens
from station.ledger.anchor import Anchors
from station.ledger.ledger import Ledger
from station.ledger.verify import verify
from station.manifest import Manifest

MAX_SECONDS: Final = 120.0
"""Of checking five million events."""

FIVE_MILLION: Final = 5_000_000


MAX_OPENING: Final = 100.0
"""Milliseconds of looking, at the start, whether the manifest is the newest."""

START: Final = 5.0
"""Seconds that a small check may take all the same."""

ROUNDS: Final = 15


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    units = effort.choose(2000, 100_000, 1_000_000)
    path = work / "manifest.db"
    fill(path, units, say=lambda text: say(f"ledger: {text}"))
    softhsm = make_tokens(work / "token", ["line"])
    uri = TokenUri.parse(softhsm.uri("line"))
    with Signer.open(uri, environment=softhsm.environment, writable=True) as signer:
        key = generate_key(signer, KeyKind.ED25519, "ledger")
        with closing(Manifest.open(path)) as manifest:
            ledger = Ledger(manifest, key, Anchors(path, manifest.identity, signer))
            began = time.perf_counter()
            sealed = ledger.seal("all")
            seconds = time.perf_counter() - began
            if sealed is None:
                raise BenchError("nothing was sealed")
            yield Figure("events sealed at once", sealed.tree_size, timed=False)
            yield Figure("events a second, sealed", sealed.tree_size / seconds, "/s")
            yield Figure("a checkpoint of one more event", _more(manifest, ledger) * 1e3, "ms")
            began = time.perf_counter()
            Ledger(manifest, key, Anchors(path, manifest.identity, signer)).check()
            opening = (time.perf_counter() - began) * 1e3
            yield Figure("seeing that the manifest is the newest", opening, "ms", at_most=MAX_OPENING)
            vkey = ledger.key()
    say("ledger: checking all of it")
    began = time.perf_counter()
    verdict = verify(path, [vkey])
    seconds = time.perf_counter() - began
    limit = max(MAX_SECONDS * verdict.events / FIVE_MILLION, START)
    yield Figure("findings in a manifest that nobody touched", verdict.damage_count, at_most=0, timed=False)
    yield Figure("verify", seconds, "s", at_most=limit, note=f"{verdict.events:,} events, {verdict.units:,} units")
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory = max(resource.getrusage(one).ru_maxrss for one in who) / 1000
    yield Figure("memory of one of its processes", memory, "MB", note="the benchmark itself included")


def _more(manifest: Manifest, ledger: Ledger) -> float:
    """Return the median seconds of sealing one more event."""
    times = []
    for number in range(ROUNDS):
        manifest.event(None, "", "bench", "note", {"number": number})
        began = time.perf_counter()
        ledger.seal("one more")
        times.append(time.perf_counter() - began)
    return median(times)
