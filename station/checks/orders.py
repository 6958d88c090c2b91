"""What ``station check`` looks at in orders: keys, the order that runs, its window and how far it is."""

from collections.abc import Iterator
from datetime import UTC, datetime

from hsm import HsmError, Profile
from station.checks.findings import Finding, fail, ok, unreadable, warn
from station.config import Config
from station.errors import ManifestError
from station.ledger.errors import LedgerError
from station.manifest import ManifestReader, OrderCount
from station.ordering import product_under, sealed_count
from station.orders import OrderBook, OrderError, Trust

_IMPORT = "station order import FILE"


def examine(config: Config) -> Iterator[Finding]:
    """Examine ``[order]`` and the row of the order that it names; the token is not asked."""
    name, now = config.order.name, datetime.now(UTC)
    try:
        trust = Trust.load(config.order.trusted, config.order.approvals)
    except OrderError as error:
        yield _no_trust(config, error)
        return
    yield ok(
        "order keys", f"{', '.join(key for key, _ in trust.keys)}; signatures that an order needs: {trust.approvals}"
    )
    if not config.station.manifest.exists():
        yield warn("order", f"{name} is not imported yet", _IMPORT)
        return
    try:
        with ManifestReader(config.station.manifest) as reader:
            records = {record.terms.name: record for record in reader.orders()}
            count = reader.count_orders(sealed_count(config)) if name in records else OrderCount()
    except (ManifestError, LedgerError) as error:
        yield unreadable("manifest", error)
        return
    if name not in records:
        yield warn("order", f"{name} is not imported yet; there are {', '.join(records) or 'none'}", _IMPORT)
        return
    book = OrderBook(records.values(), count, trust, station_id=config.station.id, now=lambda: now)
    try:
        warrant = book.check_begins(name)
    except OrderError as error:
        yield fail("order", str(error), "")
        return
    try:
        product_under(warrant.order, config, Profile.load(config.ca.profile))
    except (OrderError, HsmError) as error:
        yield fail("order", str(error), "")  # the line does not start so
        return
    terms, record = warrant.terms, records[name]
    until = f"until {warrant.order.not_after:%Y-%m-%d %H:%M} UTC"
    if terms.seal is not None and terms.seal.station_id != config.station.id:
        yield warn(
            "order",
            f"{name}: the manifest holds the share of station {terms.seal.station_id}, this is {config.station.id}",
            "units that hold a serial are finished here; new ones are refused",
        )
    elif not record.left:
        burned = f" or burned ({record.burned})" if record.burned else ""
        yield warn("order", f"{name} is complete: all {terms.quantity} units are begun{burned}", "begin the next order")
    else:
        yield ok("order", f"{name}: {record.reserved} of {terms.quantity} units are begun, {until}")


def _no_trust(config: Config, error: OrderError) -> Finding:
    """A key that is not there yet is no fault of a line that is being set up."""
    if config.station.manifest.exists() or all(path.exists() for path in config.order.trusted):
        return fail("order keys", str(error), "")
    return warn("order keys", str(error), "put the key there before the first order comes")
