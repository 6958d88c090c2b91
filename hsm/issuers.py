"""Several issuing CAs under one policy, each with its own key and certificate.

Which one signs follows from the profile and the order; several that fit take turns. A certificate that was begun names
its issuer, and only that one can go on with it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography import x509

from hsm.authority import Authority
from hsm.errors import IssuanceError
from hsm.health import State


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuing CA, and what it signs."""

    authority: Authority
    profiles: frozenset[str] = frozenset()
    """Names of profiles; empty: any."""
    orders: frozenset[str] = frozenset()
    """Names of orders; empty: any."""

    def signs(self, profile: str, order: str) -> bool:
        """Whether certificates of this profile, for this order, are its business."""
        return profile in (self.profiles or {profile}) and order in (self.orders or {order})


class Issuers:
    """Issuing CAs under one policy."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        """Join issuers.

        Raises:
            ValueError: there is none.
        """
        if not issuers:
            raise ValueError("somebody has to sign")
        self.issuers = tuple(issuers)
        self._turn = itertools.count()

    @classmethod
    def only(cls, authority: Authority) -> Self:
        """Let one authority sign everything."""
        return cls([Issuer(authority)])

    def choose(self, *, profile: str, order: str = "") -> Authority:
        """Return who signs next: those that fit take turns, and one whose token is asleep is passed over.

        Raises:
            IssuanceError: nobody may sign this (``issuance.no_issuer``).
        """
        fit = [issuer.authority for issuer in self.issuers if issuer.signs(profile, order)]
        if not fit:
            raise IssuanceError(
                f"no issuer signs profile {profile!r} for order {order!r}; add it to the profiles or orders of one",
                code="issuance.no_issuer",
            )
        awake = [authority for authority in fit if authority.key.signer.state is State.AWAKE] or fit
        return awake[next(self._turn) % len(awake)]

    def asleep(self, *, profile: str, order: str = "") -> Authority | None:
        """Return one of those that may sign this, if all of them are asleep; None if one is awake, or nobody may."""
        fit = [issuer.authority for issuer in self.issuers if issuer.signs(profile, order)]
        if any(authority.key.signer.unavailable is None for authority in fit):
            return None
        return fit[0] if fit else None

    def of_tbs(self, tbs: bytes) -> Authority:
        """Return the issuer that a TBSCertificate, or a certificate, names: it alone can sign it.

        Raises:
            IssuanceError: it is none of these (``issuance.foreign_issuer``).
        """
        for issuer in self.issuers:
            if _names(tbs, issuer.authority.issuer):
                return issuer.authority
        raise IssuanceError(
            "this certificate was begun by an issuer that is not here; name its CA in station.toml again",
            code="issuance.foreign_issuer",
        )


def _names(tbs: bytes, issuer: x509.Certificate) -> bool:
    """Whether a TBSCertificate names an issuer, by subject and by key identifier (RFC 5280 4.2.1.1)."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return issuer.subject.public_bytes() in tbs and bytes((0x80, len(identifier))) + identifier in tbs
