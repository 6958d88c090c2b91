"""How the station talks to a board, whatever language the board speaks.

A *driver* is one class for one language. It gets an open ``Link`` and offers the verbs of ``Driver``; what a
device can't do stands in its ``capabilities``, and the product's policy says whether that is allowed. Drivers check the
form of what a device says (lengths, types, characters) and raise ``DeviceError`` or ``LinkError``; whether the content
is acceptable is decided by ``station.line.unit``.

Boards that can't do all of it have something that stands in its place: ``Capability.COMPARE`` and ``ATTEST`` name it,
and the manifest says where a unit passed with it.

Open first: ``smp.py``, the driver of the reference device. ``nordic_at.py`` is the one of boards that can't do all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Protocol, runtime_checkable

from firmware_tools.provisioning import DeviceState, Locks

__all__ = [
    "Attestation",
    "Attesting",
    "Capability",
    "Comparing",
    "DeviceState",
    "Driver",
    "Identity",
    "Locks",
]


class Capability(Flag):
    """What a device can do."""

    MAKE_KEY = auto()
    READ_BACK = auto()
    PROVE = auto()
    LOCK = auto()
    OBSERVE_LOCK = auto()
    REPEAT_CSR = auto()
    """Asked again for a CSR, it answers for the same key. Without it each ``make_key`` makes another key, and takes
    away the certificate of the one before."""
    COMPARE = auto()
    """In place of ``READ_BACK``: it does not hand its certificates out, but tells a digest of them (``Comparing``)."""
    ATTEST = auto()
    """In place of ``PROVE``: it can't sign a challenge with the new key, but states, signed with another key of its
    own, which key it made and who it is (``Attesting``)."""


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
    kept_sha256: bytes | None = None
    """Of a ``Comparing`` board, in place of ``leaf_sha256``: the digest it tells of the certificates it keeps."""
    key_sha256: bytes | None = None
    """SHA-256 of the SubjectPublicKeyInfo (DER) of the key that it says it has, where it says so."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What else it says of itself, for the record: other numbers that are printed on it, for example."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a board states of itself, signed with a key that it had before."""

    message: bytes
    """The very bytes that are signed; they hold the nonce that was asked for."""
    signature: bytes
    """ECDSA with SHA-256, DER."""
    public_key: bytes
    """SubjectPublicKeyInfo (DER) of the key that signed."""


class Driver(Protocol):
    """One board, through one language. Every verb may be repeated."""

    capabilities: Capability

    @property
    def disturbances(self) -> int:
        """How often an answer did not come, or not whole; after each, another board may be there."""

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
                compared with what the board hands out. Never None for a driver that is ``Comparing``: its board's
                digest is compared, and the leaf of ``chain`` returned.

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


@runtime_checkable
class Comparing(Protocol):
    """What a driver with ``Capability.COMPARE`` offers besides."""

    def kept(self, chain: Sequence[bytes]) -> frozenset[bytes]:
        """Return the digests that a board may tell as ``Identity.kept_sha256`` when it holds this chain (DER)."""


@runtime_checkable
class Attesting(Protocol):
    """What a driver with ``Capability.ATTEST`` offers besides."""

    @property
    def key_statement(self) -> Mapping[str, str]:
        """The board's statement that it made the key of the last ``make_key``, checked, as facts for the record."""

    async def attest(self, nonce: bytes) -> Attestation:
        """Let the board state who it is, over 16 bytes that it can't have known before.

        Raises:
            DeviceError: the statement is by another key than its earlier ones, or the key or the certificate that it
                made its statements about is no longer there.
        """
