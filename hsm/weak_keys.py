"""RSA keys that are RSA in name only.

Three things a broken generator leaves behind, each cheap to see on the modulus alone:

- a small factor;
- the mark of the Infineon library (CVE-2017-15361, "ROCA"): its primes are powers of 65537 modulo many small primes, so
  the modulus is one too (Nemec et al., "The Return of Coppersmith's Attack", 2017, section 2.4);
- two primes so close that Fermat's method finds them within some steps (CVE-2022-26320).
"""

import math
from typing import Final

FERMAT_STEPS: Final = 100
"""Steps of Fermat's method; primes from a sound generator stand astronomically further apart."""


def _primes(limit: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1)))


_SMALL: Final = _primes(752)
_SMALL_PRODUCT: Final = math.prod(_SMALL)
_MARKED: Final = tuple(
    (prime, frozenset(pow(65537, power, prime) for power in range(prime - 1)))
    for prime in _primes(168)
    if prime > 2  # noqa: PLR2004
)


def weakness(modulus: int) -> str | None:
    """Say what is wrong with an RSA modulus, or None."""
    if math.gcd(modulus, _SMALL_PRODUCT) != 1:
        return "the modulus has a small factor"
    if all(modulus % prime in powers for prime, powers in _MARKED):
        return "the modulus bears the mark of CVE-2017-15361 (ROCA)"
    middle = math.isqrt(modulus - 1) + 1
    for a in range(middle, middle + FERMAT_STEPS):
        square = a * a - modulus
        if math.isqrt(square) ** 2 == square:
            return "the two primes are too close to each other"
    return None
