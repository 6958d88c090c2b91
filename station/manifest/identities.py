"""Finding a unit by any of its names."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from hsm.durable import Row
from hsm.serials import SERIAL_DIGITS

_HEX: Final = re.compile(r"[0-9a-fA-F:]+")
_DIGEST_DIGITS: Final = 64

Query = Callable[..., Iterable[Row]]
"""Runs SQL with its parameters: a reader's ``rows``, or a connection's ``execute``."""


def searches(identity: str) -> list[tuple[str, object]]:
    """Return the queries that find a unit's row id by a text, in the order in which they count.

    Args:
        identity: product serial, hardware id, certificate serial (hex, also of a void one) or the SHA-256 of a public
            key (64 hex digits).
    """
    found: list[tuple[str, object]] = [
        ("SELECT id FROM unit WHERE product_serial = ?", identity),
        ("SELECT id FROM unit WHERE hardware_id = ?", identity),
        ("SELECT id FROM unit WHERE hardware_id = ? COLLATE NOCASE", identity),
    ]
    digits = identity.replace(":", "").lower()
    if _HEX.fullmatch(identity) and len(digits.lstrip("0")) <= SERIAL_DIGITS:
        padded = digits.lstrip("0").zfill(SERIAL_DIGITS)
        found.append(("SELECT unit_id FROM issuance WHERE certificate_serial = ?", padded))
    if _HEX.fullmatch(identity) and len(digits) == _DIGEST_DIGITS:
        found.append(("SELECT unit_id FROM public_key WHERE spki_sha256 = ?", bytes.fromhex(digits)))
    return found
