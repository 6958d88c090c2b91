"""From a request to a recorded certificate: what ``station ca issue`` and ``sign-batch`` share.

lint → intent → sign → compare → verify → record. Only what is recorded leaves.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from cryptography import x509

from hsm import der as tlv
from hsm.authority import Authority, LintedTbs, Wish
from hsm.columns import each, sole
from hsm.csr import Csr
from hsm.durable import utc_now
from hsm.errors import CsrError, FieldError, HsmError, JournalError, WarrantError
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
from hsm.names import CN_MOST, common_name
from hsm.profiles import ISSUER_FIELD, SHARD_FIELD, OrderRule, Profile
from hsm.serials import new_serial
from hsm.warrant import Allot, Warrant

_SERIAL_FIELD: Final = 1
_VALIDITY_FIELD: Final = 4
_BATCH: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,63}")
"""As the schema of the journal has it."""

_FIRST_NAME: Final = "first_name"
_FILLED_IN: Final = frozenset({SHARD_FIELD, ISSUER_FIELD, _FIRST_NAME})
"""Fields that follow from the batch, the issuer and the names. Somebody else's value would send those who check a
certificate to a list that never tells of it."""


class Asked(NamedTuple):
    """One request, and what is given for it; ``Desk.prepare`` says more."""

    csr: Csr
    request: str = ""
    fields: Mapping[str, str] | None = None
    names: Sequence[x509.GeneralName] = ()


Prepared = tuple[LintedTbs, Reservation]
"""What may be signed, and what the journal is asked for before."""


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
    refuse_held: Callable[[Csr, Mapping[str, str]], None] | None = None
    """Raises ``WarrantError`` where a request's fields name what somebody else holds, like a unit's hardware id."""
    refused: Callable[[bytes, HsmError], None] | None = None
    """Is told of a key (SHA-256 of its SubjectPublicKeyInfo) that gets no certificate, and why."""
    allot: Allot | None = None
    """Takes from a production order what each request needs; None: nothing is ordered."""

    def prepare(
        self,
        csr: Csr,
        *,
        request: str = "",
        fields: Mapping[str, str] | None = None,
        names: Sequence[x509.GeneralName] = (),
    ) -> Prepared:
        """Draft and lint a certificate. Nothing is written or signed; safe from any thread.

        Args:
            csr: the checked request.
            request: its name in the batch.
            fields: given for this request; ``request`` is filled in where it is not; ``first_name`` and
                ``shard`` always are.
            names: the operator's; those that the request asks for are added where the profile takes them.

        Raises:
            HsmError: the request, a field or a name is not acceptable, or the certificate would break the profile.
        """
        return sole(self.prepare_all([Asked(csr, request, fields, names)]))

    def prepare_all(self, asked: Sequence[Asked]) -> list[Prepared | HsmError]:
        """Do as ``prepare``, for several (``hsm.columns``): each for itself."""
        drafts = self.authority.draft_all(each(self._wish, asked))
        for one, draft in zip(asked, drafts, strict=True):
            if isinstance(draft, HsmError) and self.refused is not None:
                self.refused(one.csr.spki_sha256, draft)
        return [
            draft if isinstance(draft, HsmError) else (draft, self._reservation(one, draft))
            for one, draft in zip(asked, drafts, strict=True)
        ]

    def _wish(self, asked: Asked) -> Wish:
        """Return what a request's certificate is made of."""
        csr = asked.csr
        if not self.profile.ca:
            refuse_ca_wish(csr)
        if not self.renew and (holder := self.holder(csr.spki_sha256)) is not None:
            raise KeyCertified(
                f"this key is that of {holder}; renew its certificate on purpose (--renew), or make a new key",
                code="issuance.key_certified",
            )
        wanted = [*asked.names]
        if "request" in self.profile.alternative_names.given:
            wanted += csr.names
        given = asked.fields or {}
        _refuse_filled_in(given)
        values = {"request": asked.request, **self.common, **given}
        if self.refuse_held is not None:  # before the order gives a number away
            self.refuse_held(csr, values)
        values |= self._allotted(csr, values)
        fitting = (text for name in wanted if (text := common_name(name)) is not None)
        if (first := next(fitting, None)) is not None:
            values.setdefault(_FIRST_NAME, first)
        elif wanted and _FIRST_NAME in self.profile.fields - values.keys():
            raise FieldError(
                f"none of the names fits into a common name of {CN_MOST} characters; add a shorter one, or put another "
                "template than {first_name} into the profile's [subject]",
                code="field.first_name",
            )
        serial = new_serial(self.station_id)
        return Wish(self.profile, csr.public_key, values, serial, self.clock(), wanted, csr.spki)

    def _reservation(self, asked: Asked, draft: LintedTbs) -> Reservation:
        return Reservation(
            issuer=self.issuer,
            profile=self.profile.name,
            subject=draft.subject.rfc4514_string(),
            spki_sha256=asked.csr.spki_sha256,
            draft=draft,
            batch=self.batch,
            request=asked.request,
            renew=self.renew,
        )

    def warrant(self, csr: Csr) -> Warrant | None:
        """Return leave to sign for a request, where there is an order."""
        return None if self.allot is None else self.allot(csr).warrant

    def _allotted(self, csr: Csr, given: Mapping[str, str]) -> Mapping[str, str]:
        """Return the fields that the order gives.

        Raises:
            FieldError: somebody else gives one too, and another value.
        """
        fields = {} if self.allot is None else self.allot(csr).fields
        _refuse_filled_in(fields)
        for name, value in fields.items():
            if given.get(name, value) != value:
                raise FieldError(
                    f"field {name!r} is {given[name]!r} here, and the order gives {value!r}; leave it out",
                    code="field.ordered",
                )
        return fields

    issuer: bytes = field(init=False)
    """What names the issuer in the journal."""
    common: Mapping[str, str] = field(init=False)
    """The fields of all requests, those that are filled in among them."""

    def __post_init__(self) -> None:
        """Compute what is the same for all requests.

        Raises:
            FieldError: one of the fields is never given (``field.filled_in``).
            JournalError: a batch can't have this name (``journal.batch_name``).
            WarrantError: the profile needs an order, and there is none (``warrant.missing``).
        """
        if self.profile.order is OrderRule.REQUIRED and self.allot is None:
            raise WarrantError(
                f"certificates of profile {self.profile.name!r} are signed under a production order only; name an "
                "imported one with --order NAME",
                code="warrant.missing",
            )
        _refuse_filled_in(self.fields)
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
            self.check_same(found, wanted)
            return await self.resume(found, self.warrant(csr))
        intent = await self.journal.perform(partial(reserve, wanted=wanted))
        return await self.finish(intent, draft, self.warrant(csr))

    async def finish(self, intent: Intent, draft: LintedTbs, warrant: Warrant | None = None) -> Issued:
        """Sign what is intended, and record it."""
        again = partial(self.journal.attempt, intent.issuance_id)
        return await self.journal.record(intent, await self.authority.issue(draft, again=again, warrant=warrant))

    async def resume(self, found: IssuanceRecord, warrant: Warrant | None = None) -> Issued:
        """Sign what an earlier run intended: the same bytes; the try is counted before the token is asked."""
        draft = self.authority.redraft(self.profile, found.tbs)
        return await self.finish(await self.journal.attempt(found.id), draft, warrant)

    def open_intent(self, spki_sha256: bytes) -> IssuanceRecord | None:
        """Return what was intended for a key and never signed."""
        with self.journal.reader() as reader:
            found = [one for one in reader.by_key(spki_sha256) if one.state is not IssuanceState.VOID]
        return found[-1] if found and found[-1].state is IssuanceState.INTENT else None

    def check_same(self, found: IssuanceRecord, wanted: Reservation) -> None:
        """Refuse to finish something else than what is wanted now: only serial number and validity may differ.

        Raises:
            HsmError: ``issuance.other_intent``.
        """
        had = (found.issuer, found.profile, found.subject, found.batch)
        same = had == (wanted.issuer, wanted.profile, wanted.subject, wanted.batch)
        if not same or _content(found.tbs) != _content(wanted.draft.tbs):
            what = "" if same else f", profile {found.profile}"
            raise HsmError(
                f"an earlier run intended another certificate for this key and never signed it: {found.subject}{what}, "
                f"serial {found.serial:032x}; finish that one by asking for exactly the same again (names and fields), "
                "or give it up",
                code="issuance.other_intent",
            )


def _refuse_filled_in(given: Mapping[str, str]) -> None:
    for name in sorted(_FILLED_IN & given.keys()):
        raise FieldError(
            f"field {name!r} follows from the batch, the issuer and the names of a certificate, and is never given; "
            "leave it out (a batch is named with --batch)",
            code="field.filled_in",
        )


def _content(tbs: bytes) -> list[bytes]:
    """Return the fields of a TBSCertificate (RFC 5280 4.1) without those that each draft has anew."""
    fields = tlv.parts(tbs)
    return [*fields[:_SERIAL_FIELD], *fields[_SERIAL_FIELD + 1 : _VALIDITY_FIELD], *fields[_VALIDITY_FIELD + 1 :]]


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
