"""Rows of the station against its events: orders, serials of the desk, versions, checkpoints, firmware, exports, lists.

These events belong to no unit. The pass over the chain hands them on in their order, so nothing is read twice.
"""

# ruff: noqa: SLF001  # the tables of steps name methods of the class above them

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from station.ledger.damage import MALFORMED, Damage, Kind, Report, differing, naming, read_facts
from station.ledger.replay_handing import HANDING_STEPS, HandingJournal
from station.ledger.store import LedgerReader

ORDER_COLUMNS: Final = (
    "name", "product", "profile", "quantity", "serial_format", "first_number", "opened_at", "uid", "jws_sha256",
    "payload_sha256", "station_id", "not_before", "not_after", "signed_at", "check_scheme", "mac_first",
    "scrap_allowance", "closed_reason", "closed_at", "suspended_reason", "suspended_at", "burned",
)  # fmt: skip
"""Columns of ``production_order`` that events tell; ``jws`` by its digest, the counts by counting."""

_RESUME: Final = ("id", "order_id", "taken", "burned", "reason", "actor", "os_user", "at")
_REFUSAL: Final = ("product_serial", "code", "reason", "at")
_DESK: Final = ("product_serial", "order_id", "spki_sha256", "mac", "at")
_VERSION: Final = ("id", "version", "schema", "since")
_FIRMWARE: Final = ("id", "product", "version", "rank", "bundle_sha256", "reason", "at")
_CHECKPOINT: Final = ("id", "tree_size", "root", "reason", "signing_tries", "changed_at")

_MIGRATIONS: Final = (
    "SELECT group_concat(name || ' ' || applied_at, '; ') FROM (SELECT name, applied_at FROM _sqlite_migrations "
    "ORDER BY rowid)"
)

Facts = dict[str, str]


@dataclass(slots=True)
class StationFacts:
    """What the events say of orders; their rows are compared when the units are counted too."""

    orders: list[dict[str, Any]] = field(default_factory=list)
    """In the order of their rows."""
    desk: dict[str, int] = field(default_factory=dict)
    """Serials that the desk took, by the order's name."""


