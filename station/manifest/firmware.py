"""Which bundles of firmware a line worked by: the rows of ``schema_7.sql``.

A row says "from now on". It is written before a board is touched, whenever another bundle is taken than the last one.
An older version than was ever here is refused, unless somebody says why it may come back; the reason stays in the row
and in its event.

The operation gets the connection and the time first, and is run by ``Manifest.perform``.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware_tools.version import Version
from station.errors import printable
from station.manifest.errors import RowRefused

REASON_LIMIT: Final = 200
"""Characters of the reason for an older version."""

_DIGITS: Final = 10
_LONG: Final = 32
"""Digits of an identifier of a pre-release."""


def rank_of(version: Version) -> str:
    """Return a version as a text; the texts of two versions sort as the versions do.

    A release comes after its pre-releases (``~`` after ``-``), fewer identifiers before more (``!`` before ``"``),
    numbers before words, and the build number decides last.
    """
    identifiers = (f"0{int(one):0{_LONG}}" if one.isdigit() else f"1{one}" for one in version.pre)
    pre = "-" + '"'.join(identifiers) if version.pre else "~"
    numbers = (f"{number:0{_DIGITS}}" for number in (version.major, version.minor, version.patch))
    return f"{'.'.join(numbers)}{pre}!{version.build:0{_DIGITS}}"


@dataclass(frozen=True, slots=True)
class FirmwareRelease:
    """A bundle, as far as the manifest is concerned."""

    product: str
    version: Version
    bundle_sha256: bytes
    """What an order names it by; 32 bytes."""


@dataclass(frozen=True, slots=True)
class FirmwareRecord:
    """A row of ``firmware``."""

    id: int
    product: str
    version: str
    bundle_sha256: bytes
    reason: str
    at: str


COLUMNS: Final = "id, product, version, bundle_sha256, reason, at"
NEWEST: Final = "SELECT rank, version FROM firmware WHERE product = ? ORDER BY rank DESC, id DESC LIMIT 1"


def take_up(connection: sqlite3.Connection, at: str, *, release: FirmwareRelease, reason: str = "") -> bool:
    """Work by a bundle from now on.

    Args:
        connection: inside a transaction.
        at: the time.
        release: the bundle, verified.
        reason: why an older version may come back; counts where this is one.

    Returns:
        False where it is the one that was worked by last.

    Raises:
        RowRefused: ``manifest.rollback``: a newer version of the product was here.
    """
    last = connection.execute(
        f"SELECT {COLUMNS} FROM firmware WHERE product = ? ORDER BY id DESC LIMIT 1",  # noqa: S608  # our own names
        (release.product,),
    ).fetchone()
    newest = newest_version(connection.execute(NEWEST, (release.product,)).fetchone())
    is_older = check_newer(newest, release, reason)
    if last is not None and FirmwareRecord(*last).bundle_sha256 == release.bundle_sha256:
        return False
    connection.execute(
        "INSERT INTO firmware (product, version, rank, bundle_sha256, reason, at) VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(release.product, str(release.version), rank_of(release.version), release.bundle_sha256),
            *(printable(reason, REASON_LIMIT)[:REASON_LIMIT] if is_older else "", at),
        ),
    )
    return True


def check_newer(newest: tuple[str, str] | None, release: FirmwareRelease, reason: str) -> bool:
    """Refuse a bundle that is older than the newest that was here, unless somebody says why it may come back.

    Args:
        newest: from ``newest_version``.
        release: the bundle.
        reason: for an older one; empty: there is none.

    Returns:
        Whether it is older.

    Raises:
        RowRefused: ``manifest.rollback``.
    """
    if newest is None or newest[0] <= rank_of(release.version):
        return False
    if not reason:
        raise RowRefused(
            f"the bundle has version {release.version} of {release.product}, and {newest[1]} was here before; take a "
            "newer bundle, or write in [product] allow_rollback why the older one may come back",
            code="manifest.rollback",
            operator="The firmware is older than what was here. Call the line engineer.",
            expected=newest[1],
            got=str(release.version),
        )
    return True


def newest_version(row: Sequence[str] | None) -> tuple[str, str] | None:
    """Return rank and text of the highest version of a product that was here."""
    return None if row is None else (row[0], row[1])
