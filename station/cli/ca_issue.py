"""``station ca profiles``, ``ca issue`` and ``ca sign-batch``."""

import asyncio
import csv
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from hsm import Csr, Profile, lint_pkilint
from hsm.batch import Batch, End, Outcome, request_files
from hsm.certificate_files import Form, written
from hsm.errors import printable
from hsm.issuing import Desk
from hsm.journal import Issued
from hsm.lint import Extra
from hsm.names import parse_name
from hsm.profile_file import names as profile_names
from station.cli.ca_journal import PATIENCE
from station.cli.ca_open import opened_ca
from station.cli.ca_order import allotting, profile_to_issue
from station.cli.certificate import facts_of
from station.cli.certificate_file import check_room, form_option, out_option, put, refuse_tty
from station.cli.commands import Command, config_option, json_option
from station.cli.output import discard_stdout, print_columns, print_fields, print_json
from station.cli.profile_page import lines_of_profile
from station.cli.root import EXIT_FAILURE
from station.config import Config, load
from station.errors import StationError
from station.key_holders import KeyHolders
from station.signing import IssuingCa, choose_ca

_FIELD: Final = re.compile(r"([a-z][a-z0-9_]*)=(.+)", re.DOTALL)
_READ_MOST: Final = 64 * 1024
"""Bytes of a request that are read; what is larger is refused whatever it holds."""
_REFUSED_SHOWN: Final = 20
_REDRAW_SECONDS: Final = 0.25

_profile_option = click.option(
    "--profile", "profile_name", required=True, metavar="NAME", help="Kind of certificate: a name, or a TOML file."
)
_field_option = click.option(
    "--field", "fields", multiple=True, metavar="NAME=TEXT", help="A field of the profile's templates; may be repeated."
)
_order_option = click.option(
    "--order", metavar="NAME", help="Production order that gives serial and leave; some profiles need one."
)
_renew_option = click.option("--renew", is_flag=True, help="A key that has a certificate gets another one.")
_issuer_option = click.option(
    "--issuer",
    type=click.Path(dir_okay=False),
    metavar="PEM",
    help="Certificate of the issuing CA; left out: that of the [[issuer]] that names the profile, or of [ca].",
)
_pkilint_option = click.option(
    "--pkilint/--no-pkilint", "pkilint", default=None, help="Ask pkilint too, after our own rules (about 2 ms each)."
)


@click.command("profiles", cls=Command, examples=["station ca profiles", "station ca profiles tls-server"])
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option("Write one JSON object a profile.")
def profiles(names: tuple[str, ...], *, as_json: bool) -> None:
    """Show kinds of certificates.

    Without NAME, lists the profiles that come with the station. With NAME (or the path of a TOML file), shows what such
    a certificate holds and which fields have to be given: what is printed is what the profile's file says.
    """
    chosen = [Profile.load(name) for name in (names or profile_names())]
    if as_json:
        for profile in chosen:
            print_json({"name": profile.name, **dict(lines_of_profile(profile))})
    elif not names:
        rows = [(one.name, ", ".join(sorted(one.fields)) or "none", one.about) for one in chosen]
        print_columns(("profile", "fields", "for"), rows)
    else:
        for index, profile in enumerate(chosen):
            if index:
                click.echo()
            print_fields([("profile", profile.name), *lines_of_profile(profile)])


@click.command(
    "issue",
    cls=Command,
    examples=[
        "station ca issue --profile tls-server --csr web.csr --san dns:web.example.com --format chain --out web.pem",
        "station ca issue --profile tls-client --csr ci.csr --field product_serial=ci-7 --out ci.pem",
    ],
)
@config_option
@_profile_option
@_issuer_option
@click.option("--csr", "request", required=True, type=click.Path(dir_okay=False), help="The request, PEM or DER.")
@click.option("--san", "names", multiple=True, metavar="KIND:NAME", help="dns:, ip:, uri:, email: or other:OID:TEXT.")
@_field_option
@click.option("--batch", metavar="NAME", help="Batch that the certificate belongs to.")
@out_option
@form_option
@_order_option
@_renew_option
@_pkilint_option
@json_option("Write one JSON object: the certificate's facts, and its file.")
def issue(  # noqa: PLR0913 (one option each)
    *,
    config_path: str,
    profile_name: str,
    issuer: str | None,
    request: str,
    names: tuple[str, ...],
    fields: tuple[str, ...],
    batch: str | None,
    out: str | None,
    form: str,
    order: str | None,
    renew: bool,
    pkilint: bool | None,
    as_json: bool,
) -> None:
    """Issue one certificate.

    Lint, intent in the CA's journal, signature, comparison, verification, record: only a certificate that is on record
    leaves. What the request asks for is a wish; profile, --field and --san decide. A key gets one certificate, and a
    further one only with --renew. After a crash the same command signs the same bytes; 'station ca export' writes a
    certificate that is on record and whose file was lost.
    """
    config = load(Path(config_path))
    profile = profile_to_issue(config, profile_name)
    ca = choose_ca(config, profile.name, None if issuer is None else Path(issuer))
    csr = Csr.parse(_read(Path(request)))
    wanted = [parse_name(name) for name in names]
    if out is not None and os.path.lexists(out):
        raise StationError(f"{out} is there already; name another file")
    refuse_tty(out, Form(form))
    check_room(out)

    async def run() -> tuple[Issued, tuple[bytes, ...]]:
        lint = _extra(pkilint, default=True)
        async with _desk(config, ca, profile, order=order, fields=fields, batch=batch, renew=renew, lint=lint) as desk:
            return await desk.issue(csr, names=wanted), desk.authority.chain

    issued, chain = asyncio.run(run())
    content = written(issued.der, chain, Form(form))
    if out is not None or not as_json:
        with _exported_later(issued, out):
            put(out, content)
    certificate = x509.load_der_x509_certificate(issued.der)
    if as_json:
        print_json({**facts_of(certificate), "file": out})
    elif out is not None:
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        subject = certificate.subject.rfc4514_string()
        click.echo(f"issued {subject}, serial {issued.serial:032x}, valid until {until}: {out}")


