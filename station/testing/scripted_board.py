"""A device in Python that speaks the provisioning group over a link in memory; begin at ``station.testing``."""

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from enum import Enum, unique
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, TypeAlias

import cbor2
from asn1crypto import parser
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from smp import packet

from firmware_tools.provisioning import MAX_CHAIN, NONCE_SIZE, PROOF_DOMAIN, DeviceState, Locks
from firmware_tools.provisioning_group import GROUP, PROTOCOL_VERSION, Command, ProvisioningError
from firmware_tools.smp_framing import LINE_LENGTH, FrameReader
from station.ports.transcript import WireTap
from station.testing.memory_link import MemoryLink

READ, WRITE = 0, 2
"""SMP operations; a response has one more."""

_HEADER: Final = struct.Struct("!BBHHBB")
_VERSION_2: Final = 1 << 3
_ENOTSUP: Final = 8
_ENVELOPE: Final = 64
"""Bytes of a response beside its piece of a CSR or chain."""

Answer: TypeAlias = Mapping[str, Any] | bytes | None
"""A map to answer with, or bytes to put on the wire as they are, or silence."""

Script: TypeAlias = Callable[[Mapping[str, Any], Answer], Answer]
"""Gets the request and the right answer; returns what to answer."""


@unique
class Verb(Enum):
    """What a board can be asked: group, command, operation."""

    IDENT = (GROUP, Command.IDENT, READ)
    CSR = (GROUP, Command.CSR, WRITE)
    CHAIN_WRITE = (GROUP, Command.CHAIN, WRITE)
    CHAIN_READ = (GROUP, Command.CHAIN, READ)
    PROVE = (GROUP, Command.PROVE, WRITE)
    LOCK_WRITE = (GROUP, Command.LOCK, WRITE)
    LOCK_READ = (GROUP, Command.LOCK, READ)
    ECHO = (0, 0, WRITE)
    RESET = (0, 5, WRITE)
    PARAMETERS = (0, 6, READ)


class _Refused(Exception):
    """The device answers with a return code."""

    def __init__(self, code: ProvisioningError) -> None:
        super().__init__(code.name)
        self.code = code


