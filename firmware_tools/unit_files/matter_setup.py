"""What a Matter device needs to be commissioned: passcode, discriminator and the SPAKE2+ verifier.

The passcode stands on the label (and in the QR code), the verifier in the device (Matter Core Specification 3.10 and
5.1.7). Both are of one unit and random; neither is ever written to a disk by what is here.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.unit_files.values import Fact

ITERATIONS: Final = 10_000
"""Rounds of PBKDF2; the specification allows 1000 to 100000."""

_MAX_PASSCODE: Final = 99_999_998
_FORBIDDEN: Final = frozenset({12_345_678, 87_654_321, *(11_111_111 * digit for digit in range(10))})
"""Passcodes that nobody may have (5.1.7.1)."""

_DISCRIMINATORS: Final = 1 << 12
_SALT: Final = 32
_HALF: Final = 40
"""Octets of w0s and of w1s: a scalar of the curve and 8 more (3.9)."""

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256."""


@dataclass(frozen=True, slots=True)
class MatterSetup:
    """How one device is commissioned."""

    passcode: int = field(repr=False)
    discriminator: int
    """12 bits."""
    salt: bytes = field(repr=False)
    """32 bytes."""
    iterations: int = ITERATIONS

    @property
    def verifier(self) -> bytes:
        """The SPAKE2+ verifier w0 ‖ L, 97 octets (3.10): what the device keeps instead of the passcode."""
        stretched = hashlib.pbkdf2_hmac(
            "sha256", self.passcode.to_bytes(4, "little"), self.salt, self.iterations, 2 * _HALF
        )
        w0, w1 = (int.from_bytes(half) % _ORDER for half in (stretched[:_HALF], stretched[_HALF:]))
        point = ec.derive_private_key(w1, ec.SECP256R1()).public_key()
        return w0.to_bytes(32) + point.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def facts(self) -> dict[str, Fact]:
        """Return it as facts for a unit's file."""
        return {
            "matter_passcode": self.passcode,
            "matter_discriminator": self.discriminator,
            "matter_iterations": self.iterations,
            "matter_salt": self.salt,
            "matter_verifier": self.verifier,
        }


def new_setup(random: Callable[[int], int] = secrets.randbelow) -> MatterSetup:
    """Draw one.

    Args:
        random: returns a number from 0 to below its argument; a source fit for secrets.
    """
    passcode = 0
    while passcode in _FORBIDDEN:
        passcode = random(_MAX_PASSCODE) + 1
    salt = random(1 << 8 * _SALT).to_bytes(_SALT)
    return MatterSetup(passcode, random(_DISCRIMINATORS), salt)
