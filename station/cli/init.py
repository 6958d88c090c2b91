"""``station init``."""

from pathlib import Path
from typing import Final

import click

from firmware_tools.virtual_line.personas import DEFAULT_PERSONA, PERSONAS
from station.cli.commands import command
from station.config import MAX_REHEARSAL_BOARDS
from station.config.folder import ORDER, QUANTITY, make_line
from station.errors import ConfigError

DEVELOPMENT_NAME: Final = "DEVELOPMENT ONLY"
"""The name of a CA made by ``--softhsm``: none of its certificates can pass for a real one."""


@command(
    "init",
    examples=[
        "station init line-1",
        "station init try --softhsm --rehearsal 4 && station run --config try/station.toml",
    ],
)
@click.argument("directory", type=click.Path(file_okay=False), default=".")
@click.option("--softhsm", "with_softhsm", is_flag=True, help="Also make SoftHSM tokens and a CA for development.")
@click.option(
    "--rehearsal",
    "boards",
    type=click.IntRange(1, MAX_REHEARSAL_BOARDS),
    metavar="BOARDS",
    help="Let so many virtual boards fill the slots.",
)
@click.option(
    "--persona",
    type=click.Choice(list(PERSONAS)),
    default=DEFAULT_PERSONA,
    show_default=True,
    help="What virtual boards are (docs/drivers.md).",
)
def init(directory: str, *, with_softhsm: bool, boards: int | None, persona: str) -> None:
    """Write a commented station.toml into a folder.

    The folder is DIRECTORY, or the one you are in; it is made if it is missing. The serial ports that are plugged in
    now become the slots. Nothing that is there is overwritten. With --softhsm, 'station run' works at once.
    """
    folder = Path(directory)
    if persona != DEFAULT_PERSONA and not boards:
        raise ConfigError("--persona says what virtual boards are; add --rehearsal BOARDS, or leave it out")
    path = make_line(folder, ca_name=DEVELOPMENT_NAME if with_softhsm else None, boards=boards, persona=persona)
    click.echo(f"wrote {path}")
    if with_softhsm:
        click.echo(f"made a CA for development in {folder / 'ca'}, its keys in SoftHSM tokens in {folder / 'tokens'}")
        click.echo(f"made an order for {QUANTITY} units, signed in the token 'oem', and imported it: {ORDER}")
        click.echo(f"next: station run --config {path}")
    else:
        click.echo(f"next: edit it, import an order ('station order --help'), then station check --config {path}")
