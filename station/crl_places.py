"""Where each issuing CA of a configuration publishes its revocation lists.

The lists of ``[ca]`` stand in ``[crl] directory``, at ``url``. Those of each ``[[issuer]]`` stand in a folder below,
named by the issuer's key identifier in hex, at the same path below ``url``: what ``{issuer}`` becomes in a profile.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from hsm.revocation import CrlFolder, CrlPolicy
from station.config import Config, TokensSection
from station.config.certificates import load_certificate, load_issuer
from station.errors import StationError


@dataclass(frozen=True, slots=True)
class CrlPlace:
    """One issuing CA, and where its lists are."""

    issuer: x509.Certificate
    tokens: TokensSection
    folder: CrlFolder
    policy: CrlPolicy


def key_identifier(issuer: x509.Certificate) -> bytes:
    """Return what certificates name their issuer by (RFC 5280 4.2.1.1)."""
    return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def names_issuer(issuer: x509.Certificate) -> bytes:
    """Return the bytes by which a TBSCertificate names this issuer: ``keyIdentifier [0]`` of RFC 5280 4.2.1.1."""
    identifier = key_identifier(issuer)
    return bytes((0x80, len(identifier))) + identifier


def issuers_of(config: Config) -> list[x509.Certificate]:
    """Return the certificates of the issuing CAs, that of ``[ca]`` first.

    Raises:
        ConfigError: one is missing, or is a root's.
    """
    return [load_issuer(path) for path in (config.ca.certificate, *(one.certificate for one in config.issuers))]


def crl_places(config: Config, directory: Path) -> list[CrlPlace]:
    """Return where each issuing CA publishes, that of ``[ca]`` first.

    Args:
        config: names the issuers.
        directory: ``[crl] directory``, or another one in its place.

    Raises:
        ConfigError: a certificate is missing, or is a root's.
    """
    policy = CrlPolicy() if config.crl is None else config.crl.policy
    tokens = (config.ca.tokens, *(one.tokens for one in config.issuers))
    places = []
    for number, (issuer, which) in enumerate(zip(issuers_of(config), tokens, strict=True)):
        name = key_identifier(issuer).hex()
        url = policy.url if policy.url is None or not number else f"{policy.url.rstrip('/')}/{name}"
        folder = CrlFolder(directory / name if number else directory, issuer)
        places.append(CrlPlace(issuer, which, folder, replace(policy, url=url)))
    return places


def place_of(config: Config, certificate: Path | None) -> CrlPlace:
    """Return the place of one issuing CA, by the file of its certificate; of ``[ca]`` if none is named.

    Raises:
        StationError: neither ``[ca]`` nor an ``[[issuer]]`` has this certificate (``config.no_issuer``).
    """
    places = crl_places(config, config.path.parent if config.crl is None else config.crl.directory)
    if certificate is None:
        return places[0]
    wanted = load_certificate(certificate)
    for place in places:
        if place.issuer == wanted:
            return place
    raise StationError(f"{certificate}: neither [ca] nor an [[issuer]] has this certificate", code="config.no_issuer")
