"""What a Matter device is commissioned with: passcode, discriminator, SPAKE2+ verifier, QR code and manual code.

Passcode, discriminator and salt come from ``secrets``, and they are made once: nothing here can make them again. The
device stores the verifier and never the passcode; the passcode is for the label alone. Matter Core 1.3, clauses 3.10
(verifier), 5.1.3 (payload and QR code), 5.1.4 (manual code), 5.1.7 (passcodes that are forbidden).
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ITERATIONS: Final = 1000
"""Of PBKDF2: the least that Matter allows. A passcode has 27 bits; no number of iterations makes that many."""

SALT_OCTETS: Final = 32
DISCRIMINATORS: Final = 1 << 12
LAST_PASSCODE: Final = 99_999_998

FORBIDDEN: Final = frozenset({12345678, 87654321, *(11111111 * digit for digit in range(10))})
"""Passcodes that anybody would guess."""

ON_NETWORK: Final = 4
BLE: Final = 2
"""Bits of the discovery capabilities."""

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HALF: Final = 40
"""Octets of w0s, and of w1s."""
_BASE38: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-."
_DIGITS_OF: Final = {1: 2, 2: 4, 3: 5}
"""Base-38 characters of so many octets."""

_D5: Final = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
"""Multiplication of the dihedral group of ten, for Verhoeff's check digit."""
_TURN: Final = "1576283094"
_INVERSE: Final = "0432156789"


@dataclass(frozen=True, slots=True)
class Onboarding:
    """What one device is commissioned with."""

    passcode: int
    discriminator: int
    salt: bytes
    vendor_id: int
    product_id: int
    discovery: int = BLE
    """Bits: how an unprovisioned device is found."""

    @classmethod
    def new(cls, vendor_id: int, product_id: int, discovery: int = BLE) -> Self:
        """Draw one."""
        while (passcode := 1 + secrets.randbelow(LAST_PASSCODE)) in FORBIDDEN:
            pass
        salt = secrets.token_bytes(SALT_OCTETS)
        return cls(passcode, secrets.randbelow(DISCRIMINATORS), salt, vendor_id, product_id, discovery)

    def verifier(self) -> bytes:
        """Return w0 and L (Matter Core 3.10): 32 and 65 octets."""
        drawn = hashlib.pbkdf2_hmac("sha256", self.passcode.to_bytes(4, "little"), self.salt, ITERATIONS, 2 * _HALF)
        w0, w1 = (int.from_bytes(half) % _ORDER for half in (drawn[:_HALF], drawn[_HALF:]))
        point = ec.derive_private_key(w1, ec.SECP256R1()).public_key()
        return w0.to_bytes(32) + point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def qr_code(self) -> str:
        """Return the text of the QR code."""
        value, at = 0, 0
        fields = (
            *((0, 3), (self.vendor_id, 16), (self.product_id, 16), (0, 2), (self.discovery, 8)),
            *((self.discriminator, 12), (self.passcode, 27), (0, 4)),
        )
        for field, bits in fields:
            value |= field << at
            at += bits
        octets = value.to_bytes(at // 8, "little")
        return "MT:" + "".join(_base38(octets[start : start + 3]) for start in range(0, len(octets), 3))

    def manual_code(self) -> str:
        """Return the eleven digits that a person types."""
        short = self.discriminator >> 8
        first, second = short >> 2, (short & 3) << 14 | self.passcode & 0x3FFF
        digits = f"{first:d}{second:05d}{self.passcode >> 14:04d}"
        return digits + verhoeff(digits)

    def columns(self) -> tuple[str, ...]:
        """Return the values of ``COLUMNS``."""
        salt, verifier = (base64.b64encode(octets).decode() for octets in (self.salt, self.verifier()))
        numbers = (f"{self.passcode:08d}", str(self.discriminator), str(ITERATIONS))
        return (self.qr_code(), self.manual_code(), *numbers, salt, verifier)


COLUMNS: Final = ("qrcode", "manualcode", "passcode", "discriminator", "iteration_count", "salt", "verifier")
"""What ``Onboarding.columns`` returns; salt and verifier in Base64."""


def verhoeff(digits: str) -> str:
    """Return Verhoeff's check digit of some digits."""
    check = 0
    for place, digit in enumerate(reversed(digits), 1):
        turned = int(digit)
        for _ in range(place % 8):
            turned = int(_TURN[turned])
        check = int(_D5[check][turned])
    return _INVERSE[check]


def _base38(octets: bytes) -> str:
    value = int.from_bytes(octets, "little")
    found = ""
    for _ in range(_DIGITS_OF[len(octets)]):
        value, digit = divmod(value, 38)
        found += _BASE38[digit]
    return found
