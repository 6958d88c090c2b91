"""Revocation: OCSP answers a second over HTTP, and a revocation list of a million entries.

The responder is ``station ca ocsp serve`` in a process of its own; the questions come from this one, over connections
that stay open, as from a proxy in front of it. Beside it, by turns, what its parts can do alone: the same without HTTP,
and the token's raw signatures (``revocation_child.py``).
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import BenchError, Effort, Figure
from bench.place import Place
from bench.processes import STATION

MIN_ANSWERS: Final = 2000.0
"""A second, from presigned answers."""

MAX_SECONDS: Final = 60.0
MAX_MEGABYTES: Final = 1000.0
"""For a list of a million entries."""

CONNECTIONS: Final = 16
STEPS: Final = ("core", "nonce", "sign")


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    certificates = effort.choose(50, 1000, 2000)
    turns = effort.choose(1, 3, 9)
    place = Place.make(work)
    config = place.run("revocation", [Path("/dev/null")], quantity=1).config
    say(f"revocation: {certificates} certificates, presigned answers about them")
    made = _child("prepare", config, certificates)
    yield Figure("answers signed ahead", made["presigned"], "1/s", note="station ca ocsp presign, each a file")
    rates: dict[str, list[float]] = {name: [] for name in ("get", "post", *STEPS)}
    requests = [bytes.fromhex(text) for text in made["requests"]]
    with _responder(config, work / "ocsp") as port:
        asyncio.run(_ask(port, requests, _get))  # each file is read once
        for turn in range(turns):
            say(f"revocation: turn {turn + 1} of {turns}")
            for name, form in (("get", _get), ("post", _post)):
                rates[name].append(asyncio.run(_ask(port, requests * effort.choose(1, 5, 10), form)))
            measured = _child("rates", config, certificates)
            for name in STEPS:
                rates[name].append(measured[name])
    yield _figure("OCSP answers a second, presigned, over HTTP with GET", rates["get"], at_least=MIN_ANSWERS)
    yield _figure("the same with POST", rates["post"], at_least=MIN_ANSWERS)
    yield _figure("the same without HTTP", rates["core"], note="request to answer, the journal asked each time")
    yield _figure("signed on demand, with a nonce", rates["nonce"], note="counted in a journal, signed, verified")
    yield _figure("the token alone, C_Sign in a tight loop", rates["sign"], note="python-pkcs11, P-256")
    entries = effort.choose(20_000, 1_000_000, 1_000_000)
    say(f"revocation: a list of {entries:,} entries")
    made = _child("list", config, entries)
    note = f"{made['bytes'] / 1e6:.0f} MB, signed, verified, published; of it {made['verify']:.1f} s to check it again"
    scale = 1_000_000 / entries
    yield Figure(f"a list of {entries:,} entries", made["seconds"], "s", at_most=MAX_SECONDS / scale, note=note)
    yield Figure("its memory at most", made["megabytes"], "MB", at_most=MAX_MEGABYTES, note="of the whole process")
    yield Figure("revoking them in one act", made["revoked"], "s", note="one transaction")
    yield Figure("a delta and a shard of one entry beside it", made["small"] * 1e3, "ms", note="what a recall costs")


def _figure(name: str, rates: Sequence[float], *, at_least: float | None = None, note: str = "") -> Figure:
    told = f"median of {len(rates)}, {min(rates):.0f} to {max(rates):.0f}"
    return Figure(name, median(rates), "1/s", at_least=at_least, note=f"{told}; {note}" if note else told)


def _child(work: str, config: Path, number: int) -> dict[str, Any]:
    """Let another process do something, so that its memory and its threads are its own."""
    command = [sys.executable, "-m", "bench.revocation_child", work, str(config), str(number)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the process for '{work}' failed; its reason stands above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _responder(config: Path, presigned: Path) -> Iterator[int]:
    command = [str(STATION), "ca", "ocsp", "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
    command += ["--presigned", str(presigned), "--per-client", "0"]  # one address asks all
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as responder:
        assert responder.stdout is not None
        told = responder.stdout.readline().strip()
        if not told.startswith("answering at"):
            raise BenchError("the responder did not start; its reason stands above")
        try:
            yield int(told.rpartition(":")[2])
        finally:
            responder.terminate()
            responder.wait()


def _get(request: bytes) -> bytes:
    return b"GET /" + base64.b64encode(request) + b" HTTP/1.1\r\nHost: bench\r\n\r\n"


def _post(request: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n"
    return head % len(request) + request


async def _ask(port: int, requests: Sequence[bytes], form: Callable[[bytes], bytes]) -> float:
    """Return answers a second."""
    asked = [form(request) for request in requests]
    began = time.monotonic()
    await asyncio.gather(*(_connection(port, asked[number::CONNECTIONS]) for number in range(CONNECTIONS)))
    return len(requests) / (time.monotonic() - began)


async def _connection(port: int, requests: Sequence[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200") or b"no-store" in head:
            raise BenchError(f"the responder said {head.splitlines()[0].decode()}")
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()
