"""``station ca sign-batch``: a folder of requests, from their files to recorded certificates in files.

Two child processes do it. One is pinned to one core with all its threads and has a P-256 issuer; the other has two
cores and an RSA-2048 issuer, which is what the token itself is slow at. Beside each, in the same process and by turns:
the token's raw signatures. Beside both: ``openssl ca`` with the key in a file, one process a certificate, as a
home-made CA does it. The journal is on the disk that is measured, requests and certificates are in memory.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import BenchError, Effort, Figure

MIN_RATE: Final = 1500.0
"""Certificates a second with a P-256 issuer, on one core."""

MIN_RSA_SHARE: Final = 90.0
"""Percent of the token's raw RSA-2048 signatures."""

MAX_GROWTH: Final = 16.0
"""MiB that a batch may add to memory after its first thousand requests."""

_CONFIG: Final = """\
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
serial = serial
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 90
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    turns = effort.choose(1, 3, 5)
    count = effort.choose(200, 3000, 10_000)
    ours = _child(work / "p256", "p256", cores=1, count=count, turns=turns, say=say)
    yield from _rates(ours, "P-256, one core", count, turns, at_least=MIN_RATE)
    yield Figure(
        "memory that a batch adds after its start",
        ours["growth"]["median"],
        "MiB",
        at_most=MAX_GROWTH,
        note=f"{count} requests",
    )
    few = effort.choose(100, 1500, 5000)
    theirs = _child(work / "rsa2048", "rsa2048", cores=2, count=few, turns=turns, say=say)
    yield from _rates(theirs, "RSA-2048, two cores", few, turns, share=MIN_RSA_SHARE)
    say("batch: openssl ca")
    rate = _openssl(work / "openssl", effort.choose(5, 40, 100))
    yield Figure("openssl ca, one process a certificate", rate, "1/s", note="P-256, key in a file, index.txt")
    yield Figure("sign-batch beside it", ours["batch"]["median"] / rate, "times", note="P-256, one core")


def _rates(
    found: dict[str, Any],
    what: str,
    count: int,
    turns: int,
    *,
    at_least: float | None = None,
    share: float | None = None,
) -> Iterator[Figure]:
    rate, raw = found["batch"], found["raw"]
    note = f"{count} requests, median of {turns}, {rate['least']:.0f} to {rate['most']:.0f}"
    yield Figure(f"certificates a second, {what}", rate["median"], "1/s", at_least=at_least, note=note)
    yield Figure(
        f"the same a second of processor time, {what}",
        found["processor"]["median"],
        "1/s",
        note="all threads: what the core could do if the disk took no time and no other program ran",
    )
    yield Figure(f"the token alone, C_Sign in a tight loop, {what}", raw["median"], "1/s", note="python-pkcs11")
    yield Figure(f"sign-batch as a share of it, {what}", found["share"]["median"], "%", at_least=share)


def _child(work: Path, kind: str, *, cores: int, count: int, turns: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Let a process of its own measure; return what it says by name."""
    work.mkdir(parents=True)
    command = [sys.executable, "-m", "bench.batch_pinned", str(work), kind, str(cores), str(count), str(turns)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    found: dict[str, Any] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            facts = json.loads(line)
            if "turn" in facts:
                say(f"batch: {kind}, turn {facts['turn']} of {turns}, {count} requests")
            else:
                found[facts["name"]] = facts
    if child.returncode:
        raise BenchError("the process that signs failed; its reason stands above")
    return found


def _openssl(work: Path, count: int) -> float:
    """Return certificates a second of ``openssl ca``."""
    work.mkdir(parents=True)
    (work / "openssl.cnf").write_text(_CONFIG)
    (work / "index.txt").touch()
    (work / "serial").write_text("1000\n")

    def run(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"openssl {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=BENCHMARK", "-days", "365")
    run("req", "-new", *key, "-keyout", "unit.key", "-out", "unit.csr", "-subj", "/CN=unit")
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        run("ca", "-batch", "-notext", "-config", "openssl.cnf", "-in", "unit.csr", "-out", f"{number}.pem")
        seconds.append(time.perf_counter() - began)
    return 1 / median(seconds)
