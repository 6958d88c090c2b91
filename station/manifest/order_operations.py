"""What is done to the rows of orders: one function an operation, each inside a transaction of the writer."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from hsm.durable import Row
from station.errors import ManifestError, printable
from station.manifest.errors import OrderDiffers, OrderExhausted, RowRefused
from station.manifest.rows import OrderSeal, OrderTerms
from station.numbering import CheckScheme

ORDER_COLUMNS: Final = (
    "production_order.name, production_order.product, production_order.profile, production_order.quantity, "
    "production_order.serial_format, production_order.first_number, production_order.check_scheme, "
    "production_order.mac_first, production_order.scrap_allowance, production_order.uid, production_order.jws, "
    "production_order.payload_sha256, production_order.station_id, production_order.not_before, "
    "production_order.not_after"
)
ORDER_WIDTH: Final = ORDER_COLUMNS.count(",") + 1

_TERMS: Final = {
    "product": "the product",
    "profile": "the profile",
    "quantity": "the quantity",
    "serial_format": "the serial format",
    "first_number": "the first number",
    "check": "the check scheme",
    "mac_first": "the first MAC address",
    "scrap_allowance": "the scrap allowance",
}
_SEALED: Final = {
    "uid": "the order's id",
    "payload_sha256": "the signed payload",
    "station_id": "the station",
    "not_before": "the begin of its window",
    "not_after": "the end of its window",
}

_FOUND: Final = (
    f"SELECT id, closed_at, suspended_at, reserved, returned, burned, {ORDER_COLUMNS} FROM production_order "  # noqa: S608 - our own columns
    "WHERE name = ?"
)
_FOUND_STATE: Final = slice(1, 6)

NOTE_LIMIT: Final = 400
"""Characters of a damaged note that an event tells."""


class OrderState(NamedTuple):
    """What a row says besides the terms."""

    closed_at: str | None
    suspended_at: str | None
    reserved: int
    returned: int
    burned: int

    @property
    def taken(self) -> int:
        """Numbers that were given, or burned."""
        return self.reserved + self.returned + self.burned


def terms_of(row: Row) -> OrderTerms:
    """Parse a row of ``ORDER_COLUMNS``."""
    seal = None if row[9] is None else OrderSeal(*row[9:ORDER_WIDTH])
    return OrderTerms(*(*row[:6], CheckScheme(row[6]), *row[7:9], seal))


def differences(stored: OrderTerms, wanted: OrderTerms) -> list[str]:
    """Say where two versions of an order differ; the JWS itself aside, which may be spelled in several ways."""
    found = [
        f"{said} is {getattr(stored, name)!r} there and {getattr(wanted, name)!r} here"
        for name, said in _TERMS.items()
        if getattr(stored, name) != getattr(wanted, name)
    ]
    if stored.seal is None or wanted.seal is None:
        return found + (["only one of the two is signed"] if stored.seal is not wanted.seal else [])
    return found + [
        f"{said} differs" for name, said in _SEALED.items() if getattr(stored.seal, name) != getattr(wanted.seal, name)
    ]


def open_order(connection: sqlite3.Connection, at: str, *, terms: OrderTerms) -> bool:
    """Store the order, or find it stored with the same terms; an unsigned one is signed afterwards."""
    row = connection.execute(_FOUND, (terms.name,)).fetchone()
    if row is None:
        _check_uid(connection, terms)
        seal = terms.seal
        sealed = (
            (None,) * 8
            if seal is None
            else (
                *(seal.uid, seal.jws, seal.jws_sha256, seal.payload_sha256, seal.station_id),
                *(seal.not_before, seal.not_after, at),
            )
        )
        connection.execute(
            "INSERT INTO production_order (name, product, profile, quantity, serial_format, first_number, "
            "check_scheme, mac_first, scrap_allowance, opened_at, uid, jws, jws_sha256, payload_sha256, station_id, "
            "not_before, not_after, signed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*_plain(terms), at, *sealed),
        )
        return True
    stored = terms_of(row[_FOUND_STATE.stop :])
    if stored.seal is None and terms.seal is not None and _plain(stored)[:7] == _plain(terms)[:7]:
        _sign(connection, at, row[0], terms, terms.seal)
        return True
    if differing := differences(stored, terms):
        raise OrderDiffers(
            f"order {terms.name!r} is in the manifest with other terms: {'; '.join(differing)}. "
            "An order never changes: ask for a new one, with a name of its own",
            order=terms.name,
        )
    return False


def _plain(terms: OrderTerms) -> tuple[object, ...]:
    return (
        *(terms.name, terms.product, terms.profile, terms.quantity, terms.serial_format, terms.first_number),
        *(terms.check.value, terms.mac_first, terms.scrap_allowance),
    )


def _check_uid(connection: sqlite3.Connection, terms: OrderTerms) -> None:
    if terms.seal is None:
        return
    row = connection.execute("SELECT name FROM production_order WHERE uid = ?", (terms.seal.uid,)).fetchone()
    if row is not None:
        raise OrderDiffers(
            f"order {terms.name!r} has the id of order {row[0]!r}, which is in the manifest; ask for an order with an "
            "id of its own",
            order=terms.name,
        )


def _sign(connection: sqlite3.Connection, at: str, order_id: int, terms: OrderTerms, seal: OrderSeal) -> None:
    """Bind an order of schema 1, which nobody signed, to its JWS."""
    connection.execute(
        "UPDATE production_order SET uid = ?, jws = ?, jws_sha256 = ?, payload_sha256 = ?, station_id = ?, "
        "not_before = ?, not_after = ?, signed_at = ?, mac_first = ?, scrap_allowance = ? WHERE id = ?",
        (
            *(seal.uid, seal.jws, seal.jws_sha256, seal.payload_sha256, seal.station_id, seal.not_before),
            *(seal.not_after, at, terms.mac_first, terms.scrap_allowance, order_id),
        ),
    )


def close_order(connection: sqlite3.Connection, at: str, *, name: str, reason: str) -> bool:
    """Close an order for good; units that hold a serial of it may still be finished."""
    row = connection.execute("SELECT id, closed_at FROM production_order WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise unknown_order(name)
    if row[1] is not None:
        return False
    connection.execute(
        "UPDATE production_order SET closed_at = ?, closed_reason = ? WHERE id = ?", (at, printable(reason), row[0])
    )
    return True


def suspend_orders(connection: sqlite3.Connection, at: str, *, reason: str) -> list[str]:
    """Let every order that could still give numbers wait for a decision; returns their names."""
    rows = connection.execute(
        "UPDATE production_order SET suspended_at = ?, suspended_reason = ? "
        "WHERE closed_at IS NULL AND suspended_at IS NULL RETURNING name",
        (at, printable(reason)),
    ).fetchall()
    return [name for (name,) in rows]


def resume_order(  # noqa: PLR0913  # what is decided, by name
    connection: sqlite3.Connection,
    at: str,
    *,
    name: str,
    burned: int,
    reason: str,
    actor: str,
    os_user: str,
    damaged: Sequence[str] = (),
) -> OrderState:
    """Burn the numbers that the row does not know of, and let the order go on.

    Args:
        connection: inside a transaction.
        at: the time.
        name: of the order.
        burned: so many numbers after those that the row knows.
        reason: why.
        actor: who decides it.
        os_user: as whom the command runs.
        damaged: what stands in notes of its numbers that nobody can believe, and that are replaced from now on: that
            is something to decide, also where nothing is burned.

    Returns:
        As the row was before.
    """
    row = connection.execute(_FOUND, (name,)).fetchone()
    if row is None:
        raise unknown_order(name)
    state = OrderState(*row[_FOUND_STATE])
    if damaged and state.suspended_at is None:
        connection.execute(
            "UPDATE production_order SET suspended_at = ?, suspended_reason = ? WHERE id = ?",
            (at, "a note of its numbers is damaged", row[0]),
        )
    for note in damaged:
        connection.execute(
            "INSERT INTO event (at, slot, step, kind, facts) VALUES (?, '', 'order-resume', 'note-damaged', "
            "json_object('order', ?, 'note', ?))",
            (at, name, printable(note, NOTE_LIMIT)),
        )
    connection.execute(
        "INSERT INTO order_resume (order_id, taken, burned, reason, actor, os_user, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row[0], state.taken, burned, printable(reason), printable(actor), printable(os_user), at),
    )
    return state


def refuse_desk_request(connection: sqlite3.Connection, at: str, *, spki_sha256: bytes, code: str, reason: str) -> bool:
    """Note why a request that holds a serial got no certificate; False where there is nothing to note."""
    cursor = connection.execute(
        "INSERT INTO desk_refusal (product_serial, code, reason, at) SELECT product_serial, ?, ?, ? FROM desk_serial "
        "WHERE spki_sha256 = ? AND product_serial NOT IN (SELECT product_serial FROM desk_refusal)",
        (printable(code)[:64], printable(reason, 400)[:400], at, spki_sha256),
    )
    return cursor.rowcount == 1


def take_desk_serial(
    connection: sqlite3.Connection, at: str, *, terms: OrderTerms, spki_sha256: bytes, taken: int
) -> tuple[str, str | None]:
    """Take a serial for a certificate that the CA's desk issues; a key that has one keeps it."""
    execute = connection.execute
    found = execute(
        "SELECT product_serial, mac, production_order.name FROM desk_serial "
        "JOIN production_order ON production_order.id = order_id WHERE spki_sha256 = ?",
        (spki_sha256,),
    ).fetchone()
    if found is not None:
        if found[2] != terms.name:
            raise RowRefused(
                f"this key has serial {found[0]} of order {found[2]}; give that order",
                code="manifest.desk_other_order",
            )
        return found[0], found[1]
    row = execute(_FOUND, (terms.name,)).fetchone()
    if row is None:
        raise unknown_order(terms.name)
    state = OrderState(*row[_FOUND_STATE])
    check_may_take(terms_of(row[_FOUND_STATE.stop :]), terms, state, at=at, taken=taken)
    check_budget(terms, state, f"the request with key {spki_sha256.hex()[:16]}…")
    serial, mac = terms.product_serial(state.taken), terms.mac(state.taken)
    execute(
        "INSERT INTO desk_serial (product_serial, order_id, spki_sha256, mac, at) VALUES (?, ?, ?, ?, ?)",
        (serial, row[0], spki_sha256, mac, at),
    )
    return serial, mac


