"""RSA keys that are RSA in name only.

Things a broken generator leaves behind, or somebody who makes a fool of the CA, each cheap to see on the modulus alone:

- a modulus that is itself a prime: whoever sees it can compute the private exponent;
- a small factor;
- the mark of the Infineon library (CVE-2017-15361, "ROCA"): its primes are powers of 65537 modulo many small primes, so
  the modulus is one too (Nemec et al., "The Return of Coppersmith's Attack", 2017, section 2.4);
- two primes so close that Fermat's method finds them within some steps (CVE-2022-26320).
"""

import math
from typing import Final

PRIME_BASES: Final = (2, 3, 5, 7, 11)
"""Of the Miller-Rabin test: a sound modulus fails it at the first, a prime passes at all."""

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
    if _is_prime(modulus):
        return "the modulus is a prime, so its private key is anybody's to compute"
    middle = math.isqrt(modulus - 1) + 1
    for a in range(middle, middle + FERMAT_STEPS):
        square = a * a - modulus
        if math.isqrt(square) ** 2 == square:
            return "the two primes are too close to each other"
    return None


def _is_prime(odd: int) -> bool:
    """Tell whether an odd number is a prime, or passes for one (Miller-Rabin; FIPS 186-5, B.3.1)."""
    exponent = (odd - 1) >> (twos := ((odd - 1) & -(odd - 1)).bit_length() - 1)
    return all(_passes(odd, pow(base, exponent, odd), twos) for base in PRIME_BASES)


def _passes(odd: int, power: int, twos: int) -> bool:
    if power in {1, odd - 1}:
        return True
    return any((power := power * power % odd) == odd - 1 for _ in range(twos - 1))
