"""A production line without hardware: N reference devices, each behind a serial port of its own.

``VirtualLine`` starts the boards of one folder and gives each a port that stays::

    line/
        slot1 -> /dev/pts/4        the port; gone while unplugged
        slot2 -> /dev/pts/5
        E8F1-7C0A-11D2-93B6/       flash and log of a board; nothing but this makes it the same board again
        shipped/                   boards that were taken out by ``ship``
        line.json                  which board is in which slot
        line.lock                  held while a line runs here

A line in the same folder brings back the same boards. Boards die with the process that started them, however it ends.
Without a wire a device holds the master of its terminal itself and the line costs nothing while bytes flow; with a
``Wire`` every byte goes through ``relay.py``, which paces and harms it as ``wire.py`` says.

Use it as a context manager, plain or async; then call the verbs of its boards from wherever you like.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from firmware_tools.errors import LineDirectoryError, LineError
from firmware_tools.virtual_line.bench import Bench
from firmware_tools.virtual_line.board import VirtualBoard
from firmware_tools.virtual_line.emulated_board import Ast1030Machine
from firmware_tools.virtual_line.machine import LinuxMachine, Machine, read_image_key
from firmware_tools.virtual_line.personas import DEFAULT_PERSONA, PERSONAS
from firmware_tools.virtual_line.relay import WireThread
from firmware_tools.virtual_line.wire import Cut, Wire

__all__ = ["DEFAULT_MACHINE", "MACHINES", "VirtualBoard", "VirtualLine"]

DEFAULT_MACHINE: Final = "linux"
MACHINES: Final = (DEFAULT_MACHINE, "ast1030")
"""What boards may be made of: a Linux process, or a microcontroller in QEMU (``emulated_board.py``)."""

_BOARD_NAME: Final = re.compile(r"(?!slot\d*$|shipped$|build$|line\.)[0-9A-Za-z_:-][0-9A-Za-z._:-]{0,63}")
"""A hardware id of the provisioning group that can be the name of a folder beside our own files."""

_LOCK_PATIENCE: Final = 2.0
"""Seconds that boards of a line that was killed get to die."""

_FORMAT: Final = 1
"""Of ``line.json``."""


class VirtualLine:
    """N virtual boards in N slots."""

    def __init__(  # noqa: PLR0913 - each is a knob of its own, and all but three have a default
        self,
        program: Path,
        directory: Path,
        boards: int | Sequence[str],
        *,
        model: str = "reference-device",
        persona: str = DEFAULT_PERSONA,
        wire: Wire | Mapping[str, Wire] | None = None,
        seed: int | None = None,
        machine: str = DEFAULT_MACHINE,
        image_key: Path | None = None,
        arguments: Sequence[str] = (),
        trace: bool = False,
        on_cut: Callable[[VirtualBoard, Cut], None] = lambda _board, _cut: None,
    ) -> None:
        """Describe the line; nothing is started yet.

        Args:
            program: the device, as ``firmware_tools.build.build_device`` makes it; of an emulated machine the
                bootloader, as ``build_firmware`` makes it.
            directory: of the line; made if missing.
            boards: how many slots, or the hardware ids of the boards in them. With a number, boards that the folder
                knows come back, and new ones fill the slots that are left.
            model: product model the firmware calls itself.
            persona: what the boards are and which language they speak, a name of ``personas.py``.
            wire: between each port and its board, or for some slots only, by their names (``slot1`` and so on).
            seed: of the hardware ids of new boards; None: random.
            machine: what the boards are made of, a name of ``MACHINES``.
            image_key: public key (PEM, P-256) that images have to be signed with. Boards have a bootloader then: a
                blank one waits in serial recovery for an image. An emulated board always has one.
            arguments: more arguments for the program; not for an emulated board.
            trace: let each device write its ``VirtualBoard.trace``.
            on_cut: called, in a thread of the line, after the cut of a wire was carried out; must not close the line.

        Raises:
            LineError: a hardware id can't be used, or stands twice; there is no such persona or machine, or the
                machine can't have what is asked of it.
            ToolMissing: the machine's emulator is not installed.
        """
        self.directory: Final = directory.absolute()
        self.boards: list[VirtualBoard] = []
        """One a slot, in order, once the line is started."""
        if persona not in PERSONAS:
            raise LineError(f"there is no persona {persona!r}; there are {', '.join(PERSONAS)}", code="line.persona")
        self._machine = _build_machine(
            machine, program, model, image_key, trace=trace, persona=persona, arguments=arguments
        )
        self._wanted = boards
        self._wire = wire
        self._trace = trace
        self._on_cut = on_cut
        self._roster = _Roster(self.directory / "line.json", seed, has_uuids=PERSONAS[persona].has_uuids)
        self._stack = contextlib.ExitStack()
        if not isinstance(boards, int):
            _check_ids(boards)

    @property
    def ports(self) -> list[Path]:
        """The ports, in the order of the slots; they keep their names whatever happens to the boards."""
        return [board.port for board in self.boards]

    def board(self, slot: str) -> VirtualBoard:
        """Find a board by the name of its slot.

        Raises:
            LineError: there is no such slot.
        """
        for board in self.boards:
            if board.slot == slot:
                return board
        raise LineError(f"there is no slot {slot!r}; there are slot1 to slot{len(self.boards)}", code="line.no_slot")

    def ship(self, board: VirtualBoard) -> Path:
        """Take a finished board out, keep its flash under ``shipped/``, and put a blank one into its slot."""
        return board.ship()

    def start(self) -> None:
        """Plug every board in.

        Raises:
            LineDirectoryError: the folder can't be used, or another line runs in it.
            ProgramError: the device program is missing.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = os.open(self.directory / "line.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise LineDirectoryError(f"can't use {self.directory}: {error.strerror}") from error
            stack.callback(os.close, lock)
            self._take(lock)
            slots = self._roster.fill(self._wanted)
            wires = WireThread()
            stack.callback(wires.close)
            cutter = stack.enter_context(ThreadPoolExecutor(1, "virtual-line-cuts"))
            bench = Bench(
                directory=self.directory,
                machine=self._machine,
                trace=self._trace,
                wires=wires,
                starter=stack.enter_context(ThreadPoolExecutor(1, "virtual-line-starter")),
                cutter=cutter,
                lock=lock,
                fresh_id=self._roster.give_blank,
            )
            self.boards = [
                VirtualBoard(bench, slot, hardware_id, self._wire_of(slot), self._on_cut)
                for slot, hardware_id in slots.items()
            ]
            for board in self.boards:
                stack.callback(board.unplug)
                board.plug()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Unplug every board. May be called twice."""
        for board in self.boards:
            board.kill()  # all at once, so that closing waits for one death and not for each in turn
        self._stack.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> Self:
        """Start, without blocking the loop."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # the thread goes on all the same: let it end, and take the boards down again
            await asyncio.wait([starting])
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, without blocking the loop."""
        await asyncio.to_thread(self.close)

    def _wire_of(self, slot: str) -> Wire | None:
        return self._wire.get(slot) if isinstance(self._wire, Mapping) else self._wire

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LineDirectoryError(
                        f"another virtual line runs in {self.directory}, or a board of it still lives: end it first",
                        code="line.busy",
                    ) from None
                time.sleep(0.01)
            else:
                return


def _build_machine(  # noqa: PLR0913 - the line's own knobs, handed through
    name: str,
    program: Path,
    model: str,
    image_key: Path | None,
    *,
    trace: bool,
    persona: str,
    arguments: Sequence[str],
) -> Machine:
    if name not in MACHINES:
        raise LineError(f"there is no machine {name!r}; there are {', '.join(MACHINES)}", code="line.machine")
    key = None if image_key is None else read_image_key(image_key)
    if name == DEFAULT_MACHINE:
        bootloader = () if image_key is None else ("--bootloader", "--image-key", str(image_key.absolute()))
        language = () if persona == DEFAULT_PERSONA else ("--persona", persona)
        return LinuxMachine(program, "--model", model, *language, *bootloader, *arguments)
    if key is None:
        raise LineError("an emulated board runs signed images only: give an image key", code="line.image_key")
    if trace or arguments or persona != DEFAULT_PERSONA:
        raise LineError("an emulated board has no traces, personas or arguments", code="line.machine")
    return Ast1030Machine(program, model=model, image_key=key)


class _Roster:
    """Which board is in which slot, kept in a file."""

    def __init__(self, path: Path, seed: int | None, *, has_uuids: bool) -> None:
        self._path = path
        self._has_uuids = has_uuids
        self._seed = seed
        self._lock = threading.Lock()
        self._slots: dict[str, str] = {}
        self._made = 0
        """Blank boards that were ever made here; with a seed it tells their ids apart."""

    def fill(self, boards: int | Sequence[str]) -> dict[str, str]:
        """Return the hardware ids of the slots that are wanted, by slot; missing boards are made."""
        self._read()
        count = boards if isinstance(boards, int) else len(boards)
        names = [f"slot{number}" for number in range(1, count + 1)]
        if not isinstance(boards, int):  # a board that was elsewhere has left its slot
            self._slots = {name: kept for name, kept in self._slots.items() if kept not in boards}
        for number, name in enumerate(names):
            if not isinstance(boards, int):
                self._slots[name] = boards[number]
            elif name not in self._slots:
                self._slots[name] = self._blank_id()
        self._write()
        return {name: self._slots[name] for name in names}

    def give_blank(self, slot: str) -> str:
        """Put a new board into ``slot`` and return its hardware id; slots may ask at the same time."""
        with self._lock:
            self._slots[slot] = self._blank_id()
            self._write()
            return self._slots[slot]

    def _blank_id(self) -> str:
        """64 bits as four groups, such as ``E8F1-7C0A-11D2-93B6``: what a microcontroller's unique id looks like."""
        self._made += 1
        size = 16 if self._has_uuids else 8
        source = os.urandom(size) if self._seed is None else random.Random(f"{self._seed}/{self._made}").randbytes(size)  # noqa: S311 - names, not keys
        if self._has_uuids:
            return str(uuid.UUID(bytes=source, version=4))
        return source.hex("-", 2).upper()

    def _read(self) -> None:
        try:
            self._parse(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, LineError) as error:
            raise LineDirectoryError(
                f"{self._path} is not the list of a virtual line's boards ({error}): use another folder, or remove it",
                code="line.file_malformed",
            ) from error

    def _parse(self, content: Mapping[str, object]) -> None:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
        slots, made = content["slots"], content["made"]
        if not isinstance(slots, dict) or not isinstance(made, int):
            raise TypeError("slots or made has the wrong type")
        _check_ids(list(slots.values()))
        self._slots, self._made = slots, made

    def _write(self) -> None:
        content = {"format": _FORMAT, "made": self._made, "slots": self._slots}
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _check_ids(hardware_ids: Sequence[object]) -> None:
    for hardware_id in hardware_ids:
        if not isinstance(hardware_id, str) or not _BOARD_NAME.fullmatch(hardware_id):
            raise LineError(
                f"{hardware_id!r} can't be a hardware id: 1 to 64 letters, digits and . _ : -, not a name of the line's"
                " own files",
                code="line.hardware_id",
            )
    if len(set(hardware_ids)) != len(hardware_ids):
        raise LineError("a hardware id stands twice: each board needs its own", code="line.hardware_id")
