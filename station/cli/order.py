"""``station order``: from the OEM's desk (create, sign) to the line's manifest (import, show, close)."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hsm import TokenUri
from hsm.files import replace_file
from station.cli.commands import Group, config_option, json_option
from station.cli.output import print_columns, print_fields, print_json
from station.config import Config, load
from station.errors import StationError
from station.line.control import user_name
from station.manifest import Manifest, ManifestReader, OrderJournal, OrderRecord
from station.manifest.life import ACTOR_LIMIT, check_actor
from station.orders import Order, OrderBook, OrderError, Trust, jws
from station.orders.importing import import_order
from station.orders.jws import MAX_JWS
from station.orders.payload import read_order, write_order
from station.orders.rehearsal import ORDER_SUFFIX
from station.orders.signing import make_key, sign_order
from station.orders.wish import order_of, read_wish
from station.signing import open_signer


@click.group("order", cls=Group, examples=["station order create --help", "station order list"])
def order() -> None:
    """Make, sign and import production orders.

    Whoever owns the product creates and signs an order, with a key of their own; the station imports the file, and
    gives certificates as far as it goes.
    """


@order.command(
    "key", examples=["station order key --token 'pkcs11:token=oem?module-path=…&pin-source=prompt:' --out oem.pem"]
)
@click.option("--token", required=True, metavar="URI", help="Token that gets the key; object= names it.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="File for the public key (PEM).")
def key(*, token: str, out: str) -> None:
    """Make a key that signs orders.

    It is made in the token and can't leave it (P-256). The public key goes to each station: [order] trusted.
    """
    kid = make_key(TokenUri.parse(token), Path(out))
    click.echo(f"made key {kid[:16]}…, public key {out}")
    click.echo("next: give the file to each station, and name it in [order] trusted of station.toml")


@order.command(
    "create",
    examples=[
        "station order create --name WO-1001 --product sensor --quantity 500 --until 2027-10-01",
        "station order create --from-file wo-1001.toml --out wo-1001.order.json",
    ],
)
@click.option("--from-file", type=click.Path(dir_okay=False), help="TOML file with what follows; options go before it.")
@click.option("--name", help="Name of the order; no other may have it.")
@click.option("--product", help="Model that the boards report.")
@click.option("--profile", help="Kind of certificate: a name, or a TOML file.  [default: idevid]")
@click.option("--quantity", type=int, help="Units in all.")
@click.option("--station", "stations", multiple=True, metavar="ID[:UNITS[:SCRAP]]", help="A station's share; repeated.")
@click.option("--serial", help="Format of product serials.  [default: SN{number:06d}]")
@click.option("--check", help="What {check} in it is: luhn or mod37-36.")
@click.option("--first", type=int, help="First number.  [default: 1]")
@click.option("--mac", metavar="FIRST-LAST", help="MAC addresses (EUI-48), one a number.")
@click.option("--firmware-version", help="Firmware that the boards have to run.")
@click.option("--firmware-sha256", help="Its SHA-256.")
@click.option("--from", "begin", help="Begin of its time, UTC.  [default: now]")
@click.option("--until", help="End of its time, UTC: 2027-10-01.")
@click.option("--out", type=click.Path(dir_okay=False), help="File to write; left out: NAME.order.json.")
@json_option("Write the order's terms as one JSON object.")
def create(*, from_file: str | None, out: str | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - an option each
    """Write an order; nobody has signed it yet.

    Each station that may work on it gets a share of its own: units, and numbers that follow those of the share before.
    SCRAP units of a share may be scrapped and made again; as many numbers more belong to it.
    """
    said = read_wish(_text(Path(from_file))) if from_file else {}
    options["from"] = options.pop("begin")
    options["stations"] = list(options["stations"])
    said |= {name: value for name, value in options.items() if value not in (None, [], "")}
    made = order_of(said, datetime.now(UTC))
    path = Path(out or f"{made.name.replace('/', '-').replace(' ', '-')}{ORDER_SUFFIX}")
    with path.open("x", encoding="utf-8") as file:
        file.write(jws.Jws.of(write_order(made)).text())
    if as_json:
        print_json({"file": str(path), **json.loads(write_order(made))})
        return
    print_fields(_fields(made))
    click.echo(f"wrote {path}; next: station order sign {path} --key 'pkcs11:…'")


@order.command("sign", examples=["station order sign WO-1001.order.json --key 'pkcs11:token=oem;object=order-key?…'"])
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--key", "uri", required=True, metavar="URI", help="The key: a PKCS#11 URI (RFC 7512); keys are in tokens."
)
@click.option("--yes", is_flag=True, help="Don't show the order and ask.")
def sign(file: str, *, uri: str, yes: bool) -> None:
    """Sign an order, or add an approval.

    What is signed is shown before. The file is a JWS (RFC 7515, ES256), so other tools can sign and check it too.
    """
    path = Path(file)
    text = _text(path)
    wanted = read_order(jws.parse(text).payload)
    if not yes:
        print_fields(_fields(wanted))
        if not click.confirm("sign this order?", err=True):
            raise StationError("not signed; nothing was changed")
    signed, kid = sign_order(text, TokenUri.parse(uri))
    replace_file(path, signed.encode())
    count = len(jws.parse(signed).signatures)
    click.echo(f"signed {wanted.name} with key {kid[:16]}…; signatures: {count}")


@order.command(
    "import", examples=["station order import WO-1001.order.json", "station order import FILE -c line-1/station.toml"]
)
@click.argument("file", type=click.Path(dir_okay=False))
@config_option
@json_option("Write one JSON object: the order's terms, who signed it, and whether it is new.")
def import_(file: str, config_path: str, *, as_json: bool) -> None:
    """Take a signed order into the manifest.

    The signatures have to be of [order] trusted, and this station has to have a share. The issuing token remembers in
    which manifest the order is used, so it is used once. Imported again, nothing changes. The line must not run.
    """
    config, text = load(Path(config_path)), _text(Path(file))
    trust = Trust.load(config.order.trusted, config.order.approvals)
    trust.verified(text).terms(config.station.id)  # a bad order wakes no token
    with Manifest.open(config.station.manifest) as manifest, closing(open_signer(config.ca)) as signer:
        done = asyncio.run(
            import_order(
                text,
                trust=trust,
                station_id=config.station.id,
                manifest=manifest,
                signer=signer,
                journal=config.ca.journal,
            )
        )
    signed = done.signed
    if as_json:
        terms = json.loads(write_order(signed.order))
        print_json({"new": done.is_new, "approvers": signed.approvers, "without_notes": done.without_notes, **terms})
        return
    units = f"{done.terms.quantity} units, {done.terms.product_serial(0)} the first"
    said = "imported" if done.is_new else "was imported before, nothing changed:"
    click.echo(f"{said} {signed.order.name}: {units}, signed by {', '.join(signed.approvers)}")
    for token in done.without_notes:
        click.echo(f"token {token} keeps no notes: the CA's journal remembers that the order is used here", err=True)
    if signed.order.name != config.order.name:
        click.echo(f'next: write name = "{signed.order.name}" into [order], or station run --order {signed.order.name}')


@order.command("list", examples=["station order list", "station order list --json"])
@config_option
@json_option("Write one JSON object an order.")
def list_(config_path: str, *, as_json: bool) -> None:
    """List the orders of the manifest."""
    config = load(Path(config_path))
    records = _records(config)
    if as_json:
        for record in records:
            print_json(_row(record))
        return
    header = ("order", "product", "profile", "begun", "of", "passed", "until", "")
    print_columns(header, [_cells(record) for record in records])


@order.command(
    "show",
    examples=["station order show", "station order show WO-1001 --json", "station order show WO-1001.order.json"],
)
@click.argument("name", required=False)
@config_option
@json_option("Write one JSON object.")
def show(name: str | None, config_path: str, *, as_json: bool) -> None:
    """Show an order of the manifest, or a file.

    Left out, NAME is that of [order]. An order of the manifest is verified again, and its row compared with it; exit 1
    if something is wrong.
    """
    if name is not None and (name.endswith(ORDER_SUFFIX) or Path(name).is_file()):
        _show_file(Path(name), as_json=as_json)
        return
    config = load(Path(config_path))
    wanted = name or config.order.name
    records, journals = _records(config), _journals(config)
    record = next((one for one in records if one.terms.name == wanted), None)
    trust = Trust.load(config.order.trusted, config.order.approvals)
    try:
        warrant = OrderBook(records, journals, trust, station_id=config.station.id).check_begins(wanted)
        state, problem = f"{warrant.terms.quantity - (record.reserved if record else 0)} units may still be begun", None
    except OrderError as error:
        if record is None:
            raise
        state, problem = str(error), error
    assert record is not None  # noqa: S101 - or it was raised
    if as_json:
        print_json({**_row(record), "state": "ok" if problem is None else problem.code, "detail": state})
    else:
        print_fields([*_row_fields(record), ("state", state)])
    if problem is not None:
        sys.exit(1)


@order.command(
    "close", examples=["station order close WO-1001 --reason 'delivered 480 of 500, the rest was cancelled'"]
)
@click.argument("name")
@click.option("--reason", required=True, help="Why; stands in the manifest for good.")
@click.option(
    "--actor", help="Who does it, one of [life] actors, if there are any; the user of this shell if left out."
)
@config_option
def close(name: str, *, reason: str, actor: str | None, config_path: str) -> None:
    """Close an order for good.

    No board begins under it any more; those that hold a serial may be finished. It is never opened again.
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty; say why")
    config = load(Path(config_path))
    who = user_name() if actor is None else actor.strip()
    if not 0 < len(who) <= ACTOR_LIMIT:
        raise click.UsageError(f"--actor has 1 to {ACTOR_LIMIT} characters; say who")
    check_actor(who, config.life.actors)
    if not config.station.manifest.exists():
        raise OrderError(f"there is no manifest yet, and so no order {name!r}", code="order.not_imported")
    with Manifest.open(config.station.manifest) as manifest:
        is_closed_now = asyncio.run(manifest.close_order(name, f"{who} ({user_name()}): {reason}"))
    click.echo(f"closed {name}" if is_closed_now else f"{name} was closed before; nothing changed")


