"""What can go wrong with keys and certificates.

::

    HsmError
    ├── UriError           a PKCS#11 URI can't be used
    ├── PinError           the PIN is missing, wrong, locked, or its source can't be read
    ├── ModuleError        the vendor's library can't be loaded or initialised
    ├── TokenError         the token is missing, ambiguous, or answers with an error
    ├── KeyMissing         the token does not hold the key, or holds it more than once
    ├── KeyUnfit           the key is there and breaks a rule: exportable, wrong type, label taken
    ├── SignerError        the signer is closed, or was carried into a forked process
    ├── CsrError           a certificate signing request is not acceptable
    ├── ProfileError       a certificate profile can't be used as it is
    ├── FieldError         a value that goes into a certificate breaks the rules for its place
    ├── LintError          a certificate to be signed breaks the profile; carries the findings
    ├── IssuanceError      the issuer does not fit, or what the token returned is not what was asked
    ├── WarrantError       a certificate may not be signed: no order, or not under this one now
    ├── RevocationError    a certificate can't be revoked, held or released
    ├── CrlError           a CRL can't be made or published
    ├── OcspError          a responder can't be set up, or an answer can't be made
    ├── JournalError       the CA's journal can't be used, or refuses a row (hsm.journal.errors)
    ├── AuditError         signatures can't be counted, or the counts can't be read
    └── CeremonyError      a CA can't be made here

An error carries a dotted ``code`` that never changes, a sentence for the operator that ends with the next move, and the
facts for the engineer. ``recovery`` says what a caller may try: it is set from the table ``RECOVERY`` for what a token
answers, and is ``PERMANENT`` elsewhere. No error carries a PIN.
"""

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from pkcs11 import exceptions as p11

FACT_LIMIT: Final = 200
"""Characters of one fact that are kept."""


_PULLED: Final = "the token is gone; plug it in again"

ADVICE: Final[Mapping[type[p11.PKCS11Error], str]] = MappingProxyType(
    {
        p11.PinIncorrect: "wrong PIN; correct its source before the next try, since a few wrong ones lock the token",
        p11.PinLenRange: "the PIN has the wrong length for this token; correct its source before the next try",
        p11.PinLocked: "the PIN is locked after too many wrong ones; set a new user PIN with the vendor's tool",
        p11.PinExpired: "the PIN has expired; set a new one with the vendor's tool",
        p11.DeviceRemoved: _PULLED,
        p11.TokenNotPresent: _PULLED,
        p11.TokenWriteProtected: "the token is write-protected; lift that, or take another one",
        p11.MechanismInvalid: "the token can't sign with this kind of key; take another kind",
    }
)
"""What an answer of a token means to a person; the others speak for themselves."""


class Recovery(Enum):
    """What may be tried after an error."""

    RELOAD = "reload"
    """Finalise and initialise the module, log in, and try the same TBS once more; rate-limited."""
    TOKEN_GONE = "token-gone"  # noqa: S105 - a state, not a password
    """Wait until the token is plugged in again, then as ``RELOAD``."""
    PIN = "pin"
    """Never try again without a human."""
    PERMANENT = "permanent"
    """Trying again changes nothing."""


RECOVERY: Final[Mapping[type[p11.PKCS11Error], Recovery]] = MappingProxyType(
    {
        p11.DeviceError: Recovery.RELOAD,
        p11.DeviceMemory: Recovery.RELOAD,
        p11.FunctionFailed: Recovery.RELOAD,
        p11.GeneralError: Recovery.RELOAD,  # sticky in SoftHSM until it is initialised again
        p11.HostMemory: Recovery.RELOAD,
        p11.KeyHandleInvalid: Recovery.RELOAD,  # after a good start a handle only dies with its session
        p11.NoSuchKey: Recovery.RELOAD,
        p11.ObjectHandleInvalid: Recovery.RELOAD,
        p11.OperationActive: Recovery.RELOAD,
        p11.SessionClosed: Recovery.RELOAD,
        p11.SessionCount: Recovery.RELOAD,
        p11.SessionHandleInvalid: Recovery.RELOAD,  # idle sessions are dropped: YubiHSM after 30 s
        p11.UserAlreadyLoggedIn: Recovery.RELOAD,  # of a session that died without a logout
        p11.UserNotLoggedIn: Recovery.RELOAD,
        p11.DeviceRemoved: Recovery.TOKEN_GONE,
        p11.NoSuchToken: Recovery.TOKEN_GONE,
        p11.SlotIDInvalid: Recovery.TOKEN_GONE,
        p11.TokenNotPresent: Recovery.TOKEN_GONE,
        p11.TokenNotRecognised: Recovery.TOKEN_GONE,
        p11.PinExpired: Recovery.PIN,
        p11.PinIncorrect: Recovery.PIN,
        p11.PinInvalid: Recovery.PIN,
        p11.PinLenRange: Recovery.PIN,
        p11.PinLocked: Recovery.PIN,
        p11.UserPinNotInitialized: Recovery.PIN,
    }
)
"""What an answer of a token allows; whatever is not listed is permanent."""


