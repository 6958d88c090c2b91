"""What is done to the rows: one function an operation, each inside a transaction of the writer.

Every function gets the connection and the time first. What it checks is checked by the schema again; it checks to say
*which* unit, order or value stands in the way. The rows' own events are written by the schema's triggers.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from hsm.serials import serial_text
from station.errors import ManifestError, printable
from station.manifest.errors import DuplicateHardware, DuplicateKey, OrderDiffers, RowRefused
from station.manifest.life import check_alive
from station.manifest.order_operations import (
    ORDER_COLUMNS,
    ORDER_WIDTH,
    OrderState,
    check_budget,
    check_may_take,
    check_row,
    terms_of,
    unknown_order,
)
from station.manifest.records import ISSUANCE_COLUMNS, PROOF, UNITS_WITH_ISSUANCE, issuance_of, unit_of
from station.manifest.rows import (
    DraftLike,
    Intent,
    IssuanceRecord,
    IssuanceState,
    OrderTerms,
    Proof,
    ProofRecord,
    RecordedCertificate,
    UnitRecord,
    UnitState,
    seal_recorded,
)

_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode

_ISSUANCE: Final = (
    f"SELECT {ISSUANCE_COLUMNS}, unit.product_serial FROM issuance "  # noqa: S608  # our own column names
    "JOIN unit ON unit.id = issuance.unit_id WHERE issuance.id = ?"
)

ISSUANCES_LIMIT: Final = 5
"""Issuances of one unit, void ones included. A board that claims a new key at each visit would otherwise get any number
of certificates out of a budget of one."""

_TO_RESERVE: Final = f"""
SELECT unit.hardware_id, unit.state, unit.product_serial, issuance.id, issuance.spki_sha256, holder.id,
       holder.hardware_id, (
           SELECT count(*) FROM issuance AS given_up WHERE unit_id = ?1 AND state = 'void'
           AND NOT EXISTS (SELECT 1 FROM life_act WHERE issuance_id = given_up.id)  -- a person answers for those
       ), production_order.closed_at, production_order.suspended_at, production_order.reserved,
       production_order.returned, production_order.burned, {ORDER_COLUMNS}
FROM unit JOIN production_order ON production_order.id = unit.order_id
LEFT JOIN issuance ON issuance.unit_id = unit.id AND issuance.state <> 'void'
LEFT JOIN public_key ON public_key.spki_sha256 = ?2 LEFT JOIN unit AS holder ON holder.id = public_key.unit_id
WHERE unit.id = ?1
"""  # noqa: S608  # our own column names


# The same id in another case is the same board; a file from before schema 6 may hold both.
_OF_HARDWARE: Final = """
SELECT id, state, life, hardware_id FROM unit WHERE hardware_id = ?1 COLLATE NOCASE
ORDER BY hardware_id = ?1 DESC LIMIT 1
"""


def begin(  # noqa: PLR0913  # one argument a column, by name
    connection: sqlite3.Connection,
    at: str,
    *,
    hardware_id: str,
    model: str,
    firmware_version: str,
    firmware_sha256: bytes,
    slot: str,
    order: str,
) -> UnitRecord:
    """Find or make the unit's row; count the attempt, unless the unit passed already."""
    execute = connection.execute
    found = execute(_OF_HARDWARE, (hardware_id,)).fetchone()
    if found is not None:
        hardware_id = found[3]  # as it was written first
        check_alive(hardware_id, found[2])
    if found is None or found[1] != UnitState.PASSED:
        row = execute("SELECT id FROM production_order WHERE name = ?", (order,)).fetchone()
        if row is None:
            raise unknown_order(order)
        if found is None:
            execute(
                "INSERT INTO unit (hardware_id, order_id, model, firmware_version, firmware_sha256, state, attempts, "
                "slot, first_seen_at, changed_at) VALUES (?, ?, ?, ?, ?, 'open', 1, ?, ?, ?)",
                (hardware_id, row[0], model, firmware_version, firmware_sha256, slot, at, at),
            )
        else:
            # A unit that holds a serial stays with the order it took it from, whatever runs today.
            execute(
                "UPDATE unit SET order_id = iif(product_serial IS NULL, ?, order_id), model = ?, firmware_version = ?, "
                "firmware_sha256 = ?, state = 'open', attempts = attempts + 1, slot = ?, changed_at = ?, "
                "failure_code = NULL, failure_sentence = NULL, failure_step = NULL WHERE id = ?",
                (row[0], model, firmware_version, firmware_sha256, slot, at, found[0]),
            )
    return unit_of(execute(f"{UNITS_WITH_ISSUANCE} WHERE unit.hardware_id = ?", (hardware_id,)).fetchone())


