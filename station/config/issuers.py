"""Who signs: the tokens of ``[ca]``, and further issuing CAs, one ``[[issuer]]`` each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hsm import Spread, TokenUri, UriError
from station.config.section import Section, nearest

_EXAMPLE: Final = '"pkcs11:token=spare?module-path=/usr/lib/…&pin-source=file:/etc/station/spare.pin"'


@dataclass(frozen=True, slots=True)
class TokensSection:
    """The tokens that hold one issuing key."""

    uris: tuple[str, ...]
    """PKCS#11 URIs (RFC 7512), best first."""
    spread: Spread = Spread.FIRST
    """Which of several is asked."""
    backed_up: bool = False
    """A ceremony copied the key between tokens, so it could leave one once."""


@dataclass(frozen=True, slots=True)
class IssuerSection:
    """A further issuing CA under the same policy."""

    tokens: TokensSection
    certificate: Path
    """Its certificate (PEM)."""
    root: Path
    """Its root's certificate (PEM)."""
    profiles: frozenset[str]
    """Names of the profiles that it signs; empty: all."""
    orders: frozenset[str]
    """Names of the orders that it signs for; empty: all."""


def read_tokens(section: Section, first: str) -> TokensSection:
    """Read what stands beside the ``token`` of a section.

    Args:
        section: ``[ca]`` or ``[[issuer]]``.
        first: its ``token``, which was read.
    """
    more = section.texts("tokens", example=f"[{_EXAMPLE}]") if section.has("tokens") else []
    for uri in more:
        _check(section, "tokens", uri)
    known = [spread.value for spread in Spread]
    spread = section.text("spread", Spread.FIRST.value)
    if spread not in known:
        section.complain("spread", f"unknown spread '{spread}'; {nearest(spread, known)}")
        spread = Spread.FIRST.value
    if len({first, *more}) != 1 + len(more):
        section.complain("tokens", "a token stands here twice; each of them holds the key once")
    return TokensSection((first, *more), Spread(spread), section.flag("backed_up", default=False))


def read_issuer(section: Section, folder: Path, root: Path) -> IssuerSection:
    """Read an ``[[issuer]]``; its root is that of ``[ca]`` unless it names another."""
    token = section.text("token", example=_EXAMPLE, limit=4096)
    if token:
        _check(section, "token", token)
    value = IssuerSection(
        tokens=read_tokens(section, token),
        certificate=folder / section.text("certificate", example='"ca/other.pem"', limit=4096),
        root=folder / section.text("root", str(root), limit=4096),
        profiles=_names(section, "profiles", '["idevid"]'),
        orders=_names(section, "orders", '["WO-1001"]'),
    )
    section.close()
    return value


def _names(section: Section, key: str, example: str) -> frozenset[str]:
    return frozenset(section.texts(key, example=example)) if section.has(key) else frozenset()


def _check(section: Section, key: str, uri: str) -> None:
    try:
        TokenUri.parse(uri)
    except UriError as error:
        section.complain(key, str(error))
