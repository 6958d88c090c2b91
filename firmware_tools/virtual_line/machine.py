"""What the boards of a virtual line are made of: how one is started, and how its reset button is pressed.

Each kind of machine is one class that meets ``Machine``. ``LinuxMachine`` is the reference device as a process of its
own; ``emulated_board.py`` has one that runs a microcontroller in QEMU. A board itself, its slot and its cable are the
business of ``board.py``.
"""

import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from firmware_tools.errors import LineError
from firmware_tools.virtual_line.faults import FlashDeath, StateDeath

__all__ = ["FLASH", "LinuxMachine", "Machine", "Supply", "read_image_key"]

FLASH: Final = "flash.bin"
"""The flash of a board, in the folder of the board."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What a board is given power with."""

    storage: Path
    """Folder of its flash; it exists."""
    hardware_id: str
    uart: int
    """File descriptor of its console."""
    control: int | None
    """File descriptor of our line to it, for machines that have one."""
    death: FlashDeath | StateDeath | None = None
    """What it will die of."""
    trace: Path | None = None
    """Where it writes a line for each request."""


class Machine(Protocol):
    """One kind of board."""

    needs_socket: bool
    """Its console can't be a terminal; a relay has to stand between."""
    has_control: bool
    """It is handed one end of a socket as ``Supply.control``; ``reset`` gets the other."""

    def command(self, supply: Supply) -> Sequence[str]:
        """Make the board's folder ready, and return what to start.

        Raises:
            LineError: this machine can't do what the supply asks for.
        """

    def reset(self, control: socket.socket, /) -> None:
        """Press the reset button of a board that runs.

        Raises:
            LineError: the machine does not answer.
        """

    def halt(self, control: socket.socket, /) -> None:
        """Stop the board where it is, just before its power is cut; never fails."""

    def copy_flash(self, original: Path, to: Path) -> None:
        """Copy what a flash programmer would copy from one board to another; both are without power."""


def read_image_key(path: Path) -> bytes:
    """Read the public key that images have to be signed with.

    Args:
        path: PEM, P-256.

    Returns:
        The point, uncompressed (SEC 1, 2.3.3): 65 bytes.

    Raises:
        LineError: the file can't be read, or holds another kind of key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise LineError(f"can't read the image key {path}: {error.strerror}", code="line.image_key") from error
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LineError(f"{path} is no public key of P-256 in PEM: give the image key", code="line.image_key")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class LinuxMachine:
    """The reference device as a Linux process."""

    needs_socket = False
    has_control = False

    def __init__(self, program: Path, *arguments: str) -> None:
        """Describe the boards.

        Args:
            program: as ``firmware_tools.build.build_device`` makes it.
            arguments: that all boards have in common.
        """
        self._command = (str(program.absolute()), "--die-with-parent", *arguments)

    def command(self, supply: Supply) -> Sequence[str]:
        """Return the program and its arguments."""
        return [
            *self._command,
            *("--storage", str(supply.storage)),
            *("--hardware-id", supply.hardware_id),
            *("--fd", str(supply.uart)),
            *(() if supply.death is None else supply.death.arguments),
            *(() if supply.trace is None else ("--trace", str(supply.trace))),
        ]

    def reset(self, _control: socket.socket, /) -> None:
        """There is no button: who wants a reset cuts the power."""
        raise LineError("a board of this machine has no reset line", code="line.machine")

    def halt(self, _control: socket.socket, /) -> None:
        """Nothing to do: what the process has written stays when it is killed."""

    def copy_flash(self, original: Path, to: Path) -> None:
        """Copy the file."""
        shutil.copyfile(original, to)
