"""What an SMP server says of the images that a board holds, read so that a field more or less does no harm."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from firmware_tools.flashers import Placed
from firmware_tools.flashers.smp_peer import Answer
from firmware_tools.mcuboot_image import NotMcuboot, is_mcuboot, read_mcuboot
from firmware_tools.version import Version

__all__ = ["Images", "Slot", "hash_of", "version_of"]

_VERSION_LIMIT: Final = 32
_SLOTS_LIMIT: Final = 32


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot that holds an image. A flag that a server leaves out is false."""

    image: int
    slot: int
    version: str
    """Printable, as the board writes it: ``1.2.3`` or, with a build number, ``1.2.3.4``."""
    hash: bytes | None
    """None: the server was built without."""
    active: bool
    pending: bool
    confirmed: bool

    @classmethod
    def of(cls, entry: object) -> "Slot | None":
        """Read an entry of the list; None: it is none."""
        if not isinstance(entry, dict) or type(entry.get("slot")) is not int:
            return None
        image, digest = entry.get("image", 0), entry.get("hash")
        return cls(
            image=image if type(image) is int else 0,
            slot=entry["slot"],
            version=_printable(entry.get("version", "")),
            hash=digest if isinstance(digest, bytes) and digest else None,
            active=entry.get("active") is True,
            pending=entry.get("pending") is True or entry.get("permanent") is True,
            confirmed=entry.get("confirmed") is True,
        )


@dataclass(frozen=True, slots=True)
class Images:
    """The slots of a board."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, answer: Answer) -> "Images":
        """Read the list; a server that has none holds nothing."""
        listed: Any = answer.body.get("images")
        entries = listed[:_SLOTS_LIMIT] if isinstance(listed, list) else []
        return cls(tuple(slot for entry in entries if (slot := Slot.of(entry)) is not None))

    @property
    def has_application(self) -> bool:
        """Whether an application answers; a loader has no image that is active."""
        return any(slot.active for slot in self.slots)

    @property
    def has_hashes(self) -> bool:
        """Whether the server tells hashes, as far as can be seen."""
        return any(slot.hash is not None for slot in self.slots)

    def running(self, image: int = 0) -> Slot | None:
        """Return the slot that runs."""
        return next((slot for slot in self.slots if slot.active and slot.image == image), None)

    def find(self, image: int, digest: bytes) -> Slot | None:
        """Return the slot with this hash; the one that runs, if there are two."""
        found = [slot for slot in self.slots if slot.image == image and slot.hash == digest]
        return next((slot for slot in found if slot.active), found[0] if found else None)

    def hold(self, image: int, version: Version) -> bool:
        """Whether a slot holds this version: all that can be said where there are no hashes."""
        return any(slot.image == image and version_of(slot.version) == version for slot in self.slots)

    def on_trial(self, image: int) -> bool:
        """Whether what runs goes away with the next reset: not confirmed, and what it would go back to is."""
        runs = self.running(image)
        others: Iterable[Slot] = (slot for slot in self.slots if slot.image == image and not slot.active)
        return runs is not None and not runs.confirmed and any(slot.confirmed for slot in others)


def hash_of(image: Placed) -> bytes | None:
    """Return the hash by which a board names an image; None: it is not in MCUboot's format, or hashed another way."""
    if not is_mcuboot(image.content):
        return None
    try:
        return read_mcuboot(image.content).sha256
    except NotMcuboot:
        return None


def version_of(text: str) -> Version | None:
    """Read a version as boards write it; None: it is none."""
    parts = text.split(".")
    if len(parts) in (3, 4) and all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):  # noqa: PLR2004 - with or without a build number, 32 bits
        major, minor, patch, *build = map(int, parts)
        return Version(major, minor, patch, (), build[0] if build else 0)
    return None


def _printable(value: object) -> str:
    return "".join(c for c in str(value)[:_VERSION_LIMIT] if c.isascii() and c.isprintable())
