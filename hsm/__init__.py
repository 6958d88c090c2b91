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
- ``csr.py``: what a request must be. ``profiles.py``: what a certificate looks like. ``lint.py``: what stops it.
- ``ceremony.py``: making a CA. ``testing.py``: a CA on SoftHSM for tests; import it by its own name.
- ``errors.py``: what can go wrong, and what may be tried then.

This package knows neither ``station`` nor ``firmware_tools``.
"""

from hsm.algorithms import KeyFamily, KeyKind
from hsm.authority import Authority, LintedTbs, new_serial
from hsm.ceremony import NewCa, init_ca
from hsm.csr import Csr, KeyPolicy
from hsm.errors import (
    CeremonyError,
    CsrError,
    FieldError,
    HsmError,
    IssuanceError,
    KeyMissing,
    KeyUnfit,
    LintError,
    ModuleError,
    PinError,
    ProfileError,
    Recovery,
    SignerError,
    TokenError,
    UriError,
)
from hsm.key_store import KeyFacts, find_key, generate_key, read_facts
from hsm.keys import EcTokenKey, Ed25519TokenKey, RsaTokenKey
from hsm.pin import PinSource
from hsm.profiles import Profile
from hsm.signer import Signer
from hsm.token import TokenFacts
from hsm.uri import TokenUri

__all__ = [
    "Authority",
    "CeremonyError",
    "Csr",
    "CsrError",
    "EcTokenKey",
    "Ed25519TokenKey",
    "FieldError",
    "HsmError",
    "IssuanceError",
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
    "PinError",
    "PinSource",
    "Profile",
    "ProfileError",
    "Recovery",
    "RsaTokenKey",
    "Signer",
    "SignerError",
    "TokenError",
    "TokenFacts",
    "TokenUri",
    "UriError",
    "find_key",
    "generate_key",
    "init_ca",
    "new_serial",
    "read_facts",
]
