"""What became of units after they passed, brought into the CA's journal: from there CRLs and OCSP answers tell it.

The manifest is written first and says what has to be; the journal follows. So the two can't contradict each other for
long: whatever stopped an act half way, the next one who looks (the same command, the daemon's schedule, ``station ca
crl publish``) finishes it.

===============  ==============================================
act              what the journal gets
===============  ==============================================
scrap            revoke, ``cessationOfOperation``
void             revoke, ``superseded``
rework, replace  revoke, ``superseded``
rma              hold, ``certificateHold``
release          release, ``removeFromCRL`` in delta CRLs
===============  ==============================================

A certificate that was on record, and that the line gave up by itself (a board came with another key), is ``superseded``
too. What was given up before it was on record may not exist: ``station ca revoke --void`` revokes that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from hsm.durable import Reader
from hsm.journal import CaJournal, JournalReader
from hsm.revocation import Act as CaAct
from hsm.revocation import Reason, Target, hold, release, revoke, revoker_of, shard_of
from station.config import Config
from station.crl_places import issuers_of, names_issuer
from station.manifest import Act, ManifestReader

_REASONS: Final = {
    Act.SCRAP: Reason.CESSATION_OF_OPERATION,
    Act.VOID: Reason.SUPERSEDED,
    Act.REWORK: Reason.SUPERSEDED,
    Act.REPLACE: Reason.SUPERSEDED,
}

_NEWEST: Final = """
SELECT life_act.act, life_act.at, issuance.certificate_serial, production_order.name, issuance.tbs, issuance.certificate
FROM life_act JOIN issuance ON issuance.id = life_act.issuance_id
JOIN unit ON unit.id = issuance.unit_id JOIN production_order ON production_order.id = unit.order_id
WHERE life_act.id IN (SELECT max(id) FROM life_act WHERE issuance_id IS NOT NULL GROUP BY issuance_id)
ORDER BY life_act.id
"""

_GIVEN_UP: Final = """
SELECT 'void', issuance.changed_at, issuance.certificate_serial, production_order.name, issuance.tbs,
       issuance.certificate
FROM issuance INDEXED BY void_issuance JOIN unit ON unit.id = issuance.unit_id
JOIN production_order ON production_order.id = unit.order_id
WHERE issuance.state = 'void' AND issuance.certificate IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM life_act WHERE life_act.issuance_id = issuance.id)
ORDER BY issuance.changed_at
"""
"""What the line gave up, with no person behind it."""

_NEWEST_ACT: Final = """
SELECT coalesce((SELECT max(id) FROM life_act), 0),
       (SELECT count(*) FROM issuance INDEXED BY void_issuance WHERE state = 'void')
"""

_NEWEST_REVOCATION: Final = "SELECT coalesce(max(id), 0) FROM revocation"

_STANDING: Final = """
SELECT act, at FROM revocation WHERE revoker_id = (SELECT id FROM revoker WHERE spki_sha256 = ?) AND serial = ?
ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the journal lacks."""

    act: CaAct
    reason: Reason
    revoker: bytes
    target: Target


def pending(config: Config, journal: Reader | None) -> list[Wish]:
    """Return what became of units and the journal does not say yet: what the line gave up, then acts, oldest first.

    Args:
        config: names manifest and issuers.
        journal: the CA's journal; None where there is none yet.

    Raises:
        ManifestError, JournalError, ConfigError: a file can't be read.
    """
    if not config.station.manifest.exists():
        return []
    with ManifestReader(config.station.manifest) as manifest:
        rows = [*manifest.rows(_GIVEN_UP), *manifest.rows(_NEWEST)]
    return [*_wishes(rows, issuers_of(config), journal)] if rows else []


Mark = tuple[int, ...]
"""What has to change before anything can be pending again."""


def mark(config: Config, journal: Reader) -> Mark:
    """Return how far both records are; while it stays the same, so does ``pending``. Costs three look-ups.

    Args:
        config: names the manifest.
        journal: the CA's journal.

    Raises:
        ManifestError, JournalError: a file can't be read.
    """
    (revocations,) = next(iter(journal.rows(_NEWEST_REVOCATION)))
    if not config.station.manifest.exists():
        return (-1, -1, int(revocations))
    with ManifestReader(config.station.manifest) as manifest:
        acts, voids = next(iter(manifest.rows(_NEWEST_ACT)))
    return (int(acts), int(voids), int(revocations))


def settle(config: Config, journal: CaJournal) -> list[Wish]:
    """Write into the journal what it lacks; repeatable. Blocks.

    Returns:
        What was written.

    Raises:
        ManifestError, JournalError, ConfigError: as ``pending``; what was written before stays.
    """
    with journal.reader() as reader:
        wishes = pending(config, reader)
    for wish in wishes:
        match wish.act:
            case CaAct.REVOKE:
                revoke(journal, wish.revoker, [wish.target], wish.reason)
            case CaAct.HOLD:
                hold(journal, wish.revoker, [wish.target])
            case CaAct.RELEASE:
                release(journal, wish.revoker, [wish.target])
    return wishes


def lacks(config: Config) -> bool:
    """Whether the journal lacks anything; looks without its lock."""
    if not config.ca.journal.exists():
        return bool(pending(config, None))
    with JournalReader(config.ca.journal) as reader:
        return bool(pending(config, reader))


def _wishes(
    rows: Sequence[tuple[str, str, str, str, bytes, bytes | None]],
    issuers: Sequence[x509.Certificate],
    journal: Reader | None,
) -> Iterator[Wish]:
    revokers = [(names_issuer(issuer), revoker_of(issuer)) for issuer in issuers]
    for text, at, serial, order, tbs, certificate in rows:
        revoker = next((key for name, key in revokers if name in tbs), None)
        if revoker is None:  # issued by a CA that is not configured any more: its own station revokes it
            continue
        found = None if journal is None else next(journal.rows(_STANDING, revoker, serial), None)
        act = _missing(Act(text), at, found)
        if act is None:
            continue
        not_after = None if certificate is None else x509.load_der_x509_certificate(certificate).not_valid_after_utc
        reason = _REASONS.get(Act(text), Reason.UNSPECIFIED)
        yield Wish(act, reason, revoker, Target(int(serial, 16), shard_of(order), not_after))


def _missing(act: Act, at: str, found: tuple[str, str] | None) -> CaAct | None:
    """Return what has to be done to a certificate, if anything.

    Args:
        act: the newest act on its unit that is about it.
        at: when that was.
        found: the newest act on it in the journal, and when; whatever was done there by hand after ``at`` stays.
    """
    standing, since = (None, "") if found is None else (CaAct(found[0]), found[1])
    if act in _REASONS:
        return None if standing is CaAct.REVOKE else CaAct.REVOKE
    if standing is CaAct.REVOKE or since >= at:
        return None
    if act is Act.RMA:
        return None if standing is CaAct.HOLD else CaAct.HOLD
    return CaAct.RELEASE if standing is CaAct.HOLD else None