def _show_file(path: Path, *, as_json: bool) -> None:
    envelope = jws.parse(_text(path))
    found = read_order(envelope.payload)
    kids = [signature.kid or "?" for signature in envelope.signatures]
    if as_json:
        print_json({"file": str(path), "signatures": kids, **json.loads(write_order(found))})
        return
    said = ", ".join(f"{kid[:16]}…" for kid in kids) or "none"
    print_fields([*_fields(found), ("signatures", f"{said} (not verified; 'station order import' does)")])


def _fields(found: Order) -> list[tuple[str, str]]:
    """Say what an order says, for people."""
    shares = [
        f"{station}: {share.quantity} units, numbers {share.first_number} to {share.last_number}"
        + (f", {share.scrap_allowance} may be scrapped" if share.scrap_allowance else "")
        for station, share in sorted(found.stations.items())
    ]
    said = json.loads(write_order(found))
    more = [
        (name.replace("_", " "), str(said[name])) for name in ("firmware_version", "firmware_sha256") if name in said
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


def _records(config: Config) -> tuple[OrderRecord, ...]:
    if not config.station.manifest.exists():
        return ()
    with ManifestReader(config.station.manifest) as reader:
        return reader.orders()


def _journals(config: Config) -> dict[str, OrderJournal]:
    if not config.station.manifest.exists():
        return {}
    with ManifestReader(config.station.manifest) as reader:
        return reader.order_journals()


def _row(record: OrderRecord) -> dict[str, object]:
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
        "begun": record.reserved,
        "units": {state.value: count for state, count in record.units.items()},
        "opened_at": record.opened_at,
        "closed_at": record.closed_at,
        "closed_reason": record.closed_reason,
    }


def _row_fields(record: OrderRecord) -> Iterator[tuple[str, str]]:
    for name, value in _row(record).items():
        if value not in (None, ""):
            text = ", ".join(f"{k} {v}" for k, v in value.items() if v) if isinstance(value, dict) else str(value)
            yield name.replace("_", " "), text or "none"


def _cells(record: OrderRecord) -> tuple[str, ...]:
    seal = record.terms.seal
    passed = next((count for state, count in record.units.items() if state.value == "passed"), 0)
    end = "unsigned" if seal is None else seal.not_after[:10]
    return (
        *(record.terms.name, record.terms.product, record.terms.profile, str(record.reserved)),
        *(str(record.terms.quantity), str(passed), end, "closed" if record.closed_at else ""),
    )


def _text(path: Path) -> str:
    """Read a file, and no more of it than an order may have.

    Raises:
        OrderError: it is not text.
    """
    with path.open("rb") as file:
        content = file.read(MAX_JWS + 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OrderError(f"{path}: not a text file; give the order's file", code="order.malformed") from None
