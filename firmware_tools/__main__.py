"""``python -m firmware_tools``: a virtual line in a process of its own.

For engineers who want boards to try things on, and for benchmarks, where the line must not share an interpreter with
the station. Speaks JSON lines on stdout and takes commands on stdin; ``docs/virtual-line.md`` lists them.
"""

import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from firmware_tools.errors import FirmwareToolsError, LineError
from firmware_tools.virtual_line.faults import Faults, FlashDeath
from firmware_tools.virtual_line.line import DEFAULT_MACHINE, MACHINES, VirtualBoard, VirtualLine
from firmware_tools.virtual_line.personas import DEFAULT_PERSONA, PERSONAS
from firmware_tools.virtual_line.wire import Cut, Wire

_VERBS: Final = {
    "off": VirtualBoard.power_off,
    "on": VirtualBoard.power_on,
    "reset": VirtualBoard.reset,
    "unplug": VirtualBoard.unplug,
    "plug": VirtualBoard.plug,
    "blank": VirtualBoard.replace_by_blank,
    "ship": VirtualBoard.ship,
    "swap": VirtualBoard.swap,
}
"""Commands about one board; each is followed by the name of its slot."""

_said = threading.Lock()


def _say(event: str, **facts: object) -> None:
    """Write one JSON line; the cut of a wire speaks in a thread of its own."""
    with _said:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()


def _describe(board: VirtualBoard) -> Mapping[str, object]:
    return {
        "slot": board.slot,
        "port": str(board.port),
        "hardware_id": board.hardware_id,
        "storage": str(board.storage),
    }


def _condition(board: VirtualBoard) -> Mapping[str, object]:
    traffic = board.traffic()
    wire = None if traffic is None else {direction.value: asdict(lane) for direction, lane in traffic.items()}
    return {
        **_describe(board),
        "plugged": board.plugged,
        "running": board.running,
        "exit_status": board.exit_status,
        "wire": wire,
    }


def _obey(line: VirtualLine, command: str) -> None:
    match command.split():
        case []:
            return
        case ["stats"]:
            _say("stats", boards=[_condition(board) for board in line.boards])
        case [verb, slot] if verb in _VERBS:
            board = line.board(slot)
            _VERBS[verb](board)
            _say("done", command=command, **_describe(board))
        case ["clone" | "twin" as verb, original, slot] if original != slot:
            board = line.board(slot)
            board.clone(line.board(original), hardware_id=verb == "twin")
            _say("done", command=command, **_describe(board))
        case ["die", slot, *numbers] if 0 < len(numbers) <= len(("operation", "torn")):
            board = line.board(slot)
            board.faults = Faults(deaths=(_death(command, numbers),))
            _say("done", command=command, **_describe(board))
        case _:
            verbs = ", ".join(f"{verb} SLOT" for verb in _VERBS)
            more = "clone SLOT SLOT, twin SLOT SLOT, die SLOT OPERATION [TORN], stats"
            raise LineError(f"unknown command; there are {verbs}, {more}", code="line.command")


def _death(command: str, numbers: Sequence[str]) -> FlashDeath:
    try:
        return FlashDeath(*map(int, numbers))
    except ValueError:
        raise LineError(f"{command}: give an operation, 1 or more, and bytes, 0 or more", code="line.command") from None


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _on_cut(board: VirtualBoard, cut: Cut) -> None:
    _say("cut", slot=board.slot, kind=cut.kind.value, direction=cut.direction.value, after=cut.after)


