"""Serial numbers of certificates."""

import secrets
from typing import Final

MAX_STATION_ID: Final = 127
"""The station's number is the first octet of a serial number, which must not be negative."""

MAX_SERIAL_BITS: Final = 159
"""20 octets less the sign (RFC 5280 4.1.2.2)."""

SERIAL_DIGITS: Final = 40
"""Hex digits of 20 octets."""


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
