"""From a request to a recorded certificate: what ``station ca issue`` and ``sign-batch`` share.

lint → intent → sign → compare → verify → record. Only what is recorded leaves.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography import x509

from hsm.authority import Authority, LintedTbs
from hsm.csr import Csr
from hsm.durable import utc_now
from hsm.errors import CsrError, HsmError, JournalError
from hsm.journal import (
    CaJournal,
    Intent,
    IssuanceRecord,
    IssuanceState,
    Issued,
    KeyCertified,
    Reservation,
    certificate_sha256,
    shard_name,
)
from hsm.journal.operations import reserve
from hsm.names import name_text
from hsm.profiles import SHARD_FIELD, Profile
from hsm.serials import new_serial

_CN_MOST: Final = 64
_BATCH: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,63}")
"""As the schema of the journal has it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where requests come in: one authority, one journal, one profile."""

    authority: Authority
    journal: CaJournal
    profile: Profile
    station_id: int
    """First octet of the serial numbers."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Given for all requests."""
    batch: str | None = None
    renew: bool = False
    """A key that has a certificate gets another one."""
    clock: Callable[[], dt.datetime] = utc_now
    holder: Callable[[bytes], str | None] = lambda _: None
    """Tells who holds a key (SHA-256 of its SubjectPublicKeyInfo) in a record beside the journal, like a line's
    manifest; None where nobody does."""

    def prepare(
        self,
        csr: Csr,
        *,
        request: str = "",
        fields: Mapping[str, str] | None = None,
        names: Sequence[x509.GeneralName] = (),
    ) -> tuple[LintedTbs, Reservation]:
        """Draft and lint a certificate. Nothing is written or signed; safe from any thread.

        Args:
            csr: the checked request.
            request: its name in the batch.
            fields: given for this request; ``request``, ``first_name`` and ``shard`` are filled in where they are not.
            names: the operator's; those that the request asks for are added where the profile takes them.

        Raises:
            HsmError: the request, a field or a name is not acceptable, or the certificate would break the profile.
        """
        if not self.profile.ca:
            refuse_ca_wish(csr)
        if not self.renew and (holder := self.holder(csr.spki_sha256)) is not None:
            raise KeyCertified(
                f"this key is that of {holder}; renew its certificate on purpose (--renew), or make a new key",
                code="issuance.key_certified",
            )
        wanted = [*names]
        if "request" in self.profile.alternative_names.given:
            wanted += csr.names
        values = {"request": request, **self.common, **(fields or {})}
        if "first_name" not in values and wanted:
            values["first_name"] = name_text(wanted[0]).partition(":")[2][:_CN_MOST]
        draft = self.authority.draft(
            self.profile,
            csr.public_key,
            fields=values,
            serial=new_serial(self.station_id),
            now=self.clock(),
            names=wanted,
            spki=csr.spki,
        )
        return draft, Reservation(
            issuer=self.issuer,
            profile=self.profile.name,
            subject=draft.subject.rfc4514_string(),
            spki_sha256=csr.spki_sha256,
            draft=draft,
            batch=self.batch,
            request=request,
            renew=self.renew,
        )

    issuer: bytes = field(init=False)
    """What names the issuer in the journal."""
    common: Mapping[str, str] = field(init=False)
    """The fields of all requests, those that are filled in among them."""

    def __post_init__(self) -> None:
        """Compute what is the same for all requests.

        Raises:
            JournalError: a batch can't have this name (``journal.batch_name``).
        """
        object.__setattr__(self, "issuer", certificate_sha256(self.authority.issuer))
        object.__setattr__(self, "common", {SHARD_FIELD: shard_name(self.batch), **self.fields})
        if self.batch is not None and not _BATCH.fullmatch(self.batch):
            raise JournalError(
                f"{self.batch!r} can't name a batch: it stands in file names and URLs, so write at most 64 letters, "
                "digits, '-', '_' and '.', and no '.' or '-' at the front",
                code="journal.batch_name",
            )

    async def issue(
        self, csr: Csr, *, fields: Mapping[str, str] | None = None, names: Sequence[x509.GeneralName] = ()
    ) -> Issued:
        """Issue one certificate. What an earlier run intended for the same key, profile and subject is finished.

        Raises:
            HsmError: refused; nothing was signed, or what was signed is in the journal as an intent.
        """
        draft, wanted = self.prepare(csr, fields=fields, names=names)
        found = self.open_intent(csr.spki_sha256)
        if found is not None:
            self._check_same(found, wanted)
            return await self.resume(found)
        return await self.finish(await self.journal.perform(partial(reserve, wanted=wanted)), draft)

    async def finish(self, intent: Intent, draft: LintedTbs) -> Issued:
        """Sign what is intended, and record it."""
        again = partial(self.journal.attempt, intent.issuance_id)
        return await self.journal.record(intent, await self.authority.issue(draft, again=again))

    async def resume(self, found: IssuanceRecord) -> Issued:
        """Sign what an earlier run intended: the same bytes; the try is counted before the token is asked."""
        draft = self.authority.redraft(self.profile, found.tbs)
        return await self.finish(await self.journal.attempt(found.id), draft)

    def open_intent(self, spki_sha256: bytes) -> IssuanceRecord | None:
        """Return what was intended for a key and never signed."""
        with self.journal.reader() as reader:
            found = [one for one in reader.by_key(spki_sha256) if one.state is not IssuanceState.VOID]
        return found[-1] if found and found[-1].state is IssuanceState.INTENT else None

    def _check_same(self, found: IssuanceRecord, wanted: Reservation) -> None:
        """Refuse to finish something else than what is wanted now."""
        had = (found.issuer, found.profile, found.subject, found.batch)
        if had != (wanted.issuer, wanted.profile, wanted.subject, wanted.batch):
            raise HsmError(
                f"an earlier run intended another certificate for this key and never signed it: {found.subject}, "
                f"profile {found.profile}; finish that one by asking for the same again",
                code="issuance.other_intent",
            )


def refuse_ca_wish(csr: Csr) -> None:
    """Refuse a request for a CA's certificate where the profile makes none: whoever asks would be misled.

    Raises:
        CsrError: ``csr.asks_for_ca``.
    """
    if csr.asks_for_ca:
        raise CsrError(
            "the request asks for a CA's certificate (cA TRUE), and the profile makes none; take the profile sub-ca if "
            "that is meant, or make the request without it",
            code="csr.asks_for_ca",
        )