class StationJournal:
    """The rows, as the events tell them, one event after the other."""

    def __init__(self, reader: LedgerReader, report: Report, facts: StationFacts) -> None:
        self._reader = reader
        self._report = report
        self._orders = facts.orders
        self._desk = facts.desk
        self._by_name: dict[str, dict[str, Any]] = {}
        self._versions = 0
        self._resumes = 0
        self._refusals = 0
        self._migrations = ""
        self._checkpoint: tuple[Any, ...] | None = None
        self._checkpoints = 0
        self._firmware = 0
        self._handing = HandingJournal(reader, report)

    def event(self, number: int, at: bytes, slot: bytes, step: bytes, facts: bytes) -> None:
        """Take an event of the kind ``journal`` that belongs to no unit."""
        try:
            said: Facts = read_facts(facts)
            if step in HANDING_STEPS and not slot:
                self._handing.event(step, said, at.decode())
            else:
                _STEPS[step if not slot else b""](self, said, at.decode())  # such an event has no slot
        except MALFORMED as error:
            self._report(
                Damage(Kind.CHANGED, "event", str(number), f"the journal has no such event ({type(error).__name__})")
            )

    def finish(self) -> None:
        """Compare what is compared as a whole."""
        self._flush_checkpoint()
        self._count("checkpoint", self._checkpoints)
        self._count("station_version", self._versions)
        self._count("firmware", self._firmware)
        self._count("desk_serial", sum(self._desk.values()))
        self._count("desk_refusal", self._refusals)
        self._count("order_resume", self._resumes)
        for table, rows in self._handing.finish().items():
            self._count(table, rows)
        ((found,),) = self._reader.rows(_MIGRATIONS)
        if self._migrations and _text(found) != self._migrations:
            row = (_text(found),)
            detail = differing(("name, applied_at",), (self._migrations,), row)
            self._report(Damage(Kind.CHANGED, "_sqlite_migrations", "", detail))

    def _count(self, table: str, expected: int) -> None:
        ((found,),) = self._reader.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
        if found > expected:
            self._report(Damage(Kind.INSERTED, table, "", f"it has {found} rows, the events tell of {expected}"))

    def _order_event(self, said: Facts, at: str) -> None:
        order: dict[str, Any] = {
            "name": said["order"],
            "product": said["product"],
            "profile": said["profile"],
            "quantity": int(said["quantity"]),
            "serial_format": said["serial_format"],
            "first_number": int(said["first_number"]),
            "opened_at": at,
            "check_scheme": said.get("check_scheme", ""),
            "closed_reason": None,
            "closed_at": None,
            "suspended_reason": None,
            "suspended_at": None,
            "burned": 0,
        }
        _sign(order, said, at)
        self._orders.append(order)
        self._by_name[said["order"]] = order
        self._check_identity(said)

    def _order_signed_event(self, said: Facts, at: str) -> None:
        _sign(self._by_name[said["order"]], said, at)
        self._check_identity(said)

    def _order_close_event(self, said: Facts, at: str) -> None:
        self._by_name[said["order"]].update(closed_reason=said["reason"], closed_at=at)

    def _order_suspend_event(self, said: Facts, at: str) -> None:
        self._by_name[said["order"]].update(suspended_reason=said["reason"], suspended_at=at)

    def _order_resume_event(self, said: Facts, at: str) -> None:
        self._resumes += 1
        order, taken, burned = self._by_name[said["order"]], int(said["taken"]), int(said["burned"])
        order.update(suspended_reason=None, suspended_at=None, burned=order["burned"] + burned)
        texts = (said["reason"], said["actor"], said["os_user"])
        expected = (int(said["order_resume"]), self._orders.index(order) + 1, taken, burned, *texts, at)
        self._compare_row("order_resume", _RESUME, expected)

    def _desk_refused_event(self, said: Facts, at: str) -> None:
        self._refusals += 1
        self._compare_row("desk_refusal", _REFUSAL, (said["product_serial"], said["code"], said["reason"], at))

    def _compare_row(self, table: str, columns: tuple[str, ...], expected: tuple[Any, ...]) -> None:
        """Compare a row whose columns are numbers and texts; the first one names it."""
        sql = f"SELECT {', '.join(columns)} FROM {table} WHERE {columns[0]} = ?"  # noqa: S608 - our own names
        row = next(self._reader.rows(sql, expected[0]), None)
        self._compare(table, str(expected[0]), columns, expected, None if row is None else tuple(map(_text, row)))

    def _check_identity(self, said: Facts) -> None:
        if "manifest" in said and said["manifest"] != self._reader.identity():
            self._report(
                Damage(
                    Kind.CHANGED,
                    "manifest_identity",
                    "1",
                    f"it is {self._reader.identity()}, order {said['order']} was opened in {said['manifest']}",
                )
            )

    def _desk_event(self, said: Facts, at: str) -> None:
        name = said["order"]
        self._desk[name] = self._desk.get(name, 0) + 1
        order_id = self._orders.index(self._by_name[name]) + 1
        expected = (said["product_serial"], order_id, bytes.fromhex(said["spki_sha256"]), said["mac"] or None, at)
        sql = "SELECT product_serial, order_id, spki_sha256, mac, at FROM desk_serial WHERE product_serial = ?"
        row = next(self._reader.rows(sql, said["product_serial"]), None)
        found = None if row is None else (_text(row[0]), row[1], row[2], _text(row[3]), _text(row[4]))
        self._compare("desk_serial", said["product_serial"], _DESK, expected, found)

    def _version_event(self, said: Facts, _at: str) -> None:
        self._versions += 1
        expected = (int(said["id"]), said["version"], int(said["schema"]), said["since"])
        self._migrations = said.get("migrations", self._migrations)
        sql = 'SELECT id, version, "schema", since FROM station_version WHERE id = ?'
        row = next(self._reader.rows(sql, expected[0]), None)
        found = None if row is None else (row[0], _text(row[1]), row[2], _text(row[3]))
        self._compare("station_version", said["id"], _VERSION, expected, found)

    def _firmware_event(self, said: Facts, at: str) -> None:
        self._firmware += 1
        expected = (
            *(int(said["firmware"]), said["product"], said["version"], said["rank"]),
            *(bytes.fromhex(said["bundle_sha256"]), said["reason"], at),
        )
        sql = "SELECT id, product, version, rank, bundle_sha256, reason, at FROM firmware WHERE id = ?"
        row = next(self._reader.rows(sql, expected[0]), None)
        found = None if row is None else (row[0], *map(_text, row[1:4]), row[4], *map(_text, row[5:]))
        self._compare("firmware", said["firmware"], _FIRMWARE, expected, found)

    def _checkpoint_event(self, said: Facts, at: str) -> None:
        values = (int(said["checkpoint"]), int(said["tree_size"]), bytes.fromhex(said["root"]), said["reason"])
        if self._checkpoint is not None and self._checkpoint[0] != values[0]:
            self._flush_checkpoint()
        self._checkpoint = (*values, int(said["signing_tries"]), at)

    def _flush_checkpoint(self) -> None:
        expected, self._checkpoint = self._checkpoint, None
        if expected is None:
            return
        self._checkpoints += 1
        sql = "SELECT id, tree_size, root, reason, signing_tries, changed_at FROM checkpoint WHERE id = ?"
        with naming(self._report, "checkpoint", str(expected[0])):
            row = next(self._reader.rows(sql, expected[0]), None)
            found = None if row is None else (*row[:3], _text(row[3]), row[4], _text(row[5]))
            self._compare("checkpoint", str(expected[0]), _CHECKPOINT, expected, found)

    def _compare(
        self, table: str, row: str, columns: tuple[str, ...], expected: tuple[Any, ...], found: tuple[Any, ...] | None
    ) -> None:
        if found is None:
            self._report(Damage(Kind.REMOVED, table, row, "an event tells of it"))
        elif found != expected:
            self._report(Damage(Kind.CHANGED, table, row, differing(columns, expected, found)))


