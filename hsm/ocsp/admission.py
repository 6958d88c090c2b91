"""Who is answered now, and who is told to come back.

A responder is open to everybody, so what one client may ask is bounded before anything is read: each address has a
bucket of tokens that fills at a steady rate, and a request takes one out. Whoever finds it empty gets 503 and, in
``Retry-After``, when there will be one again. The other bound, on answers that wait for the token, is the responder's
(``OcspResponder``).

A provider gives a customer a whole /64 of IPv6 (RFC 6177), so that counts as one address.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

PER_CLIENT: Final = 100.0
"""Answers a second for one address, if nothing else is said."""

BURST_SECONDS: Final = 2.0
"""A bucket holds what comes in so long, and one token at least."""

MAX_CLIENTS: Final = 10_000
"""Addresses that are remembered; the one that has been silent for longest is forgotten first."""

_IPV6_CUSTOMER: Final = 64


class Admission:
    """Buckets of tokens, one an address."""

    def __init__(self, per_client: float = PER_CLIENT, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets.

        Args:
            per_client: tokens a second; 0: no limit.
            clock: seconds that only grow.
        """
        self._rate = per_client
        self._most = max(1.0, per_client * BURST_SECONDS)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens that were left, and when that was."""

    def wait(self, address: str) -> int:
        """Take a token; return 0, or, if there is none, in how many seconds to ask again."""
        if not self._rate:
            return 0
        now, client = self._clock(), _client(address)
        left, since = self._buckets.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        admitted = left >= 1
        self._buckets[client] = (left - admitted, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0 if admitted else math.ceil((1 - left) / self._rate)


def _client(address: str) -> str:
    """Return whose bucket an address has."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> _IPV6_CUSTOMER << _IPV6_CUSTOMER, _IPV6_CUSTOMER)))