def known(connection: sqlite3.Connection, _at: str, *, hardware_id: str) -> UnitRecord | None:
    """Return a unit as it is."""
    found = connection.execute(_OF_HARDWARE, (hardware_id,)).fetchone()
    if found is None:
        return None
    return unit_of(connection.execute(f"{UNITS_WITH_ISSUANCE} WHERE unit.id = ?", (found[0],)).fetchone())


def reserve(  # noqa: PLR0913  # what is taken, by name
    connection: sqlite3.Connection,
    at: str,
    *,
    unit_id: int,
    spki_sha256: bytes,
    draft: Callable[[str], DraftLike],
    profile: str | None = None,
    order: OrderTerms | None = None,
    taken: int = 0,
) -> Intent:
    """Take serials and budget, and write the intent to sign, all or nothing."""
    execute = connection.execute
    row = execute(_TO_RESERVE, (unit_id, spki_sha256)).fetchone()
    if row is None:
        raise _unknown(unit_id)
    hardware_id, state, product_serial, live_id, live_key, holder_id, holder, given_up, *order_state = row[
        :-ORDER_WIDTH
    ]
    order_state = OrderState(*order_state)
    if state != UnitState.OPEN:
        raise RowRefused(f"unit {hardware_id} is {state}, not open; begin it first", code="manifest.unit_not_open")
    if holder_id not in {None, unit_id}:
        raise _shared_key(hardware_id, holder, spki_sha256)
    if live_id is not None and live_key != spki_sha256:
        raise DuplicateHardware(
            f"unit {hardware_id} has a live certificate for another public key: a second board with this hardware id, "
            "or this board was erased; void the old certificate if it was",
            hardware_id=hardware_id,
            expected=live_key,
            got=spki_sha256,
        )
    if live_id is not None:
        raise RowRefused(f"unit {hardware_id} has a live certificate; resume it", code="manifest.issuance_live")
    stored = terms_of(row[-ORDER_WIDTH:])
    terms = order or stored
    if profile not in {None, terms.profile}:
        raise OrderDiffers(
            f"unit {hardware_id} has its serial from order {terms.name}, whose profile is {terms.profile!r} and not "
            f"{profile!r}; finish it on a line with that order",
            order=terms.name,
        )
    if given_up >= ISSUANCES_LIMIT:
        raise RowRefused(
            f"unit {hardware_id} had {given_up} certificates, all void: it gets no other",
            code="manifest.issuances_limit",
            operator="This board was begun anew too often. Put it into the red bin and call the line engineer.",
        )
    number = order_state.taken
    if product_serial is None:
        check_may_take(stored, terms, order_state, at=at, taken=taken)
        check_budget(terms, order_state, f"unit {hardware_id}")
        product_serial = terms.product_serial(number)
        execute(
            "UPDATE unit SET product_serial = ?, mac = ?, changed_at = ? WHERE id = ?",
            (product_serial, terms.mac(number), at, unit_id),
        )
    else:
        check_row(stored, terms, number, taken)
    drafted = draft(product_serial)
    if hashlib.sha256(drafted.tbs).digest() != drafted.tbs_sha256:
        raise ManifestError("the draft's digest is not that of its bytes", code="manifest.draft_invalid")
    if holder_id is None:
        execute("INSERT INTO public_key (spki_sha256, unit_id) VALUES (?, ?)", (spki_sha256, unit_id))
    (issuance_id,) = execute(
        "INSERT INTO issuance (unit_id, state, spki_sha256, certificate_serial, tbs, tbs_sha256, signing_tries, "
        "intended_at, changed_at) VALUES (?, 'intent', ?, ?, ?, ?, 1, ?, ?) RETURNING id",
        (unit_id, spki_sha256, serial_text(drafted.serial), drafted.tbs, drafted.tbs_sha256, at, at),
    ).fetchone()
    return Intent(issuance_id, unit_id, product_serial, drafted.serial, drafted.tbs, drafted.tbs_sha256, 1)


