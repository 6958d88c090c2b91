"""Making the CRLs that are due, and publishing them.

1. The journal is compared with the folder: is it the one that the files there come from (``check_published``)?
2. ``due`` says which CRLs have to be made, by what lies in the folder. One number is taken for all of them, durable,
   before anything is signed.
3. Each is written from the journal's rows, counted, signed by the token, read again, verified, and recorded.
4. Only then are the files put into their places, each whole.

A program that dies in between leaves a number that nobody used, and the files as they were: they are due as before.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from hsm.algorithms import SignatureScheme, scheme_of
from hsm.errors import CrlError
from hsm.journal import CaJournal, JournalReader, certificate_sha256, shard_name
from hsm.keys import AnyTokenKey
from hsm.revocation import numbers
from hsm.revocation.acts import revoker_of
from hsm.revocation.crl import CrlTerms, SignedCrl, TbsCrl, sign_crl
from hsm.revocation.folder import CrlFolder
from hsm.revocation.scopes import DELTA, FULL, Scope

_WITHOUT_BATCH: Final = (
    "SELECT 1 FROM issuance WHERE batch_id IS NULL AND issuer_id = (SELECT id FROM issuer WHERE sha256 = ?) LIMIT 1"
)

DEFAULT_EVERY: Final = dt.timedelta(days=1)
DEFAULT_OVERLAP: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CrlPolicy:
    """How often CRLs are made, and how long they are valid."""

    every: dt.timedelta = DEFAULT_EVERY
    """A new one is made so long after the last."""
    overlap: dt.timedelta = DEFAULT_OVERLAP
    """A CRL is valid for so long after its successor was due: time to notice that none came."""
    url: str | None = None
    """Where the folder is served; None: no delta and no shards, which both are found by their URL."""

    @property
    def validity(self) -> dt.timedelta:
        """From thisUpdate to nextUpdate."""
        return self.every + self.overlap


@dataclass(frozen=True, slots=True)
class CrlIssuer:
    """Who signs CRLs."""

    certificate: x509.Certificate
    key: AnyTokenKey
    policy: CrlPolicy = CrlPolicy()
    pss: bool = False
    """Its RSA key signs with PSS, as a profile says; where its certificate says so, it does by itself."""

    @property
    def scheme(self) -> SignatureScheme:
        """How it signs."""
        return scheme_of(self.certificate, pss=self.pss)

    @property
    def revoker(self) -> bytes:
        """What names it in the journal's revocations."""
        return revoker_of(self.certificate)


@dataclass(frozen=True, slots=True)
class Made:
    """A CRL that was made."""

    scope: Scope
    crl: SignedCrl
    path: Path | None = None
    """Where it was published."""


def scopes(reader: JournalReader, issuer: CrlIssuer, more: Iterable[str] = ()) -> list[Scope]:
    """Return every CRL that this issuer has; without a URL there is the full one only.

    Args:
        reader: of the journal.
        issuer: whose.
        more: shards that the journal does not know, like the orders of a station.
    """
    if issuer.policy.url is None:
        return [FULL]
    signer = certificate_sha256(issuer.certificate)
    batches = {batch.name for batch in reader.batches() if batch.issuer == signer}
    if [*reader.rows(_WITHOUT_BATCH, signer)]:
        batches.add(shard_name(None))
    known = numbers.shards(reader, issuer.revoker) | batches | set(more)
    return [FULL, DELTA, *(Scope.of_shard(shard) for shard in sorted(known))]


def check_published(reader: JournalReader, issuer: x509.Certificate, folder: CrlFolder) -> None:
    """See that the journal is the one that the published CRLs come from, and no older copy of it.

    Raises:
        CrlError: it is not (``crl.number_behind``, ``crl.not_on_record``), or a file is no CRL of this issuer.
    """
    revoker = revoker_of(issuer)
    folder.check(lambda: numbers.highest_number(reader, revoker), lambda sha256: numbers.knows(reader, revoker, sha256))


def due(
    reader: JournalReader,
    issuer: CrlIssuer,
    wanted: Sequence[Scope],
    now: dt.datetime,
    folder: CrlFolder | None = None,
) -> list[Scope]:
    """Return which of the CRLs have to be made now.

    Each when its time has come; the delta and the shards also when something was revoked, held or released that they
    don't tell yet; and the full one then too, if there is no delta to tell it.

    Args:
        reader: of the journal.
        issuer: whose.
        wanted: which are asked about.
        now: the time.
        folder: what lies there counts, not what was signed last: that may never have been published. None: what was
            signed last.
    """
    revoker = issuer.revoker
    made = _lying(reader, revoker, folder, {FULL, *wanted}) if folder else numbers.newest(reader, revoker)
    full = made.get(FULL)
    found = []
    for scope in wanted:
        last = made.get(scope)
        if last is None:
            is_due = scope != DELTA or numbers.base_for_delta(reader, issuer.revoker, now) is not None
        elif now >= last.this_update + issuer.policy.every or now < last.this_update:
            is_due = True
        else:
            told = max(last.last_act, full.last_act) if scope == DELTA and full is not None else last.last_act
            changed = numbers.newest_act(reader, issuer.revoker, scope.shard) > told
            is_due = changed and (scope != FULL or issuer.policy.url is None)
        if is_due:
            found.append(scope)
    return found


