"""Why a certificate is revoked (RFC 5280 5.3.1)."""

from enum import IntEnum
from typing import Final


class Reason(IntEnum):
    """A CRLReason; the value is the one in the CRL."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    REMOVE_FROM_CRL = 8
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10

    @property
    def text(self) -> str:
        """The name as RFC 5280 writes it: ``keyCompromise``."""
        return _TEXTS[self]

    @classmethod
    def texts(cls) -> "list[str]":
        """Return all names."""
        return list(_REASONS)

    @classmethod
    def parse(cls, text: str) -> "Reason":
        """Return the reason with this name.

        Raises:
            KeyError: there is none.
        """
        return _REASONS[text]


_TEXTS: Final = {
    Reason.UNSPECIFIED: "unspecified",
    Reason.KEY_COMPROMISE: "keyCompromise",
    Reason.CA_COMPROMISE: "cACompromise",
    Reason.AFFILIATION_CHANGED: "affiliationChanged",
    Reason.SUPERSEDED: "superseded",
    Reason.CESSATION_OF_OPERATION: "cessationOfOperation",
    Reason.CERTIFICATE_HOLD: "certificateHold",
    Reason.REMOVE_FROM_CRL: "removeFromCRL",
    Reason.PRIVILEGE_WITHDRAWN: "privilegeWithdrawn",
    Reason.AA_COMPROMISE: "aACompromise",
}
_REASONS: Final = {text: reason for reason, text in _TEXTS.items()}

FINAL: Final = tuple(reason for reason in Reason if reason not in {Reason.CERTIFICATE_HOLD, Reason.REMOVE_FROM_CRL})
"""Reasons that a revocation may have; the other two are what ``hold`` and ``release`` are for."""