def _shared_key(hardware_id: str, holder: str, spki_sha256: bytes) -> DuplicateKey:
    return DuplicateKey(
        f"unit {hardware_id} shows the public key of unit {holder}: a cloned board, or a broken random number "
        "generator",
        hardware_id=hardware_id,
        holder=holder,
        spki_sha256=spki_sha256,
    )


def _unknown(unit_id: int) -> ManifestError:
    return ManifestError(f"no unit {unit_id} in the manifest", code="manifest.unit_unknown")


def _issuance(connection: sqlite3.Connection, issuance_id: int) -> tuple[IssuanceRecord, Intent]:
    """Read an issuance, and what was intended with it."""
    row = connection.execute(_ISSUANCE, (issuance_id,)).fetchone()
    if row is None:
        raise ManifestError(f"no issuance {issuance_id} in the manifest", code="manifest.issuance_unknown")
    issuance = issuance_of(row[:-1])
    intent = Intent(
        issuance.id,
        issuance.unit_id,
        row[-1],
        issuance.certificate_serial,
        issuance.tbs,
        issuance.tbs_sha256,
        issuance.signing_tries + 1,
    )
    return issuance, intent


def attempt(connection: sqlite3.Connection, at: str, *, issuance_id: int) -> Intent:
    """Count one more try to sign what was intended, and hand it out again."""
    issuance, intent = _issuance(connection, issuance_id)
    if issuance.state is not IssuanceState.INTENT:
        raise RowRefused(
            f"issuance {issuance_id} is {issuance.state}: there is nothing to sign", code="manifest.issuance_state"
        )
    connection.execute(
        "UPDATE issuance SET signing_tries = ?, changed_at = ? WHERE id = ?", (intent.signing_tries, at, issuance_id)
    )
    return intent


def record(  # noqa: PLR0913  # what a certificate says, by name
    connection: sqlite3.Connection,
    at: str,
    *,
    issuance_id: int,
    certificate: bytes,
    tbs_sha256: bytes,
    certificate_serial: int,
) -> RecordedCertificate:
    """Store the certificate of an intent.

    Args:
        connection: inside a transaction.
        at: the time.
        issuance_id: of the intent.
        certificate: DER.
        tbs_sha256: of the TBS in the certificate.
        certificate_serial: as the certificate has it.
    """
    issuance, intent = _issuance(connection, issuance_id)
    sha256 = hashlib.sha256(certificate).digest()
    if issuance.state is IssuanceState.RECORDED and issuance.certificate_sha256 == sha256:
        return seal_recorded(intent, certificate, sha256)
    if issuance.state is not IssuanceState.INTENT:
        raise RowRefused(
            f"issuance {issuance_id} is {issuance.state}: another certificate can't be recorded for it",
            code="manifest.issuance_state",
        )
    if tbs_sha256 != issuance.tbs_sha256 or certificate_serial != issuance.certificate_serial:
        raise RowRefused(
            f"issuance {issuance_id}: the certificate is not the one that was intended",
            code="manifest.certificate_differs",
            expected=issuance.tbs_sha256,
            got=tbs_sha256,
        )
    connection.execute(
        "UPDATE issuance SET state = 'recorded', certificate = ?, certificate_sha256 = ?, changed_at = ? WHERE id = ?",
        (certificate, sha256, at, issuance_id),
    )
    return seal_recorded(intent, certificate, sha256)


