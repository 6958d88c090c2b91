"""Who answers OCSP requests for an issuing CA: certificate, key, and what is known about certificates."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from hsm import OcspError, Signer, find_key
from hsm.journal import JournalReader
from hsm.ocsp import JournalStatuses, Responder
from hsm.ocsp.delegation import check_delegation
from hsm.revocation import check_published
from station.cli.ca_journal import Records, open_journal
from station.config import Config, load
from station.config.certificates import load_certificate
from station.crl_places import CrlPlace, key_identifier, place_of
from station.errors import StationError
from station.signing import open_token


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who answers, and for which issuing CA."""

    config: Config
    place: CrlPlace
    token: str
    """URI of the token with the responder's key."""
    certificate: Path
    counts: Path
    """Journal of the answers that are signed on demand."""

    @classmethod
    def of(cls, config_path: str, issuer: str | None, token: str | None, certificate: str | None) -> Self:
        """Return what a command line means; the files of an ``[[issuer]]`` have its key identifier in their names."""
        config = load(Path(config_path))
        place = place_of(config, None if issuer is None else Path(issuer))
        stem = "ocsp" if issuer is None else f"ocsp-{key_identifier(place.issuer).hex()}"
        own = config.ca.certificate.with_name(f"{stem}.pem") if certificate is None else Path(certificate)
        return cls(config, place, token or place.tokens.uris[0], own, config.ca.journal.with_name(f"{stem}.db"))

    @property
    def issuer(self) -> x509.Certificate:
        """The issuing CA."""
        return self.place.issuer

    def open_token(self, *, writable: bool = False) -> Signer:
        """Log in to the token with the responder's key."""
        return open_token(self.config.ca, self.token, writable=writable)

    @contextmanager
    def statuses(self) -> Iterator[JournalStatuses]:
        """Open what is known about the issuer's certificates.

        Raises:
            HsmError: the journal can't be read, or is older than what is published in ``[crl] directory``.
        """
        if not self.config.ca.journal.exists():  # nothing was signed or revoked yet
            with open_journal(self.config):
                pass
        with _Units(self.config, self.issuer) as units:
            found = JournalStatuses(
                self.config.ca.journal, self.issuer, also_issued=units.has, check=self._check_published
            )
            try:
                yield found
            finally:
                found.close()

    def _check_published(self, reader: JournalReader) -> None:
        if self.config.crl is not None:
            check_published(reader, self.issuer, self.place.folder)

    @asynccontextmanager
    async def responder(self) -> AsyncIterator[Responder]:
        """Open the responder's key.

        Raises:
            StationError, HsmError: there is none, or it may not answer for this CA.
        """
        if not self.certificate.exists():
            raise StationError(f"{self.certificate}: no such responder; make one with 'station ca ocsp init'")
        own = load_certificate(self.certificate)
        check_delegation(own, self.issuer)
        signer = await asyncio.to_thread(self.open_token)
        try:
            yield Responder(own, await asyncio.to_thread(find_key, signer, own.public_key()))  # type: ignore[arg-type]
        finally:
            signer.close()


class _Units:
    """Whether a unit's certificate is on record, while the station writes to its manifest."""

    def __init__(self, config: Config, issuer: x509.Certificate) -> None:
        self._config = config
        self._issuer = issuer
        self._records: Records | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._records is not None:
            self._records.__exit__(None, None, None)
            self._records = None

    def has(self, serial: int) -> bool:
        for _ in range(2):
            if self._records is None:
                self._records = Records(self._config)
            try:
                return self._records.has_unit(serial, self._issuer)
            except StationError as error:
                self._close()  # most likely the station began to write to what was read as it lay: look again
                fault = error
        raise OcspError(f"the manifest can't be read: {fault}", code=fault.code)