def check_may_take(stored: OrderTerms, wanted: OrderTerms, state: OrderState, *, at: str, taken: int) -> None:
    """Refuse to take a new serial from an order whose row is not what was signed, or that is not open now.

    Args:
        stored: as the row says.
        wanted: as the verified JWS says.
        state: of the row.
        at: the time.
        taken: numbers that are known to have been taken; the row can't have fewer.

    Raises:
        OrderDiffers: the row was changed behind the station's back.
        RowRefused: closed, suspended, before or after its window, or the row forgot what was taken.
    """
    check_row(stored, wanted, state.taken, taken)
    name = wanted.name
    if state.closed_at is not None:
        raise RowRefused(
            f"order {name} was closed at {state.closed_at}; run another order",
            code="manifest.order_closed",
            operator="This order is closed. Put the board aside and call the line engineer.",
        )
    if state.suspended_at is not None:
        raise RowRefused(
            f"order {name} waits for a decision since {state.suspended_at}: 'station order resume {name}'",
            code="manifest.order_suspended",
            operator="This order waits for the security officer. Put the board aside and call the line engineer.",
        )
    if wanted.seal is not None and not wanted.seal.not_before <= at < wanted.seal.not_after:
        begun = at >= wanted.seal.not_before
        when = f"is over since {wanted.seal.not_after}" if begun else f"begins at {wanted.seal.not_before}"
        raise RowRefused(
            f"order {name} {when}; it is {at} now: check the clock, or ask for a new order",
            code="manifest.order_over" if begun else "manifest.order_not_begun",
            operator="The time of this order is not now. Put the board aside and call the line engineer.",
        )


