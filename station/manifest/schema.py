"""The schema of the manifest: its SQL, its version, and how an older file is brought up to it.

``schema_1.sql`` is the schema; a later one is a further migration here, ``schema_2.sql`` beside it, and ``SCHEMA`` + 1.
Migrations are recorded by sqlite-utils in the table ``_sqlite_migrations``.
"""

from importlib.resources import files
from typing import Final

from sqlite_utils import Database, Migrations

APPLICATION_ID: Final = int.from_bytes(b"PSTM", "big")
"""In the header of the file (``PRAGMA application_id``), so that a manifest can be told from other SQLite files."""

SCHEMA: Final = 1
"""The newest schema this version knows; ``PRAGMA user_version`` of the file says which one it has."""

migrations: Final = Migrations("station.manifest")


@migrations()
def schema_1(db: Database) -> None:
    """Orders, units, public keys, issuances, proofs, events, and the rules between them."""
    db.executescript(files(__package__).joinpath("schema_1.sql").read_text("utf-8"))


def bring_up_to_date(db: Database, version: str, now: str) -> None:
    """Apply what is missing and note which version of the station did so, in one transaction.

    Args:
        db: an open manifest, or an empty database; outside a transaction.
        version: of the station that runs.
        now: UTC, as the manifest stores times.
    """
    with db.atomic():
        migrations.apply(db)
        last = db.execute("SELECT version, schema FROM station_version ORDER BY id DESC LIMIT 1").fetchone()
        if last != (version, SCHEMA):
            db.execute("INSERT INTO station_version (version, schema, since) VALUES (?, ?, ?)", (version, SCHEMA, now))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")
