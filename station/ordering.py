"""The order that a line runs under, opened and held against its configuration, its tokens, and what these remember."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from pkcs11.constants import Attribute

from hsm import KeyMissing, Profile, Signer, TokenGroup, find_key
from hsm.algorithms import SCHEMES, PublicKey, family_of, verify
from hsm.key_rules import RULES
from hsm.keys import AnyTokenKey, Signing
from hsm.request import Purpose
from station.agreement import contradiction
from station.config import Config, ProductSection
from station.config.certificates import load_issuer
from station.ledger.counted import newest_count
from station.ledger.keying import read_ledger_key
from station.manifest import ManifestReader, OrderCount, OrderSeal
from station.orders import Order, OrderBook, OrderError, OrderWarrant, Trust
from station.orders.binding import check_bound
from station.orders.taken import TakenNotes
from station.signing import rules_of

_PROBE: Final = b"station: does this token hold the station's key? "


def open_book(config: Config) -> OrderBook:
    """Take the orders that the manifest holds now; each is verified when it is asked for.

    Raises:
        OrderError: a key of ``[order] trusted`` can't be used.
        ManifestError: the manifest can't be read.
    """
    trust = Trust.load(config.order.trusted, config.order.approvals)
    before = sealed_count(config)
    with ManifestReader(config.station.manifest) as reader:
        return OrderBook(
            reader.orders(),
            reader.count_orders(before),
            trust,
            station_id=config.station.id,
            now=lambda: datetime.now(UTC),
        )


def sealed_count(config: Config) -> OrderCount | None:
    """Return how far the orders were at an event that the ledger vouches for; counting goes on from there.

    Raises:
        LedgerError: the ledger key's file can't be used.
        ManifestError: the manifest can't be read.
    """
    if not config.ledger.key.exists():
        return None
    return newest_count(config.station.manifest, read_ledger_key(config.ledger.key))


def product_under(order: Order, config: Config, profile: Profile) -> ProductSection:
    """Return what a board has to be: as configured, and as ordered.

    Raises:
        OrderError: the two contradict each other (``order.configuration``).
    """
    product = config.product
    pairs = (
        ("[product] model", product.model, order.product),
        ("[ca] profile", profile.name, order.profile),
        ("the SHA-256 of [ca] profile", profile.sha256, order.profile_sha256),
        ("[product] firmware_version", product.firmware_version, order.firmware_version),
        ("[product] firmware_sha256", product.firmware_sha256, order.firmware_sha256),
    )
    if (found := contradiction(pairs)) is not None:
        key, here, ordered = found
        raise OrderError(
            f"{key} is {here!r}, and order {order.name} is for {ordered!r}; correct the one, or run another order",
            code="order.configuration",
        )
    return replace(
        product,
        firmware_version=product.firmware_version or order.firmware_version,
        firmware_sha256=product.firmware_sha256 or order.firmware_sha256,
    )


def settle(config: Config, signer: Signing, orders: OrderBook, order: OrderWarrant, manifest: str) -> None:
    """Hold an order against the tokens: they know it, and no number of it that the manifest does not. Blocks.

    Args:
        config: of the line.
        signer: the issuing tokens, open.
        orders: those of the manifest; all are told from now on.
        order: that is to be used.
        manifest: identity of the manifest.

    Raises:
        OrderError: ``order.replayed``, ``order.not_bound``, ``order.rolled_back``.
        HsmError: a token refuses.
    """
    if order.terms.seal is None or not isinstance(signer, Signer | TokenGroup):
        return
    check_bound(signer, config.ca.journal, order.terms.seal, manifest)
    tell_station(config, signer, orders, manifest)
    order.check_newest()
    orders.check_newest()


def tell_station(config: Config, signer: Signer | TokenGroup, orders: OrderBook, manifest: str) -> None:
    """Let orders know the station's keys, and where numbers are noted. Blocks; arguments and errors as ``settle``."""

    def notes(seal: OrderSeal) -> TakenNotes:
        every = config.order.numbers_per_note
        return TakenNotes(signer, seal, manifest, folder=config.ca.signatures, every=every)

    orders.at_station(station_keys(config, signer), notes)


def station_keys(config: Config, signer: Signing) -> frozenset[bytes]:
    """Return the SHA-256 of the SubjectPublicKeyInfo of the keys in the tokens that an order may name. Blocks.

    These are the ledger key, which never leaves the token that it was made in, and the issuing key of ``[ca]``. A token
    finds a key by its id, and whoever has the PIN may give a key of his own the id of another station's: so the ledger
    key has to sign something here. The issuing key does so with each certificate, which is verified.

    Raises:
        HsmError: a token refuses, or a key breaks a rule.
        StationError: a file can't be read.
    """
    issuing, rules = load_issuer(config.ca.certificate).public_key(), rules_of(config.ca.tokens)
    held = [_held(signer, issuing, rules)]  # type: ignore[arg-type]  # kinds that sign here
    if config.ledger.key.exists():
        ledger = _held(signer, read_ledger_key(config.ledger.key), RULES)
        held.append(ledger if ledger is not None and _signs(ledger) else None)
    return frozenset(key.name.spki_sha256 for key in held if key is not None)


def _held(signer: Signing, public: PublicKey, rules: Mapping[Attribute, bool]) -> AnyTokenKey | None:
    try:
        return find_key(signer, public, rules=rules)
    except KeyMissing:
        return None


def _signs(key: AnyTokenKey) -> bool:
    message, public = _PROBE + secrets.token_bytes(32), key.name.public
    signature, family = key.sign_message_blocking(message, purpose=Purpose.PROBE), family_of(public)
    try:
        verify(public, signature, message, None if family is None else SCHEMES[family].hash)
    except InvalidSignature:
        return False
    return True
