"""A board that answers in bad faith: twisted messages (``twists``), and well-formed lies.

::

    board = HostileBoard("BAD-1", Random(7), past=[])
    board.attack()                      # decides what this visit will be like
    end = await UnitRun(shop, SmpDriver(board.plug()), "1", watch).run()
    board.behave()                      # from now on it is an honest ScriptedBoard

What it did stands in ``twisted`` (answers that were not the right ones); keys that may have a certificate in ``shown``.
"""

from collections.abc import Mapping
from hashlib import sha256
from random import Random
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from firmware_tools.provisioning import PROOF_DOMAIN
from station.testing.scripted_board import Answer, ScriptedBoard, Verb
from station.testing.twists import TWISTS, Reply, RequestHeader, Twist, say

PAST_LIMIT: Final = 400
"""Recorded exchanges that are kept."""

_RATES: Final = (0.1, 0.5, 1.0, 1.0)
_WEAK_BITS: Final = 1024

Told: TypeAlias = Mapping[str, Any] | None

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class HostileBoard(ScriptedBoard):
    """A device in Python that a dice-player has taken over."""

    def __init__(
        self,
        hardware_id: str,
        dice: Random,
        *,
        past: list[tuple[RequestHeader, bytes]] | None = None,
        shown: set[bytes] | None = None,
    ) -> None:
        """Make a blank board that is honest until ``attack``, ``twist_with`` or ``lie``.

        Args:
            hardware_id: see ``ScriptedBoard``.
            dice: decide everything.
            past: recorded exchanges; this board adds its own. One list for several boards lets them copy each other.
            shown: SHA-256 of the public keys that boards have shown in a CSR that a station may accept; this board
                adds its own.
        """
        super().__init__(hardware_id)
        self.dice = dice
        self.shown = set() if shown is None else shown
        self.twisted = 0
        """Answers that were not the right ones."""
        self._past = [] if past is None else past
        self._twist_rate: Mapping[Verb, float] = {}
        self._twists: tuple[Twist, ...] = TWISTS
        self._lie: str | None = None

    @property
    def spki_sha256(self) -> bytes:
        """Of its own key; of nothing as long as it has none."""
        return b"" if self.key is None else _spki(self.key)

    def attack(self) -> None:
        """Choose what it does from now on: harm to one kind of answer, or to all; and perhaps a lie."""
        dice = self.dice
        verbs = [dice.choice(list(Verb))] if dice.randrange(2) else list(Verb)
        self._twist_rate = dict.fromkeys(verbs, dice.choice(_RATES))
        self._twists = (dice.choice(TWISTS),) if dice.randrange(2) else TWISTS
        self._lie = dice.choice(tuple(_LIES)) if dice.randrange(4) == 0 else None

    def twist_with(self, twist: Twist, verb: Verb, *, rate: float = 1.0) -> None:
        """Do one thing to one kind of answer, and nothing else."""
        self._twist_rate, self._twists, self._lie = {verb: rate}, (twist,), None

    def lie(self, name: str) -> None:
        """Tell one of ``LIES``, and be honest otherwise."""
        self._twist_rate, self._lie = {}, name

    def behave(self) -> None:
        """Be honest."""
        self._twist_rate, self._lie = {}, None

    def _answer(self, header: RequestHeader, request: Mapping[str, Any]) -> Answer:
        right = super()._answer(header, request)
        if not isinstance(right, Mapping):
            return right
        try:
            verb = Verb((header[1], header[3], header[0]))
        except ValueError:
            return right
        answer: Mapping[str, Any] = right
        if self._lie is not None and (told := _LIES[self._lie](self, verb, request, right)) is not None:
            answer = told
            self.twisted += 1
        if verb is Verb.CSR and self._lie not in _NO_KEY:
            self.shown.add(self.spki_sha256)
        reply = Reply(header, answer, self._past)
        if self.dice.random() < self._twist_rate.get(verb, 0.0):
            self.twisted += 1
            say(self.link, self.dice.choice(self._twists)(self.dice, reply))
            answered: Answer = None
        else:
            answered = answer
        self._past.append((header, reply.body))
        del self._past[: len(self._past) - PAST_LIMIT]
        return answered


