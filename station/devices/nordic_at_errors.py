"""What a Nordic modem's error numbers mean, and what the operator does about them.

The numbers are those of the AT command reference for ``%CMNG``, ``%KEYGEN``, ``%XSUDO`` and ``%CERTEXPIRY``; those
below 512 are 3GPP TS 27.007 9.2. A number that is not here is told as it came.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from station.errors import DeviceError

_RED_BIN: Final = "Put the board into the red bin."
_AGAIN: Final = "Take the board out and put it in again; if it fails twice, put it into the red bin."
_ENGINEER: Final = "Call the line engineer."

NOT_FOUND: Final = 513
NO_ACCESS: Final = 514
MEMORY_FULL: Final = 515
ACTIVE: Final = 518
ALREADY_EXISTS: Final = 519
KEYGEN_FAILED: Final = 523


class Meaning(NamedTuple):
    """One number."""

    name: str
    """Last part of the dotted code."""
    sentence: str
    operator: str


MEANINGS: Final[Mapping[int, Meaning]] = {
    0: Meaning("phone_failure", "it failed and does not say why", _AGAIN),
    3: Meaning("not_allowed", "it does not allow the operation", _ENGINEER),
    4: Meaning("not_supported", "its firmware does not know the operation", _ENGINEER),
    50: Meaning("bad_parameters", "it does not accept the parameters", _ENGINEER),
    51: Meaning("command_disabled", "its firmware was built without this command", _ENGINEER),
    NOT_FOUND: Meaning("not_found", "there is no such credential", _AGAIN),
    NO_ACCESS: Meaning(
        "no_access",
        "it does not let anybody touch this credential; its owner may have locked it (AT%XSUDO)",
        "This board belongs to somebody already. Give it to the line engineer.",
    ),
    MEMORY_FULL: Meaning(
        "memory_full",
        "its credential storage is full; delete what other tests left there (AT%CMNG=1 lists it)",
        "The board's memory is full. Give it to the line engineer.",
    ),
    ACTIVE: Meaning("active", "its radio is on, and keys change only while it is off (AT+CFUN=4)", _AGAIN),
    ALREADY_EXISTS: Meaning("already_exists", "there is a key or certificate in this place already", _AGAIN),
    520: Meaning("authentication_failed", "it wants this command signed by its owner (AT%XSUDO)", _ENGINEER),
    KEYGEN_FAILED: Meaning("keygen_failed", "it could not make a key", _RED_BIN),
    527: Meaning("invalid_content", "what stands in this place is no certificate", _RED_BIN),
    528: Meaning(
        "power_warning",
        "its supply voltage is too low to write its memory",
        "The board has too little power. Check the fixture's supply, then put the board in again.",
    ),
    529: Meaning("no_owner_key", "there is no ownership key in this place", _ENGINEER),
}


class CmeError(DeviceError):
    """The modem answered ``+CME ERROR: number``, or a plain ``ERROR`` (number None)."""

    def __init__(self, command: str, number: int | None) -> None:
        """Explain a number; ``command`` is what was asked, without its content."""
        self.number = number
        if number is None:
            meaning = Meaning("error", "ERROR, without a number; its firmware may not know the command", _ENGINEER)
        else:
            meaning = MEANINGS.get(number) or Meaning(f"cme_{number}", "a number that is not in our book", _ENGINEER)
        shown = "" if number is None else f" (+CME ERROR: {number})"
        super().__init__(
            f"the modem refuses {command}: {meaning.sentence}{shown}",
            code=f"device.{meaning.name}",
            operator=meaning.operator,
            command=command,
            number=number,
        )
