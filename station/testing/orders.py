"""Orders for tests: signed by a key in memory, in one line.

::

    orders = await open_signed(manifest, name="WO-1", quantity=3, station_id=7)     # for a Workshop
    install_order(path_of_station_toml, quantity=3)                                 # for 'station run'
    reorder(path_of_station_toml, "WO-2")             # the same, where the file names an order for something else
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_tools import es256
from hsm import Profile
from station.config import load
from station.manifest import Manifest, ManifestReader
from station.numbering import CheckScheme
from station.ordering import station_keys
from station.orders import MacRange, Order, OrderBook, Share, Trust, jws
from station.orders.importing import Imported, import_order
from station.orders.payload import write_order
from station.orders.trust import key_id
from station.signing import open_signer

MODEL: Final = "reference-device"

DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Approver:
    """Somebody who signs orders, with a key in memory."""

    name: str = "oem.pem"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """The key to trust."""
        return self.key.public_key()

    @property
    def pem(self) -> bytes:
        """The key as a file."""
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, order: Order | jws.Jws) -> jws.Jws:
        """Sign an order, or add a signature to one."""
        envelope = jws.Jws.of(write_order(order)) if isinstance(order, Order) else order
        protected = jws.protected_header(key_id(self.public))
        signed = self.key.sign(es256.signing_input(protected, envelope.payload_text), ec.ECDSA(hashes.SHA256()))
        return envelope.signed(protected, signed)


APPROVER: Final = Approver()
"""Signs where a test does not care who does."""


def order_of(  # noqa: PLR0913 - the terms of an order, by name
    name: str = "WO-1",
    *,
    product: str = MODEL,
    profile: str = "idevid",
    quantity: int = 1000,
    serial_format: str = "SN{number:06d}",
    first_number: int = 1,
    station_id: int = 1,
    scrap_allowance: int = 0,
    check: CheckScheme = CheckScheme.NONE,
    mac: MacRange | None = None,
    stations: Mapping[int, Share] | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    firmware_version: str | None = None,
    firmware_sha256: bytes | None = None,
    bundle_sha256: bytes | None = None,
    uid: str | None = None,
) -> Order:
    """Return an order; its window holds now, and its one station gets all of it, unless said otherwise."""
    now, kind = datetime.now(UTC).replace(microsecond=0), Profile.load(profile)
    return Order(
        name=name,
        product=product,
        profile=kind.name,
        profile_sha256=kind.sha256,
        quantity=quantity,
        stations=stations or {station_id: Share(quantity, first_number, scrap_allowance)},
        not_before=not_before or now - DAY,
        not_after=not_after or now + 365 * DAY,
        created=now - DAY,
        serial_format=serial_format,
        check=check,
        first_number=first_number,
        mac=mac,
        firmware_version=firmware_version,
        firmware_sha256=firmware_sha256,
        bundle_sha256=bundle_sha256,
        id=uid or secrets.token_hex(16),
    )


async def open_signed(
    manifest: Manifest,
    order: Order | None = None,
    *,
    station_id: int = 1,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    **terms: object,
) -> OrderBook:
    """Sign an order, store it in a manifest, and return the manifest's orders, verified; no token is asked.

    Args:
        manifest: open for writing.
        order: None for that of ``terms``.
        station_id: whose share is stored, and who asks.
        now: the time.
        **terms: of ``order_of``.
    """
    wanted = order or order_of(station_id=station_id, **terms)  # type: ignore[arg-type]  # checked there
    trust = trust_of(APPROVER)
    signed = trust.verified(APPROVER.sign(wanted).text())
    await manifest.open_order(signed.terms(station_id))
    return book_of(manifest, trust, station_id=station_id, now=now)


def trust_of(*approvers: Approver, approvals: int = 1) -> Trust:
    """Trust approvers."""
    return Trust.of(((one.name, one.public) for one in approvers), approvals)


def book_of(
    manifest: Manifest | Path,
    trust: Trust | None = None,
    *,
    station_id: int = 1,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> OrderBook:
    """Return the orders of a manifest as they are now."""
    with ManifestReader(manifest if isinstance(manifest, Path) else manifest.path) as reader:
        trust = trust or trust_of(APPROVER)
        return OrderBook(reader.orders(), reader.count_orders(), trust, station_id=station_id, now=now)


def install_order(config_path: Path, order: Order | None = None, **terms: object) -> Imported:
    """Sign the order that a ``station.toml`` names and import it, the token's note included. Blocks.

    Args:
        config_path: the file; the first key of ``[order] trusted`` is written beside it.
        order: None for that of ``terms``, by the file's name, model, profile and station.
        **terms: of ``order_of``.
    """
    config = load(config_path)
    usual = {
        "name": config.order.name,
        "product": config.product.model,
        "profile": config.ca.profile,
        "station_id": config.station.id,
    }
    wanted = order or order_of(**{**usual, **terms})  # type: ignore[arg-type]  # checked there
    config.order.trusted[0].write_bytes(APPROVER.pem)
    with (
        closing(open_signer(config.ca)) as signer,
        Manifest.open(config.station.manifest) as manifest,
    ):
        return asyncio.run(
            import_order(
                APPROVER.sign(wanted).text(),
                trust=Trust.load(config.order.trusted, config.order.approvals),
                station_id=config.station.id,
                manifest=manifest,
                signer=signer,
                journal=config.ca.journal,
                keys=station_keys(config, signer),
            )
        )


def reorder(config_path: Path, name: str, **terms: object) -> Imported:
    """Let a ``station.toml`` name another order, and install that: for a line that makes another product now.

    Args:
        config_path: the file.
        name: of the order; its serials are that and a number, so that they are no other order's.
        **terms: of ``order_of``.
    """
    text = re.sub(r'(\[order\]\nname = )"[^"]*"', lambda found: f'{found[1]}"{name}"', config_path.read_text("utf-8"))
    config_path.write_text(text, "utf-8")
    usual: dict[str, Any] = {"serial_format": f"{name}-{{number:06d}}"}
    return install_order(config_path, **(usual | terms))
