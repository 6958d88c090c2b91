"""Serial numbers of certificates."""

import re
import secrets
from typing import Final

MAX_STATION_ID: Final = 127
"""The station's number is the first octet of a serial number, which must not be negative."""

MAX_SERIAL_BITS: Final = 159
"""20 octets less the sign (RFC 5280 4.1.2.2)."""

SERIAL_DIGITS: Final = 40
"""Hex digits of 20 octets."""

_SHOWN_DIGITS: Final = 32
"""Hex digits of 16 octets, which the numbers have that are made here."""

_COPIED: Final = re.compile(r"(?:serial\s*=\s*|0x)?([0-9a-f]+(?::[0-9a-f]+)*)", re.IGNORECASE)


def new_serial(station_id: int) -> int:
    """Return a fresh serial number of 16 octets: the station's number, then 120 random bits.

    Args:
        station_id: 1 to 127; two stations can't collide, and a serial tells where it was made.

    Raises:
        ValueError: the number is out of range.
    """
    if not 1 <= station_id <= MAX_STATION_ID:
        raise ValueError(f"a station's number is 1 to {MAX_STATION_ID}, not {station_id}")
    return int.from_bytes(bytes((station_id,)) + secrets.token_bytes(15))


def serial_text(serial: int) -> str:
    """Return a certificate serial as databases store it: 40 hex digits.

    Text and not a number, because SQLite's integers end at 64 bits; and not a blob, because people search for it. The
    length is fixed so that a number has one spelling and text sorts as numbers do.

    Raises:
        ValueError: not positive, or more than 20 octets with its sign (RFC 5280 4.1.2.2).
    """
    if not 0 < serial < 1 << MAX_SERIAL_BITS:
        msg = f"a certificate serial is positive and has at most 20 octets, this is {serial:#x}"
        raise ValueError(msg)
    return f"{serial:0{SERIAL_DIGITS}x}"


def shown(serial: int) -> str:
    """Return a certificate serial as people and programs are shown it: 32 hex digits, or more where it has more.

    That is how ``openssl x509 -serial`` and browsers write those that are made here, but for the capitals.
    """
    return f"{serial:0{_SHOWN_DIGITS}x}"


def copied(text: str) -> int | None:
    """Return the serial in a text that somebody copied from anywhere; None if it is none.

    With colons, ``0x`` or ``serial=`` (``openssl x509 -serial``), zeros at the front or none, in any case.
    """
    found = _COPIED.fullmatch(text.strip())
    serial = 0 if found is None else int(found[1].replace(":", ""), 16)
    return serial if 0 < serial < 1 << MAX_SERIAL_BITS else None
