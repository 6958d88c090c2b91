"""What can go wrong on the line.

::

    StationError
    ├── ConfigError            a file of ours can't be used as it is
    ├── LinkError              the wire between station and board
    │   ├── Unplugged          the port is gone
    │   ├── PortBusy           somebody else holds it
    │   ├── NoAnswer           the board stays silent
    │   └── Garbled            the board talks, but not our protocol
    ├── DeviceError            the board answered, and the answer is not acceptable
    ├── ManifestError          the database can't be used, or refuses a row
    └── UnitRefused            the rules forbid to go on with this board

An error carries a dotted ``code`` that never changes, a sentence for the operator that ends with the next move, and the
facts for the engineer. ``str()`` is the engineer's line. Texts that come from a device are escaped here, once, so that
no terminal escape reaches a screen (invariant I8).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, Self

FACT_LIMIT = 200
"""Characters of one fact that are kept; a device can't flood the log through an error message."""

MESSAGE_LIMIT = 1000
"""Characters of a message: our own sentence, with a path and a bounded fact in it."""


def printable(value: object, limit: int = FACT_LIMIT) -> str:
    """Return ``value`` as text that is safe on a terminal and in a log: one line, bounded, no control characters."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in cut)


class Explained(Protocol):
    """An error with code, sentence and facts, of whichever floor."""

    code: str
    operator: str

    @property
    def facts(self) -> Mapping[str, str]:
        """What was expected, what came, where."""


def on_record(error: Explained) -> dict[str, object]:
    """Return what an event says of an error."""
    return {**error.facts, "code": error.code, "reason": error}


class StationError(Exception):
    """Something went wrong on the line; see the module docstring for the tree."""

    code: str = "station.error"
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
        super().__init__(printable(message, MESSAGE_LIMIT))
        if code is not None:
            self.code = code
        if operator is not None:
            self.operator = operator
        self.facts: Mapping[str, str] = MappingProxyType({name: printable(value) for name, value in facts.items()})

    @classmethod
    def of(cls, error: Explained) -> Self:
        """Say what an error of another floor says, with its code, as one of ours."""
        return cls(str(error), code=error.code, operator=error.operator, **error.facts)


class ConfigError(StationError):
    """A file of ours can't be used as it is."""

    code = "config.invalid"


class LinkError(StationError):
    """The wire between station and board."""

    code = "link.error"
    operator = "Reseat the board and its cable."


class Unplugged(LinkError):
    """The port is gone."""

    code = "link.unplugged"
    operator = "The board was unplugged. Plug it in again: it goes on where it was."


class PortBusy(LinkError):
    """Somebody else holds the port."""

    code = "link.busy"
    operator = "Another program uses this port. Call the line engineer."


class NoAnswer(LinkError):
    """The board stays silent."""

    code = "link.no_answer"
    operator = "The board does not answer. Reseat it; if it stays silent, put it into the red bin."


class Garbled(LinkError):
    """The board talks, but not our protocol."""

    code = "link.garbled"
    operator = "The board can't be understood. Check cable and board type."


class DeviceError(StationError):
    """The board answered, and the answer is not acceptable."""

    code = "device.refused"
    operator = "Put the board into the red bin."


class ManifestError(StationError):
    """The database can't be used, or refuses a row."""

    code = "manifest.error"


class UnitRefused(StationError):
    """The rules forbid to go on with this board."""

    code = "unit.refused"
