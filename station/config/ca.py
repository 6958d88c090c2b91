"""``[ca]``: who signs, with which tokens, certificates and profile, and where the CA's journal is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hsm import TokenUri, UriError
from station.config.issuers import TokensSection, read_tokens
from station.config.section import Section, nearest

_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class CaSection:
    """Who signs."""

    token: str
    """PKCS#11 URI (RFC 7512) of the token with the issuing key."""
    certificate: Path
    """The issuing CA's certificate (PEM)."""
    root: Path
    """The root's certificate (PEM)."""
    profile: str
    """Name of a profile of ``hsm.profiles``, or the path of a TOML file."""
    environment: Mapping[str, str]
    """What the PKCS#11 module needs in its environment."""
    journal: Path = Path("ca/ca.db")
    """The CA's journal: what it signs besides the units' certificates, and what it revokes."""
    unordered: tuple[Path, ...] = ()
    """Profile files of one's own that ``station ca issue`` takes without a production order."""
    tokens: TokensSection = field(default_factory=lambda: TokensSection(()))
    """The token, and further ones that hold the same key."""

    @property
    def signatures(self) -> Path:
        """Folder where each signature is counted, beside the journal."""
        return self.journal.parent / "signatures"


def profiles() -> list[str]:
    """Return the names of the certificate profiles that come with the project."""
    folder = resources.files("hsm") / "profiles"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_ca(section: Section, folder: Path) -> CaSection:
    """Read the section; what is wrong is complained about there."""
    token = section.text("token", example='"pkcs11:token=intermediate?pin-source=file:/etc/station/pin"', limit=4096)
    if token:
        try:
            TokenUri.parse(token)
        except UriError as error:
            section.complain("token", str(error))
    profile = section.text("profile", "idevid", limit=4096)
    if "/" in profile or profile.endswith(".toml"):
        profile = str(folder / profile)
    elif profile and profile not in (known := profiles()):
        section.complain("profile", f"unknown profile '{profile}'; {nearest(profile, known)}")
    unordered = section.texts("unordered", example='["profiles/mine.toml"]') if section.has("unordered") else []
    value = CaSection(
        token=token,
        certificate=folder / section.text("certificate", "ca/intermediate.pem", limit=4096),
        root=folder / section.text("root", "ca/root.pem", limit=4096),
        profile=profile,
        environment=_environment(section, folder),
        journal=folder / section.text("journal", "ca/ca.db", limit=4096),
        unordered=tuple(folder / name for name in unordered),
        tokens=read_tokens(section, token),
    )
    section.close()
    return value


def _environment(section: Section, folder: Path) -> Mapping[str, str]:
    """Read the environment of the PKCS#11 module.

    A value with a slash in it, and neither a slash at its front nor a colon anywhere, is a path relative to the file
    (``"tokens/softhsm2.conf"``, ``"./yubihsm_pkcs11.conf"``). Every other value is passed on as it stands. The rule
    does not look at the disk: the same file always means the same.
    """
    table = section.table("environment")
    values = {}
    for name in table.names():
        if not _ENVIRONMENT_NAME.fullmatch(name):
            table.complain(name, f"'{name}' can't be the name of an environment variable; write letters, digits and _")
        text = table.text(name, "", limit=4096)
        is_relative = "/" in text and not text.startswith("/") and ":" not in text
        values[name] = str(folder / text) if is_relative else text
    return MappingProxyType(values)
