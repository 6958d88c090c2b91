"""An emulated microcontroller as a board: QEMU's ``ast1030-evb`` with the bootloader of the reference device.

What is real: the Cortex-M4 code of bootloader and application, down to the registers of UART, flash controller and
random number generator; the NOR flash, which is the file ``flash.bin`` in the board's folder and keeps what was
programmed when QEMU is killed; reset (``system_reset`` over QMP). What is modelled:

- *Fuses.* The part's one-time programmable memory is the last sector of the flash: identity, the key for images, and a
  byte that is 0 once the debug port is closed. The sector is burned here, when a board gets power: it belongs to the
  part, so a copied flash does not carry it along.
- *The first stage.* A real part would start the bootloader out of its flash; QEMU puts it into RAM (``-kernel``).
- *Speed.* QEMU runs as fast as it can; the wire of the line paces the bytes.

QEMU's own pseudo-terminal holds back the last byte of a message, so the console is a socket, and a ``Relay`` carries
it to the terminal of the slot.
"""

import contextlib
import shutil
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from firmware_tools.errors import LineError, ToolMissing
from firmware_tools.virtual_line.machine import FLASH, Supply

__all__ = ["Ast1030Machine"]

FLASH_SIZE: Final = 1 << 20
"""Bytes of a w25q80bl."""

FUSES: Final = FLASH_SIZE - 4096
"""Where the modelled fuses begin; ``reference_device/port/ast1030/fuses.c`` reads them."""

_FUSES: Final = struct.Struct("<4s12x64s32s65s")
_MAGIC: Final = b"FUS1"
_PACKAGES: Final = "qemu-system-arm"
_PATIENCE: Final = 5.0
"""Seconds that QEMU gets to answer on its control line."""


class Ast1030Machine:
    """Boards in QEMU."""

    needs_socket = True
    has_control = True

    def __init__(self, bootloader: Path, *, model: str, image_key: bytes) -> None:
        """Describe the boards.

        Args:
            bootloader: ELF file, as ``firmware_tools.build.build_firmware`` makes it.
            model: product model, burned into the fuses; up to 32 printable ASCII characters.
            image_key: the point of the public key that images have to be signed with, 65 bytes.

        Raises:
            ToolMissing: there is no QEMU.
        """
        for tool, package in (("qemu-system-arm", _PACKAGES), ("setpriv", "util-linux")):
            if shutil.which(tool) is None:
                raise ToolMissing(f"{tool} is missing: apt-get install {package}", tool=tool)
        self._bootloader = bootloader.absolute()
        self._model = model
        self._image_key = image_key

    def command(self, supply: Supply) -> Sequence[str]:
        """Burn the fuses of the board, and return QEMU with its arguments."""
        if supply.death is not None or supply.trace is not None:
            raise LineError(
                "an emulated board knows neither deaths at a flash operation nor traces: use a board of machine linux",
                code="line.machine",
            )
        flash = supply.storage / FLASH
        self._burn(flash, supply.hardware_id)
        return [
            # The signal reaches QEMU: it survives the exec.
            *("setpriv", "--pdeathsig", "KILL", "--", "qemu-system-arm"),
            *("-nodefaults", "-display", "none", "-machine", "ast1030-evb,fmc-model=w25q80bl"),
            *("-drive", f"file={str(flash).replace(',', ',,')},format=raw,if=mtd"),
            # One worker writes the file, in order: with more, a record could be there whose forerunner is not.
            *("-object", "main-loop,id=main-loop,thread-pool-max=1"),
            *("-kernel", str(self._bootloader)),
            *("-chardev", f"socket,id=console,fd={supply.uart}", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=control,fd={supply.control}", "-mon", "chardev=control,mode=control"),
        ]

    def reset(self, control: socket.socket, /) -> None:
        """Let QEMU reset the machine; RAM and flash stay."""
        _tell(control, "system_reset")

    def halt(self, control: socket.socket, /) -> None:
        """Stop the processor where it is, and let QEMU write to the file what the flash has taken.

        A real flash has no such delay. A board that is killed without this can lose what it programmed in its last
        milliseconds, the last first; never more.
        """
        with contextlib.suppress(LineError):  # it is killed in any case
            _tell(control, "stop")

    def copy_flash(self, original: Path, to: Path) -> None:
        """Copy the file; the fuses are burned anew when the board gets power, the debug port is as on a new part."""
        content = original.read_bytes()
        to.write_bytes(content[:FUSES] + b"\xff" * (FLASH_SIZE - FUSES))

    def _burn(self, flash: Path, hardware_id: str) -> None:
        if not flash.exists():
            fresh = flash.with_suffix(".new")
            fresh.write_bytes(b"\xff" * FLASH_SIZE)
            fresh.chmod(0o600)
            fresh.replace(flash)
        with flash.open("r+b") as file:
            file.seek(FUSES)
            file.write(_FUSES.pack(_MAGIC, hardware_id.encode(), self._model.encode(), self._image_key))


def _tell(control: socket.socket, command: str) -> None:
    """Send a command over QMP, and wait until it is done."""
    control.settimeout(_PATIENCE)
    try:
        # Capabilities are negotiated once; when asked again QEMU says no, and goes on.
        control.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "%b", "id": "this"}\n' % command.encode())
        answers = b""
        while b'"id": "this"' not in answers:
            more = control.recv(4096)
            if not more:
                raise LineError("QEMU has closed its control line", code="line.machine")
            answers += more
    except OSError as error:
        raise LineError(f"QEMU does not answer on its control line: {error}", code="line.machine") from error
