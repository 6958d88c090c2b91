"""The journal's schema: migration sets of several concerns in one file.

A set is its files ``<set>_1.sql``, ``<set>_2.sql``, … in this folder, applied in that order; sqlite-utils records them
in the table ``_sqlite_migrations``. ``PRAGMA user_version`` is how many migrations of all sets a file has.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import count
from typing import Final

from sqlite_utils import Database, Migrations

from hsm.durable import FileKind
from hsm.journal.errors import ERRORS

SETS: Final = ("issuance", "revocation", "audit", "order")
"""The concerns that keep rows here, in the order in which they may refer to each other's tables."""

TIMED: Final = (
    "signature",
    "certificate",
    "revocation",
    "crl",
    "signed_crl",
    "adopted_crl",
    "accepted_difference",
    "closed_tries",
)
"""Tables whose newest row may be the newest entry, and whose rows are written in the order of their ids."""

_FOLDER: Final = files(__package__)


def _files(name: str) -> list[Traversable]:
    found: list[Traversable] = []
    for number in count(1):
        file = _FOLDER / f"{name}_{number}.sql"
        if not file.is_file():
            return found
        found.append(file)
    raise AssertionError  # count() does not end


def _migrations(name: str) -> Migrations:
    made = Migrations(f"hsm.journal.{name}")
    for file in _files(name):

        @made(name=file.name.removesuffix(".sql"))
        def apply(db: Database, file: Traversable = file) -> None:
            db.executescript(file.read_text("utf-8"))

    return made


_ALL: Final = tuple(_migrations(name) for name in SETS)


def _migrate(db: Database) -> None:
    for migrations in _ALL:
        migrations.apply(db)


def _last_entry() -> str:
    newest = [f"(SELECT at FROM {table} ORDER BY rowid DESC LIMIT 1)" for table in TIMED]  # noqa: S608 - our own tables
    newest.append("(SELECT max(at) FROM void)")  # its id is the issuance's: an old one may be given up last
    newest.append("(SELECT max(at) FROM signature_tally)")  # its rows are one a day, and change
    filled = ", ".join(f"coalesce({one}, '')" for one in newest)
    return f"SELECT nullif(max({filled}), '')"


JOURNAL: Final = FileKind(
    name="journal",
    program="program",
    application_id=int.from_bytes(b"PSCJ", "big"),
    schema=sum(len(_files(name)) for name in SETS),
    version_table="program_version",
    last_entry=_last_entry(),
    migrate=_migrate,
    errors=ERRORS,
)
"""What a journal has of its own among files that are written like this."""
