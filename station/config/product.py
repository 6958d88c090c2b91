"""``[product]``: what a board has to be, what is flashed, and what is closed before it leaves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from firmware_tools.provisioning import Locks
from station.config.section import Section, nearest
from station.devices import Capability

ACCEPTABLE: Final[Mapping[str, Capability]] = MappingProxyType(
    {"digest": Capability.COMPARE, "attestation": Capability.ATTEST}
)
"""What a product may accept in place of what its boards can't do, by its name in the file."""

NOTHING: Final = Capability(0)

SEC_TAG: Final = 16842753
"""Where nRF Cloud's libraries look for their credentials."""

REASON_LIMIT: Final = 200
"""Characters of the reason for an older version."""

MAX_SEC_TAG: Final = 2**31 - 1
"""Higher ones belong to the modem."""


@dataclass(frozen=True, slots=True)
class ProductSection:
    """What a board has to be, and what is closed before it leaves."""

    model: str
    firmware_version: str | None
    firmware_sha256: bytes | None
    """32 bytes."""
    locks: Locks
    accepts: Capability = NOTHING
    """What is enough in place of what this kind of board can't do."""
    sec_tag: int = SEC_TAG
    """Security tag for key and certificate, for languages that have such tags."""
    firmware: Path | None = None
    """The bundle that boards are flashed with; None: boards come flashed."""
    release_key: Path | None = None
    """Public key (PEM) that the bundle is signed with; there where ``firmware`` is."""
    allow_rollback: str = ""
    """Why an older version than was here before may come back; empty: it may not."""
    dry_run_locks: bool = False
    """Nothing is closed: what would be is written down, and no board passes."""


def read_product(section: Section, folder: Path) -> ProductSection:
    """Read the section; what is wrong is collected in its document."""
    locks = Locks.NONE
    known = [lock.name.lower() for lock in Locks if lock.name]
    for name in section.texts("locks", example='["debug", "credentials"], or [] to close nothing'):
        if name in known:
            locks |= Locks[name.upper()]
        else:
            section.complain("locks", f"unknown lock '{name}'; {nearest(name, known)}")
    digest = section.text("firmware_sha256", "")
    if digest and not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
        section.complain("firmware_sha256", "'firmware_sha256' is not a SHA-256; write its 64 hexadecimal digits")
        digest = ""
    firmware, release_key = _firmware(section, folder)
    value = ProductSection(
        model=section.text("model", example='"reference-device"', limit=32),
        firmware_version=section.text("firmware_version", "", limit=32) or None,
        firmware_sha256=bytes.fromhex(digest) or None,
        locks=locks,
        accepts=_accepts(section),
        sec_tag=section.integer("sec_tag", 0, MAX_SEC_TAG, default=SEC_TAG),
        firmware=firmware,
        release_key=release_key,
        allow_rollback=section.text("allow_rollback", "", limit=REASON_LIMIT),
        dry_run_locks=section.flag("dry_run_locks", default=False),
    )
    section.close()
    return value


def _firmware(section: Section, folder: Path) -> tuple[Path | None, Path | None]:
    bundle, key = section.text("firmware", "", limit=4096), section.text("release_key", "", limit=4096)
    if bundle and not key:
        section.complain(
            "firmware", "'firmware' needs the key that signed it; add release_key = \"release.pem\" (its public half)"
        )
    elif key and not bundle:
        section.complain(
            "release_key", "'release_key' is for a bundle; add firmware = \"firmware.bundle\", or delete it"
        )
    return (folder / bundle if bundle else None), (folder / key if key else None)


def _accepts(section: Section) -> Capability:
    accepts = NOTHING
    if section.has("accepts"):
        for name in section.texts("accepts", example='["digest", "attestation"]'):
            if name in ACCEPTABLE:
                accepts |= ACCEPTABLE[name]
            else:
                section.complain("accepts", f"'{name}' can't be accepted; {nearest(name, list(ACCEPTABLE))}")
    return accepts
