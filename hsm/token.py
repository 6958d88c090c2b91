"""One token: found by what the URI says, logged in to exactly once.

A login counts for the whole process and token, not for a session: the session with the PIN, the *anchor*, logs out
when it is closed, and takes every other session's keys with it. A token has three to ten tries before it locks for
good, so a PIN that was refused is not tried again by this process, and a token that has one try left is left to a
human at a prompt.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import pkcs11
from pkcs11.constants import TokenFlag
from pkcs11.exceptions import PKCS11Error

from hsm.errors import PinError, Recovery, TokenError, from_token
from hsm.module import Library
from hsm.pin import Pin, PinSource
from hsm.uri import TokenUri

Session: TypeAlias = Any
"""A ``pkcs11.Session``: the class that works is compiled, and has no types."""

Handle: TypeAlias = Any
"""A ``pkcs11.Object``, likewise."""

_salt: Final = secrets.token_bytes(32)
_refused: Final[set[tuple[str, bytes, bytes]]] = set()
"""(label, serial, keyed digest of the PIN) of every login that a token refused in this process."""


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a token says about itself."""

    label: str
    serial: str
    model: str
    manufacturer: str
    slot_id: int
    login_required: bool
    pin_pad: bool
    """The PIN is typed on the device itself."""
    pin_count_low: bool
    """A wrong PIN was given since the last right one."""
    pin_final_try: bool
    """One more wrong PIN locks the token."""
    pin_locked: bool
    has_random: bool = True
    """It has a random generator."""

    @classmethod
    def of(cls, token: pkcs11.Token) -> Self:
        """Read the facts off a token."""
        flags = token.flags
        return cls(
            label=token.label.rstrip(),
            serial=token.serial.decode(errors="replace").rstrip("\0 "),
            model=token.model.rstrip(),
            manufacturer=token.manufacturer_id.rstrip(),
            slot_id=token.slot.slot_id,
            login_required=bool(flags & TokenFlag.LOGIN_REQUIRED),
            pin_pad=bool(flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH),
            pin_count_low=bool(flags & TokenFlag.USER_PIN_COUNT_LOW),
            pin_final_try=bool(flags & TokenFlag.USER_PIN_FINAL_TRY),
            pin_locked=bool(flags & TokenFlag.USER_PIN_LOCKED),
            has_random=bool(flags & TokenFlag.RNG),
        )


def find_token(library: Library, uri: TokenUri) -> pkcs11.Token:
    """Find the one token that a URI names; a slot that answers with an error is passed over.

    Raises:
        TokenError: no token fits (``token.missing``), or more than one (``token.ambiguous``).
    """
    fitting: list[pkcs11.Token] = []
    seen: list[str] = []
    try:
        slots = library.get_slots(token_present=True)
    except PKCS11Error as error:
        raise from_token(error, "listing the slots") from error
    for slot in slots:
        try:
            token = slot.get_token()
        except PKCS11Error as error:
            seen.append(f"slot {slot.slot_id} answers {type(error).__name__}")
            continue
        if not token.flags & TokenFlag.TOKEN_INITIALIZED:
            continue
        facts = TokenFacts.of(token)
        seen.append(f"{facts.label!r} (serial {facts.serial})")
        if _fits(library, slot, facts, uri):
            fitting.append(token)
    named = f"token {uri.token!r}" if uri.token else "a token that fits the URI"
    if not fitting:
        raise TokenError(
            f"{named} is not there; the module shows: {', '.join(seen) or 'no token at all'}",
            code="token.missing",
            recovery=Recovery.TOKEN_GONE,
        )
    if len(fitting) > 1:
        raise TokenError(
            f"{len(fitting)} tokens fit the URI; add serial=... to it. The module shows: {', '.join(seen)}",
            code="token.ambiguous",
        )
    return fitting[0]


