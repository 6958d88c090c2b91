"""``station demo``."""

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from firmware_tools.virtual_line.personas import DEFAULT_PERSONA, PERSONAS
from station.cli.commands import command, json_option
from station.cli.root import EXIT_FAILURE
from station.cli.run import serve
from station.config import BAUD_RATES, MAX_REHEARSAL_BOARDS
from station.config.folder import CONFIGURATION
from station.line.demo import prepare_demo
from station.manifest import ManifestReader, UnitState

BOARDS: Final = 8
EMULATED_BOARDS: Final = 4
"""Each takes a good part of a core while it boots, makes its key and signs."""


class _Speed(click.IntRange):
    """Bits a second of a UART, or 0 for no wire at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Read a number; click's signature."""
        if str(value) == "0":
            return 0
        speed = super().convert(value, param, ctx)
        assert isinstance(speed, int)  # noqa: S101 (IntRange's)
        return speed


@command(
    "demo",
    examples=[
        "station demo",
        "station demo --boards 16 --baud 921600 --dir /tmp/demo",
        "station demo --persona nrf91 --dir modems",
        "station demo --emulated",
    ],
)
@click.option(
    "--boards",
    type=click.IntRange(1, MAX_REHEARSAL_BOARDS),
    help="How many virtual boards.  [default: 8; 4 emulated ones]",
)
@click.option(
    "--flash",
    "machine",
    flag_value="linux",
    help="Boards come blank, with a bootloader: make, sign and pack firmware, and flash it first.",
)
@click.option(
    "--emulated",
    "machine",
    flag_value="ast1030",
    help="Boards come blank, and are microcontrollers in QEMU, down to UART, flash and random numbers.",
)
@click.option(
    "--baud",
    type=_Speed(min(BAUD_RATES), max(BAUD_RATES)),
    default=115200,
    show_default=True,
    help="Speed of the wires, as a real UART has it; 0 for no wire, as fast as this machine can.",
)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False), default="demo", show_default=True, help="Its folder."
)
@click.option(
    "--persona",
    type=click.Choice(list(PERSONAS)),
    default=DEFAULT_PERSONA,
    show_default=True,
    help="What the boards are: modems, boards with a shell (docs/drivers.md).",
)
@json_option("Write one JSON object a line: each change of a slot, and a summary at the end.")
def demo(  # noqa: PLR0913 - one argument an option
    *, boards: int | None, machine: str | None, baud: int, directory: str, persona: str, as_json: bool
) -> None:
    """Rehearse with virtual boards.

    Everything but the plastic is real: each board is a process of the compiled reference firmware on a tty of its own,
    the issuing key lives in a SoftHSM token, the manifest is what 'station run' writes. The CA says REHEARSAL in its
    name. Run it again, and it is the next day: boards that passed have been shipped, and blank ones stand in their
    slots; a board that was half done, because the demo was killed, goes on. Exit 1 if a board failed.

    With --flash or --emulated the firmware is real too: release key and image key are made in a SoftHSM token, the
    image is built and signed, the bundle is packed and signed, and the order names it. One folder holds one kind of
    boards.
    """
    if machine and persona != DEFAULT_PERSONA:
        raise click.UsageError(f"boards '{persona}' come flashed; leave out --persona, or --flash and --emulated")
    if boards is None:
        boards = EMULATED_BOARDS if machine == "ast1030" else BOARDS
    say = partial(click.secho, dim=True, err=True)
    config = prepare_demo(Path(directory), boards=boards, baud=baud or None, machine=machine, persona=persona, say=say)
    summary = serve(config, once=True, as_json=as_json)
    if not as_json:
        manifest = Path(directory) / "manifest.db"
        click.echo(f"\nThe manifest is {manifest}. Look at it:")
        for line in ("unit list", *_shows(manifest), "manifest export csv", "doctor"):
            click.echo(f"  {_how_to_call()} {line} --config {Path(directory) / CONFIGURATION}")
    if summary.failed or not summary.passed + summary.done_before:
        sys.exit(EXIT_FAILURE)


def _shows(manifest: Path) -> Iterator[str]:
    """Name a board that can be shown: the first one that passed, if there is one."""
    with ManifestReader(manifest) as reader:
        for unit in reader.units(state=UnitState.PASSED, limit=1):
            yield f"unit show {unit.product_serial}"


def _how_to_call() -> str:
    """Return what to type for ``station`` here: its path where a shell does not find it."""
    return "station" if shutil.which("station") else os.path.relpath(sys.argv[0])
