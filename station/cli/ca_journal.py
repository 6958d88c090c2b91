"""The CA's journal for short commands, which take their turn, and where a certificate is found."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from cryptography import x509

from hsm.journal import CaJournal, IssuanceRecord, JournalLocked, JournalReader, certificate_sha256, shard_name
from hsm.revocation import Target, shard_of
from hsm.serials import copied, serial_text, shown
from station.config import Config
from station.crl_places import names_issuer
from station.errors import StationError
from station.manifest import IssuanceRecord as UnitIssuance
from station.manifest import IssuanceState, ManifestReader

PATIENCE: Final = 10.0
"""Seconds that a short command waits for another one to be done with the journal."""

_PAUSE: Final = 0.1

_RECORDED: Final = "SELECT certificate_serial FROM issuance WHERE state = 'recorded' AND instr(tbs, ?) > 0"

_VOID: Final = """
SELECT issuance.certificate_serial, production_order.name, issuance.tbs, issuance.certificate, issuance.void_reason,
       coalesce(unit.product_serial, unit.hardware_id)
FROM issuance INDEXED BY void_issuance JOIN unit ON unit.id = issuance.unit_id
JOIN production_order ON production_order.id = unit.order_id
WHERE issuance.state = 'void' ORDER BY issuance.unit_id, issuance.id
"""


@contextmanager
def open_journal(config: Config, *, patience: float = PATIENCE) -> Iterator[CaJournal]:
    """Open the journal for writing; wait for a short command that has it, but not for a long one.

    Args:
        config: names it.
        patience: seconds to wait.

    Raises:
        JournalError: it can't be used, or another process keeps it.
    """
    deadline = time.monotonic() + patience
    config.ca.journal.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            journal = CaJournal.open(config.ca.journal)
        except JournalLocked:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            break
    with journal:
        yield journal


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate on record, in the journal or in the manifest."""

    target: Target
    subject: str
    unit: str = ""
    """Product serial, of a unit's certificate."""
    is_void: bool = False
    """Given up: signed, or perhaps signed, and not to be accepted."""
    tbs: bytes = b""
    """TBSCertificate in DER: names its issuer."""

    def issued_by(self, issuers: Sequence[x509.Certificate]) -> x509.Certificate:
        """Return which of these issued it; the first, where nothing is known about it.

        Raises:
            StationError: ``revocation.other_issuer``.
        """
        for issuer in issuers:
            if not self.tbs or names_issuer(issuer) in self.tbs:
                return issuer
        raise StationError(
            f"certificate {shown(self.target.serial)} was issued by another CA; name that one in [ca] certificate, "
            "or in an [[issuer]]",
            code="revocation.other_issuer",
        )


