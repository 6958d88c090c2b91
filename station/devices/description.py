"""What a driver file says, as values: which commands a board takes and what its answers look like.

``description_file`` reads the TOML and complains about it, ``described`` speaks to the board. ``docs/drivers.md`` tells
the keys to the firmware engineer who writes them.
"""

import base64
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from station.devices.patterns import Pattern

VERBS: Final = ("identify", "make_key", "install", "read_back", "prove", "lock", "lock_state")
"""What a file may describe, by the names of ``Driver``."""

NUMBERS: Final = frozenset({"offset", "chain_size", "piece_size"})
TEXTS: Final = frozenset({"hardware_id", "lock", "nonce", "proof_name", "tag"})
BYTES: Final = frozenset({"chain", "chain_sha256", "leaf_sha256", "challenge", "piece"})
"""What a command may hold, in curly brackets; bytes with their form behind a colon: ``{piece:hex}``."""

PROMISED: Final[Mapping[str, frozenset[str]]] = {
    "identify": frozenset({"tag"}),
    "make_key": frozenset({"hardware_id", "tag"}),
    "install": frozenset(
        {"hardware_id", "tag", "chain", "chain_sha256", "chain_size", "leaf_sha256", "piece", "piece_size", "offset"}
    ),
    "read_back": frozenset({"hardware_id", "tag"}),
    "prove": frozenset({"hardware_id", "tag", "challenge", "leaf_sha256", "proof_name"}),
    "lock": frozenset({"hardware_id", "tag", "lock"}),
    "lock_state": frozenset({"hardware_id", "tag"}),
}
"""What each verb has to give."""

TOLD: Final[Mapping[str, frozenset[str]]] = {
    "identify": frozenset(
        {"hardware_id", "model", "firmware_version", "firmware_sha256", "state", "leaf_sha256", "remark"}
    ),
    "make_key": frozenset({"csr"}),
    "install": frozenset({"chain_sha256"}),
    "read_back": frozenset({"chain", "chain_sha256"}),
    "prove": frozenset({"signature", "csr"}),
    "lock": frozenset(),
    "lock_state": frozenset({"locks"}),
}
"""What a board may tell in the answers of each verb, as named groups, rows or PEM."""

BYTE_FIELDS: Final = frozenset(
    {"csr", "chain", "chain_sha256", "leaf_sha256", "firmware_sha256", "signature"}
)  # told in a form
"""Of these, a file says in which form they come."""


class Form(Enum):
    """How bytes are written as text."""

    HEX = "hex"
    BASE64 = "base64"
    BASE64URL = "base64url"

    def encode(self, value: bytes) -> str:
        """Write bytes."""
        match self:
            case Form.HEX:
                return value.hex()
            case Form.BASE64:
                return base64.b64encode(value).decode()
            case Form.BASE64URL:
                return base64.urlsafe_b64encode(value).decode().rstrip("=")

    def decode(self, text: str) -> bytes:
        """Read bytes.

        Raises:
            ValueError: these are none.
        """
        match self:
            case Form.HEX:
                return bytes.fromhex(text)
            case Form.BASE64:
                return base64.b64decode(text, validate=True)
            case Form.BASE64URL:
                return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One command and its answer."""

    send: str
    """With placeholders."""
    done: Pattern
    """The line that ends the answer."""
    answer: tuple[Pattern, ...] = ()
    """Whole lines that have to be in it, each once; their named groups are what the board tells."""
    rows: tuple[tuple[str, Pattern], ...] = ()
    """What is told in many lines: the name, and what each of its lines looks like."""
    pem: str = ""
    """What is told as a PEM block."""
    seconds: float = 2.0
    """Beside the time on the wire."""
    again: bool = True
    """It may be sent again where its answer was lost."""

    @property
    def placeholders(self) -> list[tuple[str, str]]:
        """Name and form of each placeholder.

        Raises:
            ValueError: a curly bracket is left open.
        """
        parts = string.Formatter().parse(self.send)
        return [(name, form or "") for _, name, form, _ in parts if name is not None]

    @property
    def is_for_pieces(self) -> bool:
        """Whether it is sent once for each piece of the chain."""
        return any(name == "piece" for name, _ in self.placeholders)

    @property
    def is_for_locks(self) -> bool:
        """Whether it is sent once for each lock."""
        return any(name == "lock" for name, _ in self.placeholders)

    def command(self, values: Mapping[str, object]) -> str:
        """Fill the placeholders in."""
        text = ""
        for literal, name, form, _ in string.Formatter().parse(self.send):
            text += literal
            if name is not None:
                value = values[name]
                text += Form(form).encode(value) if isinstance(value, bytes) else str(value)
        return text


@dataclass(frozen=True, slots=True)
class Sync:
    """A command whose answer nobody could have given before: what comes before it is old."""

    send: str
    done: str
    """A pattern; it has ``{nonce}`` in it, as ``send`` has."""

    def command(self, nonce: str) -> str:
        """Fill the nonce in."""
        return self.send.replace("{nonce}", nonce)

    def ending(self, nonce: str) -> Pattern:
        """Return what the last line looks like."""
        return Pattern(self.done.replace("{nonce}", nonce))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line with which a board says no."""

    line: Pattern
    code: str
    about: str
    operator: str


@dataclass(frozen=True, slots=True)
class ChainForm:
    """How the board wants its certificates."""

    is_pem: bool = False
    leaf_only: bool = False
    zero: bool = False
    """A zero byte ends it."""
    piece: int = 64
    """Bytes that one command carries."""


@dataclass(frozen=True, slots=True)
class ProofForm:
    """What the board signs, and how it writes the signature."""

    by_csr: bool = False
    """A CSR with the name that ``csr_proof`` makes."""
    signs: tuple[bytes | str, ...] = ()
    """Otherwise: bytes as they are, ``"challenge"`` and ``"leaf_sha256"``, in this order."""
    is_raw: bool = False
    """The signature is r and s, each 32 bytes or more, and not DER."""

    def message(self, challenge: bytes, leaf_sha256: bytes) -> bytes:
        """Return the bytes that are signed."""
        values = {"challenge": challenge, "leaf_sha256": leaf_sha256}
        return b"".join(part if isinstance(part, bytes) else values[part] for part in self.signs)


@dataclass(frozen=True, slots=True)
class Description:
    """A whole driver file."""

    name: str
    about: str
    line_end: bytes
    prompt: Pattern | None
    logs: tuple[Pattern, ...]
    limit: int
    """Characters of a command that the board takes."""
    sync: Sync | None
    exchanges: Mapping[str, tuple[Exchange, ...]]
    """By verb."""
    forms: Mapping[str, Form]
    """Of what the board tells, by name."""
    errors: tuple[Refusal, ...]
    fixed: Mapping[str, str]
    """What the board does not tell of itself."""
    chain: ChainForm = ChainForm()
    proof: ProofForm = ProofForm()
    locks: Mapping[str, str] = field(default_factory=dict)
    """What the board calls its locks, by our names."""
    new_key_each_time: bool = False
    """``make_key`` makes another key each time."""

    def of(self, verb: str) -> tuple[Exchange, ...]:
        """Return the exchanges of a verb, none where the board does not know it."""
        return self.exchanges.get(verb, ())
