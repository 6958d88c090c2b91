"""What is wrong with an order.

One class; the code says what: ``order.malformed`` (no JWS, or no order in it), ``order.signature_invalid``,
``order.approvals`` (too few of the trusted keys signed), ``order.trust`` (a key file can't be used), ``order.invalid``
(terms that make no sense), ``order.wrong_station``, ``order.not_begun``, ``order.over``, ``order.closed``,
``order.edited`` and ``order.count`` (the manifest was changed behind the station's back), ``order.not_imported``,
``order.unsigned``, ``order.replayed`` (the token knows it from another manifest), ``order.token_away`` (a token can't
remember it now).
"""

from station.errors import StationError


class OrderError(StationError):
    """An order can't be used."""

    code = "order.error"
    operator = "The production order can't be used. Call the line engineer."