def printable(value: object) -> str:
    """Return ``value`` as text that is safe on a terminal and in a log: one line, bounded, no control characters."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    cut = text if len(text) <= FACT_LIMIT else f"{text[:FACT_LIMIT]}… ({len(text)} characters)"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in cut)


class HsmError(Exception):
    """Something went wrong with a key or a certificate; see the module docstring for the tree."""

    code: str = "hsm.error"
    operator: str = "Call the line engineer."
    recovery: Recovery = Recovery.PERMANENT

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        operator: str | None = None,
        recovery: Recovery | None = None,
        **facts: object,
    ) -> None:
        """Make the error.

        Args:
            message: one sentence for the engineer: what is wrong, what was expected.
            code: dotted code, more exact than the class's.
            operator: sentence for the operator with the next move, more exact than the class's.
            recovery: what may be tried, more exact than the class's.
            **facts: what was expected, what came, where.
        """
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
        if code is not None:
            self.code = code
        if operator is not None:
            self.operator = operator
        if recovery is not None:
            self.recovery = recovery
        self.facts: Mapping[str, str] = MappingProxyType({name: printable(value) for name, value in facts.items()})


class UriError(HsmError):
    """A PKCS#11 URI can't be used."""

    code = "uri.invalid"


class PinError(HsmError):
    """The PIN is missing, wrong, locked, or its source can't be read."""

    code = "pin.error"
    operator = "The HSM does not accept the PIN. Don't restart the station; call the security officer."
    recovery = Recovery.PIN


class ModuleError(HsmError):
    """The vendor's library can't be loaded or initialised."""

    code = "module.error"


class TokenError(HsmError):
    """The token is missing, ambiguous, or answers with an error."""

    code = "token.error"
    operator = "The HSM can't be reached. Check its cable and power, then call the line engineer."


class KeyMissing(HsmError):
    """The token does not hold the key, or holds it more than once."""

    code = "key.missing"
    operator = "The HSM does not hold the signing key. Call the security officer."


class KeyUnfit(HsmError):
    """The key is there and breaks a rule."""

    code = "key.unfit"
    operator = "The signing key breaks a rule. Call the security officer."


class SignerError(HsmError):
    """The signer is closed, or was carried into a forked process."""

    code = "signer.closed"
    operator = "The station is shutting down. Start it again."


class CsrError(HsmError):
    """A certificate signing request is not acceptable."""

    code = "csr.malformed"
    operator = "The board sent a request that can't be signed. Put the board into the red bin."


class ProfileError(HsmError):
    """A certificate profile can't be used as it is."""

    code = "profile.invalid"


class FieldError(HsmError):
    """A value that goes into a certificate breaks the rules for its place."""

    code = "field.invalid"


class LintError(HsmError):
    """A certificate to be signed breaks the profile."""

    code = "lint.failed"
    operator = "The certificate for this board breaks the rules and was not signed. Call the line engineer."


class IssuanceError(HsmError):
    """The issuer does not fit, or what the token returned is not what was asked."""

    code = "issuance.error"


class WarrantError(HsmError):
    """A certificate may not be signed: there is no order for it, or the order does not allow it now."""

    code = "warrant.refused"
    operator = "The order does not allow this certificate. Put the board aside and call the line engineer."


class RevocationError(HsmError):
    """A certificate can't be revoked, held or released."""

    code = "revocation.refused"


class CrlError(HsmError):
    """A CRL can't be made or published."""

    code = "crl.error"
    operator = "No new revocation list was published; the last one stays. Call the line engineer."


class OcspError(HsmError):
    """A responder can't be set up, or an answer can't be made."""

    code = "ocsp.error"


class JournalError(HsmError):
    """The CA's journal can't be used, or refuses a row."""

    code = "journal.error"


class AuditError(HsmError):
    """Signatures can't be counted, or the counts can't be read."""

    code = "audit.error"
    operator = "The count of signatures is not in order. Call the security officer."


class CeremonyError(HsmError):
    """A CA can't be made here."""

    code = "ceremony.error"
    operator = "No CA was made. Call the security officer."


def recovery_of(error: p11.PKCS11Error) -> Recovery:
    """Return what may be tried after an answer of a token."""
    for kind in type(error).__mro__:
        if kind in RECOVERY:
            return RECOVERY[kind]
    # python-pkcs11 knows no class for CKR_CRYPTOKI_NOT_INITIALIZED: it says "should never see this".
    return Recovery.RELOAD if "never see" in str(error) else Recovery.PERMANENT


def from_token(error: p11.PKCS11Error, doing: str) -> HsmError:
    """Turn what a token answered into an error of ours.

    Args:
        error: what python-pkcs11 raised; its message is often empty, its class is what counts.
        doing: what was being done, for the engineer: "signing with key x".
    """
    recovery = recovery_of(error)
    name = type(error).__name__
    said = f"{name}: {error}" if str(error) else name
    word = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    kind = PinError if recovery is Recovery.PIN else TokenError
    code = f"pin.{word.removeprefix('pin_')}" if kind is PinError else f"token.{word}"
    advice = ADVICE.get(type(error), "the token refused")
    return kind(f"{doing}: {advice} (it answered {said})", code=code, recovery=recovery, answer=name)
