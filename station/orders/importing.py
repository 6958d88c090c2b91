"""Putting a signed order into a manifest."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hsm import Signer, TokenGroup
from station.manifest import Manifest, ManifestReader, OrderDiffers, OrderTerms
from station.manifest.order_operations import differences
from station.numbering import common_serial, mac_number, mac_text
from station.orders.binding import bind
from station.orders.errors import OrderError
from station.orders.trust import SignedOrder, Trust


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to."""

    signed: SignedOrder
    terms: OrderTerms
    """This station's share."""
    is_new: bool
    """False: it was there, and nothing changed in the manifest."""
    without_notes: tuple[str, ...]
    """Tokens that keep no notes: the CA's journal remembers for them."""


async def import_order(  # noqa: PLR0913 - what takes part, by name
    text: str,
    *,
    trust: Trust,
    station_id: int,
    manifest: Manifest,
    signer: Signer | TokenGroup,
    journal: Path,
    keys: Collection[bytes] = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Imported:
    """Verify an order, let the token remember where it is used, and store it. Blocks for the token.

    The token comes first: after a crash in between, the same import goes on; the other way round, a manifest could
    hold an order that no token knows.

    Args:
        text: the JWS.
        trust: whose signatures count.
        station_id: of this station.
        manifest: open for writing.
        signer: the issuing tokens.
        journal: the CA's.
        keys: SHA-256 of the SubjectPublicKeyInfo of the keys in the station's tokens; a share may name one.
        now: the time.

    Raises:
        OrderError: not genuine, not for this station, over, or used in another manifest.
        OrderDiffers: the manifest has another order of this name.
        HsmError: a token can't be used.
    """
    signed = trust.verified(text)
    terms = signed.terms(station_id)
    signed.order.check_key(station_id, keys)
    seal = terms.seal
    assert seal is not None  # noqa: S101 - for mypy: it was just sealed
    if now() >= signed.order.not_after:
        signed.order.check_window(now())  # not begun is no reason: orders come before their time
    with ManifestReader(manifest.path) as reader:
        _check_others(reader, terms)
    without = bind(signer, journal, seal, manifest.identity)
    return Imported(signed, terms, await manifest.open_order(terms), without)


def _check_others(reader: ManifestReader, terms: OrderTerms) -> None:
    """Refuse, before anything is written, an order that can't stand beside those that are there."""
    orders: Iterable[OrderTerms] = [record.terms for record in reader.orders()]
    for other in orders:
        if other.name == terms.name:
            if other.seal is not None and (differing := differences(other, terms)):
                raise OrderDiffers(
                    f"order {terms.name!r} is in the manifest with other terms: {'; '.join(differing)}. "
                    "An order never changes: ask for a new one, with a name of its own",
                    order=terms.name,
                )
        else:
            _check_apart(terms, other)


def _check_apart(terms: OrderTerms, other: OrderTerms) -> None:
    numbers, others = _numbers(terms), _numbers(other)
    if (serial := common_serial(terms.numbering, numbers, other.numbering, others)) is not None:
        raise OrderError(
            f"order {terms.name} would give serials that order {other.name} gives ({serial} is one of both); ask for "
            "other numbers",
            code="order.overlap",
        )
    mac, mac_of_other = _macs(terms), _macs(other)
    if mac.start < mac_of_other.stop and mac_of_other.start < mac.stop:
        raise OrderError(
            f"order {terms.name} would give MAC addresses that order {other.name} gives "
            f"({mac_text(max(mac.start, mac_of_other.start))} is one of both); ask for other addresses",
            code="order.overlap",
        )


def _numbers(terms: OrderTerms) -> range:
    return range(terms.first_number, terms.first_number + terms.numbers)


def _macs(terms: OrderTerms) -> range:
    """Return the addresses of all numbers; none for an order that gives none."""
    first = None if terms.mac_first is None else mac_number(terms.mac_first)
    return range(0) if first is None else range(first, first + len(_numbers(terms)))
