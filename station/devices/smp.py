"""The driver of boards that speak SMP with the provisioning group.

Read ``smp_wire`` for how a message goes over the wire and ``firmware_tools.provisioning_group`` for what the messages
are; ``docs/protocol.md`` tells both in C terms. One unit is, at best, this row of exchanges:

==========  ======================  ==================================================================================
verb        request                 response
==========  ======================  ==================================================================================
identify    ident ``{}``            who, which firmware, which state, how large a message it takes (``buf``)
make_key    csr ``{off}``           the CSR; more exchanges if it does not fit one response
install     chain ``{off, data}``   the next offset wanted; with ``len`` and ``sha`` at the beginning; as many messages
                                    as ``buf`` makes it
read_back   chain ``{off, max}``    the leaf out of storage, and the SHA-256 of the whole chain
prove       prove ``{nonce}``       the signature
lock        lock ``{locks}``        what is closed now
lock_state  lock ``{}``             the same, read
==========  ======================  ==================================================================================

With a P-256 chain of 330 + 360 bytes and a ``buf`` of 1024 that is some 2,540 bytes on the wire: 220 ms at 115200 baud.
Of them 59 % are values; Base64 takes 25 %, CBOR's keys 6 %, SMP's headers 4 %, ends of lines 3 %, length and CRC 2 %.

Nothing that a board sends is trusted. Wire faults (silence, damage, talk that is no frame, CBOR that is none) are
``LinkError``; an answer that is well-formed CBOR and not what the protocol allows is ``DeviceError`` with code
``device.malformed``; a return code of the board is ``DeviceError`` with the code's name, ``device.wrong_key`` for one.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from asn1crypto import parser
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite

from firmware_tools import provisioning_group as group
from firmware_tools.provisioning import MAX_CHAIN, MAX_CSR, MAX_HARDWARE_ID, PROOF_DOMAIN
from firmware_tools.smp_framing import MESSAGE_LIMIT, Framing
from station.devices import Capability, Identity, Locks
from station.devices.smp_answer import malformed, parse
from station.devices.smp_wire import SmpTransport
from station.errors import DeviceError, Garbled, NoAnswer, UnitRefused
from station.ports.link import Link

HARDWARE_ID: Final = re.compile(rf"[0-9A-Za-z._:-]{{1,{MAX_HARDWARE_ID}}}")
"""What a hardware id may be; it goes into file names, so a path separator is out."""

TEXT: Final = re.compile(r"[ -~]{1,32}")
"""What a model or a version may be: printable ASCII, so that no terminal escape passes (invariant I8)."""

DIGEST_SIZE: Final = 32
"""Bytes of a SHA-256."""

SIGNATURE_SIZES: Final = range(8, 145)
"""Bytes of an ECDSA-Sig-Value in DER: from tiny integers to the largest of P-521."""

MIN_BUFFER: Final = 128
"""The smallest ``buf``: the first piece of a chain, with length and digest, needs some 70 bytes beside its data."""

NOISY_BUFFER: Final = 256
"""Bytes of a message on a wire that lost a larger one: with one bit in ten thousand turned, three of four arrive."""

READ_PIECE: Final = 3072
"""Bytes asked for at once when we don't know how long the chain is; its response stays below ``MESSAGE_LIMIT``."""

