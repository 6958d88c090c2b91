"""``station order``: from the OEM's desk (create, sign) to the line's manifest (import, show, close)."""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hsm import TokenUri
from hsm.files import replace_file, write_new
from station.cli.commands import Group, config_option, json_option
from station.cli.order_close import close
from station.cli.order_page import burned_text, cells_of, fields_of, refusal_of, row_fields, row_of
from station.cli.order_resume import resume
from station.cli.output import print_columns, print_fields, print_json
from station.config import Config, load
from station.errors import StationError
from station.key_holders import KeyHolders
from station.manifest import (
    DeskRefusal,
    Manifest,
    ManifestReader,
    OrderCount,
    OrderRecord,
    OrderResume,
)
from station.ordering import sealed_count, station_keys
from station.orders import OrderBook, OrderError, Trust, jws
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
        "station order create --name WO-7 --product sensor --quantity 9 --until 2027-10-01 --station-key 1=ledger.pem",
        "station order create --from-file wo-1001.toml --out wo-1001.order.json",
    ],
)
@click.option("--from-file", type=click.Path(dir_okay=False), help="TOML file with what follows; options go before it.")
@click.option("--name", help="Name of the order; no other may have it.")
@click.option("--product", help="Model that the boards report.")
@click.option("--profile", help="Kind of certificate: a name, or a TOML file.  [default: idevid]")
@click.option("--quantity", type=int, help="Units in all.")
@click.option("--station", "stations", multiple=True, metavar="ID[:UNITS[:SCRAP]]", help="A station's share; repeated.")
@click.option(
    "--station-key",
    "station_keys",
    multiple=True,
    metavar="ID=FILE",
    help="Key in a station's token, to which its share is bound: its ca/ledger.pem, or its station.toml; repeated.",
)
@click.option("--serial", help="Format of product serials.  [default: SN{number:06d}]")
@click.option("--check", help="What {check} in it is: luhn or mod37-36.")
@click.option("--first", type=int, help="First number.  [default: 1]")
@click.option("--mac", metavar="FIRST-LAST", help="MAC addresses (EUI-48), one a number.")
@click.option("--firmware-version", help="Firmware that the boards have to run.")
@click.option("--firmware-sha256", help="Its SHA-256.")
@click.option("--bundle-sha256", help="Digest of the firmware bundle that boards get ('station firmware show').")
@click.option("--from", "begin", help="Begin of its time, UTC.  [default: now]")
@click.option("--until", help="End of its time, UTC: 2027-10-01.")
@click.option("--out", type=click.Path(dir_okay=False), help="File to write; left out: NAME.order.json.")
@json_option("Write the order's terms as one JSON object.")
def create(*, from_file: str | None, out: str | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - an option each
    """Write an order; nobody has signed it yet.

    Each station that may work on it gets a share of its own: units, and numbers that follow those of the share before.
    SCRAP units of a share may be scrapped and made again; as many numbers more belong to it. A share without
    --station-key belongs to whoever has the station's number; with one, to the token that holds the key.
    """
    said = read_wish(_text(Path(from_file))) if from_file else {}
    options["from"] = options.pop("begin")
    options["stations"] = list(options["stations"])
    options["station_keys"] = said.get("station_keys", {}) | dict(map(_station_key, options["station_keys"]))
    said |= {name: value for name, value in options.items() if value not in (None, [], {}, "")}
    now = datetime.now(UTC)
    _refuse_past(said, now)
    made = order_of(said, now)
    path = Path(out or f"{made.name.replace('/', '-').replace(' ', '-')}{ORDER_SUFFIX}")
    try:
        write_new(path, jws.Jws.of(write_order(made)).text().encode())
    except FileExistsError:
        raise OrderError(
            f"{path} is there already, and may be signed: nothing was written. Give the order another --name, or the "
            "file another --out, or delete the old one",
            code="order.file_exists",
        ) from None
    if as_json:
        print_json({"file": str(path), **json.loads(write_order(made))})
        return
    print_fields(fields_of(made))
    for station, share in made.stations.items():
        if share.key_sha256 is None:
            click.echo(
                f"the share of station {station} names no key: whoever calls a station {station} can make it "
                f"(--station-key {station}=ledger.pem)",
                err=True,
            )
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
        print_fields(fields_of(wanted))
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
                keys=station_keys(config, signer),
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
            print_json(row_of(record))
        return
    header = ("order", "product", "profile", "begun", "of", "passed", "until", "")
    print_columns(header, [cells_of(record) for record in records])


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
    records = _records(config)
    record = next((one for one in records if one.terms.name == wanted), None)
    trust = Trust.load(config.order.trusted, config.order.approvals)
    try:
        OrderBook(records, _count(config), trust, station_id=config.station.id).check_begins(wanted)
        state, problem = f"{record.left if record else 0} units may still be begun", None
    except OrderError as error:
        if record is None:
            raise
        state, problem = str(error), error
    assert record is not None  # noqa: S101 - or it was raised
    decided, refused = _history(config, wanted)
    if as_json:
        more = {"resumes": [asdict(one) for one in decided], "refused_at_desk": [refusal_of(one) for one in refused]}
        print_json({**row_of(record), **more, "state": "ok" if problem is None else problem.code, "detail": state})
    else:
        print_fields(
            [
                *row_fields(record),
                *(("burned" if one.burned else "resumed", burned_text(record.terms, one)) for one in decided),
                *(("refused at the desk", f"{one.product_serial} ({one.code}: {one.reason})") for one in refused),
                ("state", state),
            ]
        )
    if problem is not None:
        sys.exit(1)


order.add_command(close)
order.add_command(resume)


def _refuse_past(said: Mapping[str, object], now: datetime) -> None:
    """Refuse an order that begins now and is over before; what is no time at all is refused with the other terms."""
    with suppress(ValueError, TypeError):
        end = datetime.fromisoformat(str(said.get("until")))
        if "from" not in said and (end if end.tzinfo else end.replace(tzinfo=UTC)) <= now:
            raise OrderError(
                f"--until {said['until']} has passed, so the order would be over before anybody could use it; give a "
                "later one",
                code="order.terms",
            )


def _show_file(path: Path, *, as_json: bool) -> None:
    envelope = jws.parse(_text(path))
    found = read_order(envelope.payload)
    kids = [signature.kid or "?" for signature in envelope.signatures]
    if as_json:
        print_json({"file": str(path), "signatures": kids, **json.loads(write_order(found))})
        return
    said = ", ".join(f"{kid[:16]}…" for kid in kids) or "none"
    print_fields([*fields_of(found), ("signatures", f"{said} (not verified; 'station order import' does)")])


def _records(config: Config) -> tuple[OrderRecord, ...]:
    if not config.station.manifest.exists():
        return ()
    with ManifestReader(config.station.manifest) as reader:
        return reader.orders()


def _count(config: Config) -> OrderCount:
    if not config.station.manifest.exists():
        return OrderCount()
    with ManifestReader(config.station.manifest) as reader:
        return reader.count_orders(sealed_count(config))


def _history(config: Config, name: str) -> tuple[tuple[OrderResume, ...], list[DeskRefusal]]:
    """Return what was decided about an order, and the requests that hold a number of it and got no certificate."""
    with ManifestReader(config.station.manifest) as reader, closing(KeyHolders.of_the_ca(config.ca.journal)) as holder:
        refused = [one for one in reader.desk_refusals(name) if holder(one.spki_sha256) is None]
        return reader.order_resumes(name), refused


def _station_key(text: str) -> tuple[str, str]:
    """Read ``ID=FILE``; of a station.toml it is the ledger key, or the issuing CA's where there is none."""
    station, separator, path = text.partition("=")
    if not separator:
        raise click.UsageError(f"--station-key {text!r}: write ID=FILE, like 1=line-1/ca/ledger.pem")
    if path.endswith(".toml"):
        config = load(Path(path))
        path = str(config.ledger.key if config.ledger.key.exists() else config.ca.certificate)
    return station, path


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
