"""A CA on SoftHSM in a temporary folder, for tests: ours, and those of whoever builds on ``hsm``.

::

    with temporary_ca(tmp_path) as ca:
        authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])

SoftHSM has to be installed (``apt-get install softhsm2``). One process can use one folder at a time: a folder is let go
when its last signer is closed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.algorithms import SCHEMES, KeyKind, PublicKey, family_of
from hsm.ceremony import TokenChoice, init_ca
from hsm.profiles import OrderRule, Profile
from hsm.signer import Signer
from hsm.uri import TokenUri
from softhsm import SoftHsm, make_tokens

ROOT_TOKEN: Final = "root"  # noqa: S105 - labels of tokens, not passwords
INTERMEDIATE_TOKEN: Final = "intermediate"  # noqa: S105

__all__ = [
    "INTERMEDIATE_TOKEN",
    "ROOT_TOKEN",
    "SoftHsm",
    "TemporaryCa",
    "ceremony_tokens",
    "make_csr",
    "make_tokens",
    "open_signer",
    "temporary_ca",
    "unordered",
]


@dataclass(frozen=True, slots=True)
class TemporaryCa:
    """A root and an intermediate, and a signer that is logged in to the intermediate's token."""

    softhsm: SoftHsm
    signer: Signer
    issuer: x509.Certificate
    root: x509.Certificate
    folder: Path
    """Holds ``root.pem`` and ``intermediate.pem``."""


def open_signer(softhsm: SoftHsm, label: str, *, writable: bool = False, counts: Path | None = None) -> Signer:
    """Log in to a token that ``make_tokens`` made; ``counts`` is as for ``Signer.open``."""
    return Signer.open(
        TokenUri.parse(softhsm.uri(label)), environment=softhsm.environment, writable=writable, counts=counts
    )


def ceremony_tokens(directory: Path, names: Sequence[str]) -> dict[str, TokenChoice]:
    """Make tokens that take the place of those of a ceremony's file.

    Args:
        directory: for ``make_tokens``.
        names: what the file calls its tokens (``Plan.used_tokens``); the tokens are labelled so.
    """
    softhsm = make_tokens(directory, names)
    return {name: TokenChoice(TokenUri.parse(softhsm.uri(name)), softhsm.environment) for name in names}


@contextmanager
def temporary_ca(
    directory: Path,
    *,
    root_kind: KeyKind = KeyKind.P256,
    intermediate_kind: KeyKind = KeyKind.P256,
    extra_tokens: Sequence[str] = (),
    counts: Path | None = None,
) -> Iterator[TemporaryCa]:
    """Make two tokens and a CA in them; log in to the intermediate's.

    Args:
        directory: gets the folders ``hsm`` and ``ca``.
        root_kind: the root's key.
        intermediate_kind: the intermediate's key.
        extra_tokens: labels of more tokens, made at once: SoftHSM sees no token that was made later.
        counts: folder where signatures of the intermediate are counted.
    """
    softhsm = make_tokens(directory / "hsm", [ROOT_TOKEN, INTERMEDIATE_TOKEN, *extra_tokens])
    made = init_ca(
        root=TokenUri.parse(softhsm.uri(ROOT_TOKEN)),
        intermediate=TokenUri.parse(softhsm.uri(INTERMEDIATE_TOKEN)),
        name="Test",
        folder=directory / "ca",
        root_kind=root_kind,
        intermediate_kind=intermediate_kind,
        environment=softhsm.environment,
    )
    with open_signer(softhsm, INTERMEDIATE_TOKEN, counts=counts) as signer:
        yield TemporaryCa(softhsm, signer, made.intermediate, made.root, directory / "ca")


def unordered(profile: Profile) -> Profile:
    """Return a profile whose certificates need no production order: for tests of everything but orders."""
    return replace(profile, order=OrderRule.NONE)


def make_csr(key: ec.EllipticCurvePrivateKey | None = None, common_name: str = "device") -> bytes:
    """Return a request (DER) as a device would make it.

    Args:
        key: the device's key, on P-256 or P-384; a fresh one when left out.
        common_name: what it asks for as its subject.
    """
    private = key or ec.generate_private_key(ec.SECP256R1())
    public: PublicKey = private.public_key()
    family = family_of(public)
    digest = SCHEMES[family].hash if family else hashes.SHA256()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(private, digest)
    return request.public_bytes(serialization.Encoding.DER)
