"""A rehearsal of the whole line: virtual boards, a SoftHSM token, and everything else as in production.

The folder of a demo is a line like any other and can be worked with by all commands. Running the demo again is the next
day on the line: boards that passed have been shipped and blank ones stand in their slots; a board that was half done,
because somebody killed the demo, is still there and goes on.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.personas import DEFAULT_PERSONA
from softhsm import SoftHsm
from station.config import Config, load
from station.config.folder import CONFIGURATION, OEM_KEY, RehearsalFirmware, make_line
from station.errors import ConfigError
from station.line.rehearsal import described, program_of
from station.manifest import ManifestReader, UnitState
from station.orders.rehearsal import ORDER_SUFFIX

CA_NAME: Final = "REHEARSAL - not for production"
"""Stands in every certificate of a demo, so that none can pass for a real one."""

ORDER: Final = "REHEARSAL"

QUANTITY: Final = 1_000_000
"""Units in the order: more demos than anybody runs."""

BEGUN: Final = {
    *("tokens", "ca", "firmware", "boards", OEM_KEY, f"{ORDER}{ORDER_SUFFIX}", f".{ORDER}{ORDER_SUFFIX}.new"),
    *("manifest.db", "manifest.db.lock", "manifest.db.new", "manifest.db-wal", "manifest.db-shm"),
}
"""What a demo leaves that was killed while it made its folder; the next one goes on from there."""


def prepare_demo(  # noqa: PLR0913 - what a demo is made of, by name
    directory: Path,
    *,
    boards: int,
    baud: int | None,
    say: Callable[[str], None],
    machine: str | None = None,
    persona: str = DEFAULT_PERSONA,
) -> Config:
    """Make the demo's folder, or find it made, and put blank boards where finished ones stood.

    Args:
        directory: the demo's folder; made if missing.
        boards: how many virtual boards, all at once.
        baud: speed of the wires, in bits a second; None for as fast as the machine can.
        machine: what blank boards are made of, which are flashed first (``firmware_tools.virtual_line.line.MACHINES``);
            None: boards that come flashed.
        say: told what is done, where it takes more than a moment.
        persona: what they are (``firmware_tools.virtual_line.personas``).

    Returns:
        The configuration, ready for ``run_station``.

    Raises:
        ConfigError: the folder is there and is no demo's.
        StationError, HsmError, FirmwareToolsError: a part can't be made.
    """
    path = directory / CONFIGURATION
    if not path.exists():
        if directory.exists() and {entry.name for entry in directory.iterdir()} - BEGUN:
            raise ConfigError(f"{directory} is not empty and not a demo; name another folder with --dir")
        say(f"making SoftHSM tokens in {directory / 'tokens'} and a CA named {CA_NAME!r} in them")
        make_line(
            directory,
            name="rehearsal",
            ca_name=CA_NAME,
            order=ORDER,
            quantity=QUANTITY,
            boards=boards,
            firmware=None if machine is None else _firmware(directory, machine, say),
            persona=persona,
        )
    config = load(path)
    if config.rehearsal is None or config.order.name != ORDER:
        raise ConfigError(f"{directory} is a line, but not a demo; name another folder with --dir")
    made_of = None if config.rehearsal.image_key is None else config.rehearsal.machine
    if made_of != machine:
        raise ConfigError(f"{directory} is a demo with other boards; name another folder with --dir")
    if config.rehearsal.persona != persona:
        raise ConfigError(
            f"{directory} is a demo with boards '{config.rehearsal.persona}', not '{persona}'; name another folder with"
            " --dir, or leave --persona as it was"
        )
    rehearsal = replace(config.rehearsal, boards=boards, baud=baud)
    say(f"building the reference device in {rehearsal.directory / 'build'}, unless it is there")
    program = program_of(rehearsal)
    if config.station.manifest.exists():
        _ship_finished(config.station.manifest, described(rehearsal, program, config.product.model))
    return replace(config, rehearsal=rehearsal)


def _firmware(directory: Path, machine: str, say: Callable[[str], None]) -> Callable[[SoftHsm], RehearsalFirmware]:
    """Return what makes the firmware of the demo, once there are tokens."""
    from station.line.demo_firmware import make_firmware  # noqa: PLC0415  # most demos need none

    build = directory / "boards" / "build"
    return lambda tokens: make_firmware(directory, tokens, machine=machine, build=build, say=say)


def _ship_finished(manifest: Path, boards: VirtualLine) -> None:
    """Take boards that passed in an earlier demo out, and put blank ones into their slots."""
    with ManifestReader(manifest) as reader:
        passed = {unit.hardware_id for unit in reader.units(state=UnitState.PASSED)}
    with boards as line:
        for board in line.boards:
            if board.hardware_id in passed:
                line.ship(board)
