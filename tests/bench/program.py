"""The command ``./run bench``."""

import os
import platform
import sys
import tempfile
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench.figures import BenchError, Benchmark, Effort, Figure, JsonReport, TableReport
from bench.place import ROOT

SUMMARIES: Final = {
    "line": "64 virtual boards at once: units a second, memory",
    "wire": "boards behind a paced wire: how near a unit comes to the time its bytes need",
    "flash": "firmware over SMP: how much of the wire an upload fills, beside smpclient's own",
    "nordic": "virtual modems and Zephyr shells: beside device_credentials_installer of nRF Cloud Utils",
    "issue": "certificates a second with journal, on one core",
    "batch": "station ca sign-batch: certificates a second, beside the token alone and openssl ca",
    "export": "a million units to each cloud: seconds and memory",
    "revocation": "OCSP answers a second, and a list of a million entries",
    "rom_loaders": "sixteen esptool flashes at once on paced wires, beside one alone",
    "emulated": "four emulated microcontrollers, from blank flash to PASS",
    "cli": "how long 'station --help' takes",
    "faults": "kills of station, boards and HSM at random moments, and bits turned on the wire: nothing lost",
    "hostile": "a million malformed answers: no crash, no hang, no certificate that must not be",
    "ledger": "sealing many events, what one more costs, and the offline check of all",
    "scale": "a manifest of a million units: issuing, look-ups, opening, beside an empty one",
}
"""The benchmarks, in the order in which they run."""

CORES: Final = 2
"""The claims are about a small machine; on a larger one no more than these are used."""

BUSY: Final = 0.5
"""Load from which on other programs are in the way."""

_OTHERS: Final = "of all processor time; the kernel's own work for our disk and wires counts as others"

EXIT_MISSED: Final = 1
EXIT_BROKEN: Final = 3

_EPILOG: Final = "\n".join(
    [
        "\b",
        "Benchmarks:",
        *(f"  {name:<11} {summary}" for name, summary in SUMMARIES.items()),
        "",
        "\b",
        "Examples:",
        "  ./run bench",
        "  ./run bench issue cli",
        "  ./run bench --faults      (the same as: faults --long)",
        "  ./run bench --json > figures.jsonl",
        "",
        "Exit status: 0 all limits are met, 1 one is missed, 2 the command line is wrong, 3 it could not be measured.",
    ]
)


@click.command(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(SUMMARIES)))
@click.option("--long", "effort", flag_value=Effort.LONG, type=Effort, help="Repeat more; takes many minutes.")
@click.option("--faults", "hurt", is_flag=True, help="Two thousand kills and two noisy wires; goes on where it was.")
@click.option("--short", "effort", flag_value=Effort.SHORT, type=Effort, help="Only see that each works.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "build" / "bench",
    help="Where to work; its disk is the one that is measured.  [default: build/bench]",
)
def main(names: tuple[str, ...], effort: Effort | None, *, hurt: bool, as_json: bool, folder: Path) -> None:
    """Measure what the project claims, and fail if a limit is missed.

    Runs the benchmarks that are named, or all. Limits stand beside what they are a share of, measured in the same run.
    Use a quiet machine.
    """
    if hurt:
        names, effort = (*names, "faults"), Effort.LONG if effort is None else effort
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    report = JsonReport() if as_json else TableReport(Console(highlight=False, markup=False, emoji=False))
    report.machine(_machine())
    if (load := os.getloadavg()[0]) > BUSY:
        _say(f"the machine is busy (load {load:.1f}): timed figures will be worse than they are")
    missed: list[str] = []
    for name in names or SUMMARIES:
        try:
            figures = _measured(name, folder, Effort.NORMAL if effort is None else effort)
        except BenchError as error:
            click.echo(f"bench: {name}: {error}", err=True)
            sys.exit(EXIT_BROKEN)
        report.benchmark(name, figures)
        missed += [f"{name}: {figure}" for figure in figures if not figure.met]
    if missed:
        click.echo(f"bench: missed: {'; '.join(missed)}", err=True)
        sys.exit(EXIT_MISSED)


def _measured(name: str, folder: Path, effort: Effort) -> list[Figure]:
    measure: Benchmark = import_module(f"bench.{name}").measure
    folder.mkdir(parents=True, exist_ok=True)
    busy, ours = _busy_seconds()
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as work:
        figures = list(measure(Path(work), effort, _say))
    busy, ours = (after - before for after, before in zip(_busy_seconds(), (busy, ours), strict=True))
    others = max(0.0, busy - ours) / max(busy, 1e-9) * 100
    return [*figures, Figure("other programs meanwhile", others, "%", note=_OTHERS)]


def _busy_seconds() -> tuple[float, float]:
    """Return the seconds of processor time that all programs have taken, and that ours have (``proc_stat(5)``).

    A process counts as ours when it has ended and was waited for.
    """
    try:
        user, nice, system, _idle, _wait, *more = map(int, _lines(Path("/proc/stat"))[0].split()[1:9])
    except (IndexError, ValueError):
        return 0.0, 0.0
    times = os.times()
    ours = times.user + times.system + times.children_user + times.children_system
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK"), ours


def _say(text: str) -> None:
    click.echo(click.style(text, dim=True), err=True)


def _machine() -> list[tuple[str, str]]:
    """Say what the figures were measured on."""
    model = "unknown processor"
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return [
        ("date", datetime.now().astimezone().isoformat(timespec="seconds")),
        ("processor", f"{model}, {len(os.sched_getaffinity(0))} cores used of {os.cpu_count()}"),
        ("system", f"Linux {platform.release()}, Python {platform.python_version()}"),
        ("load", f"{os.getloadavg()[0]:.2f}"),
    ]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
