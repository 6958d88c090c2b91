"""How an order is written.

The payload is a JSON object (RFC 8259) with exactly these names::

    {"format": "station-order-1", "id": "<32 hex digits>", "name": "WO-1001", "product": "sensor", "profile": "idevid",
     "profile_sha256": "<64 hex digits>", "quantity": 500, "serial_format": "SN{number:06d}", "check": "",
     "first_number": 1,
     "stations": {"1": {"quantity": 300, "first_number": 1, "scrap_allowance": 5,
                        "key_sha256": "<64 hex digits>"},
                  "2": {"quantity": 200, "first_number": 306, "scrap_allowance": 0}},
     "not_before": "2026-07-01T00:00:00Z", "not_after": "2026-10-01T00:00:00Z", "created": "2026-06-20T09:30:00Z"}

and, where they apply, ``mac`` (``{"first": "…", "last": "…"}``), ``firmware_version``, ``firmware_sha256`` and
``bundle_sha256``. Each station has a share: its own part of quantity and numbers, so that two stations on one order
never give one serial. ``key_sha256`` (SHA-256 of a SubjectPublicKeyInfo; may be missing) says which key that station's
token holds. The number of a unit decides its MAC address too: ``first`` belongs to ``first_number``.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from firmware_tools import es256
from station.errors import printable
from station.numbering import CheckScheme, mac_number, mac_text
from station.orders.errors import OrderError
from station.orders.rules import check_rules
from station.orders.terms import MacRange, Order, Share

FORMAT: Final = "station-order-1"
"""Stands in the payload: nothing else that this key signed can pass for an order."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NEEDED: Final = (
    *("format", "id", "name", "product", "profile", "profile_sha256", "quantity", "serial_format", "check"),
    *("first_number", "stations", "not_before", "not_after", "created"),
)
_DIGESTS: Final = ("firmware_sha256", "bundle_sha256")
_OPTIONAL: Final = ("mac", "firmware_version", *_DIGESTS)
_SHARE: Final = ("quantity", "first_number", "scrap_allowance")
_KEY: Final = "key_sha256"


def write_order(order: Order) -> bytes:
    """Return the JSON that is signed.

    Raises:
        OrderError: the terms make no sense.
    """
    check_rules(order)
    said: dict[str, object] = {
        "format": FORMAT,
        "id": order.id,
        "name": order.name,
        "product": order.product,
        "profile": order.profile,
        "profile_sha256": order.profile_sha256.hex(),
        "quantity": order.quantity,
        "serial_format": order.serial_format,
        "check": order.check.value,
        "first_number": order.first_number,
        "stations": {
            str(station): {name: getattr(share, name) for name in _SHARE}
            | ({} if share.key_sha256 is None else {_KEY: share.key_sha256.hex()})
            for station, share in sorted(order.stations.items())
        },
        "not_before": _time(order.not_before),
        "not_after": _time(order.not_after),
        "created": _time(order.created),
    }
    if order.mac is not None:
        said["mac"] = {"first": mac_text(order.mac.first), "last": mac_text(order.mac.last)}
    if order.firmware_version is not None:
        said["firmware_version"] = order.firmware_version
    for name in _DIGESTS:
        if (digest := getattr(order, name)) is not None:
            said[name] = digest.hex()
    return json.dumps(said, indent=1).encode()


def read_order(payload: bytes) -> Order:
    """Read a payload.

    Raises:
        OrderError: not JSON, a name is missing, unknown or doubled, or the terms make no sense.
    """
    said = _Object(_json(payload), "the order")
    if said.take("format", str) != FORMAT:
        raise _malformed(f"its format is not {FORMAT!r}")
    stations = _Object(said.take("stations", dict), "stations")
    order = Order(
        id=said.take("id", str),
        name=said.take("name", str),
        product=said.take("product", str),
        profile=said.take("profile", str),
        profile_sha256=_digest("profile_sha256", said.take("profile_sha256", str)),
        quantity=said.take("quantity", int),
        serial_format=said.take("serial_format", str),
        check=_check(said.take("check", str)),
        first_number=said.take("first_number", int),
        stations=MappingProxyType({_station(name): _share(stations, name) for name in stations.names()}),
        not_before=_moment(said.take("not_before", str)),
        not_after=_moment(said.take("not_after", str)),
        created=_moment(said.take("created", str)),
        mac=_mac(_Object(said.take("mac", dict), "mac")) if said.has("mac") else None,
        firmware_version=said.take("firmware_version", str) if said.has("firmware_version") else None,
        **{name: _digest(name, said.take(name, str)) for name in _DIGESTS if said.has(name)},
    )
    said.finish((*_NEEDED, *_OPTIONAL))
    check_rules(order)
    return order


class _Object:
    """A JSON object, of which each name is taken."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self._content = dict(content)
        self._where = where

    def names(self) -> list[str]:
        return list(self._content)

    def has(self, name: str) -> bool:
        return name in self._content

    def take(self, name: str, kind: type) -> Any:  # noqa: ANN401 - what JSON holds
        if name not in self._content:
            raise _malformed(f"{self._where} has no {name!r}")
        value = self._content.pop(name)
        if type(value) is not kind:  # true is no number here
            raise _malformed(f"{name!r} in {self._where} is not what it should be: {printable(value, 40)}")
        return value

    def finish(self, known: tuple[str, ...]) -> None:
        for name in self._content:
            raise _malformed(f"{self._where} has an unknown {printable(name, 40)!r}; known: {', '.join(known)}")


def _json(payload: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(payload.decode(), object_pairs_hook=es256.unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"its payload is not JSON ({printable(error, 80)})") from None
    if not isinstance(content, dict):
        raise _malformed("its payload is not a JSON object")
    return content


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _malformed(what: str) -> OrderError:
    return OrderError(f"this is no order: {what}; ask its sender for the file again", code="order.malformed")


def _station(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text):
        raise _malformed(f"{printable(text, 20)!r} is no station id")
    return int(text)


def _share(stations: _Object, name: str) -> Share:
    said = _Object(stations.take(name, dict), f"the share of station {name}")
    key = _digest(_KEY, said.take(_KEY, str)) if said.has(_KEY) else None
    quantity, first_number, scrap_allowance = (said.take(part, int) for part in _SHARE)
    share = Share(quantity, first_number, scrap_allowance, key)
    said.finish((*_SHARE, _KEY))
    return share


def _mac(said: _Object) -> MacRange:
    ends = [mac_number(said.take(name, str)) for name in ("first", "last")]
    said.finish(("first", "last"))
    if ends[0] is None or ends[1] is None:
        raise _malformed("a MAC address is written like 02:00:5e:00:00:01, in lower case")
    return MacRange(ends[0], ends[1])


def _check(text: str) -> CheckScheme:
    try:
        return CheckScheme(text)
    except ValueError:
        known = ", ".join(repr(scheme.value) for scheme in CheckScheme)
        raise _malformed(f"unknown check scheme {printable(text, 20)!r}; known: {known}") from None


def _digest(name: str, text: str) -> bytes:
    if not _SHA256.fullmatch(text):
        raise _malformed(f"{name} is 64 hexadecimal digits, in lower case")
    return bytes.fromhex(text)


def _moment(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise _malformed(f"{printable(text, 40)!r} is no time; times are written like 2026-07-01T00:00:00Z")


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
