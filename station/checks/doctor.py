"""What ``station doctor`` looks at: all that ``station check`` does, then token, key, clock, disk and ports.

It logs in to the token once, with the PIN of the configuration, and signs one probe. A station that runs owns its token
(two processes on one SoftHSM token break each other) and its ports, so then both are left alone.
"""

import errno
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.backends.openssl import backend

from hsm.durable import FileKind, WriterLock
from hsm.durable.opening import open_for_reading
from hsm.errors import JournalError
from hsm.journal.schema import JOURNAL
from station.checks import preflight, tokens
from station.checks.findings import Finding, Level, fail, ok, unreadable, warn
from station.config import Config, load
from station.errors import ManifestError
from station.manifest import CLOCK_TOLERANCE, ManifestLocked
from station.manifest.schema import MANIFEST
from station.ports.slots import SlotMap
from station.ports.uevent import present_ports

SYNCS: Final = 25
"""How often the disk is timed; the middle one counts."""

SLOW_SYNC: Final = 0.020
"""Seconds of one fsync from which on a board waits for the disk longer than for the token."""

LOW_SPACE: Final = 1 << 30
"""Bytes: some hundred thousand units with their transcripts."""

NO_SPACE: Final = 100 << 20
"""Bytes below which a shift may not end well."""

CONNECT_SECONDS: Final = 2.0
"""How long a TCP port has time to answer."""

_SLOTS: Final = "slot "

_APART: Final = (_SLOTS, "order", "driver ", "transcripts", "crl")
"""What checks begin with whose failures have nothing to do with the token."""


def examine(path: Path) -> Iterator[Finding]:
    """Examine a station, in the order in which one would put it right."""
    yield from _versions()
    sound = True
    for finding in preflight.examine(path):
        yield finding
        sound = sound and (finding.level is not Level.FAIL or finding.check.startswith(_APART))
    if not sound:
        yield warn("token", "not examined", "put right what fails above")
        return
    config = load(path)
    yield from _disk(config.station.manifest)
    yield from _clock(config)
    try:
        with WriterLock(config.station.manifest.resolve(), MANIFEST):
            yield from tokens.examine(config)
            yield from _ports(config)
    except ManifestLocked as error:
        holder = error.facts.get("holder", "?")
        yield warn(
            "token", f"not examined: a station runs here (process {holder}), and its ports are its own", "stop it first"
        )
    except ManifestError as error:
        yield fail("manifest", str(error), "see above")


def _versions() -> Iterator[Finding]:
    texts = [f"station {version('provisioning-station')}", backend.openssl_version_text()]
    texts.append(f"python-pkcs11 {version('python-pkcs11')}")
    if tool := shutil.which("softhsm2-util"):
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout
            texts.append(f"SoftHSM {said.strip()}")
    yield ok("versions", ", ".join(texts))


def _disk(manifest: Path) -> Iterator[Finding]:
    folder = manifest.parent
    while not folder.exists():
        folder = folder.parent
    try:
        seconds = _sync_seconds(folder)
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        advice = "make space: a full disk stops the line" if is_full else "check the disk, and the rights of the folder"
        yield fail("disk", f"{folder}: {error.strerror}", advice)
        return
    text = f"fsync in {folder} takes {seconds * 1000:.1f} ms (median of {SYNCS})"
    yield warn("disk", text, "put the manifest on a faster disk") if seconds > SLOW_SYNC else ok("disk", text)
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < NO_SPACE:
        yield fail("space", text, "make space: a full disk stops the line")
    elif free < LOW_SPACE:
        yield warn("space", text, "make space, or move old transcripts away")
    else:
        yield ok("space", text)


def _sync_seconds(folder: Path) -> float:
    """Return the median seconds of a write and fsync."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _clock(config: Config) -> Iterator[Finding]:
    """Compare the clock with the newest entry of the manifest and of the CA's journal: neither goes back."""
    now = datetime.now(UTC)
    records = [(MANIFEST, config.station.manifest), (JOURNAL, config.ca.journal)]
    there = [(kind, path) for kind, path in records if path.exists()]
    if not there:
        yield ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; no manifest to compare it with yet")
        return
    last = datetime.min.replace(tzinfo=UTC)
    for kind, path in there:
        try:
            last = max(last, _newest_entry(kind, path))
        except (ManifestError, JournalError) as error:
            yield unreadable(kind.name, error)
            return
    if last > now + CLOCK_TOLERANCE:
        yield fail(
            "clock",
            f"{now:%Y-%m-%d %H:%M:%S} UTC is before the last event on record ({last:%Y-%m-%d %H:%M:%S})",
            "set it",
        )
    else:
        yield ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, after all that is on record")


def _newest_entry(kind: FileKind, path: Path) -> datetime:
    database, _ = open_for_reading(kind, path)
    try:
        row = next(iter(database.execute(kind.last_entry)), None)
    finally:
        database.close()
    return datetime.min.replace(tzinfo=UTC) if row is None or row[0] is None else datetime.fromisoformat(str(row[0]))


def _ports(config: Config) -> Iterator[Finding]:
    if config.rehearsal is not None:
        return
    places = SlotMap(config.slots)
    present = {places.slot_of(port): port.device for port in present_ports()}
    for slot in config.slots:
        port = slot.port or present.get(slot.name)
        if port is None:
            continue  # said above
        if "://" not in port and not os.access(port, os.R_OK | os.W_OK):
            continue  # said above, too
        problem = _not_connectable(port) if "://" in port else _not_openable(Path(port))
        check = f"{_SLOTS}{slot.name}"
        if problem is None:
            yield ok(check, f"{port} can be opened")
        elif isinstance(problem, str):
            yield fail(check, f"{port}: {problem}", "see 'station slots list'")
        else:
            who = ", ".join(f"{name} (process {pid})" for pid, name in problem)
            yield fail(check, f"{port} is held by {who}", "end that program")


def _not_connectable(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _not_openable(path: Path) -> str | Sequence[tuple[int, str]] | None:
    """Return why a port can't be opened: a reason, or who holds it; nothing if it can."""
    if holders := list(_holders(path)):
        return holders
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror
    return None


def _holders(path: Path) -> Iterator[tuple[int, str]]:
    """Yield process id and name of those that have a port open, as far as this user may see them."""
    device = path.stat().st_rdev
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(_is_device(entry, device) for entry in (process / "fd").iterdir()):
                yield int(process.name), (process / "comm").read_text(errors="replace").strip()


def _is_device(entry: Path, device: int) -> bool:
    try:
        return entry.stat().st_rdev == device
    except OSError:
        return False
