"""A token that fails on demand, for tests: keys in memory, and a fault at any call in one line.

::

    token = FakeToken()
    token.at("sign", 3, SessionHandleInvalid())        # the third signature finds its session gone
    token.at("sign", 4, token.hang)                    # the fourth never comes back, until token.release()
    token.at("log_in", 2, PinIncorrect())              # after the first reload the PIN is wrong
    token.sign = lambda found, request: b"x" * 64      # or replace a call altogether
    signer = Signer.on(token, FAKE_URI, timing=Timing(clock=ManualClock()))

The session dies with its ``reload``, as a real one: handles that were found before are refused.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from pkcs11.exceptions import KeyHandleInvalid, SessionHandleInvalid
from pkcs11.mechanisms import Mechanism

from hsm.algorithms import PublicKey
from hsm.errors import KeyMissing
from hsm.key_rules import RULES, FoundKey, KeyFacts
from hsm.port import Login
from hsm.quirks import NONE, Quirks
from hsm.request import KeyName, SignRequest
from hsm.token import TokenFacts
from hsm.uri import TokenUri

FAKE_URI: Final = TokenUri.parse("pkcs11:token=fake")
"""Names a fake."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

Fault = BaseException | Callable[[], object]
"""Raised in place of a call, or called before it."""

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Handle:
    """A private key in one session."""

    private: PrivateKey
    session: int


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 0.0
        self._wake: list[Callable[[], None]] = []

    def now(self) -> float:
        """Return the time."""
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> None:  # noqa: ARG002 - no time passes here
        """Wait until somebody moves the clock, or wants a look at it."""
        event.wait()

    def on_change(self, wake: Callable[[], None]) -> None:
        """Remember whom to wake."""
        self._wake.append(wake)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        for wake in self._wake:
            wake()


@dataclass
class FakeToken:
    """A scripted token; each call of ``hsm.port.TokenPort`` is a field that may be replaced."""

    private: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    label: str = "fake"
    serial: str = "0001"
    calls: Counter[str] = field(default_factory=Counter)
    """How often each call was made."""
    order: list[str] = field(default_factory=list)
    """The calls, in their order."""
    attributes: Mapping[str, bool] = field(
        default_factory=lambda: MappingProxyType({rule.name: wanted for rule, wanted in RULES.items()})
    )
    flags: Mapping[str, bool] = field(default_factory=dict)
    """Fields of ``TokenFacts`` that are not as usual, like ``pin_count_low``."""
    quirks: Quirks = NONE
    stale: bool = False
    shared_by: int = 1

    def __post_init__(self) -> None:
        """Make the calls."""
        self.session: Any = None
        self.logins: list[Login] = []
        self._sessions = 0
        self._faults: dict[tuple[str, int], Fault] = {}
        self._released = threading.Event()
        self._hanging = threading.Event()
        self.connect: Call = self._connect
        self.log_in: Call = self._log_in
        self.find: Call = self._find
        self.sign: Call = self._sign
        self.beat: Call = lambda: self._called("beat")
        self.reload: Call = self._reload
        self.drop: Call = self._drop
        self.leave: Call = lambda *, hung: self._called("leave_hung" if hung else "leave")

    # -- the script

    @property
    def public(self) -> PublicKey:
        """The public half of its key."""
        return self.private.public_key()

    @property
    def name(self) -> KeyName:
        """The name of its key."""
        return KeyName.of(self.public)

    def at(self, call: str, number: int, fault: Fault) -> None:
        """Inject a fault into the ``number``-th call (from 1) of this name."""
        self._faults[call, number] = fault

    def from_(self, call: str, number: int, fault: Fault, *, times: int = 1000) -> None:
        """Inject a fault into ``times`` calls from the ``number``-th on."""
        for more in range(times):
            self.at(call, number + more, fault)

    def mend(self) -> None:
        """Take all faults out."""
        self._faults.clear()

    def hang(self) -> None:
        """Do not come back before ``release``."""
        self._hanging.set()
        self._released.wait()

    def hangs(self, seconds: float = 10) -> bool:
        """Wait until a call hangs."""
        return self._hanging.wait(seconds)

    def release(self) -> None:
        """Let calls that hang come back."""
        self._released.set()

    # -- what it does by itself

    @contextmanager
    def using(self) -> Iterator[None]:
        """Surround a piece of work."""
        yield

    def _called(self, call: str) -> None:
        self.calls[call] += 1
        self.order.append(call)
        fault = self._faults.get((call, self.calls[call]))
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            fault()

    def _connect(self) -> TokenFacts:
        self._called("connect")
        usual = {
            "login_required": False,
            "pin_pad": False,
            "pin_count_low": False,
            "pin_final_try": False,
            "pin_locked": False,
        }
        return TokenFacts(
            label=self.label, serial=self.serial, model="fake", manufacturer="us", slot_id=0, **{**usual, **self.flags}
        )

    def _log_in(self, login: Login) -> None:
        self._called("log_in")
        self.logins.append(login)
        self._sessions += 1
        self.session = self._sessions
        self.stale = False

    def _find(self, key: KeyName) -> FoundKey:
        self._called("find")
        if self.session is None:
            raise SessionHandleInvalid
        if key.public != self.public:
            raise KeyMissing(f"token {self.label!r} does not hold the private key of the issuer's certificate")
        return FoundKey(_Handle(self.private, self.session), KeyFacts("fake-key", b"1", self.attributes))

    def _sign(self, found: FoundKey, request: SignRequest) -> bytes:
        self._called("sign")
        if found.handle.session != self.session:
            raise KeyHandleInvalid
        return signature(found.handle.private, request)

    def _reload(self) -> None:
        self._called("reload")
        self.session = None
        self.stale = False

    def _drop(self) -> None:
        self._called("drop")
        self.session = None


def signature(private: PrivateKey, request: SignRequest) -> bytes:
    """Sign in memory what a token is asked for, in the first way."""
    way = request.ways[0]
    if isinstance(private, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA256() if private.key_size == hashes.SHA256.digest_size * 8 else hashes.SHA384()
        r, s = utils.decode_dss_signature(private.sign(way.message, ec.ECDSA(utils.Prehashed(digest))))
        size = (private.key_size + 7) // 8
        return r.to_bytes(size) + s.to_bytes(size)
    if isinstance(private, rsa.RSAPrivateKey):
        if way.mechanism is not Mechanism.SHA256_RSA_PKCS:
            raise NotImplementedError(way.mechanism.name)
        return private.sign(way.message, padding.PKCS1v15(), hashes.SHA256())
    return private.sign(way.message)