def _spki(key: PrivateKey) -> bytes:
    return sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _csr(key: PrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


# Lies: answers of the right form. Each gets board, verb, request and right answer; None is the truth.


def _wrong_model(_board: HostileBoard, verb: Verb, _request: Mapping[str, Any], right: Mapping[str, Any]) -> Told:
    return {**right, "model": "other-product"} if verb is Verb.IDENT else None


def _other_hardware(board: HostileBoard, verb: Verb, _request: Mapping[str, Any], right: Mapping[str, Any]) -> Told:
    """Another hardware id each time it is asked."""
    return {**right, "hw": f"LIE-{board.dice.randrange(1 << 32):08x}"} if verb is Verb.IDENT else None


def _new_leaf(board: HostileBoard, verb: Verb, _request: Mapping[str, Any], right: Mapping[str, Any]) -> Told:
    return {**right, "leaf": board.dice.randbytes(32)} if verb is Verb.IDENT else None


def _whole(content: bytes, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"len": len(content), "off": request["off"], "data": content[request["off"] : request["off"] + 900]}


def _forged_csr(board: HostileBoard, verb: Verb, request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """A request for a key that it does not hold: the signature does not fit."""
    if verb is not Verb.CSR:
        return None
    forged = bytearray(_csr(ec.generate_private_key(ec.SECP256R1()), board.hardware_id))
    forged[-1] ^= 1
    return _whole(bytes(forged), request)


def _weak_csr(board: HostileBoard, verb: Verb, request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    if verb is not Verb.CSR:
        return None
    key: PrivateKey = ec.generate_private_key(ec.SECP192R1()) if board.dice.randrange(2) else _weak_rsa()
    return _whole(_csr(key, board.hardware_id), request)


_weak: list[rsa.RSAPrivateKey] = []


def _weak_rsa() -> rsa.RSAPrivateKey:
    if not _weak:  # one for all: making them is what costs
        _weak.append(rsa.generate_private_key(65537, _WEAK_BITS))
    return _weak[0]


def _foreign_proof(_board: HostileBoard, verb: Verb, request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """A sound signature of another key."""
    if verb is not Verb.PROVE:
        return None
    message = PROOF_DOMAIN + request.get("nonce", b"") + bytes(32)
    return {"sig": ec.generate_private_key(ec.SECP256R1()).sign(message, ec.ECDSA(hashes.SHA256()))}


def _old_proof(board: HostileBoard, verb: Verb, _request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """Its own signature, of a challenge that was not this one."""
    if verb is not Verb.PROVE or board.key is None or board.leaf is None:
        return None
    message = PROOF_DOMAIN + bytes(32) + sha256(board.leaf).digest()
    return {"sig": board.key.sign(message, ec.ECDSA(hashes.SHA256()))}


def _open_lock(_board: HostileBoard, verb: Verb, _request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    return {"locks": 0} if verb in {Verb.LOCK_READ, Verb.LOCK_WRITE} else None


def _endless_csr(_board: HostileBoard, verb: Verb, request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """A byte at a time, of a CSR that is as long as may be."""
    return {"len": 2048, "off": request["off"], "data": b"\x30"} if verb is Verb.CSR else None


def _back_to_start(_board: HostileBoard, verb: Verb, _request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """A transfer that never gets on."""
    return {"off": 0} if verb is Verb.CHAIN_WRITE else None


def _one_byte_on(_board: HostileBoard, verb: Verb, request: Mapping[str, Any], _right: Mapping[str, Any]) -> Told:
    """A transfer that gets on by one byte at a time."""
    return {"off": request["off"] + 1} if verb is Verb.CHAIN_WRITE else None


def _swapped_leaf(board: HostileBoard, verb: Verb, _request: Mapping[str, Any], right: Mapping[str, Any]) -> Told:
    """Another certificate than it holds."""
    if verb is not Verb.CHAIN_READ or "data" not in right:
        return None
    data = bytearray(right["data"])
    data[board.dice.randrange(len(data))] ^= 0x40
    return {**right, "data": bytes(data)}


_LIES: Final = {
    "wrong model": _wrong_model,
    "other hardware": _other_hardware,
    "new leaf": _new_leaf,
    "forged CSR": _forged_csr,
    "weak CSR": _weak_csr,
    "foreign proof": _foreign_proof,
    "old proof": _old_proof,
    "open lock": _open_lock,
    "endless CSR": _endless_csr,
    "back to start": _back_to_start,
    "one byte on": _one_byte_on,
    "swapped leaf": _swapped_leaf,
}

_NO_KEY: Final = frozenset({"forged CSR", "weak CSR", "endless CSR"})
"""Lies with which a board does not show a key that may have a certificate."""

LIES: Final = tuple(_LIES)
"""What ``HostileBoard.lie`` takes."""

DEADLY: Final = frozenset(LIES) - {"other hardware", "one byte on"}
"""Lies with which a board never passes, however often they are told."""
