"""``[product]``: what a board has to be, and what is closed before it leaves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from firmware_tools.provisioning_group import Locks
from station.config.section import Section, nearest
from station.devices import Capability

ACCEPTABLE: Final[Mapping[str, Capability]] = MappingProxyType(
    {"digest": Capability.COMPARE, "attestation": Capability.ATTEST}
)
"""What a product may accept in place of what its boards can't do, by its name in the file."""

NOTHING: Final = Capability(0)

SEC_TAG: Final = 16842753
"""Where nRF Cloud's libraries look for their credentials."""

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


def read_product(section: Section) -> ProductSection:
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
    value = ProductSection(
        model=section.text("model", example='"reference-device"', limit=32),
        firmware_version=section.text("firmware_version", "", limit=32) or None,
        firmware_sha256=bytes.fromhex(digest) or None,
        locks=locks,
        accepts=_accepts(section),
        sec_tag=section.integer("sec_tag", 0, MAX_SEC_TAG, default=SEC_TAG),
    )
    section.close()
    return value


def _accepts(section: Section) -> Capability:
    accepts = NOTHING
    if section.has("accepts"):
        for name in section.texts("accepts", example='["digest", "attestation"]'):
            if name in ACCEPTABLE:
                accepts |= ACCEPTABLE[name]
            else:
                section.complain("accepts", f"'{name}' can't be accepted; {nearest(name, list(ACCEPTABLE))}")
    return accepts
