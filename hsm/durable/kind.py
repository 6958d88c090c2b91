"""What one kind of file has of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlite_utils import Database

Refusal: TypeAlias = Callable[..., Exception]
"""Makes an error, as the house's errors are made: a message, ``code`` if it is not the class's own, and facts."""


@dataclass(frozen=True, slots=True)
class ErrorKinds:
    """The errors of one kind of file; each is a class of the floor that the file belongs to."""

    error: Refusal
    """Anything that has no class of its own."""
    locked: Refusal
    newer: Refusal
    foreign: Refusal
    unwritable: Refusal
    clock_went_back: Refusal
    clock_jumped: Refusal
    refused: Refusal
    """A rule of the schema refuses a row."""
    by_code: Mapping[str, Refusal] = field(default_factory=dict)
    """Classes for what triggers say (``code: sentence``), by the code."""
    by_constraint: Mapping[str, Refusal] = field(default_factory=dict)
    """Classes for other constraints, by what stands after ``constraint failed:`` in SQLite's message."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of file."""

    name: str
    """What people call it; the first part of its errors' codes too."""
    program: str
    """What people call the program that writes it: "stop that station first"."""
    application_id: int
    """In the header of the file (``PRAGMA application_id``), so that it can be told from other SQLite files."""
    schema: int
    """The newest schema that this version knows; ``PRAGMA user_version`` says which one a file has."""
    version_table: str
    """Which versions of the program wrote here: a table (id, version, schema, since) that never changes its form."""
    last_entry: str
    """SQL for the time of the newest entry: a row with one column, empty in a file without entries."""
    migrate: Callable[[Database], None]
    """Applies what is missing; inside a transaction."""
    errors: ErrorKinds