_STEPS: Final[Mapping[bytes, Callable[[StationJournal, Facts, str], None]]] = {
    b"order": StationJournal._order_event,
    b"order-signed": StationJournal._order_signed_event,
    b"order-close": StationJournal._order_close_event,
    b"order-suspend": StationJournal._order_suspend_event,
    b"order-resume": StationJournal._order_resume_event,
    b"desk": StationJournal._desk_event,
    b"desk-refused": StationJournal._desk_refused_event,
    b"version": StationJournal._version_event,
    b"checkpoint": StationJournal._checkpoint_event,
    b"firmware": StationJournal._firmware_event,
}


def _text(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _sign(order: dict[str, Any], said: Facts, at: str) -> None:
    """Take over what an order's signature says; schema 1 had none."""

    def text(name: str) -> str | None:
        return said.get(name) or None

    order.update(
        uid=text("uid"),
        jws_sha256=bytes.fromhex(said.get("jws_sha256", "")) or None,
        payload_sha256=bytes.fromhex(said.get("payload_sha256", "")) or None,
        station_id=int(said["station_id"]) if said.get("station_id") else None,
        not_before=text("not_before"),
        not_after=text("not_after"),
        signed_at=at if text("uid") else None,
        mac_first=text("mac_first"),
        scrap_allowance=int(said.get("scrap_allowance", "0")),
    )


def compare_orders(
    reader: LedgerReader, facts: StationFacts, taken: dict[str, int], returned: dict[str, int], report: Report
) -> None:
    """Compare the orders' rows, once the units are counted.

    Args:
        reader: the manifest.
        facts: from the events of the station.
        taken: units that took a serial, by the order's name.
        returned: units that gave budget back, likewise.
        report: gets what is found.
    """
    columns = ("id", *ORDER_COLUMNS, "jws", "reserved", "returned")
    rows = {row[0]: row for row in reader.rows(f"SELECT {', '.join(columns)} FROM production_order")}  # noqa: S608
    blobs = {"jws_sha256", "payload_sha256", "jws"}
    for number, order in enumerate(facts.orders, start=1):
        row = rows.pop(number, None)
        name = order["name"]
        if row is None:
            report(Damage(Kind.REMOVED, "production_order", name, "an event tells of it"))
            continue
        gone = returned.get(name, 0)
        counts = {"reserved": taken.get(name, 0) + facts.desk.get(name, 0) - gone, "returned": gone}
        found = tuple(value if column in blobs else _text(value) for column, value in zip(columns, row, strict=True))
        jws = found[columns.index("jws")]
        digest = None if jws is None else _sha256(jws)
        wanted = {**order, "id": number, "jws": jws, **counts}
        expected = tuple(wanted[column] for column in columns)
        if found != expected:
            report(Damage(Kind.CHANGED, "production_order", name, differing(columns, expected, found)))
        if digest != order["jws_sha256"]:
            report(Damage(Kind.CHANGED, "production_order", name, "jws is not the one whose SHA-256 the events tell"))
    for row in rows.values():
        report(Damage(Kind.INSERTED, "production_order", str(_text(row[1])), "no event tells of it"))


def _sha256(value: object) -> bytes:
    return sha256(value if isinstance(value, bytes) else repr(value).encode()).digest()
