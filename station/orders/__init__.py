"""Signed production orders: what may be made, by which stations, until when, and who said so.

Open first: ``terms.py``, what an order says; ``payload.py`` how, ``rules.py`` which make no sense. ``jws.py`` is the
envelope (RFC 7515, ES256), ``trust.py`` whose signatures count, ``signing.py`` how one is made with a key in a token.
``importing.py`` puts an order into a manifest, and ``binding.py`` into the token in which one it is used. ``book.py``
holds a manifest's orders, each verified again, and hands out the ``OrderWarrant`` (``warrant.py``) that the signer asks
right before its token. ``docs/orders.md`` is the page for people.

Knows nothing of: boards, slots, configuration files.
"""

from station.orders.book import OrderBook
from station.orders.errors import OrderError
from station.orders.terms import MacRange, Order, Share
from station.orders.trust import SignedOrder, Trust
from station.orders.warrant import OrderWarrant

__all__ = [
    "MacRange",
    "Order",
    "OrderBook",
    "OrderError",
    "OrderWarrant",
    "Share",
    "SignedOrder",
    "Trust",
]
