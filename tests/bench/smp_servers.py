"""An SMP server on a pseudo-terminal, written from the specification alone, whose manners are data.

Nothing of ``smp``, ``smpclient`` or the reference device is used: framing, CRC and CBOR's maps are its own business, so
that what agrees with it agrees with the specification. It runs in a thread. What it is like stands in ``smp_manners``.
"""

import base64
import binascii
import os
import select
import struct
import threading
import time
import tty
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Self

import cbor2

from bench.smp_manners import Manners

OS, IMAGE = 0, 1
ECHO, RESET, PARAMETERS, BOOTLOADER = 0, 5, 6, 8
STATE, UPLOAD = 0, 1
ENOTSUP, EINVAL = 8, 3
TOO_LARGE = 30
"""``IMG_MGMT_ERR_INVALID_IMAGE_TOO_LARGE``."""

HEADER: Final = struct.Struct("!BBHHBB")
OLD_HASH: Final = bytes(range(32))


@dataclass
class Slot:
    """An image in the server's flash."""

    content: bytes = b""
    digest: bytes = b""
    version: str = ""
    confirmed: bool = False
    pending: bool = False


@dataclass
class _Upload:
    image: int = 0
    total: int = 0
    digest: bytes = b""
    received: bytearray = field(default_factory=bytearray)


