"""What a ceremony did, so that nobody can change it afterwards without being seen.

A transcript is JSON lines (ASCII). Each line is one object with these members first, and last:

=============  ======================================================================================================
``n``          number of the line, from 1
``time``       when it was written (UTC)
``event``      what happened; the members after it are the facts
``previous``   SHA-256 of the line before it, without its line feed, in hex; 64 zeros in the first line
=============  ======================================================================================================

The first line is ``begin``, the last one ``seal``. A seal has one more member, ``signature`` (base64): that of a key
of the ceremony over ``SEAL_PREFIX`` and then the seal's line as it would stand without this member. The prefix makes
the signed bytes no DER, so that they can't be taken for a certificate. The scheme is that of the key's kind
(``hsm.algorithms``). Each line is written through to the disk before what it announces is done.
"""

import base64
import binascii
import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidSignature

from hsm.algorithms import SCHEMES, PublicKey, family_of, verify
from hsm.errors import CeremonyError
from hsm.files import sync
from hsm.keys import AnyTokenKey

FORMAT: Final = 1
"""Version of the format, in the first line."""

SEAL_PREFIX: Final = b"ceremony transcript, format 1\n"
UNFINISHED: Final = ".unfinished"
"""Ends the name of a transcript until it is sealed."""

MAX_TRANSCRIPT: Final = 64 * 1024 * 1024
_FIRST: Final = "0" * 64


def unfinished(path: Path) -> Path:
    """Return where the transcript of a path is until it is sealed."""
    return path.with_name(path.name + UNFINISHED)