class Records:
    """Everything that the CA of a configuration issued: its journal, and the station's manifest.

    Either may be missing: a CA without a line has no manifest, a line that signed nothing but units no journal.
    """

    def __init__(self, config: Config) -> None:
        """Open what is there, to be read.

        Raises:
            JournalError, ManifestError: a file can't be read.
        """
        self._config = config
        with ExitStack() as opened:
            journal, manifest = config.ca.journal, config.station.manifest
            self._journal = opened.enter_context(JournalReader(journal)) if journal.exists() else None
            self._manifest = opened.enter_context(ManifestReader(manifest)) if manifest.exists() else None
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        """Return the records."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._opened.close()

    def by_serial(self, serial: int) -> Found | None:
        """Find a certificate by its serial number."""
        if self._journal is not None and (record := self._journal.by_serial(serial)) is not None:
            return _of_journal(record)
        if self._manifest is None:
            return None
        return next((found for found in self._of_unit(f"{serial:x}") if found.target.serial == serial), None)

    def by_unit(self, identity: str) -> list[Found]:
        """Find the certificates of a unit, void ones too.

        Raises:
            StationError: there is no such unit.
        """
        found = [] if self._manifest is None else self._of_unit(identity)
        if not found:
            raise StationError(
                f"no certificate of unit '{identity}' in {self._config.station.manifest}; check the text"
            )
        return found

    def by_order(self, order: str) -> list[Found]:
        """Find the certificates of a production order, void ones too.

        Raises:
            StationError: there is no such order, or nothing was issued for it.
        """
        found = []
        if self._manifest is not None:
            found += [
                _of_manifest(unit.issuance, unit.order, unit.product_serial or unit.hardware_id)
                for unit in self._manifest.units(order=order)
                if unit.issuance is not None
            ]
            found += [one for one in self.void() if one.target.shard == shard_of(order) and one.unit]
        if not found:
            raise StationError(f"no certificate of order '{order}' in {self._config.station.manifest}; check its name")
        return found

    def by_batch(self, batch: str) -> list[Found]:
        """Find the certificates of a batch, void ones too.

        Raises:
            StationError: there is no such batch.
        """
        found = [] if self._journal is None else [_of_journal(record) for record in self._journal.by_batch(batch)]
        if not found:
            raise StationError(f"no batch '{batch}' in {self._config.ca.journal}; check its name")
        return found

    def void(self) -> list[Found]:
        """Find what was given up: none of it is to be accepted."""
        found = []
        if self._manifest is not None:
            for serial, order, tbs, certificate, reason, unit in self._manifest.rows(_VOID):
                target = Target(int(serial, 16), shard_of(order), _not_after(certificate))
                found.append(Found(target, reason, unit, is_void=True, tbs=tbs))
        if self._journal is not None:
            found += [one for one in map(_of_journal, self._journal.issuances()) if one.is_void]
        return found

    def has_unit(self, serial: int, issuer: x509.Certificate) -> bool:
        """Whether the manifest holds a live certificate of this issuer; the journal is asked elsewhere."""
        if self._manifest is None:
            return False
        sql = f"{_RECORDED} AND certificate_serial = ?"
        return any([*self._manifest.rows(sql, names_issuer(issuer), serial_text(serial))])

    def recorded(self, issuer: x509.Certificate) -> Iterator[int]:
        """Iterate over the serial numbers of an issuer's certificates that may be out there and are not given up."""
        if self._journal is not None:
            rows = self._journal.rows(
                "SELECT serial FROM issuance JOIN certificate ON certificate.issuance_id = issuance.id "
                "JOIN issuer ON issuer.id = issuance.issuer_id WHERE issuer.sha256 = ?",
                certificate_sha256(issuer),
            )
            yield from (int(serial, 16) for (serial,) in rows)
        if self._manifest is not None:
            yield from (int(serial, 16) for (serial,) in self._manifest.rows(_RECORDED, names_issuer(issuer)))

    def _of_unit(self, identity: str) -> list[Found]:
        assert self._manifest is not None  # noqa: S101 - for mypy: the callers looked
        history = self._manifest.unit(identity)
        if history is None:
            return []
        unit = history.unit
        name = unit.product_serial or unit.hardware_id
        return [_of_manifest(issuance, unit.order, name) for issuance in history.issuances]


def _of_journal(record: IssuanceRecord) -> Found:
    target = Target(record.serial, shard_name(record.batch), record.not_after)
    return Found(target, record.subject, is_void=record.void_reason is not None, tbs=record.tbs)


def _of_manifest(issuance: UnitIssuance, order: str, name: str) -> Found:
    target = Target(issuance.certificate_serial, shard_of(order), _not_after(issuance.certificate))
    is_void = issuance.state is IssuanceState.VOID
    return Found(target, name, name, is_void=is_void, tbs=issuance.tbs)


def _not_after(certificate: bytes | None) -> datetime | None:
    return None if certificate is None else x509.load_der_x509_certificate(certificate).not_valid_after_utc


def parse_serial(text: str) -> int:
    """Parse a serial number as people copy it (``hsm.serials.copied``).

    Raises:
        StationError: it is none.
    """
    serial = copied(text)
    if serial is None:
        raise StationError(f"'{text}' is not a serial number: write its hexadecimal digits, as certificates show them")
    return serial


def parse_date(text: str) -> datetime:
    """Parse a date, or a date and time; without a zone it is UTC.

    Raises:
        StationError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise StationError(f"'{text}' is not a date: write 2026-01-31, or 2026-01-31T12:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
