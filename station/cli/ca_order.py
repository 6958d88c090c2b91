"""Orders at the desk: what ``station ca issue`` and ``sign-batch`` take from a production order."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from cryptography import x509

from hsm import Authority, Csr, HsmError, OrderRule, Profile, WarrantError, der
from hsm.durable import Reader
from hsm.errors import FieldError
from hsm.journal import CaJournal
from hsm.profile_file import names
from hsm.profiles import HARDWARE_MODULE_NAME
from hsm.warrant import Allotment
from station.config import Config
from station.manifest import Manifest, ManifestReader, OrderExhausted, RowRefused
from station.ordering import open_book, settle
from station.orders import OrderWarrant

_HARDWARE: Final = "hardware_id"
_WITH_HARDWARE: Final = """
SELECT spki_sha256, tbs FROM issuance WHERE instr(tbs, ?)
AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = issuance.id)
"""
_HOLDS: Final = "SELECT 1 FROM desk_serial WHERE spki_sha256 = ?"
_CERTIFIED: Final = """
SELECT subject FROM issuance WHERE spki_sha256 = ?
AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = issuance.id) LIMIT 1
"""
_ORDERED: Final = frozenset({"product_serial", "model", "order", "first_name"})
"""Fields that every order gives, or that follow from the names."""
_HAS_ONE: Final = frozenset({"journal.issuance_open", "journal.key_certified", "issuance.key_certified"})
"""Refusals of a request whose key has a certificate, or gets one for another request."""
_UNIT: Final = "SELECT coalesce(product_serial, '') FROM unit WHERE hardware_id = ? COLLATE NOCASE"


def profile_to_issue(config: Config, name: str) -> Profile:
    """Load a profile that certificates are to be issued by.

    A file of one's own says itself whether it needs an order, so the configuration has to name those that need none:
    otherwise a copy of ``idevid.toml`` without that line would be an identity that nobody ordered.

    Raises:
        ProfileError: there is none, or it can't be used.
        WarrantError: it wants no order, and nobody allowed that (``warrant.unordered``).
    """
    profile = Profile.load(name)
    allowed = name in names() or Path(name).resolve() in {path.resolve() for path in config.ca.unordered}
    if profile.order is OrderRule.NONE and not allowed:
        raise WarrantError(
            f'{name} says order = "none", and [ca] unordered in station.toml does not name it; let who answers for '
            'the line add it there, or name an order (order = "required" and --order NAME)',
            code="warrant.unordered",
        )
    return profile


@asynccontextmanager
async def allotting(
    config: Config, order: str | None, profile: Profile, authority: Authority, journal: CaJournal
) -> AsyncIterator["OrderDesk | None"]:
    """Open the manifest for an order's serials; without an order there is nothing to allot.

    The manifest has one writer: while the line runs, this is refused.

    Args:
        config: names manifest and trusted keys.
        order: name of an imported order.
        profile: of the certificates.
        authority: in whose token the order is known.
        journal: of the CA, which knows what the desk certified before.

    Raises:
        OrderError: the order can't be used now.
        ManifestError: the manifest is in use, or can't be used.
    """
    if order is None:
        yield None
        return
    with closing(Manifest.open(config.station.manifest)) as manifest:
        book = open_book(config)
        warrant = book.check_begins(order)
        await asyncio.to_thread(settle, config, authority.key.signer, book, warrant, manifest.identity)
        with ManifestReader(config.station.manifest) as units, journal.reader() as certified:
            yield OrderDesk(manifest, warrant, profile, units, certified)


class OrderDesk:
    """Takes serials of one order, one a key; used by one thread."""

    def __init__(
        self, manifest: Manifest, order: OrderWarrant, profile: Profile, units: Reader, certified: Reader
    ) -> None:
        """Take what it needs.

        Args:
            manifest: open for writing.
            order: may give serials now.
            profile: of the certificates.
            units: reads the manifest.
            certified: reads the CA's journal.
        """
        self._manifest = manifest
        self._order = order
        self._profile = profile
        self._units = units
        self._certified = certified
        self._given: dict[bytes, Allotment] = {}
        self._hardware: dict[str, bytes] | None = None
        """Who holds a hardware id at the desk: SHA-256 of the key's SubjectPublicKeyInfo."""

    def refuse_held(self, csr: Csr, fields: Mapping[str, str]) -> None:
        """Refuse what would cost the order a number for nothing, before it gives one.

        Raises:
            FieldError: a field of the profile is given by nobody (``field.missing``).
            WarrantError: the hardware id is a unit's, or of another key that the desk certified
                (``order.hardware_held``); or the CA certified the key before, and not under an order
                (``order.key_certified``).
        """
        macs = set() if self._order.terms.mac_first is None else {"mac"}
        if missing := sorted(self._profile.fields - fields.keys() - _ORDERED - macs):
            raise FieldError(
                f"the profile {self._profile.name!r} needs the field {missing[0]!r}; give it with --field, or in a "
                "column of --table",
                code="field.missing",
            )
        self._refuse_certified(csr)
        wanted = fields.get(_HARDWARE)
        if wanted is None:
            return
        if rows := [*self._units.rows(_UNIT, wanted)]:
            raise _held(wanted, f"a unit of the line ({rows[0][0] or 'without a serial yet'})")
        if self._hardware is None:
            self._hardware = {name.lower(): key for name, key in _hardware_ids(self._certified)}
        holder = self._hardware.setdefault(wanted.lower(), csr.spki_sha256)
        if holder != csr.spki_sha256:
            raise _held(wanted, f"the request with key {holder.hex()[:16]}…")

    def _refuse_certified(self, csr: Csr) -> None:
        """Refuse a key that has a certificate and no serial: the CA's journal would do so after it took one."""
        if csr.spki_sha256 in self._given or any(True for _ in self._units.rows(_HOLDS, csr.spki_sha256)):
            return
        for (subject,) in self._certified.rows(_CERTIFIED, csr.spki_sha256):
            raise WarrantError(
                f"the CA certified this key before, and not under an order ({subject}): a board gets one identity; "
                "make a new key",
                code="order.key_certified",
            )

    def refused(self, spki_sha256: bytes, error: HsmError) -> None:
        """Note why a key gets no certificate, if it took a serial."""
        if spki_sha256 in self._given and error.code not in _HAS_ONE:
            self._manifest.refuse_desk_request(spki_sha256, error.code, str(error))

    def __call__(self, csr: Csr) -> Allotment:
        """Take a serial for a request's key, or find the one that it took before.

        Raises:
            WarrantError: the order gives none.
        """
        if csr.spki_sha256 not in self._given:
            terms = self._order.terms
            if not any(True for _ in self._units.rows(_HOLDS, csr.spki_sha256)):
                self._order.check_begins()
            try:
                serial, mac = self._manifest.take_desk_serial(terms, csr.spki_sha256, taken=self._order.taken)
            except (OrderExhausted, RowRefused) as error:  # this request is refused; a batch goes on
                raise WarrantError(str(error), code=error.code, operator=error.operator) from error
            fields = {"product_serial": serial, "model": terms.product, "order": terms.name}
            warrant = self._order.unit(serial, holder=csr.spki_sha256.hex(), product=terms.product)
            self._given[csr.spki_sha256] = Allotment(fields if mac is None else {**fields, "mac": mac}, warrant)
        return self._given[csr.spki_sha256]


def _held(hardware_id: str, holder: str) -> WarrantError:
    return WarrantError(
        f"hardware id {hardware_id!r} is that of {holder}, and a board gets one identity; give the board's own",
        code="order.hardware_held",
    )


def _hardware_ids(journal: Reader) -> Iterator[tuple[str, bytes]]:
    """Iterate over the hardware ids that stand in certificates of the CA, given up ones aside, with their keys."""
    for spki_sha256, tbs in journal.rows(_WITH_HARDWARE, der.object_identifier(HARDWARE_MODULE_NAME.dotted_string)):
        algorithm = der.parts(tbs)[2]  # version, serialNumber, signature (RFC 5280 4.1)
        certificate = x509.load_der_x509_certificate(der.join_signed(tbs, algorithm, b""))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for name in names.get_values_for_type(x509.OtherName):
            if name.type_id == HARDWARE_MODULE_NAME:  # SEQUENCE { hwType, hwSerialNum OCTET STRING } (RFC 4108 5)
                serial = der.parts(name.value)[1]
                found = der.read(serial, 0, len(serial))
                yield serial[found.content : found.end].decode(), spki_sha256