def stamp(moment: dt.datetime) -> str:
    """Write a time as a transcript does."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Transcript:
    """A transcript that is being written, at ``<path>.unfinished`` until it ends."""

    def __init__(
        self, path: Path, clock: Callable[[], dt.datetime], file: BinaryIO, *, previous: str = _FIRST, lines: int = 0
    ) -> None:
        """Use ``begin`` or ``resume``; ``close`` it."""
        self.path = path
        self._clock = clock
        self._file = file
        self._previous = previous
        self._lines = lines

    @classmethod
    def begin(cls, path: Path, clock: Callable[[], dt.datetime], **facts: object) -> "Transcript":
        """Start a transcript.

        Raises:
            OSError: it is there already, or the folder can't be written.
        """
        descriptor = os.open(unfinished(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        made = cls(path, clock, os.fdopen(descriptor, "ab"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync(path.parent)
            made.add("begin", format=FORMAT, **facts)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def resume(cls, path: Path, clock: Callable[[], dt.datetime]) -> tuple["Transcript", list[dict[str, Any]]]:
        """Open the transcript of a run that was killed; a last line that was cut off is dropped.

        Returns:
            The transcript, and what it says so far.

        Raises:
            CeremonyError: there is none, or it was changed.
        """
        place = unfinished(path)
        raw = _read(place)
        whole = raw[: raw.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        entries = _entries(place, lines)
        file = place.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise CeremonyError(f"the ceremony that writes {place} still runs", code="ceremony.running") from error
        file.truncate(len(whole))
        previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _FIRST
        return cls(path, clock, file, previous=previous, lines=len(lines)), entries

    @property
    def unfinished(self) -> Path:
        """Where it is written."""
        return unfinished(self.path)

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._file.close()

    def add(self, event: str, **facts: object) -> None:
        """Write one line, through to the disk.

        Raises:
            OSError: it can't be written.
        """
        self._write(self._entry(event, facts))

    def seal(self, key: AnyTokenKey, **facts: object) -> None:
        """Write the last line, signed by ``key``, and give the file its name.

        Raises:
            HsmError: the token refuses.
            OSError: it can't be written.
        """
        entry = self._entry("seal", facts)
        signature = key.sign_message_blocking(SEAL_PREFIX + _line(entry))
        sealed = {**entry, "signature": base64.b64encode(signature).decode()}
        if not _is_signed(sealed, key.public_key()):
            raise CeremonyError("the token signed the transcript wrongly", code="ceremony.signature_invalid")
        self._write(sealed)
        self._rename(self.path)

    def withdraw(self) -> Path:
        """Give the transcript of an undone ceremony a name of its own; return it."""
        target = self.path.with_name(f"{self.path.name}.undone-{self._clock():%Y%m%dT%H%M%S}-{self._previous[:8]}")
        self._rename(target)
        return target

    def _rename(self, target: Path) -> None:
        self.unfinished.rename(target)
        sync(target.parent)
        self.close()

    def _entry(self, event: str, facts: dict[str, Any]) -> dict[str, Any]:
        head = {"n": self._lines + 1, "time": stamp(self._clock()), "event": event}
        return {**head, **facts, "previous": self._previous}

    def _write(self, entry: dict[str, Any]) -> None:
        line = _line(entry)
        self._file.write(line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._previous = hashlib.sha256(line).hexdigest()
        self._lines += 1


@dataclass(frozen=True, slots=True)
class VerifiedTranscript:
    """A transcript whose chain and seal hold."""

    entries: tuple[dict[str, Any], ...]

    @property
    def begin(self) -> dict[str, Any]:
        """The first line: whose ceremony, which file, who was there."""
        return self.entries[0]

    @property
    def rehearsal(self) -> bool:
        """It was one on SoftHSM."""
        return bool(self.begin.get("rehearsal"))


def verify_transcript(path: Path, public: PublicKey) -> VerifiedTranscript:
    """Check a transcript; no token is needed.

    Args:
        path: the file.
        public: the key that sealed it, from its certificate.

    Raises:
        CeremonyError: ``transcript.*``; the message names the first bad line.
    """
    lines = _read(path).split(b"\n")
    if lines.pop() != b"":
        raise _bad(path, len(lines) + 1, "the line is cut off")
    entries = _entries(path, lines)
    last = len(lines)
    if not entries or entries[-1]["event"] != "seal":
        ended = f"it ends with '{entries[-1]['event']}'" if entries else "it is empty"
        raise _bad(path, last, f"the transcript has no seal: {ended}", code="transcript.no_seal")
    if not _is_signed(entries[-1], public):
        raise _bad(
            path,
            last,
            "the seal is not the signature of this certificate's key: the transcript was changed, or take the "
            f"certificate that the seal names ({entries[-1].get('verify_with')})",
            code="transcript.signature",
        )
    return VerifiedTranscript(tuple(entries))


def _is_signed(seal: dict[str, Any], public: PublicKey) -> bool:
    unsigned = {name: value for name, value in seal.items() if name != "signature"}
    family = family_of(public)
    if family is None:
        return False
    try:
        signature = base64.b64decode(str(seal.get("signature")), validate=True)
        verify(public, signature, SEAL_PREFIX + _line(unsigned), SCHEMES[family].hash)
    except (InvalidSignature, binascii.Error):
        return False
    return True


def _entries(path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """Parse lines and check that each one continues the one before."""
    found: list[dict[str, Any]] = []
    previous = _FIRST
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        # written in one way only: no member twice, no blank more
        if not isinstance(entry, dict) or "event" not in entry or _line(entry) != line:
            raise _bad(path, number, "the line is not one of a transcript")
        if entry.get("previous") != previous or entry.get("n") != number:
            before = f"line {number - 1} was changed, or " if number > 1 else ""
            bad = max(1, number - 1) if entry.get("n") == number else number
            raise _bad(path, bad, f"{before}lines are missing or were put in before line {number}")
        if (number == 1) is not (entry["event"] == "begin"):
            raise _bad(path, number, "'begin' stands in the first line, and only there")
        if entry["event"] == "seal" and number != len(lines):
            raise _bad(path, number + 1, "there are lines after the seal")
        found.append(entry)
        previous = hashlib.sha256(line).hexdigest()
    return found


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRANSCRIPT + 1)
    except OSError as error:
        raise CeremonyError(f"{path} can't be read: {error.strerror}", code="transcript.missing") from error
    if len(raw) > MAX_TRANSCRIPT:
        raise CeremonyError(f"{path} is larger than {MAX_TRANSCRIPT} bytes", code="transcript.size")
    return raw


def _bad(path: Path, line: int, what: str, *, code: str = "transcript.chain") -> CeremonyError:
    return CeremonyError(f"{path}:{line}: {what}", code=code, path=path, line=line)
