"""The certificates that a configuration names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from station.errors import ConfigError

ROOT_STAYS: Final = (
    "this is a root, and root tokens are opened by 'station ca ceremony' only; make an intermediate and name it in [ca]"
)
"""What is said to a configuration that signs with a root."""

_MOST: Final = 1024 * 1024
"""Octets of a file that may be certificates."""


def load_issuer(path: Path) -> x509.Certificate:
    """Read the certificate of the CA that signs here, before its token is opened.

    Raises:
        ConfigError: it is not there, can't be read, or is a root's: root tokens are opened by ceremonies only.
    """
    issuer = load_certificate(path)
    if is_root(issuer, path.parent):
        raise ConfigError(f"{path}: {ROOT_STAYS}", code="config.root_as_issuer")
    return issuer


def is_root(certificate: x509.Certificate, folder: Path | None = None) -> bool:
    """Whether a certificate was issued by itself, or its key issued another one in a folder that was.

    A root may have further certificates, below other roots, that look like any issuer's.
    """
    if certificate.subject == certificate.issuer:
        return True
    return folder is not None and any(root.public_key() == certificate.public_key() for root in roots_in(folder))


def roots_in(folder: Path) -> Iterator[x509.Certificate]:
    """Yield the certificates in a folder (``*.pem``) that were issued by themselves; what can't be read is none."""
    for path in sorted(folder.glob("*.pem")):
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes()) if path.stat().st_size <= _MOST else []
        except (OSError, ValueError):
            continue
        yield from (certificate for certificate in found if is_root(certificate))


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        ConfigError: it is not there, or can't be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such certificate; make one with 'station ca init', or correct [ca]") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a PEM certificate that can be read ({error})") from None
