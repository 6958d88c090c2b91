"""What somebody who writes an order says, in a TOML file or in options; the rest is filled in.

::

    name = "WO-1001"
    product = "sensor"
    quantity = 500
    stations = ["1:300:5", "2:200"]     # id : units : scrap allowance; numbers follow one another
    until = "2027-10-01"

    profile = "idevid"                  # or the path of your own; these are what is taken if they are left out
    serial = "SN{number:06d}"
    check = ""
    first = 1
    from = ""                           # now
    mac = ""                            # or "02:00:5e:00:00:01-02:00:5e:00:01:ff"
    firmware_version = ""
    firmware_sha256 = ""
    bundle_sha256 = ""                  # digest of the firmware bundle, as 'station firmware show' prints it

    [station_keys]                      # by station id: a public key, or a certificate, whose key that station's token
    1 = "line-1/ca/ledger.pem"          # holds (PEM); a share whose station has none belongs to whoever has its number
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from hsm import Profile
from station.errors import printable
from station.numbering import CheckScheme, mac_number
from station.orders.errors import OrderError
from station.orders.rules import check_rules
from station.orders.station_key import station_key_sha256
from station.orders.terms import MacRange, Order, Share

KNOWN: Final[Mapping[str, type]] = {
    **dict.fromkeys(("name", "product", "profile", "serial", "check", "from", "until", "mac"), str),
    **dict.fromkeys(("firmware_version", "firmware_sha256", "bundle_sha256"), str),
    "quantity": int,
    "first": int,
    "stations": list,
    "station_keys": dict,
}
"""Keys of the file, and their types."""

_NEEDED: Final = ("name", "product", "quantity", "until")
_USUAL: Final = {"profile": "idevid", "serial": "SN{number:06d}", "check": "", "first": 1, "from": "", "mac": ""}
_STATION: Final = re.compile(r"([0-9]{1,3})(?::([0-9]{1,8}))?(?::([0-9]{1,8}))?")
_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class _Part:
    station: int
    quantity: int
    scrap: int


def read_wish(text: str) -> dict[str, Any]:
    """Read the TOML file.

    Raises:
        OrderError: not TOML, an unknown key, or a value of another type.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"not TOML: {error}") from None
    for key, value in said.items():
        if key not in KNOWN:
            near = get_close_matches(key, KNOWN, n=1)
            raise _wrong(
                f"unknown {printable(key, 40)!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KNOWN)}")
            )
        if type(value) is not KNOWN[key]:
            wanted = {str: "a text in quotes", int: "a whole number", list: "a list of texts", dict: "a table"}[
                KNOWN[key]
            ]
            raise _wrong(f"{key!r} is {wanted}, not {printable(value, 40)}")
    return said


def order_of(said: Mapping[str, Any], now: datetime) -> Order:
    """Make an order of what was said.

    Args:
        said: by the keys of ``KNOWN``.
        now: the order's creation, and the begin of its window if none was said.

    Raises:
        OrderError: something is missing, or makes no sense.
        ProfileError: there is no such profile, or its file can't be used.
    """
    for key in _NEEDED:
        if said.get(key) in (None, ""):
            raise _wrong(f"{key!r} is missing")
    said = {**_USUAL, **{key: value for key, value in said.items() if value not in ("", None)}}
    created = now.astimezone(UTC).replace(microsecond=0)
    profile = Profile.load(said["profile"])
    order = Order(
        name=said["name"],
        product=said["product"],
        profile=profile.name,
        profile_sha256=profile.sha256,
        quantity=said["quantity"],
        stations=_with_keys(
            _shares(said.get("stations") or ["1"], said["quantity"], said["first"]), said.get("station_keys", {})
        ),
        not_before=_moment("from", said["from"]) if said["from"] else created,
        not_after=_moment("until", said["until"]),
        created=created,
        serial_format=said["serial"],
        check=_check(said["check"]),
        first_number=said["first"],
        mac=_macs(said["mac"]) if said["mac"] else None,
        firmware_version=said.get("firmware_version"),
        firmware_sha256=_digest("firmware_sha256", said),
        bundle_sha256=_digest("bundle_sha256", said),
    )
    check_rules(order)
    return order


def _shares(texts: list[str], quantity: int, first: int) -> dict[int, Share]:
    parts = [_part(text, quantity if len(texts) == 1 else None) for text in texts]
    shares: dict[int, Share] = {}
    for part in parts:
        if part.station in shares:
            raise _wrong(f"station {part.station} stands there twice")
        shares[part.station] = Share(part.quantity, first, part.scrap)
        first = shares[part.station].last_number + 1
    return shares


def _with_keys(shares: Mapping[int, Share], keys: Mapping[str, object]) -> dict[int, Share]:
    """Bind shares to the keys of their stations."""
    found = dict(shares)
    for station, path in keys.items():
        number = int(station) if re.fullmatch(r"[0-9]{1,3}", station) else 0
        if number not in found:
            raise _wrong(f"'station_keys' names station {printable(station, 20)!r}, which has no share")
        if not isinstance(path, str):
            raise _wrong(f"'station_keys' of {station} is the path of a file, not {printable(path, 40)}")
        found[number] = replace(found[number], key_sha256=station_key_sha256(Path(path)))
    return found


def _part(text: object, usual: int | None) -> _Part:
    found = _STATION.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[2] is None and usual is None):
        raise _wrong(
            f"{printable(text, 40)!r} is no share; write ID:UNITS or ID:UNITS:SCRAP, like 1:300:5 (a single station "
            "takes all units)"
        )
    return _Part(int(found[1]), int(found[2]) if found[2] else usual or 0, int(found[3] or 0))


def _moment(key: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(
            f"{key!r} is {printable(text, 40)!r}; write a date (2027-10-01) or a time (2026-10-01T06:00:00Z)"
        ) from None
    return moment.replace(microsecond=0, tzinfo=moment.tzinfo or UTC)


def _check(text: str) -> CheckScheme:
    try:
        return CheckScheme(text)
    except ValueError:
        known = " or ".join(scheme.value for scheme in CheckScheme if scheme.value)
        raise _wrong(f"unknown check scheme {printable(text, 20)!r}; write {known}") from None


def _macs(text: str) -> MacRange:
    first, _, last = text.lower().partition("-")
    ends = (mac_number(first), mac_number(last))
    if ends[0] is None or ends[1] is None:
        raise _wrong(f"'mac' is {printable(text, 40)!r}; write 02:00:5e:00:00:01-02:00:5e:00:01:ff")
    return MacRange(ends[0], ends[1])


def _digest(name: str, said: Mapping[str, Any]) -> bytes | None:
    if name not in said:
        return None
    text: str = said[name]
    if len(text) != _DIGITS or not re.fullmatch(r"[0-9A-Fa-f]+", text):
        raise _wrong(f"{name!r} is not a SHA-256; write its 64 hexadecimal digits")
    return bytes.fromhex(text)


def _wrong(what: str) -> OrderError:
    return OrderError(f"this makes no order: {what}", code="order.invalid")
