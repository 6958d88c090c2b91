"""What can go wrong with images, boards and the tools that build them.

::

    FirmwareToolsError
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
