"""``station ca crl``."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from hsm import Authority, CrlError
from hsm.files import replace_file
from hsm.journal import CaJournal
from hsm.revocation import (
    DELTA,
    FULL,
    CrlFolder,
    CrlIssuer,
    Made,
    Scope,
    Target,
    adopt,
    check_published,
    due,
    make,
    number_of,
    publish,
    read_crl,
    scopes,
)
from station.cli.ca_journal import Records, open_journal
from station.cli.commands import Group, config_option, json_option
from station.cli.output import print_columns, print_fields, print_json
from station.config import Config, load
from station.crl_places import CrlPlace, crl_places, place_of
from station.errors import StationError, printable
from station.line.crl_schedule import order_shards
from station.revoking import settle
from station.signing import open_signer, rules_of

_SHARD_FILE: Final = re.compile(r"shards/([^/]+)\.crl")

_folder_argument = click.argument("folder", required=False, type=click.Path(file_okay=False), metavar="[DIR]")


@click.group(
    "crl",
    cls=Group,
    examples=[
        "station ca crl publish",
        "station ca crl show crl/full.crl",
        "station ca crl make recall.crl --shard B-7",
    ],
)
def crl() -> None:
    """Make, publish and read revocation lists."""


@crl.command("publish", examples=["station ca crl publish", "station ca crl publish /srv/www/crl --due"])
@_folder_argument
@config_option
@click.option("--due", "only_due", is_flag=True, help="Only what is due: the daemon does the same on its schedule.")
@json_option("Write one JSON object a list.")
def publish_command(folder: str | None, *, config_path: str, only_due: bool, as_json: bool) -> None:
    """Publish the revocation lists.

    All of them are made and put into DIR, which is [crl] directory if left out. Each file is put in its
    place whole, or not at all. full.crl tells of every
    revoked certificate, delta.crl of what changed since the full list before, shards/NAME.crl of one batch or order;
    delta and shards need [crl] url. A number never goes back: with a ca.db that is older than what is published
    in DIR or in [crl] directory, nothing is done.
    """
    config = load(Path(config_path))
    now = datetime.now(UTC)
    made = []
    with open_journal(config) as journal:
        places = crl_places(config, _place(config, folder))
        _check(config, journal, places)
        settle(config, journal)
        for place in places:
            with _signing(config, place) as issuer, journal.reader() as reader:
                wanted = scopes(reader, issuer, order_shards(config))
                if only_due:
                    wanted = due(reader, issuer, wanted, now, place.folder)
                made += publish(journal, issuer, place.folder, wanted, now) if wanted else []
    for one in made:
        if as_json:
            print_json(_facts_of_made(one))
    if not as_json and made:
        print_columns(("file", "number", "entries", "valid until"), [_row(one) for one in made])
    elif not as_json:
        click.echo("nothing is due")


@crl.command(
    "make", examples=["station ca crl make full.crl", "station ca crl make recall.pem --shard 2026-07 --format pem"]
)
@click.argument("out", type=click.Path(dir_okay=False), metavar="OUT")
@config_option
@click.option("--issuer", type=click.Path(dir_okay=False), metavar="PEM", help="An [[issuer]] in place of [ca].")
@click.option("--delta", is_flag=True, help="What changed since the last full list.")
@click.option("--shard", metavar="NAME", help="One batch or order.")
@click.option(
    "--format", "form", type=click.Choice(["der", "pem"]), default="der", show_default=True, help="How it is written."
)
@json_option("Write one JSON object.")
def make_command(  # noqa: PLR0913 (one option each)
    out: str, *, config_path: str, issuer: str | None, delta: bool, shard: str | None, form: str, as_json: bool
) -> None:
    """Make one revocation list.

    It is written to the file OUT, and takes a number like every other one, so what is published later is newer. With a
    ca.db that is older than what is published in [crl] directory, nothing is done.
    """
    if delta and shard is not None:
        raise click.UsageError("--delta and --shard are two lists; make one after the other")
    scope = DELTA if delta else FULL if shard is None else Scope.of_shard(shard)
    config = load(Path(config_path))

    place = place_of(config, None if issuer is None else Path(issuer))
    with open_journal(config) as journal:
        _check(config, journal, [])
        with _signing(config, place) as signing:
            made = make(journal, signing, [scope], datetime.now(UTC))
    if not made:
        raise StationError("there is no full list that is still valid, so there is no delta; make the full one first")
    content = made[0].crl.der
    if form == "pem":
        content = x509.load_der_x509_crl(content).public_bytes(Encoding.PEM)
    replace_file(Path(out), content)
    if as_json:
        print_json({**_facts_of_made(made[0]), "file": out})
    else:
        terms = made[0].crl.terms
        click.echo(
            f"made {out}: number {terms.number}, {made[0].crl.entries} entries, until {terms.next_update:%Y-%m-%d}"
        )


@crl.command(
    "show", examples=["station ca crl show crl/full.crl", "station ca crl show --entries --json crl/delta.crl"]
)
@click.argument("file", type=click.Path(dir_okay=False), metavar="FILE")
@click.option("--entries", is_flag=True, help="Show each revoked certificate too.")
@json_option("Write one JSON object; with --entries one more a certificate.")
def show_command(file: str, *, entries: bool, as_json: bool) -> None:
    """Show what a revocation list says.

    FILE is in DER or PEM. The signature is not checked here: no CA is named.
    """
    found = read_crl(Path(file))
    facts = _facts(found)
    if as_json:
        print_json({"file": file, **facts})
    else:
        print_fields([("file", file), *((name.replace("_", " "), str(value)) for name, value in facts.items())])
    if not entries:
        return
    if not as_json:
        click.echo()
    for entry in found:
        reason, since = _said(entry)
        serial = f"{entry.serial_number:032x}"
        if as_json:
            print_json(
                {"serial": serial, "revoked_at": entry.revocation_date_utc, "reason": reason, "invalid_since": since}
            )
        else:
            told = f", not to be trusted since {since:%Y-%m-%d %H:%M:%S}Z" if since else ""
            click.echo(f"{serial}  {entry.revocation_date_utc:%Y-%m-%d %H:%M:%S}Z  {reason}{told}")


@crl.command("adopt", examples=["station ca crl adopt"])
@_folder_argument
@config_option
@json_option("Write one JSON object an issuer.")
def adopt_command(folder: str | None, *, config_path: str, as_json: bool) -> None:
    """Take over what is published already.

    For the day on which only an older copy of ca.db is left: every revocation and hold that the published lists tell
    and the journal does not know is written into it, and the next list gets a higher number.
    """
    config = load(Path(config_path))
    found = {place.issuer: _published(place.folder) for place in crl_places(config, _place(config, folder))}
    if not any(found.values()):
        raise StationError(f"{_place(config, folder)}: no list there; name the folder that they are published in")
    with Records(config) as records, open_journal(config) as journal:

        def target_of(serial: int) -> Target:
            found = records.by_serial(serial)
            return Target(serial) if found is None else found.target

        taken = [adopt(journal, issuer, crls, target_of, datetime.now(UTC)) for issuer, crls in found.items() if crls]
    for one in taken:
        if as_json:
            print_json({"added": one.added, "number": one.number})
        else:
            click.echo(f"{one.added} revocations taken over; the next list has number {one.number + 1}")


def _place(config: Config, folder: str | None) -> Path:
    if folder is not None:
        return Path(folder)
    if config.crl is None:
        raise StationError(
            'name a folder, or add [crl] with directory = "crl" to the configuration', code="crl.no_folder"
        )
    return config.crl.directory


def _check(config: Config, journal: CaJournal, more: Sequence[CrlPlace]) -> None:
    """See that the journal is no older copy, by what is published where the configuration says, and elsewhere."""
    own = [] if config.crl is None else crl_places(config, config.crl.directory)
    with journal.reader() as reader:
        for place in (*own, *more):
            check_published(reader, place.issuer, place.folder)


def _published(folder: CrlFolder) -> dict[Scope, x509.CertificateRevocationList]:
    return {_scope_of(folder, path): folder.read(path) for path in folder.files()}


def _scope_of(folder: CrlFolder, path: Path) -> Scope:
    shard = _SHARD_FILE.fullmatch(path.relative_to(folder.path).as_posix())
    if shard is not None:
        return Scope.of_shard(shard[1])
    return FULL if path == folder.where(FULL) else DELTA


@contextmanager
def _signing(config: Config, place: CrlPlace) -> Iterator[CrlIssuer]:
    """Open the tokens of an issuing CA."""
    with open_signer(config.ca, place.tokens) as signer:
        opening = Authority.open(signer, issuer=place.issuer, rules=rules_of(place.tokens))
        yield place.signing(asyncio.run(opening).key)


def _row(made: Made) -> Sequence[str]:
    terms = made.crl.terms
    return str(made.path), str(terms.number), str(made.crl.entries), f"{terms.next_update:%Y-%m-%d %H:%M:%S}Z"


def _facts_of_made(made: Made) -> dict[str, object]:
    terms = made.crl.terms
    return {
        "scope": str(made.scope),
        "file": made.path,
        "number": terms.number,
        "base": terms.base,
        "entries": made.crl.entries,
        "this_update": terms.this_update,
        "next_update": terms.next_update,
        "sha256": made.crl.sha256,
    }


def _facts(found: x509.CertificateRevocationList) -> dict[str, object]:
    """Return what a list says, by stable names; texts are safe to print."""
    reasons = Counter(_said(entry)[0] for entry in found)
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    facts: dict[str, object] = {
        "issuer": printable(found.issuer.rfc4514_string()),
        "number": number_of(found),
        "this_update": found.last_update_utc,
        "next_update": found.next_update_utc,
        "entries": f"{len(found)}{f' ({told})' if told else ''}",
    }
    try:
        extensions = {extension.oid: extension.value for extension in found.extensions}
    except ValueError as error:
        raise CrlError(f"its extensions can't be read: {error}", code="crl.unreadable") from error
    if isinstance(base := extensions.get(ExtensionOID.DELTA_CRL_INDICATOR), x509.DeltaCRLIndicator):
        facts["adds_to"] = base.crl_number
    if isinstance(point := extensions.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT), x509.IssuingDistributionPoint):
        facts["only_for"] = ", ".join(printable(name.value) for name in point.full_name or ())
    if isinstance(freshest := extensions.get(ExtensionOID.FRESHEST_CRL), x509.FreshestCRL):
        names = [name for place in freshest for name in place.full_name or ()]
        facts["delta_at"] = ", ".join(printable(name.value) for name in names)
    return facts


def _said(entry: x509.RevokedCertificate) -> tuple[str, datetime | None]:
    reason, since = "unspecified", None
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            reason = extension.value.reason.value
        elif isinstance(extension.value, x509.InvalidityDate):
            since = extension.value.invalidity_date_utc
    return reason, since
