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

SCHEMA: Final = 7
"""The newest schema this version knows; ``PRAGMA user_version`` of the file says which one it has."""

migrations: Final = Migrations("station.manifest")


@migrations()
def schema_1(db: Database) -> None:
    """Orders, units, public keys, issuances, proofs, events, and the rules between them."""
    db.executescript(files(__package__).joinpath("schema_1.sql").read_text("utf-8"))


@migrations()
def schema_2(db: Database) -> None:
    """Signed orders: the JWS of an order, its window and share, MAC addresses, and the manifest's own identity."""
    db.executescript(files(__package__).joinpath("schema_2.sql").read_text("utf-8"))


@migrations()
def schema_3(db: Database) -> None:
    """The ledger: tiles of the Merkle tree over the events, its signed heads, and what the journal did not tell yet."""
    db.executescript(files(__package__).joinpath("schema_3.sql").read_text("utf-8"))


@migrations()
def schema_4(db: Database) -> None:
    """Life after the pass: scrap, rework, RMA, replace, each an act with its reason and its actor."""
    db.executescript(files(__package__).joinpath("schema_4.sql").read_text("utf-8"))


@migrations()
def schema_5(db: Database) -> None:
    """Exports, what their recipients made of them, and imported lists."""
    db.executescript(files(__package__).joinpath("schema_5.sql").read_text("utf-8"))


@migrations()
def schema_6(db: Database) -> None:
    """Burned numbers, orders that wait for a decision, refusals of the desk, hardware ids in another case."""
    db.executescript(files(__package__).joinpath("schema_6.sql").read_text("utf-8"))


@migrations()
def schema_7(db: Database) -> None:
    """Which firmware the line worked by."""
    db.executescript(files(__package__).joinpath("schema_7.sql").read_text("utf-8"))


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