class SmpServer:
    """One server; a context manager. Its port is ``path``."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        old = Slot() if manners.is_loader else Slot(b"old", OLD_HASH, "1.0.0", confirmed=True)
        self.banks = [[replace(old), Slot()] for _ in range(manners.images)]
        """Two slots for each image; the first one runs."""
        self.resets = 0
        self.pieces = 0
        self.first_pieces = 0
        self.uploads = 0
        self.most_waiting = 0
        self.sizes: list[int] = []
        """Bytes of each request for a piece that was taken, its length and CRC included."""
        self._in_loader = manners.is_loader
        self._upload: _Upload | None = None
        self._frame: bytearray | None = None
        self._line = b""
        self._bytes = bytearray()
        self._queue: deque[bytes] = deque()
        self._answers: list[tuple[float, bytes]] = []
        self._held: bytes | None = None
        self._busy_until = 0.0
        self._deaf_until = 0.0
        self._starts_at: float | None = None
        """When the loader starts the image, if nobody asks it anything before."""
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def slots(self) -> list[Slot]:
        """Those of image 0."""
        return self.banks[0]

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End, and take the port away. May be called twice."""
        if not self._thread.is_alive():
            return
        os.close(self._stopped)
        self._thread.join(10)
        for descriptor in (self._master, self._slave, self._stop):
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # The wire.

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            times = [at for at, _ in self._answers] + ([self._busy_until] if self._queue else [])
            wait = None if not times else max(0.0, min(times) - now)
            ready, _, _ = select.select([self._master, self._stop], [], [], wait)
            if self._stop in ready:
                return
            if self._master in ready:
                data = b""
                with suppress(OSError):
                    data = os.read(self._master, 65536)
                if time.monotonic() >= self._deaf_until:
                    for message in self._messages(data):
                        self._arrived(message)
            self._work()
            due = [answer for at, answer in self._answers if at <= time.monotonic()]
            self._answers = [(at, answer) for at, answer in self._answers if at > time.monotonic()]
            for answer in due:
                self._send(answer)

    def _messages(self, data: bytes) -> list[bytes]:
        found = []
        if self.manners.raw:
            self._bytes += data
            while len(self._bytes) >= 8 and len(self._bytes) >= (end := 8 + int.from_bytes(self._bytes[2:4])):
                found.append(bytes(self._bytes[:end]))
                del self._bytes[:end]
            return found
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.startswith(b"\x06\x09"):
                self._frame = bytearray()
            elif not line.startswith(b"\x04\x14") or self._frame is None:
                self._frame = None
                continue
            assert len(line) < 128, "a line is too long for Zephyr"
            self._frame += base64.b64decode(line[2:], validate=True)
            length = int.from_bytes(self._frame[:2])
            if len(self._frame) < 2 + length:
                continue
            message, crc = bytes(self._frame[2:-2]), int.from_bytes(self._frame[-2:])
            if binascii.crc_hqx(message, 0) == crc and len(self._frame) <= self.manners.buffer:
                found.append(message)
            self._frame = None
        return found

    def _send(self, message: bytes) -> None:
        if self.manners.raw:
            os.write(self._master, message)
            return
        body = base64.b64encode((len(message) + 2).to_bytes(2) + message + binascii.crc_hqx(message, 0).to_bytes(2))
        wire = b"[00:00:01.000,000] <inf> mcumgr: busy\r\n" if self.manners.chats else b""
        for at in range(0, len(body), 124):
            wire += (b"\x04\x14" if at else b"\x06\x09") + body[at : at + 124] + b"\n"
        os.write(self._master, wire)

    def _arrived(self, message: bytes) -> None:
        if self._starts_at is not None:
            self._in_loader = time.monotonic() < self._starts_at
            self._starts_at = None
        at_work = time.monotonic() < self._busy_until
        if len(self._queue) + at_work >= self.manners.keeps:
            return
        self._queue.append(message)
        self.most_waiting = max(self.most_waiting, len(self._queue) + at_work)

    def _work(self) -> None:
        while self._queue and time.monotonic() >= self._busy_until:
            later_first = self.manners.swaps and len(self._queue) > 1
            message = self._queue.pop() if later_first else self._queue.popleft()
            seconds, answer = self._handle(message)
            self._busy_until = time.monotonic() + seconds
            if answer is None:
                continue
            if self.manners.lags:
                self._held, answer = answer, self._held
            for _ in range(2 if self.manners.doubles else 1):
                if answer is not None:
                    self._answers.append((self._busy_until, answer))

    # Requests.

    def _handle(self, message: bytes) -> tuple[float, bytes | None]:
        first, _, _, group, sequence, command = HEADER.unpack_from(message)
        body = cbor2.loads(message[8:])
        seconds, answer = self._answer(first & 7, group, command, body, len(message))
        if answer is None:
            return seconds, None
        if self.manners.version == 1:
            answer = {"rc": 0, **answer}
        if self.manners.says_more:
            answer = {**answer, "zzz": {"deep": [1, 2, {"er": b"bytes"}]}}
        encoded = cbor2.dumps(answer)
        version = 0 if self.manners.version == 1 else 8
        return seconds, HEADER.pack((first & 7) + 1 | version, 0, len(encoded), group, sequence, command) + encoded

    def _answer(  # noqa: PLR0911 - one for each command
        self, op: int, group: int, command: int, body: dict[str, Any], size: int
    ) -> tuple[float, dict[str, Any] | None]:
        manners = self.manners
        if (group, command) == (OS, ECHO):
            return 0, {"r": body["d"]}
        if (group, command) == (OS, RESET):
            self.resets += 1
            if self.resets <= manners.misses_resets:
                return 0, None
            self._reset()
            return 0, {}
        if (group, command) == (OS, PARAMETERS) and manners.tells_buffer:
            return 0, {"buf_size": manners.buffer, "buf_count": manners.told_buffers}
        if (group, command) == (OS, BOOTLOADER) and manners.bootloader and body.get("query") == "version":
            return 0, {"bootloader": "MCUboot", "response": manners.bootloader}
        if (group, command, op) == (IMAGE, STATE, 0):
            return 0, self._state()
        if (group, command, op) == (IMAGE, STATE, 2) and not self._in_loader:
            return manners.work, self._mark(body)
        if (group, command, op) == (IMAGE, UPLOAD, 2):
            return self._piece(body, size)
        return 0, None if manners.passes_over else {"rc": ENOTSUP}

    def _state(self) -> dict[str, Any]:
        return {
            "images": [
                self._entry(image, number, slot)
                for image, bank in enumerate(self.banks)
                for number, slot in enumerate(bank)
                if slot.content
            ]
        }

    def _entry(self, image: int, number: int, slot: Slot) -> dict[str, Any]:
        entry: dict[str, Any] = {"slot": number, "version": slot.version}
        entry |= {"image": image} if len(self.banks) > 1 else {}
        entry |= {"hash": slot.digest} if self.manners.has_hashes else {}
        if not self._in_loader or self.manners.has_flags:
            entry |= {"bootable": True, "active": number == 0}
            entry |= {"confirmed": True} if slot.confirmed else {}
            entry |= {"pending": True} if slot.pending and self.manners.tells_pending else {}
        return entry

    def _mark(self, body: dict[str, Any]) -> dict[str, Any]:
        for bank in self.banks:
            for number, slot in enumerate(bank):
                if slot.content and body.get("hash", self.slots[0].digest) == slot.digest:
                    slot.confirmed = slot.confirmed or (number == 0 and body["confirm"])
                    slot.pending = number == 1
                    return self._state()
        return self._error(IMAGE, 8, EINVAL)

    def _error(self, group: int, code: int, version_1: int) -> dict[str, Any]:
        return {"rc": version_1} if self.manners.version == 1 else {"err": {"group": group, "rc": code}}

    def _piece(  # noqa: PLR0911 - one for each way in which a server may answer
        self, body: dict[str, Any], size: int
    ) -> tuple[float, dict[str, Any] | None]:
        manners, offset, seconds = self.manners, body["off"], self.manners.work
        self.pieces += 1
        if manners.loses and offset and self.pieces % manners.loses == 0:
            return 0, None
        if offset == 0:
            self.first_pieces += 1
            if self.first_pieces <= manners.loses_first:
                return 0, None
            if body["len"] > manners.slot:
                return seconds, self._error(IMAGE, TOO_LARGE, EINVAL)
            if len(body["data"]) < 32:
                return seconds, self._error(IMAGE, 22, EINVAL)
            going = self._upload
            if going is not None and going.digest and going.digest == body.get("sha"):
                return seconds, {"off": len(going.received)}
            self._upload = _Upload(body.get("image", 0), body["len"], body.get("sha", b""))
            seconds = max(seconds, manners.erase)
        upload = self._upload
        if upload is None:
            return seconds, self._error(IMAGE, 20, EINVAL) if manners.refuses_offsets else {"off": 0}
        if offset != len(upload.received):
            wrong = self._error(IMAGE, 20, EINVAL) if manners.refuses_offsets else {"off": len(upload.received)}
            return seconds, wrong
        upload.received += body["data"]
        self.sizes.append(size + 4)
        if manners.forgets_at is not None and len(upload.received) > manners.forgets_at:
            self.manners = replace(manners, forgets_at=None)
            self._upload = None
            return seconds, None
        answer: dict[str, Any] = {"off": len(upload.received)}
        if len(upload.received) == upload.total:
            answer |= self._finish(upload)
            self._upload = None
        return seconds, answer

    def _finish(self, upload: _Upload) -> dict[str, Any]:
        if self.manners.damages:
            return {"match": False}
        self.uploads += 1
        if self.uploads <= self.manners.forgets_images:
            return {}
        content = bytes(upload.received)
        assert not upload.digest or sha256(content).digest() == upload.digest, "other bytes came than were announced"
        _, _, header, protected, size, _, major, minor, patch, build, _ = struct.unpack_from("<IIHHIIBBHII", content)
        hashed = content[: header + protected + size]
        version = f"{major}.{minor}.{patch}" + (f".{build}" if build else "")
        slot = Slot(content, sha256(hashed).digest(), version)
        self.banks[upload.image][0 if self._in_loader else 1] = slot
        return {}

    def _reset(self) -> None:
        now = time.monotonic()
        self._deaf_until = now + self.manners.boot
        self._upload = None
        if self._in_loader:
            if self.slots[0].content and self.manners.boots:
                self._starts_at = self._deaf_until + self.manners.lingers
            return
        for bank in self.banks:
            self._boot(bank)

    def _boot(self, bank: list[Slot]) -> None:
        """Swap the slots if that is wanted."""
        first, second = bank
        if second.pending:
            second.pending = False
            old = tuple(int(number) for number in first.version.split("."))
            new = tuple(int(number) for number in second.version.split("."))
            if self.manners.boots and not (self.manners.refuses_downgrade and new < old):
                bank.reverse()
        elif not first.confirmed and second.confirmed:
            bank.reverse()
