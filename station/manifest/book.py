"""Who writes down what was handed out and what came back: the process that has the manifest, or one that asks it.

``OwnBook`` is for a command that has the manifest to itself; ``station.line.asked_book`` asks the station that runs.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from station.manifest import handing
from station.manifest.handing import ListRow, Verdict
from station.manifest.manifest import Manifest


class Book(Protocol):
    """The operations of ``handing``; each is durable when it returns."""

    def begin(self, *, target: str, recipient: str, naming: str, units: int, digest: bytes) -> int:
        """Begin an export; return its number."""

    def add(self, *, export_id: int, first: int, members: Sequence[tuple[int, int]]) -> None:
        """Add units, ``handing.PIECE`` at most."""

    def hand_out(self, *, export_id: int, statement: str) -> None:
        """Say that the files are there."""

    def receive(self, *, export_id: int, verdicts: Sequence[Verdict], source: bytes) -> int:
        """Store what a recipient said; return how much of it is new."""

    def add_list(self, *, name: str, rows: Sequence[ListRow], source: bytes) -> int:
        """Store a list whole; return its number."""


class OwnBook:
    """A manifest that this process writes to; a ``Book``."""

    def __init__(self, manifest: Manifest) -> None:
        """Write into an open manifest; the caller closes it."""
        self._perform = manifest.perform_blocking

    def begin(self, *, target: str, recipient: str, naming: str, units: int, digest: bytes) -> int:
        """See ``Book.begin``."""
        return self._perform(
            partial(handing.begin, target=target, recipient=recipient, naming=naming, units=units, digest=digest)
        )

    def add(self, *, export_id: int, first: int, members: Sequence[tuple[int, int]]) -> None:
        """See ``Book.add``."""
        self._perform(partial(handing.add, export_id=export_id, first=first, members=members))

    def hand_out(self, *, export_id: int, statement: str) -> None:
        """See ``Book.hand_out``."""
        self._perform(partial(handing.hand_out, export_id=export_id, statement=statement))

    def receive(self, *, export_id: int, verdicts: Sequence[Verdict], source: bytes) -> int:
        """See ``Book.receive``."""
        return self._perform(partial(handing.receive, export_id=export_id, verdicts=verdicts, source=source))

    def add_list(self, *, name: str, rows: Sequence[ListRow], source: bytes) -> int:
        """See ``Book.add_list``."""
        return self._perform(partial(handing.add_list, name=name, rows=rows, source=source))
