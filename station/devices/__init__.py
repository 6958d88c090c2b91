"""How the station talks to a board, whatever language the board speaks.

A *driver* is one class for one language. It gets an open ``Link`` and offers the verbs of ``Driver``; what a
device can't do stands in its ``capabilities``, and the product's policy says whether that is allowed. Drivers check the
form of what a device says (lengths, types, characters) and raise ``DeviceError`` or ``LinkError``; whether the content
is acceptable is decided by ``station.line.unit``.

Open first: ``smp.py``, the driver of the reference device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Protocol

from firmware_tools.provisioning_group import DeviceState, Locks

__all__ = ["Capability", "DeviceState", "Driver", "Identity", "Locks"]


class Capability(Flag):
    """What a device can do."""

    MAKE_KEY = auto()
    READ_BACK = auto()
    PROVE = auto()
    LOCK = auto()
    OBSERVE_LOCK = auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a board is, as it says itself; every text is checked for length and characters."""

    hardware_id: str
    """1 to 64 characters from ``[0-9A-Za-z._:-]``."""
    model: str
    """Product model its firmware is built for, 1 to 32 printable ASCII characters."""
    firmware_version: str
    """1 to 32 printable ASCII characters."""
    firmware_sha256: bytes
    """32 bytes."""
    state: DeviceState
    leaf_sha256: bytes | None
    """SHA-256 of the leaf certificate (DER) it holds, 32 bytes, or None."""


class Driver(Protocol):
    """One board, through one language. Every verb may be repeated."""

    capabilities: Capability

    async def identify(self) -> Identity:
        """Ask who the board is."""

    async def make_key(self) -> bytes:
        """Let the board make its key if it has none; return the CSR as it came, unchecked (DER)."""

    async def install(self, chain: Sequence[bytes]) -> None:
        """Hand over the certificate chain.

        Args:
            chain: certificates in DER, leaf first, root left out.
        """

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """Return the leaf certificate (DER) as the board holds it, after the board's digest of its chain agreed.

        Args:
            chain: what the board has to hold, as in ``install``; None where nobody here knows it: the digest is then
                compared with what the board hands out.

        Raises:
            DeviceError: ``device.chain_differs``: the board's digest is that of another chain.
        """

    async def prove(self, challenge: bytes) -> tuple[bytes, bytes]:
        """Let the board sign a challenge of 32 fresh bytes.

        Returns:
            The bytes that are signed (domain, challenge, leaf digest) and the signature.
        """

    async def lock(self, locks: Locks) -> None:
        """Close locks for good."""

    async def lock_state(self) -> Locks:
        """Ask what is closed, as the board observes it."""