RESTARTS: Final = 3
"""How often one transfer may begin anew or go back."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that each try waits for its answer, beside the time on the wire: as many tries as numbers."""

    identify: tuple[float, ...] = (0.5, 0.5, 1.0, 1.0, 2.0)
    """A board may still be booting, since opening the port resets many."""
    answer: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Commands that read or write."""
    crypto: tuple[float, ...] = (2.0, 4.0, 12.0)
    """Commands that make a key or sign: 30 ms on a Cortex-M4, seconds on a small part without hardware."""


class SmpDriver:
    """One board over one link; a ``Driver``."""

    capabilities = (
        Capability.MAKE_KEY
        | Capability.REPEAT_CSR
        | Capability.READ_BACK
        | Capability.PROVE
        | Capability.LOCK
        | Capability.OBSERVE_LOCK
    )

    def __init__(self, link: Link, *, timeouts: Timeouts | None = None, framing: Framing = Framing.BASE64) -> None:
        """Drive the board at the other end of an open link; the caller closes it."""
        self.transport = SmpTransport(link, framing)
        self._timeouts = timeouts or Timeouts()
        # Not from 0: after a restart of the station the board may still answer the last request of the run before.
        self._sequence = secrets.randbelow(256)
        self._buffer: int | None = None
        self._leaf: bytes | None = None

    @property
    def disturbances(self) -> int:
        """See ``Driver.disturbances``."""
        return self.transport.disturbances

    async def identify(self) -> Identity:
        """See ``Driver.identify``.

        Raises:
            DeviceError: ``device.protocol_version``: it speaks a newer protocol. ``device.malformed``: a field is not
                as ``Identity`` says.
        """
        answer = await self._ask(group.IdentRead(sequence=self._next()), self._timeouts.identify)
        _expect(HARDWARE_ID.fullmatch(answer.hw), "hw", answer.hw)
        _expect(TEXT.fullmatch(answer.model), "model", answer.model)
        _expect(TEXT.fullmatch(answer.fw), "fw", answer.fw)
        _expect(len(answer.img) == DIGEST_SIZE, "img", answer.img)
        _expect(answer.leaf is None or len(answer.leaf) == DIGEST_SIZE, "leaf", answer.leaf)
        _expect(answer.buf >= MIN_BUFFER, "buf", answer.buf)
        self._buffer = min(answer.buf, MESSAGE_LIMIT)
        return Identity(answer.hw, answer.model, answer.fw, answer.img, answer.st, answer.leaf)

    async def make_key(self) -> bytes:
        """See ``Driver.make_key``."""
        for _ in range(RESTARTS):
            csr = b""
            total = None
            try:
                while total is None or len(csr) < total:
                    request = group.CsrWrite(off=len(csr), sequence=self._next())
                    answer = await self._ask(request, self._timeouts.crypto)
                    _expect(0 < answer.len <= MAX_CSR, "len", answer.len)
                    _expect(total in (None, answer.len), "len", answer.len)
                    total = answer.len
                    csr += _piece(answer.off, answer.data, len(csr), total)
            except DeviceError as error:
                if error.code != _BAD_OFFSET:
                    raise
            else:
                return csr
        raise _stuck("CSR")

    async def install(self, chain: Sequence[bytes]) -> None:
        """See ``Driver.install``.

        The pieces are as large as the board takes them. Where one of these does not arrive, small ones go on:
        on a wire that turns a bit now and then a long message seldom arrives whole, a short one mostly does.

        Raises:
            UnitRefused: ``unit.chain_too_large``: longer than a device has to be able to take.
            DeviceError: the board refuses the chain: ``device.wrong_key``, ``device.broken_link`` and so on.
        """
        content = b"".join(chain)
        if not 0 < len(content) <= MAX_CHAIN:
            raise UnitRefused(
                f"the chain has {len(content)} bytes; a device takes 1 to {MAX_CHAIN}",
                code="unit.chain_too_large",
                operator="Call the line engineer.",
            )
        if self._buffer is None:
            await self.identify()
        self._leaf = None
        offset = restarts = 0
        size = self._buffer or MIN_BUFFER
        while offset < len(content):
            try:
                reached = await self._put(content, offset, size)
            except (NoAnswer, Garbled):
                if size <= NOISY_BUFFER:
                    raise
                size = NOISY_BUFFER
                continue
            if reached <= offset:
                restarts += 1
                if restarts > RESTARTS:
                    raise _stuck("chain")
            offset = reached

    async def _put(self, content: bytes, offset: int, size: int) -> int:
        """Send one piece of the chain, in ``size`` bytes of message; return the offset that the board wants next."""
        first: dict[str, int | bytes] = {"len": len(content), "sha": sha256(content).digest()} if offset == 0 else {}
        frame = group.ChainWrite.model_validate({"off": offset, "data": b"", **first, "sequence": 0})
        room = size - len(frame.BYTES) - 2  # a length above 23 takes up to two bytes more
        piece = content[offset : offset + room]
        request = group.ChainWrite.model_validate({"off": offset, "data": piece, **first, "sequence": self._next()})
        last = offset + len(piece) == len(content)  # then the board checks signatures and writes its flash
        deadlines = self._timeouts.crypto if last else self._timeouts.answer
        if size > NOISY_BUFFER:
            deadlines = deadlines[:1]  # in small pieces is the better second try
        try:
            answer = await self._ask(request, deadlines)
        except DeviceError as error:
            if error.code != _BAD_OFFSET:
                raise
            return 0
        _expect(0 <= answer.off <= offset + len(piece), "off", answer.off)
        return answer.off

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """See ``Driver.read_back``.

        Where the chain is known only the leaf crosses the wire, with the board's digest of the whole chain; otherwise
        all of it does.

        Raises:
            DeviceError: ``device.chain_differs``: the board holds another chain, or its digest is wrong.
        """
        if chain is None:
            content, digest = await self._get(None, None)
            expected = sha256(content).digest()
            try:
                leaf = content[: parser.peek(content)]
            except ValueError as error:
                raise malformed("data", content[:16]) from error
        else:
            whole = b"".join(chain)
            leaf, digest = await self._get(len(chain[0]), len(whole))
            expected = sha256(whole).digest()
        if digest != expected:
            raise _differs("SHA-256 of the chain", expected, digest)
        self._leaf = leaf
        return leaf

    async def _get(self, wanted: int | None, total: int | None) -> tuple[bytes, bytes]:
        """Read the chain, or ``wanted`` bytes of it; return them and the board's digest of all ``total`` bytes."""
        content = digest = b""
        while wanted is None or len(content) < wanted:
            limit = READ_PIECE if wanted is None else min(READ_PIECE, wanted - len(content))
            request = group.ChainRead(off=len(content), max=limit, sequence=self._next())
            answer = await self._ask(request, self._timeouts.answer)
            _expect(0 < answer.len <= MAX_CHAIN, "len", answer.len)
            if total not in (None, answer.len):
                raise _differs("length of the chain", total, answer.len)
            if not content:
                _expect(answer.sha is not None and len(answer.sha) == DIGEST_SIZE, "sha", answer.sha)
                digest = answer.sha or b""
            total = answer.len
            wanted = wanted or total
            content += _piece(answer.off, answer.data, len(content), min(total, len(content) + limit))
        return content, digest

    async def prove(self, challenge: bytes) -> tuple[bytes, bytes]:
        """See ``Driver.prove``; reads the leaf back first if that was not done yet."""
        if self._leaf is None:
            await self.read_back(None)
        leaf = self._leaf or b""
        answer = await self._ask(group.ProveWrite(nonce=challenge, sequence=self._next()), self._timeouts.crypto)
        _expect(len(answer.sig) in SIGNATURE_SIZES, "sig", answer.sig)
        return PROOF_DOMAIN + challenge + sha256(leaf).digest(), answer.sig

    async def lock(self, locks: Locks) -> None:
        """See ``Driver.lock``."""
        answer = await self._ask(group.LockWrite(locks=locks, sequence=self._next()), self._timeouts.answer)
        _known(answer.locks)

    async def lock_state(self) -> Locks:
        """See ``Driver.lock_state``."""
        answer = await self._ask(group.LockRead(sequence=self._next()), self._timeouts.answer)
        return _known(answer.locks)

    async def echo(self, text: str) -> str:
        """Let the board repeat a text: is anybody there?"""
        return (await self._ask(EchoWrite(d=text, sequence=self._next()), self._timeouts.answer)).r

    async def parameters(self) -> tuple[int, int]:
        """Return the size in bytes and the number of the board's SMP buffers."""
        answer = await self._ask(MCUMgrParametersRead(sequence=self._next()), self._timeouts.answer)
        return answer.buf_size, answer.buf_count

    async def reboot(self) -> None:
        """Let the board reboot by command; it answers before it does."""
        await self._ask(ResetWrite(sequence=self._next()), self._timeouts.answer)

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence

    async def _ask(self, request: SMPRequest[TRep, TEr1, TEr2], deadlines: Sequence[float]) -> TRep:
        return parse(request, await self.transport.exchange(request.BYTES, deadlines))


_BAD_OFFSET: Final = "device.bad_offset"


def _expect(good: object, field: str, value: object) -> None:
    if not good:
        raise malformed(field, value)


def _known(locks: Locks) -> Locks:
    """Check that we know every lock: a flag enum lets any number through."""
    _expect(int(locks) in range(int(Locks.DEBUG | Locks.CREDENTIALS) + 1), "locks", int(locks))
    return locks


def _piece(offset: int, data: bytes, wanted: int, end: int) -> bytes:
    """Check a piece of a transfer: where we asked for it, at least a byte, not beyond ``end``."""
    _expect(offset == wanted, "off", offset)
    _expect(0 < len(data) <= end - offset, "data", data[:16])
    return data


def _stuck(what: str) -> DeviceError:
    return DeviceError(f"the transfer of the {what} went back more than {RESTARTS} times", code="device.stuck")


def _differs(what: str, expected: object, got: object) -> DeviceError:
    return DeviceError(
        f"the board does not hold the chain that belongs to it: {what} differs",
        code="device.chain_differs",
        operator="The board did not keep its certificate. Put it in again; if it fails twice, into the red bin.",
        expected=expected,
        got=got,
    )
