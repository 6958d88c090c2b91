"""Where each issuing CA of a configuration publishes its revocation lists.

The lists of ``[ca]`` stand in ``[crl] directory``, at ``url``. Those of each ``[[issuer]]`` stand in a folder below,
named by the issuer's key identifier in hex, at the same path below ``url``: what ``{issuer}`` becomes in a profile.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from hsm import Profile
from hsm.keys import AnyTokenKey
from hsm.revocation import CrlFolder, CrlIssuer, CrlPolicy
from station.config import Config, TokensSection
from station.config.certificates import load_certificate, load_issuer
from station.errors import StationError
from station.signing import issuing_cas


@dataclass(frozen=True, slots=True)
class CrlPlace:
    """One issuing CA, and where its lists are."""

    issuer: x509.Certificate
    tokens: TokensSection
    folder: CrlFolder
    policy: CrlPolicy
    pss: bool = False
    """The line's profile says that RSA signs with PSS, and this CA signs it: its lists are signed so too."""

    def signing(self, key: AnyTokenKey) -> CrlIssuer:
        """Return who signs its lists."""
        return CrlIssuer(self.issuer, key, self.policy, self.pss)


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
    return [load_issuer(one.certificate) for one in issuing_cas(config)]


def crl_places(config: Config, directory: Path) -> list[CrlPlace]:
    """Return where each issuing CA publishes, that of ``[ca]`` first.

    Args:
        config: names the issuers.
        directory: ``[crl] directory``, or another one in its place.

    Raises:
        ConfigError: a certificate is missing, or is a root's.
        ProfileError: the line's profile can't be used.
    """
    policy = CrlPolicy() if config.crl is None else config.crl.policy
    profile = Profile.load(config.ca.profile)
    places = []
    for number, one in enumerate(issuing_cas(config)):
        issuer = load_issuer(one.certificate)
        pss = profile.rsa_pss and profile.name in (one.profiles or {profile.name})
        name = key_identifier(issuer).hex()
        url = policy.url if policy.url is None or not number else f"{policy.url.rstrip('/')}/{name}"
        folder = CrlFolder(directory / name if number else directory, issuer)
        places.append(CrlPlace(issuer, one.tokens, folder, replace(policy, url=url), pss))
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