@click.command(
    "sign-batch",
    cls=Command,
    examples=[
        "station ca sign-batch requests/ --profile idevid --order WO-1001 --batch 2026-07 --table units.csv",
        "station ca sign-batch requests/ --profile tls-client --field product_serial=gateway --out certificates/",
    ],
)
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@config_option
@_profile_option
@_issuer_option
@click.option("--batch", metavar="NAME", help="Name of the batch; left out: the folder's.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the certificates; left out: DIR/issued.")
@_field_option
@click.option(
    "--table",
    type=click.Path(dir_okay=False),
    help="CSV with fields of single requests: a column 'request' with names of files without their end.",
)
@form_option
@_order_option
@_renew_option
@_pkilint_option
@json_option("Write one JSON object a request, and one for the whole batch.")
def sign_batch(  # noqa: PLR0913 (one option each)
    *,
    folder: str,
    config_path: str,
    profile_name: str,
    issuer: str | None,
    batch: str | None,
    out: str | None,
    fields: tuple[str, ...],
    table: str | None,
    form: str,
    order: str | None,
    renew: bool,
    pkilint: bool | None,
    as_json: bool,
) -> None:
    """Sign a folder of requests.

    DIR holds requests in files that end with .csr, .req, .p10, .pem or .der. Each gets a row in the CA's journal and a
    file of the same name in --out, where no file is overwritten; a request that is refused is told and does not stop
    the others (exit 1 at the end).
    After a crash, or ctrl-C, the same command goes on: nothing is signed twice.
    """
    config = load(Path(config_path))
    profile = profile_to_issue(config, profile_name)
    ca = choose_ca(config, profile.name, None if issuer is None else Path(issuer))
    if not Path(folder).is_dir():
        raise StationError(f"{folder}: no such folder; name one with requests in it")
    name = batch or Path(folder).absolute().name
    target = Path(out) if out else Path(folder) / "issued"
    if target.exists() and target.samefile(folder):
        raise StationError(
            f"--out {target} is the folder of the requests; name another one, or leave it out for {folder}/issued"
        )
    target.mkdir(parents=True, exist_ok=True)
    rows = _table(Path(table)) if table else {}
    began = time.monotonic()
    with _shown(sum(1 for _ in request_files(Path(folder))), as_json=as_json) as (tell, counts):

        async def run() -> None:
            lint = _extra(pkilint, default=False)
            async with _desk(
                config, ca, profile, order=order, fields=fields, batch=name, renew=renew, lint=lint, patience=0
            ) as desk:
                await Batch(desk, target, form=Form(form), fields=rows, tell=tell).sign(request_files(Path(folder)))

        asyncio.run(run())
    seconds = time.monotonic() - began
    if as_json:
        print_json({"batch": name, **{end.value: counts[end] for end in End}, "seconds": round(seconds, 3)})
    else:
        told = ", ".join(f"{end.value} {counts[end]}" for end in End)
        click.echo(f"batch {name}: {told} in {seconds:.1f} s ({counts[End.SIGNED] / seconds:.0f}/s): {target}")
    if counts[End.REFUSED]:
        sys.exit(EXIT_FAILURE)


@contextmanager
def _exported_later(issued: Issued, out: str | None) -> Iterator[None]:
    """Say how to get a certificate that was signed and can't be written."""
    try:
        yield
    except (OSError, StationError) as error:
        if out is None:
            discard_stdout()  # the interpreter flushes once more when it ends, and would complain
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StationError(
            f"{out or 'standard output'}: can't be written ({why}); the certificate is on record: "
            f"'station ca export {issued.serial:032x} --out FILE' writes it",
            code="issue.unwritten",
        ) from error


