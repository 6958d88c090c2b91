"""What can go wrong with images, boards and the tools that build them.

::

    FirmwareToolsError
    ├── BundleError            a firmware bundle can't be used
    ├── SigningError           an image can't be signed, or not with this key
    ├── UnitFileError          a file with the data of one unit can't be made
    ├── FlashError             a board can't be flashed
    ├── BuildError             the reference device can't be built
    │   ├── ToolMissing        a compiler, or a library it needs, is not installed
    │   └── SourceMissing      a source tree that was asked for is not there
    └── LineError              the virtual line can't do what it is asked to
        ├── LineDirectoryError its folder can't be used
        └── ProgramError       the device program does not start

Shape and habits are those of ``station.errors``, which this package does not know: a dotted ``code`` that never
changes, a sentence for the operator that ends with the next move, and the facts for the engineer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class FirmwareToolsError(Exception):
    """Something went wrong below the station; see the module docstring for the tree."""

    code: str = "firmware_tools.error"
    operator: str = "Call the line engineer."

    def __init__(
        self, message: str, /, *, code: str | None = None, operator: str | None = None, **facts: object
    ) -> None:
        """Make the error.

        Args:
            message: one sentence for the engineer: what is wrong, what was expected.
            code: dotted code, more exact than the class's.
            operator: sentence for the operator with the next move, more exact than the class's.
            **facts: what was expected, what came, where.
        """
        super().__init__(message)
        if code is not None:
            self.code = code
        if operator is not None:
            self.operator = operator
        self.facts: Mapping[str, str] = MappingProxyType({name: str(value) for name, value in facts.items()})


class BundleError(FirmwareToolsError):
    """A firmware bundle can't be used; ``firmware_tools.bundles.bundle`` lists the codes."""

    code = "bundle.invalid"
    operator = "The firmware bundle can't be used. Call the line engineer."


class SigningError(FirmwareToolsError):
    """An image can't be signed, or not with this key; ``firmware_tools.signing`` lists the codes."""

    code = "signing.failed"


class UnitFileError(FirmwareToolsError):
    """A file with the data of one unit can't be made; ``firmware_tools.unit_files`` lists the codes."""

    code = "unit_file.invalid"


class FlashError(FirmwareToolsError):
    """A board can't be flashed; ``firmware_tools.flashers.Flasher`` lists the codes.

    Each code has its sentence for the operator, unless the one who raises it knows a better one.
    """

    code = "flash.failed"
    operator = "Reseat the board; if it fails twice, put it into the red bin."
    _MOVES: Final[Mapping[str, str]] = MappingProxyType(
        {
            "flash.wrong_chip": "This board is of another type than the order wants. Check the order, then the board.",
            "flash.too_large": "The firmware does not fit this board. Check the board's type; call the line engineer.",
            "flash.refused": "The board refuses this firmware. Put the board aside and call the line engineer.",
            "flash.downgrade": "This board had a newer firmware already and refuses an older one. Put it aside.",
            "flash.reverted": "The new firmware failed and the board took the old one back. Put it into the red bin.",
            "flash.bootloader_too_old": "This board's bootloader is too old. Put it aside and call the line engineer.",
            "flash.no_answer": "The board does not answer. Reseat it; if it fails twice, put it into the red bin.",
            "flash.tool_missing": "A flashing tool is not installed. Call the line engineer.",
        }
    )

    def __init__(
        self, message: str, /, *, code: str | None = None, operator: str | None = None, **facts: object
    ) -> None:
        """Make the error; see ``FirmwareToolsError``."""
        super().__init__(message, code=code, operator=operator or self._MOVES.get(code or self.code), **facts)


class BuildError(FirmwareToolsError):
    """The reference device can't be built."""

    code = "build.failed"


class ToolMissing(BuildError):
    """A compiler, or a library it needs, is not installed."""

    code = "build.tool_missing"
    operator = "Install what the message names, then start again."


class SourceMissing(BuildError):
    """A source tree that was asked for is not there."""

    code = "build.source_missing"


class LineError(FirmwareToolsError):
    """The virtual line can't do what it is asked to."""

    code = "line.error"


class LineDirectoryError(LineError):
    """The folder of a virtual line can't be used."""

    code = "line.directory"


class ProgramError(LineError):
    """The device program does not start."""

    code = "line.program"
