"""A certificate authority whose keys live in PKCS#11 tokens.

::

    with Signer.open(TokenUri.parse("pkcs11:token=intermediate?module-path=...&pin-source=file:/etc/pin")) as signer:
        authority = await Authority.open(signer, issuer=certificate)
        csr = Csr.parse(request)
        draft = authority.draft(Profile.load("idevid"), csr.public_key, fields=..., serial=new_serial(1), now=now)
        certificate = await authority.issue(draft)

Open first:

- ``authority.py``: how one certificate is made, step by step.
- ``signer.py``: the thread that owns a token. Below it ``token.py``, ``module.py``; before it ``uri.py``, ``pin.py``.
- ``keys.py``: private keys in a token as pyca key classes; ``key_store.py`` finds and makes them.
- ``failover.py``: tokens that hold one key; ``issuers.py``: several CAs; ``quirks.py``: how libraries differ.
- ``counting.py``: how often a key was asked; ``fake_token.py``: a token that fails on demand.
- ``issuing.py``: from a request to a recorded certificate; ``batch.py``: a folder of them.
- ``warrant.py``: the signer's own gate: no identity is signed but under an order.
- ``csr.py``: what a request must be. ``profiles.py``: what a certificate looks like. ``lint.py``: what stops it.
- ``journal``: what a CA signed, durable before it is signed; ``durable``: the file that it is written in.
- ``revocation``: revoking, and CRLs. ``ocsp``: the same by OCSP. Import both by their own names.
- ``ceremony``: making a CA, from one file that two people reviewed. ``toml``: how such files are read.
- ``testing.py``: a CA on SoftHSM for tests; import it by its own name.
- ``errors.py``: what can go wrong, and what may be tried then.

This package knows neither ``station`` nor ``firmware_tools``.
"""

from hsm.algorithms import KeyFamily, KeyKind
from hsm.authority import Authority, LintedTbs
from hsm.ceremony import NewCa, init_ca
from hsm.counting import SignatureCount, SignatureCounts, read_counts
from hsm.csr import Csr, KeyPolicy
from hsm.errors import (
    AuditError,
    CeremonyError,
    CrlError,
    CsrError,
    FieldError,
    HsmError,
    IssuanceError,
    JournalError,
    KeyMissing,
    KeyUnfit,
    LintError,
    ModuleError,
    OcspError,
    PinError,
    ProfileError,
    Recovery,
    RevocationError,
    SignerError,
    TokenError,
    UriError,
    WarrantError,
)
from hsm.failover import Spread, TokenGroup
from hsm.health import State
from hsm.issuers import Issuer, Issuers
from hsm.key_store import KeyFacts, find_key, generate_key, read_facts
from hsm.keys import EcTokenKey, Ed25519TokenKey, RsaTokenKey
from hsm.pin import PinSource
from hsm.profiles import OrderRule, Profile
from hsm.serials import new_serial
from hsm.signer import Signer
from hsm.timing import Timing
from hsm.token import TokenFacts
from hsm.uri import TokenUri
from hsm.warrant import Warrant

__all__ = [
    "AuditError",
    "Authority",
    "CeremonyError",
    "CrlError",
    "Csr",
    "CsrError",
    "EcTokenKey",
    "Ed25519TokenKey",
    "FieldError",
    "HsmError",
    "IssuanceError",
    "Issuer",
    "Issuers",
    "JournalError",
    "KeyFacts",
    "KeyFamily",
    "KeyKind",
    "KeyMissing",
    "KeyPolicy",
    "KeyUnfit",
    "LintError",
    "LintedTbs",
    "ModuleError",
    "NewCa",
    "OcspError",
    "OrderRule",
    "PinError",
    "PinSource",
    "Profile",
    "ProfileError",
    "Recovery",
    "RevocationError",
    "RsaTokenKey",
    "SignatureCount",
    "SignatureCounts",
    "Signer",
    "SignerError",
    "Spread",
    "State",
    "Timing",
    "TokenError",
    "TokenFacts",
    "TokenGroup",
    "TokenUri",
    "UriError",
    "Warrant",
    "WarrantError",
    "find_key",
    "generate_key",
    "init_ca",
    "new_serial",
    "read_counts",
    "read_facts",
]