def check_row(stored: OrderTerms, wanted: OrderTerms, have: int, taken: int) -> None:
    """Refuse a row that is not what was signed, or that forgot what was taken.

    Raises:
        OrderDiffers: the row was changed behind the station's back.
        RowRefused: the row says that fewer numbers were taken than are (``manifest.order_count``).
    """
    operator = "The station's records were changed. Stop the line and call the security officer."
    if differing := differences(stored, wanted):
        raise OrderDiffers(
            f"the row of order {wanted.name} is not what was signed: {'; '.join(differing)}. Somebody changed the "
            "database: keep it as it is, and compare it with its backup",
            code="manifest.order_edited",
            operator=operator,
            order=wanted.name,
        )
    if have < taken:
        raise RowRefused(
            f"the row of order {wanted.name} says that {have} numbers were taken, and {taken} are. Somebody changed "
            "the database, or put an older copy into its place: keep it as it is, and compare it with its backup",
            code="manifest.order_count",
            operator=operator,
        )


def check_budget(terms: OrderTerms, state: OrderState, who: str) -> None:
    """Refuse one unit too many.

    Raises:
        OrderExhausted: "number 501 of 500".
    """
    used = state.reserved + state.burned
    if used >= terms.quantity:
        burned = f", of which {state.burned} were burned" if state.burned else ""
        raise OrderExhausted(
            f"order {terms.name}: {who} would be number {used + 1} of {terms.quantity}{burned}", order=terms.name
        )


def unknown_order(name: str) -> ManifestError:
    """Say that there is no such order."""
    return ManifestError(
        f"no order {name!r} in the manifest; import it with 'station order import FILE'", code="manifest.order_unknown"
    )