def _lying(
    reader: JournalReader, revoker: bytes, folder: CrlFolder, wanted: Iterable[Scope]
) -> Mapping[Scope, numbers.CrlRecord]:
    """Return the records of the CRLs in a folder, without what is not on record or not in its place."""
    found = {}
    for scope in wanted:
        sha256 = folder.sha256(scope)
        record = None if sha256 is None else numbers.signed_as(reader, revoker, sha256)
        if record is not None and record.scope == scope:
            found[scope] = record
    return found


def make(journal: CaJournal, issuer: CrlIssuer, wanted: Sequence[Scope], now: dt.datetime) -> list[Made]:
    """Make CRLs under one number. Blocks.

    Args:
        journal: open for writing.
        issuer: who signs.
        wanted: which; a delta is left out when there is no complete CRL that is still valid.
        now: thisUpdate.

    Raises:
        CrlError: a delta or a shard without a URL (``crl.no_url``), or the issuer's certificate is not valid now.
        TokenError: the token refused. The number is used up then; nothing else has changed.
    """
    moment = now.astimezone(dt.UTC).replace(microsecond=0)
    _check(issuer, wanted, moment)
    with journal.reader() as reader:
        plans = _plans(reader, issuer, wanted, moment)
        reserved = numbers.reserve(journal, issuer.revoker, plans) if plans else []
        return [_made(journal, reader, issuer, one) for one in reserved]


def publish(
    journal: CaJournal, issuer: CrlIssuer, folder: CrlFolder, wanted: Sequence[Scope], now: dt.datetime
) -> list[Made]:
    """Make CRLs and put them into the folder. Blocks.

    Raises:
        CrlError: as ``make`` and ``check_published``; or the folder can't be written (``crl.folder``).
    """
    with journal.reader() as reader:
        check_published(reader, issuer.certificate, folder)
    made = make(journal, issuer, wanted, now)
    return [Made(one.scope, one.crl, folder.write(one.scope, one.crl.der)) for one in made]


def _check(signing: CrlIssuer, wanted: Sequence[Scope], now: dt.datetime) -> None:
    issuer = signing.certificate
    if signing.policy.url is None and any(scope != FULL for scope in wanted):
        raise CrlError(
            'delta CRLs and shards are found by their URL; write url = "http://…" into [crl], as it stands in the '
            "profiles",
            code="crl.no_url",
        )
    if not issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc:
        raise CrlError(
            f"the issuer's certificate is not valid at {now:%Y-%m-%d %H:%M:%S}Z; check the clock",
            code="crl.issuer_not_valid",
        )
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.crl_sign:
        raise CrlError("the issuer's certificate may not sign CRLs (keyUsage lacks cRLSign)", code="crl.key_usage")


def _plans(reader: JournalReader, issuer: CrlIssuer, wanted: Sequence[Scope], now: dt.datetime) -> list[numbers.Plan]:
    made = numbers.newest(reader, issuer.revoker)
    plans = []
    for scope in wanted:
        base = numbers.base_for_delta(reader, issuer.revoker, now) if scope == DELTA else None
        if scope == DELTA and base is None:
            continue
        # What has expired stands on one more CRL, and then on none (RFC 5280 3.3).
        before = base or made.get(scope)
        keep = before.this_update if before else None
        plans.append(numbers.Plan(scope, now, now + issuer.policy.validity, base, keep))
    return plans


def _made(journal: CaJournal, reader: JournalReader, issuer: CrlIssuer, reserved: numbers.Reserved) -> Made:
    scope, plan, url = reserved.plan.scope, reserved.plan, issuer.policy.url
    terms = CrlTerms(
        number=reserved.number,
        this_update=plan.this_update,
        next_update=plan.next_update,
        base=plan.base.number if plan.base else None,
        distribution_point=scope.url(url) if scope.shard is not None and url else None,
        freshest=DELTA.url(url) if scope == FULL and url else None,
    )
    tbs = TbsCrl(issuer.certificate, issuer.scheme, terms)
    tbs.add(numbers.entries(reader, issuer.revoker, reserved))
    count = partial(journal.count_signature_blocking, "crl", certificate_sha256(issuer.certificate))
    count()
    signed = sign_crl(issuer.certificate, issuer.key, tbs, terms, again=count)
    numbers.record(journal, reserved, entries=signed.entries, sha256=signed.sha256)
    return Made(scope, signed)
