"""An order for development and rehearsals: signed by a key in a SoftHSM token that plays the OEM's, and imported.

Each step finds what an earlier run, which was killed, has done.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from hsm import Profile, Signer, TokenUri
from hsm.files import replace_file
from station.manifest import Manifest
from station.orders import jws
from station.orders.importing import Imported, import_order
from station.orders.payload import write_order
from station.orders.signing import make_key, named_key, sign_order
from station.orders.station_key import station_key_sha256
from station.orders.terms import Order, Share
from station.orders.trust import Trust

ORDER_SUFFIX: Final = ".order.json"
"""How files of orders end."""

_VALID: Final = timedelta(days=3650)
_SCRAP: Final = 10
"""One in so many units may be scrapped and made again."""

STATION_ID: Final = 1
PROFILE: Final = "idevid"
PRODUCT: Final = "reference-device"


def rehearsal_order(  # noqa: PLR0913 - what takes part, by name
    directory: Path,
    name: str,
    quantity: int,
    *,
    oem: TokenUri,
    issuing: TokenUri,
    key: Path,
    station_key: Path,
    environment: Mapping[str, str],
    bundle_sha256: bytes | None = None,
    product: str = PRODUCT,
) -> Imported:
    """Make an order, sign it, and import it into ``manifest.db`` of a folder. Blocks.

    Args:
        directory: of the line; gets ``<name>.order.json`` and ``manifest.db``.
        name: of the order.
        quantity: units in it.
        oem: the token with the key for orders.
        issuing: the token with the issuing key; it gets a note of the order.
        key: file of the public key; made with the key if it is not there.
        station_key: file of a public key in the issuing token, to which the order is bound.
        environment: variables that the module reads.
        bundle_sha256: digest of the firmware bundle that boards get.
        product: model that the order is for.

    Raises:
        OrderError, ManifestError, HsmError: a part can't be made.
        OSError: the folder can't be written.
    """
    if not key.exists():
        _make_key(oem, key, environment)
    file = directory / f"{name}{ORDER_SUFFIX}"
    if not file.exists():
        now = datetime.now(UTC).replace(microsecond=0)
        order = Order(
            name=name,
            product=product,
            profile=PROFILE,
            profile_sha256=Profile.load(PROFILE).sha256,
            quantity=quantity,
            stations={STATION_ID: Share(quantity, 1, quantity // _SCRAP, station_key_sha256(station_key))},
            not_before=now,
            not_after=now + _VALID,
            created=now,
            bundle_sha256=bundle_sha256,
        )
        text, _ = sign_order(jws.Jws.of(write_order(order)).text(), oem, environment=environment)
        replace_file(file, text.encode())
    journal = directory / "ca" / "ca.db"
    with (
        Signer.open(issuing, environment=environment, counts=journal.parent / "signatures") as signer,
        Manifest.open(directory / "manifest.db") as manifest,
    ):
        return asyncio.run(
            import_order(
                file.read_text(),
                trust=Trust.load([key]),
                station_id=STATION_ID,
                manifest=manifest,
                signer=signer,
                journal=journal,
                keys={station_key_sha256(station_key)},
            )
        )


def _make_key(oem: TokenUri, out: Path, environment: Mapping[str, str]) -> None:
    with Signer.open(oem, environment=environment) as signer:
        found = named_key(signer, oem)
    if found is None:
        make_key(oem, out, environment=environment)
        return
    pem = found.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    out.write_bytes(pem)
