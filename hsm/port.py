"""All that a signer asks of a token: eight calls. The narrow place where faults are injected.

``hsm.pkcs11_token`` has the real one, ``hsm.fake_token`` one that is scripted. Each call is made by the signer's
thread, and may raise what python-pkcs11 raises. A port keeps no time, tries nothing twice and hides no error; when to
log in, to reload and to give up is the signer's business.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hsm.key_rules import FoundKey
from hsm.pin import Pin
from hsm.quirks import Quirks
from hsm.request import KeyName, SignRequest
from hsm.token import Session, TokenFacts


@dataclass(frozen=True, slots=True)
class Login:
    """With what a token is logged in to."""

    pin: Pin | None
    attended: bool
    """A human has just typed the PIN."""
    writable: bool
    """Keys may be made and destroyed."""
    again: bool = False
    """After a reload: nobody watches."""


class TokenPort(Protocol):
    """One token, whether it is there or not."""

    @property
    def session(self) -> Session:
        """The open session, for work that is not a signature; None before ``log_in``."""

    @property
    def quirks(self) -> Quirks:
        """What is peculiar about it."""

    @property
    def stale(self) -> bool:
        """Whether the session is gone because another signer reloaded the module."""

    @property
    def shared_by(self) -> int:
        """How many signers a reload would disturb, this one included."""

    def connect(self) -> TokenFacts:
        """Find the token and claim it for this process; no login."""

    def log_in(self, login: Login) -> None:
        """Open the session and log in, once."""

    def find(self, key: KeyName) -> FoundKey:
        """Find a private key by its public half, and hold it to its rules."""

    def sign(self, found: FoundKey, request: SignRequest) -> bytes:
        """Sign once; return what the token returned."""

    def beat(self) -> None:
        """Make the cheapest call that reaches the token."""

    def reload(self) -> None:
        """Drop session and handles; finalise and initialise the module."""

    def drop(self) -> None:
        """Drop session and handles."""

    def using(self) -> AbstractContextManager[None]:
        """Surround calls of one piece of work: the module is not reloaded meanwhile."""

    def leave(self, *, hung: bool) -> None:
        """Log out and let go of the module; when a call hangs in it, touch nothing."""
