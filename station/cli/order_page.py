"""How ``station order`` shows an order: a file's terms, and a row of the manifest with how far it is."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from station.manifest import DeskRefusal, OrderRecord, OrderResume, OrderTerms
from station.orders import Order
from station.orders.payload import write_order


def fields_of(found: Order) -> list[tuple[str, str]]:
    """Say what an order says, for people."""
    shares = [
        f"{station}: {share.quantity} units, numbers {share.first_number} to {share.last_number}"
        + (f", {share.scrap_allowance} may be scrapped" if share.scrap_allowance else "")
        + (f", key {share.key_sha256.hex()[:16]}…" if share.key_sha256 else "")
        for station, share in sorted(found.stations.items())
    ]
    said = json.loads(write_order(found))
    more = [
        (name.replace("_", " "), str(said[name]))
        for name in ("firmware_version", "firmware_sha256", "bundle_sha256")
        if name in said
    ]
    if "mac" in said:
        more.append(("MAC addresses", f"{said['mac']['first']} to {said['mac']['last']}"))
    return [
        ("order", found.name),
        ("id", found.id),
        ("product", found.product),
        ("profile", found.profile),
        ("its SHA-256", found.profile_sha256.hex()),
        ("quantity", str(found.quantity)),
        ("serials", f"{found.serial_format}{f', check {found.check}' if found.check else ''}"),
        ("stations", "\n".join(shares)),
        ("window", f"{said['not_before']} to {said['not_after']}"),
        *more,
    ]


def row_of(record: OrderRecord) -> dict[str, object]:
    """Return what ``--json`` says of an order of the manifest."""
    terms, seal = record.terms, record.terms.seal
    return {
        "name": terms.name,
        "id": None if seal is None else seal.uid,
        "product": terms.product,
        "profile": terms.profile,
        "quantity": terms.quantity,
        "serial_format": terms.serial_format,
        "check": terms.check,
        "first_number": terms.first_number,
        "mac_first": terms.mac_first,
        "station": None if seal is None else seal.station_id,
        "not_before": None if seal is None else seal.not_before,
        "not_after": None if seal is None else seal.not_after,
        "scrap_allowance": terms.scrap_allowance,
        "returned": record.returned,
        "burned": record.burned,
        "begun": record.reserved,
        "units": {state.value: count for state, count in record.units.items()},
        "opened_at": record.opened_at,
        "closed_at": record.closed_at,
        "closed_reason": record.closed_reason,
        "suspended_at": record.suspended_at,
        "suspended_reason": record.suspended_reason,
    }


def row_fields(record: OrderRecord) -> Iterator[tuple[str, str]]:
    """Say the same for people, what is empty left out."""
    for name, value in row_of(record).items():
        if value not in (None, ""):
            text = ", ".join(f"{k} {v}" for k, v in value.items() if v) if isinstance(value, dict) else str(value)
            yield name.replace("_", " "), text or "none"


def cells_of(record: OrderRecord) -> tuple[str, ...]:
    """Return a line of ``order list``."""
    seal = record.terms.seal
    passed = next((count for state, count in record.units.items() if state.value == "passed"), 0)
    end = "unsigned" if seal is None else f"{seal.not_after[:16]}Z"  # to the minute: nothing begins after it
    return (
        *(record.terms.name, record.terms.product, record.terms.profile, str(record.reserved)),
        *(
            str(record.terms.quantity),
            str(passed),
            end,
            "closed" if record.closed_at else "suspended" if record.suspended_at else "",
        ),
    )


def burned_text(terms: OrderTerms, decided: OrderResume) -> str:
    """Say what was decided about an order."""
    who = f"by {decided.actor} at {decided.at}: {decided.reason}"
    if not decided.burned:
        return f"goes on with {terms.product_serial(decided.taken)}, {who}"
    serials = " to ".join(
        dict.fromkeys(terms.product_serial(index) for index in (decided.taken, decided.taken + decided.burned - 1))
    )
    return f"{decided.burned} numbers, {serials}, {who}"


def refusal_of(refusal: DeskRefusal) -> dict[str, str]:
    """Return what ``--json`` says of a request that was refused."""
    return {**asdict(refusal), "spki_sha256": refusal.spki_sha256.hex()}
