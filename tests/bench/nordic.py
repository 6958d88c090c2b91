"""Virtual nRF91 modems and Zephyr shells: beside ``device_credentials_installer`` of nRF Cloud Utils, same boards.

The installer gets a fresh board, a CA key in a file, and ``--verify``: key and CSR on the modem, certificate, read-back
of digests. It checks neither the CSR's signature nor the COSE's, and keeps no journal; the station does all of that,
and signs in a token. The installer is a command a unit, so its start belongs to the unit; how long that is, is told
beside it. The station runs already: of it the span from a board's arrival to its end counts.

Once with wires that take no time, and once paced at 115200 baud. There the station's bytes, 10 bits each, are told as
a share of its time, and the comparison has no limit: most of the time is the wire's.
"""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.figures import BenchError, Effort, Figure
from bench.place import ROOT, Place, device_program
from bench.processes import Board, StationRun, board_line


@dataclass(frozen=True)
class Kind:
    """One kind of board."""

    name: str
    options: tuple[str, ...]
    """Of the virtual line."""
    product: tuple[str, ...]
    """Lines of ``[product]``."""
    driver: str
    installer: tuple[str, ...] = ()
    """What the installer has to be told besides."""


KINDS: Final = (
    Kind(
        name="modem",
        options=("--persona", "nrf91", "--model", "nRF9151-LACA"),
        product=('model = "nRF9151-LACA"', "locks = []", 'accepts = ["digest", "attestation"]'),
        driver="nordic_at",
    ),
    Kind(
        name="shell",
        options=("--persona", "zephyr-shell", "--model", "widget"),
        product=('model = "widget"', "locks = []"),
        driver="zephyr_shell",
        installer=("--cmd-type", "nrf_cloud_cred_shell"),
    ),
)
AT_ONCE: Final = 32
ONE: Final = 5.0
"""How many times faster one unit has to be."""
MANY: Final = 50.0
"""How many times faster 32 at once have to be than the installer, one after another."""
BAUD: Final = 115200
INSTALLER: Final = "nrfcloud_utils.device_credentials_installer"
TOOL: Final = ROOT / "tests" / "peers" / "nrf_tool.py"


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    place, program = Place.make(work), device_program()
    _make_ca(work)
    loading = _timed([sys.executable, "-c", f"import serial.tools.list_ports, {INSTALLER}"], work)
    for kind in KINDS:
        # the short form sees one paced wire: the other kind's shows nothing more of what works
        paced = effort is not Effort.SHORT or kind is KINDS[0]
        for baud in (None, BAUD) if paced else (None,):
            yield from _beside(
                kind, place=place, program=program, work=work, baud=baud, effort=effort, say=say, loading=loading
            )


def _beside(
    kind: Kind,
    *,
    place: Place,
    program: Path,
    work: Path,
    baud: int | None,
    effort: Effort,
    say: Callable[[str], None],
    loading: float,
) -> Iterator[Figure]:
    repeats = effort.choose(1, 3, 9)
    many = effort.choose(4, AT_ONCE, AT_ONCE)
    where = f"{kind.name}: " if baud is None else f"{kind.name} at {baud}: "
    at = f"{kind.name}{baud}"
    say(f"{where}the installer, {repeats} times")
    with board_line(program, work / f"theirs-{at}", repeats, baud=baud, options=kind.options) as boards:
        theirs = median(_install(kind, board, work) for board in boards)
    say(f"{where}the station, {repeats} alone and {many} at once")
    with board_line(program, work / f"alone-{at}", repeats, baud=baud, options=kind.options) as boards:
        ours = median(_provision(kind, place, f"one-{at}-{board.slot}", [board]) for board in boards)
    with board_line(program, work / f"ours-{at}", many, baud=baud, options=kind.options) as boards:
        at_once = _provision(kind, place, f"many-{at}", boards)
    yield Figure(f"{where}the installer, one unit", theirs, "s", note=f"{loading:.2f} s of it are its start")
    yield Figure(f"{where}the station, one unit", ours, "s", note=f"median of {repeats}")
    if baud is not None:
        share = _bytes_of(work / f"one-{at}-slot1" / "transcripts") * 10 / baud / ours * 100
        yield Figure(f"{where}share of the wire in that", share, "%", note="bytes both ways, from a unit's transcript")
    yield Figure(f"{where}one unit, times faster than the installer", theirs / ours, at_least=None if baud else ONE)
    yield Figure(
        f"{where}many at once, times faster than one after another",
        many * theirs / at_once,
        at_least=None if baud else MANY * many / AT_ONCE,
        note=f"{many} at once in {at_once:.2f} s; the installer's time is that of one, times {many}",
    )


def _provision(kind: Kind, place: Place, name: str, boards: list[Board]) -> float:
    """Let the station provision boards; return seconds from the first one's arrival to the last one's end."""
    ports = [board.port for board in boards]
    run = place.run(name, ports, quantity=len(boards), product=kind.product, driver=kind.driver)
    end = StationRun(run.config, once=True).end()
    if end.summary["passed"] != len(boards):
        failed = [event.facts["detail"] for event in end.events if event.says("failed")]
        raise BenchError(f"{end.summary['passed']} of {len(boards)} boards passed: {failed}")
    return float(end.summary["seconds"])


def _bytes_of(transcripts: Path) -> int:
    """Return the bytes that one unit took, both ways, by its transcript."""
    (path,) = transcripts.iterdir()
    texts = re.findall(r'^[0-9.]+ [<>] (".*")$', path.read_text(), re.MULTILINE)
    return sum(len(ast.literal_eval(f"b{text}")) for text in texts)


def _install(kind: Kind, board: Board, work: Path) -> float:
    arguments = ["--ca", "ca.pem", "--ca-key", "ca.key", "--verify", "--plain", "--csv", f"{board.hardware_id}.csv"]
    return _timed([sys.executable, str(TOOL), str(board.port), INSTALLER, *arguments, *kind.installer], work)


def _timed(command: list[str], folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"nRF Cloud Utils failed: {json.dumps((done.stderr or done.stdout).strip()[-200:])}")
    return time.monotonic() - began


def _make_ca(folder: Path) -> None:
    """Make a CA in two PEM files, as the installer wants it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "BENCHMARK")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9999))
    (folder / "ca.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
