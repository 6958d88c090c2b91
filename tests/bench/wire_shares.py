"""What the bytes of one unit on the wire are, read from the station's own transcript of it."""

import codecs
from pathlib import Path
from typing import Any, Final

import cbor2
from smp import packet

from bench.figures import BenchError

HEADER: Final = 8
"""Bytes of an SMP header."""

LENGTH_AND_CRC: Final = 4
"""Bytes around a message in its frame."""

DELIMITERS: Final = 3
"""Bytes around the Base64 of a line: two before, a newline after."""


def shares_of(transcript: Path) -> dict[str, int]:
    """Return bytes by what they are for; they add up to all bytes on the wire, both directions.

    Args:
        transcript: of one unit, on a wire without noise.
    """
    wire = {">": b"", "<": b""}
    for line in transcript.read_text().splitlines():
        if line.startswith("#"):
            continue
        _, direction, text = line.split(" ", 2)
        wire[direction] += codecs.decode(text[1:-1], "unicode_escape").encode("latin-1")
    shares = dict.fromkeys(
        ("payload", "CBOR maps and keys", "SMP headers", "length and CRC", "delimiters", "Base64"), 0
    )
    for stream in wire.values():
        _count(stream, shares)
    if sum(shares.values()) != sum(map(len, wire.values())):
        raise BenchError(f"{transcript.name}: there is more on the wire than frames")
    return shares


def _count(stream: bytes, shares: dict[str, int]) -> None:
    decoder = packet.decode()
    next(decoder)
    encoded = 0
    for line in stream.splitlines(keepends=True):
        shares["delimiters"] += DELIMITERS
        encoded += len(line) - DELIMITERS
        try:
            decoder.send(line)
        except StopIteration as end:
            message: bytes = end.value
        else:
            continue
        payload = sum(map(_payload, cbor2.loads(message[HEADER:]).values()))
        shares["payload"] += payload
        shares["CBOR maps and keys"] += len(message) - HEADER - payload
        shares["SMP headers"] += HEADER
        shares["length and CRC"] += LENGTH_AND_CRC
        shares["Base64"] += encoded - len(message) - LENGTH_AND_CRC
        decoder = packet.decode()
        next(decoder)
        encoded = 0


def _payload(value: Any) -> int:
    """Return the bytes of a value that say something: a number's own, a text's without its length."""
    return len(value) if isinstance(value, bytes | str) else len(cbor2.dumps(value))