def _fits(library: Library, slot: pkcs11.Slot, facts: TokenFacts, uri: TokenUri) -> bool:
    major, minor = library.library_version
    wanted = (
        (uri.token, facts.label),
        (uri.serial, facts.serial),
        (uri.model, facts.model),
        (uri.manufacturer, facts.manufacturer),
        (uri.slot_id, facts.slot_id),
        (uri.slot_manufacturer, slot.manufacturer_id.rstrip()),
        (uri.slot_description, slot.slot_description.rstrip()),
        (uri.library_manufacturer, library.manufacturer_id.rstrip()),
        (uri.library_description, library.library_description.rstrip()),
    )
    if any(want is not None and want != have for want, have in wanted):
        return False
    return uri.library_version in {None, str(major), f"{major}.{minor}"}


def check_login_allowed(facts: TokenFacts, *, attended: bool, again: bool = False) -> None:
    """Refuse a login that could do harm.

    Args:
        facts: as read just now.
        attended: a human types the PIN.
        again: the PIN was right when the token was opened, and nobody watches now.

    Raises:
        PinError: the token is locked; or it is one wrong PIN away from that, or somebody gave a wrong one since it was
            opened, and nobody watches.
    """
    if facts.pin_locked:
        raise PinError(
            f"the PIN of token {facts.label!r} is locked; the security officer has to set a new one",
            code="pin.locked",
            operator="The HSM is locked. Call the security officer.",
        )
    if facts.pin_final_try and not attended:
        raise PinError(
            f"token {facts.label!r} has one try left before it locks; log in once by hand with pin-source=prompt:",
            code="pin.final_try",
        )
    if again and facts.pin_count_low:
        raise PinError(
            f"somebody gave token {facts.label!r} a wrong PIN while the station ran; the station does not log in again "
            "by itself. Find out who, then start it again",
            code="pin.count_low",
            operator="Somebody tried a wrong PIN on the HSM. Call the security officer.",
        )


def read_pin(token: TokenFacts, source: PinSource | None, ask: Callable[[str], str]) -> Pin | None:
    """Fetch the PIN of a token; None for one that needs none, or has a PIN pad.

    Raises:
        PinError: the source can't be read, or there is none.
    """
    if source is not None:
        return source.read(token=token.label, ask=ask)
    if token.login_required and not token.pin_pad:
        raise PinError(f"token {token.label!r} wants a PIN: add &pin-source=file:/path to its URI", code="pin.missing")
    return None


def log_in(token: pkcs11.Token, pin: Pin | None, *, attended: bool, writable: bool, again: bool = False) -> Session:
    """Open the anchor session.

    Args:
        token: found just now.
        pin: None for a token that needs none, or has a PIN pad.
        attended: a human typed the PIN.
        writable: the session may make and destroy keys.
        again: after a reload; see ``check_login_allowed``.

    Raises:
        PinError: refused by the token, or refused before and therefore not tried (``pin.refused_before``).
        TokenError: the token answered with another error.
    """
    facts = TokenFacts.of(token)
    if pin is None and not (facts.login_required and facts.pin_pad):
        return _open(token, facts, None, writable=writable)
    check_login_allowed(facts, attended=attended, again=again)
    if pin is None:
        return _open(token, facts, pkcs11.PROTECTED_AUTH, writable=writable)
    fingerprint = (facts.label, token.serial, pin.digest(_salt))
    if fingerprint in _refused:
        raise PinError(
            f"token {facts.label!r} has refused this PIN already; it is not tried again", code="pin.refused_before"
        )
    try:
        return _open(token, facts, pin, writable=writable)
    except PinError:
        _refused.add(fingerprint)
        raise


def _open(token: pkcs11.Token, facts: TokenFacts, pin: object, *, writable: bool) -> Session:
    try:
        if isinstance(pin, Pin):
            return token.open(rw=writable, user_pin=pin.reveal())
        return token.open(rw=writable, user_pin=pin)
    except PKCS11Error as error:
        # `from None`: the error underneath adds nothing, and its frames stood beside the PIN
        raise from_token(error, f"logging in to token {facts.label!r}") from None
