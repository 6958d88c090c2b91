"""From the manifest to a parcel that a recipient has, and back into the manifest that it has it.

1. Units are read and written one by one; who they are is noted in a file without a name beside them.
2. The files are complete: the export is begun in the manifest, with the count and the digest of its units.
3. Its units follow, in pieces between which a line at work gets its turn.
4. The statement (``export.json``) names all files with their digests; the export key signs it (``export.jws``).
5. The folder gets its name, and the export counts as handed out.

A crash before 5 leaves no folder and an export that counts for nothing; a crash in the middle of 5 leaves a folder
whose export counts for nothing: hand the units out again, and throw the older folder away. A unit is never counted as
handed out without its files being there. A full disk is a failed step, and nothing more.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final, Protocol

from hsm.durable import time_text
from station.exports.naming import Naming
from station.exports.parcel import FileFacts, Parcel, packed
from station.exports.signature import Seal, detached, is_signed
from station.exports.target import ExportError
from station.manifest import PassedUnit
from station.manifest.book import Book
from station.manifest.handing import PIECE

STATEMENT: Final = "export.json"
SIGNATURE: Final = "export.jws"

_BLOCK: Final = 1 << 20


class ExportTarget(Protocol):
    """Writes units in a form that somebody reads."""

    @property
    def name(self) -> str:
        """What the manifest calls it: lower case letters, digits and ``-``."""

    @property
    def naming(self) -> Naming:
        """What it calls a unit."""

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files.

        Raises:
            ExportError: a unit does not fit (``export.unit_unfit``).
        """


@dataclass(frozen=True, slots=True)
class Handed:
    """What became of an export."""

    path: Path | None
    """None: there was nothing to hand out, and no folder was made."""
    units: int
    export_id: int | None
    """None: it is not on record."""
    signed: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What an export is about, beside its units."""

    recipient: str = ""
    """Who gets it; empty only where it is not recorded."""
    station: int | None = None
    """The station that makes it."""
    order: str | None = None
    """Only units of this order; None: all."""


def hand_over(  # noqa: PLR0913  # the parts that an export is put together of
    target: ExportTarget,
    units: Iterable[PassedUnit],
    path: Path,
    terms: Terms,
    *,
    book: Book | None = None,
    seal: Seal | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Handed:
    """Write a parcel, and record it.

    Args:
        target: what is written.
        units: in the order of the files.
        path: of the folder; must not be there.
        terms: what it is about.
        book: where it is recorded; None: nowhere.
        seal: signs the statement; None: nobody does.
        now: the wall clock.

    Raises:
        ExportError: a unit does not fit, or the folder can't be written; nothing is there then, and nothing counts.
        ManifestError: it can't be recorded; likewise.
    """
    rest = iter(units)
    first = next(rest, None)
    if first is None:
        return Handed(None, 0, None, signed=False)
    export_id = None
    with packed(path) as parcel, tempfile.TemporaryFile(buffering=_BLOCK, dir=path.absolute().parent) as noted:
        log = _Log(noted)
        target.write(parcel, log.noting(first, rest))
        if book is not None:
            export_id = log.record(book, target, terms.recipient)
        statement = _statement(target, terms, log, parcel.files, export_id, now())
        parcel.put(STATEMENT, statement)
        if seal is not None:
            parcel.put(SIGNATURE, detached(seal, statement.encode()))
    if book is not None and export_id is not None:
        book.hand_out(export_id=export_id, statement=statement)
    return Handed(path, log.count, export_id, signed=seal is not None)


class _Log:
    """Which units went into an export, on disk: memory stays flat."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.count = 0

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    def noting(self, first: PassedUnit, rest: Iterator[PassedUnit]) -> Iterator[PassedUnit]:
        """Iterate over the units, and note each."""
        unit: PassedUnit | None = first
        write, update, count = self._file.write, self._digest.update, 0
        while unit is not None:
            line = b"%d %d\n" % (unit.unit_id, unit.issuance_id or 0)
            write(line)
            update(line)
            count += 1
            yield unit
            unit = next(rest, None)
        self.count = count

    def record(self, book: Book, target: ExportTarget, recipient: str) -> int:
        """Begin the export and add its units."""
        export_id = book.begin(
            target=target.name, recipient=recipient, naming=str(target.naming), units=self.count, digest=self.digest
        )
        self._file.seek(0)
        number = 1
        while lines := list(islice(self._file, PIECE)):
            members = [(int(unit), int(issuance)) for unit, issuance in (line.split() for line in lines)]
            book.add(export_id=export_id, first=number, members=members)
            number += len(members)
        return export_id


def _statement(  # noqa: PLR0913, PLR0917  # what a statement holds
    target: ExportTarget, terms: Terms, log: _Log, files: list[FileFacts], export_id: int | None, at: datetime
) -> str:
    content = {
        "target": target.name,
        "recipient": terms.recipient or None,
        "export": export_id,
        "station": terms.station,
        "order": terms.order,
        "naming": str(target.naming),
        "made_at": time_text(at),
        "units": log.count,
        "units_sha256": log.digest.hex(),
        "files": [asdict(file) for file in files],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def check_parcel(path: Path, key: object) -> dict[str, object]:
    """Check a parcel as its recipient would: the signature of the statement, and each file against it.

    Args:
        path: the folder.
        key: public half of the export key, on P-256.

    Returns:
        The statement.

    Raises:
        ExportError: says what is wrong.
    """
    try:
        payload = (path / STATEMENT).read_bytes()
        jws = (path / SIGNATURE).read_text("ascii")
        if not is_signed(jws, payload, key):  # type: ignore[arg-type]  # what read_export_key returned
            raise ExportError(f"{path}: {SIGNATURE} is not this key's over {STATEMENT}", code="export.signature")
        content = json.loads(payload)
        for file in content["files"]:
            _check_file(path / Path(file["name"]).name, file["size"], file["sha256"])
        named = {STATEMENT, SIGNATURE, *(file["name"] for file in content["files"])}
        if more := sorted(found.name for found in path.iterdir() if found.name not in named):
            raise ExportError(f"{path}: {more[0]} is not in the statement", code="export.changed")
    except OSError as error:
        raise ExportError(
            f"{error.filename or path}: can't be read ({error.strerror}); is the parcel whole?"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path}: {STATEMENT} or {SIGNATURE} is not what an export writes", code="export.changed"
        ) from error
    return dict(content)


def _check_file(path: Path, size: int, sha256: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, digest) != (size, sha256):
        raise ExportError(
            f"{path}: is not the file that was signed", code="export.changed", expected=sha256, got=digest
        )