class ScriptedBoard:
    """A device in Python; ``station.testing`` shows how to bend its answers."""

    def __init__(
        self,
        hardware_id: str = "BOARD-0001",
        *,
        model: str = "reference-device",
        firmware_version: str = "1.0.0",
        firmware_sha256: bytes = sha256(b"firmware").digest(),
        buffer: int = 1024,
    ) -> None:
        """Make a blank board.

        Args:
            hardware_id: see ``Identity``.
            model: see ``Identity``.
            firmware_version: see ``Identity``.
            firmware_sha256: see ``Identity``.
            buffer: bytes of an SMP message it takes, and sends at most.
        """
        self.hardware_id = hardware_id
        self.model = model
        self.firmware_version = firmware_version
        self.firmware_sha256 = firmware_sha256
        self.buffer = buffer
        self.key: ec.EllipticCurvePrivateKey | None = None
        self.csr: bytes | None = None
        """Answered in place of the right one once it is set."""
        self.chain: bytes | None = None
        self.locks = Locks.NONE
        self.requests: list[tuple[Verb, Mapping[str, Any]]] = []
        """All that it was asked, oldest first."""
        self.link: MemoryLink | None = None
        self._transfer = b""
        self._announced: tuple[int, bytes] | None = None
        self._scripts: dict[Verb, list[tuple[Script, int | None]]] = defaultdict(list)
        self._frames = FrameReader()
        self._answers: Mapping[Verb, Callable[[Mapping[str, Any]], Answer]] = {
            Verb.IDENT: self._ident,
            Verb.CSR: self._csr,
            Verb.CHAIN_WRITE: self._chain_write,
            Verb.CHAIN_READ: self._chain_read,
            Verb.PROVE: self._prove,
            Verb.LOCK_WRITE: self._lock_write,
            Verb.LOCK_READ: self._lock_read,
            Verb.ECHO: self._echo,
            Verb.RESET: self._reset,
            Verb.PARAMETERS: self._parameters,
        }

    # The test's side.

    def plug(self, *, transcript: WireTap | None = None) -> MemoryLink:
        """Put the board into a new port and return its link; needs a running event loop."""
        self._frames = FrameReader()
        self._transfer, self._announced = b"", None
        self.link = MemoryLink(f"memory of {self.hardware_id}", transcript=transcript)
        self.link.connect(self._hear)
        return self.link

    def unplug(self) -> None:
        """Take the board out; what it stored stays."""
        if self.link is not None:
            self.link.unplug()

    def script(self, verb: Verb, script: Script, *, times: int | None = None) -> None:
        """Let ``script`` decide on the answer; for good, or ``times`` times. The latest script goes first."""
        self._scripts[verb].insert(0, (script, times))

    def change(self, verb: Verb, *, times: int | None = None, **fields: object) -> None:
        """Answer right, but with these fields."""
        self.script(verb, lambda _request, answer: {**_map(answer), **fields}, times=times)

    def drop(self, verb: Verb, *fields: str, times: int | None = None) -> None:
        """Answer right, but without these fields."""
        self.script(
            verb,
            lambda _request, answer: {name: value for name, value in _map(answer).items() if name not in fields},
            times=times,
        )

    def refuse(self, verb: Verb, code: int, *, times: int | None = None) -> None:
        """Answer with a return code of the provisioning group."""
        self.script(verb, lambda _request, _answer: _refusal(code), times=times)

    def say(self, verb: Verb, raw: bytes, *, times: int | None = None) -> None:
        """Put bytes on the wire in place of the answer."""
        self.script(verb, lambda _request, _answer: raw, times=times)

    def hush(self, verb: Verb, *, times: int | None = None) -> None:
        """Stay silent."""
        self.script(verb, lambda _request, _answer: None, times=times)

    def unplug_on(self, verb: Verb, *, times: int | None = 1) -> None:
        """Leave when asked, with the work done and the answer lost."""

        def leave(_request: Mapping[str, Any], _answer: Answer) -> Answer:
            self.unplug()
            return None

        self.script(verb, leave, times=times)

    @property
    def state(self) -> DeviceState:
        """How far the board has come."""
        if self.locks & Locks.CREDENTIALS:
            return DeviceState.LOCKED
        if self.chain is not None:
            return DeviceState.PROVISIONED
        return DeviceState.BLANK if self.key is None else DeviceState.KEYED

    @property
    def leaf(self) -> bytes | None:
        """The certificate it holds, DER."""
        return None if self.chain is None else self.chain[: parser.peek(self.chain)]

    # The wire's side.

    def _hear(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            op, _flags, _length, group, sequence, command = _HEADER.unpack_from(message)
            header = (op & 7, group, sequence, command)
            answer = self._answer(header, cbor2.loads(message[_HEADER.size :]))
            if answer is not None and self.link is not None:
                self.link.receive(answer if isinstance(answer, bytes) else _frame(header, answer))

    def _answer(self, header: tuple[int, int, int, int], request: Mapping[str, Any]) -> Answer:
        op, group, _sequence, command = header
        try:
            verb = Verb((group, command, op))
        except ValueError:
            return {"rc": _ENOTSUP}
        self.requests.append((verb, request))
        answer: Answer
        try:
            answer = self._answers[verb](request)
        except _Refused as refused:
            answer = _refusal(refused.code)
        if scripts := self._scripts[verb]:
            script, times = scripts[0]
            answer = script(request, answer)
            if times is not None:
                scripts[0:1] = [(script, times - 1)] if times > 1 else []
        return answer

    # The device's side.

    def _ident(self, _request: Mapping[str, Any]) -> Answer:
        answer = {
            "v": PROTOCOL_VERSION,
            "hw": self.hardware_id,
            "model": self.model,
            "fw": self.firmware_version,
            "img": self.firmware_sha256,
            "st": int(self.state),
            "buf": self.buffer,
        }
        return answer if self.leaf is None else {**answer, "leaf": sha256(self.leaf).digest()}

    def _csr(self, request: Mapping[str, Any]) -> Answer:
        if self.key is None:
            self.key = ec.generate_private_key(ec.SECP256R1())
        if self.csr is None:
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.hardware_id)])
            csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
            self.csr = csr.public_bytes(serialization.Encoding.DER)
        return self._piece(self.csr, request["off"], MAX_CHAIN)

    def _piece(self, content: bytes, offset: int, limit: int) -> dict[str, Any]:
        if not 0 <= offset < len(content):
            raise _Refused(ProvisioningError.BAD_OFFSET)
        end = offset + min(limit, self.buffer - _ENVELOPE)
        return {"len": len(content), "off": offset, "data": content[offset:end]}

    def _chain_write(self, request: Mapping[str, Any]) -> Answer:
        if self.locks & Locks.CREDENTIALS:
            raise _Refused(ProvisioningError.IS_LOCKED)
        if self.key is None:
            raise _Refused(ProvisioningError.WRONG_STATE)
        if request["off"] == 0:
            self._transfer, self._announced = b"", (request["len"], request["sha"])
        if self._announced is None or request["off"] != len(self._transfer):
            raise _Refused(ProvisioningError.BAD_OFFSET)
        self._transfer += request["data"]
        size, digest = self._announced
        if size > MAX_CHAIN or len(self._transfer) > size:
            raise _Refused(ProvisioningError.TOO_LARGE)
        if len(self._transfer) < size:
            return {"off": len(self._transfer)}
        chain, self._transfer, self._announced = self._transfer, b"", None
        code = ProvisioningError.DIGEST_MISMATCH if sha256(chain).digest() != digest else self._judge(chain)
        if code is not ProvisioningError.OK:
            raise _Refused(code)
        self.chain = chain
        return {"off": size}

    def _judge(self, chain: bytes) -> ProvisioningError:
        certificates: list[x509.Certificate] = []
        try:
            while chain:
                size = parser.peek(chain)
                certificates.append(x509.load_der_x509_certificate(chain[:size]))
                chain = chain[size:]
        except ValueError:
            return ProvisioningError.CHAIN_MALFORMED
        if self.key is None or certificates[0].public_key() != self.key.public_key():
            return ProvisioningError.WRONG_KEY
        try:
            for subject, issuer in pairwise(certificates):
                subject.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            return ProvisioningError.BROKEN_LINK
        return ProvisioningError.OK

    def _chain_read(self, request: Mapping[str, Any]) -> Answer:
        if self.chain is None:
            raise _Refused(ProvisioningError.WRONG_STATE)
        piece = self._piece(self.chain, request["off"], request.get("max", MAX_CHAIN))
        return {**piece, "sha": sha256(self.chain).digest()} if request["off"] == 0 else piece

    def _prove(self, request: Mapping[str, Any]) -> Answer:
        if self.key is None or self.leaf is None:
            raise _Refused(ProvisioningError.WRONG_STATE)
        if len(request["nonce"]) != NONCE_SIZE:
            raise _Refused(ProvisioningError.BAD_REQUEST)
        proof = PROOF_DOMAIN + request["nonce"] + sha256(self.leaf).digest()
        return {"sig": self.key.sign(proof, ec.ECDSA(hashes.SHA256()))}

    def _lock_write(self, request: Mapping[str, Any]) -> Answer:
        self.locks |= Locks(request["locks"])
        return self._lock_read(request)

    def _lock_read(self, _request: Mapping[str, Any]) -> Answer:
        return {"locks": int(self.locks)}

    def _echo(self, request: Mapping[str, Any]) -> Answer:
        return {"r": request["d"]}

    def _reset(self, _request: Mapping[str, Any]) -> Answer:
        self._transfer, self._announced = b"", None
        return {}

    def _parameters(self, _request: Mapping[str, Any]) -> Answer:
        return {"buf_size": self.buffer, "buf_count": 1}


def _map(answer: Answer) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) else {}


def _refusal(code: int) -> dict[str, Any]:
    return {"err": {"group": GROUP, "rc": int(code)}}


def _frame(header: tuple[int, int, int, int], answer: Mapping[str, Any]) -> bytes:
    return frame(header, cbor2.dumps(answer))


def frame(request: tuple[int, int, int, int], body: bytes) -> bytes:
    """Return an answer as it goes over the wire.

    Args:
        request: op, group, sequence and command of the request.
        body: CBOR, or whatever a hostile board sends instead.
    """
    op, group, sequence, command = request
    header = _HEADER.pack((op + 1) | _VERSION_2, 0, len(body), group, sequence, command)
    return b"".join(packet.encode(header + body, LINE_LENGTH))