@contextmanager
def _shown(total: int, *, as_json: bool) -> Iterator[tuple[Callable[[Outcome], None], Counter[End]]]:
    """Show how far a batch is: a bar on a terminal, and who was refused."""
    counts: Counter[End] = Counter()
    if as_json or not sys.stderr.isatty():
        yield (lambda outcome: _tell(outcome, counts, as_json=as_json)), counts
        return
    from rich.console import Console  # noqa: PLC0415 (only where there is a terminal to draw on)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=total, rate="")
        began = drawn = time.monotonic()

        def tell(outcome: Outcome) -> None:
            nonlocal drawn
            _tell(outcome, counts, as_json=False)
            now = time.monotonic()
            if now - drawn >= _REDRAW_SECONDS:
                drawn = now
                bar.update(task, completed=counts.total(), rate=f"{counts.total() / (now - began):.0f}/s", refresh=True)

        yield tell, counts
        bar.update(task, completed=counts.total(), refresh=True)


def _tell(outcome: Outcome, counts: Counter[End], *, as_json: bool) -> None:
    counts[outcome.end] += 1
    if as_json:
        serial = None if outcome.serial is None else f"{outcome.serial:032x}"
        # A name that is not UTF-8 has no spelling in JSON (RFC 8259 8.1), so it is written as on a terminal.
        request = outcome.request if outcome.request.isprintable() else printable(outcome.request)
        line = {"request": request, "end": outcome.end, "serial": serial, "code": outcome.code}
        print_json({**line, "detail": outcome.sentence})
    elif outcome.end is End.REFUSED and counts[End.REFUSED] <= _REFUSED_SHOWN:
        click.echo(f"refused {printable(outcome.request)}: {outcome.code}: {outcome.sentence}", err=True)
    elif outcome.end is End.REFUSED and counts[End.REFUSED] == _REFUSED_SHOWN + 1:
        click.echo("refused: more, which are not shown; --json tells all", err=True)


@asynccontextmanager
async def _desk(  # noqa: PLR0913 (what a desk needs, by name)
    config: Config,
    ca: IssuingCa,
    profile: Profile,
    *,
    order: str | None,
    fields: Sequence[str],
    batch: str | None,
    renew: bool,
    lint: Extra | None,
    patience: float = PATIENCE,
) -> AsyncIterator[Desk]:
    """Open what issues: the units' keys, the CA, and the production order if one is named.

    Raises:
        StationError: an order gives one certificate a number, and no renewal (``order.renewal``).
    """
    if renew and order is not None:
        raise StationError(
            "--order and --renew don't go together: a number of an order is for one certificate; leave --renew out, "
            "and make a new key if the old one was certified",
            code="order.renewal",
        )
    with closing(KeyHolders.units(config.station.manifest)) as holder:
        async with (
            opened_ca(config, ca, extra_lint=lint, patience=patience) as (authority, journal),
            allotting(config, order, profile, authority, journal) as allot,
        ):
            yield Desk(
                authority,
                journal,
                profile,
                config.station.id,
                _pairs(fields),
                batch=batch,
                renew=renew,
                allot=allot,
                refuse_held=None if allot is None else allot.refuse_held,
                refused=None if allot is None else allot.refused,
                holder=holder,
            )


def _extra(wanted: bool | None, *, default: bool) -> Extra | None:  # noqa: FBT001 (an option of three states)
    """Return pkilint if it is wanted, and say so where it is not asked."""
    if wanted is False or (wanted is None and not default):
        return None
    if wanted is None and not lint_pkilint.is_installed():
        click.echo(f"pkilint is not installed, so our own rules alone lint; {lint_pkilint.ADVICE}", err=True)
        return None
    if not lint_pkilint.is_installed():
        raise StationError(f"pkilint is not installed; {lint_pkilint.ADVICE}", code="lint.not_installed")
    return lint_pkilint.findings


def _pairs(fields: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in fields:
        match = _FIELD.fullmatch(text)
        if match is None:
            raise StationError(f"--field {text!r}: write NAME=TEXT, like product_serial=SN1", code="field.invalid")
        found[match[1]] = match[2]
    return found


def _table(path: Path) -> Mapping[str, Mapping[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if "request" not in (reader.fieldnames or ()):
                raise StationError(f"{path}: no column 'request'; the first line names the columns")
            return {row["request"]: {k: v for k, v in row.items() if k != "request" and k and v} for row in reader}
    except (csv.Error, UnicodeDecodeError) as error:
        raise StationError(f"{path}: not a CSV table in UTF-8 ({error})") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_READ_MOST)