@click.group()
def main() -> None:
    """Tools for firmware: a line of virtual boards, and what they run."""


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--boards", type=click.IntRange(1, 1000), default=8, show_default=True, help="Number of slots.")
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    help="Device program, or bootloader of an emulated board; built into DIRECTORY if not given.",
)
@click.option(
    "--machine",
    type=click.Choice(MACHINES),
    default=DEFAULT_MACHINE,
    show_default=True,
    help="What boards are made of.",
)
@click.option(
    "--image-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Public key (PEM, P-256) for images: boards get a bootloader, blank ones wait for an image.",
)
@click.option("--model", default="reference-device", show_default=True, help="Product model of the boards.")
@click.option("--persona", type=click.Choice(list(PERSONAS)), default=DEFAULT_PERSONA, help="What the boards are.")
@click.option("--raw", is_flag=True, help="Boards speak SMP without lines of Base64, and write no log.")
@click.option("--baud", type=click.IntRange(min=1), help="Pace every wire to so many bits a second (8N1).")
@click.option("--flip-rate", type=float, default=0.0, help="Probability that a byte has a bit turned on the wire.")
@click.option("--lose-rate", type=float, default=0.0, help="Probability that a byte is lost.")
@click.option("--double-rate", type=float, default=0.0, help="Probability that a byte arrives twice.")
@click.option("--log-rate", type=float, default=0.0, help="Probability that a line of log comes before a byte.")
@click.option("--answer-delay", type=float, default=0.0, help="Seconds that a board thinks before it answers.")
@click.option("--byte-delay", type=float, default=0.0, help="Seconds that a board takes for each byte it sends.")
@click.option("--wire", "has_wire", is_flag=True, help="Count bytes (see stats), even if nothing is paced or harmed.")
@click.option("--seed", type=int, help="Of hardware ids and harm, so that a run can be repeated.")
@click.option("--trace", is_flag=True, help="Each board writes one JSON line a request to its folder.")
def line(  # noqa: PLR0913 - one argument an option
    *,
    directory: Path,
    boards: int,
    program: Path | None,
    machine: str,
    image_key: Path | None,
    model: str,
    persona: str,
    raw: bool,
    baud: int | None,
    flip_rate: float,
    lose_rate: float,
    double_rate: float,
    log_rate: float,
    answer_delay: float,
    byte_delay: float,
    has_wire: bool,
    seed: int | None,
    trace: bool,
) -> None:
    """Run virtual boards in DIRECTORY until stdin ends or SIGTERM comes.

    Example: python -m firmware_tools line /tmp/line --boards 8 --baud 115200

    Commands on stdin: off, on, reset, unplug, plug, blank, ship, swap, each with a slot; clone and twin, each with two
    slots; die with a slot and a flash operation; and stats.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        wire = Wire(
            baud=baud,
            flip_rate=flip_rate,
            lose_rate=lose_rate,
            double_rate=double_rate,
            log_rate=log_rate,
            answer_delay=answer_delay,
            byte_delay=byte_delay,
            seed=seed or 0,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        with VirtualLine(
            program or _build(directory / "build", machine),
            directory,
            boards,
            model=model,
            persona=persona,
            machine=machine,
            image_key=image_key,
            wire=wire if has_wire or wire != Wire(seed=wire.seed) else None,
            seed=seed,
            arguments=("--raw",) if raw else (),
            trace=trace,
            on_cut=_on_cut,
        ) as running:
            for board in running.boards:
                _say("board", **_describe(board))
            _say("ready", boards=boards)
            for command in sys.stdin:
                try:
                    _obey(running, command.strip())
                except FirmwareToolsError as error:
                    _say("error", command=command.strip(), code=error.code, message=str(error))
    except FirmwareToolsError as error:
        raise click.ClickException(str(error)) from None


def _build(folder: Path, machine: str) -> Path:
    from firmware_tools.build import build_device, build_firmware  # noqa: PLC0415 - a given program needs no compiler

    return build_device(folder) if machine == DEFAULT_MACHINE else build_firmware(folder, machine=machine).bootloader


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--machine", type=click.Choice(MACHINES), default=DEFAULT_MACHINE, show_default=True)
def build(*, directory: Path, machine: str) -> None:
    """Build the reference device in DIRECTORY, and say where it is and how an image of it is to be signed.

    Example: python -m firmware_tools build build --machine ast1030
    """
    from firmware_tools.build import build_device, build_firmware  # noqa: PLC0415 - the other command may not need it

    try:
        if machine == DEFAULT_MACHINE:
            built: dict[str, object] = {"program": str(build_device(directory))}
        else:
            firmware = build_firmware(directory, machine=machine)
            built = {name: str(part) if isinstance(part, Path) else part for name, part in asdict(firmware).items()}
    except FirmwareToolsError as error:
        raise click.ClickException(str(error)) from None
    sys.stdout.write(json.dumps(built) + "\n")


if __name__ == "__main__":
    main()
