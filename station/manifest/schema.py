"""The schema of the manifest: its SQL, its version, and how an older file is brought up to it.

``schema_1.sql`` is the schema; a later one is a further migration here, ``schema_2.sql`` beside it, and ``SCHEMA`` + 1.
Migrations are recorded by sqlite-utils in the table ``_sqlite_migrations``. How such a file is opened, locked and
written is the same for the CA's journal, and stands in ``hsm.durable``.
"""

from importlib.resources import files
from typing import Final

from sqlite_utils import Database, Migrations

from hsm.durable import FileKind
from station.manifest.errors import ERRORS

SCHEMA: Final = 1
"""The newest schema this version knows; ``PRAGMA user_version`` of the file says which one it has."""

migrations: Final = Migrations("station.manifest")


@migrations()
def schema_1(db: Database) -> None:
    """Orders, units, public keys, issuances, proofs, events, and the rules between them."""
    db.executescript(files(__package__).joinpath("schema_1.sql").read_text("utf-8"))


def _migrate(db: Database) -> None:
    migrations.apply(db)


MANIFEST: Final = FileKind(
    name="manifest",
    program="station",
    application_id=int.from_bytes(b"PSTM", "big"),
    schema=SCHEMA,
    version_table="station_version",
    last_entry="SELECT at FROM event ORDER BY id DESC LIMIT 1",
    migrate=_migrate,
    errors=ERRORS,
)
"""What a manifest has of its own among files that are written like this."""
