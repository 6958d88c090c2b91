"""A token behind a PKCS#11 module, as a signer asks it (``hsm.port``)."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Final

from pkcs11.constants import Attribute
from pkcs11.exceptions import PKCS11Error, RandomNoRNG
from pkcs11.mechanisms import Mechanism

from hsm.errors import PinError, TokenError
from hsm.key_rules import FoundKey, locate
from hsm.module import Module, init_reserved, module_path, open_module
from hsm.port import Login
from hsm.quirks import Quirks, quirks_of
from hsm.request import KeyName, SignRequest, Way
from hsm.token import Session, TokenFacts, find_token, log_in
from hsm.uri import TokenUri

_tokens_in_use: Final[set[tuple[str, str, str]]] = set()
_tokens_lock = threading.Lock()

_NO_LABEL: Final = "hsm: no object has this label"


class Pkcs11Token:
    """The token that a URI names."""

    def __init__(self, uri: TokenUri, environment: Mapping[str, str]) -> None:
        """Load the module; the token need not be there yet.

        Raises:
            ModuleError: the module can't be used.
        """
        self.uri = uri
        self.module: Module = open_module(module_path(uri), environment, init_reserved(uri))
        self.mechanisms: frozenset[Mechanism] = frozenset()
        """What the token can do, as it said when it was connected."""
        self.quirks: Quirks = quirks_of(self.library, "")
        self._generation = self.module.generation
        self._session: Session = None
        self._facts: TokenFacts | None = None
        self._claim: tuple[str, str, str] | None = None

    @property
    def library(self) -> str:
        """What the library calls itself: manufacturer and description."""
        library = self.module.library
        return f"{library.manufacturer_id.strip()} {library.library_description.strip()}"

    @property
    def has_random(self) -> bool:
        """Whether the token has a random generator."""
        return self._facts is not None and self._facts.has_random

    @property
    def session(self) -> Session:
        """The open session."""
        return self._session

    @property
    def stale(self) -> bool:
        """Whether the session ended with a reload of the module."""
        return self._session is not None and self._generation != self.module.generation

    @property
    def shared_by(self) -> int:
        """How many signers use the module."""
        return self.module.shared_by

    def using(self) -> AbstractContextManager[None]:
        """Keep the module from being reloaded meanwhile."""
        return self.module.using()

    def connect(self) -> TokenFacts:
        """Find the token, and claim it for this process.

        Raises:
            TokenError: it is missing, ambiguous, or this process has another signer on it (``token.in_use``).
        """
        self._generation = self.module.generation
        token = find_token(self.module.library, self.uri)
        facts = TokenFacts.of(token)
        claim = (str(self.module.path), facts.label, facts.serial)
        with _tokens_lock:
            if claim != self._claim:
                if claim in _tokens_in_use:
                    raise TokenError(
                        f"this process has a signer on token {facts.label!r} already: share it; "
                        "a login counts per process",
                        code="token.in_use",
                    )
                _tokens_in_use.discard(self._claim)
                _tokens_in_use.add(claim)
                self._claim = claim
        self.quirks = quirks_of(self.library, facts.model)
        self.mechanisms = frozenset(token.slot.get_mechanisms())
        self._facts = facts
        return facts

    def log_in(self, login: Login) -> None:
        """Find the token again, look at its PIN flags, and log in once.

        Raises:
            PinError: refused, or not allowed.
            TokenError: the token answered with another error.
        """
        token = find_token(self.module.library, self.uri)
        if login.again and login.pin is None and self._facts is not None and self._facts.pin_pad:
            raise PinError(
                f"token {self._facts.label!r} wants its PIN typed on its pad, and nobody is asked for that at night; "
                "start the station again",
                code="pin.pad",
                operator="The HSM wants its PIN again. Call the security officer.",
            )
        self._session = log_in(token, login.pin, attended=login.attended, writable=login.writable, again=login.again)

    def find(self, key: KeyName) -> FoundKey:
        """Find a private key by its public half."""
        assert self._facts is not None  # noqa: S101 - connected
        return locate(
            self._session,
            key.public,
            token=self._facts.label,
            rules=key.rules,
            unreliable=self.quirks.unreliable,
        )

    def sign(self, found: FoundKey, request: SignRequest) -> bytes:
        """Sign in the first way that the token can."""
        way = self._way(request)
        signature: bytes = found.handle.sign(way.message, mechanism=way.mechanism, mechanism_param=way.parameter)
        return signature

    def _way(self, request: SignRequest) -> Way:
        for way in request.ways:
            if way.mechanism in self.mechanisms:
                return way
        return request.ways[0]  # the list may be wrong; the token has the last word

    def beat(self) -> None:
        """Ask for one random byte: it needs no key, and reaches the device (``C_GetSessionInfo`` need not)."""
        if self.has_random:
            with suppress(RandomNoRNG):
                self._session.generate_random(8)
                return
        list(self._session.get_objects({Attribute.LABEL: _NO_LABEL}))

    def reload(self) -> None:
        """Finalise and initialise the module, unless another signer did so since this one logged in."""
        generation = self._generation
        with self.using():
            self.drop()
        self.module.reload(generation)

    def drop(self) -> None:
        """Forget the session; a dead one can't be closed, and finalising closes all."""
        session, self._session = self._session, None
        if session is not None and self._generation == self.module.generation:
            with suppress(PKCS11Error):
                session.close()

    def leave(self, *, hung: bool) -> None:
        """Log out, and let go of token and module."""
        if not hung:
            with self.using():
                self.drop()
        self._session = None
        with _tokens_lock:
            if self._claim is not None:
                _tokens_in_use.discard(self._claim)
        self.module.close(finalise=not hung)
