"""The certificates that a configuration names."""

from pathlib import Path
from typing import Final

from cryptography import x509

from station.errors import ConfigError

ROOT_STAYS: Final = (
    "this is a root, and root tokens are opened by 'station ca ceremony' only; make an intermediate and name it in [ca]"
)
"""What is said to a configuration that signs with a root."""


def load_issuer(path: Path) -> x509.Certificate:
    """Read the certificate of the CA that signs here, before its token is opened.

    Raises:
        ConfigError: it is not there, can't be read, or is a root's: root tokens are opened by ceremonies only.
    """
    issuer = load_certificate(path)
    if is_root(issuer):
        raise ConfigError(f"{path}: {ROOT_STAYS}", code="config.root_as_issuer")
    return issuer


def is_root(certificate: x509.Certificate) -> bool:
    """Whether a certificate was issued by itself."""
    return certificate.subject == certificate.issuer


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
