"""Which orders make no sense."""

import re
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Final

from station.errors import printable
from station.numbering import Numbering
from station.orders.errors import OrderError
from station.orders.terms import MacRange, Order, Share

MAX_UNITS: Final = 10_000_000
"""Units in one order."""

MAX_NUMBER: Final = 10**12
MAX_STATION_ID: Final = 127

_MULTICAST: Final = 1 << 40
"""The group bit of an EUI-48 (IEEE 802, 8.2.2): no device has such an address."""

_EUI_48: Final = 1 << 48
_MODEL_MOST: Final = 32
_NAME_MOST: Final = 64

_ID: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_. /-]{0,63}")


def check_rules(order: Order) -> None:
    """Refuse terms that make no sense.

    Raises:
        OrderError: ``order.invalid``; the message says which and what would do.
    """
    for fault in chain(_names(order), _times(order), _numbers(order)):
        raise OrderError(f"order {printable(order.name, _NAME_MOST)!r}: {fault}", code="order.invalid")


def _names(order: Order) -> Iterator[str]:
    if not _ID.fullmatch(order.id):
        yield "its id is not 32 hexadecimal digits (128 random bits)"
    if not _NAME.fullmatch(order.name):
        yield "its name takes 1 to 64 letters, digits, blanks and _ . / -, and begins with a letter or digit"
    texts = [("product", order.product, _MODEL_MOST), ("profile", order.profile, _NAME_MOST)]
    if order.firmware_version is not None:
        texts.append(("firmware_version", order.firmware_version, _MODEL_MOST))
    for what, value, most in texts:
        if not (value.isascii() and value.isprintable() and 0 < len(value) <= most):
            yield f"its {what} takes 1 to {most} printable ASCII characters"


def _times(order: Order) -> Iterator[str]:
    if any(moment.tzinfo is None for moment in (order.not_before, order.not_after, order.created)):
        yield "its times need a zone"
    elif order.not_before >= order.not_after:
        yield "its window ends before it begins; write not_before (--from) earlier than not_after (--until)"


def _numbers(order: Order) -> Iterator[str]:
    if not 0 < order.quantity <= MAX_UNITS:
        yield f"its quantity is {order.quantity}; an order is for 1 to {MAX_UNITS} units"
    if not 0 <= order.first_number <= MAX_NUMBER:
        yield f"its first number is {order.first_number}; write a number from 0 to {MAX_NUMBER}"
    if not order.stations:
        yield "it names no station; write at least one, with its share"
    for station, share in order.stations.items():
        yield from (f"station {station}: {fault}" for fault in _share(order, station, share))
    if (total := sum(share.quantity for share in order.stations.values())) != order.quantity:
        yield f"its shares add up to {total} units, not to {order.quantity}"
    by_number = sorted(order.stations.items(), key=lambda item: item[1].first_number)
    for (one, below), (two, above) in pairwise(by_number):
        if below.last_number >= above.first_number:
            number = above.first_number
            yield (
                f"stations {one} and {two} would both give number {number}; a share takes as many numbers as its "
                "quantity and its scrap_allowance together"
            )
    if fault := Numbering(order.serial_format, order.check).fault(order.first_number, order.last_number):
        yield f'its serial_format can\'t be used: {fault}; write for example "SN{{number:06d}}"'
    if order.mac is not None:
        yield from _macs(order, order.mac)


def _share(order: Order, station: int, share: Share) -> Iterator[str]:
    if not 1 <= station <= MAX_STATION_ID:
        yield f"a station's id is 1 to {MAX_STATION_ID}"
    if not 0 < share.quantity <= MAX_UNITS or not 0 <= share.scrap_allowance <= MAX_UNITS:
        yield f"a share is for 1 to {MAX_UNITS} units, and allows for 0 or more scrapped ones"
    if share.first_number < order.first_number:
        yield "its numbers begin before first_number"
    if share.last_number > MAX_NUMBER:
        yield f"its numbers go beyond {MAX_NUMBER}"


def _macs(order: Order, mac: MacRange) -> Iterator[str]:
    if not 0 <= mac.first <= mac.last < _EUI_48:
        yield "its MAC range ends before it begins"
    if (mac.first | mac.last) & _MULTICAST:
        yield "its MAC range holds group addresses; the lowest bit of the first octet has to be 0"
    needed, there = order.last_number - order.first_number + 1, mac.last - mac.first + 1
    if there < needed:
        yield f"its MAC range holds {there} addresses, and its numbers take {needed}"