def recorded(connection: sqlite3.Connection, _at: str, *, issuance_id: int) -> RecordedCertificate:
    """Return the certificate of an issuance that is recorded."""
    issuance, intent = _issuance(connection, issuance_id)
    if (
        issuance.state is not IssuanceState.RECORDED
        or issuance.certificate is None
        or issuance.certificate_sha256 is None
    ):
        raise RowRefused(
            f"issuance {issuance.id} is {issuance.state}: it has no certificate to install",
            code="manifest.issuance_state",
        )
    return seal_recorded(intent, issuance.certificate, issuance.certificate_sha256)


def proof(connection: sqlite3.Connection, _at: str, *, issuance_id: int) -> ProofRecord | None:
    """Return the proof that a unit passed with."""
    row = connection.execute(f"{PROOF} WHERE issuance_id = ?", (issuance_id,)).fetchone()
    return None if row is None else ProofRecord(*row)


_KEY_OF_ANOTHER: Final = """
SELECT this.hardware_id, holder.hardware_id FROM public_key JOIN unit AS holder ON holder.id = public_key.unit_id
JOIN unit AS this ON this.id = ?2 WHERE public_key.spki_sha256 = ?1 AND public_key.unit_id <> ?2
"""


def void(connection: sqlite3.Connection, at: str, *, issuance_id: int, reason: str, shown: bytes | None = None) -> None:
    """Give an issuance up; it stands on the revocation list from now on.

    Nothing is given up for a board that shows the key of another unit (``shown``): it is not the one it says.
    """
    issuance, _ = _issuance(connection, issuance_id)
    if issuance.state is IssuanceState.VOID:
        return
    if shown is not None:
        another = connection.execute(_KEY_OF_ANOTHER, (shown, issuance.unit_id)).fetchone()
        if another is not None:
            hardware_id, holder = another
            raise _shared_key(hardware_id, holder, shown)
    connection.execute(
        "UPDATE issuance SET state = 'void', void_reason = ?, changed_at = ? WHERE id = ?",
        (printable(reason), at, issuance_id),
    )


def event(  # noqa: PLR0913  # one argument a column, by name
    connection: sqlite3.Connection,
    at: str,
    *,
    unit_id: int | None,
    slot: str,
    step: str,
    kind: str,
    facts: Mapping[str, str],
) -> None:
    """Append an event."""
    connection.execute(
        "INSERT INTO event (at, unit_id, slot, step, kind, facts) VALUES (?, ?, ?, ?, ?, ?)",
        (at, unit_id, slot, step, kind, _as_json(facts)),
    )


def passed(  # noqa: PLR0913  # what a pass says, by name
    connection: sqlite3.Connection, at: str, *, unit_id: int, proof: Proof, locks: int, seconds: float
) -> None:
    """Store the proof; the schema lets the unit pass with it, or refuses both."""
    read_back = hashlib.sha256(proof.certificate).digest()
    cursor = connection.execute(
        "INSERT INTO proof (issuance_id, challenge, message, signature, read_back_sha256, locks, seconds, at) "
        "SELECT id, ?, ?, ?, ?, ?, ?, ? FROM issuance WHERE unit_id = ? AND state <> 'void'",
        (proof.challenge, proof.message, proof.signature, read_back, int(locks), seconds, at, unit_id),
    )
    if cursor.rowcount != 1:
        raise RowRefused(f"unit {unit_id} has no certificate to pass with", code="manifest.no_evidence")


def failed(  # noqa: PLR0913  # one argument a column, by name
    connection: sqlite3.Connection, at: str, *, unit_id: int, code: str, sentence: str, step: str
) -> None:
    """Store why the unit failed; the next ``begin`` opens it again."""
    cursor = connection.execute(
        "UPDATE unit SET state = 'failed', failure_code = ?, failure_sentence = ?, failure_step = ?, changed_at = ? "
        "WHERE id = ?",
        (printable(code), printable(sentence), printable(step), at, unit_id),
    )
    if cursor.rowcount != 1:
        raise _unknown(unit_id)
