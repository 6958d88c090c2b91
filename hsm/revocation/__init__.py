"""Revoking certificates, and telling the world by CRLs (RFC 5280 5).

::

    revoke(journal, revoker_of(issuer), [Target(serial, shard="WO-1001")], Reason.KEY_COMPROMISE)
    folder = CrlFolder(Path("crl"), issuer)
    signing = CrlIssuer(issuer, key, CrlPolicy(url="http://crl.example.com"))
    with journal.reader() as reader:
        wanted = due(reader, signing, scopes(reader, signing), now, folder)
    publish(journal, signing, folder, wanted, now)

Open first ``acts.py``: what can be done to a certificate, as rows of the CA's journal that are never deleted. Then
``publishing.py``: which CRLs are due, and how one is made; ``crl.py`` writes it, ``scopes.py`` says what it is about,
``numbers.py`` counts, ``folder.py`` publishes. ``adopting.py`` is for the day on which the journal is lost.

Knows nothing of: who asks, what units and orders are, and OCSP, which reads the same rows (``hsm.ocsp``).
"""

from hsm.revocation.acts import (
    Act,
    Outcome,
    Standing,
    Target,
    hold,
    release,
    revoke,
    revoker_of,
    standing,
    standings,
)
from hsm.revocation.adopting import Adopted, adopt
from hsm.revocation.crl import CrlTerms, Revoked, SignedCrl
from hsm.revocation.folder import CrlFolder, number_of, read_crl
from hsm.revocation.publishing import CrlIssuer, CrlPolicy, Made, check_published, due, make, publish, scopes
from hsm.revocation.reasons import FINAL, Reason
from hsm.revocation.scopes import DELTA, FULL, Scope, shard_of

__all__ = [
    "DELTA",
    "FINAL",
    "FULL",
    "Act",
    "Adopted",
    "CrlFolder",
    "CrlIssuer",
    "CrlPolicy",
    "CrlTerms",
    "Made",
    "Outcome",
    "Reason",
    "Revoked",
    "Scope",
    "SignedCrl",
    "Standing",
    "Target",
    "adopt",
    "check_published",
    "due",
    "hold",
    "make",
    "number_of",
    "publish",
    "read_crl",
    "release",
    "revoke",
    "revoker_of",
    "scopes",
    "shard_of",
    "standing",
    "standings",
]
